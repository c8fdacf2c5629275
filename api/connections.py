"""The server's connections: writes of one moment joined, heads of requests bounded.

Head and body of a short answer leave as one packet: each write by itself is a system call, a packet, and one more time
that the caller's process is woken.
"""

from __future__ import annotations

import asyncio
from typing import Any

AT_ONCE_BYTES = 64 * 1024  # more than that does not wait for what may follow
MAX_HEAD_BYTES = 64 * 1024  # of a request, as h11 has it
FRAMING_BYTES = 16  # of a chunk of a body, at most


class JoiningTransport:
    """A transport whose writes go out together at the end of the loop's turn; all else is the transport's own."""

    def __init__(self, transport: asyncio.Transport) -> None:
        self._transport = transport
        self._loop = asyncio.get_running_loop()
        self._parts: list[bytes] = []
        self._size = 0

    def write(self, data: bytes) -> None:
        """Send `data` after what was written before."""
        if not self._parts:
            self._loop.call_soon(self._flush)
        self._parts.append(data)
        self._size += len(data)
        if self._size > AT_ONCE_BYTES:
            self._flush()

    def close(self) -> None:
        """Send what was written, then close."""
        self._flush()
        self._transport.close()

    def _flush(self) -> None:
        if not self._parts:
            return
        parts, self._parts, self._size = self._parts, [], 0
        if self._transport.is_closing():  # the caller has gone
            return
        self._transport.write(parts[0] if len(parts) == 1 else b"".join(parts))

    def __getattr__(self, name: str) -> Any:
        """What this class has not."""
        return getattr(self._transport, name)


def http_protocol() -> type[asyncio.Protocol]:
    """uvicorn's HTTP protocol (the one of its own choice) on joining transports, with heads of requests bounded.

    uvicorn bounds them only with h11; with httptools a head without end would fill the memory.
    """
    from uvicorn.protocols.http.auto import AutoHTTPProtocol

    class JoiningProtocol(AutoHTTPProtocol):  # type: ignore[misc,valid-type]  # uvicorn chooses it as it is imported
        head = 0  # bytes of the present request that were no body: its head, its chunks' framing, its trailers

        def connection_made(self, transport: asyncio.Transport) -> None:
            super().connection_made(JoiningTransport(transport))

        def data_received(self, data: bytes) -> None:
            self.head += len(data)
            super().data_received(data)
            if self.head > MAX_HEAD_BYTES and not self.transport.is_closing():
                self.send_400_response("The head of the request is too large.")

        def on_body(self, body: bytes) -> None:
            self.head = max(0, self.head - len(body) - FRAMING_BYTES)
            super().on_body(body)

        def on_message_complete(self) -> None:
            self.head = 0
            super().on_message_complete()

    class Joining(AutoHTTPProtocol):  # type: ignore[misc,valid-type]  # as above; h11 bounds heads itself
        def connection_made(self, transport: asyncio.Transport) -> None:
            super().connection_made(JoiningTransport(transport))

    return JoiningProtocol if hasattr(AutoHTTPProtocol, "on_body") else Joining
