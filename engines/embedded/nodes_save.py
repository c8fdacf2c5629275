"""Output nodes: pictures as PNG files with the prompt in their metadata, as ComfyUI saves them."""

from __future__ import annotations

import torch

from . import naming
from .cache import Artifact
from .context import Context
from .pictures import encode_png
from .registry import NodeGroup

NODES = NodeGroup()

SAVED_COMPRESSION = 4  # zlib levels, as ComfyUI's SaveImage and PreviewImage
PREVIEW_COMPRESSION = 1


@NODES.node("SaveImage", output_node=True, uses_prompt=True)
def save_image(images: torch.Tensor, filename_prefix: str = "ComfyUI", *, context: Context) -> torch.Tensor:
    """Each picture of the batch as a PNG with the prompt in its metadata."""
    _produce(images, filename_prefix, context, compression=SAVED_COMPRESSION, temporary=False)
    return images


@NODES.node("PreviewImage", output_node=True, uses_prompt=True)
def preview_image(images: torch.Tensor, *, context: Context) -> torch.Tensor:
    """Each picture of the batch as a quickly packed PNG that callers show and do not keep."""
    _produce(images, "ComfyUI_temp", context, compression=PREVIEW_COMPRESSION, temporary=True)
    return images


def _produce(images: torch.Tensor, prefix: str, context: Context, *, compression: int, temporary: bool) -> None:
    height, width = images[0].shape[:2]
    name = naming.clean(naming.expand(prefix, width=width, height=height, now=context.run.now))
    metadata = {"prompt": context.run.prompt_json, **context.run.extra_metadata}
    for batch, image in enumerate(images):
        context.check_cancelled()
        data = encode_png(image.cpu().numpy(), metadata, compression=compression)
        artifact = Artifact(
            kind="images", media_type="image/png", data=data, prefix=name, suffix=".png", temporary=temporary
        )
        context.produce(artifact, batch=batch)
