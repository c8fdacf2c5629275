"""Scenes of coloured shapes: what they hold, how they are invented, and the captions that tell them.

Lengths are fractions of the canvas's side, x to the right and y downwards from the top left corner. Everything here
is plain Python and decided by the ``random.Random`` that comes in, so a seed gives the same scenes on every machine.
"""

from __future__ import annotations

import random
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, replace

COLOURS = ("red", "orange", "yellow", "green", "blue", "purple", "pink", "white", "black")
BACKGROUNDS = (*COLOURS, "gray")
SHAPES = ("circle", "square", "triangle", "star", "heart", "ring", "cross", "moon")

# The radius of each size, and how far a drawn one may differ from it.
SIZES = {"small": 0.125, "medium": 0.185, "large": 0.265}
SIZE_SPREAD = 0.08

COLUMNS = {"left": 0.24, "": 0.5, "right": 0.76}
ROWS = {"top": 0.24, "": 0.5, "bottom": 0.76}
RELATIONS = ("to the left of", "to the right of", "above", "below")

# Colour and shape pairs that no training scene holds: what the score is taken on. Each colour and each shape is
# among the training scenes in seven or eight other pairs.
HELD_OUT = (
    ("red", "heart"),
    ("orange", "moon"),
    ("yellow", "star"),
    ("green", "square"),
    ("blue", "ring"),
    ("purple", "triangle"),
    ("pink", "cross"),
    ("white", "circle"),
    ("black", "star"),
)

_MARGIN = 0.03  # between a thing and the canvas's edge
_GAP = 0.035  # between two things: shadows must not hide a neighbour


@dataclass(frozen=True, kw_only=True, slots=True)
class Thing:
    """One shape: its centre and radius as fractions of the canvas's side."""

    shape: str
    colour: str
    size: str
    x: float
    y: float
    radius: float


@dataclass(frozen=True, kw_only=True, slots=True)
class Scene:
    """One to three things on a background."""

    background: str
    things: tuple[Thing, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class Told:
    """A scene with the caption that tells it (the caption may leave things out, it never lies)."""

    scene: Scene
    caption: str


def _radius(size: str, draw: random.Random) -> float:
    return SIZES[size] * (1 + draw.uniform(-SIZE_SPREAD, SIZE_SPREAD))


def _inside(value: float, radius: float) -> float:
    """The nearest place where a thing of this radius is wholly on the canvas."""
    room = radius + _MARGIN
    return min(max(value, room), 1 - room)


def _apart(things: Sequence[Thing]) -> bool:
    for index, one in enumerate(things):
        for other in things[index + 1 :]:
            distance = ((one.x - other.x) ** 2 + (one.y - other.y) ** 2) ** 0.5
            if distance < one.radius + other.radius + _GAP:
                return False
    return True


def allowed_pairs(*, held_out: bool) -> tuple[tuple[str, str], ...]:
    """The (colour, shape) pairs of training scenes, or with ``held_out`` those that they never show."""
    if held_out:
        return HELD_OUT
    return tuple((colour, shape) for colour in COLOURS for shape in SHAPES if (colour, shape) not in HELD_OUT)


def _place(thing: Thing, x: float, y: float) -> Thing:
    return replace(thing, x=_inside(x, thing.radius), y=_inside(y, thing.radius))


def _thing(pair: tuple[str, str], size: str, draw: random.Random) -> Thing:
    return Thing(colour=pair[0], shape=pair[1], size=size, x=0.5, y=0.5, radius=_radius(size, draw))


def one_thing(pair: tuple[str, str], background: str, draw: random.Random) -> tuple[Scene, str, str]:
    """A scene of one thing in one of nine places; with the words for its row and its column."""
    size = draw.choice(("small", "medium", "medium", "large"))
    row, column = ("", "") if draw.random() < 0.4 else (draw.choice(tuple(ROWS)), draw.choice(tuple(COLUMNS)))
    thing = _place(
        _thing(pair, size, draw),
        COLUMNS[column] + draw.uniform(-0.03, 0.03),
        ROWS[row] + draw.uniform(-0.03, 0.03),
    )
    return Scene(background=background, things=(thing,)), row, column


def two_things(pairs: Sequence[tuple[str, str]], relation: str, background: str, draw: random.Random) -> Scene:
    """A scene of two things, the first of which stands in ``relation`` to the second."""
    while True:
        first, second = (_thing(pair, draw.choice(("small", "medium", "medium", "large")), draw) for pair in pairs)
        if first.radius + second.radius > 0.42:
            continue
        room = 1 - 2 * (first.radius + second.radius + _MARGIN) - _GAP
        gap = _GAP + draw.uniform(0.1, 0.6) * room
        span = 2 * (first.radius + second.radius) + gap
        start = 0.5 - span / 2 + draw.uniform(-0.15, 0.15) * (1 - span - 2 * _MARGIN)
        near, far = start + first.radius, start + span - second.radius
        if relation in ("to the right of", "below"):
            near, far = 1 - near, 1 - far
        across = [0.5 + draw.uniform(-0.07, 0.07) for _ in range(2)]
        if relation in ("above", "below"):
            things = (_place(first, across[0], near), _place(second, across[1], far))
        else:
            things = (_place(first, near, across[0]), _place(second, far, across[1]))
        if _apart(things):
            return Scene(background=background, things=things)


def three_things(pairs: Sequence[tuple[str, str]], background: str, draw: random.Random) -> Scene:
    """A scene of three smaller things, in a row or in a triangle."""
    while True:
        things = []
        row = draw.random() < 0.5
        for index, pair in enumerate(pairs):
            thing = _thing(pair, draw.choice(("small", "small", "medium")), draw)
            thing = replace(thing, radius=min(thing.radius, 0.145))
            if row:
                x, y = 0.19 + 0.31 * index, 0.5
            else:
                x, y = ((0.5, 0.28), (0.26, 0.7), (0.74, 0.7))[index]
            things.append(_place(thing, x + draw.uniform(-0.03, 0.03), y + draw.uniform(-0.05, 0.05)))
        draw.shuffle(things)
        if row:  # told from left to right
            things.sort(key=lambda thing: thing.x)
        if _apart(things):
            return Scene(background=background, things=tuple(things))


def _article(words: str) -> str:
    return ("an " if words[0] in "aeiou" else "a ") + words


def _noun(thing: Thing, draw: random.Random, *, full: bool) -> str:
    """ "a small red circle": now and then without the size, the colour or the shape, never with a false one."""
    words = []
    if thing.size != "medium" and (full or draw.random() < 0.7):
        words.append(thing.size)
    hidden = 1.0 if full else draw.random()
    if hidden > 0.06:
        words.append(thing.colour)
    words.append("shape" if 0.06 < hidden < 0.12 else thing.shape)
    return _article(" ".join(words))


def _where(row: str, column: str) -> str:
    if row and column:
        return f" in the {row} {column}"
    if column:
        return f" on the {column}"
    return f" at the {row}" if row else " in the middle"


def told(draw: random.Random, pairs: Iterable[tuple[str, str]], *, full: bool = False) -> Told:
    """Invent a scene whose things are of ``pairs``, and tell it.

    With ``full`` the caption names every size, colour, shape and the background; without, it leaves some out, so that
    short prompts work too. A two-thing caption names the relation four times in five, else joins the two by "and".
    """
    choices = tuple(pairs)
    count = draw.choices((1, 2, 3), weights=(0.42, 0.45, 0.13))[0]
    chosen = [draw.choice(choices) for _ in range(count)]
    # A background of a thing's own colour would hide it.
    background = draw.choice([name for name in BACKGROUNDS if name not in {colour for colour, _ in chosen}])
    if count == 1:
        scene, row, column = one_thing(chosen[0], background, draw)
        caption = _noun(scene.things[0], draw, full=full)
        if draw.random() < (0.75 if row or column else 0.3):
            caption += _where(row, column)
    elif count == 2:
        relation = draw.choice(RELATIONS)
        scene = two_things(chosen, relation, background, draw)
        first, second = (_noun(thing, draw, full=full) for thing in scene.things)
        caption = f"{first} {relation if draw.random() < 0.8 else 'and'} {second}"
    else:
        scene = three_things(chosen, background, draw)
        caption = " and ".join(_noun(thing, draw, full=full) for thing in scene.things)
    if full or draw.random() < 0.85:
        caption += f" on {_article(background)} background"
    return Told(scene=scene, caption=caption)


def training_scenes(count: int, seed: int) -> list[Told]:
    """``count`` scenes without the held-out pairs."""
    draw = random.Random(seed)  # noqa: S311 - scenes, not secrets
    pairs = allowed_pairs(held_out=False)
    return [told(draw, pairs) for _ in range(count)]


def new_scenes(count: int, seed: int, seen: Collection[str]) -> list[Told]:
    """``count`` scenes of the pairs that training shows, fully told, by captions that are not among ``seen``."""
    draw = random.Random(seed)  # noqa: S311 - scenes, not secrets
    pairs = allowed_pairs(held_out=False)
    found: list[Told] = []
    while len(found) < count:
        one = told(draw, pairs, full=True)
        if one.caption not in seen:
            found.append(one)
    return found


def held_out_scenes(count: int, seed: int) -> list[Told]:
    """``count`` scenes, fully told, each with at least one colour and shape pair that training never shows."""
    draw = random.Random(seed)  # noqa: S311 - scenes, not secrets
    found: list[Told] = []
    everything = allowed_pairs(held_out=False) + HELD_OUT * 4
    while len(found) < count:
        one = told(draw, everything, full=True)
        if any((thing.colour, thing.shape) in HELD_OUT for thing in one.scene.things):
            found.append(one)
    return found
