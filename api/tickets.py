"""What this process has in hand: a ticket for each job that runs here, waits here, or that someone here waits for."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from dataclasses import dataclass, field

from .errors import ServiceError
from .events import EventLog
from .execution import Prepared, Results
from .jobs import Job, JobProgress


@dataclass(slots=True, eq=False)
class Ticket:
    """A job that this process has to do with: it runs here, waits here, or someone here waits for it.

    Attributes:
        end: done when the job is final, or `failure` says why nobody will learn more here.
        data: bytes of small outputs by their place, until the ticket is let go.
    """

    job: Job
    prepared: Prepared | None = None
    end: asyncio.Future[None] = field(default_factory=lambda: asyncio.get_running_loop().create_future())
    failure: ServiceError | None = None
    data: dict[int, bytes] = field(default_factory=dict)
    progress: JobProgress | None = None
    task: asyncio.Task[None] | None = None  # from the lease to the end's commit; never cancelled
    run: asyncio.Task[Results] | None = None  # the engine's part of it
    cancelled: bool = False  # a caller wants it ended
    interrupted: bool = False  # it shall stop, for that or another reason
    timer: asyncio.TimerHandle | None = None  # to the insert, while nothing of the job is written down
    committed: asyncio.Future[bool] | None = None  # the insert, where the run did not wait for it

    def interrupt(self) -> None:
        """Stop the engine's part; what is being written down already is left to end."""
        self.interrupted = True
        if self.run is not None:
            self.run.cancel()


class Tickets:
    """The tickets by their jobs' ids. One whose job ended is let go, unless the service stops."""

    def __init__(self, events: EventLog) -> None:
        self._events = events
        self._held: dict[str, Ticket] = {}
        self.kept = False
        """The service stops: what ends from now on stays, for those who still ask."""

    def __iter__(self) -> Iterator[Ticket]:
        return iter(tuple(self._held.values()))

    def get(self, job_id: str) -> Ticket | None:
        """The ticket of a job; None where this process has nothing to do with it."""
        return self._held.get(job_id)

    def open(self, job: Job, prepared: Prepared | None = None) -> Ticket:
        """The ticket of a job, a new one where there is none; that of a final job is at its end and is not held."""
        ticket = self._held.get(job.id)
        if ticket is None:
            ticket = Ticket(job=job, prepared=prepared)
            if job.status.is_final:
                ticket.end.set_result(None)
                return ticket
            self._held[job.id] = ticket
        return ticket

    def finish(self, job: Job) -> None:
        """A job is final: tell everyone here."""
        self._events.status(job)
        ticket = self._held.get(job.id)
        if ticket is not None:
            ticket.job = job
            self.end(ticket, None)

    def end(self, ticket: Ticket, failure: ServiceError | None) -> None:
        """Nobody will learn more of the job here; `failure` says why, where it is not final."""
        ticket.failure = failure
        if not ticket.end.done():
            ticket.end.set_result(None)
        if self._held.get(ticket.job.id) is ticket and not self.kept:
            del self._held[ticket.job.id]
