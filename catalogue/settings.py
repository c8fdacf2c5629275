"""What a model wants, as it travels along a wire: how to sample, which latent, which sizes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from .entries import Sampling, Variant
from .errors import ChoiceError

RATIOS: Mapping[str, float] = {
    "1:1 square": 1 / 1,
    "5:4": 5 / 4,
    "4:3": 4 / 3,
    "3:2": 3 / 2,
    "16:9 wide": 16 / 9,
    "21:9 cinema": 21 / 9,
    "4:5": 4 / 5,
    "3:4": 3 / 4,
    "2:3": 2 / 3,
    "9:16 tall": 9 / 16,
    "9:21": 9 / 21,
}
"""Aspect ratios (width / height) by the words in the menu."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Settings:
    """What the catalogue recommends for one variant, with the changes that nodes made on the way."""

    variant: Variant
    sampling: Sampling

    @property
    def values(self) -> tuple[int, float, str, str, float, float, int, int]:
        """Steps, cfg, sampler, scheduler, guidance, shift (0 where it has none), width and height (0: its own)."""
        rule, sampling = self.variant.resolution, self.sampling
        size = (rule.width, rule.height) if rule else (0, 0)
        of_model = (sampling.guidance or 0.0, sampling.shift or 0.0)
        return sampling.steps, sampling.cfg, sampling.sampler, sampling.scheduler, *of_model, *size

    @property
    def family(self) -> str:
        """The family's id, ``flux1``."""
        return self.variant.family

    def changed(self, changes: Mapping[str, Any]) -> Settings:
        """The same with some sampling fields replaced."""
        return replace(self, sampling=self.sampling.with_changes(changes)) if changes else self

    def size(self, ratio: str, megapixels: float = 0.0) -> tuple[int, int]:
        """Width and height in pixels for an aspect ratio; ``megapixels`` 0 takes the model's own area."""
        rule = self.variant.resolution
        if rule is None:
            raise ChoiceError(f"{self.variant.name} chooses its size itself; wire no latent")
        if ratio not in RATIOS:
            raise ChoiceError(f"'{ratio}' is no aspect ratio; choose one of {', '.join(RATIOS)}")
        if not megapixels:
            return rule.nearest(RATIOS[ratio])
        return self._of_area(megapixels * 1_048_576, RATIOS[ratio])

    def size_near(self, width: int, height: int) -> tuple[int, int]:
        """Width and height in pixels of the model's own area, of a picture's aspect ratio as near as the latent's grid
        allows.
        """
        rule = self.variant.resolution
        if rule is None:
            raise ChoiceError(f"{self.variant.name} chooses its size itself")
        return self._of_area(rule.width * rule.height, width / height)

    def _of_area(self, area: float, ratio: float) -> tuple[int, int]:
        rule = self.variant.resolution
        multiple = rule.multiple if rule else 8
        sides = ((area * ratio) ** 0.5, (area / ratio) ** 0.5)
        width, height = (max(multiple, round(side / multiple) * multiple) for side in sides)
        return width, height


def settings_of(variant: Variant) -> Settings:
    """The recommended settings of a variant that runs in ComfyUI."""
    if variant.sampling is None:
        raise ChoiceError(f"{variant.name} does not run in ComfyUI itself; there is nothing to recommend")
    return Settings(variant=variant, sampling=variant.sampling)


def overrides(
    *,
    steps: int = 0,
    cfg: float = 0.0,
    guidance: float = 0.0,
    sampler: str = "recommended",
    scheduler: str = "recommended",
) -> dict[str, Any]:
    """The fields that a person changed: 0 and ``recommended`` leave a field alone."""
    given: dict[str, Any] = {
        "steps": steps,
        "cfg": cfg,
        "guidance": guidance,
        "sampler": sampler,
        "scheduler": scheduler,
    }
    return {name: value for name, value in given.items() if value and value != "recommended"}
