"""The dispatcher: takes jobs in, gives them to workers, writes down how they end.

A job that comes while a worker is idle is written as running at once (one commit less). Everything a worker writes
carries the number of its lease. What this process has in hand is answered from memory; the store is asked for the rest.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from dataclasses import replace

from ..engines import Engine, EngineError
from .errors import QueueFull, ServiceError, ShuttingDown, StoreError
from .events import EventLog
from .execution import Execution, Prepared, Results, job_error
from .jobs import (
    MICROSECONDS,
    Job,
    JobProgress,
    Status,
    after_loss,
    finished,
    leased,
    now,
    requeued,
    retry_delay,
)
from .lease_keeper import LeaseKeeper
from .leases import Instance
from .store import JobStore
from .tickets import Ticket, Tickets
from .workers import Worker

logger = logging.getLogger(__name__)

CANCEL_SECONDS = 2.0  # how long an answer to a cancellation waits for the job to stop
UNWRITTEN_SECONDS = 0.05  # how long the job of a waiting caller may run before it is written down
SETTLE_PAUSE_SECONDS = 1.0  # between two tries to write down how a job ended, while the store fails


class Dispatcher:
    """Jobs in, results out.

    Args:
        prepare: binds a job's inputs; raises `BindError`.
    """

    def __init__(
        self,
        *,
        store: JobStore,
        events: EventLog,
        execution: Execution,
        engines: Sequence[Engine],
        instance: Instance,
        prepare: Callable[[Job], Prepared],
        lease_seconds: float = 15.0,
        max_attempts: int = 3,
        max_queue: int = 1000,
        shutdown_seconds: float = 10.0,
    ) -> None:
        self._store = store
        self._events = events
        self._execution = execution
        self._instance = instance
        self._prepare = prepare
        self._max_attempts = max_attempts
        self._max_queue = max_queue
        self._shutdown_seconds = shutdown_seconds
        self.workers = [Worker(e, name=f"worker-{n}", changed=self._nudge) for n, e in enumerate(engines)]
        self._tickets = Tickets(events)
        self._leases = LeaseKeeper(
            store=store,
            instance=instance,
            tickets=self._tickets,
            events=events,
            seconds=lease_seconds,
            attempts=max_attempts,
        )
        self._waiting = 0  # jobs known to wait in the store; a guess that every claim and every look corrects
        self._look = asyncio.Event()  # there may be something to claim
        self._stopping = False
        self._tasks: set[asyncio.Task[None]] = set()
        self._runs: set[asyncio.Task[None]] = set()

    # --- life -------------------------------------------------------------------------------------------------------

    async def start(self) -> None:
        """Take up what a dead process left, then let the workers begin."""
        await self._leases.recover()
        await self._look_around()
        for work in (*(worker.supervise() for worker in self.workers), self._pump(), self._sweep()):
            task = asyncio.create_task(work)
            self._tasks.add(task)
        self._look.set()

    def begin_stop(self) -> None:
        """Take no more jobs; what runs may go on until `stop`."""
        self._stopping = self._tickets.kept = True

    async def stop(self) -> None:
        """Let running jobs end for a while, put the others back, close the engines."""
        self.begin_stop()
        if self._runs:
            await asyncio.wait(self._runs, timeout=self._shutdown_seconds)
        for ticket in self._tickets:
            ticket.interrupt()
        if self._runs:
            await asyncio.wait(self._runs, timeout=self._leases.seconds)
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for ticket in self._tickets:
            self._tickets.end(ticket, ShuttingDown("the service is stopping; the job goes on when it is started again"))
        await asyncio.gather(*(worker.engine.close() for worker in self.workers), return_exceptions=True)

    @property
    def stopping(self) -> bool:
        """Whether it takes no more jobs."""
        return self._stopping

    @property
    def waiting(self) -> int:
        """About how many jobs wait."""
        return self._waiting

    # --- jobs in ----------------------------------------------------------------------------------------------------

    async def submit(self, job: Job, prepared: Prepared, *, durable: bool) -> tuple[Ticket, bool]:
        """Take a new job; (its ticket, whether it was there before under its idempotency key).

        Args:
            durable: return only when the job is committed. A caller who waits for the end anyway is told nothing that
                would have to last: his job is written down when it ends, or after `UNWRITTEN_SECONDS` if it takes
                longer, which saves a short job one of its two commits.

        Raises:
            IdempotencyConflict, QueueFull, ShuttingDown, StoreError: nothing was taken.
        """
        if self._stopping:
            raise ShuttingDown("the service is stopping", remedy="send it again when it is back")
        if self._waiting >= self._max_queue:
            raise QueueFull(f"{self._waiting} jobs wait already", remedy="send it again later")
        worker = self._idle_worker() if self._waiting == 0 else None
        if worker is None:
            self._waiting += 1
            try:
                inserted = await self._store.insert(job)
            except BaseException:
                self._waiting -= 1
                raise
            if inserted.existing:
                self._waiting -= 1
                return self._tickets.open(inserted.job), True
            ticket = self._tickets.open(inserted.job, prepared)
            self._events.begin(inserted.job)
            self._look.set()
            return ticket, False
        worker.running += 1
        moment = now()
        running = leased(job, owner=self._instance.name, until=self._leases.until(moment), moment=moment)
        if durable or job.idempotency_key is not None:
            try:
                inserted = await self._store.insert(running)
            except BaseException:
                worker.release()
                raise
            if inserted.existing:
                worker.release()
                return self._tickets.open(inserted.job), True
            ticket = self._tickets.open(inserted.job, prepared)
            self._begin_run(worker, ticket)
            return ticket, False
        ticket = self._tickets.open(running, prepared)
        ticket.timer = asyncio.get_running_loop().call_later(UNWRITTEN_SECONDS, self._write_down, ticket)
        self._begin_run(worker, ticket)
        return ticket, False

    def _write_down(self, ticket: Ticket) -> None:
        """Insert a job that runs already."""
        if ticket.timer is not None:
            ticket.timer.cancel()
            ticket.timer = None
            ticket.committed = asyncio.ensure_future(self._insert(ticket, ticket.job))

    async def _insert(self, ticket: Ticket, job: Job) -> bool:
        try:
            ticket.job = replace(ticket.job, position=(await self._store.insert(job)).job.position)
        except StoreError as error:
            self._tickets.end(ticket, error)
            ticket.interrupt()
            return False
        return True

    async def commit(self, ticket: Ticket) -> None:
        """Return when the job is durable. Raises `StoreError` where it cannot be made so; then it does not run
        either."""
        self._write_down(ticket)
        if ticket.committed is not None:
            await ticket.committed
        if ticket.failure is not None:
            raise ticket.failure

    def watch(self, job: Job) -> Ticket:
        """The ticket of a job that is not final, to wait for its end; it may run in another process."""
        return self._tickets.open(job)

    def ticket(self, job_id: str) -> Ticket | None:
        """The ticket of a job that this process has to do with."""
        return self._tickets.get(job_id)

    def present(self, job: Job) -> Job:
        """The job with what only this process knows of it: its progress."""
        ticket = self._tickets.get(job.id)
        if ticket is not None and ticket.progress is not None and job.status is Status.RUNNING:
            return replace(job, progress=ticket.progress)
        return job

    async def cancel(self, job_id: str, *, owner: str | None) -> Job | None:
        """End a job; None where the owner has none of that id. A running one's worker stops as soon as it can."""
        ticket = self._tickets.get(job_id)
        if ticket is not None and ticket.timer is not None and owner in {None, ticket.job.owner}:
            job: Job | None = ticket.job  # nothing of it is written down yet
        else:
            job = await self._store.cancel(job_id, owner=owner, moment=now())
        if job is None:
            return None
        if job.status is Status.RUNNING and ticket is not None and ticket.task is not None:
            ticket.cancelled = True
            ticket.interrupt()
            await asyncio.wait([ticket.task], timeout=CANCEL_SECONDS)
            return ticket.job
        if job.status is Status.CANCELLED:
            if ticket is not None and not ticket.job.status.is_final:
                self._waiting = max(0, self._waiting - 1)
            self._tickets.finish(job)
        return job

    # --- running ----------------------------------------------------------------------------------------------------

    def _idle_worker(self) -> Worker | None:
        """The worker with the fewest jobs among those that have room."""
        return min((worker for worker in self.workers if worker.has_room), key=lambda w: w.running, default=None)

    def _nudge(self, _worker: Worker) -> None:
        if self._waiting:
            self._look.set()

    async def _pump(self) -> None:
        """Claim waiting jobs for workers that have room."""
        while True:
            await self._look.wait()
            self._look.clear()
            while not self._stopping and (worker := self._idle_worker()) is not None:
                worker.running += 1
                moment = now()
                try:
                    job = await self._store.claim(
                        owner=self._instance.name, until=self._leases.until(moment), moment=moment
                    )
                except StoreError as error:
                    worker.running -= 1
                    logger.warning("no job can be claimed: %s", error)
                    asyncio.get_running_loop().call_later(SETTLE_PAUSE_SECONDS, self._look.set)
                    break
                if job is None:
                    worker.running -= 1
                    if not self._look.is_set():  # nobody handed one in meanwhile
                        self._waiting = 0
                    break
                self._waiting = max(0, self._waiting - 1)
                ticket = self._tickets.open(job)
                ticket.job = job
                self._begin_run(worker, ticket)

    def _begin_run(self, worker: Worker, ticket: Ticket) -> None:
        ticket.task = asyncio.create_task(self._run(worker, ticket))
        self._runs.add(ticket.task)
        ticket.task.add_done_callback(self._runs.discard)

    async def _run(self, worker: Worker, ticket: Ticket) -> None:
        job = ticket.job
        self._events.status(job)
        outcome, results = job, Results()
        try:
            outcome, results = await self._attempt(worker, ticket)
            if ticket.committed is not None:
                await ticket.committed
        finally:
            # The engine is done with this job: its next one may start while this one's end is written down.
            worker.release()
        if ticket.failure is not None:
            return
        if ticket.timer is not None:
            ticket.timer.cancel()
            ticket.timer = None
            await self._record(ticket, outcome, results)
        else:
            await self._settle(ticket, outcome, results)

    async def _attempt(self, worker: Worker, ticket: Ticket) -> tuple[Job, Results]:
        """Run the job once; what becomes of it."""
        job = ticket.job

        def progressed(progress: JobProgress) -> None:
            ticket.progress = progress

        if not ticket.interrupted:
            try:
                if ticket.prepared is None:
                    ticket.prepared = self._prepare(job)
            except Exception as error:
                return finished(job, Status.FAILED, moment=now(), error=job_error(error)), Results()
            running = self._execution.run(worker.engine, job.id, ticket.prepared, progressed=progressed)
            ticket.run = asyncio.create_task(running)
            await asyncio.wait([ticket.run])
        if ticket.run is None or ticket.run.cancelled():
            if ticket.cancelled:
                return finished(job, Status.CANCELLED, moment=now()), Results()
            # the service stops: the attempt does not count
            return replace(requeued(job, moment=now()), attempts=job.attempts - 1), Results()
        fault = ticket.run.exception()
        if fault is None:
            results = ticket.run.result()
            return finished(job, Status.SUCCEEDED, moment=now(), outputs=results.outputs), results
        return self._failed(worker, ticket, fault), Results()

    def _failed(self, worker: Worker, ticket: Ticket, error: BaseException) -> Job:
        """What becomes of a job whose run raised."""
        job = ticket.job
        if ticket.cancelled:
            return finished(job, Status.CANCELLED, moment=now())
        if not isinstance(error, EngineError) or not error.retryable:
            return finished(job, Status.FAILED, moment=now(), error=job_error(error))
        logger.warning("job %s, attempt %d: %s", job.id, job.attempts, error)
        worker.lost(str(error))
        delay = retry_delay(job.attempts)
        return after_loss(job, max_attempts=self._max_attempts, moment=now(), error=job_error(error), delay=delay)

    async def _record(self, ticket: Ticket, outcome: Job, results: Results) -> None:
        """Write down a job that ended before anything of it was written: one commit tells it all."""
        try:
            # Nobody knows of this job yet, so its files may reach the disk while its row does: both before it is told.
            inserted = await self._store.insert(outcome)
            await results.synced()
        except StoreError as error:
            self._tickets.end(ticket, error)
            return
        ticket.task = ticket.run = None
        self._ended(ticket, inserted.job, results)

    async def _settle(self, ticket: Ticket, outcome: Job, results: Results) -> None:
        """Write down how the run ended, as long as it takes; where the lease is lost, nothing is written."""
        try:
            await results.synced()
        except StoreError as error:
            outcome, results = finished(outcome, Status.FAILED, moment=now(), error=job_error(error)), Results()
        while True:
            try:
                written = await self._store.settle(outcome, lease_number=outcome.lease_number)
                break
            except StoreError as error:
                logger.warning("job %s: its end cannot be written down: %s", outcome.id, error)
                if self._stopping:
                    return
                await asyncio.sleep(SETTLE_PAUSE_SECONDS)
        ticket.task = ticket.run = None
        if not written:
            logger.warning("job %s: its lease was lost; what this run made is dropped", outcome.id)
            current = await self._store.get(outcome.id)
            if current is not None:
                ticket.job = current
                if current.status.is_final:
                    self._tickets.finish(current)
            return
        self._ended(ticket, replace(outcome, position=ticket.job.position), results)

    def _ended(self, ticket: Ticket, outcome: Job, results: Results) -> None:
        """A run's outcome is written down: tell it, or try again."""
        ticket.job = outcome
        ticket.interrupted = False
        if outcome.status.is_final:
            ticket.data = results.data
            self._tickets.finish(outcome)
            return
        self._events.status(ticket.job)
        self._waiting += 1
        pause = (outcome.available_at - now()) / MICROSECONDS if outcome.available_at else 0.0
        asyncio.get_running_loop().call_later(max(0.0, pause), self._look.set)

    # --- leases -----------------------------------------------------------------------------------------------------

    async def _sweep(self) -> None:
        """Renew our leases, take up lapsed ones, learn what other processes did."""
        while True:
            await asyncio.sleep(self._leases.seconds / 3)
            try:
                await self._leases.renew()
                await self._leases.recover()
                await self._look_around()
            except StoreError as error:
                logger.warning("leases cannot be looked after: %s", error)

    async def _look_around(self) -> None:
        """Correct our count of waiting jobs; jobs that others run and someone here waits for."""
        self._waiting = (await self._store.counts()).get(Status.QUEUED, 0)
        if self._waiting:
            self._look.set()
        for ticket in self._tickets:
            if ticket.task is None:
                job = await self._store.get(ticket.job.id)
                if job is None:
                    self._tickets.end(ticket, ServiceError("the job was deleted"))
                    continue
                ticket.job = job
                self._events.status(job)
                if job.status.is_final:
                    self._tickets.finish(job)
