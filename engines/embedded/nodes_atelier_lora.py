"""Our LoRA nodes: they refuse another family's file and say what of a file found no place."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from ...catalogue import Header, detect_header, read_header
from ...catalogue.adapters import check_adapter, report, unmatched
from ...catalogue.signatures_lora import module_names
from .context import Context
from .diffusion.encoders import Clip
from .diffusion.files import model_file, model_inputs
from .diffusion.loading import weights_at
from .diffusion.lora_application import applied, places_of
from .diffusion.values import Model
from .holdings import choosing, known
from .registry import Fault, NodeGroup

NODES = NodeGroup()
NONE = "none"
STACKED = 4
_FILES = {f"lora_{place}": "loras" for place in range(1, STACKED + 1)}
_STACK = model_inputs(**_FILES)


def family_of(model: Model) -> tuple[str, str | None] | None:
    """Family and architecture of a model in the catalogue's words, by its tensors; None where it has none."""
    weights = model.component.weights
    shapes = {name: tuple(weights.shape(name)) for name in weights}
    found = detect_header(Header(shapes=shapes, metadata={}, bytes_by_dtype={}))
    return None if found.family is None else (found.family, found.architecture)


def _applied(
    context: Context, model: Model, clip: Clip | None, name: str, strength_model: float, strength_clip: float
) -> tuple[Any, Any, str]:
    with choosing():
        check_adapter(name, known(context.run.model_folders, "loras", name), "lora", family_of(model))
    path = model_file(context, "loras", name)
    modules = module_names(read_header(path))
    told = report(name, len(modules), unmatched(modules, places_of(model, clip)))
    return (*applied(model, clip, weights_at(path), strength_model, strength_clip), told)


@NODES.node("AtelierLoadLora", **model_inputs(lora="loras"))
def load_lora(
    model: Model, lora: str, strength_model: float, strength_clip: float, clip: Clip | None = None, *, context: Context
) -> tuple[Any, Any, str]:
    """Model and encoders with a LoRA, and how much of it found its place."""
    return _applied(context, model, clip, lora, strength_model, strength_clip)


def _stack_faults(*, context: Context, **values: Any) -> Iterator[Fault]:
    named = {name: value for name, value in values.items() if value != NONE}
    yield from _STACK["validate"](context=context, **named)


@NODES.node("AtelierLoraStack", fingerprint=_STACK["fingerprint"], validate=_stack_faults)
def stack(model: Model, clip: Clip | None = None, *, context: Context, **chosen: Any) -> tuple[Any, Any, str]:
    """Up to four LoRAs one after the other."""
    told: list[str] = []
    for place in range(1, STACKED + 1):
        name = chosen[f"lora_{place}"]
        if name != NONE:
            strengths = (chosen[f"strength_model_{place}"], chosen[f"strength_clip_{place}"])
            model, clip, line = _applied(context, model, clip, name, *strengths)
            told.append(line)
    return model, clip, "\n".join(told)
