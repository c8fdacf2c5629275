"""Kinds of control maps, the words that union ControlNets know them by, and the way a file controls a model."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

from .catalogue import load
from .detection import Detection
from .entries import Control, Variant
from .errors import ChoiceError

Way = Literal["controlnet", "model_patch", "lora", "reference_lora", "instruct_pix2pix"]

KINDS: Mapping[str, str] = {
    "auto": "auto",
    "canny": "canny/lineart/anime_lineart/mlsd",
    "lineart": "canny/lineart/anime_lineart/mlsd",
    "mlsd": "canny/lineart/anime_lineart/mlsd",
    "depth": "depth",
    "pose": "openpose",
    "hed": "hed/pidi/scribble/ted",
    "scribble": "hed/pidi/scribble/ted",
    "normal": "normal",
    "segment": "segment",
    "tile": "tile",
    "repaint": "repaint",
}
"""Our word -> ``type`` of SetUnionControlNetType (``comfy/cldm/control_types.py``)."""


def union_type(kind: str) -> str:
    """The stock node's word for a kind of map."""
    return KINDS[kind]


def way_of(variant: Variant, name: str, found: Detection | None) -> Way:
    """How a map gets into a model: by a ControlNet, a patch, a control LoRA, or through the model's own picture input.

    ``found`` is None where no file was chosen: then the model itself must read a map (FLUX.1 Canny, Depth).
    """
    if found is None:
        if variant.latent is not None and variant.latent.source == "InstructPixToPixConditioning":
            return "instruct_pix2pix"
        raise ChoiceError(f"{variant.name} reads no map by itself; choose a ControlNet, patch or control LoRA for it")
    if found.kind == "controlnet" or found.kind == "model_patch":
        return found.kind
    if found.kind == "lora" and "control" in found.traits:
        return "lora"
    if known_control(name, found) is not None:
        return "reference_lora"
    raise ChoiceError(f"'{name}' is {found.in_words()}, which reads no map; choose a ControlNet, patch or control LoRA")


def is_control(found: Detection, name: str = "") -> bool:
    """Whether a file can bring a map into a model."""
    if found.kind in ("controlnet", "model_patch"):
        return True
    return found.kind == "lora" and ("control" in found.traits or known_control(name, found) is not None)


def known_control(name: str, found: Detection) -> Control | None:
    """The catalogue's control LoRA of that name and family whose header looks like any LoRA's (Qwen-Image's union: the
    map is a reference picture); None where it knows none.
    """
    if found.kind != "lora":
        return None
    uses = (use for file in load().find_by_name(name) for use in load().uses(file))
    controls = (use for use in uses if isinstance(use, Control) and use.method == "lora")
    return next((control for control in controls if control.family in found.families), None)
