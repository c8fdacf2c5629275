"""How long ComfyUI takes to import this node pack, beside an empty pack and any other.

python benchmarks/node_import.py [--comfyui PATH=PYTHON …] [--pack FOLDER …] [--rounds 7]

Each import is a Python of its own, with ComfyUI's own nodes loaded as its ``main.py`` loads them, and is done by
ComfyUI's ``load_custom_node``; the packs take turns. Printed are medians of the time by the clock and of the
processor. ComfyUI itself tells only tenths of a second. The promise is 0.3 s.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

from real_comfyui import ROOT, Install, installs

PROBE = """
import asyncio, sys, time
pack, base = sys.argv[1:]
sys.argv = ["main.py", "--cpu", "--base-directory", base, "--disable-api-nodes"]
import comfy.options
comfy.options.enable_args_parsing()
import utils.extra_config, server, nodes  # as main.py has them by then
async def measure():
    await nodes.init_builtin_extra_nodes()
    wall, processor = time.perf_counter(), time.process_time()
    loaded = await nodes.load_custom_node(pack, set(nodes.NODE_CLASS_MAPPINGS), module_parent="custom_nodes")
    return loaded, time.perf_counter() - wall, time.process_time() - processor
print("MEASURED", *asyncio.run(measure()))
"""
PROMISE = 0.3


def once(install: Install, pack: Path, base: Path) -> tuple[float, float]:
    """Seconds by the clock and of the processor. RuntimeError where ComfyUI does not take the pack."""
    command = [str(install.python), "-c", PROBE, str(pack), str(base)]
    done = subprocess.run(command, cwd=install.path, capture_output=True, text=True, check=False)
    found = [line.split()[1:] for line in done.stdout.splitlines() if line.startswith("MEASURED ")]
    if not found or found[0][0] != "True":
        raise RuntimeError(f"{pack.name} on {install.version}: {(done.stderr or done.stdout)[-2000:]}")
    return float(found[0][1]), float(found[0][2])


def main() -> int:
    """Print the table; 1 where our import takes longer than the promise."""
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--comfyui", default=os.environ.get("ATELIER_TEST_COMFYUI", ""), help="PATH=PYTHON pairs")
    arguments.add_argument("--pack", type=Path, action="append", default=[], help="another node pack's folder")
    arguments.add_argument("--rounds", type=int, default=7)
    chosen = arguments.parse_args()
    found = installs(chosen.comfyui)
    if not found:
        arguments.error("no ComfyUI: give --comfyui PATH=PYTHON, or set ATELIER_TEST_COMFYUI")
    kept = True
    print("| ComfyUI | pack | seconds | processor |\n| --- | --- | --- | --- |")
    for install in found:
        with tempfile.TemporaryDirectory() as folder:
            base = Path(folder)
            (base / "custom_nodes").mkdir()
            ours, empty = base / "custom_nodes" / "comfy_atelier", base / "custom_nodes" / "empty"
            ours.symlink_to(ROOT, target_is_directory=True)
            empty.mkdir()
            (empty / "__init__.py").write_text("NODE_CLASS_MAPPINGS = {}\n", encoding="utf-8")
            packs = [empty, ours, *chosen.pack]
            taken: dict[Path, list[tuple[float, float]]] = {pack: [] for pack in packs}
            once(install, ours, base)  # compiles what was never imported by this Python
            for number in range(chosen.rounds):
                for pack in packs if number % 2 else reversed(packs):
                    taken[pack].append(once(install, pack, base))
            for pack in packs:
                wall, processor = (statistics.median(column) for column in zip(*taken[pack], strict=True))
                print(f"| {install.version} | {pack.name} | {wall:.3f} | {processor:.3f} |", flush=True)
                kept = kept and (pack != ours or wall < PROMISE)
    return int(not kept)


if __name__ == "__main__":
    sys.exit(main())
