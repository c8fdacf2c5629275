"""Our nodes that need no model: recommended settings, changes to them, layered prompts."""

from __future__ import annotations

from ...catalogue import load
from ...catalogue.prompting import LAYERS, join
from ...catalogue.prompting import negative as negative_text
from ...catalogue.settings import Settings, overrides, settings_of
from .holdings import choosing
from .registry import NodeGroup

NODES = NodeGroup()


@NODES.node("AtelierRecommendedSettings")
def recommended(variant: str) -> tuple[Settings, int, float, str, str, float, float, int, int]:
    """The catalogue's settings for a variant, as one value and apart."""
    with choosing():
        settings = settings_of(load().variant(variant))
    return settings, *settings.values


@NODES.node("AtelierChangeSettings")
def changed(settings: Settings, steps: int, cfg: float, guidance: float, sampler: str, scheduler: str) -> Settings:
    """The settings with some of them changed; 0 and "recommended" leave one alone."""
    return settings.changed(overrides(steps=steps, cfg=cfg, guidance=guidance, sampler=sampler, scheduler=scheduler))


@NODES.node("AtelierLayeredPrompt")
def layered_prompt(joined_by: str, **layers: str) -> str:
    """One text of several layers, empty ones left out."""
    return join((layers[layer] for layer in LAYERS), joined_by)


@NODES.node("AtelierNegativePrompt")
def negative_prompt(preset: str, more: str) -> str:
    """A preset and one's own words."""
    return negative_text(preset, more)
