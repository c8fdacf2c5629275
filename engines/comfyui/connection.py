"""The wires to one ComfyUI server: one WebSocket for every prompt, a few kept-alive HTTP connections, no polling."""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
import sys
import uuid
from collections.abc import Awaitable, Mapping
from typing import Any

import aiohttp
from yarl import URL

from ..errors import Cancelled, EngineError, EngineUnavailable, WorkerLost
from .execution import Execution
from .messages import FEATURES, Message, read_binary, read_text

JSON = Any  # what the wire carries

_CONNECT = 10.0  # seconds
_PING = 20.0  # seconds; proxies close what is silent for a minute
_LARGEST_FRAME = 1 << 30  # bytes; a socket picture of 16k x 16k stays below
_SUSPECT = 1.0  # seconds between "the queue is shorter than it should be" and asking why
_RECALL = 5.0  # seconds that the history may take to know a finished prompt
_STASH = 4096  # messages


class Connection:
    """Connected from `open` until the server or `close` ends it; then a new one is made.

    Args:
        url: the server's address, a path below the host included.
        headers: sent with every request (credentials of a proxy in front).
    """

    def __init__(self, url: URL, *, headers: Mapping[str, str] | None = None) -> None:
        self.url = url
        self.client_id = uuid.uuid4().hex
        self.lost: str | None = None  # why it ended
        self._headers = dict(headers or {})
        self._session: aiohttp.ClientSession | None = None
        self._socket: aiohttp.ClientWebSocketResponse | None = None
        self._tasks: set[asyncio.Task[Any]] = set()
        self._executions: dict[str, Execution] = {}
        self._current: Execution | None = None
        self._posting = 0
        self._stash: list[Message] = []
        self._suspecting = False

    @property
    def alive(self) -> bool:
        """Whether the socket is open."""
        return self._socket is not None and not self._socket.closed and self.lost is None

    @property
    def session(self) -> aiohttp.ClientSession:
        """The HTTP session; only after `open`."""
        if self._session is None:
            raise EngineUnavailable(f"there is no connection to {self.shown}")
        return self._session

    @property
    def shown(self) -> str:
        """The address without credentials, for messages."""
        return str(self.url.with_user(None)).rstrip("/")

    def at(self, *path: str) -> URL:
        """The address of a route."""
        return self.url.joinpath(*path)

    async def open(self) -> None:
        """Connect.

        Raises:
            EngineUnavailable: nobody answers, it is no ComfyUI, or it wants credentials.
        """
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=32, keepalive_timeout=60),
            headers=self._headers,
            timeout=aiohttp.ClientTimeout(total=None, sock_connect=_CONNECT, sock_read=300),
            auto_decompress=True,
        )
        try:
            async with asyncio.timeout(_CONNECT):
                self._socket = await self._session.ws_connect(
                    self.at("ws").with_query(clientId=self.client_id), max_msg_size=_LARGEST_FRAME
                )
                await self._socket.send_str(FEATURES)
        except (aiohttp.ClientError, OSError, TimeoutError) as error:
            await self.close()
            raise self._unreachable(error) from error
        _keep_alive(self._socket.get_extra_info("socket"))
        self.spawn(self._read(self._socket))
        self.spawn(self._ping(self._socket))

    async def close(self) -> None:
        """Let go of everything; prompts that still run end with `WorkerLost`."""
        self._lose("the connection was closed")
        current = asyncio.current_task()
        tasks = [task for task in self._tasks if task is not current]
        for task in tasks:
            task.cancel()
        if self._socket is not None:
            with contextlib.suppress(Exception):
                async with asyncio.timeout(1):
                    await self._socket.close()
        if self._session is not None:
            await self._session.close()
        await asyncio.gather(*tasks, return_exceptions=True)

    def spawn(self, work: Awaitable[Any]) -> asyncio.Task[Any]:
        """Run something beside, until it is done or the connection closes."""
        task = asyncio.ensure_future(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    async def get_json(self, *path: str) -> JSON:
        """The JSON that a route answers; None where it answers other than 200."""
        async with self.session.get(self.at(*path)) as response:
            return json.loads(await response.read()) if response.status == 200 else None

    async def post_json(self, value: object, *path: str) -> tuple[int, Any]:
        """The status and the JSON (None where it is none) that a route answers."""
        data = json.dumps(value, separators=(",", ":")).encode()
        headers = {"Content-Type": "application/json"}
        async with self.session.post(self.at(*path), data=data, headers=headers) as response:
            body = await response.read()
        try:
            return response.status, json.loads(body)
        except ValueError:
            return response.status, None

    async def submit(self, execution: Execution, body: Mapping[str, Any]) -> tuple[int, Any]:
        """Post a prompt and listen for it; the answer is the caller's to judge.

        Messages may come before the answer does. Servers of before 0.3.50 choose their own id: what came under an
        unknown id meanwhile is kept and given out once the id is known.
        """
        self._executions[execution.prompt_id] = execution
        self._posting += 1
        try:
            status, answer = await self.post_json(body, "prompt")
            prompt_id = answer.get("prompt_id") if status == 200 and isinstance(answer, dict) else None
            if isinstance(prompt_id, str):
                if prompt_id != execution.prompt_id:
                    self.forget(execution)
                    execution.prompt_id = prompt_id
                    self._executions[prompt_id] = execution
                    for message in [message for message in self._stash if message.prompt_id == prompt_id]:
                        self._deliver(message)
                execution.posted = True
            return status, answer
        finally:
            self._posting -= 1
            if not self._posting:
                self._stash.clear()

    def forget(self, execution: Execution) -> None:
        """Listen no more for a prompt; what still comes about it is dropped."""
        self._executions.pop(execution.prompt_id, None)
        if self._current is execution:
            self._current = None

    async def _read(self, websocket: aiohttp.ClientWebSocketResponse) -> None:
        reason = "closed the connection"
        try:
            async for frame in websocket:
                if frame.type is aiohttp.WSMsgType.TEXT:
                    message = read_text(frame.data)
                    if message is not None:
                        self._deliver(message)
                elif frame.type is aiohttp.WSMsgType.BINARY:
                    self._show(frame.data)
                elif frame.type is aiohttp.WSMsgType.ERROR:
                    reason = f"broke the connection ({websocket.exception()})"
                    break
        except (aiohttp.ClientError, OSError) as error:
            reason = f"broke the connection ({error})"
        finally:
            self._lose(reason)

    async def _ping(self, websocket: aiohttp.ClientWebSocketResponse) -> None:
        # No answer is waited for: loading a model can hold up the server's event loop for longer than any patience.
        # A dead host shows by TCP's own keep-alive.
        while not websocket.closed:
            await asyncio.sleep(_PING)
            with contextlib.suppress(aiohttp.ClientError, OSError):
                await websocket.ping()

    def _deliver(self, message: Message) -> None:
        if message.type == "status":
            self._weigh(message.data)
            return
        if message.prompt_id is None:
            execution = self._current
        else:
            execution = self._executions.get(message.prompt_id)
            if execution is None and self._posting and len(self._stash) < _STASH:
                self._stash.append(message)
        if execution is None:
            return
        if message.type == "execution_start":
            self._current = execution
        execution.feed(message)
        if message.type == "execution_success" and not execution.ended:
            self.spawn(self._recall(execution))
        if execution.ended and self._current is execution:
            self._current = None

    def _show(self, frame: bytes) -> None:
        picture = read_binary(frame)
        if picture is None:
            return
        execution = self._executions.get(picture.prompt_id) if picture.prompt_id else self._current
        if execution is not None:
            execution.show(picture)

    def _lose(self, reason: str) -> None:
        if self.lost is None:
            self.lost = reason
        executions, self._executions = list(self._executions.values()), {}
        self._current = None
        for execution in executions:
            execution.end(
                WorkerLost(
                    f"ComfyUI at {self.shown} {self.lost} while the job ran", remedy="look at its log; try again"
                )
            )

    def _weigh(self, data: Mapping[str, Any]) -> None:
        """Notice when another client emptied the queue: nobody is told then."""
        status = data.get("status")
        info = status.get("exec_info") if isinstance(status, dict) else None
        remaining = info.get("queue_remaining") if isinstance(info, dict) else None
        waiting = [execution for execution in self._executions.values() if execution.posted and not execution.ended]
        if isinstance(remaining, int) and remaining < len(waiting) and not self._suspecting:
            self._suspecting = True
            self.spawn(self._look_for(waiting))

    async def _recall(self, execution: Execution) -> None:
        """Ask the history, once, for outputs that no message told; it has them once `executing` names no node."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_RECALL):
                await execution.history_ready.wait()
        entry = None
        with contextlib.suppress(aiohttp.ClientError, OSError, ValueError):
            history = await self.get_json("history", execution.prompt_id)
            entry = history.get(execution.prompt_id) if isinstance(history, dict) else None
        execution.recall(entry if isinstance(entry, dict) else {})

    async def _look_for(self, executions: list[Execution]) -> None:
        try:
            await asyncio.sleep(_SUSPECT)
            if all(execution.ended for execution in executions):
                return
            queue = await self.get_json("queue")
            queued = queued_ids(queue, "queue_running") | queued_ids(queue, "queue_pending")
            for execution in executions:
                if not execution.ended and queue is not None and execution.prompt_id not in queued:
                    history = await self.get_json("history", execution.prompt_id)
                    entry = history.get(execution.prompt_id) if isinstance(history, dict) else None
                    if isinstance(entry, dict):
                        execution.recall(entry)
                    else:
                        execution.end(Cancelled("another client removed it from ComfyUI's queue"))
        except (aiohttp.ClientError, OSError, ValueError):
            pass  # the next status message asks again; a dead server shows on the socket
        finally:
            self._suspecting = False

    def _unreachable(self, error: Exception) -> EngineError:
        if isinstance(error, aiohttp.WSServerHandshakeError):
            if error.status in {401, 403}:
                return EngineUnavailable(
                    f"{self.shown} answers {error.status}: it wants credentials",
                    remedy="give them in the URL (http://user:password@host) or as a header",
                )
            if error.status < 500:
                return EngineUnavailable(
                    f"{self.shown} answers, but is no ComfyUI (its /ws answers {error.status})",
                    remedy="give the address of a ComfyUI server, http://127.0.0.1:8188 say",
                )
        reason = "no answer in time" if isinstance(error, TimeoutError) else str(error) or type(error).__name__
        return EngineUnavailable(
            f"no ComfyUI can be reached at {self.shown} ({reason})",
            remedy="start it (`python main.py` in its folder), or give another address with --comfyui",
        )


def queued_ids(queue: object, key: str) -> set[str]:
    """The prompt ids in ``queue_running`` or ``queue_pending`` of a ``GET /queue`` answer."""
    items = queue.get(key) if isinstance(queue, dict) else None
    return {item[1] for item in items or () if isinstance(item, list) and len(item) > 1 and isinstance(item[1], str)}


def _keep_alive(raw: Any) -> None:
    """Let the kernel find out when the host is gone: half a minute of silence, then three probes."""
    if raw is None:
        return
    options: list[tuple[str, int]] = [("TCP_KEEPINTVL", 10), ("TCP_KEEPCNT", 3)]
    options.append(("TCP_KEEPALIVE" if sys.platform == "darwin" else "TCP_KEEPIDLE", 30))
    with contextlib.suppress(OSError):
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        for name, value in options:
            if hasattr(socket, name):
                raw.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)
