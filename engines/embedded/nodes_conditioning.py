"""Conditioning: prompts encoded, and where, when and how strongly each applies.

Source: ComfyUI ``nodes.py`` and ``comfy_extras/nodes_clip_sdxl.py``, ``nodes_cond.py``.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch

from .context import Context
from .diffusion.embeddings import embeddings
from .diffusion.encoders import Clip
from .diffusion.prompts import encoded, encoded_tokens, needed
from .diffusion.values import Condition, Conditioning, with_options
from .problems import NodeProblem
from .registry import NodeGroup

NODES = NodeGroup()

Result = tuple[Condition, ...]


@NODES.node("CLIPTextEncode")
def encode(text: str, clip: Clip | None, *, context: Context) -> tuple[Result]:
    """A prompt for the model."""
    return (encoded(clip, text, context),)


@NODES.node("CLIPSetLastLayer")
def set_last_layer(clip: Clip, stop_at_clip_layer: int) -> Clip:
    """The text encoder stopped earlier ("clip skip")."""
    from dataclasses import replace

    return replace(clip, layer=stop_at_clip_layer)


@NODES.node("CLIPTextEncodeSDXL")
def encode_xl(
    clip: Clip | None,
    width: int,
    height: int,
    crop_w: int,
    crop_h: int,
    target_width: int,
    target_height: int,
    text_g: str,
    text_l: str,
    *,
    context: Context,
) -> tuple[Result]:
    """A prompt for each of SDXL's encoders, with the sizes it is told."""
    clip = needed(clip)
    tokens = dict(clip.tokenize(text_g, embeddings=embeddings(context)))
    small = clip.tokenize(text_l, embeddings=embeddings(context))
    if not {"clip_g", "clip_l"} <= tokens.keys():
        raise NodeProblem("the CLIP is none of SDXL's", remedy="wire the CLIP of an SDXL checkpoint")
    empty = clip.tokenize("")
    large_sections, small_sections = list(tokens["clip_g"]), list(small["clip_l"])
    while len(small_sections) < len(large_sections):
        small_sections += empty["clip_l"]
    while len(large_sections) < len(small_sections):
        large_sections += empty["clip_g"]
    tokens.update(clip_g=large_sections, clip_l=small_sections)
    sizes = {
        "width": width,
        "height": height,
        "crop_w": crop_w,
        "crop_h": crop_h,
        "target_width": target_width,
        "target_height": target_height,
    }
    return (encoded_tokens(clip, tokens, **sizes),)


@NODES.node("CLIPTextEncodeSDXLRefiner")
def encode_refiner(
    clip: Clip | None, ascore: float, width: int, height: int, text: str, *, context: Context
) -> tuple[Result]:
    """A prompt for SDXL's refiner."""
    return (encoded(clip, text, context, aesthetic_score=ascore, width=width, height=height),)


@NODES.node("ConditioningCombine")
def combine(conditioning_1: Conditioning, conditioning_2: Conditioning) -> tuple[Result]:
    """Both apply."""
    return ((*conditioning_1, *conditioning_2),)


@NODES.node("ConditioningAverage")
def average(
    conditioning_to: Conditioning, conditioning_from: Conditioning, conditioning_to_strength: float
) -> tuple[Result]:
    """Each condition of the first moved towards the first of the second."""
    source = conditioning_from[0]
    other, other_pooled = source.text, source.get("pooled_output")
    made = []
    for condition in conditioning_to:
        mine = condition.text
        theirs = other[:, : mine.shape[1]]
        if theirs.shape[1] < mine.shape[1]:
            zeros = torch.zeros(1, mine.shape[1] - theirs.shape[1], theirs.shape[2])
            theirs = torch.cat([theirs, zeros], dim=1)
        text = mine * conditioning_to_strength + theirs * (1.0 - conditioning_to_strength)
        pooled = condition.get("pooled_output", other_pooled)
        options = dict(condition.options)
        if pooled is not None and other_pooled is not None:
            pooled = pooled * conditioning_to_strength + other_pooled * (1.0 - conditioning_to_strength)
        if pooled is not None:
            options["pooled_output"] = pooled
        made.append(Condition(text=text, options=options))
    return (tuple(made),)


@NODES.node("ConditioningConcat")
def concat(conditioning_to: Conditioning, conditioning_from: Conditioning) -> tuple[Result]:
    """The text of the first of the second after that of each of the first."""
    other = conditioning_from[0].text
    return (
        tuple(
            Condition(text=torch.cat([condition.text, other], dim=1), options=condition.options)
            for condition in conditioning_to
        ),
    )


@NODES.node("ConditioningSetArea")
def set_area(conditioning: Conditioning, width: int, height: int, x: int, y: int, strength: float) -> tuple[Result]:
    """Only within a rectangle, in pixels."""
    area = (height // 8, width // 8, y // 8, x // 8)
    return (with_options(conditioning, area=area, strength=strength, set_area_to_bounds=False),)


@NODES.node("ConditioningSetAreaPercentage")
def set_area_percentage(
    conditioning: Conditioning, width: float, height: float, x: float, y: float, strength: float
) -> tuple[Result]:
    """Only within a rectangle, in parts of the picture."""
    area = ("percentage", height, width, y, x)
    return (with_options(conditioning, area=area, strength=strength, set_area_to_bounds=False),)


@NODES.node("ConditioningSetAreaPercentageVideo")
def set_area_percentage_video(
    conditioning: Conditioning,
    width: float,
    height: float,
    temporal: float,
    x: float,
    y: float,
    z: float,
    strength: float,
) -> tuple[Result]:
    """Only within a part of a video's frames and pictures."""
    area = ("percentage", temporal, height, width, z, y, x)
    return (with_options(conditioning, area=area, strength=strength, set_area_to_bounds=False),)


@NODES.node("ConditioningSetAreaStrength")
def set_area_strength(conditioning: Conditioning, strength: float) -> tuple[Result]:
    """Another weight among conditions."""
    return (with_options(conditioning, strength=strength),)


@NODES.node("ConditioningSetMask")
def set_mask(conditioning: Conditioning, mask: torch.Tensor, strength: float, set_cond_area: str) -> tuple[Result]:
    """Only where a mask is."""
    if mask.ndim < 3:
        mask = mask.unsqueeze(0)
    bounds = set_cond_area != "default"
    return (with_options(conditioning, mask=mask, set_area_to_bounds=bounds, mask_strength=strength),)


@NODES.node("ConditioningSetTimestepRange")
def set_timestep_range(conditioning: Conditioning, start: float, end: float) -> tuple[Result]:
    """Only in a part of the run."""
    return (with_options(conditioning, start_percent=start, end_percent=end),)


@NODES.node("ConditioningMultiply")
def multiply(conditioning: Conditioning, multiplier: float) -> tuple[Result]:
    """The text and its pooled vector times a number."""
    made = []
    for condition in conditioning:
        options = dict(condition.options)
        pooled = options.get("pooled_output")
        if pooled is not None:
            options["pooled_output"] = pooled * multiplier
        made.append(Condition(text=condition.text * multiplier, options=options))
    return (tuple(made),)


@NODES.node("ConditioningZeroOut")
def zero_out(conditioning: Conditioning) -> tuple[Result]:
    """Zeros instead of the text."""
    return (tuple(_zeroed(condition) for condition in conditioning),)


def _zeroed(condition: Condition) -> Condition:
    options: dict[str, object] = dict(condition.options)
    for name in ("pooled_output", "conditioning_lyrics", "conditioning_scale"):
        value = options.get(name)
        if isinstance(value, torch.Tensor):
            options[name] = torch.zeros_like(value)
    return Condition(text=torch.zeros_like(condition.text), options=options)


@NODES.node("CLIPTextEncodeControlnet")
def encode_for_control(clip: Clip, conditioning: Conditioning, text: str, *, context: Context) -> tuple[Result]:
    """Another prompt for the ControlNet."""
    first = encoded(clip, text, context)[0]
    added: Mapping[str, object] = {
        "cross_attn_controlnet": first.text,
        "pooled_output_controlnet": first.get("pooled_output"),
    }
    return (with_options(conditioning, **added),)
