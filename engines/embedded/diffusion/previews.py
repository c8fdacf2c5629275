"""Pictures of the work so far: the latent's channels as colours, a JPEG at most a few times a second.

Source of the way: ComfyUI ``latent_preview.py`` (`Latent2RGBPreviewer`). ATELIER_PREVIEWS=0 turns them off.
"""

from __future__ import annotations

import io
import os
import time

import torch

from ..context import Context
from .latent_format import LatentFormat

INTERVAL = 0.25  # seconds
LARGEST = 512  # pixels of a side
QUALITY = 80


class Previewer:
    """Shows what a run sees, not too often."""

    def __init__(self, form: LatentFormat, context: Context) -> None:
        self._form = form
        self._context = context
        self._last = time.monotonic()  # nothing before the first interval has passed: short runs need none
        self._wanted = bool(form.colours) and os.environ.get("ATELIER_PREVIEWS", "").strip() != "0"

    def show(self, denoised: torch.Tensor) -> None:
        """Send a preview of the first picture of a latent in the network's scale, if it is time for one."""
        now = time.monotonic()
        if not self._wanted or now - self._last < INTERVAL:
            return
        self._last = now
        self._context.preview(preview(self._form, denoised))


def preview(form: LatentFormat, latent: torch.Tensor) -> bytes:
    """A JPEG of a latent in the network's scale, [batch, channels, (frames,) rows, columns]: its first picture."""
    from PIL import Image

    first = latent[0, :, 0] if latent.ndim == 5 else latent[0]
    colours = torch.tensor(form.colours, dtype=torch.float32)
    pixels = first.float().cpu().movedim(0, -1) @ colours + torch.tensor(form.colour_bias)
    values = ((pixels + 1.0) / 2.0).nan_to_num().clamp(0.0, 1.0).mul(255.0).to(torch.uint8)
    picture = Image.fromarray(values.numpy())
    factor = min(8, max(1, LARGEST // max(picture.size)))
    if factor > 1:
        picture = picture.resize((picture.width * factor, picture.height * factor), Image.Resampling.BILINEAR)
    picture.thumbnail((LARGEST, LARGEST))
    data = io.BytesIO()
    picture.save(data, "JPEG", quality=QUALITY)
    return data.getvalue()
