"""Stable Diffusion 3's transformer and ControlNets against what ComfyUI 0.33.0's own gave with the same seeded weights.

Recorded by ``tests/data/parity/record_mmdit.py``.
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
    importlib.import_module("diffusers.models.transformers.transformer_sd3")
except (ImportError, RuntimeError) as error:  # it is not there, or what it loads does not fit together
    pytest.skip(f"models need diffusers: {error}".splitlines()[0], allow_module_level=True)

from comfy_atelier.engines.embedded.diffusion.values import Asked, Condition, Step  # noqa: E402 # needs torch
from comfy_atelier.engines.embedded.diffusion.weights import Weights  # noqa: E402
from comfy_atelier.engines.embedded.families import mmdit, mmdit_control  # noqa: E402
from comfy_atelier.engines.embedded.families.mmdit_layout import Piece, pieces, placed  # noqa: E402
from comfy_atelier.engines.embedded.families.sd3 import FAMILY, LATENT, SKIP_LAYERS  # noqa: E402
from comfy_atelier.engines.embedded.problems import NodeProblem  # noqa: E402

RECORD = Path(__file__).parents[1] / "data" / "parity" / "mmdit.json.xz"
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


def inputs(rows: int, columns: int) -> dict[str, Any]:
    return {
        "latent": fill("x", (2, 16, rows, columns)),
        "timesteps": torch.tensor([999.0, 13.5]),
        "context": fill("context", (2, 7, 24)),
        "pooled": fill("pooled", (2, 40)),
    }


def assert_near(found: Any, expected: list[float]) -> None:
    wanted = torch.tensor(expected)
    assert float((found - wanted).abs().max()) <= 1e-5 * float(wanted.abs().max())


@pytest.mark.parametrize("layout", TRANSFORMERS)
def test_it_predicts_what_comfyui_predicts(layout: str) -> None:
    model = mmdit.Transformer(state(TRANSFORMERS[layout]))
    blocks, width = len(model.model.transformer_blocks), model.model.inner_dim
    for output in TRANSFORMERS[layout]["outputs"]:
        rows, columns = output["rows"], output["columns"]
        patches = -(-rows // 2) * -(-columns // 2)
        control = (
            [fill(f"control {block}", (2, patches, width)) for block in range(blocks)] if output["control"] else []
        )
        with torch.no_grad():
            found = model(**inputs(rows, columns), control=control)
        assert found.shape == (2, 16, rows, columns)
        assert_near(found.flatten()[::3], output["values"])


@pytest.mark.parametrize("layout", CONTROLS)
def test_a_control_net_adds_what_comfyui_adds(layout: str) -> None:
    weights = state(CONTROLS[layout])
    base = {name: fill(name, tuple(shape)) for name, shape in TRANSFORMERS["medium"]["shapes"].items()}
    for name in [name for name in weights if name.startswith("orig_y_embedder.")]:  # the base model's, in ComfyUI
        base[name.removeprefix("orig_")] = weights.pop(name)
    model = (mmdit_control.SingleControl if layout.startswith("single") else mmdit_control.JointControl)(weights)
    for output in CONTROLS[layout]["outputs"]:
        rows, columns = output["rows"], output["columns"]
        hint = fill("hint", (2, model.hint_channels, rows, columns))
        with torch.no_grad():
            found = model(**inputs(rows, columns), hint=hint, base=mmdit.Transformer(base))
        assert len(found) == len(output["values"])
        for one, expected in zip(found, output["values"], strict=True):
            assert_near(one.flatten()[::11], expected)


def test_diffusers_names_of_a_control_net_mean_the_same() -> None:
    weights = state(CONTROLS["joint blocks"])
    table = list(pieces(2, last_is_short=False))
    kept = {name: weights[name] for name in weights if name.startswith(("controlnet_blocks.", "pos_embed_input."))}
    renamed = {**placed(weights, table), **kept}
    assert mmdit_control.recognised(renamed)
    told = {**inputs(8, 10), "hint": fill("hint", (2, 16, 8, 10))}
    with torch.no_grad():
        one, other = mmdit_control.JointControl(weights)(**told), mmdit_control.JointControl(renamed)(**told)
    assert all(torch.equal(a, b) for a, b in zip(one, other, strict=True))


def test_a_skipped_block_is_as_if_it_were_not_there() -> None:
    weights = state(TRANSFORMERS["large"])
    model = mmdit.Transformer(weights)
    shorter = {
        name.replace("blocks.1.", "blocks.0."): tensor for name, tensor in weights.items() if "blocks.0." not in name
    }
    with torch.no_grad():
        assert torch.equal(model(**inputs(8, 10), skip={0}), mmdit.Transformer(shorter)(**inputs(8, 10)))


@pytest.mark.parametrize("layout", TRANSFORMERS)
def test_each_tensor_is_used_and_large_ones_are_not_copied(layout: str) -> None:
    weights = state(TRANSFORMERS[layout])
    model = mmdit.Transformer(weights)
    assert sum(p.numel() for p in model.state_dict().values()) == sum(tensor.numel() for tensor in weights.values())
    parameter = model.model.transformer_blocks[0].attn.to_k.weight
    source = weights["joint_blocks.0.x_block.attn.qkv.weight"]
    assert parameter.untyped_storage().data_ptr() == source.untyped_storage().data_ptr()


def test_the_table_puts_parts_where_they_belong() -> None:
    table = [
        Piece(source="a", target="first", part=0, parts=2),
        Piece(source="a", target="second", part=1, parts=2),
        Piece(source="a", target="turned", part=0, parts=2, place=1),
        Piece(source="a", target="turned", part=1, parts=2, place=0),
        Piece(source="absent", target="x"),
    ]
    found = placed({"a": torch.arange(4), "other": torch.zeros(1)}, table)
    assert {name: tensor.tolist() for name, tensor in found.items()} == {
        "first": [0, 1],
        "second": [2, 3],
        "turned": [2, 3, 0, 1],
    }


def test_it_is_recognised_by_its_names() -> None:
    assert mmdit.recognised(TRANSFORMERS["large"]["shapes"])
    assert not mmdit.recognised(["input_blocks.0.0.weight"])


def test_a_latent_beyond_its_positions_is_refused() -> None:
    model = mmdit.Transformer(state(TRANSFORMERS["3.0"]))
    with pytest.raises(NodeProblem, match="20 x 8, the model knows positions up to 16 x 16"), torch.no_grad():
        model(**inputs(8, 20))


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("pos_embed", "no tensor 'pos_embed'"),
        ("joint_blocks.1.x_block.mlp.fc2.bias", "is not whole: .*ff.net.2.bias.* is missing"),
    ],
)
def test_a_missing_tensor_is_named(name: str, message: str) -> None:
    weights = state(TRANSFORMERS["large"])
    del weights[name]
    with pytest.raises(NodeProblem, match=message):
        mmdit.Transformer(weights)


def test_a_control_net_of_another_width_is_refused() -> None:
    model = mmdit_control.SingleControl(state(CONTROLS["single blocks"]))
    base = mmdit.Transformer(state(TRANSFORMERS["large"]))
    with pytest.raises(NodeProblem, match="192 wide, the model 128"), torch.no_grad():
        model(**inputs(8, 10), hint=fill("hint", (2, 16, 8, 10)), base=base)


def test_the_family_describes_its_network() -> None:
    weights = Weights(state(TRANSFORMERS["medium"]), source="model.safetensors")
    network = FAMILY.denoiser(weights)
    assert network is not None
    assert (network.variant, network.text_width) == ("sd3.5-medium", 24)
    assert FAMILY.denoiser(Weights({"input_blocks.0.0.weight": torch.zeros(1)})) is None
    aliases = network.aliases(weights)
    part = aliases["transformer_blocks.1.attn2.to_k.weight"]
    assert (part.name, part.start, part.length) == ("joint_blocks.1.x_block.attn2.qkv.weight", 192, 192)
    assert aliases["transformer_blocks.0.ff.net.2.weight"].length is None


def test_the_network_predicts_from_what_it_is_told() -> None:
    network = FAMILY.denoiser(Weights(state(TRANSFORMERS["large"])))
    assert network is not None
    module, told = network.build(state(TRANSFORMERS["large"])), inputs(8, 10)
    x, time = told["latent"], told["timesteps"]
    asked = Asked(noise=x, latent=x, mask=None, kind="positive", device=torch.device("cpu"))
    condition = Condition(text=told["context"], options={"pooled_output": told["pooled"]})
    facts = {name: each.value for name, each in network.told(condition, asked).items()}
    added = [None, fill("control 1", (2, 20, 128))]
    step = Step(sigma=time, sigmas=time, control={"output": added}, patches={SKIP_LAYERS: ((0,),)})
    with torch.no_grad():
        found = network.predict(module, x, time, facts, step)
        assert torch.equal(found, module(**told, control=added, skip={0}))
    with pytest.raises(NodeProblem, match="no pooled text"):
        network.told(Condition(text=told["context"]), asked)


def test_stability_s_control_nets_say_what_they_want_to_be_shown() -> None:
    tensors = state(CONTROLS["single blocks"])
    kinds = {}
    for number in (None, 0, 1, 2):
        named = tensors if number is None else {**tensors, "control_type": torch.tensor(float(number))}
        net = mmdit_control.control(Weights(named))
        assert net is not None
        assert net.kind.latent == LATENT
        kinds[number] = float(net.kind.prepared(torch.tensor(0.25)))
    assert kinds == {None: 0.25, 0: 0.25, 1: 0.25 * 127.5 + 0.5, 2: 0.75}
    joint = mmdit_control.control(Weights(state(CONTROLS["joint blocks, inpainting"])))
    assert joint is not None
    assert joint.kind.with_mask
    assert joint.kind.latent is not None
    assert joint.kind.latent.shift == 0.0
    assert mmdit_control.control(Weights({"x": torch.zeros(1)})) is None
