"""Jobs: start, list, look at, follow, cancel."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Annotated

from fastapi import APIRouter, Query, Request, Response

from . import views
from .calls import Call, base_of, json_response, no_job
from .documents import problems
from .events import parse_id
from .jobs import Job, Status, job_json
from .problems import Problem
from .streams import EventStream

if TYPE_CHECKING:
    from .service import Service

JOB_ID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[0-9a-f]{4}-[0-9a-f]{12}", re.ASCII)
PAGE_LIMIT = 100
EVENT = {
    "type": "object",
    "properties": {
        "id": {"type": "string"},
        "event": {"type": "string", "enum": ["status", "progress", "preview"]},
        "data": {"type": "string", "description": "JSON"},
        "retry": {"type": "integer"},
    },
}


def routes(service: Service) -> APIRouter:
    """The routes below ``/jobs``."""
    router = APIRouter(tags=["jobs"])

    async def find(request: Request, job_id: str) -> Job:
        if not JOB_ID.fullmatch(job_id):
            return no_job(None)
        return no_job(await service.job(job_id, owner=request.state.owner))

    async def shown(request: Request, job: Job) -> dict[str, object]:
        position = await service.store.queue_position(job) if job.status is Status.QUEUED else None
        return job_json(job, base=base_of(request), queue_position=position)

    @router.post(
        "/jobs",
        status_code=202,
        summary="Start a job",
        responses={
            200: {"model": views.Job, "description": "An earlier job with the same Idempotency-Key has ended"},
            202: {"model": views.Job, "description": "The job is durable and will run"},
            **problems(400, 408, 409, 413, 415, 422, 429, 503, 507),
        },
    )
    async def start_job(request: Request) -> Response:
        """Takes what `POST /generate` takes; answers at once."""
        call = Call(service, request)
        return await call.start(await call.read())

    @router.get(
        "/jobs", summary="Your jobs, newest first", responses={200: {"model": views.JobList}, **problems(422, 503)}
    )
    async def list_jobs(
        request: Request,
        status: Annotated[Status | None, Query(description="Only jobs in this state.")] = None,
        limit: Annotated[int, Query(ge=1, le=PAGE_LIMIT)] = 20,
        before: Annotated[int | None, Query(ge=1, le=2**62, description="From a page's `next`.")] = None,
    ) -> Response:
        owner = request.state.owner
        jobs = await service.store.list(owner=owner, status=status, before=before, limit=limit + 1)
        base = base_of(request)
        following = None
        if len(jobs) > limit:
            wanted = f"&status={status.value}" if status is not None else ""
            following = f"{base}/jobs?limit={limit}&before={jobs[limit - 1].position}{wanted}"
        page = [await shown(request, service.dispatcher.present(job)) for job in jobs[:limit]]
        return json_response({"jobs": page, "next": following})

    @router.get("/jobs/{job_id}", summary="A job", responses={200: {"model": views.Job}, **problems(404, 503)})
    async def get_job(request: Request, job_id: str) -> Response:
        return json_response(await shown(request, await find(request, job_id)))

    @router.get(
        "/jobs/{job_id}/events",
        summary="What happens to a job, as server-sent events",
        responses={
            200: {"content": {"text/event-stream": {"itemSchema": EVENT}}, "description": "The stream"},
            204: {"description": "Everything was told already; do not come back"},
            **problems(400, 404, 503),
        },
        response_class=Response,
    )
    async def follow(request: Request, job_id: str) -> Response:
        """Events `status`, `progress` and `preview`; the last is a `status` that is final. `Last-Event-ID` resumes."""
        job = await find(request, job_id)
        header = request.headers.get("last-event-id", "")
        last = parse_id(header)
        if header and last is None:
            raise Problem(400, "bad-request", "Last-Event-ID is none of this stream's; leave it out to begin anew")
        if not job.status.is_final:
            service.dispatcher.watch(job)
            service.events.begin(job)
        elif last is not None and last >= (job.lease_number, 2_000_000_000):
            return Response(status_code=204)
        return EventStream(
            events=service.events,
            job_id=job.id,
            last=last,
            heartbeat=service.settings.heartbeat_seconds,
            current=lambda: service.job(job.id, owner=job.owner),
            ended=lambda: service.stopping,
        )

    @router.post(
        "/jobs/{job_id}/cancel",
        summary="Cancel a job",
        responses={
            200: {"model": views.Job, "description": "The job is cancelled"},
            202: {"model": views.Job, "description": "The job will stop soon"},
            **problems(404, 409, 503),
        },
    )
    async def cancel_job(request: Request, job_id: str) -> Response:
        """Ends a queued job at once and a running one as soon as its worker can; again is harmless."""
        await find(request, job_id)
        job = no_job(await service.dispatcher.cancel(job_id, owner=request.state.owner))
        if job.status in {Status.SUCCEEDED, Status.FAILED}:
            raise Problem(
                409, "conflict", f"the job has {job.status.value} already and cannot be cancelled", job=job.id
            )
        return json_response(await shown(request, job), status=200 if job.status.is_final else 202)

    return router
