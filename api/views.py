"""The JSON that the service answers, as pydantic models: for the documentation only, the answers are made by
`jobs.py`."""

from __future__ import annotations

from datetime import datetime
from typing import Any, Literal

from pydantic import BaseModel, Field

StatusName = Literal["queued", "running", "succeeded", "failed", "cancelled"]


class ProgressView(BaseModel):
    """How far a running job is."""

    value: float
    maximum: float
    node: str | None
    title: str | None


class OutputView(BaseModel):
    """A file that a job produced."""

    name: str = Field(description="The interface's output.")
    index: int = Field(description="Counts the files of one output, from 0.")
    artifact: str
    url: str
    media_type: str
    size: int
    sha256: str


class ErrorView(BaseModel):
    """Why a job failed."""

    type: str
    title: str
    detail: str
    node_id: str | None
    class_type: str | None


class LinksView(BaseModel):
    """Where to go on."""

    self: str
    events: str
    cancel: str


class Job(BaseModel):
    """One request to run the workflow."""

    id: str
    status: StatusName
    created_at: datetime
    started_at: datetime | None
    finished_at: datetime | None
    attempts: int
    queue_position: int | None
    progress: ProgressView | None
    inputs: dict[str, Any]
    outputs: list[OutputView]
    error: ErrorView | None
    links: LinksView


class JobList(BaseModel):
    """A page of jobs, newest first."""

    jobs: list[Job]
    next: str | None = Field(description="The next page's address.")


class Upload(BaseModel):
    """A file sent ahead; give its id as a file parameter."""

    id: str
    kind: str
    filename: str
    media_type: str
    size: int
    sha256: str


class FaultView(BaseModel):
    """One fault of a request."""

    detail: str
    parameter: str | None = None
    pointer: str | None = None


class Problem(BaseModel):
    """RFC 9457 problem details."""

    type: str
    title: str
    status: int
    detail: str
    errors: list[FaultView] | None = None


class Live(BaseModel):
    """The process answers."""

    status: Literal["live"]


class WorkerView(BaseModel):
    """A worker and its engine."""

    name: str
    engine: str
    ready: bool
    running: int
    starts: int
    detail: str


class Ready(BaseModel):
    """Whether jobs would run now."""

    status: Literal["ready", "not ready"]
    workers: list[WorkerView]
    waiting: int
