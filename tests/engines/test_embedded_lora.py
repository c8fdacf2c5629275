"""LoRA files on small models, against the weights that ComfyUI 0.33.0's own code merged.

Recorded by ``tests/data/parity/record_lora.py``.
"""

from __future__ import annotations

import json
import logging
import lzma
import zlib
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch", reason="the embedded engine needs torch")
np = pytest.importorskip("numpy")

from comfy_atelier.engines.embedded.diffusion import lora, lora_places  # noqa: E402 # needs torch
from comfy_atelier.engines.embedded.diffusion.lora_changes import Kronecker, LowRank, enlarged  # noqa: E402

RECORD = Path(__file__).parents[1] / "data" / "parity" / "lora.json.xz"
RECORDED: dict[str, Any] = json.loads(lzma.decompress(RECORD.read_bytes()))
Q = "input_blocks.1.1.transformer_blocks.0.attn1.to_q"


def fill(name: str, shape: tuple[int, ...]) -> Any:
    rng = np.random.default_rng(zlib.crc32(name.encode()))
    values = rng.standard_normal(shape) / max(1.0, float(np.prod(shape[1:]))) ** 0.5
    if name.endswith("norm.weight") or (len(shape) == 1 and name.endswith("weight")):
        values = 1 + 0.1 * values
    return torch.from_numpy(np.asarray(values, dtype=np.float32))


def tensors(spec: dict[str, Any]) -> dict[str, Any]:
    made: dict[str, Any] = {}
    for name, value in spec.items():
        if isinstance(value, list):
            sides = [-side for side in value]
            made[name] = torch.tensor(sides) if name.endswith("reshape_weight") else fill(name, tuple(value)) * 0.5
        else:
            made[name] = torch.tensor(value)
    return made


def ours(name: str) -> str:
    """ComfyUI's name of a tensor as our components have it."""
    return name.removeprefix("diffusion_model.").replace(".transformer.", ".")


NETWORK = {ours(name): fill(name, tuple(shape)) for name, shape in RECORDED["network"].items()}
TEXT = {ours(name): fill(name, tuple(shape)) for name, shape in RECORDED["text"].items()}


def places() -> lora.Places:
    return {**lora_places.unet(NETWORK), **lora_places.text(TEXT)}


def merged(files: list[str], strength: float) -> dict[str, Any]:
    changed: dict[str, Any] = {}
    weights = NETWORK | TEXT
    for name in files:
        adapter = lora.read(tensors(RECORDED["files"][name]), places())
        for patch in lora.weight_patches(adapter.changes, weights, strength):
            changed[patch.name] = patch.apply(changed.get(patch.name, weights[patch.name].clone()))
    return changed


@pytest.mark.parametrize("record", RECORDED["merged"], ids=lambda r: f"{'+'.join(r['files'])} {r['strength']}")
def test_merged_weights_are_comfyuis(record: dict[str, Any]) -> None:
    found = merged(record["files"], record["strength"])
    expected = {ours(name): values for name, values in record["weights"].items()}
    assert set(found) == set(expected)
    for name, values in expected.items():
        key = next(key for key in RECORDED["network"] | RECORDED["text"] if ours(key) == name)
        probe = fill(f"probe:{key}", tuple(values["shape"])).double()
        assert list(found[name].shape) == values["shape"]
        numbers = [float((found[name].double() * probe).sum()), *found[name].flatten()[:3].tolist()]
        assert numbers == pytest.approx(values["numbers"], rel=1e-5, abs=1e-5), name


def test_nothing_is_written_into_the_models_own_tensors() -> None:
    before = {name: tensor.clone() for name, tensor in NETWORK.items()}
    merged(["DoRA", "LoHa", "whole", "OFT and BOFT"], 0.5)
    assert all(torch.equal(before[name], tensor) for name, tensor in NETWORK.items())


def test_keys_without_a_place_are_told() -> None:
    adapter = lora.read(tensors(RECORDED["files"]["misfits"]), places())
    unknown = "lora_unet_double_blocks_0_img_attn_proj"
    assert list(adapter.unmatched) == [f"{unknown}.alpha", f"{unknown}.lora_down.weight", f"{unknown}.lora_up.weight"]


def test_a_change_that_does_not_fit_is_logged_and_left_out(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        found = merged(["misfits"], 1.0)
    assert torch.equal(found[f"{Q}.weight"], NETWORK[f"{Q}.weight"])
    assert f"{Q}.weight is left as it is" in caplog.text


def test_pefts_names_of_a_unet_are_known_too() -> None:
    module = "down_blocks.0.attentions.0.transformer_blocks.0.attn1.to_q"
    for prefix in ("unet.", "base_model.model.", ""):
        state = {
            f"{prefix}{module}.lora_A.weight": fill("a", (4, 32)),
            f"{prefix}{module}.lora_B.weight": fill("b", (32, 4)),
        }
        adapter = lora.read(state, places())
        assert [place.key for place in adapter.changes] == [f"{Q}.weight"]
        assert not adapter.unmatched


def test_a_kronecker_product_with_a_core() -> None:
    """0.33.0 fails at it (``torch.kron`` of a turned tensor), so it is held to the formula."""
    change = Kronecker(
        whole1=fill("w1", (2, 2)),
        a2=fill("a2", (2, 3)),
        b2=fill("b2", (2, 5)),
        core2=fill("t2", (2, 2, 3, 3)),
        alpha=4.0,
    )
    weight = torch.zeros(6, 10, 3, 3)
    inner = torch.einsum("ijkl,jr,ip->prkl", fill("t2", (2, 2, 3, 3)), fill("b2", (2, 5)), fill("a2", (2, 3)))
    for row in range(2):
        for column in range(2):
            weight[row * 3 : row * 3 + 3, column * 5 : column * 5 + 5] = fill("w1", (2, 2))[row, column] * inner
    found = change.applied(torch.zeros(6, 10, 3, 3), 1.0)
    assert torch.allclose(found, weight * 2.0, atol=1e-6)


def test_one_part_of_a_joined_weight() -> None:
    place = lora.Place(key="qkv.weight", part=(0, 4, 4))
    change = LowRank(up=fill("u", (4, 2)), down=fill("d", (2, 6)))
    (patch,) = lora.weight_patches({place: change}, {"qkv.weight"}, 2.0)
    weight = fill("qkv", (12, 6))
    found = patch.apply(weight)
    assert torch.equal(found[:4], weight[:4])
    assert torch.equal(found[8:], weight[8:])
    assert torch.allclose(found[4:8], weight[4:8] + 2.0 * fill("u", (4, 2)) @ fill("d", (2, 6)))


def test_black_forest_labs_control_loras_are_renamed() -> None:
    state = {
        "img_in.lora_A.weight": fill("a", (4, 8)),
        "img_in.lora_B.weight": fill("b", (16, 4)),
        "img_in.lora_B.bias": fill("c", (16,)),
        "single_blocks.0.norm.key_norm.scale": fill("s", (8,)),
    }
    names = ("img_in.weight", "img_in.bias", "single_blocks.0.norm.key_norm.scale")
    adapter = lora.read(state, lora_places.generic(names))
    assert not adapter.unmatched
    patches = {patch.name: patch for patch in lora.weight_patches(adapter.changes, names, 1.0)}
    assert patches["img_in.weight"].apply(torch.zeros(16, 4)).shape == (16, 8)
    assert torch.equal(patches["img_in.bias"].apply(torch.zeros(16)), fill("c", (16,)))
    norm = patches["single_blocks.0.norm.key_norm.scale"].apply(torch.ones(8))
    assert torch.equal(norm, fill("s", (8,)))


def test_a_weight_is_not_made_smaller() -> None:
    with pytest.raises(ValueError, match="does not fit"):
        enlarged(torch.zeros(4, 4), (2, 8))
