"""HunyuanImage 2.1 as a family: which files are its own, what the network is told, how prompts are read.

Prompts recorded by ``tests/data/parity/record_hunyuan_text.py``.
"""

from __future__ import annotations

import json
import lzma
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

torch = pytest.importorskip("torch", reason="the embedded engine needs torch")

from comfy_atelier.engines.embedded import families  # noqa: E402 # needs torch
from comfy_atelier.engines.embedded.diffusion.values import Asked, Condition, Step  # noqa: E402
from comfy_atelier.engines.embedded.diffusion.weights import Weights  # noqa: E402
from comfy_atelier.engines.embedded.families import hunyuan_image, hunyuan_text, hunyuan_transformer, qwen_vl  # noqa: E402
from comfy_atelier.engines.embedded.nodes_hunyuan import empty  # noqa: E402
from comfy_atelier.engines.embedded.problems import NodeProblem  # noqa: E402

DATA = Path(__file__).parents[1] / "data"
RECORDED: list[dict[str, Any]] = json.loads(lzma.decompress((DATA / "parity" / "hunyuan_text.json.xz").read_bytes()))


def header(name: str) -> Weights:
    """The tensors of a real file, by name and shape alone."""
    shapes = json.loads(lzma.decompress((DATA / "headers" / f"{name}.json.xz").read_bytes()))["shapes"]
    return Weights({key: torch.empty(shape, device="meta") for key, shape in shapes.items()}, source=f"{name}.x")


@pytest.fixture(scope="module")
def distilled() -> Any:
    return families.network_of(header("hunyuan_image_2.1_distilled"))[1]


@pytest.mark.parametrize("name", ["hunyuan_image_2.1", "hunyuan_image_2.1_distilled"])
def test_real_files_are_recognised(name: str) -> None:
    weights = header(name)
    family, network = families.network_of(weights)
    assert (family.name, network.text_width) == ("hunyuan_image", 3584)
    assert network.variant.endswith("distilled") == name.endswith("distilled")
    state = {hunyuan_transformer.comfyui_name(key): weights[key] for key in weights}
    settings = hunyuan_transformer.configuration(state)
    assert (settings["num_layers"], settings["num_single_layers"], settings["num_attention_heads"]) == (20, 40, 28)
    assert settings["use_meanflow"] == settings["guidance_embeds"] == name.endswith("distilled")
    assert (settings["in_channels"], settings["patch_size"], settings["text_embed_2_dim"]) == (64, (1, 1), 1472)


def test_a_whole_file_fits_diffusers_class(distilled: Any) -> None:
    weights = header("hunyuan_image_2.1_distilled")
    module = distilled.build({name: weights[name] for name in weights})
    assert sum(p.numel() for p in module.parameters()) == sum(weights.shape(name).numel() for name in weights)


def test_the_refiner_is_not_taken_for_it() -> None:
    with pytest.raises(NodeProblem, match="no diffusion model that the embedded engine knows"):
        families.network_of(header("hunyuan_image_refiner"))


def test_what_it_is_told(distilled: Any) -> None:
    noise = torch.zeros(1, 64, 2, 2)
    asked = Asked(noise=noise, latent=noise, mask=None, kind="positive", device=torch.device("cpu"))
    plain = distilled.told(Condition(text=torch.ones(1, 3, 3584)), asked)
    assert plain.keys() == {"text", "guidance"}
    assert plain["guidance"].value.tolist() == [6.0]
    options = {"guidance": 3.25, "conditioning_byt5small": torch.ones(1, 2, 1472)}
    told = distilled.told(Condition(text=torch.ones(1, 3, 3584), options=options), asked)
    assert told["guidance"].value.tolist() == [3.25]
    assert told["glyphs"].value.shape == (1, 2, 1472)


@pytest.mark.parametrize(("sigma", "end"), [(1.0, 600.0), (0.6, 0.0), (0.8, None)])
def test_a_step_ends_at_the_next_level_of_the_run(
    distilled: Any, monkeypatch: pytest.MonkeyPatch, sigma: float, end: float | None
) -> None:
    seen: dict[str, Any] = {}
    monkeypatch.setattr(hunyuan_transformer, "predict", lambda *inputs, **told: seen.update(told))
    level = torch.tensor([sigma, sigma])
    step = Step(sigma=level, sigmas=torch.tensor([1.0, 0.6, 0.0]))
    distilled.predict(None, torch.zeros(2, 64, 2, 2), level * 1000, {"text": torch.zeros(2, 3, 8)}, step)
    if end is None:  # a look between two levels
        assert seen["end"] is None
    else:
        assert seen["end"].tolist() == pytest.approx([end, end])


def test_loras_in_diffusers_names_find_their_rows(distilled: Any) -> None:
    aliases = distilled.aliases(header("hunyuan_image_2.1"))
    query = aliases["transformer_blocks.3.attn.to_q"]
    value = aliases["transformer_blocks.3.attn.add_v_proj"]
    mlp = aliases["single_transformer_blocks.7.proj_mlp"]
    assert (query.name, query.start, query.length) == ("double_blocks.3.img_attn.qkv.weight", 0, 3584)
    assert (value.name, value.start, value.length) == ("double_blocks.3.txt_attn.qkv.weight", 7168, 3584)
    assert (mlp.name, mlp.start, mlp.length) == ("single_blocks.7.linear1.weight", 3 * 3584, 4 * 3584)
    assert aliases["x_embedder.proj"].length is None


@pytest.mark.parametrize("case", RECORDED, ids=lambda case: case["prompt"][:20] or "empty")
def test_prompts_are_read_as_comfyui_reads_them(case: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    words = SimpleNamespace(encode=lambda text: [len(text)])
    monkeypatch.setattr(hunyuan_text, "vocabulary", lambda files, run: words)
    tokens = hunyuan_text.HunyuanText().tokenize(case["prompt"])
    plain = case["prompt"].replace("\\(", "(").replace("\\)", ")")  # the prompt has no weights, but it has escapes
    whole = plain if plain.startswith("<|") else hunyuan_text.TEMPLATE.format(plain)
    assert tokens["qwen25_7b"] == [len(whole)]
    glyphs = tokens.get("byt5_small")
    assert (glyphs and [[list(token) for token in section] for section in glyphs]) == case["glyphs"]
    assert hunyuan_text.template_end(case["tokens"]) == case["start"]


class FakeQwen:
    def encode(self, entries: list[int], *, layer: int | None) -> tuple[Any, Any]:
        self.layer = layer
        return torch.arange(len(entries)).float().reshape(1, -1, 1), torch.ones(1, len(entries), dtype=torch.long)


class FakeGlyphs:
    def encode(self, sections: Any, *, masked: bool) -> tuple[Any, Any]:
        assert masked
        return torch.ones(1, 3, 2), torch.tensor([[1, 1, 0]])


def test_the_template_is_cut_off_and_hidden_glyphs_are_zero() -> None:
    tokens = {"qwen25_7b": RECORDED[1]["tokens"], "byt5_small": [[(5, 1.0)]]}
    modules = SimpleNamespace(qwen=FakeQwen(), glyphs=FakeGlyphs())
    condition = hunyuan_text.HunyuanText().encode(modules, tokens)
    assert condition.text.flatten().tolist() == [34.0, 35.0, 36.0]
    assert modules.qwen.layer == -3
    assert condition.options["conditioning_byt5small"].tolist() == [[[1, 1], [1, 1], [0, 0]]]
    assert "attention_mask" not in condition.options
    without = hunyuan_text.HunyuanText().encode(SimpleNamespace(qwen=FakeQwen(), glyphs=None), tokens)
    assert "conditioning_byt5small" not in without.options


def test_text_encoders_in_any_order_and_wrong_ones() -> None:
    qwen, glyphs = header("qwen2.5_vl_7b"), header("byt5_small")
    clip = families.text_of([glyphs, qwen], "hunyuan_image")
    assert qwen_vl.recognised(clip.component.weights.below("qwen25_7b."))
    assert clip.component.weights.shape("byt5_small.shared.weight")[1] == 1472
    assert [files.name for files in clip.encoder.tokenizers] == ["qwen25"]
    with pytest.raises(NodeProblem, match=r"Qwen 2\.5 VL is not among the files"):
        families.text_of([glyphs], "hunyuan_image")
    with pytest.raises(NodeProblem, match=r"'clip_l\.x' is no text encoder of HunyuanImage"):
        families.text_of([qwen, header("clip_l")], "hunyuan_image")
    with pytest.raises(NodeProblem, match="second file of one text encoder"):
        families.text_of([qwen, qwen], "hunyuan_image")


def test_byt5_is_rounded_to_qwens_dtype_as_in_comfyui() -> None:
    def small(names: dict[str, Any]) -> Weights:
        return Weights(names, source="x")

    value = torch.tensor([1.001])
    qwen = small(
        {
            "model.layers.0.self_attn.k_proj.bias": value,
            "model.embed_tokens.weight": value,
            "model.norm.weight": value.bfloat16(),
        }
    )
    bias = "encoder.block.0.layer.0.SelfAttention.relative_attention_bias.weight"
    glyphs = small({bias: value.half(), "encoder.final_layer_norm.weight": value.half()})
    weights = families.text_of([qwen, glyphs], "hunyuan_image").component.weights
    assert weights.dtype(f"byt5_small.{bias}") == torch.bfloat16
    assert torch.equal(weights[f"byt5_small.{bias}"], value.half().bfloat16())
    assert torch.equal(weights["qwen25_7b.model.embed_tokens.weight"], value)


def test_an_empty_latent_has_64_channels_of_32_pixels() -> None:
    assert empty(2048, 1024)["samples"].shape == (1, 64, 32, 64)


def test_latents_are_scaled() -> None:
    assert float(hunyuan_image.LATENT.enter(torch.ones(1, 64, 1, 1)).mean()) == pytest.approx(0.75289)
    assert len(hunyuan_image.LATENT.colours) == 64
