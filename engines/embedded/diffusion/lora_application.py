"""Putting a LoRA on a model and its text encoders. Source: ComfyUI ``comfy/sd.py`` (``load_lora_for_models``)."""

from __future__ import annotations

import logging
from collections.abc import Mapping

from . import lora, lora_places
from .encoders import Clip
from .lora_changes import Change, Replacement
from .values import Model
from .weights import Weights

LOG = logging.getLogger(__name__)
SHOWN = 6  # keys in a message


def applied(
    model: Model | None, clip: Clip | None, file: Weights, strength_model: float, strength_clip: float
) -> tuple[Model | None, Clip | None]:
    """Both with the file's changes. Keys that have no place are logged, as ComfyUI does; what is not wired is None."""
    places = places_of(model, clip)
    adapter = lora.read(file, places)
    if adapter.unmatched:
        shown = ", ".join(adapter.unmatched[:SHOWN]) + (" …" if len(adapter.unmatched) > SHOWN else "")
        count = f"{len(adapter.unmatched)} of {len(file)}"
        LOG.warning("LoRA %r: %s keys have no place in this model: %s", file.source, count, shown)
    if model is not None:
        names = model.component.weights
        model = model.with_weight_patches(
            lora.weight_patches(_due(adapter.changes, strength_model), names, strength_model)
        )
    if clip is not None:
        names = clip.component.weights
        clip = clip.with_weight_patches(lora.weight_patches(_due(adapter.changes, strength_clip), names, strength_clip))
    return model, clip


def places_of(model: Model | None, clip: Clip | None) -> lora.Places:
    """Every name in LoRA files that leads to a weight of these."""
    own = lora_places.of_model(model.network, model.component.weights) if model is not None else {}
    return own if clip is None else {**own, **lora_places.of_clip(clip.encoder, clip.component.weights)}


def _due(changes: Mapping[lora.Place, Change], strength: float) -> Mapping[lora.Place, Change]:
    """Those that do something: at strength 0 only what replaces a weight does."""
    if strength != 0:
        return changes
    return {place: change for place, change in changes.items() if isinstance(change, Replacement)}
