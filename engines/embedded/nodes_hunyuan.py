"""HunyuanImage's empty latent. Source: ComfyUI 0.33.0 ``comfy_extras/nodes_hunyuan.py``."""

from __future__ import annotations

import torch

from .diffusion.values import Latent
from .memory import check_room
from .registry import NodeGroup

NODES = NodeGroup()

CHANNELS, FACTOR = 64, 32


@NODES.node("EmptyHunyuanImageLatent")
def empty(width: int, height: int, batch_size: int = 1) -> Latent:
    """Zeros of 64 channels, one for 32 x 32 pixels."""
    shape = (batch_size, CHANNELS, height // FACTOR, width // FACTOR)
    check_room(shape)
    return {"samples": torch.zeros(shape)}
