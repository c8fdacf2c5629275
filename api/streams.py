"""Answers that are streams: a job's events, and files with ranges."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import IO

from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from .artifacts import INLINE, bare_type
from .events import HEARTBEAT, EventLog, Id, history
from .jobs import Job, StoredFile
from .negotiation import Unsatisfiable, byte_range, etag_matches
from .problems import Problem

CHUNK = 256 * 1024
SEND_SECONDS = 20.0  # a reader who takes nothing for so long is dropped
SMALL = 1024 * 1024  # files up to this are read at once


class EventStream(Response):
    """A job's events from `last` on, until its last one.

    Args:
        current: the job as it is now; asked where memory has let go of its events.
        ended: whether the service is stopping, which ends every stream (readers come back with Last-Event-ID).
    """

    def __init__(
        self,
        *,
        events: EventLog,
        job_id: str,
        last: Id | None,
        heartbeat: float,
        current: Callable[[], Awaitable[Job | None]],
        ended: Callable[[], bool],
    ) -> None:
        headers = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}
        super().__init__(None, media_type="text/event-stream", headers=headers)
        self._events = events
        self._job_id = job_id
        self._last = last
        self._heartbeat = heartbeat
        self._current = current
        self._ended = ended

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """ASGI."""
        headers = [pair for pair in self.raw_headers if pair[0] != b"content-length"]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        gone = asyncio.create_task(_disconnected(receive))
        tell = asyncio.create_task(self._tell(send))
        try:
            await asyncio.wait({gone, tell}, return_when=asyncio.FIRST_COMPLETED)
            if tell.done():
                tell.result()  # a reader who is too slow raises here, which drops the connection
        finally:
            for task in (gone, tell):
                task.cancel()
            await asyncio.gather(gone, tell, return_exceptions=True)

    async def _tell(self, send: Send) -> None:
        async def write(data: bytes, *, more: bool = True) -> None:
            async with asyncio.timeout(SEND_SECONDS):
                await send({"type": "http.response.body", "body": data, "more_body": more})

        await write(b"retry: 1000\n\n")
        silent = 0.0
        while not self._ended():
            if self._events.known(self._job_id):
                events = self._events.after(self._job_id, self._last)
            else:  # long over
                job = await self._current()
                if job is None:
                    break
                events = [event for event in history(job) if self._last is None or event.id > self._last]
                if job.status.is_final and not events:
                    break
                if not job.status.is_final:
                    self._events.begin(job)
            if events:
                await write(b"".join(event.encode() for event in events))
                self._last = events[-1].id
                silent = 0.0
                if events[-1].is_last:
                    break
                continue
            pause = min(self._heartbeat, 1.0)  # a stop of the service is noticed within a second
            if not await self._events.changed(self._job_id, self._last, seconds=pause):
                silent += pause
                if silent >= self._heartbeat:
                    await write(HEARTBEAT)
                    silent = 0.0
        await write(b"", more=False)


async def _disconnected(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


def file_headers(file: StoredFile) -> dict[str, str]:
    """Headers under which a produced file is harmless: its own type, no sniffing, shown in place only where that is
    safe."""
    place = "inline" if bare_type(file.media_type) in INLINE else "attachment"
    media_type = file.media_type if place == "inline" else "application/octet-stream"
    if bare_type(media_type).startswith("text/"):
        media_type = "text/plain; charset=utf-8"
    return {
        "Content-Type": media_type,
        "Content-Disposition": f'{place}; filename="{file.filename or "file"}"',
        "ETag": f'"{file.sha256}"',
        "X-Content-Type-Options": "nosniff",
        "Content-Security-Policy": "default-src 'none'; sandbox",
        "Cross-Origin-Resource-Policy": "same-site",
    }


class FileAnswer(Response):
    """A stored file, whole or in part."""

    def __init__(self, path: Path, start: int, end: int, *, status_code: int, headers: Mapping[str, str]) -> None:
        super().__init__(None, status_code=status_code, headers={**headers, "Content-Length": str(end - start)})
        self._path = path
        self._start = start
        self._end = end

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """ASGI."""
        if scope["method"] == "HEAD":
            await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
            await send({"type": "http.response.body", "body": b""})
            return
        file = await asyncio.to_thread(self._open)
        try:
            await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
            left = self._end - self._start
            while left > 0:
                chunk = await asyncio.to_thread(file.read, min(CHUNK, left))
                if not chunk:
                    raise RuntimeError(f"{self._path} became shorter")
                left -= len(chunk)
                async with asyncio.timeout(SEND_SECONDS):
                    await send({"type": "http.response.body", "body": chunk, "more_body": left > 0})
            if self._end == self._start:
                await send({"type": "http.response.body", "body": b""})
        finally:
            await asyncio.to_thread(file.close)

    def _open(self) -> IO[bytes]:
        file = self._path.open("rb")
        file.seek(self._start)
        return file


def file_answer(request: Request, path: Path, file: StoredFile, *, more: Mapping[str, str] | None = None) -> Response:
    """The answer to a request for a file: all of it, a range of it, or 304.

    Raises:
        Problem: 416 where the range lies outside.
    """
    headers = {**file_headers(file), "Accept-Ranges": "bytes", "Cache-Control": "private, max-age=31536000, immutable"}
    headers |= more or {}
    etag = headers["ETag"]
    if etag_matches(request.headers.get("if-none-match"), etag):
        return Response(None, status_code=304, headers={key: headers[key] for key in ("ETag", "Cache-Control")})
    asked = request.headers.get("range")
    if request.headers.get("if-range", etag).strip() != etag:
        asked = None
    try:
        part = byte_range(asked, file.size)
    except Unsatisfiable:
        raise Problem(
            416,
            "range",
            f"the file has {file.size} bytes; ask for a range within it",
            headers={"Content-Range": f"bytes */{file.size}"},
        ) from None
    if part is None:
        return FileAnswer(path, 0, file.size, status_code=200, headers=headers)
    headers["Content-Range"] = f"bytes {part[0]}-{part[1] - 1}/{file.size}"
    return FileAnswer(path, *part, status_code=206, headers=headers)
