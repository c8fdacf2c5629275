"""What the model sees in a noisy latent under each condition, in as few forward passes as fit.

Source: ComfyUI ``comfy/samplers.py`` (``calc_cond_batch``, ``get_area_and_mult``) and ``comfy/model_base.py``
(``_apply_model``).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch

from . import devices
from .conditions import Prepared, applies
from .told import Each
from .values import Model, Step
from .weights import Loaded

FADE = 8  # latent pixels over which an area fades out at its edges
NOTHING = 1e-37  # weight where no condition applies, as in ComfyUI


@dataclass(kw_only=True, eq=False)
class _Part:
    """One condition's share of a look: its piece of the latent and the weight of what comes out."""

    condition: Prepared
    kind: int
    x: torch.Tensor
    weight: torch.Tensor | None  # None: 1 everywhere, and it is the only one of its kind
    facts: Mapping[str, Each]


@dataclass(kw_only=True, eq=False)
class Looker:
    """Looks at latents for one run.

    Attributes:
        conditions: by kind.
        sigmas: the run's levels.
        check: called before each forward pass; may raise to stop.
    """

    model: Model
    loaded: Loaded
    conditions: Mapping[str, Sequence[Prepared]]
    sigmas: torch.Tensor
    check: Callable[[], None]
    _joined: dict[tuple[int, ...], tuple[list[Mapping[str, Each]], dict[str, Any]]] = field(default_factory=dict)
    _fitted: dict[tuple[int, int, Any], Mapping[str, Each]] = field(default_factory=dict)

    def look(
        self,
        names: Sequence[str],
        x: torch.Tensor,
        sigma: torch.Tensor,
        patches: Mapping[str, tuple[Any, ...]] | None = None,
    ) -> dict[str, torch.Tensor]:
        """The denoised latents under each of these conditionings.

        Args:
            x: float32 [batch, channels, …]; sigma: its level, [batch].
            patches: besides the model's own.
        """
        level = float(sigma[0])
        parts: list[_Part] = []
        for kind, name in enumerate(names):
            here = [each for each in self.conditions.get(name, ()) if applies(each, level)]
            parts.extend(self._part(each, kind, x, alone=len(here) == 1) for each in here)
        sums: dict[int, torch.Tensor] = {}
        weights: dict[int, torch.Tensor] = {}
        while parts:
            batch = self._batch(parts)
            for part, seen in zip(batch, self._see(batch, sigma, patches), strict=True):
                _add(part, seen, x, sums, weights)
        made: dict[str, torch.Tensor] = {}
        for kind, name in enumerate(names):
            if kind not in sums:
                made[name] = torch.zeros_like(x)
            else:
                made[name] = sums[kind] / weights[kind] if kind in weights else sums[kind]
        return made

    def _part(self, condition: Prepared, kind: int, x: torch.Tensor, *, alone: bool) -> _Part:
        area = condition.area
        piece = x
        if area is not None:
            count = x.ndim - 2
            sizes = [min(x.shape[place + 2] - area[count + place], area[place]) for place in range(count)]
            area = (*sizes, *area[count:])
            for place in range(count):
                piece = piece.narrow(place + 2, area[count + place], area[place])
        weight: torch.Tensor | None = None
        if condition.mask is not None or area is not None or not alone:
            weight = _weight(condition, area, piece, x)
        elif condition.strength == 0.0:
            weight = torch.zeros_like(piece)
        key = (id(condition), x.shape[0], area)
        if key not in self._fitted:
            self._fitted[key] = {name: fact.fitted(x.shape[0], area) for name, fact in condition.facts.items()}
        return _Part(condition=condition, kind=kind, x=piece, weight=weight, facts=self._fitted[key])

    def _batch(self, parts: list[_Part]) -> list[_Part]:
        """Take the first part and those that can run with it, as many as memory has room for."""
        first = parts[0]
        places = [place for place, part in enumerate(parts) if part is first or _together(first, part)]
        places.reverse()
        free = devices.free_bytes(self.loaded.device)
        item = self.loaded.dtype.itemsize
        taken = places[:1]
        for divisor in range(1, len(places) + 1):
            some = places[: len(places) // divisor]
            shape = (len(some) * first.x.shape[0], *first.x.shape[1:])
            if free is None or self.model.network.activation_bytes(shape, item) * 1.5 < free:
                taken = some
                break
        return [parts.pop(place) for place in taken]

    def _see(
        self, batch: Sequence[_Part], sigma: torch.Tensor, patches: Mapping[str, tuple[Any, ...]] | None
    ) -> Sequence[torch.Tensor]:
        self.check()
        own = self.model.patches
        x = torch.cat([part.x for part in batch]) if len(batch) > 1 else batch[0].x
        levels = torch.cat([sigma] * len(batch)) if len(batch) > 1 else sigma
        told = self._told(batch)
        step = Step(
            sigma=levels,
            sigmas=self.sigmas,
            kinds=tuple(part.kind for part in batch),
            patches={**own, **{place: (*own.get(place, ()), *more) for place, more in (patches or {}).items()}},
        )
        control = batch[0].condition.control
        if control is not None:
            step = Step(
                sigma=step.sigma,
                sigmas=step.sigmas,
                kinds=step.kinds,
                patches=step.patches,
                control=control.residuals(x, step, told),
            )
        return self.predicted(x, levels, told, step).chunk(len(batch))

    def _told(self, batch: Sequence[_Part]) -> dict[str, Any]:
        key = tuple(id(part.facts) for part in batch)
        if key not in self._joined:
            first, *others = [part.facts for part in batch]
            told = {name: fact.joined([other[name] for other in others]) for name, fact in first.items()}
            self._joined[key] = ([part.facts for part in batch], told)
        return self._joined[key][1]

    def predicted(self, x: torch.Tensor, sigma: torch.Tensor, told: Mapping[str, Any], step: Step) -> torch.Tensor:
        """The denoised latents of one forward pass."""
        model = self.model
        given = model.prediction.entering(sigma, x)
        concat = told.get("concat")
        if concat is not None:
            given = torch.cat([given, concat.to(given)], dim=1)
        timestep = model.levels.timestep(sigma.cpu()).float().to(x.device)
        output = model.network.predict(self.loaded.module, given.to(self.loaded.dtype), timestep, told, step)
        return model.prediction.denoised(sigma, output.float(), x)


def _together(first: _Part, other: _Part) -> bool:
    """Whether two parts can be in one batch."""
    return (
        first.x.shape == other.x.shape
        and first.condition.control is other.condition.control
        and first.facts.keys() == other.facts.keys()
        and all(fact.joins(other.facts[name]) for name, fact in first.facts.items())
    )


def _weight(condition: Prepared, area: Sequence[int] | None, piece: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
    """How much a condition counts at each place; areas without a mask fade out at edges inside the picture."""
    count = piece.ndim - 2
    if condition.mask is not None:
        mask = condition.mask[: piece.shape[0]]
        if area is not None:
            for place in range(count):
                mask = mask.narrow(place + 1, area[count + place], area[place])
        mask = mask * condition.mask_strength
        repeats = (piece.shape[0] // mask.shape[0], piece.shape[1], *([1] * (mask.ndim - 1)))
        return mask.unsqueeze(1).repeat(repeats) * condition.strength
    weight = torch.full_like(piece, condition.strength)
    if area is None:
        return weight
    for place in range(count):
        edge = min(FADE, weight.shape[2 + place] // 4)
        ramp = torch.arange(1, edge + 1, dtype=weight.dtype, device=weight.device) / edge if edge else None
        if ramp is None:
            continue
        ramp = ramp.reshape(-1, *([1] * (count - 1 - place)))
        if area[count + place] != 0:
            weight.narrow(place + 2, 0, edge).mul_(ramp)
        if area[place] + area[count + place] < x.shape[place + 2]:
            weight.narrow(place + 2, area[place] - edge, edge).mul_(ramp.flip(0))
    return weight


def _add(
    part: _Part,
    seen: torch.Tensor,
    x: torch.Tensor,
    sums: dict[int, torch.Tensor],
    weights: dict[int, torch.Tensor],
) -> None:
    if part.weight is None:
        sums[part.kind] = seen
        return
    if part.kind not in weights:
        sums[part.kind] = torch.zeros_like(x)
        weights[part.kind] = torch.full_like(x, NOTHING)
    total, weight = sums[part.kind], weights[part.kind]
    area = part.condition.area
    if area is not None:
        count = x.ndim - 2
        for place in range(count):
            start = area[count + place]
            total = total.narrow(place + 2, start, part.x.shape[place + 2])
            weight = weight.narrow(place + 2, start, part.x.shape[place + 2])
    total += seen * part.weight
    weight += part.weight
