"""The ASGI application of a service: routes, errors, lifespan."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import signal
import threading
from collections.abc import AsyncIterator, Iterator
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Receive, Scope, Send

from . import routes_files, routes_jobs, routes_service
from .access import Access
from .calls import Call
from .documents import methods, openapi
from .errors import ServiceError
from .problems import Fault, Problem, from_service_error, invalid_inputs

if TYPE_CHECKING:
    from ..packer import Bundle
    from .service import Service

logger = logging.getLogger(__name__)


def create_app(service: Service | Bundle | str | Path, **options: Any) -> FastAPI:
    """The FastAPI application of a service, or of a new `Service` made of a bundle and these options."""
    from .service import Service

    if not isinstance(service, Service):
        service = Service(service, **options)

    @contextlib.asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        await service.start()
        try:
            with _noticing_stop(service):
                yield
        finally:
            await service.stop()

    app = FastAPI(
        title=service.bundle.name,
        version=_version(),
        description="A workflow, served by Comfy Atelier.",
        lifespan=lifespan,
        redoc_url=None,
        redirect_slashes=False,
        generate_unique_id_function=lambda route: route.name,
        openapi_tags=[{"name": "generate"}, {"name": "jobs"}, {"name": "files"}, {"name": "service"}],
    )
    app.state.service = service
    for part in (routes_service, routes_jobs, routes_files):
        app.include_router(part.routes(service))
    app.openapi = lambda: openapi(app, service)  # type: ignore[method-assign]  # FastAPI documents this way of extending
    settings = service.settings
    app.add_middleware(ShortWay, service=service)
    app.add_middleware(
        Access, keys=settings.api_keys, allowed_origins=settings.allowed_origins, allowed_hosts=settings.allowed_hosts
    )
    _handle_errors(app, service)
    return app


class ShortWay:
    """``POST /generate`` without the framework's own routing, which costs as much as all the rest of a short job.

    Only where the route is ours alone: a person's own `Service.generate` function may raise what the framework handles.
    """

    def __init__(self, app: ASGIApp, *, service: Service) -> None:
        self._app = app
        self._service = service

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """ASGI."""
        mine = scope["type"] == "http" and scope["path"] == "/generate" and scope["method"] == "POST"
        if not mine or self._service.handler is not None:
            await self._app(scope, receive, send)
            return
        try:
            call = Call(self._service, Request(scope, receive))
            response = await call.run(await call.read())
        except Problem as problem:
            response = problem.response()
        except ServiceError as error:
            response = _refusal(error)
        except ClientDisconnect:
            return
        await response(scope, receive, send)


def _refusal(error: ServiceError) -> Response:
    found = from_service_error(error)
    if found.status >= 500:
        logger.warning("%s", error)
    return found.response()


def _version() -> str:
    try:
        return version("comfy-atelier")
    except PackageNotFoundError:  # run from a checkout that is not installed
        return "0"


@contextlib.contextmanager
def _noticing_stop(service: Service) -> Iterator[None]:
    """Let the service know of SIGTERM and SIGINT as they come: a server waits for open answers before it ends the
    lifespan, and event streams would stay open until then."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    loop = asyncio.get_running_loop()
    before: dict[signal.Signals, Any] = {}

    def chained(number: int, frame: Any) -> None:
        loop.call_soon_threadsafe(service.begin_stop)
        before[signal.Signals(number)](number, frame)

    for kind in (signal.SIGTERM, signal.SIGINT):
        handler = signal.getsignal(kind)
        if callable(handler):  # the server's own; the system's default ends the process anyway
            before[kind] = handler
            signal.signal(kind, chained)
    try:
        yield
    finally:
        for kind, handler in before.items():
            if signal.getsignal(kind) is chained:
                signal.signal(kind, handler)


def _handle_errors(app: FastAPI, service: Service) -> None:
    @app.exception_handler(Problem)
    async def problem(_: Request, error: Problem) -> Response:
        return error.response()

    @app.exception_handler(ServiceError)
    async def service_error(_: Request, error: ServiceError) -> Response:
        return _refusal(error)

    @app.exception_handler(HTTPException)
    async def http_error(request: Request, error: HTTPException) -> Response:
        if error.status_code == 404:
            return Problem(404, "not-found", "there is nothing at this address; see /docs").response()
        if error.status_code == 405:
            return Problem(
                405,
                "method-not-allowed",
                f"{request.method[:16]} is not possible here",
                headers={"Allow": ", ".join(methods(app, service, request.url.path)) or "GET"},
            ).response()
        return Problem(error.status_code, "bad-request", str(error.detail)).response()

    @app.exception_handler(RequestValidationError)
    async def invalid(_: Request, error: RequestValidationError) -> Response:
        faults = [
            Fault(
                detail=f"{found['loc'][-1]}: {found['msg'][:1].lower()}{found['msg'][1:]}",
                parameter=str(found["loc"][-1]),
            )
            for found in error.errors()[:20]
        ]
        return invalid_inputs(faults).response()

    @app.exception_handler(ClientDisconnect)
    async def gone(_: Request, __: ClientDisconnect) -> Response:
        return Response(status_code=400)  # nobody reads it

    @app.exception_handler(Exception)
    async def unforeseen(_: Request, __: Exception) -> Response:
        return Problem(500, "internal", "the service failed; its log says why").response()
