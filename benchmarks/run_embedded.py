"""Runs every curated workflow on the embedded engine on the CPU, with tiny random models, and prints what became of it.

python benchmarks/run_embedded.py --models FOLDER [NAME …]

As ``run_workflows.py`` does it on real ComfyUIs: each workflow is converted, made small by its nodes' values, run as it
is, with another prompt and with another picture. It is ``ok`` where every run ends in a picture that is not of one
colour and each change changes it; what the engine does not cover is ``lacking``, with what it says. ``--save`` keeps
the first picture of each.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
import tempfile
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import tiny_models
from parity import write_byte_vocabulary
from real_comfyui import RunError, write_pictures
from run_workflows import OTHER_TEXT, WORKFLOWS, Result, ordered, pixels, small, table, with_value

from comfy_atelier.engines import EngineError, InvalidPrompt, Produced
from comfy_atelier.engines.embedded.engine import EmbeddedEngine
from comfy_atelier.graph import NodeSchemas, Prompt, find_interface, read_document

VERSION = "0.33.0"


async def files_of(engine: EmbeddedEngine, prompt: dict[str, Any]) -> list[bytes]:
    """What a prompt saves, in the order of its nodes. RunError where it fails."""
    found: list[tuple[str, int, bytes]] = []
    try:
        async for event in engine.run(Prompt.from_json(prompt), files={}):
            if isinstance(event, Produced) and not event.temporary:
                data = event.data if isinstance(event.data, bytes) else event.data.read_bytes()
                found.append((event.node, event.index, data))
    except InvalidPrompt as error:
        raise RunError(f"lacking: {error}" if "lacks" in str(error) else f"refused: {error}") from error
    except EngineError as error:
        raise RunError(f"{getattr(error, 'class_type', None) or 'engine'}: {error}") from error
    return [data for _, _, data in sorted(found, key=lambda item: item[:2])]


async def try_workflow(engine: EmbeddedEngine, path: Path, schemas: NodeSchemas, saved: Path | None) -> Result:
    """Convert, shrink, run, and run again with another prompt and another picture."""
    began = time.monotonic()
    document = read_document(path)
    converted = document.to_prompt(schemas)
    interface = find_interface(converted, schemas, document.workflow)
    prompt = small(converted.to_json(), path.stem)
    problem = ""
    try:
        files = await files_of(engine, prompt)
        first = pixels(files)
        if saved is not None:
            saved.mkdir(parents=True, exist_ok=True)
            for number, data in enumerate(files):
                (saved / f"{path.stem}-{number}").write_bytes(data)
        for wanted, value in (("text", OTHER_TEXT), ("image", "other.png")):
            other = with_value(prompt, interface, wanted, value)
            if other and pixels(await files_of(engine, other)) == first:
                problem = f"another {wanted} gives the same picture"
    except RunError as error:
        problem = " ".join(str(error).split())
    return Result(name=path.stem, version=VERSION, seconds=time.monotonic() - began, problem=problem)


async def run_all(models: Path, paths: Iterable[Path], saved: Path | None, comfyui: Path | None = None) -> list[Result]:
    """Each workflow's result; `comfyui` is a checkout that lends its tokenizers."""
    schemas = NodeSchemas.builtin(VERSION)
    results: list[Result] = []
    with tempfile.TemporaryDirectory() as inputs:
        write_pictures(Path(inputs))
        engine = EmbeddedEngine(input_dir=inputs, models_dirs=[models], comfyui_dir=comfyui)
        await engine.start()
        try:
            for path in ordered(paths):
                result = await try_workflow(engine, path, schemas, saved)
                told = f"FAIL: {result.problem}" if result.problem else "ok"
                print(f"{result.name}: {told} ({result.seconds:.1f} s)", file=sys.stderr, flush=True)
                results.append(result)
        finally:
            await engine.close()
    return results


def main() -> int:
    """Print the table; 1 where a workflow fails."""
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("names", nargs="*", help="workflows, all where none is named")
    arguments.add_argument("--models", type=Path, required=True, help="a folder for the tiny models")
    arguments.add_argument("--comfyui", type=Path, help="a checkout that lends its tokenizers (T5's, Qwen's)")
    arguments.add_argument("--save", type=Path, help="a folder for the first picture of each")
    chosen = arguments.parse_args()
    tiny_models.write_all(chosen.models)
    paths = [path for path in WORKFLOWS.glob("*.json") if not chosen.names or path.stem in chosen.names]
    llama = chosen.models / "tokenizers" / "llama3" / "tokenizer.json"
    if not llama.is_file():
        write_byte_vocabulary(llama)  # its own is gated
    results = asyncio.run(run_all(chosen.models, paths, chosen.save, chosen.comfyui))
    print(table({(result.name, VERSION): result for result in results}, [VERSION]))
    return int(any(result.problem for result in results))


if __name__ == "__main__":
    sys.exit(main())
