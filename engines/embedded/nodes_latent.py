"""Latents: empty ones, from pictures and to pictures. Source: ComfyUI ``nodes.py``."""

from __future__ import annotations

from typing import Any

import torch

from .context import Context
from .diffusion import autoencoding
from .diffusion.encoders import Vae
from .diffusion.values import Latent
from .memory import check_room
from .registry import NodeGroup

NODES = NodeGroup()

LARGEST_OVERLAP = 4  # parts of a tile


@NODES.node("EmptyLatentImage")
def empty(width: int, height: int, batch_size: int) -> Latent:
    """Zeros for a picture of that size, of any family."""
    shape = (batch_size, 4, height // 8, width // 8)
    check_room(shape)
    return {"samples": torch.zeros(shape), "downscale_ratio_spacial": 8}


@NODES.node("EmptySD3LatentImage")
def empty_sixteen(width: int, height: int, batch_size: int) -> Latent:
    """Zeros of 16 channels: SD 3.5, FLUX.1, Qwen-Image, HiDream."""
    shape = (batch_size, 16, height // 8, width // 8)
    check_room(shape)
    return {"samples": torch.zeros(shape), "downscale_ratio_spacial": 8}


@NODES.node("VAEDecode")
def decode(samples: Latent, vae: Vae | None, *, context: Context) -> torch.Tensor:
    """The pictures of a latent."""
    return autoencoding.decode(vae, samples["samples"], context.check_cancelled)


@NODES.node("VAEDecodeTiled")
def decode_tiled(
    samples: Latent,
    vae: Vae | None,
    tile_size: int,
    overlap: int = 64,
    temporal_size: int = 64,
    temporal_overlap: int = 8,
    *,
    context: Context,
) -> torch.Tensor:
    """The pictures of a latent, decoded in tiles: slower, in less memory."""
    return autoencoding.decode_tiled(
        vae, samples["samples"], tile=tile_size, overlap=overlap, check=context.check_cancelled
    )


@NODES.node("VAEEncode")
def encode(pixels: torch.Tensor, vae: Vae | None, *, context: Context) -> Latent:
    """The latent of pictures."""
    return {"samples": autoencoding.encode(vae, pixels, context.check_cancelled)}


@NODES.node("VAEEncodeTiled")
def encode_tiled(
    pixels: torch.Tensor,
    vae: Vae | None,
    tile_size: int,
    overlap: int,
    temporal_size: int = 64,
    temporal_overlap: int = 8,
    *,
    context: Context,
) -> Latent:
    """The latent of pictures, encoded in tiles."""
    latent = autoencoding.encode_tiled(vae, pixels, tile=tile_size, overlap=overlap, check=context.check_cancelled)
    return {"samples": latent}


@NODES.node("SetLatentNoiseMask")
def set_noise_mask(samples: Latent, mask: torch.Tensor) -> Latent:
    """New picture may appear only where the mask is."""
    return {**samples, "noise_mask": mask.reshape(-1, 1, mask.shape[-2], mask.shape[-1])}


def copied(latent: Latent, **changes: Any) -> Latent:
    """The latent with these entries changed."""
    return {**latent, **changes}
