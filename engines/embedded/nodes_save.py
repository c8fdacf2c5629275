"""Output nodes: pictures as PNG files with the prompt in their metadata, as ComfyUI saves them.

Sources: ComfyUI ``nodes.py``, ``nodes_images.py``, ``nodes_mask.py``, ``nodes_image_compare.py`` and
``comfy_api/latest/_ui.py``.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch

from . import naming
from .cache import Artifact
from .context import Context
from .nodes_image import crop
from .nodes_mask import mask_to_image
from .png import encode_png
from .registry import NodeGroup

NODES = NodeGroup()

SAVED_COMPRESSION = 4  # zlib levels, as ComfyUI's SaveImage and PreviewImage
PREVIEW_COMPRESSION = 1


@NODES.node("SaveImage", output_node=True, uses_prompt=True)
def save_image(images: torch.Tensor, filename_prefix: str = "ComfyUI", *, context: Context) -> torch.Tensor:
    """Each picture of the batch as a PNG with the prompt in its metadata."""
    height, width = images[0].shape[:2]
    prefix = naming.clean(naming.expand(filename_prefix, width=width, height=height, now=context.run.now))
    _produce(images, prefix, context)
    return images


@NODES.node("PreviewImage", output_node=True, uses_prompt=True)
def preview_image(images: torch.Tensor, *, context: Context) -> torch.Tensor:
    """Each picture of the batch as a quickly packed PNG that callers show and do not keep."""
    _preview(images, context)
    return images


@NODES.node("MaskPreview", output_node=True)
def preview_mask(mask: torch.Tensor, *, context: Context) -> torch.Tensor:
    """Each mask of the batch as a grey picture that callers show and do not keep."""
    _preview(mask_to_image(mask), context)
    return mask


@NODES.node("ImageCropV2")
def crop_and_show(image: torch.Tensor, crop_region: Mapping[str, int], *, context: Context) -> torch.Tensor:
    """The part of the image within a box, shown in passing."""
    get = crop_region.get
    part: torch.Tensor = crop(image, get("width", 512), get("height", 512), get("x", 0), get("y", 0))
    _preview(part, context)
    return part


@NODES.node("ImageCompare", output_node=True)
def compare(
    image_a: torch.Tensor | None = None,
    image_b: torch.Tensor | None = None,
    compare_view: Any = None,
    *,
    context: Context,
) -> tuple[()]:
    """Two batches for the editor's slider; elsewhere both are shown."""
    for images in (image_a, image_b):
        if images is not None:
            _preview(images, context)
    return ()


def _preview(images: torch.Tensor, context: Context) -> None:
    _produce(images, "ComfyUI_temp", context, compression=PREVIEW_COMPRESSION, temporary=True)


def _produce(
    images: torch.Tensor,
    prefix: str,
    context: Context,
    *,
    compression: int = SAVED_COMPRESSION,
    temporary: bool = False,
) -> None:
    for batch, image in enumerate(images):
        context.check_cancelled()
        data = encode_png(image.cpu().numpy(), context.run.metadata, compression=compression)
        artifact = Artifact(
            kind="images", media_type="image/png", data=data, prefix=prefix, suffix="_.png", temporary=temporary
        )
        context.produce(artifact, batch=batch)
