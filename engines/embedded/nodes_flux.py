"""FLUX.1's own nodes. Source: ComfyUI ``comfy_extras/nodes_flux.py``, ``nodes_model_advanced.py``."""

from __future__ import annotations

import torch

from .context import Context
from .diffusion.encoders import Clip
from .diffusion.prediction import Straight
from .diffusion.prompts import encoded_tokens, needed, tokenized
from .diffusion.values import Condition, Conditioning, Model, with_options
from .problems import NodeProblem
from .registry import NodeGroup
from .resize import resize_image
from .sigmas import FluxFlow

NODES = NodeGroup()

Result = tuple[Condition, ...]

# Sides that Kontext was trained at, width and height; each also stands on its side.
KONTEXT_SIZES = (
    (672, 1568),
    (688, 1504),
    (720, 1456),
    (752, 1392),
    (800, 1328),
    (832, 1248),
    (880, 1184),
    (944, 1104),
    (1024, 1024),
)
LEAST_TOKENS, MOST_TOKENS = 256, 4096  # between which a model's shift grows with the picture


@NODES.node("CLIPTextEncodeFlux")
def encode(clip: Clip | None, clip_l: str, t5xxl: str, guidance: float, *, context: Context) -> tuple[Result]:
    """A prompt for each of the text encoders, and the guidance strength."""
    clip = needed(clip)
    tokens = dict(tokenized(clip, clip_l, context))
    other = tokenized(clip, t5xxl, context)
    if "t5xxl" not in other:
        raise NodeProblem("the CLIP has no T5", remedy="wire a CLIP that was loaded for 'flux'")
    tokens["t5xxl"] = other["t5xxl"]
    return (encoded_tokens(clip, tokens, guidance=guidance),)


@NODES.node("FluxGuidance")
def guidance(conditioning: Conditioning, guidance: float) -> tuple[Result]:
    """The guidance strength that a distilled model is told."""
    return (with_options(conditioning, guidance=guidance),)


@NODES.node("FluxDisableGuidance")
def no_guidance(conditioning: Conditioning) -> tuple[Result]:
    """Nothing is told of guidance."""
    return (with_options(conditioning, guidance=None),)


@NODES.node("FluxKontextMultiReferenceLatentMethod")
def reference_method(conditioning: Conditioning, reference_latents_method: str) -> tuple[Result]:
    """Where reference latents are thought to lie beside the picture."""
    name = "uxo" if "uxo" in reference_latents_method else reference_latents_method
    return (with_options(conditioning, reference_latents_method=name),)


@NODES.node("FluxKontextImageScale")
def kontext_size(image: torch.Tensor) -> torch.Tensor:
    """The picture at the size among Kontext's whose ratio is nearest to its own, cut from the middle."""
    ratio = image.shape[2] / image.shape[1]
    sizes = {*KONTEXT_SIZES, *((height, width) for width, height in KONTEXT_SIZES)}
    _, width, height = min((abs(ratio - width / height), width, height) for width, height in sizes)
    return resize_image(image, width, height, "lanczos", "center")


@NODES.node("ModelSamplingFlux")
def model_sampling(model: Model, max_shift: float, base_shift: float, width: int, height: int) -> Model:
    """Noise levels shifted by the size of the picture."""
    slope = (max_shift - base_shift) / (MOST_TOKENS - LEAST_TOKENS)
    tokens = width * height / (8 * 8 * 2 * 2)
    return model.with_levels(FluxFlow(shift=tokens * slope + base_shift - slope * LEAST_TOKENS), Straight())
