"""Scores the demonstration model: pictures of captions that training never saw, read by the classifier.

Twice: on captions held out of the scenes that training draws, and on captions with a pair of colour and shape that no
training scene holds, which ask it to put together what it never saw together.

python -m comfy_atelier.engines.embedded.demo.evaluate --reader tests/data/demo/atelier-demo-reader.safetensors
"""

from __future__ import annotations

import argparse
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from . import denoising, networks, pictures, reading, weights
from .scenes import Told, held_out_scenes, new_scenes

CAPTIONS = 200
SEED = 2024
STEPS, CFG = 20, 2.5


@dataclass(frozen=True, kw_only=True, slots=True)
class Score:
    """Parts of the captions, 0..1.

    Attributes:
        count: captions.
        right: every thing that the caption names is in the picture, in its colour and shape.
        exact: and nothing else is.
        background: the background has its colour.
        placed: of captions with a relation, those that are right and whose two things stand as told.
    """

    count: int
    right: float
    exact: float
    background: float
    placed: float


def judged(one: Told, seen: reading.Reading) -> tuple[bool, bool, bool, bool | None]:
    """(right, exact, background, placed) of one caption; placed is None where the caption tells no relation."""
    wanted = sorted((thing.colour, thing.shape) for thing in one.scene.things)
    left = list(seen.pairs)
    right = True
    for pair in wanted:
        if pair in left:
            left.remove(pair)
        else:
            right = False
    placed: bool | None = None
    if len(one.scene.things) == 2 and " and " not in one.caption:
        placed = right and _stands(one, seen)
    return right, right and not left, seen.background == one.scene.background, placed


def _stands(one: Told, seen: reading.Reading) -> bool:
    """Whether the two things of a scene lie along the same axis, in the same order, as in the scene."""
    first, second = one.scene.things
    across, down = first.x - second.x, first.y - second.y
    for here in seen.things:
        for there in seen.things:
            pairs = (here.colour, here.shape), (there.colour, there.shape)
            if here is not there and pairs == ((first.colour, first.shape), (second.colour, second.shape)):
                if abs(across) > abs(down):
                    return (here.x - there.x) * across > 0
                return (here.y - there.y) * down > 0
    return False


def judge(told: Sequence[Told], readings: Sequence[reading.Reading]) -> Score:
    """The score of pictures that were made of captions and read."""
    marks = [judged(one, seen) for one, seen in zip(told, readings, strict=True)]
    placed = [mark[3] for mark in marks if mark[3] is not None]
    return Score(
        count=len(marks),
        right=sum(mark[0] for mark in marks) / len(marks),
        exact=sum(mark[1] for mark in marks) / len(marks),
        background=sum(mark[2] for mark in marks) / len(marks),
        placed=sum(placed) / max(1, len(placed)),
    )


def evaluate(
    parts: networks.Parts, reader: Any, told: Sequence[Told], say: Callable[[str], None], *, seed: int = SEED
) -> Score:
    """Make a picture of each caption (`STEPS` Euler steps at cfg `CFG`) and read them."""
    readings: list[reading.Reading] = []
    for start in range(0, len(told), 20):
        chunk = told[start : start + 20]
        made = denoising.sample(
            parts.unet, parts.text, [one.caption for one in chunk], steps=STEPS, cfg=CFG, seed=seed + start
        )
        readings += reading.read(reader, pictures.decode(parts.autoencoder, parts.leave(made)))
        say(f"scored {len(readings)} of {len(told)}: {judge(told[: len(readings)], readings).right:.1%} right")
    return judge(told, readings)


def scores(
    parts: networks.Parts, reader: Any, say: Callable[[str], None], *, count: int = CAPTIONS, seed: int = SEED
) -> dict[str, Score]:
    """The score on ``count`` captions of each kind: "held out", and "unseen pairs"."""
    kinds = {
        "held out": new_scenes(count, seed, denoising.training_captions()),
        "unseen pairs": held_out_scenes(count, seed),
    }
    found = {}
    for name, told in kinds.items():
        found[name] = evaluate(parts, reader, told, say, seed=seed)
        say(f"{name}: {found[name]}")
    return found


def main(arguments: Sequence[str] | None = None) -> int:
    """Score the files and print the table; returns the exit code (1: below 90 %)."""
    parser = argparse.ArgumentParser(prog="evaluate", description="Score the demonstration model.")
    parser.add_argument("--checkpoint", type=Path, default=weights.MODELS / "checkpoints" / weights.CHECKPOINT)
    parser.add_argument("--reader", type=Path, required=True, help="the classifier that the training left")
    parser.add_argument("--captions", type=int, default=CAPTIONS)
    chosen = parser.parse_args(arguments)
    parts = networks.load_parts(chosen.checkpoint)
    reader = reading.load_reader(chosen.reader)
    print(f"the reader on 500 new drawn scenes: {reading.score(reader, 500, random.Random(SEED).randrange(2**31)):.1%}")  # noqa: S311, T201 - a script
    found = scores(parts, reader, print, count=chosen.captions)
    return 0 if found["held out"].right >= 0.9 else 1


if __name__ == "__main__":
    raise SystemExit(main())
