"""A real ComfyUI on the CPU with this checkout linked in as its node pack, for benchmarks and tests: started, asked,
stopped.
"""

from __future__ import annotations

import json
import os
import re
import socket
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from PIL import Image

ROOT = Path(__file__).parent.parent
START_SECONDS = 240
POLL_SECONDS = 0.1
SIDE = 128  # pixels of the example pictures

Prompt = dict[str, Any]


class RunError(Exception):
    """A prompt that a server refused or that ended badly; the message says how."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Install:
    """A ComfyUI checkout and the Python that runs it."""

    path: Path
    python: Path

    @property
    def version(self) -> str:
        """As ``comfyui_version.py`` states it."""
        text = (self.path / "comfyui_version.py").read_text(encoding="utf-8")
        found = re.search(r'__version__\s*=\s*"([^"]+)"', text)
        return found[1] if found else "unknown"


def installs(pairs: str) -> list[Install]:
    """From ``path=python`` pairs, as ATELIER_TEST_COMFYUI has them."""
    split = [pair.split("=", 1) for pair in pairs.split(os.pathsep) if "=" in pair]
    return [Install(path=Path(path), python=Path(python)) for path, python in split]


@dataclass(frozen=True, kw_only=True, slots=True)
class Server:
    """A started ComfyUI."""

    url: str
    base: Path
    log: Path
    version: str
    pid: int

    def get(self, path: str) -> Any:
        """The JSON of a GET."""
        return json.loads(self.bytes(path))

    def bytes(self, path: str) -> bytes:
        """The body of a GET."""
        with urllib.request.urlopen(f"{self.url}{path}", timeout=120) as answer:
            return bytes(answer.read())

    def post(self, path: str, value: Mapping[str, Any]) -> Any:
        """The JSON of a POST's answer, also of one that refuses; None where it says nothing."""
        request = urllib.request.Request(
            f"{self.url}{path}", json.dumps(value).encode(), {"Content-Type": "application/json"}
        )
        try:
            with urllib.request.urlopen(request, timeout=120) as answer:
                body = answer.read()
        except urllib.error.HTTPError as error:
            with error:
                body = error.read()
        return json.loads(body) if body else None

    def run(self, prompt: Prompt, seconds: float = 900) -> dict[str, Any]:
        """A prompt's outputs by node; RunError where it is refused, fails or takes too long."""
        return dict(self.history(prompt, seconds)["outputs"])

    def history(self, prompt: Prompt, seconds: float = 900) -> dict[str, Any]:
        """The history's entry of a prompt that ran to a good end; RunError as `run`."""
        answer = self.post("/prompt", {"prompt": prompt})
        if "prompt_id" not in answer or answer.get("node_errors"):
            raise RunError(f"refused: {_refusal(answer)}")
        entry = self._finished(answer["prompt_id"], seconds)
        if entry["status"]["status_str"] != "success":
            errors = [message for kind, message in entry["status"]["messages"] if kind == "execution_error"]
            told = [f"{error['node_type']}: {' '.join(error['exception_message'].split())[:400]}" for error in errors]
            raise RunError("; ".join(told))
        return entry

    def _finished(self, job: str, seconds: float) -> dict[str, Any]:
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            history = self.get(f"/history/{job}")
            if history:
                return dict(history[job])
            time.sleep(POLL_SECONDS)
        self.post("/interrupt", {})
        while not self.get(f"/history/{job}"):
            time.sleep(POLL_SECONDS)
        raise RunError(f"not done within {seconds:.0f} s")

    def files(self, outputs: Mapping[str, Any]) -> list[bytes]:
        """The files that a prompt saved, in the order of its nodes."""
        found = [file for _, output in sorted(outputs.items()) for key in ("images", "video", "gifs")
                 for file in output.get(key, [])]  # fmt: skip
        kept = [file for file in found if file.get("type") == "output"]
        return [self.bytes("/view?filename={filename}&subfolder={subfolder}&type={type}".format(**f)) for f in kept]

    def free(self) -> None:
        """Drop models and cached results."""
        self.post("/free", {"unload_models": True, "free_memory": True})

    def memory(self) -> tuple[int, int]:
        """Resident bytes of the process now, and its peak; (0, 0) where the system does not say."""
        status = Path(f"/proc/{self.pid}/status")
        if not status.exists():
            return 0, 0
        text = status.read_text(encoding="ascii", errors="replace")
        sizes = [re.search(rf"{name}:\s+(\d+) kB", text) for name in ("VmRSS", "VmHWM")]
        now, peak = (int(size[1]) * 1024 if size else 0 for size in sizes)
        return now, peak


def _refusal(answer: Mapping[str, Any]) -> str:
    errors = answer.get("node_errors") or {}
    told = [
        f"{node['class_type']}: {error.get('message')} {error.get('details')}"
        for node in errors.values()
        for error in node["errors"]
    ]
    return "; ".join(told) or json.dumps(answer)


def free_port() -> int:
    """A port that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def write_pictures(folder: Path) -> None:
    """Two pictures to read, ``example.png`` and ``other.png``: strong edges, and a hole in their alpha for masks."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, left, top, size in (("example.png", 24, 24, 80), ("other.png", 56, 40, 48)):
        picture = Image.new("RGBA", (SIDE, SIDE))
        for y in range(SIDE):
            for x in range(SIDE):
                inside = left <= x < left + size and top <= y < top + size
                colour = (255, 255 - y, 230) if inside else (x, 20, y // 2 + left // 2)
                picture.putpixel((x, y), (*colour, 0 if inside else 255))
        picture.save(folder / name)


@contextmanager
def running(
    install: Install, base: Path, models: Path, *, packs: Iterable[Path] = (), port: int = 0, threads: int = 1
) -> Iterator[Server]:
    """A server of its own base folder with the models linked in, stopped at the end."""
    (base / "custom_nodes").mkdir(parents=True, exist_ok=True)
    for name, target in (("comfy_atelier", ROOT), *((pack.name, pack) for pack in packs)):
        link = base / "custom_nodes" / name
        if not link.exists():
            link.symlink_to(target.resolve(), target_is_directory=True)
    if not (base / "models").exists():
        (base / "models").symlink_to(models.resolve(), target_is_directory=True)
    write_pictures(base / "input")
    port = port or free_port()
    log = base / f"server-{install.version}.log"
    command = [install.python, "main.py", "--cpu", "--base-directory", base.resolve(), "--port", port]
    # In half precision as the files are (a CPU takes twice the memory by itself); what the last prompt made is kept
    # however little memory others leave.
    command += ["--fp16-unet", "--cache-classic"]
    environment = os.environ | {"OMP_NUM_THREADS": str(threads)}
    with log.open("wb") as stream:
        process = subprocess.Popen(
            [*map(str, command), "--disable-api-nodes"], cwd=install.path, stdout=stream, stderr=stream, env=environment
        )
    server = Server(url=f"http://127.0.0.1:{port}", base=base, log=log, version=install.version, pid=process.pid)
    try:
        until = time.monotonic() + START_SECONDS
        while not (_answers(server) and process.poll() is None):
            if process.poll() is not None or time.monotonic() > until:
                raise RunError(f"ComfyUI did not start: {log.read_text(errors='replace')[-2000:]}")
            time.sleep(POLL_SECONDS)
        yield server
    finally:
        process.terminate()
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _answers(server: Server) -> bool:
    try:
        server.get("/system_stats")
    except OSError:
        return False
    return True
