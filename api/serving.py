"""Listening: the server process of a service."""

from __future__ import annotations

import contextlib
import socket
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from .errors import PortInUse
from .settings import Settings

if TYPE_CHECKING:
    from ..engines import Engine, EngineConfig
    from ..packer import Bundle

BACKLOG = 2048
STALLED_SECONDS = 30  # a peer that acknowledges nothing for so long is cut off by the system (Linux)
GRACE_SECONDS = 5  # for open answers, beyond the time that running jobs get


def free_port(host: str = "127.0.0.1") -> int:
    """A port that nobody listens on at this moment."""
    with socket.socket() as probe:
        probe.bind((host, 0))
        port: int = probe.getsockname()[1]
        return port


def listen(host: str, port: int) -> socket.socket:
    """A listening socket.

    Raises:
        PortInUse: the address is taken, not ours, or not allowed.
    """
    try:
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
        sock = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)  # asyncio sets TCP_NODELAY by the protocol
    except OSError as error:
        raise PortInUse(f"{host}: {error.strerror or error}", remedy="choose another --host") from error
    try:
        if sys.platform != "win32":  # there the option would let two servers share the port
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if hasattr(socket, "TCP_USER_TIMEOUT"):
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, STALLED_SECONDS * 1000)
        sock.bind((host, port))
        sock.listen(BACKLOG)
    except OSError as error:
        sock.close()
        raise PortInUse(
            f"cannot listen on {host} port {port}: {error.strerror or error}",
            remedy="choose another --port, or end what listens there",
        ) from error
    return sock


def serve(
    bundle: Bundle | str | Path,
    *,
    host: str = "127.0.0.1",
    port: int = 8000,
    engine_config: EngineConfig | None = None,
    settings: Settings | None = None,
    announce: Callable[[str], None] | None = None,
) -> None:
    """Serve a bundle until a signal ends it.

    Args:
        port: 0 takes a free one.
        announce: called with the service's address once it takes requests.

    Raises:
        PortInUse: the address cannot be listened on.
        PackerError, GraphError: the bundle cannot be read.
        StoreError: the data folder or the database cannot be used.
        EngineError: the engine cannot be made as it was asked for.
    """
    import uvicorn

    from .connections import http_protocol
    from .service import Service

    with contextlib.closing(listen(host, port)) as sock:
        settings = settings if settings is not None else Settings()
        service = Service(bundle, settings=settings, engine=_factory(engine_config, settings.workers))
        started = _Started(service.app, lambda: announce(address(sock)) if announce is not None else None)
        config = uvicorn.Config(
            started,
            http=http_protocol(),
            log_config=None,  # the program's own logging, not uvicorn's
            access_log=False,
            timeout_graceful_shutdown=int(settings.shutdown_seconds) + GRACE_SECONDS,
            server_header=False,
            lifespan="on",
        )
        try:
            uvicorn.Server(config).run(sockets=[sock])
        except KeyboardInterrupt:
            return
        except SystemExit:
            if started.failure is None:
                raise
        if started.failure is not None:
            raise started.failure


def address(sock: socket.socket) -> str:
    """Where a listening socket's service is called; a socket for every address is called on this machine."""
    host, port = sock.getsockname()[:2]
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)  # noqa: S104 - compared, not bound
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


class _Started:
    """The application, whose failure to start `serve` raises instead of printing it with its traceback."""

    def __init__(self, app: ASGIApp, ready: Callable[[], None]) -> None:
        self._app = app
        self._ready = ready
        self.failure: Exception | None = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """ASGI."""
        if scope["type"] != "lifespan":
            await self._app(scope, receive, send)
            return

        async def told(message: Message) -> None:
            if message["type"] == "lifespan.startup.failed":
                message = {"type": message["type"], "message": ""}
            await send(message)
            if message["type"] == "lifespan.startup.complete":
                self._ready()

        try:
            await self._app(scope, receive, told)
        except Exception as error:
            self.failure = error


def _factory(config: EngineConfig | None, workers: int) -> _Make | None:
    return None if config is None else _Make(config, workers)


class _Make:
    """Makes the engine of a worker, on a device of its own as far as there are enough."""

    def __init__(self, config: EngineConfig, workers: int) -> None:
        self._config = config
        self._workers = workers

    def __call__(self, number: int) -> Engine:
        from ..engines import create_engine

        return create_engine(self._config, worker=number, workers=self._workers)
