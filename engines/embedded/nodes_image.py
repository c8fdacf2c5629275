"""Images made, scaled, cropped, joined. IMAGE is float32 [batch, height, width, channels] in 0..1, channels 3 or 4."""

from __future__ import annotations

import torch

from .memory import check_room
from .registry import NodeGroup

NODES = NodeGroup()


@NODES.node("EmptyImage")
def empty_image(width: int, height: int, batch_size: int = 1, color: int = 0) -> torch.Tensor:
    """`batch_size` pictures of one colour, 0xRRGGBB."""
    check_room((batch_size, height, width, 3))
    image = torch.empty((batch_size, height, width, 3), dtype=torch.float32)
    for channel, shift in enumerate((16, 8, 0)):
        image[..., channel] = ((color >> shift) & 0xFF) / 0xFF
    return image
