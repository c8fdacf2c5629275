"""What inpainting and editing networks are given by channels beside the noisy latent.

Source: ComfyUI ``comfy/model_base.py`` (``BaseModel.concat_cond``, ``IP2P.concat_cond``) and ``comfy/utils.py``.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import torch

from ..resize import resize
from .latent_format import LatentFormat
from .values import Asked, Condition


def spread_over(tensor: torch.Tensor, batch: int) -> torch.Tensor:
    """`tensor` [some, ...] at a batch of that size: evenly picked from, or evenly repeated
    (``resize_to_batch_size``)."""
    count = tensor.shape[0]
    if count == batch:
        return tensor
    if batch <= 1:
        return tensor[:batch]
    if batch < count:
        scale = (count - 1) / (batch - 1)
        places = [min(round(index * scale), count - 1) for index in range(batch)]
    else:
        places = [min(math.floor((index + 0.5) * count / batch), count - 1) for index in range(batch)]
    return tensor[places]


def like_noise(latent: torch.Tensor, noise: torch.Tensor) -> torch.Tensor:
    """A latent cut, resized (bilinear, the middle kept) and spread to the rows, columns and batch of the noise."""
    if latent.shape[1:] != noise.shape[1:]:
        latent = resized(latent, noise.shape[-1], noise.shape[-2])
        if noise.ndim == 5:
            missing = noise.shape[2] - latent.shape[2]
            if missing > 0:
                latent = torch.nn.functional.pad(latent, (0, 0, 0, 0, 0, missing))
            latent = latent[:, :, : noise.shape[2]]
    return spread_over(latent, noise.shape[0])


def resized(latent: torch.Tensor, columns: int, rows: int, method: str = "bilinear") -> torch.Tensor:
    """A latent of 4 or 5 dimensions at that size, the middle kept."""
    if latent.ndim == 4:
        return resize(latent, columns, rows, method, "center")
    batch, channels, frames = latent.shape[:3]
    flat = latent.movedim(2, 1).reshape(batch * frames, channels, *latent.shape[3:])
    flat = resize(flat, columns, rows, method, "center")
    return flat.reshape(batch, frames, channels, rows, columns).movedim(1, 2)


def mask_like_noise(mask: torch.Tensor, noise: torch.Tensor) -> torch.Tensor:
    """A mask as one channel of the noise's size, rounded to 0 and 1."""
    if mask.ndim == noise.ndim:
        mask = mask[:, :1]
    dimensions = noise.ndim - 2
    mask = mask.reshape(-1, 1, *mask.shape[-dimensions:])
    if mask.shape[-2:] != noise.shape[-2:]:
        mask = resized(mask, noise.shape[-1], noise.shape[-2])
    return spread_over(mask.round(), noise.shape[0])


def joined_channels(
    condition: Condition,
    asked: Asked,
    latent_format: LatentFormat,
    parts: Sequence[str],
    *,
    blank: Callable[[torch.Tensor], torch.Tensor] = torch.zeros_like,
) -> torch.Tensor:
    """The channels to join: [batch, some, rows, columns].

    Args:
        parts: "mask", "masked_image", "mask_inverted" in the order in which the network wants them.
        blank: the latent of an empty picture, like the noise, where there is neither mask nor picture.
    """
    noise = asked.noise
    mask = condition.get("concat_mask", asked.mask)
    given = condition.get("concat_latent_image")
    image = asked.latent if given is None else latent_format.enter(given.to(noise))
    image = like_noise(image, noise)
    if mask is not None:
        mask = mask_like_noise(mask.to(noise), noise)
    made: list[torch.Tensor] = []
    for part in parts:
        if part == "mask":
            made.append(torch.ones_like(noise)[:, :1] if mask is None else mask)
        elif part == "mask_inverted":
            made.append(torch.zeros_like(noise)[:, :1] if mask is None else 1.0 - mask)
        else:
            made.append(blank(noise) if mask is None else image)
    return torch.cat(made, dim=1)
