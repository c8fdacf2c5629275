"""Jobs: their states and the rules by which they change. No I/O: the store writes what these functions decide."""

from __future__ import annotations

import hashlib
import json
import secrets
import time
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any

MICROSECONDS = 1_000_000  # in a second; every time in a job is whole microseconds since 1970, UTC

RETRY_DELAY_SECONDS = 1.0  # before the second attempt; doubles with each further one
RETRY_DELAY_LIMIT_SECONDS = 30.0


class Status(StrEnum):
    """Where a job is in its life."""

    QUEUED = "queued"  # durable, waiting for a worker
    RUNNING = "running"  # leased by a worker
    SUCCEEDED = "succeeded"  # its outputs are there; never runs again
    FAILED = "failed"  # its error says why; never runs again
    CANCELLED = "cancelled"  # a caller asked for it; never runs again

    @property
    def is_final(self) -> bool:
        """Whether the job can change no more."""
        return self not in {Status.QUEUED, Status.RUNNING}


@dataclass(frozen=True, kw_only=True, slots=True)
class StoredFile:
    """A file in the artifact store, named by what is in it.

    Attributes:
        sha256: of the stored bytes, which are what an engine or a caller gets.
        source: sha256 of the bytes as the caller sent them (a picture is stored re-encoded).
        filename: a clean name to show, without folders.
    """

    sha256: str
    size: int
    media_type: str
    filename: str = ""
    source: str = ""

    def to_json(self) -> dict[str, Any]:
        """As it is kept in the store."""
        return {
            "sha256": self.sha256,
            "size": self.size,
            "media_type": self.media_type,
            "filename": self.filename,
            "source": self.source,
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> StoredFile:
        """From `to_json`."""
        return cls(**{name: data[name] for name in ("sha256", "size", "media_type", "filename", "source")})


@dataclass(frozen=True, kw_only=True, slots=True)
class JobOutput:
    """A file or text that a job produced for one of the interface's outputs; `index` counts the files of one output."""

    name: str
    index: int
    file: StoredFile

    def to_json(self) -> dict[str, Any]:
        """As it is kept in the store."""
        return {"name": self.name, "index": self.index, "file": self.file.to_json()}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> JobOutput:
        """From `to_json`."""
        return cls(name=data["name"], index=data["index"], file=StoredFile.from_json(data["file"]))


@dataclass(frozen=True, kw_only=True, slots=True)
class JobError:
    """Why a job failed, in words for its caller: no traceback and no path of this machine."""

    type: str  # "node-failed", "out-of-memory", "invalid-prompt", "engine-unavailable", ...
    title: str
    detail: str
    node_id: str | None = None
    class_type: str | None = None

    def to_json(self) -> dict[str, Any]:
        """As it is kept in the store and shown."""
        return {
            "type": self.type,
            "title": self.title,
            "detail": self.detail,
            "node_id": self.node_id,
            "class_type": self.class_type,
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> JobError:
        """From `to_json`."""
        return cls(**{name: data.get(name) for name in ("type", "title", "detail", "node_id", "class_type")})  # type: ignore[arg-type]  # what to_json wrote


@dataclass(frozen=True, kw_only=True, slots=True)
class JobProgress:
    """How far a running job is: `value` of `maximum` steps of a node."""

    value: float
    maximum: float
    node: str | None = None
    title: str | None = None

    def to_json(self) -> dict[str, Any]:
        """As it is kept in the store and shown."""
        return {"value": self.value, "maximum": self.maximum, "node": self.node, "title": self.title}


@dataclass(frozen=True, kw_only=True, slots=True)
class Job:
    """One request to run the bundle's prompt with given inputs.

    Attributes:
        position: order of arrival; the store gives it (0 before).
        owner: whose job it is: the digest of an API key, or "" where the service has no keys.
        values: the caller's JSON values by parameter name.
        files: the caller's files by parameter name.
        attempts: how often it was started.
        lease_owner: the service process that runs it, while it runs.
        lease_number: counts leases; every write of a worker names the number of its own lease, so that a worker that
            lost it writes nothing (a fencing token).
        lease_until: when the lease lapses unless it is renewed.
        available_at: not to be started before (the pause before another attempt).
    """

    id: str
    created_at: int
    position: int = 0
    owner: str = ""
    status: Status = Status.QUEUED
    values: Mapping[str, Any] = field(default_factory=dict)
    files: Mapping[str, StoredFile] = field(default_factory=dict)
    outputs: tuple[JobOutput, ...] = ()
    error: JobError | None = None
    progress: JobProgress | None = None
    attempts: int = 0
    lease_owner: str = ""
    lease_number: int = 0
    lease_until: int = 0
    available_at: int = 0
    started_at: int | None = None
    finished_at: int | None = None
    cancel_requested: bool = False
    idempotency_key: str | None = None
    request_hash: str = ""


def now() -> int:
    """Microseconds since 1970, UTC."""
    return time.time_ns() // 1000


def new_id(moment: int) -> str:
    """A job id: a UUID of version 7 (RFC 9562), so ids sort by time and cannot be guessed."""
    milliseconds = (moment // 1000) & ((1 << 48) - 1)
    random = secrets.randbits(74)
    number = (milliseconds << 80) | (0x7 << 76) | ((random >> 62) << 64) | (0b10 << 62) | (random & ((1 << 62) - 1))
    text = f"{number:032x}"
    return f"{text[:8]}-{text[8:12]}-{text[12:16]}-{text[16:20]}-{text[20:]}"


def request_hash(values: Mapping[str, Any], files: Mapping[str, StoredFile]) -> str:
    """Digest of what a caller asked for; two requests with the same idempotency key must agree in it."""
    asked = {"values": dict(values), "files": {name: file.source or file.sha256 for name, file in files.items()}}
    text = json.dumps(asked, sort_keys=True, ensure_ascii=True, separators=(",", ":"))
    return hashlib.sha256(text.encode("ascii")).hexdigest()


def leased(job: Job, *, owner: str, until: int, moment: int) -> Job:
    """The job as a worker takes it: running, one attempt more, under the next lease number."""
    return replace(
        job,
        status=Status.RUNNING,
        attempts=job.attempts + 1,
        lease_owner=owner,
        lease_number=job.lease_number + 1,
        lease_until=until,
        started_at=moment,
        progress=None,
    )


def finished(
    job: Job, status: Status, *, moment: int, outputs: tuple[JobOutput, ...] = (), error: JobError | None = None
) -> Job:
    """The job in its final state."""
    if not status.is_final:
        raise ValueError(f"{status} is not a final state")
    return replace(job, status=status, finished_at=moment, outputs=outputs, error=error, lease_owner="", lease_until=0)


def requeued(job: Job, *, moment: int, delay: float = 0.0) -> Job:
    """The job back in the queue, to be started not before `delay` seconds from now."""
    return replace(
        job,
        status=Status.QUEUED,
        lease_owner="",
        lease_until=0,
        started_at=None,
        progress=None,
        available_at=moment + int(delay * MICROSECONDS) if delay else 0,
    )


def retry_delay(attempts: int) -> float:
    """Seconds to wait after attempt number `attempts` (from 1) before the next."""
    return min(RETRY_DELAY_SECONDS * 2.0 ** max(attempts - 1, 0), RETRY_DELAY_LIMIT_SECONDS)


def after_loss(job: Job, *, max_attempts: int, moment: int, error: JobError, delay: float = 0.0) -> Job:
    """What becomes of a job whose worker or engine was lost: back to the queue, or failed after the last attempt."""
    if job.cancel_requested:
        return finished(job, Status.CANCELLED, moment=moment)
    if job.attempts >= max_attempts:
        return finished(job, Status.FAILED, moment=moment, error=error)
    return requeued(job, moment=moment, delay=delay)


def rfc3339(moment: int | None) -> str | None:
    """``2026-11-22T15:04:05.123456Z``; None stays None."""
    if moment is None:
        return None
    return datetime.fromtimestamp(moment / MICROSECONDS, tz=UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def artifact_id(job: Job, place: int) -> str:
    """The id of the job's output number `place`; the job's own id is in it, so the owner of one is the other's."""
    return f"{job.id}-{place}"


def job_json(job: Job, *, base: str = "", queue_position: int | None = None) -> dict[str, Any]:
    """A job as callers see it (DESIGN, "api/"); `base` comes before every link's path."""
    links = {
        "self": f"{base}/jobs/{job.id}",
        "events": f"{base}/jobs/{job.id}/events",
        "cancel": f"{base}/jobs/{job.id}/cancel",
    }
    return {
        "id": job.id,
        "status": job.status.value,
        "created_at": rfc3339(job.created_at),
        "started_at": rfc3339(job.started_at),
        "finished_at": rfc3339(job.finished_at),
        "attempts": job.attempts,
        "queue_position": queue_position if job.status is Status.QUEUED else None,
        "progress": job.progress.to_json() if job.progress is not None else None,
        "inputs": {
            **job.values,
            **{
                name: {
                    "filename": file.filename,
                    "media_type": file.media_type,
                    "size": file.size,
                    "sha256": file.sha256,
                }
                for name, file in job.files.items()
            },
        },
        "outputs": [
            {
                "name": output.name,
                "index": output.index,
                "artifact": artifact_id(job, place),
                "url": f"{base}/artifacts/{artifact_id(job, place)}",
                "media_type": output.file.media_type,
                "size": output.file.size,
                "sha256": output.file.sha256,
            }
            for place, output in enumerate(job.outputs)
        ],
        "error": job.error.to_json() if job.error is not None else None,
        "links": links,
    }
