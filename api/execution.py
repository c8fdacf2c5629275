"""One run: drive an engine through a job's prompt, tell its events, keep what it produces."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..engines import (
    Cached,
    Cancelled,
    Engine,
    EngineError,
    EngineUnavailable,
    Finished,
    InvalidPrompt,
    NodeFailed,
    OutOfMemory,
    Preview,
    Produced,
    Progress,
    Started,
    UnknownNodes,
    WorkerLost,
)
from ..graph import BindError, InputRef, Output, Prompt
from .artifacts import ArtifactStore, clean_filename, extension
from .errors import ServiceError, StoreFull
from .events import EventLog
from .jobs import JobError, JobOutput, JobProgress, StoredFile
from .problems import TITLES

logger = logging.getLogger(__name__)

SMALL_BYTES = 256 * 1024  # files up to this are written at once, and flushed while the job's end is committed
PREVIEW_PAUSE_SECONDS = 0.1  # between two previews of one job
IN_MEMORY_BYTES = 32 * 1024 * 1024  # outputs of a job up to this in all are answered to a waiting caller from memory
DETAIL_LIMIT = 2000  # characters of an engine's message that callers see


@dataclass(frozen=True, kw_only=True, slots=True)
class Prepared:
    """What an engine gets for a job."""

    prompt: Prompt
    files: Mapping[InputRef, Path]


@dataclass(slots=True)
class Results:
    """What a run produced: outputs in the interface's order, and small ones' bytes by their place."""

    outputs: tuple[JobOutput, ...] = ()
    data: dict[int, bytes] = field(default_factory=dict)
    syncs: list[asyncio.Future[None]] = field(default_factory=list)  # small files on their way to the disk

    async def synced(self) -> None:
        """Return when every output is on the disk. Raises `StoreError`."""
        for sync in self.syncs:
            await sync


class Execution:
    """Runs jobs' prompts on engines.

    Args:
        outputs: the interface's outputs; what other nodes produce is not kept.
    """

    def __init__(
        self, *, outputs: tuple[Output, ...], artifacts: ArtifactStore, events: EventLog, threads: ThreadPoolExecutor
    ) -> None:
        self._names = {output.node: (place, output.name) for place, output in enumerate(outputs)}
        self._artifacts = artifacts
        self._events = events
        self._threads = threads

    async def run(
        self, engine: Engine, job_id: str, prepared: Prepared, *, progressed: Callable[[JobProgress], None]
    ) -> Results:
        """Run it to its end; cancelling this coroutine cancels the run.

        Raises:
            EngineError: the run failed.
            StoreError: an output could not be kept.
        """
        produced: list[_Kept] = []
        last_preview = 0.0
        titles = prepared.prompt.nodes
        try:
            async with contextlib.aclosing(engine.run(prepared.prompt, files=prepared.files)) as happened:  # type: ignore[type-var]  # engines give async generators
                async for event in happened:
                    match event:
                        case Started(node=node):
                            self._progress(job_id, titles, node, 0.0, 1.0, progressed)
                        case Progress(node=node, value=value, maximum=maximum):
                            self._progress(job_id, titles, node, value, maximum, progressed)
                        case Preview():
                            moment = time.monotonic()
                            if moment - last_preview >= PREVIEW_PAUSE_SECONDS:
                                last_preview = moment
                                self._events.preview(job_id, event.node, event.media_type, event.data)
                        case Produced():
                            if event.node in self._names:
                                produced.append(await self._keep(event))
                        case Cached():
                            pass
                        case Finished():
                            break
        except BaseException:
            for kept in produced:
                kept.drop()
            raise
        return self._collect(produced)

    def _progress(
        self,
        job_id: str,
        nodes: Mapping[str, Any],
        node: str,
        value: float,
        maximum: float,
        progressed: Callable[[JobProgress], None],
    ) -> None:
        known = nodes.get(node)
        title = (known.title or known.class_type) if known is not None else None
        progress = JobProgress(value=value, maximum=maximum, node=node, title=title)
        progressed(progress)
        self._events.tell(job_id, "progress", progress.to_json())

    async def _keep(self, event: Produced) -> _Kept:
        place, name = self._names[event.node]
        given = clean_filename(event.filename or "", fallback="")
        filename = given or f"{name}-{event.index}.{extension(event.media_type)}"
        loop = asyncio.get_running_loop()
        data = event.data
        if isinstance(data, bytes) and len(data) <= SMALL_BYTES:  # a thread would take longer than the writing
            file = self._artifacts.put(data, event.media_type, filename=filename)
            sync = loop.run_in_executor(self._threads, self._artifacts.sync, file)
            return _Kept(place=place, index=event.index, name=name, file=file, data=data, sync=sync)
        # A file is the engine's and may be gone after the next event, so this waits.
        file = await loop.run_in_executor(
            self._threads, lambda: self._artifacts.keep(data, event.media_type, filename=filename)
        )
        in_memory = data if isinstance(data, bytes) else None
        return _Kept(place=place, index=event.index, name=name, file=file, data=in_memory)

    @staticmethod
    def _collect(produced: list[_Kept]) -> Results:
        results = Results(syncs=[kept.sync for kept in produced if kept.sync is not None])
        outputs: list[JobOutput] = []
        counts: dict[str, int] = {}
        in_memory = 0
        for kept in sorted(produced, key=lambda kept: (kept.place, kept.index)):
            if kept.data is not None and in_memory + len(kept.data) <= IN_MEMORY_BYTES:
                in_memory += len(kept.data)
                results.data[len(outputs)] = kept.data
            outputs.append(JobOutput(name=kept.name, index=counts.get(kept.name, 0), file=kept.file))
            counts[kept.name] = counts.get(kept.name, 0) + 1
        results.outputs = tuple(outputs)
        return results


@dataclass(frozen=True, kw_only=True, slots=True)
class _Kept:
    """A produced file that is stored, or on its way to the disk."""

    place: int  # of its output in the interface
    index: int
    name: str
    file: StoredFile
    data: bytes | None
    sync: asyncio.Future[None] | None = None

    def drop(self) -> None:
        """Nobody will wait for it any more."""
        if self.sync is not None:
            self.sync.add_done_callback(lambda sync: sync.cancelled() or sync.exception())


def job_error(error: BaseException) -> JobError:
    """What a failed run's error says to the job's caller."""
    node_id = class_type = None
    match error:
        case EngineError():
            kind = _KINDS.get(type(error), "engine-error")
            node_id, class_type = error.node_id, error.class_type
            detail = f"{error.message}; {error.remedy}" if error.remedy else error.message
            if isinstance(error, InvalidPrompt) and len(error.errors) > 1:
                detail = f"{detail} (and {len(error.errors) - 1} more)"
        case BindError():
            kind, detail = "invalid-inputs", str(error)
        case StoreFull():
            kind, detail = "storage-full", str(error)
        case ServiceError():
            kind, detail = "unavailable", str(error)
        case _:
            logger.error("a job failed in a way that nobody foresaw", exc_info=error)
            kind, detail = "engine-error", "the engine failed in an unexpected way; the service's log says how"
    if len(detail) > DETAIL_LIMIT:
        detail = f"{detail[:DETAIL_LIMIT]}…"
    return JobError(type=kind, title=TITLES[kind], detail=detail, node_id=node_id, class_type=class_type)


_KINDS: dict[type[EngineError], str] = {
    InvalidPrompt: "invalid-prompt",
    UnknownNodes: "unknown-nodes",
    OutOfMemory: "out-of-memory",
    NodeFailed: "node-failed",
    WorkerLost: "worker-lost",
    EngineUnavailable: "engine-unavailable",
    Cancelled: "job-cancelled",
}
