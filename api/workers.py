"""Workers: each keeps one engine running. The dispatcher (`dispatch.py`) gives them jobs."""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Callable
from dataclasses import dataclass

from ..engines import Engine, EngineError

logger = logging.getLogger(__name__)

BACK_OFF_SECONDS = 0.5  # before the second try to start an engine; doubles with each
BACK_OFF_LIMIT_SECONDS = 15.0
HEALTH_SECONDS = 5.0  # between two looks at an idle engine
JITTER = random.SystemRandom()


@dataclass(frozen=True, kw_only=True, slots=True)
class WorkerState:
    """How a worker is, for ``/health/ready``."""

    name: str
    engine: str
    ready: bool
    running: int
    starts: int
    detail: str


class Worker:
    """Keeps an engine ready: starts it, looks after it, starts it again with back-off when it is lost.

    Args:
        changed: called whenever the worker may take a job that it could not take before.
    """

    def __init__(self, engine: Engine, *, name: str, changed: Callable[[Worker], None]) -> None:
        self.engine = engine
        self.name = name
        self.ready = False
        self.running = 0  # jobs that it has now, those being claimed included
        self.starts = 0
        self.detail = "the engine is starting"
        self._changed = changed
        self._lost = asyncio.Event()

    @property
    def has_room(self) -> bool:
        """Whether it can take another job now."""
        return self.ready and self.running < max(self.engine.concurrency, 1)

    @property
    def state(self) -> WorkerState:
        """How it is."""
        return WorkerState(
            name=self.name,
            engine=self.engine.name,
            ready=self.ready,
            running=self.running,
            starts=self.starts,
            detail=self.detail,
        )

    def lost(self, reason: str) -> None:
        """A job found the engine gone: take no more until it is there again."""
        self.ready = False
        self.detail = reason
        self._lost.set()

    def release(self) -> None:
        """A job has ended, or none was there to claim."""
        self.running -= 1
        self._changed(self)

    async def supervise(self) -> None:
        """Runs until it is cancelled."""
        pause = 0.0
        while True:
            if pause:
                await asyncio.sleep(pause * JITTER.uniform(0.75, 1.25))
            self._lost.clear()
            try:
                await self.engine.start()
            except EngineError as error:
                logger.warning("worker %s: %s", self.name, error)
                self.detail = str(error)
                pause = min(max(pause * 2, BACK_OFF_SECONDS), BACK_OFF_LIMIT_SECONDS)
                continue
            except Exception:
                logger.exception("worker %s: the engine failed to start", self.name)
                self.detail = "the engine failed to start; the service's log says why"
                pause = min(max(pause * 2, BACK_OFF_SECONDS), BACK_OFF_LIMIT_SECONDS)
                continue
            self.starts += 1
            self.ready = True
            self.detail = ""
            logger.info("worker %s: engine %s is ready", self.name, self.engine.name)
            self._changed(self)
            began = asyncio.get_running_loop().time()
            await self._watch()
            long_enough = asyncio.get_running_loop().time() - began > BACK_OFF_LIMIT_SECONDS
            pause = 0.0 if long_enough else min(max(pause * 2, BACK_OFF_SECONDS), BACK_OFF_LIMIT_SECONDS)

    async def _watch(self) -> None:
        """Return when the engine is lost; one with a job tells that itself."""
        while True:
            try:
                async with asyncio.timeout(HEALTH_SECONDS):
                    await self._lost.wait()
                return
            except TimeoutError:
                pass
            if self.running == 0 and not await self.engine.healthy() and self.running == 0:
                self.lost("the engine does not answer")
                logger.warning("worker %s: the engine does not answer", self.name)
                return
