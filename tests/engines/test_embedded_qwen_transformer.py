"""Qwen-Image's transformer and ControlNet against what ComfyUI 0.33.0's own gave with the same seeded weights.

Recorded by ``tests/data/parity/record_qwen_transformer.py``.
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
    importlib.import_module("diffusers.models.transformers.transformer_qwenimage")
except (ImportError, RuntimeError) as error:  # it is not there, or what it loads does not fit together
    pytest.skip(f"models need diffusers: {error}".splitlines()[0], allow_module_level=True)

from comfy_atelier.engines.embedded.families import qwen_transformer as qwen  # noqa: E402 # needs torch
from comfy_atelier.engines.embedded.problems import NodeProblem  # noqa: E402

RECORD = Path(__file__).parents[1] / "data" / "parity" / "qwen_transformer.json.xz"
RECORDED: dict[str, Any] = json.loads(lzma.decompress(RECORD.read_bytes()))
TRANSFORMERS, CONTROLS = RECORDED["transformers"], RECORDED["controls"]


def fill(name: str, shape: tuple[int, ...]) -> Any:
    rng = np.random.default_rng(zlib.crc32(name.encode()))
    values = rng.standard_normal(shape) / max(1.0, float(np.prod(shape[1:]))) ** 0.5
    if len(shape) == 1 and name.endswith("weight"):
        values = 1 + 0.1 * values
    return torch.from_numpy(values.astype(np.float32))


def state(entry: dict[str, Any]) -> dict[str, Any]:
    return {name: fill(name, tuple(shape)) for name, shape in entry["shapes"].items()}


def inputs(case: dict[str, Any]) -> dict[str, Any]:
    told: dict[str, Any] = {
        "latent": fill("x", (2, 16, *case["size"])),
        "timesteps": torch.tensor([1.0, 0.135]),
        "text": fill("context", (2, 7, 20)),
    }
    if case.get("mask"):
        told["mask"] = torch.tensor([[1, 1, 1, 1, 1, 1, 0], [1, 1, 1, 1, 0, 0, 0]])
    if "references" in case:
        told["references"] = [fill(f"reference {n}", (2, 16, 1, *size)) for n, size in enumerate(case["references"])]
    if "method" in case:
        told["method"] = case["method"]
    if case.get("control"):
        patches = -(-case["size"][1] // 2) * -(-case["size"][2] // 2)
        told["control"] = [fill("control", (2, patches, 256)), None]
    return told


def assert_near(found: Any, expected: list[float]) -> None:
    wanted = torch.tensor(expected)
    assert float((found - wanted).abs().max()) <= 1e-5 * float(wanted.abs().max())


@pytest.mark.parametrize("layout", TRANSFORMERS)
def test_it_predicts_what_comfyui_predicts(layout: str) -> None:
    model = qwen.Transformer(state(TRANSFORMERS[layout]))
    for case in TRANSFORMERS[layout]["outputs"]:
        with torch.no_grad():
            found = model(**inputs(case))
        assert found.shape == (2, 16, *case["size"])
        assert_near(found.flatten()[::5], case["values"])


@pytest.mark.parametrize("layout", CONTROLS)
def test_a_control_net_adds_what_comfyui_adds(layout: str) -> None:
    model = qwen.ControlNet(state(CONTROLS[layout]))
    assert model.masked == (layout == "inpainting")
    for case in CONTROLS[layout]["outputs"]:
        hint = fill("hint", (2, 17 if model.masked else 16, *case["size"]))
        with torch.no_grad():
            found = model(**inputs(case), hint=hint)
        assert len(found) == case["count"]
        for one, expected in zip((found[0], found[-1]), case["values"], strict=True):
            assert_near(one.flatten()[::23], expected)


def test_a_patch_sees_each_block() -> None:
    model, seen = qwen.Transformer(state(TRANSFORMERS["first"])), []

    def patch(tokens: Any, latent: Any, number: int) -> Any:
        seen.append((number, tuple(tokens.shape), tuple(latent.shape)))
        return tokens

    told = inputs({"size": [1, 8, 6]})
    with torch.no_grad():
        assert torch.equal(model(**told, patches=[patch]), model(**told))
    assert seen == [(number, (2, 12, 256), (2, 16, 1, 8, 6)) for number in (0, 1)]


def test_each_tensor_is_used_and_none_is_copied() -> None:
    weights = state(TRANSFORMERS["first"])
    model = qwen.Transformer(weights)
    assert sum(p.numel() for p in model.parameters()) == sum(tensor.numel() for tensor in weights.values())
    assert model.model.img_in.weight.data_ptr() == weights["img_in.weight"].data_ptr()


def test_it_is_recognised_by_its_names() -> None:
    assert qwen.recognised(TRANSFORMERS["first"]["shapes"])
    assert not qwen.recognised(CONTROLS["union"]["shapes"])
    methods = {layout: qwen.reference_method(entry["shapes"]) for layout, entry in TRANSFORMERS.items()}
    assert methods == {"first": "index", "2511": "index_timestep_zero", "layered": "negative_index"}


def test_a_missing_tensor_is_named() -> None:
    weights = state(TRANSFORMERS["first"])
    del weights["transformer_blocks.1.attn.to_q.bias"]
    with pytest.raises(NodeProblem, match=r"'transformer_blocks\.1\.attn\.to_q\.bias' is missing"):
        qwen.Transformer(weights)
    with pytest.raises(NodeProblem, match=r"no tensor 'img_in\.weight'"):
        qwen.Transformer({"txt_norm.weight": torch.zeros(1)})
