"""Resizing with ComfyUI's methods. Source: ComfyUI ``comfy/utils.py``, ``common_upscale`` and what it calls."""

from __future__ import annotations

import numpy as np
import torch
from PIL import Image

from .memory import check_room
from .problems import NodeProblem

METHODS = ("nearest-exact", "bilinear", "area", "bicubic", "lanczos")


def resize(samples: torch.Tensor, width: int, height: int, method: str, crop: str = "disabled") -> torch.Tensor:
    """Samples [batch, channels, rows, columns] at a new size.

    Args:
        method: one of `METHODS`, or "bislerp" (latents).
        crop: "center" cuts the middle out in the new ratio first, "disabled" stretches.

    Raises:
        NodeProblem: the new size is empty, or too large for the memory.
    """
    if width < 1 or height < 1:
        raise NodeProblem(f"the result would be {width} x {height} pixels", remedy="choose a larger size or scale")
    check_room((samples.shape[0], samples.shape[1], height, width))
    if crop == "center":
        samples = _middle(samples, width, height)
    if method == "lanczos":
        return _lanczos(samples, width, height)
    if method == "bislerp":
        return _bislerp(samples, width, height)
    return torch.nn.functional.interpolate(samples, size=(height, width), mode=method)


def resize_image(image: torch.Tensor, width: int, height: int, method: str, crop: str = "disabled") -> torch.Tensor:
    """`resize` for an image, [batch, height, width, channels]."""
    return resize(image.movedim(-1, 1), width, height, method, crop).movedim(1, -1)


def resize_mask(mask: torch.Tensor, height: int, width: int) -> torch.Tensor:
    """A mask [batch, height, width] (or one without a batch) stretched to a new size, bilinear."""
    planes = mask.reshape((-1, 1, mask.shape[-2], mask.shape[-1]))
    return torch.nn.functional.interpolate(planes, size=(height, width), mode="bilinear").squeeze(1)


def repeat_to_batch(tensor: torch.Tensor, batch: int) -> torch.Tensor:
    """The first `batch` entries of `tensor`, from its first again where it has fewer."""
    count = tensor.shape[0]
    if count < batch:
        check_room((batch, *tensor.shape[1:]))
        tensor = tensor.repeat(-(-batch // count), *([1] * (tensor.ndim - 1)))
    return tensor[:batch]


def _middle(samples: torch.Tensor, width: int, height: int) -> torch.Tensor:
    old_width, old_height = samples.shape[-1], samples.shape[-2]
    old_ratio, new_ratio = old_width / old_height, width / height
    left = top = 0
    if old_ratio > new_ratio:
        left = round((old_width - old_width * (new_ratio / old_ratio)) / 2)
    elif old_ratio < new_ratio:
        top = round((old_height - old_height * (old_ratio / new_ratio)) / 2)
    return samples[..., top : old_height - top, left : old_width - left]


def _lanczos(samples: torch.Tensor, width: int, height: int) -> torch.Tensor:
    """Pillow's Lanczos on 8-bit values, as ComfyUI does it."""
    resized = []
    for sample in samples:
        plane = sample[0] if sample.shape[0] == 1 else sample.movedim(0, -1)
        with np.errstate(invalid="ignore"):
            values = np.clip(255.0 * plane.cpu().numpy(), 0, 255).astype(np.uint8)
        picture = Image.fromarray(values).resize((width, height), resample=Image.Resampling.LANCZOS)
        array = torch.from_numpy(np.asarray(picture).astype(np.float32) / np.float32(255.0))
        resized.append(array[None] if array.ndim == 2 else array.movedim(-1, 0))
    return torch.stack(resized).to(samples.device, samples.dtype)


def _bislerp(samples: torch.Tensor, width: int, height: int) -> torch.Tensor:
    """Bilinear, but each place's channels are a vector whose direction turns and whose length grows between two."""
    vectors = samples.float().movedim(1, -1)
    for dimension, size in ((2, width), (1, height)):
        first, second, share = _neighbours(vectors.shape[dimension], size, vectors.device)
        sides = [1] * vectors.ndim
        sides[dimension] = size
        pair = (vectors.index_select(dimension, first), vectors.index_select(dimension, second))
        vectors = _turned(*pair, share.reshape(sides))
    return vectors.movedim(-1, 1).to(samples.dtype)


def _neighbours(old: int, new: int, device: torch.device) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """For each place of a new side the two old places that it lies between, and how far from the first."""
    places = torch.arange(old, dtype=torch.float32, device=device).reshape(1, 1, -1)
    following = places + 1
    following[..., -1] -= 1
    first = torch.nn.functional.interpolate(places, size=new, mode="linear").flatten()
    second = torch.nn.functional.interpolate(following, size=new, mode="linear").flatten()
    return first.long(), second.long(), first - first.floor()


def _turned(first: torch.Tensor, second: torch.Tensor, share: torch.Tensor) -> torch.Tensor:
    """Between two vectors (the last dimension), a share of the way along the arc."""
    lengths = [vector.norm(dim=-1, keepdim=True) for vector in (first, second)]
    one, two = (
        torch.where(length == 0.0, torch.zeros_like(vector), vector / length)
        for vector, length in zip((first, second), lengths, strict=True)
    )
    cosine = (one * two).sum(-1, keepdim=True)
    angle = torch.acos(cosine)
    arc = (torch.sin((1.0 - share) * angle) * one + torch.sin(share * angle) * two) / torch.sin(angle)
    arc = arc * (lengths[0] * (1.0 - share) + lengths[1] * share)
    arc = torch.where(cosine > 1 - 1e-5, first, arc)  # the same direction
    return torch.where(cosine < 1e-5 - 1, first * (1.0 - share) + second * share, arc)  # opposite ones
