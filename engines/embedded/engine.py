"""The caller's side of the embedded engine: starts the worker, hands it prompts, starts it again when it died."""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Collection, Mapping, Sequence
from pathlib import Path
from typing import IO, Any

from ...graph.markers import is_marker
from ...graph.prompt import InputRef, Prompt
from ...graph.schemas import NodeSchema, NodeSchemas
from ..errors import EngineError, EngineUnavailable, WorkerLost
from ..events import Event, Finished, Produced
from . import frames, wire
from .cache import DEFAULT_BYTES
from .demo.weights import MODELS as DEMO_MODELS
from .registry import CLASSES, SCHEMAS_OF, lacking

START_SECONDS = 120.0  # a cold disk can take that long to give Python and our modules
CANCEL_SECONDS = 10.0  # a node that does not look up for that long is ended with its process
CLOSE_SECONDS = 5.0
PING_SECONDS = 2.0
STEADY_SECONDS = 5.0  # of life after which an end is not held against the next start
KEPT_LOGS = 20


# Outputs of nodes that read model files.
MODEL_TYPES = frozenset({"MODEL", "CLIP", "VAE", "CLIP_VISION", "STYLE_MODEL", "CONTROL_NET", "UPSCALE_MODEL"})


def _gives_model(schema: NodeSchema | None) -> bool:
    return schema is not None and any(output.type in MODEL_TYPES for output in schema.outputs)


class EmbeddedEngine:
    """Runs prompts in a worker process of its own, without ComfyUI. See `engines.Engine`.

    Args:
        input_dir: where input files that are not handed in with a run are looked up by name.
        models_dirs: roots with ComfyUI's model folders (``checkpoints``, ``loras``…). The demonstration model is
            there without being asked for.
        comfyui_dir: a ComfyUI checkout: its ``models`` are searched last, and tokenizer files are read from it.
        cache_bytes: what the node cache may hold; by default ATELIER_CACHE_BYTES, else 1 GiB. 0 keeps nothing.
        metadata: whether saved pictures carry the prompt, as ComfyUI's do.
        device: "cpu", "cuda:1", the number of a CUDA device, "mps"; by default ATELIER_DEVICE, else the best there is.
        log_dir: where the worker's standard error goes; by default the user's log folder.
    """

    name = "embedded"
    concurrency = 2  # the next prompt waits in the worker's own queue, so the device is never idle between two

    def __init__(
        self,
        input_dir: Path | str | None = None,
        models_dirs: Sequence[Path | str] = (),
        *,
        comfyui_dir: Path | str | None = None,
        cache_bytes: int | None = None,
        metadata: bool = True,
        device: str | None = None,
        log_dir: Path | str | None = None,
    ) -> None:
        self._input_folder = None if input_dir is None else Path(input_dir).resolve()
        self._comfyui_folder = None if comfyui_dir is None else Path(comfyui_dir).resolve()
        own = () if self._comfyui_folder is None else (self._comfyui_folder / "models",)
        self._model_folders = (*(Path(folder).resolve() for folder in models_dirs), *own, DEMO_MODELS)
        self._cache_bytes = cache_bytes
        self._metadata = metadata
        self._device = device
        self._log_folder = None if log_dir is None else Path(log_dir)
        self._log_path: Path | None = None
        self._process: asyncio.subprocess.Process | None = None
        self._reader: asyncio.Task[None] | None = None
        self._folder: Path | None = None
        self._runs: dict[int, asyncio.Queue[tuple[dict[str, Any], bytes] | None]] = {}
        self._pings: dict[int, asyncio.Future[None]] = {}
        self._count = 0
        self._starting = asyncio.Lock()
        self._started_at = 0.0  # the clock of time.monotonic
        self._restart: asyncio.Task[None] | None = None
        self._closing = False
        self._schemas: NodeSchemas | None = None

    @property
    def log_path(self) -> Path | None:
        """The file that the worker's standard error goes to; None before the first start."""
        return self._log_path

    async def schemas(self) -> NodeSchemas:
        """The schemas of ComfyUI 0.33.0 for the classes that this engine has."""
        if self._schemas is None:
            table = await asyncio.to_thread(NodeSchemas.builtin, SCHEMAS_OF)
            self._schemas = NodeSchemas({name: table[name] for name in CLASSES if name in table}, version=SCHEMAS_OF)
        return self._schemas

    async def start(self) -> None:
        """Start the worker, unless it runs. Raises `EngineUnavailable` where it does not come up."""
        async with self._starting:
            if self._runs_already:
                return
            await self._discard()
            self._closing = False
            await self._launch()

    @property
    def _runs_already(self) -> bool:
        return self._process is not None and self._process.returncode is None and self._reader is not None

    async def _launch(self) -> None:
        try:
            self._folder = Path(tempfile.mkdtemp(prefix="atelier-embedded-"))
        except OSError as error:
            raise EngineUnavailable(
                f"the embedded engine's folder cannot be made: {error.strerror}", remedy="make room for temporary files"
            ) from error
        settings = {
            "type": "settings",
            "folder": str(self._folder),
            "input_folder": None if self._input_folder is None else str(self._input_folder),
            "model_folders": [str(folder) for folder in self._model_folders],
            "comfyui_folder": None if self._comfyui_folder is None else str(self._comfyui_folder),
            "cache_bytes": _cache_bytes(self._cache_bytes),
            "metadata": self._metadata,
        }
        with self._open_log() as log:
            try:
                # -P: a `torch.py` in the folder where the service was started is not meant
                self._process = await asyncio.create_subprocess_exec(
                    sys.executable,
                    "-P",
                    "-m",
                    f"{__package__}.worker",
                    stdin=asyncio.subprocess.PIPE,
                    stdout=asyncio.subprocess.PIPE,
                    stderr=log,
                    env=_environment(self._device),
                )
            except OSError as error:
                raise EngineUnavailable(f"the embedded engine's process cannot be started: {error}") from error
        stdin, stdout = _pipes(self._process)
        stdin.write(frames.pack(settings))
        try:
            answer = await asyncio.wait_for(frames.read_async(stdout), START_SECONDS)
        except TimeoutError as error:
            await self._discard()
            raise EngineUnavailable(
                f"the embedded engine was not ready after {START_SECONDS:.0f} s", remedy=self._see_log()
            ) from error
        except frames.FrameError as error:
            await self._discard()
            raise EngineUnavailable(f"the embedded engine did not start: {error}", remedy=self._see_log()) from error
        if answer is None or answer[0].get("type") != "ready":
            await self._discard()
            if answer is not None and answer[0].get("type") == "refused":
                raise wire.error_from_json(answer[0])
            raise EngineUnavailable("the embedded engine's process ended at its start", remedy=self._see_log())
        self._started_at = time.monotonic()
        self._reader = asyncio.create_task(self._listen(self._process, stdout), name="embedded engine")

    async def healthy(self) -> bool:
        """Whether the worker answers; it does so while a node runs."""
        process = self._process
        if process is None or process.returncode is not None or self._reader is None:
            return False
        self._count += 1
        number = self._count
        answer: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._pings[number] = answer
        try:
            async with asyncio.timeout(PING_SECONDS):
                self._send({"type": "ping", "ping": number})
                await answer
            return True
        except (TimeoutError, EngineError):
            return False
        finally:
            self._pings.pop(number, None)

    async def check(self, prompt: Prompt, *, given: Collection[InputRef] = ()) -> None:
        """See `engines.Checking.check`: classes, model files, families and tokenizers; looks at headers only.

        Raises:
            InvalidPrompt: something is missing (`UnknownNodes` where only classes are).
            EngineError: the worker cannot be asked.
        """
        schemas = await self.schemas()
        missing = lacking(node.class_type for node in prompt.nodes.values() if not is_marker(node.class_type))
        if not missing and not any(_gives_model(schemas.get(node.class_type)) for node in prompt.nodes.values()):
            return  # nothing that could be missing: the worker is not waited for
        await self.start()
        self._count += 1
        number = self._count
        inbox: asyncio.Queue[tuple[dict[str, Any], bytes] | None] = asyncio.Queue()
        self._runs[number] = inbox
        refs = [[ref.node, ref.input] for ref in given]
        try:
            await self._deliver({"type": "check", "run": number, "prompt": prompt.to_json(), "given": refs})
            frame = await inbox.get()
        finally:
            self._runs.pop(number, None)
        if frame is None:
            raise self._lost()
        if frame[0]["type"] == "error":
            raise wire.error_from_json(frame[0])
        if "fault" in frame[0]:
            raise EngineError(f"the embedded engine failed to look: {frame[0]['fault']}", remedy=self._see_log())

    async def run(self, prompt: Prompt, *, files: Mapping[InputRef, Path]) -> AsyncIterator[Event]:
        """Execute `prompt`; see `engines.Engine.run`. Large results are files that go when the iterator ends."""
        if not self._runs_already or self._starting.locked():
            await self.start()
        self._count += 1
        number = self._count
        inbox: asyncio.Queue[tuple[dict[str, Any], bytes] | None] = asyncio.Queue()
        self._runs[number] = inbox
        ended = left_files = False
        try:
            request = {
                "type": "run",
                "run": number,
                "prompt": prompt.to_json(),
                "files": [[ref.node, ref.input, str(Path(path).resolve())] for ref, path in files.items()],
            }
            await self._deliver(request)
            while not ended:
                frame = await inbox.get()
                if frame is None:
                    ended = True
                    raise self._lost()
                message, payload = frame
                if message["type"] == "error":
                    ended = left_files = True  # a file may have been made and not told of
                    raise wire.error_from_json(message)
                event = wire.event_from_json(_fields(message), payload)
                ended = isinstance(event, Finished)
                left_files = left_files or (isinstance(event, Produced) and isinstance(event.data, Path))
                yield event
        finally:
            if not ended:
                left_files = True
                await self._cancel(number, inbox)
            self._runs.pop(number, None)
            if left_files and self._folder is not None:
                shutil.rmtree(self._folder / f"run-{number}", ignore_errors=True)

    async def _deliver(self, message: dict[str, Any]) -> None:
        """Send and wait until the pipe has room again: prompts may be megabytes."""
        self._send(message)
        assert self._process is not None
        stdin = _pipes(self._process)[0]
        if not stdin.transport.get_write_buffer_size():
            return
        try:
            await stdin.drain()
        except ConnectionError as error:
            raise self._lost() from error

    async def _cancel(self, number: int, inbox: asyncio.Queue[tuple[dict[str, Any], bytes] | None]) -> None:
        """Take a run back and wait until the worker let go of it; a worker that does not is ended."""
        try:
            self._send({"type": "cancel", "run": number})
        except EngineError:
            return
        try:
            async with asyncio.timeout(CANCEL_SECONDS):
                while (frame := await inbox.get()) is not None:
                    if frame[0]["type"] == "error" or frame[0].get("event") == "Finished":
                        return
        except TimeoutError:
            process = self._process
            if process is not None and process.returncode is None:
                process.kill()
                await process.wait()  # the next run finds that it has ended

    async def close(self) -> None:
        """End the worker and remove its files."""
        self._closing = True
        if self._restart is not None:
            self._restart.cancel()
            await asyncio.gather(self._restart, return_exceptions=True)
        async with self._starting:
            await self._discard()
        if self._log_path is not None:
            with contextlib.suppress(OSError):
                if self._log_path.stat().st_size == 0:
                    self._log_path.unlink()

    async def _discard(self) -> None:
        process, reader, folder = self._process, self._reader, self._folder
        self._process = self._reader = self._folder = None
        if process is not None:
            if process.stdin is not None:
                process.stdin.close()  # that is how the worker hears that it shall end
            try:
                await asyncio.wait_for(process.wait(), CLOSE_SECONDS)
            except TimeoutError:
                process.kill()
                await process.wait()
        if reader is not None:
            await asyncio.gather(reader, return_exceptions=True)
        if folder is not None:
            await asyncio.to_thread(shutil.rmtree, folder, ignore_errors=True)

    async def _listen(self, process: asyncio.subprocess.Process, stdout: asyncio.StreamReader) -> None:
        """Hand each answer to the run it belongs to, until the worker ends; then start another."""
        try:
            while (frame := await frames.read_async(stdout)) is not None:
                message = frame[0]
                if message["type"] == "pong":
                    answer = self._pings.get(message["ping"])
                    if answer is not None and not answer.done():
                        answer.set_result(None)
                elif (inbox := self._runs.get(message["run"])) is not None:
                    inbox.put_nowait(frame)
        except (frames.FrameError, OSError):
            if process.returncode is None:
                process.kill()
        finally:
            await process.wait()
            for inbox in self._runs.values():
                inbox.put_nowait(None)
            self._reader = None
            # One that falls as soon as it stands is left to the next run, which says why.
            if not self._closing and time.monotonic() - self._started_at > STEADY_SECONDS:
                self._restart = asyncio.create_task(self._start_again(), name="embedded engine restart")

    async def _start_again(self) -> None:
        with contextlib.suppress(EngineError):  # the next run tries again, and says why it cannot
            await self.start()

    def _send(self, message: dict[str, Any]) -> None:
        process = self._process
        if process is None or process.stdin is None or process.stdin.is_closing():
            raise self._lost()
        try:
            process.stdin.write(frames.pack(message))
        except frames.FrameError as error:
            raise EngineError(f"the prompt is too large: {error}", remedy="make it smaller") from error

    def _lost(self) -> WorkerLost:
        status = self._process.returncode if self._process is not None else None
        how = f" (exit status {status})" if status is not None else ""
        return WorkerLost(f"the embedded engine's process ended while the job ran{how}", remedy=self._see_log())

    def _see_log(self) -> str:
        return f"its log is {self._log_path}"

    def _open_log(self) -> IO[bytes]:
        """A fresh file for the worker's standard error; old ones beyond the last few go."""
        for folder in (self._log_folder, _user_logs(), Path(tempfile.gettempdir())):
            if folder is None:
                continue
            try:
                folder.mkdir(parents=True, exist_ok=True)
                path = folder / f"embedded-{time.strftime('%Y%m%d-%H%M%S')}-{os.getpid()}-{id(self):x}.log"
                log = path.open("ab")
            except OSError:
                continue
            self._log_path = path
            for old in sorted(folder.glob("embedded-*.log"))[:-KEPT_LOGS]:
                with contextlib.suppress(OSError):
                    old.unlink()
            return log
        raise EngineUnavailable(
            "the embedded engine's log cannot be written", remedy="make the user's log folder writable"
        )


def _user_logs() -> Path:
    import platformdirs

    return platformdirs.user_log_path("comfy-atelier", appauthor=False)


def _cache_bytes(given: int | None) -> int:
    if given is not None:
        return given
    text = os.environ.get("ATELIER_CACHE_BYTES", "").strip()
    if not text:
        return DEFAULT_BYTES
    if not text.isdecimal():
        raise EngineUnavailable(
            f"ATELIER_CACHE_BYTES is {text!r}",
            remedy="set it to a number of bytes, or to 0 to keep nothing",
        )
    return int(text)


def _environment(device: str | None) -> dict[str, str]:
    """The worker's environment: torch's threads sleep while they wait for each other, unless the user says otherwise.

    Spinning, as OpenMP does by default, costs ten times the work where something else wants the processors too.
    """
    chosen = {} if device is None else {"ATELIER_DEVICE": device}
    return {"OMP_WAIT_POLICY": "PASSIVE", **os.environ, **chosen}


def _pipes(process: asyncio.subprocess.Process) -> tuple[asyncio.StreamWriter, asyncio.StreamReader]:
    assert process.stdin is not None
    assert process.stdout is not None
    return process.stdin, process.stdout


def _fields(message: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in message.items() if name not in {"type", "run"}}
