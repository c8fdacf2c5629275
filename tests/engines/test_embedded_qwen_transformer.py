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

from comfy_atelier.engines.embedded.diffusion.values import Asked, Condition, Step  # noqa: E402 # needs torch
from comfy_atelier.engines.embedded.diffusion.weights import Weights  # noqa: E402
from comfy_atelier.engines.embedded.families import qwen_transformer as qwen  # noqa: E402
from comfy_atelier.engines.embedded.families.qwen_image import AFTER_BLOCK, FAMILY, WAN_LATENT, control  # noqa: E402
from comfy_atelier.engines.embedded.families.qwen_patches import model_patch  # noqa: E402
from comfy_atelier.engines.embedded.problems import NodeProblem  # noqa: E402

RECORD = Path(__file__).parents[1] / "data" / "parity" / "qwen_transformer.json.xz"
RECORDED: dict[str, Any] = json.loads(lzma.decompress(RECORD.read_bytes()))
TRANSFORMERS = RECORDED["transformers"]
CONTROLS = {name: entry for name, entry in RECORDED["controls"].items() if "patch" not in name}
PATCHES = {name: entry for name, entry in RECORDED["controls"].items() if "patch" in name}


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


@pytest.mark.parametrize("layout", PATCHES)
def test_a_model_patch_adds_what_comfyui_adds(layout: str) -> None:
    patch = model_patch(Weights(state(PATCHES[layout]), source="patch.safetensors"))
    module = patch.component.build(patch.component.weights)
    assert module.mask_channels == (0 if layout == "patch" else 1)
    # ComfyUI's own scales the sixteen channels of the picture, not the mask's
    shown = fill("hint", (1, 16 + module.mask_channels, 1, 7, 6))
    scaled = torch.cat([WAN_LATENT.enter(shown[:, :16]), shown[:, 16:]], dim=1)
    with torch.no_grad():
        tokens = module.shown(scaled)
        for block, expected in zip(module.controlnet_blocks, PATCHES[layout]["outputs"], strict=True):
            assert_near(block(fill("tokens", (2, 12, 256)), tokens).flatten()[::7], expected)


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


def test_the_family_describes_its_networks() -> None:
    found = {
        layout: FAMILY.denoiser(Weights(state(entry), source="model.safetensors"))
        for layout, entry in TRANSFORMERS.items()
    }
    variants = {layout: network.variant for layout, network in found.items() if network is not None}
    assert variants == {"first": "qwen-image", "2511": "qwen-image-edit-2511", "layered": "qwen-image-layered"}
    assert found["first"] is not None
    assert found["first"].text_width == 20
    assert FAMILY.denoiser(Weights({"input_blocks.0.0.weight": torch.zeros(1)})) is None
    kinds = [control(Weights(state(CONTROLS[layout]))) for layout in ("union", "inpainting")]
    assert [kind is not None and kind.kind.with_mask for kind in kinds] == [False, True]
    assert control(Weights(state(TRANSFORMERS["first"]))) is None


def test_the_network_is_told_references_in_its_own_scale() -> None:
    network = FAMILY.denoiser(Weights(state(TRANSFORMERS["first"])))
    assert network is not None
    noise = torch.zeros(1, 16, 1, 8, 6)
    asked = Asked(noise=noise, latent=noise, mask=None, kind="positive", device=torch.device("cpu"))
    flat, wide = fill("reference", (1, 16, 8, 6)), fill("reference", (1, 16, 8, 6)).unsqueeze(2)
    condition = Condition(
        text=fill("context", (1, 7, 20)),
        options={
            "attention_mask": torch.ones(1, 7),
            "reference_latents": [flat, wide],
            "reference_latents_method": "index_timestep_zero",
        },
    )
    told = network.told(condition, asked)
    assert set(told) == {"text", "mask", "references", "method"}
    assert all(torch.equal(one, WAN_LATENT.enter(wide)) for one in told["references"].value)
    values = {name: each.value for name, each in told.items()}
    module, time = network.build(state(TRANSFORMERS["first"])), torch.tensor([0.5])
    seen: list[int] = []
    step = Step(
        sigma=time,
        sigmas=time,
        patches={AFTER_BLOCK: (lambda tokens, latent, number: (seen.append(number), tokens)[1],)},
    )
    with torch.no_grad():
        out = network.predict(module, noise, time, values, step)
    assert (tuple(out.shape), seen) == ((1, 16, 1, 8, 6), [0, 1])


def test_other_patches_are_refused() -> None:
    with pytest.raises(NodeProblem, match=r"'x\.safetensors' holds no model patch"):
        model_patch(Weights({"x": torch.zeros(1)}, source="x.safetensors"))
