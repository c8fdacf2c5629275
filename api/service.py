"""`Service`: one bundle as an HTTP service. Puts the parts together; `app.py` gives them addresses."""

from __future__ import annotations

import asyncio
import hashlib
import logging
from collections.abc import Awaitable, Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_type_hints

import platformdirs
from pydantic import BaseModel

from ..engines import Checking, Engine, EngineError, InvalidPrompt
from ..graph import BindError, InputRef, Interface, Prompt, bind, input_files
from ..packer import Bundle
from .artifacts import ArtifactStore
from .bodies import BodyLimits
from .dispatch import Dispatcher
from .errors import ServiceError, StoreError
from .events import EventLog
from .execution import Execution, Prepared
from .images import ImageGuard
from .jobs import MICROSECONDS, Job, StoredFile, new_id, now, request_hash
from .leases import Instance
from .models import InputsReader, drawn, fault_of
from .problems import invalid_inputs
from .settings import Settings
from .store import JobStore
from .store_sql import SQLStore
from .tickets import Ticket
from .uploads import FileTaker

if TYPE_CHECKING:
    from fastapi import FastAPI
    from starlette.responses import Response

    from .calls import Call

logger = logging.getLogger(__name__)

RETENTION_PAUSE_SECONDS = 600.0  # between two looks for what is too old
FILE_THREADS = 4

EngineFactory = Callable[[int], Engine]
Handler = Callable[[Any, "Call"], Awaitable["Response"]]


class Service:
    """A bundle (a workflow or a prompt do too), its engines and its jobs.

    Args:
        bundle: an opened `Bundle`, or the path of a bundle, workflow or prompt.
        settings: `Settings()` where None: from the environment and the configuration file.
        engine: an engine, or what makes one for each worker (called with the worker's number); from the settings
            where None.
        store: where jobs are kept; by the settings where None.

    Raises:
        PackerError, GraphError: the bundle cannot be read.
    """

    def __init__(
        self,
        bundle: Bundle | str | Path,
        *,
        settings: Settings | None = None,
        engine: Engine | EngineFactory | None = None,
        store: JobStore | None = None,
    ) -> None:
        self.bundle = bundle if isinstance(bundle, Bundle) else Bundle.open(bundle)
        self.settings = settings if settings is not None else Settings()
        self.interface: Interface = self.bundle.interface
        self.inputs = InputsReader(self.interface)
        self.limits = BodyLimits(
            size=self.settings.max_body_bytes, seconds=self.settings.body_seconds, parts=self.settings.max_parts
        )
        self.handler: Handler | None = None
        self.data_dir = self.settings.data_dir or default_data_dir(self.bundle)
        self.artifacts = ArtifactStore(self.data_dir / "files")
        self.events = EventLog()
        self.store: JobStore = store if store is not None else self._make_store()
        self._threads = ThreadPoolExecutor(FILE_THREADS, thread_name_prefix="atelier-file")
        self.guard = ImageGuard(
            max_pixels=self.settings.max_image_pixels,
            max_side=self.settings.max_image_side,
            seconds=self.settings.image_seconds,
            processes=self.settings.image_processes,
        )
        self.files = FileTaker(
            interface=self.interface,
            store=self.store,
            artifacts=self.artifacts,
            guard=self.guard,
            threads=self._threads,
        )
        self._instance = Instance(self.data_dir / "instances")
        self._engine = engine
        self._dispatcher: Dispatcher | None = None
        self._bundle_inputs: Mapping[str, Path] = {}
        self._tasks: list[asyncio.Task[None]] = []

    @cached_property
    def app(self) -> FastAPI:
        """The ASGI application; its lifespan starts and stops the service."""
        from .app import create_app

        return create_app(self)

    def generate(self, handler: Handler) -> Handler:
        """Decorator: ``POST /generate`` is answered by this coroutine function of (inputs, call).

        The annotation of its first parameter, a pydantic model, is what the route takes and documents.
        """
        hints = get_type_hints(handler)
        model = next((hint for name, hint in hints.items() if name != "return"), None)
        if not (isinstance(model, type) and issubclass(model, BaseModel)):
            raise TypeError("the first parameter of a generate function must be annotated with a pydantic model")
        self.inputs = InputsReader(self.interface, model)
        self.handler = handler
        return handler

    @property
    def dispatcher(self) -> Dispatcher:
        """The dispatcher of a started service."""
        if self._dispatcher is None:
            raise ServiceError("the service is not started", remedy="let the application's lifespan run")
        return self._dispatcher

    @property
    def started(self) -> bool:
        """Whether it takes jobs."""
        return self._dispatcher is not None

    @property
    def stopping(self) -> bool:
        """Whether it is about to end."""
        return self._dispatcher is None or self._dispatcher.stopping

    # --- life -------------------------------------------------------------------------------------------------------

    async def start(self) -> None:
        """Open the store, take up unfinished jobs, start the engines (in the background).

        Raises:
            StoreError: the data folder or the database cannot be used.
            InvalidPrompt: the engine lacks what the bundle's prompt needs: node classes, model files, tokenizers.
        """
        try:
            self.data_dir.mkdir(parents=True, exist_ok=True)
            self._instance.open()
            self._bundle_inputs = await asyncio.to_thread(self._extract_inputs)
        except OSError as error:
            raise StoreError(
                f"the data folder {self.data_dir} cannot be used: {error.strerror or error}",
                remedy="choose another by --data-dir or ATELIER_DATA_DIR",
            ) from error
        engines = self._make_engines()
        await self._check(engines[0])
        await self.store.open()
        dispatcher = Dispatcher(
            store=self.store,
            events=self.events,
            execution=Execution(
                outputs=self.interface.outputs, artifacts=self.artifacts, events=self.events, threads=self._threads
            ),
            engines=engines,
            instance=self._instance,
            prepare=self.prepare,
            lease_seconds=self.settings.lease_seconds,
            max_attempts=self.settings.max_attempts,
            max_queue=self.settings.max_queue,
            shutdown_seconds=self.settings.shutdown_seconds,
        )
        await dispatcher.start()
        self._dispatcher = dispatcher
        if self.settings.retention_hours:
            self._tasks.append(asyncio.create_task(self._forget_old()))
        if any(parameter.type in {"image", "mask"} for parameter in self.interface.parameters):
            self._tasks.append(asyncio.create_task(self.guard.warm()))

    def begin_stop(self) -> None:
        """Take no more jobs and end event streams; `stop` does the rest."""
        if self._dispatcher is not None:
            self._dispatcher.begin_stop()

    async def stop(self) -> None:
        """Let running jobs end for a while, put the others back, close everything."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._tasks.clear()
        if self._dispatcher is not None:
            await self._dispatcher.stop()
        await self.guard.close()
        await self.store.close()
        self._threads.shutdown(wait=True)
        self._instance.close()

    def _make_store(self) -> JobStore:
        return SQLStore(
            self.settings.database_url, path=None if self.settings.database_url else self.data_dir / "jobs.sqlite"
        )

    def _make_engines(self) -> list[Engine]:
        engine = self._engine
        if engine is None:
            from ..engines import EngineConfig, create_engine

            config = EngineConfig(
                comfyui=self.settings.comfyui,
                comfyui_python=self.settings.comfyui_python,
                models_dirs=self.settings.models,
            )
            workers = self.settings.workers
            return [create_engine(config, worker=number, workers=workers) for number in range(workers)]
        if isinstance(engine, Engine):
            return [engine]
        return [engine(number) for number in range(self.settings.workers)]

    async def _check(self, engine: Engine) -> None:
        """Ask an engine that can tell whether the prompt can run; what else fails, its worker tries again."""
        if not isinstance(engine, Checking):
            return
        files = {ref for parameter in self.interface.parameters if parameter.type.is_file for ref in parameter.targets}
        files |= {file.ref for file in input_files(self.bundle.prompt, self.bundle.schemas)}
        try:
            await engine.check(self.bundle.prompt, given=files)
        except InvalidPrompt:
            await engine.close()
            raise
        except EngineError as error:
            logger.warning("the prompt cannot be checked yet: %s", error)

    def _extract_inputs(self) -> Mapping[str, Path]:
        return self.bundle.extract_inputs(self.data_dir / "inputs") if self.bundle.inputs else {}

    async def _forget_old(self) -> None:
        while True:
            await asyncio.sleep(RETENTION_PAUSE_SECONDS)
            try:
                before = now() - int(self.settings.retention_hours * 3600 * MICROSECONDS)
                await self.store.forget(before=before)
                used = await self.store.digests()
                await asyncio.to_thread(self.artifacts.sweep, used)
            except (ServiceError, OSError) as error:
                logger.warning("old jobs cannot be deleted: %s", error)

    # --- jobs -------------------------------------------------------------------------------------------------------

    def prepare(self, job: Job) -> Prepared:
        """What an engine gets for the job.

        Raises:
            BindError: the inputs do not fit the interface.
        """
        values: dict[str, Any] = dict(job.values)
        values.update({name: self.artifacts.where(file) for name, file in job.files.items()})
        bound = bind(self.bundle.prompt, self.interface, values, schemas=self.bundle.schemas)
        return Prepared(prompt=bound.prompt, files={**self._own_files(bound.prompt, bound.files), **bound.files})

    def _own_files(self, prompt: Prompt, given: Mapping[InputRef, Path]) -> dict[InputRef, Path]:
        """The bundle's own files among those that the prompt reads."""
        if not self._bundle_inputs:
            return {}
        read = input_files(prompt, self.bundle.schemas)
        return {
            file.ref: self._bundle_inputs[file.name]
            for file in read
            if file.ref not in given and file.name in self._bundle_inputs
        }

    async def submit(
        self,
        values: Mapping[str, Any],
        files: Mapping[str, StoredFile],
        *,
        owner: str = "",
        idempotency_key: str | None = None,
        durable: bool = True,
    ) -> tuple[Ticket, bool]:
        """Take a new job; see `Dispatcher.submit`.

        Raises:
            Problem: the inputs do not fit.
            ServiceError: nothing was taken.
        """
        moment = now()
        job = Job(
            id=new_id(moment),
            created_at=moment,
            owner=owner,
            values=drawn(self.interface, values),
            files=files,
            idempotency_key=idempotency_key,
            request_hash=request_hash(values, files) if idempotency_key is not None else "",
        )
        try:
            prepared = self.prepare(job)
        except BindError as error:
            raise invalid_inputs([fault_of(error)]) from error
        return await self.dispatcher.submit(job, prepared, durable=durable)

    async def job(self, job_id: str, *, owner: str) -> Job | None:
        """The owner's job."""
        ticket = self.dispatcher.ticket(job_id)
        job = ticket.job if ticket is not None and ticket.task is not None else await self.store.get(job_id)
        if job is None or job.owner != owner:
            return None
        return self.dispatcher.present(job)


def default_data_dir(bundle: Bundle) -> Path:
    """Where a bundle's jobs are kept unless a setting says otherwise: its own folder in the user's data."""
    place = str(bundle.path.resolve()) if bundle.path is not None else bundle.sha256
    name = "".join(c if c.isascii() and (c.isalnum() or c in "-_") else "-" for c in bundle.name)[:40] or "workflow"
    short = hashlib.sha256(place.encode("utf-8", "surrogateescape")).hexdigest()[:12]
    return platformdirs.user_data_path("comfy-atelier", appauthor=False) / "services" / f"{name}-{short}"
