"""What happens to a job, as a stream that a reader can leave and take up again.

An event's id is ``<lease>-<count>``: the job's lease number and the event's place under that lease. The ids of the
states
follow from the job's row alone (``0-1`` queued, ``3-1`` running under lease 3, ``3-requeued``, ``3-end``), so a stream
taken up after the service was started again goes on without telling a state twice. Progress and previews live in
memory:
those of an attempt that died with its service are not told again.
"""

from __future__ import annotations

import asyncio
import base64
import json
import re
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from .jobs import Job, Status

Id = tuple[int, int]

REQUEUED = 1_000_000_000  # the count of the event that ends a lease without an end of the job
END = 2_000_000_000  # the count of a job's last event
EVENTS_KEPT = 4096  # of one job; beyond that the oldest progress goes, states never do
ENDED_KEPT = 512  # jobs whose events stay in memory after their end

_WORDS = {REQUEUED: "requeued", END: "end"}
_ID = re.compile(r"(\d{1,9})-(\d{1,9}|requeued|end)", re.ASCII)


@dataclass(frozen=True, kw_only=True, slots=True)
class JobEvent:
    """One event: `kind` is "status", "progress" or "preview"."""

    id: Id
    kind: str
    data: dict[str, Any]

    @property
    def is_last(self) -> bool:
        """Whether no event follows."""
        return self.id[1] == END

    def encode(self) -> bytes:
        """In the format of server-sent events (WHATWG HTML, 9.2)."""
        data = json.dumps(self.data, ensure_ascii=True, separators=(",", ":"))
        return f"id: {spell(self.id)}\nevent: {self.kind}\ndata: {data}\n\n".encode("ascii")


HEARTBEAT = b": still here\n\n"


def spell(event_id: Id) -> str:
    """The id as a stream carries it."""
    lease, count = event_id
    return f"{lease}-{_WORDS.get(count, count)}"


def parse_id(text: str) -> Id | None:
    """The id that `spell` wrote; None for anything else."""
    match = _ID.fullmatch(text)
    if match is None:
        return None
    count = match[2]
    return int(match[1]), int(count) if count.isdigit() else REQUEUED if count == "requeued" else END


def status_event(job: Job) -> JobEvent:
    """The event that tells the job's present state."""
    if job.status.is_final:
        event_id = (job.lease_number, END)
    elif job.status is Status.RUNNING:
        event_id = (job.lease_number, 1)
    else:
        event_id = (0, 1) if job.lease_number == 0 else (job.lease_number, REQUEUED)
    data: dict[str, Any] = {"id": job.id, "status": job.status.value, "attempts": job.attempts}
    if job.error is not None:
        data["error"] = job.error.to_json()
    if job.status is Status.SUCCEEDED:
        data["outputs"] = len(job.outputs)
    return JobEvent(id=event_id, kind="status", data=data)


def history(job: Job) -> list[JobEvent]:
    """The states that a job's row tells of: queued, running under each lease, queued again after each but the last."""

    def told(event_id: Id, status: Status, attempts: int) -> JobEvent:
        data = {"id": job.id, "status": status.value, "attempts": attempts}
        return JobEvent(id=event_id, kind="status", data=data)

    events = [told((0, 1), Status.QUEUED, 0)]
    for lease in range(1, job.lease_number + 1):
        events.append(told((lease, 1), Status.RUNNING, min(lease, job.attempts)))
        if lease < job.lease_number:
            events.append(told((lease, REQUEUED), Status.QUEUED, min(lease, job.attempts)))
    present = status_event(job)
    if present.id > events[-1].id:
        events.append(present)
    return events


@dataclass(slots=True)
class _Log:
    """The events of one job; readers wait on `changed` and read on from where they are."""

    events: list[JobEvent] = field(default_factory=list)
    count: int = 0  # of the last event that `EventLog.tell` numbered under the present lease
    lease: int = 0
    waiters: set[asyncio.Future[None]] = field(default_factory=set)
    ended: bool = False


class EventLog:
    """The events of the jobs that live in this process. Not for several threads."""

    def __init__(self, *, ended_kept: int = ENDED_KEPT) -> None:
        self._logs: dict[str, _Log] = {}
        self._ended: OrderedDict[str, None] = OrderedDict()
        self._ended_kept = ended_kept

    def begin(self, job: Job) -> None:
        """A job is known here from now on."""
        if job.id not in self._logs:
            log = self._logs[job.id] = _Log(events=history(job), lease=job.lease_number, count=1)
            log.ended = job.status.is_final
            if log.ended:
                self._retire(job.id)

    def known(self, job_id: str) -> bool:
        """Whether the job's events are kept here."""
        return job_id in self._logs

    def status(self, job: Job) -> None:
        """Tell the job's present state (once)."""
        log = self._logs.get(job.id)
        if log is None:
            self.begin(job)
            return
        event = status_event(job)
        if log.ended or event.id <= log.events[-1].id:
            return
        log.lease, log.count = job.lease_number, 1
        log.ended = event.is_last
        if log.ended:  # a preview is for watching; who comes later wants the result
            log.events = [kept for kept in log.events if kept.kind != "preview"]
        self._append(log, event)
        if log.ended:
            self._retire(job.id)

    def tell(self, job_id: str, kind: str, data: dict[str, Any]) -> None:
        """Tell progress or a preview of a running job."""
        log = self._logs.get(job_id)
        if log is None or log.ended:
            return
        log.count += 1
        if kind == "preview":  # the newest picture replaces the one before it
            log.events = [kept for kept in log.events if kept.kind != "preview"]
        elif len(log.events) >= EVENTS_KEPT:
            oldest = next(place for place, kept in enumerate(log.events) if kept.kind != "status")
            del log.events[oldest]
        self._append(log, JobEvent(id=(log.lease, log.count), kind=kind, data=data))

    def preview(self, job_id: str, node: str | None, media_type: str, data: bytes) -> None:
        """Tell a preview picture."""
        picture = base64.b64encode(data).decode("ascii")
        self.tell(job_id, "preview", {"node": node, "media_type": media_type, "data": picture})

    def after(self, job_id: str, last: Id | None) -> Sequence[JobEvent]:
        """The events after `last` (all of them where it is None)."""
        log = self._logs.get(job_id)
        if log is None:
            return ()
        if last is None:
            return tuple(log.events)
        place = len(log.events)
        while place and log.events[place - 1].id > last:
            place -= 1
        return tuple(log.events[place:])

    async def changed(self, job_id: str, last: Id | None, *, seconds: float) -> bool:
        """Wait until there is an event after `last`; False when `seconds` passed without one."""
        log = self._logs.get(job_id)
        if log is None:
            return True
        if log.events and (last is None or log.events[-1].id > last):
            return True
        waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        log.waiters.add(waiter)
        try:
            async with asyncio.timeout(seconds):
                await waiter
        except TimeoutError:
            return False
        finally:
            log.waiters.discard(waiter)
        return True

    def _append(self, log: _Log, event: JobEvent) -> None:
        log.events.append(event)
        waiters, log.waiters = log.waiters, set()
        for waiter in waiters:
            if not waiter.done():
                waiter.set_result(None)

    def _retire(self, job_id: str) -> None:
        """Keep only so many ended jobs; a reader in the middle of one goes on from its row."""
        self._ended[job_id] = None
        while len(self._ended) > self._ended_kept:
            oldest, _ = self._ended.popitem(last=False)
            self._logs.pop(oldest, None)
