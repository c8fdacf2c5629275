"""Images and masks at another size.

Sources: ComfyUI ``nodes.py``, ``nodes_post_processing.py``, ``nodes_images.py``.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import torch

from .memory import check_room
from .problems import NodeProblem
from .registry import NodeGroup
from .resize import resize, resize_image

NODES = NodeGroup()

MEGAPIXEL = 1024 * 1024


@NODES.node("ImageScale")
def scale(image: torch.Tensor, upscale_method: str, width: int, height: int, crop: str) -> torch.Tensor:
    """To `width` x `height`; a side of 0 follows from the other, two leave the image as it is."""
    if width == 0 and height == 0:
        return image
    rows, columns = image.shape[1:3]
    width = width or max(1, round(columns * height / rows))
    height = height or max(1, round(rows * width / columns))
    return resize_image(image, width, height, upscale_method, crop)


@NODES.node("ImageScaleBy")
def scale_by(image: torch.Tensor, upscale_method: str, scale_by: float) -> torch.Tensor:
    """Both sides times `scale_by`."""
    rows, columns = image.shape[1:3]
    return resize_image(image, round(columns * scale_by), round(rows * scale_by), upscale_method)


@NODES.node("ImageScaleToTotalPixels")
def scale_to_total_pixels(
    image: torch.Tensor, upscale_method: str, megapixels: float, resolution_steps: int = 1
) -> torch.Tensor:
    """To about `megapixels` * 2^20 pixels, each side a multiple of `resolution_steps`."""
    rows, columns = image.shape[1:3]
    factor = math.sqrt(megapixels * MEGAPIXEL / (columns * rows))
    width = round(columns * factor / resolution_steps) * resolution_steps
    height = round(rows * factor / resolution_steps) * resolution_steps
    return resize_image(image, width, height, upscale_method)


@NODES.node("ImageScaleToMaxDimension")
def scale_to_max_dimension(image: torch.Tensor, upscale_method: str, largest_size: int) -> torch.Tensor:
    """The longer side to `largest_size`, the other in proportion."""
    rows, columns = image.shape[1:3]
    width, height = _by_side(columns, rows, largest_size, longer=True)
    return resize_image(image, width, height, upscale_method)


@NODES.node("ResizeAndPadImage")
def resize_and_pad(
    image: torch.Tensor, target_width: int, target_height: int, padding_color: str, interpolation: str
) -> torch.Tensor:
    """The whole image within the target's frame, the rest black or white."""
    batch, rows, columns, channels = image.shape
    factor = min(target_width / columns, target_height / rows)
    width, height = int(columns * factor), int(rows * factor)
    resized = resize_image(image, width, height, interpolation)
    check_room((batch, target_height, target_width, channels))
    canvas = image.new_full((batch, target_height, target_width, channels), 0.0 if padding_color == "black" else 1.0)
    top, left = (target_height - height) // 2, (target_width - width) // 2
    canvas[:, top : top + height, left : left + width] = resized
    return canvas


@NODES.node("ResizeImageMaskNode")
def resize_image_or_mask(input: torch.Tensor, scale_method: str, resize_type: Mapping[str, Any]) -> torch.Tensor:
    """An image [batch, height, width, channels] or a mask [batch, height, width] at the size of `resize_type`."""
    planes = _planes(input)
    rows, columns = planes.shape[-2:]
    kind, crop = resize_type["resize_type"], "disabled"
    if kind == "scale to multiple":
        return _to_multiple(input, resize_type["multiple"], scale_method)
    if kind in ("scale dimensions", "match size"):
        crop = resize_type["crop"]
    size = _SIZES.get(kind)
    if size is None:
        raise NodeProblem(f"there is no resize_type {kind!r}", remedy=f"use one of {', '.join(_SIZES)}")
    width, height = size(columns, rows, resize_type)
    if width == 0 and height == 0:
        return input
    width = width or max(1, round(columns * height / rows))
    height = height or max(1, round(rows * width / columns))
    return _back(resize(planes, width, height, scale_method, crop), input)


def _by_side(columns: int, rows: int, side: int, *, longer: bool) -> tuple[int, int]:
    if columns == rows:
        return side, side
    if (columns > rows) == longer:
        return side, round((rows / columns) * side)
    return round((columns / rows) * side), side


def _by_pixels(columns: int, rows: int, megapixels: float) -> tuple[int, int]:
    factor = math.sqrt(int(megapixels * MEGAPIXEL) / (columns * rows))
    return round(columns * factor), round(rows * factor)


def _matching(choice: Mapping[str, Any]) -> tuple[int, int]:
    rows, columns = _planes(choice["match"]).shape[-2:]
    return columns, rows


_SIZES: Mapping[str, Callable[[int, int, Mapping[str, Any]], tuple[int, int]]] = {
    "scale dimensions": lambda columns, rows, choice: (choice["width"], choice["height"]),
    "scale by multiplier": lambda columns, rows, choice: (
        round(columns * choice["multiplier"]),
        round(rows * choice["multiplier"]),
    ),
    "scale longer dimension": lambda columns, rows, choice: _by_side(columns, rows, choice["longer_size"], longer=True),
    "scale shorter dimension": lambda columns, rows, choice: _by_side(
        columns, rows, choice["shorter_size"], longer=False
    ),
    "scale width": lambda columns, rows, choice: (choice["width"], 0),
    "scale height": lambda columns, rows, choice: (0, choice["height"]),
    "scale total pixels": lambda columns, rows, choice: _by_pixels(columns, rows, choice["megapixels"]),
    "match size": lambda columns, rows, choice: _matching(choice),
}


def _planes(value: torch.Tensor) -> torch.Tensor:
    return value.movedim(-1, 1) if value.ndim == 4 else value.unsqueeze(1)


def _back(planes: torch.Tensor, like: torch.Tensor) -> torch.Tensor:
    return planes.movedim(1, -1) if like.ndim == 4 else planes.squeeze(1)


def _to_multiple(value: torch.Tensor, multiple: int, method: str) -> torch.Tensor:
    """Scaled to cover the next smaller multiple of both sides, what is over cut off evenly."""
    rows, columns = value.shape[1:3]
    width, height = columns // multiple * multiple, rows // multiple * multiple
    if multiple <= 1 or not width or not height or (width, height) == (columns, rows):
        return value
    factor = max(width / columns, height / rows)
    wide = width if width / columns >= height / rows else max(width, math.ceil(columns * factor))
    high = height if width / columns < height / rows else max(height, math.ceil(rows * factor))
    scaled = _back(resize(_planes(value), wide, high, method), value)
    left, top = (wide - width) // 2, (high - height) // 2
    return scaled[:, top : top + height, left : left + width]
