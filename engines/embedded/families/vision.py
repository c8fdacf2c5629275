"""What looks at pictures: CLIP's and SigLIP's vision encoders, built from a file's tensors with transformers.

Behaviour of ComfyUI 0.33.0 ``comfy/clip_vision.py`` and ``comfy/clip_model.py``: sizes and means are the encoder's own,
pictures are rounded to 8 bits, SigLIP's head is left out.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from ..diffusion.encoders import VisionOutput
from ..diffusion.weights import Component, Deferred, State, Weights, fill
from ..problems import NodeProblem

CLIP_MEAN, CLIP_DEVIATION = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)
SIGLIP_MEAN, SIGLIP_DEVIATION = (0.5, 0.5, 0.5), (0.5, 0.5, 0.5)
SIZES = {(729, 14): 384}  # SigLIP So400m: its patches leave a rim of six pixels
HEADS = 16  # of every encoder from CLIP-L on
SMALL_HEAD = 64  # the width of a head in smaller ones
QUICK_WIDTH = 1024  # OpenAI's CLIP-L, with the quick GELU; wider ones are OpenCLIP's

_LAYER = re.compile(r"vision_model\.encoder\.layers\.(\d+)\.")
_OPEN_CLIP_TOP = {
    "class_embedding": "embeddings.class_embedding",
    "conv1.weight": "embeddings.patch_embedding.weight",
    "positional_embedding": "embeddings.position_embedding.weight",
    "ln_post.weight": "post_layernorm.weight",
    "ln_post.bias": "post_layernorm.bias",
    "ln_pre.weight": "pre_layrnorm.weight",
    "ln_pre.bias": "pre_layrnorm.bias",
}
_OPEN_CLIP_LAYER = {
    "ln_1": "layer_norm1",
    "ln_2": "layer_norm2",
    "mlp.c_fc": "mlp.fc1",
    "mlp.c_proj": "mlp.fc2",
    "attn.out_proj": "self_attn.out_proj",
}
_POSITIONS = "vision_model.embeddings.position_embedding.weight"
_PATCHES = "vision_model.embeddings.patch_embedding.weight"
_CLASS = "vision_model.embeddings.class_embedding"
_PROJECTION = "visual_projection.weight"


def configuration(state: Mapping[str, torch.Tensor]) -> dict[str, Any]:
    """transformers' settings for these tensors, named ``vision_model.…``.

    Raises:
        NodeProblem: a tensor that says a size is missing.
    """
    try:
        width, channels, patch = state[_PATCHES].shape[:3]
        cells = state[_POSITIONS].shape[0] - (1 if _CLASS in state else 0)
        return {
            "hidden_size": width,
            "num_channels": channels,
            "patch_size": patch,
            "image_size": SIZES.get((cells, patch), math.isqrt(cells) * patch),
            "intermediate_size": state["vision_model.encoder.layers.0.mlp.fc1.weight"].shape[0],
            "num_hidden_layers": 1 + max(int(found[1]) for name in state if (found := _LAYER.match(name))),
            "num_attention_heads": HEADS if width >= QUICK_WIDTH else max(1, width // SMALL_HEAD),
            "layer_norm_eps": 1e-5,  # SigLIP's own is 1e-6, ComfyUI gives it this one
        }
    except (KeyError, ValueError) as error:
        raise NodeProblem(
            f"the file holds no whole vision encoder: {error.args[0]!r} is missing",
            remedy="choose a file of CLIP vision, such as sigclip_vision_patch14_384.safetensors",
        ) from error


class Vision(nn.Module):
    """Looks at pictures.

    Args:
        state: the tensors, named as transformers names them (``vision_model.encoder.layers.0.…``,
            ``visual_projection.weight``); used as they are, not copied.

    Attributes:
        size: pixels of a side that it takes.
        mean, deviation: how its colours are scaled.
    """

    def __init__(self, state: State) -> None:
        super().__init__()
        from transformers import CLIPVisionConfig, CLIPVisionModel, SiglipVisionConfig, SiglipVisionModel

        settings = configuration(state)
        self.size: int = settings["image_size"]
        model: Any
        with torch.device("meta"):
            if _CLASS in state:
                activation = "quick_gelu" if settings["hidden_size"] <= QUICK_WIDTH else "gelu"
                model = CLIPVisionModel(CLIPVisionConfig(**settings, hidden_act=activation))
                self.mean, self.deviation = CLIP_MEAN, CLIP_DEVIATION
            else:
                config = SiglipVisionConfig(**settings, hidden_act="gelu_pytorch_tanh")
                config.vision_use_head = False
                model = SiglipVisionModel(config)
                self.mean, self.deviation = SIGLIP_MEAN, SIGLIP_DEVIATION
        # transformers 4 keeps its tensors below vision_model, transformers 5 does not
        prefix = "vision_model." if any(name.startswith("vision_model.") for name in model.state_dict()) else ""
        own = {
            prefix + name.removeprefix("vision_model."): state[name]
            for name in state
            if name.startswith("vision_model.") and not name.startswith("vision_model.head.")
        }
        fill(model, own, what="the vision encoder")
        inner = model.vision_model if prefix else model
        device = own[f"{prefix}embeddings.position_embedding.weight"].device
        count = own[f"{prefix}embeddings.position_embedding.weight"].shape[0]
        inner.embeddings.position_ids = torch.arange(count, device=device).expand(1, -1)
        self.model = model
        self.project: torch.Tensor | None
        self.register_buffer("project", state.get(_PROJECTION, None), persistent=False)

    def forward(self, pixels: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """What it sees: the last layer [batch, tokens, width], the last but one, and the projected vector.

        Of SigLIP, which has no head here, the last is the first again.

        Args:
            pixels: [batch, 3, size, size], scaled.
        """
        answer = self.model(pixel_values=pixels, output_hidden_states=True)
        last, before = answer.last_hidden_state, answer.hidden_states[-2]
        seen = answer.pooler_output if answer.pooler_output is not None else last
        if self.project is not None:
            seen = seen @ self.project.T.to(seen.dtype)
        return last, before, seen


def scaled(image: torch.Tensor, vision: Vision, *, crop: bool) -> torch.Tensor:
    """An image [batch, height, width, 3 or more] in 0..1 as the encoder takes it [batch, 3, size, size].

    Args:
        crop: whether the middle square is taken; else the image is stretched.
    """
    size = vision.size
    pixels = image[..., :3].movedim(-1, 1)
    height, width = pixels.shape[-2:]
    if (height, width) != (size, size):
        scale = size / min(height, width)
        sides = (round(scale * height), round(scale * width)) if crop else (size, size)
        pixels = nn.functional.interpolate(pixels, size=sides, mode="bicubic", antialias=True)
        top, left = (pixels.shape[-2] - size) // 2, (pixels.shape[-1] - size) // 2
        pixels = pixels[..., top : top + size, left : left + size]
    pixels = (255.0 * pixels).clamp(0, 255).round() / 255.0
    mean, deviation = (
        torch.tensor(numbers, device=pixels.device, dtype=pixels.dtype).reshape(3, 1, 1)
        for numbers in (vision.mean, vision.deviation)
    )
    return (pixels - mean) / deviation


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class VisionEncoder:
    """What a CLIP_VISION wire carries (a `encoders.ClipVision`)."""

    component: Component

    def look(self, image: torch.Tensor, *, crop: bool = True) -> VisionOutput:
        """See `encoders.ClipVision.look`."""
        vision: Vision = self.component.module()
        weight = next(vision.parameters())
        with torch.inference_mode():
            pixels = scaled(image.to(weight.device), vision, crop=crop).to(weight.dtype)
            last, before, seen = (tensor.float().cpu() for tensor in vision(pixels))
        return VisionOutput(last_hidden=last, penultimate=before, embeds=seen)

    def resident_bytes(self) -> int:
        """See `Component.resident_bytes`."""
        return self.component.resident_bytes()


def vision_of(weights: Weights) -> VisionEncoder:
    """The vision encoder in these tensors: transformers' names, or OpenCLIP's with or without ``visual.`` before them.

    Raises:
        NodeProblem: there is none that the engine knows.
    """
    own = in_transformers_layout(weights)
    if _PATCHES not in own or _POSITIONS not in own or len(own.shape(_PATCHES)) != 4:
        raise NodeProblem(
            f"{weights.source!r} holds no vision encoder that the embedded engine knows",
            remedy="choose a file of CLIP or SigLIP vision, such as sigclip_vision_patch14_384.safetensors",
        )
    return VisionEncoder(component=Component(weights=own, build=Vision, role="vision"))


def in_transformers_layout(weights: Weights) -> Weights:
    """OpenCLIP's tensors (``visual.transformer.resblocks.0.attn.in_proj_weight``…) by transformers' names; others as
    they are.
    """
    if not any(".resblocks." in name or name.startswith("resblocks.") for name in weights):
        return weights
    inner = weights.below("visual.", "")
    tensors: dict[str, torch.Tensor | Deferred] = {}
    for name in inner:
        if name in _OPEN_CLIP_TOP:
            tensors[f"vision_model.{_OPEN_CLIP_TOP[name]}"] = inner[name]
        elif name == "proj":
            tensors[_PROJECTION] = inner[name].T
        elif name.startswith("transformer.resblocks."):
            number, _, rest = name.removeprefix("transformer.resblocks.").partition(".")
            place = f"vision_model.encoder.layers.{number}"
            if rest.startswith("attn.in_proj_"):
                kind = rest.removeprefix("attn.in_proj_")
                for part, tensor in zip("qkv", inner[name].chunk(3), strict=True):
                    tensors[f"{place}.self_attn.{part}_proj.{kind}"] = tensor
            else:
                path, _, kind = rest.rpartition(".")
                tensors[f"{place}.{_OPEN_CLIP_LAYER.get(path, path)}.{kind}"] = inner[name]
    return Weights(tensors, source=weights.source, metadata=weights.metadata)
