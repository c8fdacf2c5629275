"""The classifier that scores the model: it reads which things a picture shows, and on what.

A small convolutional network, trained on drawn scenes, looks at 8 x 8 cells and says of each whether a thing's middle
is in it, of which colour and shape, and whether it is striped; and of the whole picture its background. `read` makes
things of that.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from . import weights
from .drawing import draw
from .scenes import BACKGROUNDS, COLOURS, HELD_OUT, SHAPES, Told, allowed_pairs, told
from .training import Course, Place, learn

if TYPE_CHECKING:
    import torch

COURSE = Course(steps=1800, batch=24, rate=3e-3, warm=100, decay=0.01, average=0.99, seed=105)
SIDE = 128  # pixels of the pictures that it looks at
CELLS = 8
_WIDTHS = (24, 32, 48, 64)
_HEADS = 1 + len(COLOURS) + len(SHAPES) + 1  # is one, its colour, its shape, is striped
SURE = 0.5


@dataclass(frozen=True, kw_only=True, slots=True)
class Seen:
    """A thing that was read from a picture; x and y are fractions of its sides, of the cell that it was found in."""

    colour: str
    shape: str
    striped: bool
    x: float
    y: float


@dataclass(frozen=True, kw_only=True, slots=True)
class Reading:
    """What a picture shows."""

    background: str
    things: tuple[Seen, ...]

    @property
    def pairs(self) -> list[tuple[str, str]]:
        """(colour, shape) of every thing, sorted."""
        return sorted((thing.colour, thing.shape) for thing in self.things)


def reader() -> torch.nn.Module:
    """The network: pictures [batch, 3, SIDE, SIDE] in 0..1 to ([batch, _HEADS, CELLS, CELLS], [batch, backgrounds])."""
    from torch import nn

    layers: list[nn.Module] = []
    before = 3
    for width in _WIDTHS:
        layers += [nn.Conv2d(before, width, 3, stride=2, padding=1), nn.BatchNorm2d(width), nn.ReLU()]
        layers += [nn.Conv2d(width, width, 3, padding=1), nn.BatchNorm2d(width), nn.ReLU()]
        before = width
    for _ in range(2):
        layers += [nn.Conv2d(before, before, 3, padding=1), nn.BatchNorm2d(before), nn.ReLU()]
    modules = {
        "body": nn.Sequential(*layers),
        "cells": nn.Conv2d(before, _HEADS, 1),
        "ground": nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(before, len(BACKGROUNDS))),
    }
    return nn.ModuleDict(modules)


def _look(network: Any, pictures: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    body = network["body"](pictures * 2 - 1)
    return network["cells"](body).float(), network["ground"](body).float()


def _parts(cells: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    """Is one, colour, shape and stripes, along dimension 1."""
    colours, shapes = len(COLOURS), len(SHAPES)
    return cells[:, 0], cells[:, 1 : 1 + colours], cells[:, 1 + colours : 1 + colours + shapes], cells[:, -1]


def read(network: Any, pictures: torch.Tensor) -> list[Reading]:
    """What pictures show; float32 [batch, 3, rows, columns] in 0..1 of any size."""
    import torch
    from torch.nn.functional import avg_pool2d, interpolate, max_pool2d

    network.eval()
    small = interpolate(pictures, (SIDE, SIDE), mode="bilinear", antialias=True, align_corners=False)
    with torch.no_grad():
        cells, ground = _look(network, small)
    present, colour, shape, stripes = _parts(cells)
    chance = present.sigmoid()
    # A thing whose middle is at a border lights up both cells a little: together they count, the brighter says where.
    around = 9 * avg_pool2d(chance[:, None], 3, stride=1, padding=1)[:, 0]
    peaks = (around >= SURE) & (chance == max_pool2d(chance[:, None], 3, stride=1, padding=1)[:, 0])
    peaks &= chance >= SURE / 5
    found = []
    for index in range(len(pictures)):
        things = []
        for row, column in peaks[index].nonzero().tolist():
            things.append(
                Seen(
                    colour=COLOURS[int(colour[index, :, row, column].argmax())],
                    shape=SHAPES[int(shape[index, :, row, column].argmax())],
                    striped=bool(stripes[index, row, column] > 0),
                    x=(column + 0.5) / CELLS,
                    y=(row + 0.5) / CELLS,
                )
            )
        found.append(Reading(background=BACKGROUNDS[int(ground[index].argmax())], things=tuple(things)))
    return found


def _lessons(batch: Sequence[Told], striped: bool, device: str) -> tuple[torch.Tensor, ...]:
    """Pictures and what is to be said of them: (pictures, [batch, 4, CELLS, CELLS] numbers, -1 for none, grounds)."""
    import torch

    pictures = draw([one.scene for one in batch], SIDE, striped=striped, device=device)
    wanted = torch.full((len(batch), 4, CELLS, CELLS), -1, dtype=torch.long)
    wanted[:, 0] = 0
    for index, one in enumerate(batch):
        for thing in one.scene.things:
            row, column = int(thing.y * CELLS), int(thing.x * CELLS)
            marks = (1, COLOURS.index(thing.colour), SHAPES.index(thing.shape), int(striped))
            wanted[index, :, row, column] = torch.tensor(marks)
    grounds = torch.tensor([BACKGROUNDS.index(one.scene.background) for one in batch])
    return pictures, wanted.to(device), grounds.to(device)


def _loss(network: Any, pictures: torch.Tensor, wanted: torch.Tensor, grounds: torch.Tensor) -> torch.Tensor:
    from torch.nn.functional import binary_cross_entropy_with_logits as yes_or_no
    from torch.nn.functional import cross_entropy

    cells, ground = _look(network, pictures)
    present, colour, shape, stripes = _parts(cells)
    there = wanted[:, 0] == 1
    loss = 8 * yes_or_no(present, wanted[:, 0].float()) + 0.3 * cross_entropy(ground, grounds)
    for said, mark in ((colour, 1), (shape, 2)):
        loss = loss + cross_entropy(said, wanted[:, mark].clamp(min=-1), ignore_index=-1)
    return loss + 0.3 * yes_or_no(stripes[there], wanted[:, 3][there].float())


def train_reader(network: Any, course: Course, place: Place, say: Callable[[str], None]) -> float:
    """Teach the reader on scenes of every pair, drawn as it goes. Returns seconds a step."""
    import torch

    torch.manual_seed(course.seed)
    choose = random.Random(course.seed)  # noqa: S311 - scenes, not secrets
    pairs = allowed_pairs(held_out=False) + HELD_OUT
    network.to(place.device, memory_format=torch.channels_last).train()

    def loss(step: int) -> torch.Tensor:
        batch = [told(choose, pairs) for _ in range(course.batch)]
        pictures, wanted, grounds = _lessons(batch, choose.random() < 0.25, place.device)
        # What a denoiser makes is never quite as clean as what is drawn.
        pictures = (pictures + 0.04 * choose.random() * torch.randn_like(pictures)).clamp(0, 1)
        with place.autocast():
            return _loss(network, pictures.contiguous(memory_format=torch.channels_last), wanted, grounds)

    pace = learn("reader", network.parameters(), loss, course, say)
    _settle(network, choose, pairs, place)
    network.eval()
    return pace


def _settle(network: Any, choose: random.Random, pairs: Sequence[tuple[str, str]], place: Place) -> None:
    """Give the averaged weights their own means and variances (BatchNorm's are of the weights on the way)."""
    import torch

    for module in network.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.reset_running_stats()
            module.momentum = None
    with torch.no_grad():
        for number in range(16):
            batch = [told(choose, pairs) for _ in range(24)]
            _look(network, _lessons(batch, number % 4 == 0, place.device)[0])


def score(network: Any, count: int, seed: int) -> float:
    """The part of ``count`` drawn scenes, new ones of every pair, that are read without any mistake (0..1)."""
    choose = random.Random(seed)  # noqa: S311 - scenes, not secrets
    pairs = allowed_pairs(held_out=False) + HELD_OUT
    right = 0
    for start in range(0, count, 25):
        batch = [told(choose, pairs) for _ in range(min(25, count - start))]
        readings = read(network, draw([one.scene for one in batch], 256))
        for one, reading in zip(batch, readings, strict=True):
            things = sorted((thing.colour, thing.shape) for thing in one.scene.things)
            right += reading.pairs == things and reading.background == one.scene.background
    return right / count


def load_reader(path: Path) -> Any:
    """The reader in a file."""
    network = reader()
    network.load_state_dict(weights.load(path)[0])
    return network.eval()


def save_reader(network: Any, path: Path, made: Mapping[str, Any]) -> None:
    """Write the reader to a file; ``made`` goes into its header."""
    weights.save(path, network.state_dict(), weights.header("reader", made))
