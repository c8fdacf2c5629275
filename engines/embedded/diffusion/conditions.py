"""Conditions made ready for a run: where they apply, when, how strongly, and what the network is told of each.

Source: ComfyUI ``comfy/samplers.py`` (``process_conds`` and what it calls).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch

from ..problems import NodeProblem
from ..resize import resize
from .told import Each, Same, Several
from .values import Asked, Condition, Control, Model, RunningControl

SMALLEST_SIDE = 8  # latent pixels of the area that a mask's bounds make


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Prepared:
    """A condition in a run.

    Attributes:
        facts: what the network is told.
        area: sizes of the latent's last dimensions, then where they begin; None for everywhere.
        mask: [batch, rows, columns] with `mask_strength`; strength: weight among conditions.
        start, end: noise levels between which it applies.
        control: its ControlNets in the run; conditions with the same object can be in one batch.
    """

    condition: Condition
    facts: Mapping[str, Each]
    area: tuple[int, ...] | None = None
    mask: torch.Tensor | None = None
    mask_strength: float = 1.0
    strength: float = 1.0
    start: float = math.inf
    end: float = -math.inf
    control: RunningControl | None = None


def prepare(
    model: Model,
    conditionings: Mapping[str, Sequence[Condition]],
    asked: Callable[[str], Asked],
    place: Callable[[Any], Any],
) -> dict[str, list[Prepared]]:
    """Every conditioning ready for the run.

    Args:
        asked: the run as told to the network, by the conditioning's name.
        place: puts a tensor on the network's device in its dtype.

    Raises:
        NodeProblem: a condition does not fit the model.
    """
    ready: dict[str, list[Prepared]] = {}
    running: dict[int, RunningControl] = {}
    for name, conditions in conditionings.items():
        told = asked(name)
        ready[name] = [_prepared(model, condition, told, place, running) for condition in conditions]
    for name, ours in ready.items():
        for mine in list(ours):
            for other_name, theirs in ready.items():
                if other_name != name:
                    _oppose(theirs, mine)
    for name in ready:
        if name != "positive" and "positive" in ready:
            _share_control(ready["positive"], ready[name])
    return ready


def _prepared(
    model: Model,
    condition: Condition,
    asked: Asked,
    place: Callable[[Any], Any],
    running: dict[int, RunningControl],
) -> Prepared:
    sides = asked.noise.shape[2:]
    area = _area(condition.get("area"), sides)
    mask = condition.get("mask")
    if mask is not None:
        mask = _mask(mask.to(asked.noise.device, asked.noise.dtype), sides)
        if condition.get("set_area_to_bounds", False):
            area = _bounds(mask)
    start, end = condition.get("start_percent"), condition.get("end_percent")
    kind = condition.get("prompt_type")
    if kind is not None:
        asked = replace(asked, kind=kind)
    condition = model.network.entering(condition, asked)
    facts = {name: _placed(fact, place) for name, fact in model.network.told(condition, asked).items()}
    _check_text(model, facts)
    control: Control | None = condition.get("control")
    if control is not None and id(control) not in running:
        running[id(control)] = control.started(model)
    return Prepared(
        condition=condition,
        facts=facts,
        area=area,
        mask=mask,
        mask_strength=condition.get("mask_strength", 1.0),
        strength=condition.get("strength", 1.0),
        start=math.inf if start is None else model.levels.at_percent(start),
        end=-math.inf if end is None else model.levels.at_percent(end),
        control=None if control is None else running[id(control)],
    )


def _placed(fact: Each, place: Callable[[Any], Any]) -> Each:
    if isinstance(fact, Same):
        return fact
    if isinstance(fact, Several):
        return Several([place(tensor) for tensor in fact.value])
    return type(fact)(place(fact.value))


def _check_text(model: Model, facts: Mapping[str, Each]) -> None:
    text = facts.get("text")
    wanted = model.network.text_width
    if text is None:
        return
    if wanted is not None and text.value.shape[-1] != wanted:
        raise NodeProblem(
            f"the text is {text.value.shape[-1]} wide, model {model.source!r} takes {wanted}: "
            "it was encoded for another model",
            remedy="wire the CLIP that belongs to the model",
        )
    if not bool(torch.isfinite(text.value).all()):
        raise NodeProblem("the conditioning has numbers that are none (NaN)", remedy="fetch the text encoder again")


def _area(given: Any, sides: Sequence[int]) -> tuple[int, ...] | None:
    """Sizes, then places; of parts (a "percentage") at least one latent pixel."""
    if given is None:
        return None
    count = len(sides)
    if given[0] == "percentage":
        parts = given[1:]
        half = len(parts) // 2
        sizes = [max(1, round(parts[place] * sides[place])) for place in range(count)]
        return (*sizes, *(round(parts[place + half] * sides[place]) for place in range(count)))
    area = list(given)
    while len(area) // 2 < count:  # an area of a picture in a video: every frame
        half = len(area) // 2
        area = [2147483648, *area[:half], 0, *area[half:]]
    if len(area) // 2 > count:
        half = len(area) // 2
        area = area[:count] + area[half : half + count]
    return tuple(area)


def _mask(mask: torch.Tensor, sides: Sequence[int]) -> torch.Tensor:
    """[batch, *sides]."""
    if mask.ndim == len(sides):
        mask = mask.unsqueeze(0)
    if tuple(mask.shape[1:]) == tuple(sides):
        return mask
    if mask.ndim < 4:
        return resize(mask.unsqueeze(1), sides[-1], sides[-2], "bilinear").squeeze(1)
    return resize(mask, sides[-1], sides[-2], "bilinear")


def _bounds(mask: torch.Tensor) -> tuple[int, ...]:
    """The smallest area around what a mask covers."""
    covered = mask.abs().amax(dim=0) != 0
    rows, columns = torch.where(covered)
    if not rows.numel():
        return (SMALLEST_SIDE, SMALLEST_SIDE, 0, 0)
    top, left = int(rows.min()), int(columns.min())
    height, width = int(rows.max()) - top + 1, int(columns.max()) - left + 1
    return (max(SMALLEST_SIDE, height), max(SMALLEST_SIDE, width), top, left)


def _inside(area: Sequence[int], other: Sequence[int]) -> bool:
    count = len(area) // 2
    return all(
        area[count + place] >= other[count + place]
        and area[place] + area[count + place] <= other[place] + other[count + place]
        for place in range(count)
    )


def _oppose(conditions: list[Prepared], mine: Prepared) -> None:
    """Give the other side a condition for the same area, told what its smallest one around it is told."""
    if mine.area is None:
        return
    smallest: Prepared | None = None
    for other in conditions:
        if other.area is None:
            smallest = other if smallest is None else smallest
        elif _inside(mine.area, other.area) and (
            smallest is None or smallest.area is None or _size(smallest.area) > _size(other.area)
        ):
            smallest = other
    if smallest is None or smallest.area == mine.area:
        return
    conditions.append(replace(mine, facts=smallest.facts))


def _size(area: Sequence[int]) -> int:
    return math.prod(area[: len(area) // 2])


def _share_control(positive: Sequence[Prepared], conditions: list[Prepared]) -> None:
    """Give the other side the ControlNets of the positive that are to apply to both."""
    shared = [
        each.control
        for each in positive
        if each.area is None and each.control is not None and each.condition.get("control_apply_to_uncond", False)
    ]
    if any(each.area is None and each.control is not None for each in conditions):
        return
    places = [place for place, each in enumerate(conditions) if each.area is None]
    for number, control in enumerate(shared):
        if not places:
            return
        place = places[number % len(places)]
        if number < len(places):
            conditions[place] = replace(conditions[place], control=control)
        else:
            conditions.append(replace(conditions[place], control=control))


def applies(condition: Prepared, sigma: float) -> bool:
    """Whether it is the condition's time."""
    return condition.end <= sigma <= condition.start
