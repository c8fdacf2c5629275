"""Kinds of control maps, and the words that ComfyUI's union ControlNets know them by."""

from __future__ import annotations

from collections.abc import Mapping

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
