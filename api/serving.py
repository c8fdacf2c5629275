"""Listening: the server process of a service."""

from __future__ import annotations

import contextlib
import logging
import socket
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

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
        announce: called with the service's address once it listens there.

    Raises:
        PortInUse: the address cannot be listened on.
        PackerError, GraphError: the bundle cannot be read.
        StoreError: the data folder cannot be used.
    """
    import uvicorn

    from .service import Service

    sock = listen(host, port)
    try:
        settings = settings if settings is not None else Settings()
        service = Service(bundle, settings=settings, engine=_factory(engine_config))
        if announce is not None:
            name, number = sock.getsockname()[:2]
            announce(f"http://{f'[{name}]' if ':' in name else name}:{number}")
        with contextlib.suppress(KeyboardInterrupt):
            config = uvicorn.Config(
                service.app,
                log_level="info" if logging.getLogger().isEnabledFor(logging.INFO) else "warning",
                access_log=False,
                timeout_graceful_shutdown=int(settings.shutdown_seconds) + GRACE_SECONDS,
                server_header=False,
                lifespan="on",
            )
            uvicorn.Server(config).run(sockets=[sock])
    finally:
        sock.close()


def _factory(config: EngineConfig | None) -> _Make | None:
    return None if config is None else _Make(config)


class _Make:
    """Makes the engine of a worker."""

    def __init__(self, config: EngineConfig) -> None:
        self._config = config

    def __call__(self, number: int) -> Engine:
        from ..engines import create_engine

        return create_engine(self._config)
