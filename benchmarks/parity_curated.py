"""Cases of `parity.py`: the curated workflows as they are, converted, made small, with the files of ``tiny_models.py``.

Both sides run our own nodes in them, ComfyUI through this checkout as its node pack.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from parity_cases import Case
from run_workflows import WORKFLOWS, small

from comfy_atelier.graph import NodeSchemas, read_document

STEPS = 2
SEED = 42
VERSION = "0.33.0"


def cases(base: Path) -> Iterator[Case]:
    """Those whose model files are there."""
    schemas = NodeSchemas.builtin(VERSION)
    there = {path.name for path in (base / "models").rglob("*") if path.is_file()}
    for path in sorted(WORKFLOWS.glob("*.json")):
        prompt = small(read_document(path).to_prompt(schemas).to_json(), path.stem, STEPS)
        for node in prompt.values():
            inputs = node["inputs"]
            inputs.update({name: SEED for name in ("seed", "noise_seed") if isinstance(inputs.get(name), int)})
            if node["class_type"] in ("LoadImage", "AtelierInputImage") and isinstance(inputs.get("image"), str):
                inputs["image"] = "picture.png"
        named = [value for node in prompt.values() for value in node["inputs"].values() if isinstance(value, str)]
        if all(name in there for name in named if name.endswith(".safetensors")):
            yield Case(name=f"workflow {path.stem}", prompt=prompt)
