"""The embedded engine gives what ComfyUI 0.33.0 gave for the recorded prompts (``tests/data/parity/record.py``).

Pictures may be 1/255 apart, texts must be equal, and what ComfyUI refused or failed at must be an error here too.
"""

from __future__ import annotations

import io
import json
import lzma
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from comfy_atelier.engines import EmbeddedEngine, EngineError, InvalidPrompt, ManagedComfyUI, Produced
from comfy_atelier.engines.embedded.registry import MODULES
from comfy_atelier.graph import InputRef, Prompt

pytest.importorskip("torch", reason="the embedded engine needs torch")

RECORDED = Path(__file__).parents[1] / "data" / "parity"
CASES: list[dict[str, Any]] = json.loads(lzma.decompress((RECORDED / "prompts.json.xz").read_bytes()))
PIXELS = lzma.decompress((RECORDED / "pixels.xz").read_bytes())

# Where the embedded engine is meant to differ: class, and what its error says. The README beside the record says why.
MEANT: Mapping[str, str] = {"StringFormat": "a format may not use"}


# The modules without weights whose pictures and texts are recorded; the others have tests of their own.
HELD_HERE = ("nodes_filter", "nodes_image", "nodes_load", "nodes_logic", "nodes_mask", "nodes_primitive", "nodes_save",
             "nodes_scale", "nodes_sigmas", "nodes_text", "nodes_tile")  # fmt: skip


def files(case: Mapping[str, Any]) -> dict[InputRef, Path]:
    return {
        InputRef(name, "image"): RECORDED / "inputs" / node["inputs"]["image"]
        for name, node in case["prompt"].items()
        if node["class_type"] in ("LoadImage", "LoadImageMask")
    }


async def observe(engine: Any, case: Mapping[str, Any]) -> dict[tuple[str, str, int], Any] | str:
    """What the engine produced by node, kind and index; or the kind of its error."""
    found: dict[tuple[str, str, int], Any] = {}
    try:
        async for event in engine.run(Prompt.from_json(case["prompt"]), files=files(case)):
            if isinstance(event, Produced):
                data = event.data if isinstance(event.data, bytes) else event.data.read_bytes()
                value: Any = (
                    data.decode() if event.media_type != "image/png" else np.asarray(Image.open(io.BytesIO(data)))
                )
                found[event.node, event.output, event.index] = value
    except InvalidPrompt as error:
        return f"invalid: {error}"
    except EngineError as error:
        return f"failed: {error}"
    return found


def difference(case: Mapping[str, Any], found: dict[tuple[str, str, int], Any] | str) -> str | None:
    """In what the engine differs from the record; None where it does not."""
    if "error" in case:
        return None if isinstance(found, str) else f"recorded as {case['error']}, but it ran"
    if isinstance(found, str) and MEANT.get(case["class"], "\0") in found:
        return None
    if isinstance(found, str):
        return f"recorded as fine, but {found}"
    recorded = {(entry["node"], entry["kind"], entry["index"]): entry for entry in case["produced"]}
    if set(recorded) != set(found):
        return f"produced {sorted(found)}, recorded {sorted(recorded)}"
    for place, entry in recorded.items():
        value = found[place]
        if "text" in entry:
            if value != entry["text"]:
                return f"text {value!r}, recorded {entry['text']!r}"
            continue
        size = int(np.prod(entry["shape"]))
        expected = np.frombuffer(PIXELS, np.uint8, size, entry["offset"]).reshape(entry["shape"])
        if value.shape != expected.shape:
            return f"shape {value.shape}, recorded {expected.shape}"
        apart = int(np.abs(value.astype(int) - expected.astype(int)).max(initial=0))
        if apart > 1:
            return f"{apart}/255 apart"
    return None


def test_each_class_is_recorded_often() -> None:
    counts = Counter(case["class"] for case in CASES if "produced" in case)
    assert set(counts) == {name for module in HELD_HERE for name in MODULES[module]}
    assert min(counts.values()) >= 20


async def test_the_recorded_prompts_give_the_recorded_results(tmp_path: Path) -> None:
    engine = EmbeddedEngine(log_dir=tmp_path)
    different: list[str] = []
    try:
        for number, case in enumerate(CASES):
            found = difference(case, await observe(engine, case))
            if found is not None:
                different.append(f"{number} {case['class']}: {found}")
    finally:
        await engine.close()
    assert different == []


@pytest.mark.comfyui
@pytest.mark.slow
async def test_a_real_comfyui_gives_the_recorded_results(comfyui_install: Any) -> None:
    """The record is true of 0.33.0; of another version but for the cases that name it."""
    engine = ManagedComfyUI(comfyui_install.path, python=comfyui_install.python, device="cpu")
    different: list[str] = []
    await engine.start()
    try:
        for number, case in enumerate(CASES):
            if comfyui_install.version in case.get("differs", ()):
                continue
            found = difference(case, await observe(engine, case))
            if found is not None:
                different.append(f"{number} {case['class']}: {found}")
    finally:
        await engine.close()
    assert different == []
