"""One call of ``POST /generate`` or ``POST /jobs``: what came, and the answers that it may get."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel
from starlette.requests import Request
from starlette.responses import Response

from .bodies import FormParts, media_type, read_body, read_form
from .jobs import Job, JobError, Status, StoredFile, artifact_id, job_json
from .negotiation import preference, wants_file
from .problems import TITLES, Fault, Problem, from_job_error, from_service_error, invalid_inputs
from .streams import file_answer, file_headers
from .tickets import Ticket

if TYPE_CHECKING:
    from .service import Service

PART = "part:"  # stands in the inputs for a file that came as a multipart part
MAX_KEY = 255  # characters of an idempotency key
BRIEF_SECONDS = 0.02  # a job this short ends before anyone looks whether its caller is still there


class Call:
    """A request that starts a job. A ``generate`` function of an exported service gets one and answers with `run`."""

    def __init__(self, service: Service, request: Request) -> None:
        self.service = service
        self.request = request
        self.owner: str = request.state.owner
        self._parts = FormParts()

    async def read(self) -> BaseModel:
        """The request's inputs, from JSON or multipart.

        Raises:
            Problem: 400, 408, 413, 415 or 422.
        """
        kind = media_type(self.request)
        if kind in {"multipart/form-data", "application/x-www-form-urlencoded"}:
            self._parts = await read_form(self.request, self.service.limits)
            return self.service.inputs.from_form(self._form_values())
        if kind == "application/json" or kind.endswith("+json"):
            return self.service.inputs.from_json(await read_body(self.request, self.service.limits))
        body = await read_body(self.request, self.service.limits)
        if not body and not kind:  # POST without a body: every parameter at its default
            return self.service.inputs.from_json(b"{}")
        raise Problem(
            415,
            "unsupported-media-type",
            f"content type {kind[:60]!a} is not taken here; send application/json or multipart/form-data"
            if kind
            else "the body has no content type; send application/json or multipart/form-data",
        )

    def _form_values(self) -> dict[str, str]:
        texts = self._parts.texts
        values = {name: text for name, text in texts.items() if text or self.service.files.parameter(name) is None}
        for name, (filename, data) in tuple(self._parts.files.items()):
            if not data and not filename:  # a browser's form with no file chosen
                continue
            if self.service.files.parameter(name) is not None:
                values[name] = f"{PART}{name}"
                continue
            try:
                values[name] = data.decode("utf-8")  # a text from a file: curl -F prompt=@prompt.txt
            except UnicodeDecodeError:
                fault = Fault(detail=f"parameter {name[:64]!a} takes no file", parameter=name[:64])
                raise invalid_inputs([fault]) from None
        return values

    async def submit(self, inputs: BaseModel | Mapping[str, Any], *, durable: bool) -> tuple[Ticket, bool]:
        """Start the job for these inputs; (its ticket, whether an earlier call with the same key had started it).

        Raises:
            Problem: the inputs do not fit, or the service takes no job now.
        """
        given = inputs.model_dump(by_alias=True) if isinstance(inputs, BaseModel) else dict(inputs)
        values: dict[str, Any] = {}
        files: dict[str, StoredFile] = {}
        for name, value in given.items():
            parameter = self.service.files.parameter(name)
            if value is None:
                continue
            if parameter is None:
                values[name] = value
            elif value == f"{PART}{name}" and name in self._parts.files:
                filename, data = self._parts.files[name]
                files[name] = await self.service.files.take(data, parameter, filename=filename)
            else:
                files[name] = await self.service.files.from_text(str(value), parameter, owner=self.owner)
        return await self.service.submit(values, files, owner=self.owner, idempotency_key=self._key(), durable=durable)

    def _key(self) -> str | None:
        key = self.request.headers.get("idempotency-key")
        if key is None:
            return None
        key = key.strip().strip('"')
        if not key or len(key) > MAX_KEY or not key.isascii() or not key.isprintable():
            raise Problem(400, "bad-request", f"Idempotency-Key must be 1 to {MAX_KEY} printable ASCII characters")
        return key

    async def run(self, inputs: BaseModel | Mapping[str, Any]) -> Response:
        """Run the workflow on these inputs and answer as the caller asked: the file, JSON, or 202 at once.

        Raises:
            Problem: what went wrong.
        """
        prefer = preference(self.request.headers.get("prefer"))
        if prefer.respond_async:
            ticket, existing = await self.submit(inputs, durable=True)
            return await self.accepted(ticket, existing, preferred=True)
        ticket, existing = await self.submit(inputs, durable=False)
        if not ticket.end.done():
            await self._wait(ticket, prefer.wait)
        if ticket.failure is not None:
            raise from_service_error(ticket.failure)
        if not ticket.end.done():
            return await self.accepted(ticket, existing, preferred=True)
        return self._answer(ticket)

    async def start(self, inputs: BaseModel | Mapping[str, Any]) -> Response:
        """Start a job and answer 202 once it is durable."""
        ticket, existing = await self.submit(inputs, durable=True)
        return await self.accepted(ticket, existing)

    async def accepted(self, ticket: Ticket, existing: bool, *, preferred: bool = False) -> Response:
        """202 with the job (200 where an earlier call's job has ended)."""
        await self.service.dispatcher.commit(ticket)
        job = ticket.job
        position = self.service.dispatcher.waiting if job.status is Status.QUEUED else None
        headers = {"Location": f"{self._base}/jobs/{job.id}", "X-Job-Id": job.id}
        if preferred:
            headers["Preference-Applied"] = "respond-async"
        if existing:
            headers["Idempotency-Replayed"] = "true"
        status = 200 if job.status.is_final else 202
        return json_response(job_json(job, base=self._base, queue_position=position), status=status, headers=headers)

    @property
    def _base(self) -> str:
        return base_of(self.request)

    async def _wait(self, ticket: Ticket, seconds: float | None) -> None:
        """Until the job has ended, or the time is up; a caller who leaves takes an unkeyed job along."""
        brief = BRIEF_SECONDS if seconds is None else min(seconds, BRIEF_SECONDS)
        await asyncio.wait({ticket.end}, timeout=brief)
        if ticket.end.done():
            return
        gone = asyncio.ensure_future(self._gone())
        try:
            left = None if seconds is None else seconds - brief
            await asyncio.wait({ticket.end, gone}, timeout=left, return_when=asyncio.FIRST_COMPLETED)
            if gone.done() and not ticket.end.done() and ticket.job.idempotency_key is None:
                await self.service.dispatcher.cancel(ticket.job.id, owner=self.owner)
        finally:
            gone.cancel()

    async def _gone(self) -> None:
        while (await self.request.receive())["type"] != "http.disconnect":
            pass

    def _answer(self, ticket: Ticket) -> Response:
        job = ticket.job
        if job.status is Status.FAILED:
            assert job.error is not None
            raise from_job_error(job.error, job.id)
        if job.status is Status.CANCELLED:
            error = JobError(type="job-cancelled", title=TITLES["job-cancelled"], detail="the job was cancelled")
            raise from_job_error(error, job.id)
        accept = self.request.headers.get("accept")
        if len(job.outputs) == 1 and wants_file(accept, job.outputs[0].file.media_type.partition(";")[0]):
            return self._file(ticket)
        headers = {"X-Job-Id": job.id, "Content-Location": f"{self._base}/jobs/{job.id}"}
        return json_response(job_json(job, base=self._base), headers=headers)

    def _file(self, ticket: Ticket) -> Response:
        job = ticket.job
        file = job.outputs[0].file
        more = {
            "X-Job-Id": job.id,
            "Content-Location": f"{self._base}/artifacts/{artifact_id(job, 0)}",
            "Link": f'<{self._base}/jobs/{job.id}>; rel="describedby"',
            "Cache-Control": "no-store",
            "Vary": "Accept",
        }
        data = ticket.data.get(0)
        if data is not None:
            return Response(data, headers={**file_headers(file), **more})
        path = self.service.artifacts.where(file)
        if not path.is_file():
            raise gone_artifact()
        return file_answer(self.request, path, file, more=more)


def base_of(request: Request) -> str:
    """What comes before every path of ours: where a proxy or a parent application has put us."""
    return str(request.scope.get("root_path", "")).rstrip("/")


def json_response(content: Any, *, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    """A JSON answer."""
    body = json.dumps(content, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    return Response(body.encode("utf-8"), status_code=status, media_type="application/json", headers=headers)


def gone_artifact() -> Problem:
    """404 for a file that was deleted by age."""
    return Problem(404, "not-found", "the file is not kept any more; run the job again")


def no_job(job: Job | None) -> Job:
    """The job, or 404 for one that is not there (or not the caller's: the answer is the same)."""
    if job is None:
        raise Problem(404, "not-found", "there is no such job; GET /jobs lists yours")
    return job
