"""Pixels changed in place: inverted, blurred, sharpened, blended, edges. Sources: ComfyUI ``nodes.py``,
``nodes_post_processing.py``, ``nodes_canny.py``, ``nodes_images.py``.
"""

from __future__ import annotations

import torch
from torch.nn.functional import conv2d, pad

from .problems import NodeProblem
from .registry import NodeGroup
from .resize import resize_image

NODES = NodeGroup()


@NODES.node("ImageInvert")
def invert(image: torch.Tensor) -> torch.Tensor:
    """1 - image, alpha included."""
    return 1.0 - image


def _gaussian(image: torch.Tensor, radius: int, sigma: float) -> torch.Tensor:
    """Each channel smoothed by a Gaussian over 2 * `radius` + 1 pixels, the image mirrored at its edges.

    `sigma` is in units of the radius. Done along rows, then along columns: the same numbers as ComfyUI's square kernel
    up to rounding, in a fraction of the time.
    """
    if radius >= min(image.shape[1:3]):
        raise NodeProblem(
            f"a radius of {radius} needs an image of more than {radius} pixels a side, this one has "
            f"{image.shape[2]} x {image.shape[1]}",
            remedy="make the radius smaller",
        )
    line = torch.linspace(-1, 1, radius * 2 + 1)
    bell = torch.exp(-(line * line) / (2.0 * sigma * sigma))
    bell = bell / bell.sum()
    batch, rows, columns, channels = image.shape
    planes = image.movedim(-1, 1).reshape(batch * channels, 1, rows, columns)
    planes = conv2d(pad(planes, (radius,) * 4, "reflect"), bell.reshape(1, 1, 1, -1))
    planes = conv2d(planes, bell.reshape(1, 1, -1, 1))
    return planes.reshape(batch, channels, rows, columns).movedim(1, -1)


@NODES.node("ImageBlur")
def blur(image: torch.Tensor, blur_radius: int, sigma: float) -> torch.Tensor:
    """A Gaussian blur."""
    return image if blur_radius == 0 else _gaussian(image, blur_radius, sigma)


@NODES.node("ImageSharpen")
def sharpen(image: torch.Tensor, sharpen_radius: int, sigma: float, alpha: float) -> torch.Tensor:
    """The image plus 10 * `alpha` times what a Gaussian blur takes from it, within 0..1."""
    if sharpen_radius == 0:
        return image
    amount = alpha * 10
    return ((1.0 + amount) * image - amount * _gaussian(image, sharpen_radius, sigma)).clamp(0, 1)


def same_channels(destination: torch.Tensor, source: torch.Tensor) -> torch.Tensor:
    """`source` with the channels of `destination`: an alpha is dropped, a missing one is 1."""
    missing = destination.shape[-1] - source.shape[-1]
    return pad(source, (0, missing), value=1.0) if missing > 0 else source[..., : destination.shape[-1]]


@NODES.node("ImageBlend")
def blend(image1: torch.Tensor, image2: torch.Tensor, blend_factor: float, blend_mode: str) -> torch.Tensor:
    """The first image with `blend_factor` of the two blended, within 0..1; the second is scaled to the first."""
    over = same_channels(image1, image2)
    if image1.shape != over.shape:
        over = resize_image(over, image1.shape[2], image1.shape[1], "bicubic", "center")
    return (image1 * (1 - blend_factor) + _blended(image1, over, blend_mode) * blend_factor).clamp(0, 1)


def _blended(base: torch.Tensor, over: torch.Tensor, mode: str) -> torch.Tensor:
    match mode:
        case "normal":
            return over
        case "multiply":
            return base * over
        case "screen":
            return 1 - (1 - base) * (1 - over)
        case "overlay":
            return torch.where(base <= 0.5, 2 * base * over, 1 - 2 * (1 - base) * (1 - over))
        case "soft_light":
            curve = torch.where(base <= 0.25, ((16 * base - 12) * base + 4) * base, torch.sqrt(base))
            dark, light = base - (1 - 2 * over) * base * (1 - base), base + (2 * over - 1) * (curve - base)
            return torch.where(over <= 0.5, dark, light)
        case "difference":
            return base - over
    raise NodeProblem(f"there is no blend_mode {mode!r}")


@NODES.node("ImageAddNoise")
def add_noise(image: torch.Tensor, seed: int, strength: float) -> torch.Tensor:
    """The image plus Gaussian noise of that seed, within 0..1."""
    generator = torch.Generator("cpu").manual_seed(seed)
    noise = torch.randn(image.shape, generator=generator)
    return (image + strength * noise).clamp(0.0, 1.0)


@NODES.node("Canny")
def canny(image: torch.Tensor, low_threshold: float, high_threshold: float) -> torch.Tensor:
    """White edges on black after Canny; both thresholds are of the gradient's strength."""
    from kornia.filters import canny as detect  # loads slowly; few prompts need it

    if image.shape[-1] != 3:
        raise NodeProblem(
            f"edges need an image of 3 channels, this one has {image.shape[-1]}",
            remedy="drop its alpha with SplitImageWithAlpha",
        )
    if low_threshold > high_threshold:
        raise NodeProblem(
            f"low_threshold {low_threshold} is above high_threshold {high_threshold}", remedy="exchange them"
        )
    edges: torch.Tensor = detect(image.movedim(-1, 1), low_threshold, high_threshold)[1]
    return edges.repeat(1, 3, 1, 1).movedim(1, -1)
