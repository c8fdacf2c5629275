"""Picture files: read into arrays as ComfyUI 0.33.0 reads them, written as the PNG that it writes."""

from __future__ import annotations

import io
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps, ImageSequence, PngImagePlugin, UnidentifiedImageError

from .problems import NodeProblem

Pixels = NDArray[np.float32]

MAXIMUM_PIXELS = 16384 * 16384  # a side of an image in ComfyUI is at most 16384


@dataclass(frozen=True, kw_only=True, slots=True)
class Picture:
    """A decoded picture file.

    Attributes:
        pixels: [frames, height, width, 3] in 0..1.
        alpha: [frames, height, width] in 0..1; None where the file has none.
    """

    pixels: Pixels
    alpha: Pixels | None = None


def read_picture(path: Path) -> Picture:
    """Decode a picture file, every frame of it.

    Raises:
        NodeProblem: it is none, is broken, or is too large.
    """
    try:
        with Image.open(path) as file:
            return _frames(file)
    except (UnidentifiedImageError, OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise NodeProblem(
            "the input file is no picture that can be read", remedy="hand in a PNG, JPEG or WebP"
        ) from error


def _frames(file: Image.Image) -> Picture:
    pixels: list[Pixels] = []
    alphas: list[Pixels] = []
    for frame in ImageSequence.Iterator(file):
        upright = ImageOps.exif_transpose(frame)
        colour = np.asarray(upright.convert("RGB"), dtype=np.float32) / 255.0
        if pixels and colour.shape != pixels[0].shape:
            continue
        pixels.append(colour)
        if "A" in upright.getbands():
            alphas.append(np.asarray(upright.getchannel("A"), dtype=np.float32) / 255.0)
    return Picture(pixels=np.stack(pixels), alpha=np.stack(alphas) if len(alphas) == len(pixels) else None)


def encode_png(image: NDArray[Any], metadata: Mapping[str, Any], *, compression: int) -> bytes:
    """A PNG of `image` ([height, width, 3 or 4] in 0..1, cut off to 8 bits) with each of `metadata` as JSON text.

    Source: ComfyUI ``nodes.py``, ``SaveImage.save_images``.
    """
    with np.errstate(invalid="ignore"):  # NaN becomes what the processor makes of it, as in ComfyUI
        bytes_ = np.clip(255.0 * image, 0, 255).astype(np.uint8)
    info = PngImagePlugin.PngInfo()
    for name, value in metadata.items():
        info.add_text(name, json.dumps(value))
    out = io.BytesIO()
    Image.fromarray(bytes_).save(out, format="PNG", pnginfo=info, compress_level=compression)
    return out.getvalue()
