"""HiDream's transformer against what ComfyUI 0.33.0's own gave with the same seeded weights.

Recorded by ``tests/data/parity/record_hidream.py``.
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
    importlib.import_module("diffusers.models.transformers.transformer_hidream_image")
except (ImportError, RuntimeError) as error:  # it is not there, or what it loads does not fit together
    pytest.skip(f"models need diffusers: {error}".splitlines()[0], allow_module_level=True)

from comfy_atelier.engines.embedded.families import hidream_transformer as hidream  # noqa: E402 # needs torch
from comfy_atelier.engines.embedded.problems import NodeProblem  # noqa: E402

RECORD = Path(__file__).parents[1] / "data" / "parity" / "hidream.json.xz"
RECORDED: dict[str, Any] = json.loads(lzma.decompress(RECORD.read_bytes()))


def fill(name: str, shape: tuple[int, ...]) -> Any:
    rng = np.random.default_rng(zlib.crc32(name.encode()))
    values = rng.standard_normal(shape) / max(1.0, float(np.prod(shape[1:]))) ** 0.5
    if len(shape) == 1 and name.endswith("weight"):
        values = 1 + 0.1 * values
    return torch.from_numpy(values.astype(np.float32))


def state() -> dict[str, Any]:
    return {name: fill(name, tuple(shape)) for name, shape in RECORDED["shapes"].items()}


def predicted(model: Any, output: dict[str, Any]) -> Any:
    shape = (2, 16, output["rows"], output["columns"])
    with torch.no_grad():
        return hidream.predict(
            model,
            fill("x", shape),
            torch.tensor([800.0, 120.0]),
            t5=fill("t5", (2, 5, 20)),
            llama=fill("llama", (2, 3, 4, 24)),
            pooled=fill("pooled", (2, 12)),
            beside=fill("beside", shape) if "beside" in output else None,
        )


@pytest.fixture(scope="module")
def model() -> Any:
    return hidream.build(state())


@pytest.mark.parametrize(
    "output", RECORDED["outputs"], ids=lambda out: f"{out['columns']} x {out['rows']}{', edit' * ('beside' in out)}"
)
def test_it_predicts_what_comfyui_predicts(model: Any, output: dict[str, Any]) -> None:
    found = predicted(model, output)
    wanted = torch.tensor(output["values"]).reshape(found.shape)
    assert (found - wanted).abs().max() <= 1e-5 * wanted.abs().max()


def test_each_tensor_is_used(model: Any) -> None:
    assert sum(p.numel() for p in model.parameters()) == sum(tensor.numel() for tensor in state().values())


def test_the_blocks_are_counted() -> None:
    settings = hidream.configuration(state())
    assert (settings["num_layers"], settings["num_single_layers"], settings["num_routed_experts"]) == (2, 1, 4)
    assert settings["caption_channels"] == [20, 24]


def test_a_file_that_lacks_tensors_is_refused() -> None:
    weights = state()
    del weights["single_stream_blocks.0.block.ff_i.gate.weight"]
    with pytest.raises(NodeProblem, match=r"ff_i\.gate\.weight' is missing"):
        hidream.build(weights)
