"""Pictures and masks for painting in. Source: ComfyUI ``nodes.py``."""

from __future__ import annotations

import math

import torch

from .context import Context
from .diffusion import autoencoding
from .diffusion.encoders import Vae
from .diffusion.values import Latent
from .registry import NodeGroup

NODES = NodeGroup()

GREY = 0.5


def _mask_over(mask: torch.Tensor, pixels: torch.Tensor) -> torch.Tensor:
    """The mask [batch, 1, height, width] at the pictures' size."""
    planes = mask.reshape(-1, 1, mask.shape[-2], mask.shape[-1])
    return torch.nn.functional.interpolate(planes, size=tuple(pixels.shape[1:3]), mode="bilinear")


def _cut(pixels: torch.Tensor, mask: torch.Tensor, multiple: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Both cut from the middle to multiples."""
    height, width = pixels.shape[1:3]
    rows, columns = height // multiple * multiple, width // multiple * multiple
    if (rows, columns) == (height, width):
        return pixels, mask
    top, left = height % multiple // 2, width % multiple // 2
    where = slice(top, rows + top), slice(left, columns + left)
    return pixels[:, where[0], where[1]], mask[:, :, where[0], where[1]]


def _emptied(pixels: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """Grey where the mask is."""
    keep = (1.0 - mask.round()).squeeze(1).unsqueeze(-1)
    colours = (pixels[..., :3] - GREY) * keep + GREY
    return torch.cat([colours, pixels[..., 3:]], dim=-1)


@NODES.node("VAEEncodeForInpaint")
def encode_for_inpaint(
    pixels: torch.Tensor, vae: Vae | None, mask: torch.Tensor, grow_mask_by: int, *, context: Context
) -> Latent:
    """The latent of pictures that are grey where the mask is; new picture may appear there and a little around."""
    multiple = autoencoding.needed(vae).coder.factor
    pixels, mask = _cut(pixels, _mask_over(mask, pixels), multiple)
    grown = mask
    if grow_mask_by:
        kernel = torch.ones(1, 1, grow_mask_by, grow_mask_by)
        padding = math.ceil((grow_mask_by - 1) / 2)
        grown = torch.nn.functional.conv2d(mask.round(), kernel, padding=padding).clamp(0, 1)
    latent = autoencoding.encode(vae, _emptied(pixels, mask), context.check_cancelled)
    rows, columns = pixels.shape[1:3]
    return {"samples": latent, "noise_mask": grown[:, :, :rows, :columns].round()}
