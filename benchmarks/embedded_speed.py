"""The embedded engine beside a real ComfyUI on one full-sized SD 1.5 (random weights), on the CPU, in the same run.

Measured: time from the start of the process to the first picture (cold starts alternate, their median is told), seconds
for a step, the largest memory, and how long an identical second job takes. Both sides run with as many threads as
OMP_NUM_THREADS says; processor time is taken beside the clock's, because a machine that does other things too tells
little by the clock.

    ATELIER_TEST_COMFYUI=FOLDER=PYTHON python benchmarks/embedded_speed.py [--starts 3] [--rounds 3] [--checkpoint FILE]

The checkpoint is written into a temporary folder (2.1 GB as fp16) unless one is given.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import lzma
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from parity import Comfyui, comfyui_of
from parity_cases import text_to_image

HEADER = Path(__file__).parent.parent / "tests" / "data" / "headers" / "sd1_checkpoint.json.xz"
BLOCK = 1 << 20  # random numbers that are repeated; a model of true randomness would take a minute to draw
STEP_LIMIT, START_LIMIT, MEMORY_LIMIT, CACHED_LIMIT = 1.0, 0.6, 1.0, 0.02


def write_checkpoint(path: Path) -> None:
    """SD 1.5 whole, float16: every tensor of a real file, of random numbers that keep the signal's size."""
    shapes = json.loads(lzma.decompress(HEADER.read_bytes()))["shapes"]
    rng = np.random.default_rng(1)
    noise = rng.standard_normal(BLOCK).astype(np.float32)
    header: dict[str, Any] = {}
    offset = 0
    for name, shape in shapes.items():
        size = 2 * int(np.prod(shape, dtype=np.int64))
        header[name] = {"dtype": "F16", "shape": shape, "data_offsets": [offset, offset + size]}
        offset += size
    text = json.dumps(header).encode()
    with path.open("wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        for name, shape in shapes.items():
            count = int(np.prod(shape, dtype=np.int64))
            if len(shape) == 1:
                values = np.ones(count, np.float32) if name.endswith("weight") else np.zeros(count, np.float32)
            else:
                values = np.resize(noise, count) / max(1.0, float(np.prod(shape[1:]))) ** 0.5
            file.write(values.astype(np.float16).tobytes())


def used(pid: int) -> dict[str, float]:
    """Processor seconds so far and peak memory in MB of a process (Linux)."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    ticks = os.sysconf("SC_CLK_TCK")
    status = dict(line.split(":", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines())
    return {
        "cpu": (int(fields[11]) + int(fields[12])) / ticks,
        "peak": int(status["VmHWM"].split()[0]) / 1024,
    }


class Theirs:
    """ComfyUI in a process of its own."""

    def __init__(self, folder: Path, python: Path, base: Path) -> None:
        self._begin = time.perf_counter()
        self._comfyui = Comfyui(folder, python, base)
        self.pid = self._comfyui._process.pid
        self._base = base

    def run(self, prompt: Mapping[str, Any]) -> None:
        """One job."""
        error = self._comfyui.run("speed", prompt, self._base / "recorded.npz", fresh=False)[1]
        if error:
            raise SystemExit(f"ComfyUI: {error}")

    def close(self) -> None:
        """End it."""
        self._comfyui.close()


class Ours:
    """The embedded engine with its worker."""

    def __init__(self, base: Path) -> None:
        from comfy_atelier.engines.embedded.engine import EmbeddedEngine

        self._loop = asyncio.new_event_loop()
        self._engine = EmbeddedEngine(base / "input", [base / "models"], metadata=False)
        self._loop.run_until_complete(self._engine.start())
        assert self._engine._process is not None
        self.pid = self._engine._process.pid

    def run(self, prompt: Mapping[str, Any]) -> None:
        """One job."""
        from comfy_atelier.graph.prompt import Prompt

        async def drain() -> None:
            async for _ in self._engine.run(Prompt.from_json(dict(prompt)), files={}):
                pass

        self._loop.run_until_complete(drain())

    def close(self) -> None:
        """End it."""
        self._loop.run_until_complete(self._engine.close())
        self._loop.close()


def timed(side: Theirs | Ours, prompt: Mapping[str, Any]) -> dict[str, float]:
    """Seconds by the clock and of the processor for one job."""
    before, begin = used(side.pid)["cpu"], time.perf_counter()
    side.run(prompt)
    return {"wall": time.perf_counter() - begin, "cpu": used(side.pid)["cpu"] - before}


def prompt_of(size: int, steps: int, seed: int) -> dict[str, Any]:
    """The stock prompt."""
    return text_to_image("speed.safetensors", width=size, height=size, steps=steps, seed=seed)


def first_picture(start: Callable[[], Theirs | Ours], size: int) -> tuple[Theirs | Ours, dict[str, float]]:
    """A side that was started from nothing and has made one picture, and what that took."""
    begin = time.perf_counter()
    side = start()
    side.run(prompt_of(size, 1, 0))
    return side, {"wall": time.perf_counter() - begin, "cpu": used(side.pid)["cpu"]}


def measure(side: Theirs | Ours, size: int, rounds: int, longer: int) -> dict[str, Any]:
    """What one side takes that has made its first picture."""
    steps = []
    for number in range(rounds):
        short = timed(side, prompt_of(size, 1, 10 + number))
        long = timed(side, prompt_of(size, 1 + longer, 10 + number))
        steps.append({kind: (long[kind] - short[kind]) / longer for kind in ("wall", "cpu")})
    again = min(timed(side, prompt_of(size, 1 + longer, 10 + rounds - 1))["wall"] for _ in range(3))
    middle = {kind: statistics.median(step[kind] for step in steps) for kind in ("wall", "cpu")}
    return {"step": middle, "peak": used(side.pid)["peak"], "again": again}


def main() -> int:
    """Print the table; exit status 1 where a limit is missed."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--size", type=int, default=256, help="pixels of a side")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--starts", type=int, default=3, help="cold starts of each side; the median is told")
    parser.add_argument("--longer", type=int, default=3, help="steps by which the longer job is longer")
    parser.add_argument("--checkpoint", type=Path, help="an SD checkpoint to use instead of random weights")
    options = parser.parse_args()
    installs = os.environ.get("ATELIER_TEST_COMFYUI", "")
    if not installs:
        parser.error("set ATELIER_TEST_COMFYUI=FOLDER=PYTHON")
    os.environ["ATELIER_DEVICE"] = "cpu"
    with tempfile.TemporaryDirectory(prefix="atelier-speed-") as scratch:
        base = Path(scratch)
        for name in ("custom_nodes", "input", "output", "models/checkpoints"):
            (base / name).mkdir(parents=True)
        target = base / "models" / "checkpoints" / "speed.safetensors"
        if options.checkpoint:
            target.symlink_to(options.checkpoint.resolve())
        else:
            write_checkpoint(target)
        target.read_bytes()  # both sides find the file in the system's cache
        starts: dict[str, Callable[[], Theirs | Ours]] = {
            "ComfyUI": lambda: Theirs(*comfyui_of(installs), base),
            "embedded": lambda: Ours(base),
        }
        rows: dict[str, Any] = {}
        firsts: dict[str, list[dict[str, float]]] = {name: [] for name in starts}
        for turn in range(options.starts):
            for name, start in starts.items():
                side, first = first_picture(start, options.size)
                firsts[name].append(first)
                if turn == options.starts - 1:
                    rows[name] = measure(side, options.size, options.rounds, options.longer)
                side.close()
        for name, row in rows.items():
            row["first"] = {kind: statistics.median(one[kind] for one in firsts[name]) for kind in ("wall", "cpu")}
    return 0 if show(rows) else 1


def show(rows: Mapping[str, Any]) -> bool:
    """Print what was measured and whether it is within the limits."""
    theirs, ours = rows["ComfyUI"], rows["embedded"]
    lines = [
        ("start to first picture, processor s", theirs["first"]["cpu"], ours["first"]["cpu"], START_LIMIT),
        ("start to first picture, s", theirs["first"]["wall"], ours["first"]["wall"], START_LIMIT),
        ("a step, processor s", theirs["step"]["cpu"], ours["step"]["cpu"], STEP_LIMIT),
        ("a step, s", theirs["step"]["wall"], ours["step"]["wall"], STEP_LIMIT),
        ("peak memory, MB", theirs["peak"], ours["peak"], MEMORY_LIMIT),
    ]
    print(f"| {'':36} | {'ComfyUI':>9} | {'embedded':>9} | {'ratio':>6} | limit |")
    print("| --- | --- | --- | --- | --- |")
    good = True
    for name, one, other, limit in lines:
        ratio = other / one
        good = good and (ratio <= limit or ", processor" in name)  # what a person waits for counts
        print(f"| {name:36} | {one:9.2f} | {other:9.2f} | {ratio:5.2f}x | {limit:4.1f}x |")
    print(f"| {'an identical job again, s':36} | {theirs['again']:9.3f} | {ours['again']:9.3f} | | {CACHED_LIMIT} s |")
    return good and ours["again"] <= CACHED_LIMIT


if __name__ == "__main__":
    sys.exit(main())
