"""The service itself: generate, interface, workflow, health, front page."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING

from fastapi import APIRouter, Request, Response
from fastapi.responses import HTMLResponse

from . import views
from .calls import Call, base_of, json_response
from .documents import front_page, problems

if TYPE_CHECKING:
    from .service import Service

PAGE_POLICY = "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'"


def routes(service: Service) -> APIRouter:
    """``/generate``, ``/interface``, ``/workflow.json``, ``/health`` and ``/``."""
    router = APIRouter()

    @router.post(
        "/generate",
        tags=["generate"],
        summary="Run the workflow and wait for it",
        responses={
            200: {
                "description": "The file, where there is one and the caller takes it; else the job with links",
                "content": {
                    "application/json": {"schema": {"$ref": "#/components/schemas/Job"}},
                    "*/*": {"schema": {"type": "string", "format": "binary"}},
                },
            },
            202: {"model": views.Job, "description": "The job goes on: `Prefer: respond-async`, or its `wait` is over"},
            **problems(400, 408, 409, 413, 415, 422, 429, 500, 503, 507),
        },
    )
    async def generate(request: Request) -> Response:
        """Parameters are the body's top-level keys: JSON, or multipart with a part for each file."""
        call = Call(service, request)
        inputs = await call.read()
        if service.handler is not None:
            return await service.handler(inputs, call)
        return await call.run(inputs)

    @router.get("/interface", tags=["service"], summary="What the workflow takes and gives")
    async def interface() -> Response:
        return json_response({**service.interface.to_json(), "schema": service.inputs.model.model_json_schema()})

    @router.get("/workflow.json", tags=["service"], summary="The workflow, for the editor; else the prompt")
    async def workflow() -> Response:
        held = service.bundle.workflow
        content = held.to_json() if held is not None else service.bundle.prompt.to_json()
        name = "".join(c if c.isascii() and (c.isalnum() or c in "-_") else "-" for c in service.bundle.name)
        return json_response(content, headers={"Content-Disposition": f'inline; filename="{name}.json"'})

    @router.get("/health/live", tags=["service"], summary="The process answers", responses={200: {"model": views.Live}})
    async def live() -> Response:
        return json_response({"status": "live"}, headers={"Cache-Control": "no-store"})

    @router.get(
        "/health/ready",
        tags=["service"],
        summary="Whether jobs would run now",
        responses={200: {"model": views.Ready}, 503: {"model": views.Ready}},
    )
    async def ready() -> Response:
        workers = [worker.state for worker in service.dispatcher.workers] if service.started else []
        is_ready = any(worker.ready for worker in workers) and not service.stopping
        content = {
            "status": "ready" if is_ready else "not ready",
            "workers": [asdict(worker) for worker in workers],
            "waiting": service.dispatcher.waiting if service.started else 0,
        }
        return json_response(content, status=200 if is_ready else 503, headers={"Cache-Control": "no-store"})

    @router.get("/", include_in_schema=False)
    async def front(request: Request) -> Response:
        return HTMLResponse(front_page(service, base_of(request)), headers={"Content-Security-Policy": PAGE_POLICY})

    return router
