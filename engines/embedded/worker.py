"""The worker: ``python -m comfy_atelier.engines.embedded.worker``, the process of one `EmbeddedEngine`.

It reads frames (see `frames`) from its standard input and answers on its standard output; what anything else prints
goes to standard error. It ends when its standard input closes, so that an engine that was killed leaves no process.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib.util
import logging
import os
import queue
import shutil
import sys
import threading
import time
from pathlib import Path
from typing import Any, BinaryIO

from ...graph.prompt import InputRef, Prompt
from ...graph.schemas import NodeSchemas
from ..errors import Cancelled, EngineError, EngineUnavailable
from ..events import Event, Finished, Produced
from . import frames, wire
from .cache import NodeCache
from .context import Run
from .executor import Executor
from .planning import Planner, shortcomings, unservable
from .registry import CLASSES, SCHEMAS_OF, needs_torch

_logger = logging.getLogger(__name__)

INLINE_BYTES = 1024 * 1024  # results up to this travel in the frame, larger ones as files
TOGETHER_SECONDS = 0.005  # how long an event may wait for those after it: a write for each wakes the caller each time
TOGETHER_BYTES = 256 * 1024  # of frames that wait


class Worker:
    """Reads requests in one thread (so that a cancel is heard while a node runs), runs prompts in the calling one."""

    def __init__(self, source: BinaryIO, sink: BinaryIO) -> None:
        self._source = source
        self._outbox = Outbox(sink)
        self._jobs: queue.SimpleQueue[dict[str, Any]] = queue.SimpleQueue()
        self._cancelled: dict[int, threading.Event] = {}
        self._folder = Path()
        self._warm = threading.Thread(target=_load_torch, name="load torch", daemon=True)

    def serve(self) -> int:
        """Answer until the source ends; returns the process's exit status."""
        first = frames.read(self._source)
        if first is None:
            return 0
        settings = first[0]
        self._folder = Path(settings["folder"])
        try:
            executor = _executor(settings)
        except EngineError as error:
            self._send({"type": "refused", **wire.error_to_json(error)})
            return 1
        self._warm.start()
        threading.Thread(target=self._outbox.serve, name="tell", daemon=True).start()
        threading.Thread(target=self._listen, name="listen", daemon=True).start()
        self._send({"type": "ready", "pid": os.getpid()})
        while True:
            job = self._jobs.get()
            if job["type"] == "check":
                self._check(executor, settings, job)
            else:
                self._run(executor, settings, job)

    def _listen(self) -> None:
        try:
            while (frame := frames.read(self._source)) is not None:
                self._hear(frame[0])
        except Exception:
            _logger.exception("reading from the engine")
        # Nobody listens any more. What runs cannot be asked to stop from here, so the process ends as it is.
        shutil.rmtree(self._folder, ignore_errors=True)
        os._exit(0)

    def _hear(self, message: dict[str, Any]) -> None:
        match message["type"]:
            case "run" | "check":
                self._cancelled[message["run"]] = threading.Event()
                self._jobs.put(message)
            case "cancel":
                if (event := self._cancelled.get(message["run"])) is not None:
                    event.set()
            case "ping":
                self._send({"type": "pong", "ping": message["ping"]})

    def _check(self, executor: Executor, settings: dict[str, Any], job: dict[str, Any]) -> None:
        """Answer whether a prompt lacks anything."""
        number: int = job["run"]
        try:
            prompt = Prompt.from_json(job["prompt"])
            self._await_torch(prompt)
            run = _run_of(settings, cancelled=self._cancelled[number])
            given = {InputRef(node, name) for node, name in job["given"]}
            faults = shortcomings(prompt, executor.planner.schemas, run, given)
            if faults:
                self._send({"type": "error", "run": number, **wire.error_to_json(unservable(faults))})
            else:
                self._send({"type": "checked", "run": number})
        except Exception as error:  # a fault of ours: the service starts all the same, and its jobs will say it
            _logger.exception("check %d", number)
            self._send({"type": "checked", "run": number, "fault": str(error)})
        finally:
            self._cancelled.pop(number, None)

    def _await_torch(self, prompt: Prompt) -> None:
        if any(needs_torch(node.class_type) for node in prompt.nodes.values()) and self._warm.is_alive():
            self._warm.join()  # two threads importing torch at once would wait for each other's locks

    def _run(self, executor: Executor, settings: dict[str, Any], job: dict[str, Any]) -> None:
        number: int = job["run"]
        files_made = 0

        def emit(event: Event) -> None:
            nonlocal files_made
            if isinstance(event, Produced) and isinstance(event.data, bytes) and len(event.data) > INLINE_BYTES:
                files_made += 1
                event = _as_file(event, self._folder / f"run-{number}", files_made)
            fields, payload = wire.event_to_json(event)
            frame = frames.pack({"type": "event", "run": number, **fields}, payload)
            self._outbox.put(frame, at_once=isinstance(event, Finished))

        try:
            prompt = Prompt.from_json(job["prompt"])
            self._await_torch(prompt)
            run = _run_of(settings, cancelled=self._cancelled[number])
            run.emit = emit
            run.metadata = {"prompt": job["prompt"]} if settings["metadata"] else {}
            run.files = {InputRef(node, name): Path(path) for node, name, path in job["files"]}
            executor.run(prompt, run)
        except EngineError as error:
            if not isinstance(error, Cancelled):
                _logger.info("run %d: %s", number, error)
            self._send({"type": "error", "run": number, **wire.error_to_json(error)})
        except Exception as error:  # a fault of ours: the caller hears of it, the process goes on
            _logger.exception("run %d", number)
            fault = EngineError(f"the embedded engine failed: {type(error).__name__}: {error}")
            self._send({"type": "error", "run": number, **wire.error_to_json(fault)})
        finally:
            self._cancelled.pop(number, None)

    def _send(self, message: dict[str, Any], payload: bytes = b"") -> None:
        self._outbox.put(frames.pack(message, payload), at_once=True)


class Outbox:
    """What is on its way to the engine: events of a moment go as one write, in their order."""

    def __init__(self, sink: BinaryIO) -> None:
        self._sink = sink
        self._lock = threading.Lock()
        self._frames: list[bytes] = []
        self._size = 0
        self._waiting = threading.Event()
        self._since = 0.0  # when the oldest frame that waits came, by the clock of time.monotonic

    def put(self, frame: bytes, *, at_once: bool) -> None:
        """Send a frame: now, with those that wait, or within `TOGETHER_SECONDS`."""
        with self._lock:
            if not self._frames:
                self._since = time.monotonic()
            self._frames.append(frame)
            self._size += len(frame)
            if at_once or self._size > TOGETHER_BYTES:
                self._flush()
            elif not self._waiting.is_set():
                self._waiting.set()

    def serve(self) -> None:
        """Send what has waited long enough, for ever."""
        while True:
            self._waiting.wait()
            pause = TOGETHER_SECONDS
            while pause > 0:
                time.sleep(pause)
                with self._lock:
                    pause = self._since + TOGETHER_SECONDS - time.monotonic() if self._frames else 0.0
                    if pause > 0:
                        continue
                    self._waiting.clear()
                    try:
                        self._flush()
                    except OSError:
                        return  # nobody reads: the process is about to end

    def _flush(self) -> None:
        if not self._frames:
            return
        data = memoryview(b"".join(self._frames))
        self._frames, self._size = [], 0
        while data:  # an unbuffered pipe may take a part
            data = data[self._sink.write(data) or 0 :]


def _run_of(settings: dict[str, Any], *, cancelled: threading.Event) -> Run:
    """A run with the engine's folders."""
    return Run(
        input_folder=Path(settings["input_folder"]) if settings.get("input_folder") else None,
        model_folders=[Path(folder) for folder in settings.get("model_folders", ())],
        comfyui_folder=Path(settings["comfyui_folder"]) if settings.get("comfyui_folder") else None,
        emit=lambda event: None,
        cancelled=cancelled,
    )


def _executor(settings: dict[str, Any]) -> Executor:
    if importlib.util.find_spec("torch") is None:
        raise EngineUnavailable(
            "the embedded engine needs PyTorch, which is not installed",
            remedy="pip install 'comfy-atelier[embedded]', or point at a ComfyUI (`--comfyui URL_OR_PATH`)",
        )
    table = NodeSchemas.builtin(SCHEMAS_OF)
    schemas = NodeSchemas({name: table[name] for name in CLASSES}, version=SCHEMAS_OF)
    return Executor(Planner(schemas), NodeCache(settings["cache_bytes"]))


def _load_torch() -> None:
    """Import what most prompts need while the engine is still idle."""
    try:
        from . import nodes_image, nodes_load, nodes_save  # noqa: F401
    except Exception:
        _logger.exception("loading torch")  # the run that needs them says the same to its caller


def _as_file(event: Produced, folder: Path, number: int) -> Produced:
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{number:05}{Path(event.filename or '').suffix}"
    assert isinstance(event.data, bytes)
    path.write_bytes(event.data)
    return Produced(
        node=event.node,
        output=event.output,
        index=event.index,
        media_type=event.media_type,
        data=path,
        filename=event.filename,
        temporary=event.temporary,
    )


def _streams() -> tuple[BinaryIO, BinaryIO]:
    """The pipes for frames; standard input and output are then pointed elsewhere, so that nothing else uses them."""
    source, sink = os.dup(0), os.dup(1)
    if sys.platform == "win32":
        import msvcrt

        msvcrt.setmode(source, os.O_BINARY)
        msvcrt.setmode(sink, os.O_BINARY)
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.close(nothing)
    os.dup2(2, 1)
    sys.stdout = sys.stderr
    return os.fdopen(source, "rb", buffering=1024 * 1024), os.fdopen(sink, "wb", buffering=0)


def main() -> int:
    """Serve the engine at the other end of the standard streams."""
    argparse.ArgumentParser(
        prog="python -m comfy_atelier.engines.embedded.worker",
        description="The embedded engine's process. EmbeddedEngine starts it and speaks frames of JSON with it over "
        "standard input and output; it is of no use by hand. It ends when its standard input closes.",
        epilog="ATELIER_CACHE_BYTES sets how many bytes of node results it keeps between runs (default 1073741824).",
    ).parse_args()
    source, sink = _streams()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    with contextlib.suppress(KeyboardInterrupt):  # Ctrl-C reaches every process of a terminal; the engine decides
        return Worker(source, sink).serve()
    return 130


if __name__ == "__main__":
    sys.exit(main())
