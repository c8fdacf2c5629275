"""CLIP's eyes against what ComfyUI 0.33.0's own gave with the same seeded weights.

Recorded by ``tests/data/parity/record_clip_vision.py``.
"""

from __future__ import annotations

import importlib
import json
import lzma
import zlib
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch", reason="the embedded engine needs torch")
np = pytest.importorskip("numpy")
try:
    importlib.import_module("transformers.models.clip.modeling_clip")
except (ImportError, RuntimeError) as error:  # it is not there, or what it loads does not fit together
    pytest.skip(f"models need transformers: {error}".splitlines()[0], allow_module_level=True)

from comfy_atelier.engines.embedded.diffusion.weights import Weights  # noqa: E402 # needs torch
from comfy_atelier.engines.embedded.families import clip_vision  # noqa: E402
from comfy_atelier.engines.embedded.problems import NodeProblem  # noqa: E402

RECORD = Path(__file__).parents[1] / "data" / "parity" / "clip_vision.json.xz"
RECORDED: dict[str, Any] = json.loads(lzma.decompress(RECORD.read_bytes()))


def fill(name: str, shape: tuple[int, ...]) -> Any:
    rng = np.random.default_rng(zlib.crc32(name.encode()))
    values = rng.standard_normal(shape) / max(1.0, float(np.prod(shape[1:]))) ** 0.5
    if len(shape) == 1 and name.endswith("weight"):
        values = 1 + 0.1 * values
    return torch.from_numpy(values.astype(np.float32))


def weights(layout: str) -> Weights:
    return Weights({name: fill(name, tuple(shape)) for name, shape in RECORDED[layout]["shapes"].items()}, source="x")


class Held:
    """A component whose module is built at once."""

    def __init__(self, eyes: clip_vision.ClipEyes) -> None:
        component = eyes.component
        self._module = component.build({name: component.weights[name] for name in component.weights})

    def module(self) -> Any:
        return self._module


@pytest.mark.parametrize("layout", RECORDED)
def test_it_sees_what_comfyui_sees(layout: str) -> None:
    eyes = clip_vision.ClipEyes(component=Held(clip_vision.eyes_of(weights(layout))))  # type: ignore[arg-type]
    for output in RECORDED[layout]["outputs"]:
        image = fill("image", (2, output["rows"], output["columns"], 3)).sigmoid()
        seen = eyes.look(image, crop=output["crop"])
        for found, name in (
            (seen.last_hidden, "last_hidden_state"),
            (seen.penultimate, "penultimate_hidden_states"),
            (seen.embeds, "image_embeds"),
        ):
            wanted = torch.tensor(output[name]).reshape(found.shape)
            assert (found - wanted).abs().max() <= 2e-5 * wanted.abs().max(), name


def test_what_is_taken_apart_is_read_when_it_is_needed() -> None:
    own = clip_vision.in_transformers_layout(weights("OpenCLIP"))
    assert own.shape("visual_projection.weight") == (8, 32)
    assert own.shape("vision_model.encoder.layers.3.self_attn.v_proj.weight") == (32, 32)
    fused = weights("OpenCLIP")["transformer.resblocks.3.attn.in_proj_bias"]
    assert torch.equal(own["vision_model.encoder.layers.3.self_attn.k_proj.bias"], fused[32:64])


def test_other_files_are_refused() -> None:
    with pytest.raises(NodeProblem, match="'x' holds no CLIP vision model"):
        clip_vision.eyes_of(Weights({"encoder.conv_in.weight": torch.zeros(1)}, source="x"))


def test_a_file_that_lacks_tensors_is_refused() -> None:
    lacking = weights("transformers").without(["vision_model.encoder.layers.1.mlp.fc2.bias"])
    with pytest.raises(NodeProblem, match=r"of 'x' is not whole: tensor .*layers\.1\.mlp\.fc2\.bias' is missing"):
        Held(clip_vision.eyes_of(lacking))
