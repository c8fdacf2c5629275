"""Images cut into overlapping tiles and put together again. Source: ComfyUI ``nodes_images.py``."""

from __future__ import annotations

import math
from collections.abc import Iterator

import torch

from .memory import check_room
from .registry import NodeGroup

NODES = NodeGroup()

_LEAST_WEIGHT = 1e-5


def _places(length: int, tile: int, overlap: int) -> Iterator[tuple[int, int]]:
    """Begin and end of each tile along one side; the last ones are moved back so that they end at the edge."""
    step = round(max(tile * 0.25, tile - overlap))
    start = 0
    while start < length:
        end = min(start + tile, length)
        yield max(0, end - tile), end
        if end >= length:
            return
        start += step


@NODES.node("SplitImageToTileList", list_outputs=frozenset({0}))
def split(image: torch.Tensor, tile_width: int, tile_height: int, overlap: int) -> list[torch.Tensor]:
    """The tiles, row by row."""
    return [
        image[:, top:bottom, left:right]
        for top, bottom in _places(image.shape[1], tile_height, overlap)
        for left, right in _places(image.shape[2], tile_width, overlap)
    ]


@NODES.node("ImageMergeTileList", input_is_list=True)
def merge(
    image_list: list[torch.Tensor], final_width: list[int], final_height: list[int], overlap: list[int]
) -> torch.Tensor:
    """Tiles laid out as `split` cuts them, blended where they overlap."""
    width, height, over = final_width[0], final_height[0], overlap[0]
    batch, rows, columns, channels = image_list[0].shape
    check_room((batch, height, width, channels), copies=3)
    canvas = image_list[0].new_zeros((batch, height, width, channels))
    weights = canvas.new_zeros((batch, height, width, 1))
    weight = _hill(rows, columns) if over > 0 else torch.ones((1, rows, columns, 1))
    corners = [(top, left) for top, _ in _places(height, rows, over) for left, _ in _places(width, columns, over)]
    for tile, (top, left) in zip(image_list, corners, strict=False):
        high, wide = min(tile.shape[1], rows, height - top), min(tile.shape[2], columns, width - left)
        part = weight[:, :high, :wide]
        canvas[:, top : top + high, left : left + wide] += tile[:, :high, :wide] * part
        weights[:, top : top + high, left : left + wide] += part
    weights[weights == 0] = 1.0
    return canvas / weights


def _hill(rows: int, columns: int) -> torch.Tensor:
    """A weight that falls off to the edges like half a sine wave, [1, rows, columns, 1]."""
    down = torch.sin(math.pi * torch.linspace(0, 1, rows)).clamp(min=_LEAST_WEIGHT)
    across = torch.sin(math.pi * torch.linspace(0, 1, columns)).clamp(min=_LEAST_WEIGHT)
    return (down[:, None] * across[None, :])[None, :, :, None]
