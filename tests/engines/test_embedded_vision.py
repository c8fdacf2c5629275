"""Vision encoders against what ComfyUI 0.33.0's own gave with the same seeded weights, for small ones.

Recorded by ``tests/data/parity/record_vision.py``.
"""

from __future__ import annotations

import json
import lzma
import zlib
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch", reason="the embedded engine needs torch")
np = pytest.importorskip("numpy")
try:
    from transformers import SiglipVisionModel  # noqa: F401 # it loads lazily: only this tells whether it is whole
except (ImportError, RuntimeError) as error:
    pytest.skip(f"vision encoders need transformers: {error}".splitlines()[0], allow_module_level=True)

from comfy_atelier.engines.embedded.diffusion.weights import Weights  # noqa: E402
from comfy_atelier.engines.embedded.families.vision import scaled, vision_of  # noqa: E402
from comfy_atelier.engines.embedded.problems import NodeProblem  # noqa: E402

RECORD = Path(__file__).parents[1] / "data" / "parity" / "vision.json.xz"
RECORDED: dict[str, Any] = json.loads(lzma.decompress(RECORD.read_bytes()))
PLACES = ("last_hidden_state", "penultimate_hidden_states", "image_embeds")


def fill(name: str, shape: tuple[int, ...]) -> Any:
    rng = np.random.default_rng(zlib.crc32(name.encode()))
    values = rng.standard_normal(shape) / max(1.0, float(np.prod(shape[1:]))) ** 0.5
    if len(shape) == 1 and name.endswith("weight"):
        values = 1 + 0.1 * values
    return torch.from_numpy(values.astype(np.float32))


def weights(name: str) -> Weights:
    shapes = RECORDED["encoders"][name]["shapes"]
    return Weights({key: fill(key, tuple(shape)) for key, shape in shapes.items()}, source=f"{name}.safetensors")


@pytest.mark.parametrize("name", RECORDED["encoders"])
def test_what_is_seen_is_comfyuis(name: str) -> None:
    component = vision_of(weights(name)).component
    vision = component.build(component.weights)
    outputs = iter(RECORDED["encoders"][name]["outputs"])
    for picture in RECORDED["pictures"]:
        image = fill("picture", (*picture, 3)).mul(4).sigmoid()
        for crop in (True, False):
            record = next(outputs)
            assert record["crop"] == crop
            with torch.inference_mode():
                found = vision(scaled(image, vision, crop=crop))
            for place, tensor in zip(PLACES, found, strict=True):
                wanted = torch.tensor(record[place]["some"])
                assert list(tensor.shape) == record[place]["shape"]
                some = tensor.flatten()[:: max(173, tensor.numel() // 60)]
                assert (some - wanted).abs().max() <= 1e-5 * wanted.abs().max(), (
                    place,
                    picture,
                    crop,
                )


def test_alpha_is_left_out() -> None:
    component = vision_of(weights("siglip")).component
    vision = component.build(component.weights)
    image = fill("picture", (1, 20, 20, 4)).sigmoid()
    assert torch.equal(scaled(image, vision, crop=True), scaled(image[..., :3], vision, crop=True))


def test_a_head_in_the_file_is_no_matter() -> None:
    own = weights("siglip").with_tensors({"vision_model.head.probe": torch.zeros(1, 1, 128)})
    component = vision_of(own).component
    component.build(component.weights)


def test_what_is_none_is_named() -> None:
    with pytest.raises(NodeProblem, match=r"'other\.safetensors' holds no vision encoder"):
        vision_of(Weights({"x": torch.zeros(1)}, source="other.safetensors"))
    lacking = weights("clip").without(["vision_model.encoder.layers.1.mlp.fc2.bias"])
    component = vision_of(lacking).component
    with pytest.raises(NodeProblem, match=r"encoder\.layers\.1\.mlp\.fc2\.bias"):
        component.build(component.weights)
