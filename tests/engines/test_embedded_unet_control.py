"""ControlNets of U-Nets against what ComfyUI 0.33.0's own handed on with the same seeded weights.

Recorded by ``tests/data/parity/record_control.py``.
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
    importlib.import_module("diffusers.models.controlnets.controlnet_union")
except (ImportError, RuntimeError) as error:  # it is not there, or what it loads does not fit together
    pytest.skip(f"models need diffusers: {error}".splitlines()[0], allow_module_level=True)

from comfy_atelier.engines.embedded.diffusion.control import controlnet_of, spread, summed  # noqa: E402 # needs torch
from comfy_atelier.engines.embedded.diffusion.unet_names import to_diffusers  # noqa: E402
from comfy_atelier.engines.embedded.diffusion.weights import Weights  # noqa: E402
from comfy_atelier.engines.embedded.families.unet_control import (  # noqa: E402
    ControlLora,
    ControlUNet,
    UNetControl,
    heads,
    named,
)
from comfy_atelier.engines.embedded.problems import NodeProblem  # noqa: E402

RECORD = Path(__file__).parents[1] / "data" / "parity" / "control.json.xz"
RECORDED: dict[str, Any] = json.loads(lzma.decompress(RECORD.read_bytes()))


def fill(name: str, shape: tuple[int, ...]) -> Any:
    rng = np.random.default_rng(zlib.crc32(name.encode()))
    values = rng.standard_normal(shape) / max(1.0, float(np.prod(shape[1:]))) ** 0.5
    if name.endswith("norm.weight") or (len(shape) == 1 and name.endswith("weight")):
        values = 1 + 0.1 * values
    return torch.from_numpy(np.asarray(values, dtype=np.float32))


def state(layout: str) -> dict[str, Any]:
    shapes = RECORDED[layout]["shapes"].items()  # ComfyUI calls a union's joined projection otherwise than files do
    return {name.replace(".in_proj.", ".in_proj_"): fill(name, tuple(shape)) for name, shape in shapes}


def inputs(layout: str) -> tuple[Any, ...]:
    label = fill("label", (2, 20)) if layout == "SDXL" else None
    hint = fill("hint", (2, 3, 48, 64)).clamp(0, 1)
    return fill("x", (2, 4, 6, 8)), torch.tensor([999.0, 13.5]), hint, fill("context", (2, 7, 24)), label


@pytest.mark.parametrize("layout", RECORDED)
def test_it_hands_on_what_comfyuis_does(layout: str) -> None:
    model = ControlUNet(state(layout), **RECORDED[layout]["options"]).eval()
    for answer in RECORDED[layout]["answers"]:
        with torch.no_grad():
            found = model(*inputs(layout), types=answer["types"])
        assert {place: len(tensors) for place, tensors in found.items()} == {
            place: len(tensors) for place, tensors in answer["out"].items()
        }
        for place, tensors in answer["out"].items():
            for number, expected in enumerate(tensors):
                tensor = found[place][number]
                assert list(tensor.shape) == expected["shape"]
                probes = (fill(f"{place}{number}:{n}", tuple(tensor.shape)).double() for n in range(3))
                numbers = [float((tensor.double() * probe).sum()) for probe in probes] + tensor.flatten()[:5].tolist()
                assert numbers == pytest.approx(expected["numbers"], rel=2e-5, abs=2e-5)


@pytest.mark.parametrize("layout", RECORDED)
def test_each_tensor_is_used(layout: str) -> None:
    weights = state(layout)
    model = ControlUNet(weights, **RECORDED[layout]["options"])
    count = sum(p.numel() for p in model.parameters()) + (model.union.task.numel() if model.union else 0)
    assert count == sum(tensor.numel() for tensor in weights.values())


@pytest.mark.parametrize("layout", ["SD 1.x", "SDXL", "union"])
def test_both_layouts_of_a_file_are_read(layout: str) -> None:
    weights = state(layout)
    plain = controlnet_of(Weights(weights, source="control.safetensors"))
    assert set(plain.component.weights) == set(weights)
    prefixed = controlnet_of(Weights({f"control_model.{name}": tensor for name, tensor in weights.items()}))
    assert set(prefixed.component.weights) == set(weights)
    diffusers = {_diffusers_name(name, weights): tensor for name, tensor in weights.items()}
    assert not set(diffusers) & {name for name in weights if not name.startswith(UNION)}
    assert set(named(Weights(diffusers))) == set(weights)


UNION = ("task_embedding", "transformer_layes", "spatial_ch_projs", "control_add_embedding")


def _diffusers_name(name: str, weights: dict[str, Any]) -> str:
    module, _, kind = name.rpartition(".")
    if name.startswith("zero_convs."):
        return f"controlnet_down_blocks.{module.split('.')[1]}.{kind}"
    if name.startswith("middle_block_out."):
        return f"controlnet_mid_block.{kind}"
    if name.startswith("input_hint_block."):
        place = int(module.split(".")[1]) // 2
        part = "conv_in" if place == 0 else "conv_out" if place == 7 else f"blocks.{place - 1}"
        return f"controlnet_cond_embedding.{part}.{kind}"
    return to_diffusers(list(weights)).get(name, (name,))[-1]


def test_heads_are_stable_diffusion_ones_by_the_texts_width() -> None:
    name = "input_blocks.1.1.transformer_blocks.0.attn2.to_k.weight"
    round_ = {name: torch.zeros(320, 768), "input_blocks.1.1.proj_in.weight": torch.zeros(320, 320, 1, 1)}
    assert heads(Weights(round_)) == 8
    assert heads(Weights({**round_, "input_blocks.1.1.proj_in.weight": torch.zeros(320, 320)})) is None
    assert heads(Weights({**round_, name: torch.zeros(320, 1024)})) is None


def test_a_file_that_is_no_controlnet_is_named() -> None:
    with pytest.raises(NodeProblem, match=r"'lora\.safetensors' holds no ControlNet"):
        controlnet_of(Weights({"lora_unet_x.alpha": torch.tensor(1.0)}, source="lora.safetensors"))


def test_kinds_are_told_by_tensors_and_name() -> None:
    union = controlnet_of(Weights(state("union"), source="a.safetensors")).kind
    assert isinstance(union, UNetControl)
    assert (union.types, union.averaged) == (6, False)
    assert controlnet_of(Weights(state("SD 1.x"), source="control_shuffle_fp16.safetensors")).kind.averaged
    lora = Weights({"lora_controlnet": torch.zeros(1), "input_hint_block.0.weight": torch.zeros(16, 3, 3, 3)})
    assert isinstance(controlnet_of(lora).kind, ControlLora)


def test_one_map_serves_all_and_several_go_round() -> None:
    maps = torch.arange(3.0).reshape(3, 1, 1, 1)
    assert spread(maps[:1], 4, 2).flatten().tolist() == [0, 0, 0, 0]
    assert spread(maps, 6, 2).flatten().tolist() == [0, 1, 2, 0, 1, 2]
    assert spread(maps, 4, 2).flatten().tolist() == [0, 1, 0, 1]
    assert spread(maps, 8, 2).flatten().tolist() == [0, 1, 2, 0, 0, 1, 2, 0]


def test_outputs_of_several_are_added_place_by_place() -> None:
    one, two = torch.ones(1), torch.full((1,), 2.0)
    found = summed({"output": [one, None, one]}, {"output": [two, two], "middle": [two]})
    assert [None if t is None else float(t) for t in found["output"]] == [3.0, 2.0, 1.0]
    assert [float(t) for t in found["middle"]] == [2.0]
    assert summed({"output": [None]}, {"output": [None]}) == {"output": [None]}
