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
        produced: list[tuple[int, int, str, asyncio.Future[StoredFile], bytes | None]] = []
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
                                place, name = self._names[event.node]
                                kept = self._keep(event, name)
                                in_memory = event.data if isinstance(event.data, bytes) else None
                                produced.append((place, event.index, name, kept, in_memory))
                                if in_memory is None:
                                    await kept  # the file is the engine's and may be gone after the next event
                        case Cached():
                            pass
                        case Finished():
                            break
            return await self._collect(produced)
        finally:
            for *_, kept, _data in produced:
                if not kept.done():
                    kept.cancel()
                elif not kept.cancelled():
                    kept.exception()  # looked at, so that nobody is told of an exception never retrieved

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

    def _keep(self, event: Produced, name: str) -> asyncio.Future[StoredFile]:
        given = clean_filename(event.filename or "", fallback="")
        filename = given or f"{name}-{event.index}.{extension(event.media_type)}"
        return asyncio.get_running_loop().run_in_executor(
            self._threads, lambda: self._artifacts.keep(event.data, event.media_type, filename=filename)
        )

    @staticmethod
    async def _collect(produced: list[tuple[int, int, str, asyncio.Future[StoredFile], bytes | None]]) -> Results:
        results = Results()
        outputs: list[JobOutput] = []
        counts: dict[str, int] = {}
        in_memory = 0
        for _, _, name, kept, data in sorted(produced, key=lambda item: item[:2]):
            file = await kept
            if data is not None and in_memory + len(data) <= IN_MEMORY_BYTES:
                in_memory += len(data)
                results.data[len(outputs)] = data
            outputs.append(JobOutput(name=name, index=counts.get(name, 0), file=file))
            counts[name] = counts.get(name, 0) + 1
        results.outputs = tuple(outputs)
        return results


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
