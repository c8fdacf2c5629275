"""PNG files as ComfyUI writes them: 8 bits, values cut off, the prompt and more as JSON in text chunks."""

from __future__ import annotations

import io
import json
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, PngImagePlugin


def encode_png(image: NDArray[Any], metadata: Mapping[str, Any], *, compression: int) -> bytes:
    """A PNG of `image` ([height, width, 3 or 4] in 0..1) with each of `metadata` as a text chunk of JSON.

    Source: ComfyUI ``nodes.py``, ``SaveImage.save_images``.
    """
    with np.errstate(invalid="ignore"):  # NaN becomes what the processor makes of it, as in ComfyUI
        values = np.clip(255.0 * image, 0, 255).astype(np.uint8)
    info = PngImagePlugin.PngInfo()
    for name, value in metadata.items():
        info.add_text(name, json.dumps(value))
    out = io.BytesIO()
    Image.fromarray(values).save(out, format="PNG", pnginfo=info, compress_level=compression)
    return out.getvalue()
