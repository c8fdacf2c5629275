"""Draws scenes: antialiased shapes with a soft light, a rim and a shadow, batches at a time.

Every shape is a table of signed distances made once from its outline; a thing is the table, moved and scaled. The
distance gives the antialiased edge, the rim and the shadow, so nothing is blurred afterwards.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from .scenes import SHAPES, Scene, Thing

if TYPE_CHECKING:
    import torch

# sRGB, 0..1.
PALETTE = {
    "red": (0.88, 0.13, 0.16),
    "orange": (0.98, 0.50, 0.08),
    "yellow": (0.99, 0.83, 0.14),
    "green": (0.13, 0.64, 0.30),
    "blue": (0.13, 0.36, 0.88),
    "purple": (0.49, 0.20, 0.70),
    "pink": (0.98, 0.52, 0.70),
    "white": (0.96, 0.96, 0.95),
    "black": (0.11, 0.11, 0.13),
    "gray": (0.55, 0.56, 0.58),
}
_TABLE = 192  # samples along a side of a distance table
_REACH = 1.7  # the table covers [-_REACH, _REACH] radii
_STRIPE = 0.105  # period of the stripes as a fraction of the canvas's side


def _outline(shape: str) -> np.ndarray:
    """The corners of a shape's outline, [n, 2], within the unit circle; y points down."""
    if shape == "square":
        return np.array([(-0.82, -0.82), (0.82, -0.82), (0.82, 0.82), (-0.82, 0.82)])
    if shape == "triangle":
        return np.array([(0.0, -0.98), (1.0, 0.76), (-1.0, 0.76)])
    if shape == "star":
        turns = np.arange(10) * math.pi / 5 - math.pi / 2
        reach = np.where(np.arange(10) % 2 == 0, 1.06, 0.47)
        return np.stack([np.cos(turns) * reach, np.sin(turns) * reach + 0.06], axis=1)
    if shape == "cross":
        a, b = 0.33, 0.98
        quarter = [
            (-a, -b),
            (a, -b),
            (a, -a),
            (b, -a),
            (b, a),
            (a, a),
            (a, b),
            (-a, b),
            (-a, a),
            (-b, a),
            (-b, -a),
            (-a, -a),
        ]
        return np.array(quarter)
    if shape == "heart":
        t = np.linspace(0, 2 * math.pi, 96, endpoint=False)
        x = 16 * np.sin(t) ** 3
        y = 13 * np.cos(t) - 5 * np.cos(2 * t) - 2 * np.cos(3 * t) - np.cos(4 * t)
        return np.stack([x, -y - 2.5], axis=1) / 16.2
    if shape == "moon":
        # The outer arc, then back along the bite's arc: both end where the two circles meet.
        bite_x, bite_y, bite = 0.45, -0.20, 0.80
        apart = math.hypot(bite_x, bite_y)
        along = (0.98**2 - bite**2 + apart**2) / (2 * apart)
        across = math.sqrt(0.98**2 - along**2)
        towards = math.atan2(bite_y, bite_x)
        outer_half, inner_half = math.atan2(across, along), math.atan2(across, along - apart)
        outer = np.linspace(towards + outer_half, towards + 2 * math.pi - outer_half, 64)
        inner = np.linspace(towards + 2 * math.pi - inner_half, towards + inner_half, 48)[1:-1]
        arcs = [
            (0.98 * np.cos(outer), 0.98 * np.sin(outer)),
            (bite_x + bite * np.cos(inner), bite_y + bite * np.sin(inner)),
        ]
        both: np.ndarray = np.concatenate([np.stack(arc, axis=1) for arc in arcs]) + np.array((0.1, 0.0))
        return both
    raise KeyError(shape)


def _polygon_distance(corners: np.ndarray, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Signed distance to a polygon, negative inside: the nearest edge, with the sign by counting crossings."""
    nearest = np.full(x.shape, np.inf)
    inside = np.zeros(x.shape, dtype=bool)
    for (ax, ay), (bx, by) in zip(corners, np.roll(corners, -1, axis=0), strict=True):
        ex, ey = bx - ax, by - ay
        along = np.clip(((x - ax) * ex + (y - ay) * ey) / (ex * ex + ey * ey), 0, 1)
        nearest = np.minimum(nearest, np.hypot(x - ax - along * ex, y - ay - along * ey))
        if ay != by:
            crosses = ((ay > y) != (by > y)) & (x < ax + (y - ay) / ey * ex)
            inside ^= crosses
    return np.where(inside, -nearest, nearest)


@functools.cache
def _tables() -> torch.Tensor:
    """Signed distances in radii, [shapes, 1, _TABLE, _TABLE]."""
    import torch

    line = (np.arange(_TABLE) + 0.5) / _TABLE * 2 * _REACH - _REACH
    x, y = np.meshgrid(line, line)
    middle = np.hypot(x, y)
    rounding = 0.05
    tables = []
    for shape in SHAPES:
        if shape == "circle":
            distance = middle - 0.95
        elif shape == "ring":
            distance = np.abs(middle - 0.68) - 0.27
        else:
            distance = _polygon_distance(_outline(shape) * (1 - rounding), x, y) - rounding
        tables.append(distance)
    return torch.from_numpy(np.stack(tables)).float()[:, None]


def _smooth(value: torch.Tensor, low: float, high: float) -> torch.Tensor:
    """0 below ``low``, 1 above ``high``, a soft curve between."""
    t = ((value - low) / (high - low)).clamp(0, 1)
    return t * t * (3 - 2 * t)


def backdrop(names: Sequence[str], side: int, device: str | torch.device = "cpu") -> torch.Tensor:
    """Lit backgrounds, float32 [batch, 3, side, side] in 0..1: the colour, paler in its light, darker at the foot."""
    import torch

    colours = torch.tensor([PALETTE[name] for name in names], device=device)
    # A little towards gray, so that a thing of a bright colour stands out from its background.
    colours = (colours * 0.86 + 0.14 * torch.tensor((0.62, 0.62, 0.62), device=device))[:, :, None, None]
    line = (torch.arange(side, device=device) + 0.5) / side
    y, x = torch.meshgrid(line, line, indexing="ij")
    light = torch.exp(-((x - 0.42) ** 2 + (y - 0.32) ** 2) / 0.32)
    picture = colours * (0.80 + 0.20 * light) + 0.10 * light
    return picture.clamp(0, 1)


def draw(
    scenes: Sequence[Scene], side: int = 256, *, striped: bool = False, device: str | torch.device = "cpu"
) -> torch.Tensor:
    """Draw scenes; returns float32 [batch, 3, side, side] in 0..1. ``striped`` is the style that the LoRA learns."""
    picture = backdrop([scene.background for scene in scenes], side, device)
    for canvas, scene in zip(picture, scenes, strict=True):
        for thing in scene.things:
            _put(canvas, thing, striped=striped)
    return picture.clamp(0, 1)


def _put(canvas: torch.Tensor, thing: Thing, *, striped: bool) -> None:
    """Draw one thing and its shadow onto a canvas [3, side, side], in place."""
    import torch
    from torch.nn.functional import grid_sample

    side, device = canvas.shape[-1], canvas.device
    unit = side / 256  # a pixel at the size that the model learns from
    # The part of the canvas that the thing or its shadow touches.
    reach = thing.radius * 1.12 + 0.07
    left, top = (max(0, math.floor((place - reach) * side)) for place in (thing.x, thing.y))
    right, bottom = (min(side, math.ceil((place + reach) * side)) for place in (thing.x, thing.y))
    line = (torch.arange(side, device=device) + 0.5) / side
    y, x = torch.meshgrid(line[top:bottom], line[left:right], indexing="ij")
    u, v = (x - thing.x) / thing.radius, (y - thing.y) / thing.radius
    # The shape itself, and the shape as its shadow lies: a little down and to the right.
    grid = torch.stack(
        (torch.stack((u, v), dim=-1), torch.stack((u - 0.018 / thing.radius, v - 0.030 / thing.radius), dim=-1))
    )
    table = _tables()[SHAPES.index(thing.shape)].to(device).expand(2, -1, -1, -1)
    distances = grid_sample(table, grid / _REACH, padding_mode="border", align_corners=False)[:, 0]
    # The table ends at _REACH; beyond, the distance grows on.
    beyond = (grid.abs() - _REACH).clamp(min=0).norm(dim=-1)
    here, shade = (distances + beyond) * (thing.radius * side)

    base = torch.tensor(PALETTE[thing.colour], device=device)[:, None, None]
    if striped:
        band = _smooth(torch.sin((x + y) / _STRIPE * math.pi * math.sqrt(2)), -0.12, 0.12)
        other = base * 0.45 if float(base.mean()) > 0.6 else base * 0.25 + 0.75
        base = base * band + other * (1 - band)
    light = -(0.55 * u + 0.83 * v)
    fill = base * (1 + 0.13 * light) + 0.035 * light
    fill = fill * (0.80 + 0.20 * _smooth(-here, -1.0 * unit, 7.0 * unit))
    shine = torch.exp(-((u + 0.34) ** 2 + (v + 0.42) ** 2) / 0.13) * _smooth(-here, 3 * unit, 12 * unit)
    fill = fill + (1 - fill) * 0.30 * shine
    under = canvas[:, top:bottom, left:right]
    under = under * (1 - 0.42 * (1 - _smooth(shade, -10.0 * unit, 13.0 * unit)))
    cover = (0.5 - here).clamp(0, 1)
    canvas[:, top:bottom, left:right] = under * (1 - cover) + fill.clamp(0, 1) * cover
