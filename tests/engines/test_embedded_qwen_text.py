"""How texts are laid out for Qwen-Image, against ComfyUI 0.33.0's own (``tests/data/parity/record_qwen_text.py``)."""

from __future__ import annotations

import json
import lzma
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch", reason="the embedded engine needs torch")

from comfy_atelier.engines.embedded.diffusion.weights import Weights  # noqa: E402 # needs torch
from comfy_atelier.engines.embedded.families import qwen_text  # noqa: E402
from comfy_atelier.engines.embedded.families.qwen_vl import Picture  # noqa: E402
from comfy_atelier.engines.embedded.problems import NodeProblem  # noqa: E402

RECORD = Path(__file__).parents[1] / "data" / "parity" / "qwen_text.json.xz"
RECORDED: list[dict[str, Any]] = json.loads(lzma.decompress(RECORD.read_bytes()))


@pytest.mark.parametrize("case", RECORDED, ids=lambda case: repr(case["text"])[:40])
def test_texts_are_laid_out_as_in_comfyui(case: dict[str, Any]) -> None:
    said: list[str] = []

    def encode(text: str) -> list[int]:
        said.append(text)
        # the tokenizer's own answer, with a picture's token where ComfyUI had put the picture in its place
        return [qwen_text.PICTURE_PAD if token is None else token for token in case["tokens"]]

    images = [torch.zeros((1, 28, 28, 3))] * case["images"]
    found = qwen_text.entries(case["text"], encode, images=images, template=case.get("template"))
    assert said == [case["said"]]
    assert [None if isinstance(entry, Picture) else entry for entry in found] == case["tokens"]
    assert qwen_text.told_from(found, len(found)) % len(found) == case["told_from"]


def test_the_encoder_is_held_below_its_name() -> None:
    names = ("model.embed_tokens.weight", "model.layers.0.self_attn.k_proj.bias", "visual.patch_embed.proj.weight")
    weights = Weights({name: torch.zeros(1) for name in (*names, "lm_head.weight")}, source="qwen.safetensors")
    clip = qwen_text.text([weights], "qwen_image")
    assert set(clip.component.weights) == {f"qwen25_7b.{name}" for name in names}
    whole = Weights({f"text_encoders.qwen25_7b.transformer.{name}": weights[name] for name in names})
    inside = qwen_text.in_checkpoint(whole)
    assert inside is not None
    assert set(inside.component.weights) == set(clip.component.weights)
    assert qwen_text.in_checkpoint(weights) is None


def test_other_files_are_refused() -> None:
    with pytest.raises(NodeProblem, match=r"'x\.safetensors' holds no Qwen 2\.5 VL text encoder"):
        qwen_text.text([Weights({"x": torch.zeros(1)}, source="x.safetensors")], "qwen_image")
