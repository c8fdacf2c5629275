"""Stable Video Diffusion's nodes: its checkpoint, what it is told of a picture, guidance that grows along the frames.

Source: ComfyUI 0.33.0 ``comfy_extras/nodes_video_model.py``.
"""

from __future__ import annotations

from typing import Any

import torch

from .context import Context
from .diffusion.encoders import ClipVision, Vae
from .diffusion.files import model_file, model_inputs
from .diffusion.values import Condition, Conditioning, Guided, Model
from .registry import NodeGroup
from .resize import resize_image

NODES = NodeGroup()

LATENT_CHANNELS, FACTOR = 4, 8


@NODES.node("ImageOnlyCheckpointLoader", **model_inputs(ckpt_name="checkpoints"))
def checkpoint(ckpt_name: str, *, context: Context) -> tuple[Model, ClipVision, Vae | None]:
    """A checkpoint that is told pictures, not text: its model, its eyes, its VAE."""
    from .diffusion import loading
    from .families.svd import EYES
    from .families.vision import vision_of

    path = model_file(context, "checkpoints", ckpt_name)
    found = loading.checkpoint(path)
    eyes = loading.remembered([path], "eyes", lambda: vision_of(loading.weights_at(path).below(EYES)))
    return found.model, eyes, found.vae


@NODES.node("SVD_img2vid_Conditioning")
def conditioning(
    clip_vision: ClipVision,
    init_image: torch.Tensor,
    vae: Vae,
    width: int,
    height: int,
    video_frames: int,
    motion_bucket_id: int,
    fps: int,
    augmentation_level: float,
    *,
    context: Context,
) -> tuple[Conditioning, Conditioning, dict[str, torch.Tensor]]:
    """What CLIP sees in the picture, its latent and the facts of the motion; and empty frames.

    ComfyUI draws the noise of `augmentation_level` afresh each time; here it is always the same.
    """
    from .diffusion import autoencoding

    seen = clip_vision.look(init_image).embeds.unsqueeze(0)
    pixels = resize_image(init_image, width, height, "bilinear", "center")[..., :3]
    if augmentation_level > 0:
        noise = torch.randn(pixels.shape, generator=torch.Generator().manual_seed(0))
        pixels = pixels + noise.to(pixels) * augmentation_level
    latent = autoencoding.encode(vae, pixels, context.check_cancelled)
    facts: dict[str, Any] = {
        "motion_bucket_id": motion_bucket_id,
        "fps": fps,
        "augmentation_level": augmentation_level,
    }
    positive = Condition(text=seen, options={**facts, "concat_latent_image": latent})
    negative = Condition(
        text=torch.zeros_like(seen), options={**facts, "concat_latent_image": torch.zeros_like(latent)}
    )
    empty = torch.zeros([video_frames, LATENT_CHANNELS, height // FACTOR, width // FACTOR])
    return (positive,), (negative,), {"samples": empty}


@NODES.node("VideoLinearCFGGuidance")
def linear_guidance(model: Model, min_cfg: float) -> Model:
    """cfg grows evenly from `min_cfg` at the first frame to the sampler's at the last."""

    def rule(guided: Guided) -> torch.Tensor:
        frames = guided.positive.shape[0]
        scale = torch.linspace(min_cfg, guided.scale, frames, device=guided.positive.device)
        return _scaled(guided, scale)

    return model.with_cfg_rule(rule)


@NODES.node("VideoTriangleCFGGuidance")
def triangle_guidance(model: Model, min_cfg: float) -> Model:
    """cfg grows from `min_cfg` at the first frame to the sampler's in the middle, and falls back."""

    def rule(guided: Guided) -> torch.Tensor:
        part = torch.linspace(0, 1, guided.positive.shape[0], device=guided.positive.device)
        height = 2 * (part - torch.floor(part + 0.5)).abs()
        return _scaled(guided, height * (guided.scale - min_cfg) + min_cfg)

    return model.with_cfg_rule(rule)


def _scaled(guided: Guided, scale: torch.Tensor) -> torch.Tensor:
    """The result of guidance with a scale a frame; worked out on what is taken away, as ComfyUI does, whose rounding
    that has at high noise."""
    negative = torch.zeros_like(guided.positive) if guided.negative is None else guided.negative
    with_text, without = guided.x - guided.positive, guided.x - negative
    wide = scale.reshape(-1, *([1] * (with_text.ndim - 1)))
    return guided.x - (without + wide * (with_text - without))
