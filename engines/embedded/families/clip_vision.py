"""CLIP's eyes: a picture becomes vectors. Built from a file's tensors with transformers' class.

ViT-L, ViT-H and ViT-bigG, whole files and the part of a checkpoint (Stable Video Diffusion's has OpenCLIP's names).
Behaviour of ComfyUI 0.33.0 ``comfy/clip_vision.py`` and ``comfy/clip_model.py``.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from typing import Any

import torch

from ..diffusion.values import VisionOutput
from ..diffusion.weights import Component, Deferred, State, Weights, fill
from ..problems import NodeProblem

HEADS = 16  # of all three
LAST_QUICK = 24  # layers up to which it is OpenAI's, whose activation is quick
MEAN = (0.48145466, 0.4578275, 0.40821073)
DEVIATION = (0.26862954, 0.26130258, 0.27577711)

_OPEN_CLIP = {
    "class_embedding": "vision_model.embeddings.class_embedding",
    "conv1.weight": "vision_model.embeddings.patch_embedding.weight",
    "positional_embedding": "vision_model.embeddings.position_embedding.weight",
    "ln_pre.weight": "vision_model.pre_layrnorm.weight",
    "ln_pre.bias": "vision_model.pre_layrnorm.bias",
    "ln_post.weight": "vision_model.post_layernorm.weight",
    "ln_post.bias": "vision_model.post_layernorm.bias",
}
_OPEN_CLIP_BLOCK = {
    "ln_1": "layer_norm1",
    "ln_2": "layer_norm2",
    "mlp.c_fc": "mlp.fc1",
    "mlp.c_proj": "mlp.fc2",
    "attn.out_proj": "self_attn.out_proj",
}
_BLOCK = re.compile(r"transformer\.resblocks\.(\d+)\.(.+)")


def recognised(weights: Weights) -> bool:
    """Whether the tensors, in transformers' or OpenCLIP's names, are those of CLIP's eyes."""
    return "vision_model.pre_layrnorm.weight" in weights or "ln_pre.weight" in weights


def in_transformers_layout(weights: Weights) -> Weights:
    """OpenCLIP's names (without ``visual.``) turned into transformers'; others stay. Nothing is read."""
    if "ln_pre.weight" not in weights:
        return weights
    made: dict[str, torch.Tensor | Deferred] = {}
    for name in weights:
        found = _BLOCK.fullmatch(name)
        if name == "proj":
            rows, columns = weights.shape(name)
            made["visual_projection.weight"] = Deferred(
                shape=torch.Size((columns, rows)),
                dtype=weights.dtype(name),
                make=lambda: weights["proj"].transpose(0, 1).contiguous(),
            )
        elif found is None:
            if name in _OPEN_CLIP:
                made[_OPEN_CLIP[name]] = _same(weights, name)
        else:
            block = f"vision_model.encoder.layers.{found[1]}."
            path, _, kind = found[2].rpartition(".")
            if found[2].startswith("attn.in_proj_"):
                kind = found[2].removeprefix("attn.in_proj_")
                for place, part in enumerate("qkv"):
                    made[f"{block}self_attn.{part}_proj.{kind}"] = _third(weights, name, place)
            elif path in _OPEN_CLIP_BLOCK:
                made[f"{block}{_OPEN_CLIP_BLOCK[path]}.{kind}"] = _same(weights, name)
    return Weights(made, source=weights.source, metadata=weights.metadata)


def _same(weights: Weights, name: str) -> Deferred:
    return Deferred(shape=weights.shape(name), dtype=weights.dtype(name), make=lambda: weights[name])


def _third(weights: Weights, name: str, place: int) -> Deferred:
    rows, *others = weights.shape(name)
    size = rows // 3
    return Deferred(
        shape=torch.Size((size, *others)),
        dtype=weights.dtype(name),
        make=lambda: weights[name][place * size : (place + 1) * size],
    )


def build(state: State, *, source: str = "") -> Any:
    """The module of tensors in transformers' names.

    Raises:
        NodeProblem: tensors are missing or of other shapes.
    """
    from transformers import CLIPVisionConfig, CLIPVisionModelWithProjection

    try:
        table, patch = (
            "vision_model.embeddings.position_embedding.weight",
            "vision_model.embeddings.patch_embedding.weight",
        )
        places, width = state[table].shape
        side = state[patch].shape[-1]
        inner = state["vision_model.encoder.layers.0.mlp.fc1.weight"].shape[0]
    except (KeyError, ValueError) as error:
        raise NodeProblem(
            f"{source or 'the file'!r} holds no whole CLIP vision model: {error.args[0]!r} is missing",
            remedy="choose one such as clip_vision_h.safetensors",
        ) from error
    numbers = [int(found[1]) for name in state if (found := re.match(r"vision_model\.encoder\.layers\.(\d+)\.", name))]
    layers = 1 + max(numbers)
    projected = "visual_projection.weight" in state
    config = CLIPVisionConfig(
        hidden_size=width,
        intermediate_size=inner,
        num_hidden_layers=layers,
        num_attention_heads=HEADS,
        image_size=side * math.isqrt(places - 1),
        patch_size=side,
        projection_dim=state["visual_projection.weight"].shape[0] if projected else width,
        hidden_act="quick_gelu" if layers <= LAST_QUICK else "gelu",
        layer_norm_eps=1e-5,
    )
    with torch.device("meta"):
        model: Any = CLIPVisionModelWithProjection(config)
    if not projected:
        model.visual_projection = torch.nn.Identity()
    device = state[table].device
    model.vision_model.embeddings.position_ids = torch.arange(places, device=device).unsqueeze(0)  # is in no file
    own = {name: state[name] for name in state if not name.endswith("position_ids")}
    fill(model, own, what="the CLIP vision model", source=source)
    return model


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class ClipEyes:
    """What a CLIP_VISION wire carries (`ClipVision`)."""

    component: Component

    def look(self, image: torch.Tensor, *, crop: bool = True) -> VisionOutput:
        """See `ClipVision.look`."""
        module = self.component.module()
        weight = module.vision_model.embeddings.patch_embedding.weight
        pixels = prepared(image.to(weight.device), module.config.image_size, crop=crop)
        with torch.no_grad():
            seen = module(pixel_values=pixels.to(weight.dtype), output_hidden_states=True)
        return VisionOutput(
            last_hidden=seen.last_hidden_state.float().cpu(),
            penultimate=seen.hidden_states[-2].float().cpu(),
            embeds=seen.image_embeds.float().cpu(),
        )

    def resident_bytes(self) -> int:
        """See `Component.resident_bytes`."""
        return self.component.resident_bytes()


def eyes_of(weights: Weights) -> ClipEyes:
    """The eyes in these tensors, in either's names without what comes before them.

    Raises:
        NodeProblem: the tensors are none of CLIP's eyes.
    """
    if not recognised(weights):
        raise NodeProblem(
            f"{weights.source!r} holds no CLIP vision model", remedy="choose one that does, such as clip_vision_h"
        )
    own = in_transformers_layout(weights)
    return ClipEyes(
        component=Component(weights=own, build=lambda state: build(state, source=weights.source), role="vision")
    )


def prepared(
    image: torch.Tensor,
    size: int,
    *,
    crop: bool = True,
    mean: tuple[float, ...] = MEAN,
    deviation: tuple[float, ...] = DEVIATION,
) -> torch.Tensor:
    """Pictures [batch, height, width, 3 or 4] in 0..1 as an encoder wants them: [batch, 3, size, size].

    The shorter side becomes `size` and the middle is kept; without `crop` both sides are stretched to it. Values are
    rounded to 8 bits as files have them. Source: ComfyUI ``comfy/clip_model.py`` (``clip_preprocess``).
    """
    pixels = image[..., :3].movedim(-1, 1)
    rows, columns = pixels.shape[-2:]
    if (rows, columns) != (size, size):
        scale = size / min(rows, columns)
        sides = (round(scale * rows), round(scale * columns)) if crop else (size, size)
        pixels = torch.nn.functional.interpolate(pixels, size=sides, mode="bicubic", antialias=True)
        top, left = (sides[0] - size) // 2, (sides[1] - size) // 2
        pixels = pixels[:, :, top : top + size, left : left + size]
    pixels = torch.clip(255.0 * pixels, 0, 255).round() / 255.0
    shape = (1, 3, 1, 1)
    middle = torch.tensor(mean, device=pixels.device, dtype=pixels.dtype).reshape(shape)
    return (pixels - middle) / torch.tensor(deviation, device=pixels.device, dtype=pixels.dtype).reshape(shape)
