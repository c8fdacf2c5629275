"""Converting all templates of ComfyUI 0.33.0 in one process, beside comfy-cli's `convert_ui_to_api` in the same run.

Both sides are given the same parsed JSON and give back a prompt as JSON-ready dicts, each in an interpreter of its own
that stays; rounds alternate between them. Schemas are prepared once, outside of the time, as a service holds them; what
either side reads of them while it converts is in its first round, shown by itself. Processor time is measured; medians
and their ratio are printed.

    python benchmarks/convert.py --peer PYTHON [--templates PATH] [--object-info FILE] [--rounds 5]

--peer is a Python that has comfy-cli. --templates is a folder of workflows (the package comfyui-workflow-templates-json
has one), or a file ``{name: workflow}`` or ``{name: {"workflow": ..}}``, also as .xz; without it the given third in
../shared/parity is taken, as is --object-info.
"""

from __future__ import annotations

import argparse
import gc
import json
import lzma
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

PARITY = Path(__file__).parent.parent.parent / "shared" / "parity"


def load(path: Path) -> Any:
    """A JSON file, packed or not."""
    if path.suffix == ".xz":
        with lzma.open(path, "rt", encoding="utf-8") as file:
            return json.load(file)
    return json.loads(path.read_text(encoding="utf-8"))


def templates(path: Path) -> dict[str, Any]:
    """Workflows by name, from a folder or a file; what is no workflow is left out."""
    if path.is_dir():
        found = {str(file.relative_to(path)): load(file) for file in sorted(path.rglob("*.json"))}
    else:
        found = load(path)
    unpacked = {name: value.get("workflow", value) for name, value in found.items() if isinstance(value, dict)}
    return {name: value for name, value in unpacked.items() if isinstance(value.get("nodes"), list)}


def ours(info: dict[str, Any]) -> Callable[[dict[str, Any]], Any]:
    """Our converter."""
    from comfy_atelier.graph import NodeSchemas, Workflow, convert

    schemas = NodeSchemas.from_object_info(info)
    return lambda workflow: convert(Workflow.from_json(workflow), schemas).to_json()


def peer(info: dict[str, Any]) -> Callable[[dict[str, Any]], Any]:
    """comfy-cli's converter."""
    from comfy_cli.workflow_to_api import convert_ui_to_api

    return lambda workflow: convert_ui_to_api(workflow, info)


def work(side: str, data: Path) -> None:
    """One side: a round for each line on standard input, its seconds and failures as a line of JSON."""
    content = json.loads(data.read_text(encoding="utf-8"))
    run = {"ours": ours, "peer": peer}[side](content["info"])
    run(content["workflows"][next(iter(content["workflows"]))])  # imports are not what is measured
    gc.collect()
    gc.freeze()  # nor is the collector's walk through all the templates, which would fall upon either side by chance
    print("ready", flush=True)
    for _ in sys.stdin:
        failed = 0
        start = time.process_time()
        for workflow in content["workflows"].values():
            try:
                run(workflow)
            except Exception:  # a peer may raise anything; it is counted
                failed += 1
        print(json.dumps({"seconds": time.process_time() - start, "failed": failed}), flush=True)


def main() -> None:
    """Run both sides by turns and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--peer", help="a Python with comfy-cli")
    parser.add_argument("--templates", type=Path, default=PARITY / "truth-0.33.0.json.xz")
    parser.add_argument("--object-info", type=Path, default=PARITY / "object_info-0.33.0.json.xz")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--worker", choices=["ours", "peer"], help=argparse.SUPPRESS)
    parser.add_argument("--data", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.worker:
        work(arguments.worker, arguments.data)
        return
    workflows = templates(arguments.templates)
    with tempfile.TemporaryDirectory() as folder:
        data = Path(folder, "data.json")
        data.write_text(json.dumps({"info": load(arguments.object_info), "workflows": workflows}), encoding="utf-8")
        sides = {"ours": sys.executable, **({"peer": arguments.peer} if arguments.peer else {})}
        workers = {
            side: subprocess.Popen(
                [python, __file__, "--worker", side, "--data", str(data)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=None if side == "ours" else subprocess.DEVNULL,  # it warns of nodes without widgets
                text=True,
            )
            for side, python in sides.items()
        }
        results: dict[str, list[dict[str, Any]]] = {side: [] for side in workers}
        try:
            for worker in workers.values():
                assert worker.stdout is not None
                worker.stdout.readline()
            for _ in range(arguments.rounds):
                for side, worker in workers.items():
                    assert worker.stdin is not None
                    assert worker.stdout is not None
                    worker.stdin.write("\n")
                    worker.stdin.flush()
                    results[side].append(json.loads(worker.stdout.readline()))
        finally:
            for worker in workers.values():
                worker.kill()
                worker.wait()
    report(results, len(workflows))


def report(results: dict[str, list[dict[str, Any]]], count: int) -> None:
    """The table: seconds for all templates, for one, what failed, and the ratio."""
    print(f"{count} templates, {len(results['ours'])} rounds\n")
    print(f"{'':8}{'all (s)':>10}{'one (ms)':>10}{'first (s)':>11}{'failed':>8}")
    medians = {side: statistics.median(round_["seconds"] for round_ in rounds) for side, rounds in results.items()}
    for side, seconds in medians.items():
        print(f"{side:8}{seconds:>10.3f}{1000 * seconds / count:>10.2f}{results[side][0]['seconds']:>11.3f}", end="")
        print(f"{results[side][-1]['failed']:>8}")
    if "peer" in medians:
        ratios = [b["seconds"] / a["seconds"] for a, b in zip(results["ours"], results["peer"], strict=True)]
        print(f"\npeer / ours: {statistics.median(ratios):.1f} (rounds {min(ratios):.1f} to {max(ratios):.1f})")


if __name__ == "__main__":
    main()
