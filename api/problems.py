"""Errors over HTTP: RFC 9457 problem details. Every refusal that the service answers is made here."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from starlette.responses import Response

from .errors import (
    IdempotencyConflict,
    ImageRefused,
    QueueFull,
    ServiceError,
    ShuttingDown,
    StoreError,
    StoreFull,
)
from .jobs import JobError

MEDIA_TYPE = "application/problem+json"
TYPE_PREFIX = "urn:comfy-atelier:problem:"

TITLES = {
    "bad-request": "The request cannot be read",
    "not-json": "The body is not JSON",
    "bad-multipart": "The multipart body cannot be read",
    "unauthorized": "A valid API key is needed",
    "forbidden-origin": "This page may not call the service",
    "not-found": "There is no such thing here",
    "method-not-allowed": "This address does not take that method",
    "timeout": "The body took too long to arrive",
    "conflict": "The job is in another state",
    "idempotency-conflict": "The idempotency key was used for something else",
    "too-large": "The request is too large",
    "unsupported-media-type": "This content type is not taken here",
    "range": "The range lies outside the file",
    "misdirected": "The service does not answer to that name",
    "invalid-inputs": "The inputs do not fit the interface",
    "invalid-file": "A file cannot be taken",
    "queue-full": "Too many jobs wait already",
    "internal": "The service failed",
    "unavailable": "The service cannot do that now",
    "storage-full": "There is no space left",
    # a job's own end, where the caller waited for it
    "job-cancelled": "The job was cancelled",
    "invalid-prompt": "The engine refuses the prompt",
    "unknown-nodes": "The engine lacks node classes that the prompt uses",
    "node-failed": "A node failed",
    "out-of-memory": "The device's memory was not enough",
    "worker-lost": "The worker was lost while the job ran",
    "engine-unavailable": "The engine cannot be reached",
    "no-output": "The job produced nothing",
    "engine-error": "The engine failed",
}

JOB_STATUS = {
    "job-cancelled": 409,
    "invalid-prompt": 422,
    "invalid-inputs": 422,
    "storage-full": 507,
    "out-of-memory": 503,
    "worker-lost": 503,
    "engine-unavailable": 503,
    "unavailable": 503,
}
"""What a waiting caller gets when the job failed in this way; everything else is 500."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Fault:
    """One fault of a request: where (a parameter, a JSON pointer) and what."""

    detail: str
    parameter: str | None = None
    pointer: str | None = None

    def to_json(self) -> dict[str, str]:
        """Without what is not known."""
        parts = {"parameter": self.parameter, "pointer": self.pointer, "detail": self.detail}
        return {name: value for name, value in parts.items() if value is not None}


class Problem(Exception):
    """An answer that says what is wrong. `kind` is the last part of its type's URN and a key of `TITLES`."""

    def __init__(
        self,
        status: int,
        kind: str,
        detail: str,
        *,
        faults: Sequence[Fault] = (),
        headers: Mapping[str, str] | None = None,
        **extra: Any,
    ) -> None:
        super().__init__(detail)
        self.status = status
        self.kind = kind
        self.detail = detail
        self.faults = tuple(faults)
        self.headers = dict(headers or {})
        self.extra = extra

    def body(self) -> dict[str, Any]:
        """The problem's JSON."""
        members: dict[str, Any] = {
            "type": TYPE_PREFIX + self.kind,
            "title": TITLES[self.kind],
            "status": self.status,
            "detail": self.detail,
        }
        if self.faults:
            members["errors"] = [fault.to_json() for fault in self.faults]
        return {**members, **self.extra}

    def response(self) -> Response:
        """The answer."""
        content = json.dumps(self.body(), ensure_ascii=True, separators=(",", ":"))
        headers = {"X-Content-Type-Options": "nosniff", "Cache-Control": "no-store", **self.headers}
        return Response(content, status_code=self.status, media_type=MEDIA_TYPE, headers=headers)


def invalid_inputs(faults: Sequence[Fault]) -> Problem:
    """422: values that do not fit; the first fault is the detail."""
    more = f" (and {len(faults) - 1} more)" if len(faults) > 1 else ""
    return Problem(422, "invalid-inputs", f"{faults[0].detail}{more}", faults=faults)


def from_service_error(error: ServiceError) -> Problem:
    """The problem that an error from inside means to a caller."""
    match error:
        case StoreFull():
            return Problem(507, "storage-full", str(error), headers={"Retry-After": "30"})
        case StoreError() | ShuttingDown():
            return Problem(503, "unavailable", str(error), headers={"Retry-After": "5"})
        case QueueFull():
            return Problem(429, "queue-full", str(error), headers={"Retry-After": "5"})
        case IdempotencyConflict():
            return Problem(409, "idempotency-conflict", str(error))
        case ImageRefused(reason="unsupported"):
            return Problem(415, "invalid-file", str(error))
        case ImageRefused(reason="too-large"):
            return Problem(413, "invalid-file", str(error))
        case ImageRefused():
            return Problem(422, "invalid-file", str(error))
        case _:
            return Problem(500, "internal", "the service failed; its log says why")


def from_job_error(error: JobError, job_id: str) -> Problem:
    """The problem that a failed job means to the caller who waited for it."""
    kind = error.type if error.type in TITLES else "engine-error"
    status = JOB_STATUS.get(kind, 500)
    headers = {"Retry-After": "10"} if status == 503 else {}
    places = (("node_id", error.node_id), ("class_type", error.class_type))
    extra: dict[str, Any] = {name: value for name, value in places if value}
    return Problem(status, kind, error.detail, headers=headers, job=job_id, **extra)
