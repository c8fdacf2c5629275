"""Texts made of parts: layered prompts and negative presets."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

LAYERS = ("subject", "scene", "details", "lighting", "mood", "style")
"""In the order in which models weigh them: what comes first counts most."""

SEPARATORS: Mapping[str, str] = {"commas": ", ", "sentences": ". ", "lines": "\n"}
_TRIMMED: Mapping[str, str] = {"commas": " \t\n,.", "sentences": " \t\n,.", "lines": " \t\n"}

NEGATIVE_PRESETS: Mapping[str, str] = {
    "none": "",
    "general": "blurry, low quality, jpeg artifacts, watermark, signature, text, cropped",
    "photograph": "painting, drawing, illustration, render, oversaturated, blurry, low quality, watermark, text",
    "people": "extra fingers, missing fingers, extra limbs, deformed hands, distorted face, blurry, low quality",
    "illustration": "photograph, photorealistic, noise, blurry, low quality, watermark, signature, text",
    "product": "people, hands, clutter, harsh shadows, reflections, text, watermark, blurry, low quality",
    "video": "flicker, jitter, morphing, frozen frame, blurry, low quality, watermark, text",
}
"""Plain words that models of the CLIP kind understand. Models with cfg 1 ignore them."""


def join(parts: Iterable[str], way: str) -> str:
    """The parts that are not blank, in order, joined by commas, as sentences or one a line."""
    clean = [part.strip(_TRIMMED[way]) for part in parts]
    text = SEPARATORS[way].join(part for part in clean if part)
    return f"{text}." if way == "sentences" and text else text


def negative(preset: str, more: str) -> str:
    """A preset and one's own words behind it, without words that the preset has already."""
    words = [word.strip() for text in (NEGATIVE_PRESETS[preset], more) for word in text.split(",")]
    return ", ".join(dict.fromkeys(word for word in words if word))
