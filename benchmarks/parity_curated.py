"""Cases of `parity.py`: the curated workflows as they are, converted, made small, with the files of ``tiny_models.py``.

Both sides run our own nodes in them, ComfyUI through this checkout as its node pack.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from parity_cases import Case
from run_workflows import WORKFLOWS, small

from comfy_atelier.graph import NodeSchemas, read_document

STEPS = 2
SEED = 42
VERSION = "0.33.0"
PICTURES = ("LoadImage", "LoadImageMask", "AtelierInputImage")


def frames_as_pictures(prompt: dict[str, Any]) -> None:
    """Save a video's frames as pictures: those are compared, not a codec."""
    for key, node in list(prompt.items()):
        if node["class_type"] == "CreateVideo":
            prompt[key] = {
                "class_type": "SaveImage",
                "inputs": {"images": node["inputs"]["images"], "filename_prefix": "x"},
            }
        elif node["class_type"] == "SaveVideo":
            del prompt[key]


def cases(base: Path) -> Iterator[Case]:
    """Those whose model files are there."""
    schemas = NodeSchemas.builtin(VERSION)
    there = {path.name for path in (base / "models").rglob("*") if path.is_file()}
    for path in sorted(WORKFLOWS.glob("*.json")):
        prompt = small(read_document(path).to_prompt(schemas).to_json(), path.stem, STEPS)
        for node in prompt.values():
            inputs = node["inputs"]
            inputs.update({name: SEED for name in ("seed", "noise_seed") if isinstance(inputs.get(name), int)})
            if node["class_type"] in PICTURES and isinstance(inputs.get("image"), str):
                inputs["image"] = "picture.png"
        frames_as_pictures(prompt)
        named = [value for node in prompt.values() for value in node["inputs"].values() if isinstance(value, str)]
        if all(name in there for name in named if name.endswith(".safetensors")):
            yield Case(name=f"workflow {path.stem}", prompt=prompt)
