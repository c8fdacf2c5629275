"""Teaching the text encoder what captions mean, before the denoiser listens: from words alone, so it costs little.

It learns to say, at the places behind a caption's end, what the caption tells: at the end itself the background, at the
next places one thing each, with its colour, shape, size and where it stands. What it says these things with is thrown
away; what stays are text vectors in which things and their properties already belong together.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from .denoising import numbers_of
from .networks import TEXT_WIDTH
from .scenes import BACKGROUNDS, COLOURS, SHAPES, SIZES, Told
from .training import Course, Place, learn
from .words import END

if TYPE_CHECKING:
    import torch
    from transformers import CLIPTextModel

COURSE = Course(steps=700, batch=96, rate=2e-3, warm=50, decay=0.01, average=0.98, seed=106)
SCENES = 20000
THINGS = 3
PLACES = 8  # a side of the canvas, in steps
_PARTS = (len(COLOURS), len(SHAPES), len(SIZES), PLACES, PLACES)


def answers_of(told: Sequence[Told]) -> torch.Tensor:
    """What is to be said of each caption, int64 [count, 1 + THINGS * 5]: the background, then of every thing its
    colour, shape, size, column and row; -1 where there is no such thing.
    """
    import torch

    rows = []
    for one in told:
        row = [BACKGROUNDS.index(one.scene.background)]
        for thing in one.scene.things:
            row += [COLOURS.index(thing.colour), SHAPES.index(thing.shape), list(SIZES).index(thing.size)]
            row += [int(thing.x * PLACES), int(thing.y * PLACES)]
        rows.append([*row, *[-1] * (1 + THINGS * len(_PARTS) - len(row))])
    return torch.tensor(rows)


def train_text(
    text: CLIPTextModel, told: Sequence[Told], course: Course, place: Place, say: Callable[[str], None]
) -> float:
    """Teach the text encoder. Returns seconds a step."""
    import torch
    from torch.nn.functional import cross_entropy

    torch.manual_seed(course.seed)
    draw = torch.Generator().manual_seed(course.seed)
    numbers, answers = numbers_of([one.caption for one in told]), answers_of(told)
    ends = (numbers == END).int().argmax(dim=1)
    ground = torch.nn.Linear(TEXT_WIDTH, len(BACKGROUNDS)).to(place.device)
    thing = torch.nn.Linear(TEXT_WIDTH, sum(_PARTS)).to(place.device)
    text.to(place.device).train()

    def loss(step: int) -> torch.Tensor:
        chosen = torch.randint(len(numbers), (course.batch,), generator=draw)
        with place.autocast():
            heard = text(input_ids=numbers[chosen].to(place.device)).last_hidden_state
            rows = torch.arange(course.batch)
            wanted, at = answers[chosen].to(place.device), ends[chosen]
            total = cross_entropy(ground(heard[rows, at]).float(), wanted[:, 0])
            for number in range(THINGS):
                said = thing(heard[rows, at + 1 + number]).float().split(_PARTS, dim=1)
                for part, logits in enumerate(said):
                    right = wanted[:, 1 + number * len(_PARTS) + part]
                    share = (right >= 0).float().mean()  # scenes of three things are few
                    total = total + share * cross_entropy(logits, right.clamp(min=-1), ignore_index=-1)
        return total

    pace = learn("text", [*text.parameters(), *ground.parameters(), *thing.parameters()], loss, course, say)
    text.eval()
    return pace
