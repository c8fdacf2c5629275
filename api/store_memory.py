"""Jobs in dictionaries: `JobStore` for tests and for trying things out. Nothing survives the process."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace

from .jobs import Job, JobProgress, Status, finished, leased
from .store import Inserted, Renewal, Upload
from .store_sql import key_conflict


class MemoryStore:
    """See `JobStore`; the same rules as the SQL one."""

    def __init__(self) -> None:
        self.jobs: dict[str, Job] = {}
        self.uploads: dict[str, Upload] = {}
        self._positions = 0

    async def open(self) -> None:
        """Nothing to do."""

    async def close(self) -> None:
        """Nothing to do."""

    async def insert(self, job: Job) -> Inserted:
        """See `JobStore.insert`."""
        if job.idempotency_key is not None:
            for other in self.jobs.values():
                if (other.owner, other.idempotency_key) == (job.owner, job.idempotency_key):
                    if other.request_hash != job.request_hash:
                        raise key_conflict()
                    return Inserted(job=other, existing=True)
        self._positions += 1
        job = replace(job, position=self._positions)
        self.jobs[job.id] = job
        return Inserted(job=job, existing=False)

    async def claim(self, *, owner: str, until: int, moment: int) -> Job | None:
        """See `JobStore.claim`."""
        for job in self.jobs.values():  # in the order of arrival
            if job.status is Status.QUEUED and job.available_at <= moment:
                self.jobs[job.id] = leased(job, owner=owner, until=until, moment=moment)
                return self.jobs[job.id]
        return None

    async def settle(self, job: Job, *, lease_number: int) -> bool:
        """See `JobStore.settle`."""
        kept = self.jobs.get(job.id)
        if kept is None or kept.status is not Status.RUNNING or kept.lease_number != lease_number:
            return False
        self.jobs[job.id] = replace(job, position=kept.position, cancel_requested=kept.cancel_requested)
        return True

    async def renew(self, leases: Mapping[str, int], *, until: int, progress: Mapping[str, JobProgress]) -> Renewal:
        """See `JobStore.renew`."""
        held = set()
        for job_id, number in leases.items():
            job = self.jobs.get(job_id)
            if job is not None and job.status is Status.RUNNING and job.lease_number == number:
                self.jobs[job_id] = replace(job, lease_until=until, progress=progress.get(job_id, job.progress))
                held.add(job_id)
        cancel = frozenset(job_id for job_id in held if self.jobs[job_id].cancel_requested)
        return Renewal(held=frozenset(held), cancel_requested=cancel)

    async def cancel(self, job_id: str, *, owner: str | None, moment: int) -> Job | None:
        """See `JobStore.cancel`."""
        job = self.jobs.get(job_id)
        if job is None or (owner is not None and job.owner != owner):
            return None
        if job.status is Status.QUEUED:
            job = finished(replace(job, cancel_requested=True), Status.CANCELLED, moment=moment)
        elif job.status is Status.RUNNING:
            job = replace(job, cancel_requested=True)
        self.jobs[job_id] = job
        return job

    async def lapsed(self, *, moment: int, dead_owners: Collection[str] = ()) -> Sequence[Job]:
        """See `JobStore.lapsed`."""
        return [
            job
            for job in self.jobs.values()
            if job.status is Status.RUNNING and (job.lease_until < moment or job.lease_owner in dead_owners)
        ]

    async def lease_owners(self) -> frozenset[str]:
        """See `JobStore.lease_owners`."""
        return frozenset(job.lease_owner for job in self.jobs.values() if job.status is Status.RUNNING)

    async def get(self, job_id: str) -> Job | None:
        """See `JobStore.get`."""
        return self.jobs.get(job_id)

    async def list(
        self, *, owner: str, status: Status | None = None, before: int | None = None, limit: int = 50
    ) -> Sequence[Job]:
        """See `JobStore.list`."""
        found = [
            job
            for job in reversed(self.jobs.values())
            if job.owner == owner and status in {None, job.status} and (before is None or job.position < before)
        ]
        return found[:limit]

    async def queue_position(self, job: Job) -> int:
        """See `JobStore.queue_position`."""
        queued = [other for other in self.jobs.values() if other.status is Status.QUEUED]
        return sum(other.position < job.position for other in queued) + 1

    async def counts(self) -> Mapping[Status, int]:
        """See `JobStore.counts`."""
        return Counter(job.status for job in self.jobs.values())

    async def add_upload(self, upload: Upload) -> None:
        """See `JobStore.add_upload`."""
        self.uploads[upload.id] = upload

    async def get_upload(self, upload_id: str, *, owner: str) -> Upload | None:
        """See `JobStore.get_upload`."""
        upload = self.uploads.get(upload_id)
        return upload if upload is not None and upload.owner == owner else None

    async def forget(self, *, before: int) -> int:
        """See `JobStore.forget`."""
        jobs = [job.id for job in self.jobs.values() if job.finished_at is not None and job.finished_at < before]
        uploads = [upload.id for upload in self.uploads.values() if upload.created_at < before]
        for job_id in jobs:
            del self.jobs[job_id]
        for upload_id in uploads:
            del self.uploads[upload_id]
        return len(jobs) + len(uploads)

    async def digests(self) -> frozenset[str]:
        """See `JobStore.digests`."""
        found = {upload.file.sha256 for upload in self.uploads.values()}
        for job in self.jobs.values():
            found.update(file.sha256 for file in job.files.values())
            found.update(output.file.sha256 for output in job.outputs)
        return frozenset(found)
