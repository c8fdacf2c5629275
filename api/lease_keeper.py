"""Leases while they last: ours are renewed, those of dead processes are taken up. Their rules are in `leases`."""

from __future__ import annotations

import asyncio
import logging

from .events import EventLog
from .jobs import MICROSECONDS, JobError, after_loss, now
from .leases import Instance
from .problems import TITLES
from .store import JobStore
from .tickets import Tickets

logger = logging.getLogger(__name__)

LOST = JobError(
    type="worker-lost",
    title=TITLES["worker-lost"],
    detail="the service that ran the job ended before the job did, as often as is allowed",
)


class LeaseKeeper:
    """Renews this process's leases and recovers others'.

    Args:
        seconds: how long a lease lasts without being renewed.
    """

    def __init__(
        self, *, store: JobStore, instance: Instance, tickets: Tickets, events: EventLog, seconds: float, attempts: int
    ) -> None:
        self._store = store
        self._instance = instance
        self._tickets = tickets
        self._events = events
        self._attempts = attempts
        self.seconds = seconds

    def until(self, moment: int) -> int:
        """When a lease taken at a moment lapses, in microseconds."""
        return moment + int(self.seconds * MICROSECONDS)

    async def renew(self) -> None:
        """Renew the leases of what runs here; stop what was cancelled elsewhere, or is another's by now."""
        held = {ticket.job.id: ticket for ticket in self._tickets if ticket.task is not None and not ticket.timer}
        if not held:
            return
        renewal = await self._store.renew(
            {job_id: ticket.job.lease_number for job_id, ticket in held.items()},
            until=self.until(now()),
            progress={job_id: ticket.progress for job_id, ticket in held.items() if ticket.progress is not None},
        )
        for job_id, ticket in held.items():
            if ticket.task is None:
                continue
            if job_id in renewal.cancel_requested and not ticket.cancelled:
                ticket.cancelled = True
                ticket.interrupt()
            elif job_id not in renewal.held and ticket.job.position:
                logger.warning("job %s: another process has its lease; this run is dropped", job_id)
                ticket.interrupt()

    async def recover(self) -> None:
        """Put back the jobs whose process is dead or whose lease lapsed."""
        owners = await self._store.lease_owners()
        dead = await asyncio.to_thread(self._instance.dead, owners)
        moment = now()
        for job in await self._store.lapsed(moment=moment, dead_owners=dead):
            ticket = self._tickets.get(job.id)
            if ticket is not None and ticket.task is not None:
                continue
            after = after_loss(job, max_attempts=self._attempts, moment=moment, error=LOST)
            if await self._store.settle(after, lease_number=job.lease_number):
                logger.warning(
                    "job %s: its worker is gone after attempt %d; now %s", job.id, job.attempts, after.status
                )
                if after.status.is_final:
                    self._tickets.finish(after)
                else:
                    self._events.status(after)
        await asyncio.to_thread(self._instance.sweep, await self._store.lease_owners())
