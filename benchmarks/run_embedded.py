"""Serves every curated workflow on the embedded engine on the CPU, with tiny random models, and calls it as a client.

python benchmarks/run_embedded.py --models FOLDER [NAME …]

As ``run_workflows.py`` does it on real ComfyUIs: each workflow is converted and made small by its nodes' values; then
it is a service of its own (`Service`, what ``atelier serve`` starts, without the socket) that ``POST /generate`` asks
for the picture as it is, with another prompt and with another picture. It is ``ok`` where every call answers a picture
that is not of one colour and each change changes it; what the engine does not cover is ``lacking``, with what the
service says when it starts. ``--save`` keeps the first pictures of each. The largest memory of the engine's process is
told beside the seconds (Linux).
"""

from __future__ import annotations

import argparse
import asyncio
import sys
import tempfile
import time
from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import tiny_models
from parity import write_byte_vocabulary
from real_comfyui import RunError, write_pictures
from run_workflows import OTHER_TEXT, STEPS, WORKFLOWS, Result, ordered, pixels, small, table

from comfy_atelier.api import Service, Settings
from comfy_atelier.engines import InvalidPrompt
from comfy_atelier.engines.embedded.engine import EmbeddedEngine
from comfy_atelier.graph import Interface, Prompt
from comfy_atelier.packer import Bundle

VERSION = "0.33.0"
SEED = 42
SECONDS = 900.0  # a call at most
OTHER_PICTURE = "other.png"


class Caller:
    """A client of one started service."""

    def __init__(self, client: httpx.AsyncClient, interface: Interface, inputs: Path) -> None:
        self._client = client
        self._parameters = interface.parameters
        self._inputs = inputs

    async def files(self, **changed: str) -> list[bytes]:
        """What ``POST /generate`` answers. ``text`` and ``image`` change every parameter of that kind.

        Raises:
            RunError: the service says something else; KeyError: there is no such parameter.
        """
        values: dict[str, Any] = {each.name: SEED for each in self._parameters if each.type.value == "seed"}
        pictures: dict[str, Any] = {}
        for kind, value in changed.items():
            names = [each.name for each in self._parameters if each.type.value == kind]
            names = [name for name in names if kind != "text" or name.startswith("prompt")]
            if not names:
                raise KeyError(kind)
            for name in names:
                if kind == "image":
                    pictures[name] = (value, (self._inputs / value).read_bytes(), "image/png")
                else:
                    values[name] = value
        accept = {"Accept": "application/json"}
        if pictures:
            sent = self._client.post("/generate", data=values, files=pictures, headers=accept)
        else:
            sent = self._client.post("/generate", json=values, headers=accept)
        answer = await sent
        told = answer.json()
        if answer.status_code != 200 or told["status"] != "succeeded":
            raise RunError(str(told.get("detail") or told.get("error") or told))
        return [(await self._client.get(output["url"])).content for output in told["outputs"]]


def peak(pid: int) -> float:
    """The largest memory of a process so far, in GB; 0 where the system does not say."""
    path = Path(f"/proc/{pid}/status")
    if not path.is_file():
        return 0.0
    lines = (line.split() for line in path.read_text().splitlines() if line.startswith("VmHWM"))
    return next((int(line[1]) / 1e6 for line in lines), 0.0)


async def try_workflow(
    path: Path, engine: EmbeddedEngine, inputs: Path, data: Path, saved: Path | None, *, quick: bool = False
) -> Result:
    """Serve one workflow and call it: as it is, with another prompt, with another picture; ``quick`` calls once."""
    began, problem = time.monotonic(), ""
    whole = Bundle.open(path, input_dirs=[inputs])
    bundle = replace(whole, prompt=Prompt.from_json(small(whole.prompt.to_json(), path.stem, 1 if quick else STEPS)))
    service = Service(bundle, settings=Settings(data_dir=data), engine=engine)
    try:
        async with service.app.router.lifespan_context(service.app):
            transport = httpx.ASGITransport(app=service.app)
            async with httpx.AsyncClient(transport=transport, base_url="http://localhost", timeout=SECONDS) as client:
                problem = await called(Caller(client, bundle.interface, inputs), path.stem, saved, quick=quick)
    except InvalidPrompt as error:
        problem = f"lacking: {error}"
    except RunError as error:
        problem = " ".join(str(error).split())
    return Result(name=path.stem, version=VERSION, seconds=time.monotonic() - began, problem=problem)


async def called(caller: Caller, name: str, saved: Path | None, *, quick: bool = False) -> str:
    """What is wrong with a service's answers, or "". Raises `RunError`."""
    files = await caller.files()
    if saved is not None:
        saved.mkdir(parents=True, exist_ok=True)
        for number, data in enumerate(files):
            (saved / f"{name}-{number}").write_bytes(data)
    first = pixels(files)
    for changed in () if quick else ({"text": OTHER_TEXT}, {"image": OTHER_PICTURE}):
        try:
            other = pixels(await caller.files(**changed))
        except KeyError:
            continue  # it has no such parameter
        if other == first:
            return f"another {next(iter(changed))} gives the same picture"
    return ""


async def run_all(
    models: Path, paths: Iterable[Path], saved: Path | None, comfyui: Path | None = None, *, quick: bool = False
) -> list[Result]:
    """Each workflow's result; `comfyui` is a checkout that lends its tokenizers."""
    results: list[Result] = []
    with tempfile.TemporaryDirectory() as scratch:
        inputs = Path(scratch) / "input"
        inputs.mkdir()
        write_pictures(inputs)
        for path in ordered(paths):
            engine = Watched(input_dir=inputs, models_dirs=[models], comfyui_dir=comfyui)
            result = await try_workflow(path, engine, inputs, Path(scratch) / path.stem, saved, quick=quick)
            told = f"FAIL: {result.problem}" if result.problem else "ok"
            print(f"{result.name}: {told} ({result.seconds:.1f} s, {engine.peak:.1f} GB)", file=sys.stderr, flush=True)
            results.append(result)
    return results


class Watched(EmbeddedEngine):
    """The engine, and the largest memory that its process had when it ended."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.peak = 0.0

    async def close(self) -> None:
        """See `EmbeddedEngine.close`."""
        if self._process is not None:
            self.peak = peak(self._process.pid)
        await super().close()


def results_by_name(results: Iterable[Result]) -> Mapping[tuple[str, str], Result]:
    """As `table` takes them."""
    return {(result.name, VERSION): result for result in results}


def main() -> int:
    """Print the table; 1 where a workflow fails."""
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("names", nargs="*", help="workflows, all where none is named")
    arguments.add_argument("--models", type=Path, required=True, help="a folder for the tiny models")
    arguments.add_argument("--comfyui", type=Path, help="a checkout that lends its tokenizers (T5's, Qwen's)")
    arguments.add_argument("--quick", action="store_true", help="one step, one call")
    arguments.add_argument("--save", type=Path, help="a folder for the first picture of each")
    chosen = arguments.parse_args()
    tiny_models.write_all(chosen.models)
    paths = [path for path in WORKFLOWS.glob("*.json") if not chosen.names or path.stem in chosen.names]
    llama = chosen.models / "tokenizers" / "llama3" / "tokenizer.json"
    if not llama.is_file():
        write_byte_vocabulary(llama)  # its own is gated
    results = asyncio.run(run_all(chosen.models, paths, chosen.save, chosen.comfyui, quick=chosen.quick))
    print(table(results_by_name(results), [VERSION]))
    return int(any(result.problem for result in results))


if __name__ == "__main__":
    sys.exit(main())
