"""A remote request inside ComfyUI: with a time limit, ended when the user cancels there."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

from .errors import RemoteError
from .remote_access import Access
from .remote_http import Cancelled, Client, Hosts
from .stock import cancelled, raise_cancelled


async def ask(who: str, hosts: Hosts, access: Access, seconds: int, work: Callable[[Client], Awaitable[Any]]) -> Any:
    """Run ``work`` with a client; at most ``seconds``, and ended when the user cancels in ComfyUI."""
    import aiohttp

    try:
        async with aiohttp.ClientSession(trust_env=True) as session, asyncio.timeout(seconds):
            return await work(Client(session, who=who, hosts=hosts, key=access.key, cancelled=cancelled))
    except Cancelled:
        raise_cancelled()
    except TimeoutError:
        raise RemoteError(f"{who} gave no answer within {seconds} s; raise timeout, or try again later") from None
