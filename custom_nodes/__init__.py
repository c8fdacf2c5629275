"""The node pack: model loaders by family, settings, prompts, LoRA, control, and the markers that name a workflow's
inputs.

Nothing of ComfyUI is imported here, so that the room can be imported anywhere (tests, packaging, type checks).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .extension import AtelierExtension

__all__ = ["comfy_entrypoint"]


async def comfy_entrypoint() -> AtelierExtension:
    """What ComfyUI calls once at start-up to learn of our nodes."""
    from .extension import AtelierExtension

    return AtelierExtension()
