"""The job store's tables, and how a job lies in a row."""

from __future__ import annotations

import json
from typing import Any

import sqlalchemy as sa

from .jobs import Job, JobError, JobOutput, JobProgress, Status, StoredFile

metadata = sa.MetaData()

_position = sa.BigInteger().with_variant(sa.Integer(), "sqlite")  # SQLite numbers rows by itself for INTEGER only

jobs = sa.Table(
    "jobs",
    metadata,
    sa.Column("position", _position, primary_key=True, autoincrement=True),
    sa.Column("id", sa.String(36), nullable=False, unique=True),
    sa.Column("owner", sa.String(64), nullable=False),
    sa.Column("status", sa.String(16), nullable=False),
    sa.Column("inputs", sa.Text, nullable=False),
    sa.Column("outputs", sa.Text, nullable=False),
    sa.Column("error", sa.Text),
    sa.Column("progress", sa.Text),
    sa.Column("attempts", sa.Integer, nullable=False),
    sa.Column("lease_owner", sa.String(128), nullable=False),
    sa.Column("lease_number", sa.Integer, nullable=False),
    sa.Column("lease_until", sa.BigInteger, nullable=False),
    sa.Column("available_at", sa.BigInteger, nullable=False),
    sa.Column("cancel_requested", sa.Boolean, nullable=False),
    sa.Column("created_at", sa.BigInteger, nullable=False),
    sa.Column("started_at", sa.BigInteger),
    sa.Column("finished_at", sa.BigInteger),
    sa.Column("idempotency_key", sa.String(255)),
    sa.Column("request_hash", sa.String(64), nullable=False),
    sa.UniqueConstraint("owner", "idempotency_key"),
    sa.Index("jobs_by_status", "status", "position"),
    sa.Index("jobs_by_owner", "owner", "position"),
    sqlite_autoincrement=True,  # a position is never given twice, not even after the newest rows were deleted
)

uploads = sa.Table(
    "uploads",
    metadata,
    sa.Column("id", sa.String(64), primary_key=True),
    sa.Column("owner", sa.String(64), nullable=False),
    sa.Column("kind", sa.String(16), nullable=False),
    sa.Column("file", sa.Text, nullable=False),
    sa.Column("created_at", sa.BigInteger, nullable=False),
)

FINAL = [status.value for status in Status if status.is_final]


def dump(value: Any) -> str:
    return json.dumps(value, ensure_ascii=True, separators=(",", ":"))


def state_row(job: Job) -> dict[str, Any]:
    """The columns that change in a job's life."""
    return {
        "status": job.status.value,
        "outputs": dump([output.to_json() for output in job.outputs]),
        "error": dump(job.error.to_json()) if job.error is not None else None,
        "progress": dump(job.progress.to_json()) if job.progress is not None else None,
        "attempts": job.attempts,
        "lease_owner": job.lease_owner,
        "lease_number": job.lease_number,
        "lease_until": job.lease_until,
        "available_at": job.available_at,
        "cancel_requested": job.cancel_requested,
        "started_at": job.started_at,
        "finished_at": job.finished_at,
    }


def job_row(job: Job) -> dict[str, Any]:
    inputs = {"values": dict(job.values), "files": {name: file.to_json() for name, file in job.files.items()}}
    return {
        "id": job.id,
        "owner": job.owner,
        "inputs": dump(inputs),
        "created_at": job.created_at,
        "idempotency_key": job.idempotency_key,
        "request_hash": job.request_hash,
        **state_row(job),
    }


def job_of(row: sa.RowMapping) -> Job:
    inputs = json.loads(row["inputs"])
    return Job(
        id=row["id"],
        position=row["position"],
        owner=row["owner"],
        status=Status(row["status"]),
        values=inputs["values"],
        files={name: StoredFile.from_json(file) for name, file in inputs["files"].items()},
        outputs=tuple(JobOutput.from_json(output) for output in json.loads(row["outputs"])),
        error=JobError.from_json(json.loads(row["error"])) if row["error"] else None,
        progress=JobProgress(**json.loads(row["progress"])) if row["progress"] else None,
        attempts=row["attempts"],
        lease_owner=row["lease_owner"],
        lease_number=row["lease_number"],
        lease_until=row["lease_until"],
        available_at=row["available_at"],
        cancel_requested=bool(row["cancel_requested"]),
        created_at=row["created_at"],
        started_at=row["started_at"],
        finished_at=row["finished_at"],
        idempotency_key=row["idempotency_key"],
        request_hash=row["request_hash"],
    )


INSERT = sa.insert(jobs)
NEXT = (
    sa.select(jobs)
    .where(jobs.c.status == "queued", jobs.c.available_at <= sa.bindparam("moment"))
    .order_by(jobs.c.position)
    .limit(1)
    .with_for_update(skip_locked=True)  # PostgreSQL: two services never wait for, nor take, the same row
)
UPDATE = sa.update(jobs).where(jobs.c.position == sa.bindparam("b_position"))
SETTLE = sa.update(jobs).where(
    jobs.c.id == sa.bindparam("b_id"),
    jobs.c.status == "running",
    jobs.c.lease_number == sa.bindparam("b_lease_number"),
)
