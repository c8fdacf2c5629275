"""The U-Net against what ComfyUI 0.33.0's own gave with the same seeded weights, for small layouts.

Recorded by ``tests/data/parity/record_unet.py``.
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
    importlib.import_module("diffusers.models.transformers.transformer_2d")
except (ImportError, RuntimeError) as error:  # it is not there, or what it loads does not fit together
    pytest.skip(f"models need diffusers: {error}".splitlines()[0], allow_module_level=True)

from comfy_atelier.engines.embedded.problems import NodeProblem  # noqa: E402 # needs torch
from comfy_atelier.engines.embedded.unet import UNet  # noqa: E402

RECORD = Path(__file__).parents[1] / "data" / "parity" / "unet.json.xz"
RECORDED: dict[str, Any] = json.loads(lzma.decompress(RECORD.read_bytes()))


def fill(name: str, shape: tuple[int, ...]) -> Any:
    rng = np.random.default_rng(zlib.crc32(name.encode()))
    values = rng.standard_normal(shape) / max(1.0, float(np.prod(shape[1:]))) ** 0.5
    if name.endswith("norm.weight") or (len(shape) == 1 and name.endswith("weight")):
        values = 1 + 0.1 * values
    return torch.from_numpy(values.astype(np.float32))


def state(layout: str) -> dict[str, Any]:
    return {name: fill(name, tuple(shape)) for name, shape in RECORDED[layout]["shapes"].items()}


@pytest.mark.parametrize("layout", RECORDED)
def test_it_predicts_what_comfyui_predicts(layout: str) -> None:
    weights = state(layout)
    model = UNet(weights, **RECORDED[layout]["options"]).eval()
    width = next(tensor.shape[1] for name, tensor in weights.items() if name.endswith("attn2.to_k.weight"))
    for output in RECORDED[layout]["outputs"]:
        x, context = fill("x", (2, 4, output["rows"], output["columns"])), fill("context", (2, 7, width))
        label = fill("label", (2, 20)) if "label_emb.0.0.weight" in weights else None
        with torch.no_grad():
            found = model(x, torch.tensor([999.0, 13.5]), context, label)
        expected = torch.tensor(output["values"]).reshape(found.shape)
        assert float((found - expected).abs().max()) <= 1e-5 * float(expected.abs().max())


@pytest.mark.parametrize("layout", RECORDED)
def test_each_tensor_is_used(layout: str) -> None:
    weights = state(layout)
    model = UNet(weights, **RECORDED[layout]["options"])
    assert sum(p.numel() for p in model.parameters()) == sum(tensor.numel() for tensor in weights.values())


def test_another_file_is_refused() -> None:
    with pytest.raises(NodeProblem, match="no U-Net"):
        UNet({"text_model.embeddings.token_embedding.weight": torch.zeros(2, 2)}, heads=8)


def test_a_missing_tensor_is_named() -> None:
    weights = state("SD 1.x")
    del weights["input_blocks.1.0.out_layers.3.bias"]
    with pytest.raises(NodeProblem, match=r"'input_blocks\.1\.0' is not whole"):
        UNet(weights, heads=8)
