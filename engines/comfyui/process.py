"""`ManagedComfyUI`: start a ComfyUI from its folder, watch over it, start it again when it falls."""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import shutil
import socket
import tempfile
from asyncio.subprocess import PIPE, STDOUT, Process
from collections.abc import AsyncGenerator, Mapping, Sequence
from pathlib import Path

import platformdirs

from ...graph import InputRef, NodeSchemas, Prompt
from ..errors import EngineError, EngineUnavailable, WorkerLost
from ..events import Event
from .client import ComfyUIEngine
from .install import Folders, child_environment, command, find_install, has_accelerator, write_paths

_START = 600.0  # seconds; node packs that look for updates take minutes
_LOOK = 0.1  # seconds between two looks whether it listens yet
_STOP = 5.0  # seconds between asking it to end and ending it
_STEADY = 60.0  # seconds of life after which an end is not held against the next start
_LONGEST_WAIT = 60.0  # seconds before another start
_LOGS = 10  # files kept
_TAIL = 16384  # bytes of the log that are looked at
_KEPT_FILES, _KEPT_BYTES, _TIDY = 1000, 2 << 30, 64  # outputs left in its folder, looked after every so many runs
_COLOUR = re.compile(r"\x1b\[[0-9;]*m")
_NO_DEVICE = ("Torch not compiled with CUDA", "Found no NVIDIA driver", "No CUDA GPUs are available", "No HIP GPUs")


class ManagedComfyUI:
    """A ComfyUI process of our own, in folders of its own, on a free port of the loopback interface.

    It ends when this process does, ``kill -9`` included. The checkout's models and node packs are used, but it is not
    written to: input, output, temp and user folders are ours. This package's node pack is added.

    Args:
        path: ComfyUI's folder.
        python: the Python that runs it (see `install.find_install`).
        device: "cpu"; numbers of CUDA devices ("0"); None for what there is, the CPU where there is none.
        models_dirs: more folders laid out like ComfyUI's ``models``.
        arguments: more arguments for ``main.py``.
        folder: where its folders go and stay; a temporary one, removed at the end, where None.
        log: the file that its output goes to; one in the user's log folder where None.
        metadata, depth: see `ComfyUIEngine`.
        start_timeout: seconds that it may take to listen.

    Raises:
        EngineUnavailable: `path` holds no ComfyUI, or there is no Python for it.
    """

    name = "comfyui"

    def __init__(
        self,
        path: Path,
        *,
        python: str | Path | None = None,
        device: str | None = None,
        models_dirs: Sequence[Path] = (),
        arguments: Sequence[str] = (),
        folder: Path | None = None,
        log: Path | None = None,
        metadata: bool = False,
        depth: int = 16,
        start_timeout: float = _START,
    ) -> None:
        self.install = find_install(path, python)
        self.log = log
        self._device = device
        self._models_dirs = tuple(models_dirs)
        self._arguments = tuple(arguments)
        self._folder = folder
        self._metadata = metadata
        self._depth = depth
        self._start_timeout = start_timeout
        self._folders: Folders | None = None
        self._process: Process | None = None
        self._client: ComfyUIEngine | None = None
        self._watcher: asyncio.Task[None] | None = None
        self._starting = asyncio.Lock()
        self._falls = 0  # in a row
        self._not_before = 0.0  # event loop's clock
        self._without_device = False
        self._runs = 0
        self._closed = False

    @property
    def concurrency(self) -> int:
        """See `ComfyUIEngine.concurrency`."""
        return self._client.concurrency if self._client is not None else 1

    @property
    def pid(self) -> int | None:
        """The process, where one is alive."""
        return self._process.pid if self._process is not None and self._process.returncode is None else None

    @property
    def url(self) -> str | None:
        """Where it listens, once it has been started."""
        return self._client.url if self._client is not None else None

    async def start(self) -> None:
        """Start it and wait until it listens; after a fall, not before some time has passed.

        Raises:
            EngineUnavailable: it ended while it started, or does not listen in time; tells the last lines of its log.
        """
        async with self._starting:
            if self._closed:
                raise EngineUnavailable(f"the ComfyUI in {self.install.path} was stopped")
            if self.pid is not None and self._client is not None:
                await self._client.start()
                return
            await self._let_go()
            await asyncio.sleep(max(0.0, self._not_before - asyncio.get_running_loop().time()))
            try:
                try:
                    await self._launch()
                except EngineUnavailable:
                    # A driver without a device, or a torch without CUDA: the CPU is what there is.
                    if self._without_device or self._device is not None or not self._lacks_device():
                        raise
                    self._without_device = True
                    await self._launch()
            except BaseException:
                self._fell(0.0)
                await self._let_go()
                raise

    async def close(self) -> None:
        """Stop it and remove its folders (a given folder and the log stay)."""
        self._closed = True
        if self._watcher is not None:
            self._watcher.cancel()
            await asyncio.gather(self._watcher, return_exceptions=True)
        await self._let_go()
        if self._folders is not None and self._folder is None:
            await asyncio.to_thread(shutil.rmtree, self._folders.root, True)

    async def healthy(self) -> bool:
        """Whether it lives and answers within two seconds."""
        return self.pid is not None and self._client is not None and await self._client.healthy()

    async def schemas(self) -> NodeSchemas:
        """Its node schemas. Raises `EngineUnavailable`."""
        return await (await self._ready()).schemas()

    async def run(self, prompt: Prompt, *, files: Mapping[InputRef, Path]) -> AsyncGenerator[Event, None]:
        """See `Engine.run`."""
        client = await self._ready()
        process = self._process
        try:
            async with contextlib.aclosing(client.run(prompt, files=files)) as events:
                async for event in events:
                    yield event
        except WorkerLost as error:
            code = await _ended(process)
            if code is None:
                raise
            raise WorkerLost(
                f"ComfyUI's process {_how(code)} while the job ran; it said last: {self._last_words()}",
                remedy=f"its log is {self.log}",
            ) from error
        self._runs += 1
        if self._runs % _TIDY == 0 and self._folders is not None:
            await asyncio.to_thread(tidy, self._folders.output, files=_KEPT_FILES, size=_KEPT_BYTES)

    async def _ready(self) -> ComfyUIEngine:
        if self.pid is None or self._client is None:
            await self.start()
        if self._client is None:
            raise EngineUnavailable(f"the ComfyUI in {self.install.path} was stopped")
        return self._client

    async def _launch(self) -> None:
        try:
            folders = await asyncio.to_thread(self._prepare)
        except OSError as error:
            raise EngineUnavailable(
                f"folders for ComfyUI cannot be made ({error})", remedy="look at the temporary folder"
            ) from error
        cpu = self._device == "cpu" or self._without_device
        cpu = cpu or (self._device is None and not has_accelerator(os.environ))
        port = _free_port()
        line = command(
            self.install, folders, port=port, cpu=cpu, arguments=self._arguments, remove=self._folder is None
        )
        try:
            with self._open_log().open("ab") as log:
                self._process = await asyncio.create_subprocess_exec(
                    *line,
                    stdin=PIPE,
                    stdout=log,
                    stderr=STDOUT,
                    cwd=self.install.path,
                    env=child_environment(os.environ, self._device),
                    start_new_session=os.name == "posix",
                )
        except OSError as error:
            raise EngineUnavailable(f"{self.install.python} cannot be started ({error})") from error
        self._client = ComfyUIEngine(f"http://127.0.0.1:{port}", metadata=self._metadata, depth=self._depth)
        await self._until_it_listens(self._process, port)
        await self._client.start()
        self._watcher = asyncio.create_task(self._watch(self._process))

    async def _until_it_listens(self, process: Process, port: int) -> None:
        try:
            async with asyncio.timeout(self._start_timeout):
                while process.returncode is None:
                    with contextlib.suppress(OSError):
                        _, writer = await asyncio.open_connection("127.0.0.1", port)
                        writer.close()
                        return
                    await asyncio.sleep(_LOOK)
        except TimeoutError:
            raise EngineUnavailable(
                f"ComfyUI in {self.install.path} does not listen after {self._start_timeout:.0f} s; "
                f"it said last: {self._last_words()}",
                remedy=f"its log is {self.log}",
            ) from None
        raise EngineUnavailable(
            f"ComfyUI in {self.install.path} {_how(process.returncode)} while it started; "
            f"it said last: {self._last_words()}",
            remedy=f"its log is {self.log}" + _advice(self._tail(), self.install.python),
        )

    async def _watch(self, process: Process) -> None:
        loop = asyncio.get_running_loop()
        born = loop.time()
        await process.wait()
        while not self._closed:
            self._fell(loop.time() - born)
            self._watcher = None  # the next start brings its own
            try:
                await self.start()
            except EngineError:
                born = loop.time()
                continue
            return

    def _fell(self, lived: float) -> None:
        self._falls = 1 if lived >= _STEADY else self._falls + 1
        wait = min(_LONGEST_WAIT, 2.0 ** (self._falls - 1))
        self._not_before = asyncio.get_running_loop().time() + wait

    async def _let_go(self) -> None:
        client, self._client = self._client, None
        process, self._process = self._process, None
        if client is not None:
            await client.close()
        if process is None or process.returncode is not None:
            return
        with contextlib.suppress(ProcessLookupError):
            process.terminate()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_STOP):
                await process.wait()
        if process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                process.kill()
            await process.wait()

    def _prepare(self) -> Folders:
        if self._folders is None:
            root = self._folder or Path(tempfile.mkdtemp(prefix="atelier-comfyui-"))
            self._folders = Folders(root=root.absolute())
        self._folders.create()
        write_paths(self._folders, self.install, self._models_dirs)
        return self._folders

    def _open_log(self) -> Path:
        if self.log is None:
            folder = platformdirs.user_log_path("comfy-atelier", appauthor=False)
            folder.mkdir(parents=True, exist_ok=True)
            old = sorted(folder.glob("comfyui-*.log"), key=lambda file: file.stat().st_mtime, reverse=True)
            for file in old[_LOGS - 1 :]:
                file.unlink(missing_ok=True)
            handle, name = tempfile.mkstemp(prefix="comfyui-", suffix=".log", dir=folder)
            os.close(handle)
            self.log = Path(name)
        else:
            self.log.parent.mkdir(parents=True, exist_ok=True)
        return self.log

    def _tail(self) -> str:
        if self.log is None or not self.log.is_file():
            return ""
        with self.log.open("rb") as file:
            file.seek(max(0, self.log.stat().st_size - _TAIL))
            return _COLOUR.sub("", file.read().decode("utf-8", "replace"))

    def _last_words(self) -> str:
        lines = [" ".join(line.split()) for line in self._tail().splitlines() if line.strip()]
        return " | ".join(lines[-3:]) or "nothing"

    def _lacks_device(self) -> bool:
        tail = self._tail()
        return any(sign in tail for sign in _NO_DEVICE)


def tidy(folder: Path, *, files: int, size: int) -> None:
    """Delete the oldest files below `folder` until at most `files` of together at most `size` bytes are left."""
    found = []
    for path in folder.rglob("*"):
        with contextlib.suppress(OSError):
            stat = path.lstat()
            if path.is_file() and not path.is_symlink():
                found.append((stat.st_mtime_ns, stat.st_size, path))
    total = 0
    for number, (_, length, path) in enumerate(sorted(found, key=lambda item: item[0], reverse=True), start=1):
        total += length
        if number > files or total > size:
            with contextlib.suppress(OSError):
                path.unlink()


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


async def _ended(process: Process | None) -> int | None:
    """The process's exit code, given a moment to be told; None where it lives on."""
    if process is None:
        return None
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(2):
            await process.wait()
    return process.returncode


def _how(code: int | None) -> str:
    if code is not None and code < 0:
        return f"was killed by signal {-code}" + (" (out of memory, perhaps)" if code == -9 else "")
    return f"ended with code {code}"


def _advice(tail: str, python: Path) -> str:
    if "ModuleNotFoundError" in tail or "ImportError" in tail:
        return f"; install ComfyUI's requirements for {python}, or give the right Python with --comfyui-python"
    return ""
