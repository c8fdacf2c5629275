"""ControlNets of FLUX.1 against what ComfyUI 0.33.0's own gave with the same seeded weights, for small ones.

Recorded by ``tests/data/parity/record_flux_control.py``.
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
    from diffusers import FluxControlNetModel  # noqa: F401 # it loads lazily: only this tells whether it is whole
except (ImportError, RuntimeError) as error:
    pytest.skip(f"ControlNets need diffusers: {error}".splitlines()[0], allow_module_level=True)

from comfy_atelier.engines.embedded.diffusion.weights import Weights  # noqa: E402
from comfy_atelier.engines.embedded.families.flux_control import Control, control  # noqa: E402
from comfy_atelier.engines.embedded.problems import NodeProblem  # noqa: E402

RECORD = Path(__file__).parents[1] / "data" / "parity" / "flux_control.json.xz"
RECORDED: dict[str, Any] = json.loads(lzma.decompress(RECORD.read_bytes()))


def fill(name: str, shape: tuple[int, ...]) -> Any:
    rng = np.random.default_rng(zlib.crc32(name.encode()))
    values = rng.standard_normal(shape) / max(1.0, float(np.prod(shape[1:]))) ** 0.5
    if len(shape) == 1 and name.endswith(("weight", "scale")):
        values = 1 + 0.1 * values
    return torch.from_numpy(values.astype(np.float32))


def state(name: str) -> dict[str, Any]:
    return {key: fill(key, tuple(shape)) for key, shape in RECORDED["nets"][name]["shapes"].items()}


def inputs(name: str, asked: dict[str, Any]) -> dict[str, Any]:
    batch, (rows, columns) = asked.get("batch", 1), asked["size"]
    if name == "xlabs":
        hint = fill("pixels", (batch, 3, rows * 8, columns * 8)).sigmoid()
    else:
        hint = fill("hint", (batch, 17 if name == "inpaint" else 16, rows, columns)) * 4
    return {
        "latent": fill("latent", (batch, 16, rows, columns)) * 4,
        "timesteps": torch.linspace(0.25, 0.75, batch),
        "hint": hint,
        "context": fill("context", (batch, 5, 48)) * 4,
        "pooled": fill("pooled", (batch, 24)) * 4,
        "guidance": torch.full((batch,), 3.5),
        "types": asked.get("types", []),
    }


@pytest.mark.parametrize("name", RECORDED["nets"])
def test_additions_are_comfyuis(name: str) -> None:
    tensors = state(name)
    found_net = control(Weights(tensors, source=name))
    assert found_net is not None
    assert (found_net.kind.latent is None) == (name == "xlabs")
    assert found_net.kind.with_mask == (name == "inpaint")
    net = found_net.kind.build(tensors)
    for asked, expected in zip(RECORDED["asked"], RECORDED["nets"][name]["outputs"], strict=True):
        with torch.inference_mode():
            found = net(**inputs(name, asked))
        assert found.keys() == expected.keys()
        for place, record in expected.items():
            assert len(found[place]) == len(record["which"])
            for tensor, which in zip(found[place], record["which"], strict=True):
                wanted = torch.tensor(record["some"][which])
                assert (tensor.flatten()[::97] - wanted).abs().max() <= 1e-5 * wanted.abs().max(), (place, asked)


def test_what_is_missing_is_named() -> None:
    tensors = state("union")
    lacking = {name: tensor for name, tensor in tensors.items() if name != "transformer_blocks.0.attn.to_q.bias"}
    with pytest.raises(NodeProblem, match=r"transformer_blocks\.0\.attn\.to_q\.bias"):
        Control(lacking)


def test_other_files_are_left_to_others() -> None:
    assert control(Weights({"controlnet_blocks.0.weight": torch.zeros(1)}, source="x")) is None
    mistoline = {
        "controlnet_blocks.0.linear.weight": torch.zeros(1),
        "double_blocks.0.img_attn.qkv.weight": torch.zeros(1),
    }
    with pytest.raises(NodeProblem, match="MistoLine"):
        control(Weights(mistoline, source="x"))
