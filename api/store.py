"""The job store's interface: everything durable goes through it. `store_sql.py` keeps it in a database,
`store_memory.py` in
dictionaries (for tests)."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from .jobs import Job, JobProgress, Status, StoredFile


@dataclass(frozen=True, kw_only=True, slots=True)
class Upload:
    """A file that a caller sent ahead of a job; `kind` is a `ParameterType` value: what it may be used for."""

    id: str
    owner: str
    kind: str
    file: StoredFile
    created_at: int


@dataclass(frozen=True, kw_only=True, slots=True)
class Inserted:
    """What `JobStore.insert` found: the job, and whether it was there before (same idempotency key, same inputs)."""

    job: Job
    existing: bool


@dataclass(frozen=True, kw_only=True, slots=True)
class Renewal:
    """What `JobStore.renew` found: the jobs still held, and those of them that a caller wants cancelled."""

    held: frozenset[str]
    cancel_requested: frozenset[str]


class JobStore(Protocol):
    """Durable jobs and uploads.

    Every method that writes returns after the write is durable and raises `StoreError` (`StoreFull` where space ran
    out)
    with nothing changed. Writes of a worker carry the lease number they were made under and change nothing when the
    job's lease is another by now.
    """

    async def open(self) -> None:
        """Get ready; creates what is missing."""

    async def close(self) -> None:
        """Finish what was handed in and let go."""

    async def insert(self, job: Job) -> Inserted:
        """Keep a new job (`position` is given here).

        Raises:
            IdempotencyConflict: the owner used the idempotency key before with another `request_hash`.
        """
        ...

    async def claim(self, *, owner: str, until: int, moment: int) -> Job | None:
        """Lease the job that waits longest and may start; None where there is none."""
        ...

    async def settle(self, job: Job, *, lease_number: int) -> bool:
        """Write the state that `job` has after a run; False (and nothing written) when it is not running under that
        lease."""
        ...

    async def renew(self, leases: Mapping[str, int], *, until: int, progress: Mapping[str, JobProgress]) -> Renewal:
        """Push the end of leases (job id to lease number) to `until`, and keep the progress of those named."""
        ...

    async def cancel(self, job_id: str, *, owner: str | None, moment: int) -> Job | None:
        """End a queued job, or note on a running one that its worker shall stop; the job as it is then."""
        ...

    async def lapsed(self, *, moment: int, dead_owners: Collection[str] = ()) -> Sequence[Job]:
        """Running jobs whose lease lapsed, or whose lease a process held that is known to be dead."""
        ...

    async def lease_owners(self) -> frozenset[str]:
        """Who holds leases now."""
        ...

    async def get(self, job_id: str) -> Job | None:
        """The job, whoever owns it."""
        ...

    async def list(
        self, *, owner: str, status: Status | None = None, before: int | None = None, limit: int = 50
    ) -> Sequence[Job]:
        """The owner's jobs, newest first, from positions below `before`."""
        ...

    async def queue_position(self, job: Job) -> int:
        """How many queued jobs come before this one, plus one."""
        ...

    async def counts(self) -> Mapping[Status, int]:
        """How many jobs are in each state (states without a job may be missing)."""
        ...

    async def add_upload(self, upload: Upload) -> None:
        """Keep an upload."""

    async def get_upload(self, upload_id: str, *, owner: str) -> Upload | None:
        """The owner's upload."""
        ...

    async def forget(self, *, before: int) -> int:
        """Delete final jobs that finished, and uploads that came, before a moment; how many went."""
        ...

    async def digests(self) -> frozenset[str]:
        """sha256 of every file that a job or upload refers to."""
        ...
