"""Requests to remote models: bounded in size and time, tried again where that helps, ended when the user says so.

Only hosts that the caller allows are asked, redirects are not followed, and nothing that a server says can put the key
into a message.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import urlsplit

from .errors import RemoteError
from .remote_access import LOOPBACK, Secret, shown_url

if TYPE_CHECKING:
    import aiohttp

T = TypeVar("T")
RETRIED = frozenset({429, 500, 502, 503, 504})
"""Answers after which the same request may succeed later."""

MAX_TRIES = 5
MAX_WAIT_SECONDS = 60.0
LOOK_SECONDS = 0.2
"""How often it is looked whether the user cancelled."""

MAX_JSON_BYTES = 2 * 1024 * 1024
MAX_PICTURE_BYTES = 64 * 1024 * 1024
CONNECT_SECONDS = 20.0
READ_SECONDS = 120.0
"""Between two pieces of an answer."""


class Cancelled(Exception):
    """The user cancelled; the node turns it into ComfyUI's own exception."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Answer:
    """A server's answer, whole."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    def json(self) -> Any:
        """The body as JSON; None where it is none."""
        try:
            return json.loads(self.body)
        except ValueError:
            return None


@dataclass(frozen=True, kw_only=True, slots=True)
class Hosts:
    """Where requests may go: the origins of configured servers, and https hosts by name or by the end of their name."""

    origins: tuple[str, ...] = ()
    names: tuple[str, ...] = ()

    def allow(self, url: str) -> bool:
        """Whether a request to ``url`` is one of those meant."""
        try:
            parts = urlsplit(url)
            port = parts.port
        except ValueError:
            return False
        if parts.username or parts.password or not parts.hostname:
            return False
        if origin(url) in {origin(known) for known in self.origins}:
            return True
        host = parts.hostname.lower().rstrip(".")
        by_name = any(host == name or (name.startswith(".") and host.endswith(name)) for name in self.names)
        return parts.scheme == "https" and port in (None, 443) and by_name


def origin(url: str) -> tuple[str, str, int | None]:
    """Scheme, host and port of an address."""
    parts = urlsplit(url)
    default = {"http": 80, "https": 443}.get(parts.scheme)
    return parts.scheme, (parts.hostname or "").lower(), parts.port or default


class Client:
    """Asks servers.

    Args:
        session: the connection pool; the caller closes it.
        who: the service's name, for messages.
        hosts: where requests may go, whatever a server's answer says.
        cancelled: whether the user has cancelled.
        sleep: waits some seconds.
    """

    def __init__(
        self,
        session: aiohttp.ClientSession,
        *,
        who: str,
        hosts: Hosts,
        key: Secret,
        cancelled: Callable[[], bool] = lambda: False,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._session = session
        self._who = who
        self._hosts = hosts
        self._key = key
        self._cancelled = cancelled
        self._sleep = sleep

    async def ask(
        self,
        method: str,
        url: str,
        *,
        headers: Mapping[str, str] | None = None,
        body: Callable[[], dict[str, Any]] | None = None,
        limit: int = MAX_JSON_BYTES,
        safe_to_repeat: bool = True,
    ) -> Answer:
        """One request, tried again after 429 and 5xx and lost connections; the last answer, whatever its status.

        Args:
            body: makes the request's body anew for each try: ``{"json": …}`` or ``{"data": …}`` of aiohttp.
            limit: bytes of the answer at most.
            safe_to_repeat: false for a request that may be charged: it is not sent again once it was sent whole.

        Raises:
            RemoteError: the host is not allowed, cannot be reached, or answers too much.
            Cancelled: the user cancelled.
        """
        import aiohttp

        if not self._hosts.allow(url):
            raise RemoteError(
                f"{self._who} wants a request to {shown_url(url)}, which is none of its own hosts; refused"
            )
        for attempt in range(1, MAX_TRIES + 1):
            last = attempt == MAX_TRIES
            try:
                answer = await self.unless_cancelled(self._once(method, url, headers or {}, body, limit))
            except aiohttp.ClientConnectorError:
                if last:
                    raise RemoteError(f"{self._who}: {shown_url(url)} cannot be reached; check the network") from None
                wait = _pause(attempt, {})
            except (aiohttp.ClientError, TimeoutError) as error:
                # Some of these carry the request with its headers: only their kind is told.
                if last or not safe_to_repeat:
                    raise RemoteError(
                        f"{self._who}: the connection to {shown_url(url)} was lost ({type(error).__name__}); "
                        + (
                            "try again later"
                            if safe_to_repeat
                            else "the request may have been taken: look at your account"
                        )
                    ) from None
                wait = _pause(attempt, {})
            else:
                if answer.status not in RETRIED or last:
                    return answer
                wait = _pause(attempt, answer.headers)
            await self.pause(wait)
        raise AssertionError("unreachable")

    async def _once(
        self, method: str, url: str, headers: Mapping[str, str], body: Callable[[], dict[str, Any]] | None, limit: int
    ) -> Answer:
        import aiohttp

        timeout = aiohttp.ClientTimeout(total=None, sock_connect=CONNECT_SECONDS, sock_read=READ_SECONDS)
        options = body() if body is not None else {}
        async with self._session.request(
            method, url, headers=dict(headers), allow_redirects=False, timeout=timeout, **options
        ) as response:
            announced = response.content_length or 0
            read = bytearray()
            while announced <= limit:
                piece = await response.content.read(65536)
                if not piece:
                    return Answer(status=response.status, headers=dict(response.headers), body=bytes(read))
                read += piece
                if len(read) > limit:
                    break
            raise RemoteError(f"{self._who} answers more than {limit // 1024 // 1024} MiB; refused")

    async def download(self, url: str, what: str = "the picture") -> bytes:
        """A result's bytes; no key goes along."""
        answer = await self.ask("GET", url, limit=MAX_PICTURE_BYTES)
        if answer.status != 200:
            raise RemoteError(f"{self._who}: {what} cannot be fetched (HTTP {answer.status}); run it again")
        return answer.body

    async def pause(self, seconds: float) -> None:
        """Wait, but no longer than the user wants."""
        await self.unless_cancelled(self._sleep(seconds))

    async def unless_cancelled(self, work: Awaitable[T]) -> T:
        """The result of ``work``, or Cancelled as soon as the user cancels."""
        task = asyncio.ensure_future(work)
        try:
            while True:
                done, _ = await asyncio.wait({task}, timeout=LOOK_SECONDS)
                if done:
                    return task.result()
                if self._cancelled():
                    raise Cancelled
        finally:
            if not task.done():
                task.cancel()
                await asyncio.wait({task})

    def scrub(self, text: str) -> str:
        """``text`` without the key."""
        return self._key.scrub(text)

    def said(self, answer: Answer) -> str:
        """What the server says of an error, in one short line without the key."""
        value = answer.json()
        text = _words(value) if value is not None else answer.body[:2000].decode("utf-8", "replace")
        text = " ".join(self.scrub(text).split())
        if text.startswith("<"):
            return ""  # a page of a proxy
        return text if len(text) <= 300 else text[:299] + "…"


def is_loopback(url: str) -> bool:
    """Whether an address is this machine's own."""
    return (urlsplit(url).hostname or "") in LOOPBACK


def _pause(attempt: int, headers: Mapping[str, str]) -> float:
    """Seconds to wait before the next try: what the server asks for, else twice as long each time."""
    told = {name.lower(): value for name, value in headers.items()}.get("retry-after", "").strip()
    if told.isascii() and told.isdigit():
        return min(float(told[:6]), MAX_WAIT_SECONDS)
    if told:
        try:
            until = parsedate_to_datetime(told)
        except ValueError:
            until = None
        if until is not None and until.tzinfo is not None:
            return min(max(0.0, (until - datetime.now(UTC)).total_seconds()), MAX_WAIT_SECONDS)
    return min(2.0 ** (attempt - 1), MAX_WAIT_SECONDS)


def _words(value: Any) -> str:
    """The message in an error's JSON, wherever the usual services put it."""
    if isinstance(value, str):
        return value
    if isinstance(value, list):
        return "; ".join(filter(None, (_words(item) for item in value[:4])))
    if isinstance(value, dict):
        for name in ("detail", "error", "message", "msg", "reason", "Moderation Reasons"):
            found = _words(value.get(name))
            if found:
                place = value.get("loc")
                where = ".".join(str(part) for part in place if part != "body") if isinstance(place, list) else ""
                return f"{where}: {found}" if where else found
    return ""
