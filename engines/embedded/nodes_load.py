"""Input nodes: pictures and masks from files."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator

import torch

from .context import Context
from .pictures import read_picture
from .problems import NodeProblem
from .registry import Fault, NodeGroup

NODES = NodeGroup()


def _digest(image: str, *, context: Context, **_: object) -> str:
    with context.file("image", image).open("rb") as file:
        return hashlib.file_digest(file, "blake2b").hexdigest()


def _missing(image: str, *, context: Context, **_: object) -> Iterator[Fault]:
    try:
        context.file("image", image)
    except NodeProblem as problem:
        yield Fault(input_name="image", message=problem.message, remedy=problem.remedy)


@NODES.node("LoadImage", fingerprint=_digest, validate=_missing)
def load_image(image: str, *, context: Context) -> tuple[torch.Tensor, torch.Tensor]:
    """The picture, and 1 - its alpha as the mask (64 x 64 zeros where it has none)."""
    picture = read_picture(context.file("image", image))
    pixels = torch.from_numpy(picture.pixels)
    if picture.alpha is None:
        return pixels, torch.zeros((pixels.shape[0], 64, 64), dtype=torch.float32)
    mask: torch.Tensor = 1.0 - torch.from_numpy(picture.alpha)
    return pixels, mask


@NODES.node("LoadImageMask", fingerprint=_digest, validate=_missing)
def load_image_mask(image: str, channel: str, *, context: Context) -> torch.Tensor:
    """One channel of the picture as a mask; "alpha" gives 1 - alpha."""
    pixels: torch.Tensor
    mask: torch.Tensor
    pixels, mask = load_image(image, context=context)
    if channel == "alpha":
        return mask
    index = ("red", "green", "blue").index(channel)
    plane: torch.Tensor = pixels[..., index]
    return plane.clone()
