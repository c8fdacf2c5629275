"""Nodes of Qwen-Image: edit prompts with pictures, control by model patches, layered latents.

Source: ComfyUI ``comfy_extras/nodes_qwen.py`` and ``comfy_extras/nodes_model_patch.py``.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch

from .context import Context
from .diffusion.autoencoding import encode
from .diffusion.encoders import Clip, Vae
from .diffusion.files import model_file, model_inputs
from .diffusion.loading import remembered, weights_at
from .diffusion.prompts import encoded_tokens, needed, tokenized
from .diffusion.values import Condition, Model
from .problems import NodeProblem
from .registry import NodeGroup
from .resize import resize_image

NODES = NodeGroup()

SHOWN, SHOWN_PLUS = 1024 * 1024, 384 * 384  # pixels of the pictures that the text encoder looks at
KEPT = 1024 * 1024  # pixels of the pictures that the model is shown


@NODES.node("TextEncodeQwenImageEdit")
def text_encode_edit(
    clip: Clip, prompt: str, *, context: Context, vae: Vae | None = None, image: torch.Tensor | None = None
) -> tuple[tuple[Condition, ...]]:
    """The prompt with a picture at about a megapixel; with a VAE the model is shown it too."""
    images: list[torch.Tensor] = []
    latents: list[torch.Tensor] = []
    if image is not None:
        picture = _at(image, SHOWN)[..., :3]
        images.append(picture)
        if vae is not None:
            latents.append(encode(vae, picture))
    return _encoded(clip, prompt, images, latents, context)


@NODES.node("TextEncodeQwenImageEditPlus")
def text_encode_edit_plus(
    clip: Clip,
    prompt: str,
    *,
    context: Context,
    vae: Vae | None = None,
    image1: torch.Tensor | None = None,
    image2: torch.Tensor | None = None,
    image3: torch.Tensor | None = None,
) -> tuple[tuple[Condition, ...]]:
    """The prompt with up to three pictures, small for the text encoder, at about a megapixel for the model."""
    from .families.qwen_text import EDIT_END, EDIT_SYSTEM, PICTURE

    images: list[torch.Tensor] = []
    latents: list[torch.Tensor] = []
    told = ""
    for number, image in enumerate((image1, image2, image3), start=1):
        if image is None:
            continue
        images.append(_at(image, SHOWN_PLUS))
        if vae is not None:
            latents.append(encode(vae, _at(image, KEPT, multiple=8)[..., :3]))
        told += f"Picture {number}: {PICTURE}"
    return _encoded(clip, told + prompt, images, latents, context, template=EDIT_SYSTEM + EDIT_END)


def _at(image: torch.Tensor, pixels: int, *, multiple: int = 1) -> torch.Tensor:
    """The image at about so many pixels in its own ratio."""
    height, width = image.shape[1:3]
    scale = math.sqrt(pixels / (width * height))
    columns, rows = (round(side * scale / multiple) * multiple for side in (width, height))
    return resize_image(image, columns, rows, "area")


def _encoded(
    clip: Clip,
    prompt: str,
    images: Sequence[torch.Tensor],
    latents: Sequence[torch.Tensor],
    context: Context,
    **options: Any,
) -> tuple[tuple[Condition, ...]]:
    clip = needed(clip)
    tokens = tokenized(clip, prompt, context, images=images, **options)
    return (encoded_tokens(clip, tokens, **({"reference_latents": list(latents)} if latents else {})),)


@NODES.node("EmptyQwenImageLayeredLatentImage")
def empty_layers(width: int, height: int, layers: int, batch_size: int = 1) -> Mapping[str, Any]:
    """A latent for a picture and its layers."""
    return {"samples": torch.zeros([batch_size, 16, layers + 1, height // 8, width // 8])}


@NODES.node("ModelPatchLoader", **model_inputs(name="model_patches"))
def load_model_patch(name: str, *, context: Context) -> Any:
    """See `families.qwen_patches`."""
    from .families.qwen_patches import model_patch

    path = model_file(context, "model_patches", name)
    return remembered([path], "model_patch", lambda: model_patch(weights_at(path)))


@NODES.node("QwenImageDiffsynthControlnet")
def diffsynth_controlnet(
    model: Model,
    model_patch: Any,
    vae: Vae,
    image: torch.Tensor,
    strength: float,
    mask: torch.Tensor | None = None,
) -> Model:
    """The model with the patch's picture added after each block; the mask is where new picture may appear."""
    from .families.qwen_image import AFTER_BLOCK
    from .families.qwen_patches import PictureControl

    if model.network.family != "qwen_image":
        raise NodeProblem(
            f"the model patch is one of Qwen-Image, the model {model.source!r} is none",
            remedy="load a Qwen-Image model",
        )
    kept = None
    if mask is not None:
        kept = 1.0 - (mask.unsqueeze(1).unsqueeze(2) if mask.ndim == 3 else mask.unsqueeze(2))
    control = PictureControl(patch=model_patch, vae=vae, image=image[..., :3], strength=strength, mask=kept)
    return model.with_patch(AFTER_BLOCK, control)
