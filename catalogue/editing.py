"""At which scale each edit model reads pictures. Sources: the models' templates, as the catalogue names them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from .errors import ChoiceError

_HIDREAM_E1 = {"upscale_method": "bilinear", "width": 768, "height": 768, "crop": "center"}
EDIT_SCALES: Mapping[str, tuple[str, Mapping[str, Any]]] = {
    "hidream-e1-full": ("ImageScale", _HIDREAM_E1),
    "hidream-e1.1": ("ImageScaleToTotalPixels", {"upscale_method": "area", "megapixels": 1.0}),
    "flux1-kontext-dev": ("FluxKontextImageScale", {}),
    "qwen-image-edit": ("ImageScaleToTotalPixels", {"upscale_method": "lanczos", "megapixels": 1.0}),
    "qwen-image-edit-2509": ("FluxKontextImageScale", {}),
    "qwen-image-edit-2511": ("FluxKontextImageScale", {}),
}
"""Variant -> the stock node that scales its pictures, and that node's values."""


def edit_scale(variant: str) -> tuple[str, Mapping[str, Any]]:
    """The stock node and values that scale a picture for an edit model."""
    if variant not in EDIT_SCALES:
        raise ChoiceError(f"{variant} is no edit model with a scale of its own; those are: {', '.join(EDIT_SCALES)}")
    return EDIT_SCALES[variant]


def original_size(shape: Sequence[int]) -> tuple[int, int]:
    """Width and height of an image tensor [batch, height, width, channels]."""
    return int(shape[2]), int(shape[1])
