"""FLUX.1 as a family: what its network is told, LoRA names, text files, and its nodes.

What ComfyUI 0.33.0 tells its own was recorded by ``tests/data/parity/record_flux_told.py``.
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

from comfy_atelier.engines.embedded import nodes_editing, nodes_flux, nodes_vision  # noqa: E402
from comfy_atelier.engines.embedded.diffusion.encoders import VisionOutput  # noqa: E402
from comfy_atelier.engines.embedded.diffusion.values import Asked, Condition  # noqa: E402
from comfy_atelier.engines.embedded.diffusion.weights import WeightPatch, Weights  # noqa: E402
from comfy_atelier.engines.embedded.families import flux  # noqa: E402
from comfy_atelier.engines.embedded.families.redux import style_model_of  # noqa: E402
from comfy_atelier.engines.embedded.problems import NodeProblem  # noqa: E402
from comfy_atelier.engines.embedded.sigmas import Flow, FluxFlow  # noqa: E402

DATA = Path(__file__).parents[1] / "data" / "parity"
RECORDED: dict[str, Any] = json.loads(lzma.decompress((DATA / "flux_told.json.xz").read_bytes()))
SHAPES: dict[str, Any] = json.loads(lzma.decompress((DATA / "flux.json.xz").read_bytes()))["models"]


def fill(name: str, shape: list[int]) -> Any:
    rng = np.random.default_rng(zlib.crc32(name.encode()))
    return torch.from_numpy(rng.standard_normal(shape).astype(np.float32))


def near(found: Any, record: Any, *, least: float = 1e-6) -> bool:
    flat, wanted = found.float().flatten(), torch.tensor(record["some"])
    some = flat[:: max(1, len(flat) // 150)]
    return list(found.shape) == record["shape"] and bool((some - wanted).abs().max() <= least * wanted.abs().max())


def asked(noise: Any, mask: Any = None) -> Asked:
    return Asked(noise=noise, latent=torch.zeros_like(noise), mask=mask, kind="positive", device=torch.device("cpu"))


def weights(name: str) -> Weights:
    return Weights({key: torch.empty(shape) for key, shape in SHAPES[name]["shapes"].items()}, source=name)


@pytest.mark.parametrize("case", RECORDED["joined"], ids=str)
def test_channels_joined_are_comfyuis(case: Any) -> None:
    network = flux.Flux(guided=True, channels=case["channels"], text_width=8)
    options: dict[str, Any] = {}
    if "image" in case:
        options["concat_latent_image"] = fill("image", case["image"])
    if "mask" in case:
        options["concat_mask"] = fill("mask", case["mask"]).sigmoid()
    mask = fill("run mask", case["run_mask"]).sigmoid() if "run_mask" in case else None
    told = network.told(
        Condition(text=torch.zeros(1, 4, 8), options=options), asked(fill("noise", case["noise"]), mask)
    )
    if case["answer"] is None:
        assert "concat" not in told
    else:
        assert near(told["concat"].value, case["answer"])


@pytest.mark.parametrize("case", RECORDED["masks"], ids=str)
def test_styles_weigh_as_comfyuis(case: Any) -> None:
    options: dict[str, Any] = {}
    if "old" in case:
        size = 4 + case["old"][0] * case["old"][1]
        options = {"attention_mask": fill("own", [1, size, size]).half(), "attention_mask_img_shape": case["old"]}
    conditioning: Any = (Condition(text=fill("text", [1, 4, 8]), options=options),)
    for number, (kind, strength) in enumerate(case["strengths"]):
        conditioning = nodes_vision.apply_style(conditioning, Style(f"style {number}"), None, strength, kind)[0]
    assert near(conditioning[0].text, case["text"])
    network = flux.Flux(guided=True, channels=16, text_width=8)
    told = network.told(conditioning[0], asked(fill("noise", case["noise"])))
    if case["answer"] is None:
        assert "mask" not in told
    else:
        assert near(told["mask"].value, case["answer"], least=1e-3)  # numbers of 16 bits


class Style:
    def __init__(self, name: str) -> None:
        self.words = fill(name, [1, 3, 8])

    def tokens(self, seen: Any) -> Any:
        return self.words


def test_what_a_condition_says_reaches_the_network() -> None:
    network = flux.Flux(guided=True, channels=16, text_width=8)
    condition = Condition(text=torch.zeros(1, 4, 8), options={"pooled_output": torch.ones(1, 5)})
    noise = torch.zeros(1, 16, 4, 4)
    told = network.told(condition, asked(noise))
    assert told["guidance"].value.tolist() == [3.5], "ComfyUI's own where nothing is said"
    assert told.keys() == {"text", "pooled", "guidance"}
    (condition,) = nodes_flux.no_guidance([condition])[0]
    assert "guidance" not in network.told(condition, asked(noise))
    (condition,) = nodes_flux.guidance([condition], 2.0)[0]
    latents = [{"samples": torch.full((1, 16, 2, 2), value)} for value in (0.1159, 1.1159)]
    conditioning: Any = [condition]
    for latent in latents:
        conditioning = nodes_editing.reference(conditioning, latent)[0]
    assert nodes_editing.reference(conditioning)[0] == tuple(conditioning)
    conditioning = nodes_flux.reference_method(conditioning, "uxo/uno")[0]
    told = network.told(conditioning[0], asked(noise))
    assert told["guidance"].value.tolist() == [2.0]
    assert [float(latent.mean()) for latent in told["references"].value] == pytest.approx([0.0, 0.3611])
    assert told["method"].value == "uxo"


def test_a_latent_of_another_family_is_named() -> None:
    network = flux.Flux(guided=True, channels=96, text_width=8)
    condition = Condition(text=torch.zeros(1, 4, 8), options={"concat_latent_image": torch.zeros(1, 4, 4, 4)})
    with pytest.raises(NodeProblem, match="the picture's latent has 4 channels"):
        network.told(condition, asked(torch.zeros(1, 16, 4, 4)))


@pytest.mark.parametrize(
    ("name", "variant", "shift"),
    [("dev", "flux1-dev", FluxFlow), ("schnell", "flux1-schnell", Flow), ("fill", "flux1-fill-dev", FluxFlow)],
)
def test_variants_by_their_tensors(name: str, variant: str, shift: type) -> None:
    network = flux.FAMILY.denoiser(weights(name))
    assert network is not None
    assert (network.variant, type(network.levels), network.text_width) == (variant, shift, 48)
    assert flux.FAMILY.denoiser(Weights({"x": torch.empty(1)}, source="x")) is None


def test_a_control_lora_makes_another_variant() -> None:
    network = flux.FAMILY.denoiser(weights("dev"))
    assert network is not None
    patch = WeightPatch(name="img_in.weight", apply=lambda tensor: tensor, shape=(256, 128))
    wider = network.reshaped({patch.name: patch.shape or ()})
    assert (wider.variant, wider.text_width) == ("flux1-control-dev", 48)
    assert network.reshaped({"txt_in.weight": (1, 1)}) is network


def test_lora_names_lead_to_rows_of_fused_tensors() -> None:
    own = weights("dev")
    network = flux.FAMILY.denoiser(own)
    assert network is not None
    aliases = network.aliases(own)
    value = aliases["transformer_blocks.1.attn.to_v"]
    assert (value.name, value.start, value.length) == ("double_blocks.1.img_attn.qkv.weight", 512, 256)
    inner = aliases["single_transformer_blocks.0.proj_mlp"]
    assert (inner.name, inner.start, inner.length) == ("single_blocks.0.linear1.weight", 768, 1024)
    first = aliases["single_blocks.1.linear1_qkv"]
    assert (first.name, first.start, first.length) == ("single_blocks.1.linear1.weight", 0, 768)
    whole = aliases["x_embedder"]
    assert (whole.name, whole.length) == ("img_in.weight", None)
    assert all(alias.name in own for alias in aliases.values())


CLIP = {flux._CLIP_MARK: torch.empty(1)}
T5 = {
    "encoder.block.0.layer.0.SelfAttention.relative_attention_bias.weight": torch.empty(32, 1),
    "encoder.final_layer_norm.weight": torch.empty(8),
}


def test_text_files_in_any_order() -> None:
    both = [Weights(CLIP, source="clip_l"), Weights(T5, source="t5xxl")]
    for files in (both, both[::-1]):
        clip = flux.FAMILY.texts["flux"](files, "flux")
        assert flux._CLIP_MARK in clip.component.weights.below("clip_l.")
        assert clip.component.halved == ("clip_l.", "t5xxl.")
    with pytest.raises(NodeProblem, match="t5xxl is not among the files: 'clip_l', 'clip_l'"):
        flux.FAMILY.texts["flux"]([both[0], both[0]], "flux")
    with pytest.raises(NodeProblem, match="'vae' is no text encoder"):
        flux.FAMILY.texts["flux"]([both[0], Weights({"x": torch.empty(1)}, source="vae")], "flux")


def test_text_encoders_in_a_whole_checkpoint() -> None:
    network = flux.FAMILY.denoiser(weights("dev"))
    assert network is not None
    tensors = {f"text_encoders.clip_l.transformer.{name}": tensor for name, tensor in CLIP.items()}
    lacking = Weights(tensors, source="flux1-dev-fp8")
    assert flux.FAMILY.checkpoint_text(lacking, network) is None
    tensors |= {f"text_encoders.t5xxl.transformer.{name}": tensor.half() for name, tensor in T5.items()}
    clip = flux.FAMILY.checkpoint_text(Weights(tensors, source="flux1-dev-fp8"), network)
    assert clip is not None
    assert set(clip.component.weights) == {*(f"clip_l.{name}" for name in CLIP), *(f"t5xxl.{name}" for name in T5)}
    assert clip.component.halved == ("clip_l.",)
    assert [files.entry for files in clip.encoder.tokenizers] == ["tokenizer-t5"]


@pytest.mark.parametrize(
    ("size", "expected"), [((512, 512), (1024, 1024)), ((300, 900), (1568, 672)), ((640, 480), (880, 1184))]
)
def test_kontext_takes_the_nearest_of_its_sizes(size: tuple[int, int], expected: tuple[int, int]) -> None:
    assert nodes_flux.kontext_size(torch.zeros(1, *size, 3)).shape[1:3] == (expected[1], expected[0])


def test_what_is_painted_anew_is_grey(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[Any] = []

    def encode(vae: Any, pixels: Any, check: Any = None) -> Any:
        seen.append(pixels)
        return torch.zeros(1, 16, pixels.shape[1] // 8, pixels.shape[2] // 8)

    class Context:
        check_cancelled = None

    monkeypatch.setattr(nodes_editing, "encode", encode)
    pixels, mask = torch.ones(1, 20, 18, 4), torch.zeros(1, 20, 18)
    mask[:, 10:] = 1.0
    context: Any = Context()
    positive, negative, latent = nodes_editing.inpaint([], [], None, pixels, mask, context=context)
    assert (positive, negative) == ((), ())
    assert seen[0].shape == (1, 16, 16, 3)
    assert seen[0][0, :8].unique().tolist() == [1.0]
    assert seen[0][0, 8:].unique().tolist() == [0.5]
    assert seen[1] is pixels, "the latent to start from is the whole picture's"
    assert latent["noise_mask"].shape == (1, 1, 16, 16)
    *_, latent = nodes_editing.inpaint([], [], None, pixels, mask, noise_mask=False, context=context)
    assert "noise_mask" not in latent
    condition = Condition(text=torch.zeros(1, 1, 1))
    (told,), _, latent = nodes_editing.instruct([condition], [], None, pixels, context=context)
    assert told.get("concat_latent_image").shape == latent["samples"].shape == (1, 16, 2, 2)


def test_a_style_model_of_diffusers_class() -> None:
    pytest.importorskip("diffusers")
    shapes = {"redux_up.weight": (24, 6), "redux_up.bias": (24,), "redux_down.weight": (8, 24), "redux_down.bias": (8,)}
    tensors = {name: fill(name, list(shape)) for name, shape in shapes.items()}
    model = style_model_of(Weights(tensors, source="redux"))
    seen = fill("seen", [1, 5, 6])
    up = torch.nn.functional.linear(seen, tensors["redux_up.weight"], tensors["redux_up.bias"])
    expected = torch.nn.functional.linear(
        torch.nn.functional.silu(up), tensors["redux_down.weight"], tensors["redux_down.bias"]
    )
    found = model.tokens(VisionOutput(last_hidden=seen, penultimate=seen, embeds=seen))
    assert torch.allclose(found, expected, atol=1e-5)
    other = torch.zeros(1, 5, 7)
    with pytest.raises(NodeProblem, match="width 6 saw, this one's is 7 wide"):
        model.tokens(VisionOutput(last_hidden=other, penultimate=other, embeds=other))
    with pytest.raises(NodeProblem, match="'other' holds no style model"):
        style_model_of(Weights({"style_embedding": torch.empty(1)}, source="other"))
