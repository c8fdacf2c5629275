"""Upscale models: loading, and making pictures larger with them."""

from __future__ import annotations

import torch

from .context import Context
from .diffusion.files import model_file, model_inputs
from .diffusion.loading import remembered, weights_at
from .diffusion.upscaling import UpscaleModel, upscale_model, upscaled
from .registry import NodeGroup

NODES = NodeGroup()


@NODES.node("UpscaleModelLoader", **model_inputs(model_name="upscale_models"))
def load_upscale_model(model_name: str, *, context: Context) -> UpscaleModel:
    """The upscale model in a file, built at once: what it is shows then only."""
    path = model_file(context, "upscale_models", model_name)
    model = remembered([path], "upscale", lambda: upscale_model(weights_at(path)))
    model.component.module()
    return model


@NODES.node("ImageUpscaleWithModel")
def upscale(upscale_model: UpscaleModel, image: torch.Tensor, *, context: Context) -> torch.Tensor:
    """The image as many times larger as the model makes it."""
    return upscaled(upscale_model, image, told=context.progress)
