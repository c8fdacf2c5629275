"""Pictures to and from remote models: encoded for a request, decoded with care from an answer. No torch here."""

from __future__ import annotations

import base64
import binascii
import io
from typing import Any

import numpy as np

from .errors import NodeInputError, RemoteError

FORMATS = ("PNG", "JPEG", "WEBP")
MAX_PIXELS = 64_000_000
"""Of a picture that a server sends, width times height; the largest of these models gives 4 megapixels."""

MAX_SENT_PIXELS = 20_000_000


def encoded(picture: Any, *, form: str = "PNG") -> bytes:
    """A picture's file. ``picture``: numbers in 0..1, float32 [height, width, 3], or [height, width] for a mask."""
    from PIL import Image

    values = np.asarray(picture, dtype=np.float32)
    if values.shape[0] * values.shape[1] > MAX_SENT_PIXELS:
        raise NodeInputError(
            f"a picture of {values.shape[1]}x{values.shape[0]} is more than the service takes (20 megapixels); "
            "scale it down first"
        )
    levels = np.clip(np.nan_to_num(values) * 255.0, 0.0, 255.0).round().astype(np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(levels).save(buffer, form, **({"quality": 92} if form == "JPEG" else {}))
    return buffer.getvalue()


def as_base64(picture: Any) -> str:
    """A picture as base64 of a PNG."""
    return base64.b64encode(encoded(picture)).decode("ascii")


def as_data_url(picture: Any) -> str:
    """A picture as a data URL of a JPEG, for a chat that looks at it."""
    return "data:image/jpeg;base64," + base64.b64encode(encoded(picture, form="JPEG")).decode("ascii")


def from_base64(text: str, who: str) -> bytes:
    """The bytes of base64 with or without the head of a data URL."""
    head, comma, rest = text.partition(",")
    body = rest if comma and head.startswith("data:") else text
    try:
        return base64.b64decode("".join(body.split()), validate=True)
    except (binascii.Error, ValueError):
        raise RemoteError(f"{who} sent a picture that is no base64; run it again") from None


def decoded(data: bytes, who: str) -> np.ndarray[Any, Any]:
    """A picture from a server: float32 [height, width, 3] in 0..1.

    Raises:
        RemoteError: it is no PNG, JPEG or WebP, cut short, or larger than any of these models makes.
    """
    from PIL import Image, ImageOps

    try:
        with Image.open(io.BytesIO(data), formats=FORMATS) as opened:
            if opened.width * opened.height > MAX_PIXELS:
                raise RemoteError(f"{who} sent a picture of {opened.width}x{opened.height}; refused")
            picture = ImageOps.exif_transpose(opened).convert("RGB")
    except RemoteError:
        raise
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise RemoteError(
            f"{who} sent something that is no whole picture ({type(error).__name__}); run it again"
        ) from None
    return np.asarray(picture, dtype=np.float32) / np.float32(255.0)
