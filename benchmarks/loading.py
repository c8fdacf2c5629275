"""What loading a model through our nodes takes beside ComfyUI's own loaders wired by hand: time, processor, memory.

python benchmarks/loading.py --models FOLDER [--comfyui PATH=PYTHON …] [--rounds 5] [FAMILY …]

One server a version; in each round both ways load the same files (``tiny_models.py``) one after the other, the first
of them in turns, everything freed in between. Printed are medians over the rounds and the ratio ours : by hand, which
is to be 1. Wall time is the server's own (from a prompt's start to its success), processor time and resident memory
are the process's as Linux tells them.
"""

from __future__ import annotations

import argparse
import os
import signal
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import by_hand
import tiny_models
from real_comfyui import Prompt, Server, installs, running
from run_workflows import SHIM

ROUNDS = 5
SETTLE_SECONDS = 0.5
LOADERS: Mapping[str, Callable[[by_hand.Wiring], by_hand.Parts]] = {
    "sd1": by_hand.sd15,
    "sdxl": by_hand.sdxl,
    "sd3.5": by_hand.sd35_turbo,
    "flux1": by_hand.flux(),
    "redux": by_hand.redux,
    "hidream": by_hand.hidream("hidream_i1_dev_fp8", "hidream-i1-dev", "AtelierLoadHiDreamI1", by_hand.SHIFT6),
    "qwen-image": by_hand.qwen(),
    "hunyuan-image": by_hand.hunyuan("hunyuanimage2.1_bf16", "hunyuan-image-2.1", 5.0),
}


@dataclass(frozen=True, kw_only=True, slots=True)
class Cost:
    """What one load took: seconds by the clock and of the processor, bytes more than before at its end and at most."""

    wall: float
    processor: float
    held: float
    peak: float


def prompt(name: str, ours: bool) -> Prompt:
    """A prompt that loads and does nothing else; every part is asked for."""
    wiring = by_hand.Wiring(ours=ours)
    parts = LOADERS[name](wiring)
    for part in (parts.model, parts.clip, parts.vae, parts.eyes, parts.style):
        if part is not None:
            wiring.add("PreviewAny", source=part)
    return wiring.nodes


def processor_seconds(pid: int) -> float:
    """User and system time of a process so far; 0 where the system does not say."""
    path = Path(f"/proc/{pid}/stat")
    if not path.exists():
        return 0.0
    fields = path.read_text(encoding="ascii", errors="replace").rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def reset_peak(pid: int) -> None:
    """Let the process's peak of resident memory start anew, where the system can."""
    path = Path(f"/proc/{pid}/clear_refs")
    if path.exists():
        path.write_text("5", encoding="ascii")


def load(server: Server, wanted: Prompt) -> Cost:
    """Free everything, load, and see what it took."""
    server.free()
    server.run({"1": {"class_type": "PreviewAny", "inputs": {"source": f"{time.monotonic()}"}}})  # /free acts between
    time.sleep(SETTLE_SECONDS)
    reset_peak(server.pid)
    before, _ = server.memory()
    busy = processor_seconds(server.pid)
    told = server.history(wanted)["status"]["messages"]
    stamps = {kind: message["timestamp"] for kind, message in told if "timestamp" in message}
    after, peak = server.memory()
    return Cost(
        wall=(stamps["execution_success"] - stamps["execution_start"]) / 1000,
        processor=processor_seconds(server.pid) - busy,
        held=after - before,
        peak=peak - before,
    )


def measure(server: Server, name: str, rounds: int) -> tuple[list[Cost], list[Cost]]:
    """Costs of ours and by hand; one load of each before, which brings the files into the system's cache."""
    prompts = (prompt(name, True), prompt(name, False))
    costs: tuple[list[Cost], list[Cost]] = ([], [])
    for once in prompts:
        load(server, once)
    for turn in range(rounds):
        for way in (0, 1) if turn % 2 == 0 else (1, 0):
            costs[way].append(load(server, prompts[way]))
    return costs


def row(version: str, name: str, costs: tuple[list[Cost], list[Cost]]) -> str:
    """One line of the table."""
    cells = [version, name]
    for field, scale, unit in (("wall", 1, "s"), ("processor", 1, "s"), ("held", 1e6, "MB"), ("peak", 1e6, "MB")):
        ours, stock = (statistics.median(getattr(cost, field) for cost in side) / scale for side in costs)
        ratio = f"{ours / stock:.2f}x" if stock > 0 else "-"
        digits = 2 if unit == "s" else 0
        cells.append(f"{ours:.{digits}f} / {stock:.{digits}f} {unit} = {ratio}")
    return "| " + " | ".join(cells) + " |"


def main() -> None:
    """Print the table."""
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("families", nargs="*", help=f"of {', '.join(LOADERS)}; all where none is named")
    arguments.add_argument("--models", type=Path, required=True, help="a folder for the tiny models")
    arguments.add_argument("--comfyui", default=os.environ.get("ATELIER_TEST_COMFYUI", ""), help="PATH=PYTHON pairs")
    arguments.add_argument("--rounds", type=int, default=ROUNDS)
    arguments.add_argument("--port", type=int, default=0)
    chosen = arguments.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # so that the server is stopped too
    found = installs(chosen.comfyui)
    if not found:
        arguments.error("no ComfyUI: give --comfyui PATH=PYTHON, or set ATELIER_TEST_COMFYUI")
    tiny_models.write_all(chosen.models)
    print("| ComfyUI | family | wall, ours / by hand | processor | memory held | memory at most |")
    print("| --- | --- | --- | --- | --- | --- |")
    for install in found:
        with (
            tempfile.TemporaryDirectory() as base,
            running(install, Path(base), chosen.models, packs=(SHIM,), port=chosen.port) as server,
        ):
            for name in chosen.families or LOADERS:
                print(row(install.version, name, measure(server, name, chosen.rounds)), flush=True)


if __name__ == "__main__":
    main()
