"""Runs every curated workflow on real ComfyUIs on the CPU, with tiny random models, and prints what became of each.

python benchmarks/run_workflows.py --models FOLDER [--comfyui PATH=PYTHON …] [--quick] [NAME …]

FOLDER is what ``benchmarks/tiny_models.py`` wrote (it is completed where files are missing). Each workflow is
converted by this package, made small (a tiny picture, two steps) by the values of its nodes alone, and run: as it is,
with another prompt and, where it reads a picture, with another picture. It is ``ok`` where every run ends in a picture
that is not of one colour and each change changes it. ``warned`` says what the server logged meanwhile that a person
would call wrong.
"""

from __future__ import annotations

import argparse
import io
import os
import re
import signal
import sys
import tempfile
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import tiny_models
from PIL import Image
from real_comfyui import ROOT, Install, Prompt, RunError, Server, installs, running

from comfy_atelier.graph import Interface, NodeSchemas, Source, find_interface, read_document

WORKFLOWS = ROOT / "workflows"
SHIM = Path(__file__).parent / "tiny_shim"
MEGAPIXELS = 128 * 128 / 1_048_576
STEPS = 2
SECONDS = 900
MEMORY = 4 << 30
"""A server that holds more lets go of its models between workflows."""
OTHER_TEXT = "a green house under a blue sky"
SAME = "another"
"""How the words of a run begin that ended well and did not follow its inputs."""
ANY_LORA = {
    "flux1": "tiny_flux1_lora",
    "sd15": "tiny_sd15_lora",
    "sdxl": "tiny_sdxl_lora",
    "qwen": "tiny_qwen_image_lora",
}
"""What stands for the LoRA that a person would choose, by how the workflow's name begins."""

FAMILIES = (
    ("sd15", "Stable Diffusion 1.x"),
    ("sd2", "Stable Diffusion 2.x"),
    ("sd-turbo", "Stable Diffusion 2.x"),
    ("sdxl", "SDXL"),
    ("sd35", "Stable Diffusion 3.5"),
    ("svd", "Stable Video Diffusion"),
    ("flux1", "FLUX.1"),
    ("hidream", "HiDream"),
    ("qwen", "Qwen-Image"),
    ("hunyuan", "HunyuanImage 2.1"),
)
WRONG = re.compile(
    r"missing controlnet keys|unet missing|clip missing|Missing VAE|could not be applied|not loaded|shape mismatch|"
    r"size mismatch|ERROR|Traceback|lora key not"
)
RIGHT = re.compile(r"missing controlnet keys: \['orig_y_embedder")
"""Said of Stability's own files too: ComfyUI fills those from the model."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Result:
    """What became of one workflow on one version."""

    name: str
    version: str
    seconds: float
    problem: str = ""
    warned: tuple[str, ...] = ()

    @property
    def family(self) -> str:
        """In words."""
        return next((family for start, family in FAMILIES if self.name.startswith(start)), "no model")


def small(prompt: Prompt, name: str, steps: int = STEPS) -> Prompt:
    """The same prompt for a CPU: a tiny picture in few steps, a LoRA where the choice is left to the person."""
    lora = next((file for start, file in ANY_LORA.items() if name.startswith(start)), None)
    changed: Prompt = {}
    for key, node in prompt.items():
        inputs = dict(node["inputs"])
        kind = node["class_type"]
        if kind == "AtelierEmptyLatent":
            inputs["megapixels"] = MEGAPIXELS
        elif kind == "SVD_img2vid_Conditioning":
            inputs |= {"width": 128, "height": 128, "video_frames": 3}
        elif kind in ("AtelierOutpaint", "ImagePadForOutpaint"):
            inputs |= {side: min(64, inputs[side]) for side in ("left", "top", "right", "bottom")}
        elif kind == "AtelierPoseMap":
            inputs |= {"person_threshold": 0.0, "joint_threshold": 0.0}  # random models are sure of nothing
        elif kind == "AtelierLoraStack" and lora:
            inputs["lora_1"] = f"{lora}.safetensors"
        elif kind == "AtelierChangeSettings":
            inputs["steps"] = steps
        elif kind.startswith("AtelierSample"):
            shorter = f"{key}-steps"
            kept = {"cfg": 0.0, "guidance": 0.0, "sampler": "recommended", "scheduler": "recommended"}
            taken = max(steps, 2) if kind == "AtelierSampleRefined" else steps  # one for each of its models
            while 0 < inputs.get("denoise", 1.0) < 1 and int(taken / inputs["denoise"]) == taken:
                taken += 1  # with fewer, a flow begins at noise alone, and the picture that comes in says nothing
            values = {"settings": inputs["settings"], "steps": taken, **kept}
            changed[shorter] = {"class_type": "AtelierChangeSettings", "inputs": values}
            inputs["settings"] = [shorter, 0]
        changed[key] = {"class_type": kind, "inputs": inputs}
    return changed


def with_value(prompt: Prompt, interface: Interface, wanted: str, value: Any) -> Prompt | None:
    """The prompt with another value for every parameter of a kind (``text`` named prompt, ``image``); None where it
    has none.
    """
    changed, any_found = {key: {**node, "inputs": dict(node["inputs"])} for key, node in prompt.items()}, False
    for parameter in interface.parameters:
        if parameter.type.value != wanted or (wanted == "text" and not parameter.name.startswith("prompt")):
            continue
        for target in parameter.targets:
            changed[target.node]["inputs"][target.input] = value
            any_found = True
    return changed if any_found else None


def pixels(files: list[bytes]) -> list[bytes]:
    """Each file's pixels; a video's bytes as they are. RunError where a picture is of one colour."""
    if not files:
        raise RunError("nothing was saved")
    found = []
    for data in files:
        if data[4:8] == b"ftyp" or data[:4] == b"\x1aE\xdf\xa3":
            found.append(data)
            continue
        picture = Image.open(io.BytesIO(data)).convert("RGB")
        if all(low == high for low, high in picture.getextrema()):
            raise RunError("the picture is of one colour")
        found.append(picture.tobytes())
    return found


def try_workflow(server: Server, path: Path, schemas: NodeSchemas, *, quick: bool = False) -> Result:
    """Convert, shrink, run, and run again with another prompt and another picture; ``quick`` takes one step (UniPC does
    nothing in one: more where the picture stays the same) and changes the prompt only (the picture where there is no
    prompt).
    """
    if quick:
        result = _try(server, path, schemas, 1, one_change=True)
        if not result.problem.startswith(SAME):
            return result
    return _try(server, path, schemas, STEPS, one_change=quick)


def _try(server: Server, path: Path, schemas: NodeSchemas, steps: int, *, one_change: bool) -> Result:
    began, read = time.monotonic(), server.log.stat().st_size
    document = read_document(path)
    converted = document.to_prompt(schemas)
    interface = find_interface(converted, schemas, document.workflow)
    prompt = small(converted.to_json(), path.stem, steps)
    problem = "" if interface.source is Source.APP_MODE else "no App Mode interface"
    try:
        first = pixels(server.files(server.run(prompt, SECONDS)))
        for wanted, value in (("text", OTHER_TEXT), ("image", "other.png")):
            other = with_value(prompt, interface, wanted, value)
            if other and pixels(server.files(server.run(other, SECONDS))) == first:
                problem = f"{SAME} {wanted} gives the same picture"
            if other and one_change:
                break
    except (RunError, OSError) as error:
        problem = str(error) or type(error).__name__
    with server.log.open("rb") as stream:
        stream.seek(read)
        lines = stream.read().decode(errors="replace").splitlines()
    wrong = (line for line in lines if not problem and WRONG.search(line) and not RIGHT.search(line))
    warned = tuple(dict.fromkeys(line.strip()[:300] for line in wrong))
    return Result(
        name=path.stem, version=server.version, seconds=time.monotonic() - began, problem=problem, warned=warned
    )


def ordered(paths: Iterable[Path]) -> list[Path]:
    """Workflows of one family one after the other, so that models stay loaded."""
    places = [start for start, _ in FAMILIES]

    def key(path: Path) -> tuple[int, str]:
        place = next((place for place, start in enumerate(places) if path.stem.startswith(start)), len(places))
        return place, path.stem

    return sorted(paths, key=key)


def run_all(
    install: Install, models: Path, paths: Iterable[Path], base: Path, *, port: int = 0, quick: bool = False
) -> Iterable[Result]:
    """Each workflow's result on one version; models are freed between families."""
    schemas = NodeSchemas.builtin(install.version)
    with running(install, base, models, packs=(SHIM,), port=port) as server:
        before = ""
        for path in ordered(paths):
            result = try_workflow(server, path, schemas, quick=quick)
            if (before and result.family != before) or server.memory()[0] > MEMORY:
                server.free()
            before = result.family
            yield result


def table(results: Mapping[tuple[str, str], Result], versions: list[str]) -> str:
    """Family by workflow by version, in Markdown."""
    lines = ["| family | workflow | " + " | ".join(versions) + " |", "| --- | --- |" + " --- |" * len(versions)]
    names = dict.fromkeys(name for name, _ in results)
    for name in names:
        cells = []
        for version in versions:
            result = results.get((name, version))
            if result is None:
                cells.append("-")
            else:
                warned = f"; warned: {' / '.join(result.warned)}" if result.warned else ""
                cells.append((f"FAIL: {result.problem}" if result.problem else f"ok {result.seconds:.0f} s") + warned)
        family = next(result.family for result in results.values() if result.name == name)
        lines.append(f"| {family} | {name} | " + " | ".join(cell.replace("|", "/") for cell in cells) + " |")
    return "\n".join(lines)


def main() -> int:
    """Print the table; 1 where a workflow fails."""
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("names", nargs="*", help="workflows, all where none is named")
    arguments.add_argument("--models", type=Path, required=True, help="a folder for the tiny models")
    arguments.add_argument("--comfyui", default=os.environ.get("ATELIER_TEST_COMFYUI", ""), help="PATH=PYTHON pairs")
    arguments.add_argument("--quick", action="store_true", help="one step, and another prompt only")
    arguments.add_argument("--port", type=int, default=0)
    chosen = arguments.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # so that the server is stopped too
    found = installs(chosen.comfyui)
    if not found:
        arguments.error("no ComfyUI: give --comfyui PATH=PYTHON, or set ATELIER_TEST_COMFYUI")
    tiny_models.write_all(chosen.models)
    paths = [path for path in WORKFLOWS.glob("*.json") if not chosen.names or path.stem in chosen.names]
    results: dict[tuple[str, str], Result] = {}
    for install in found:
        with tempfile.TemporaryDirectory() as base:
            for result in run_all(install, chosen.models, paths, Path(base), port=chosen.port, quick=chosen.quick):
                results[result.name, result.version] = result
                told = f"FAIL: {result.problem}" if result.problem else "ok"
                print(f"{result.version} {result.name}: {told} ({result.seconds:.1f} s)", file=sys.stderr, flush=True)
                for line in result.warned:
                    print(f"    {line}", file=sys.stderr, flush=True)
    print(table(results, [install.version for install in found]))
    return int(any(result.problem for result in results.values()))


if __name__ == "__main__":
    sys.exit(main())
