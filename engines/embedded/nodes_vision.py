"""Pictures as prompts: vision encoders and style models. Source: ComfyUI ``nodes.py``."""

from __future__ import annotations

import torch

from .context import Context
from .diffusion import loading
from .diffusion.encoders import ClipVision, StyleModel, VisionOutput
from .diffusion.files import model_file, model_inputs
from .diffusion.values import Condition, Conditioning
from .families.flux_attention import with_style
from .families.redux import style_model_of
from .families.vision import vision_of
from .problems import NodeProblem
from .registry import NodeGroup

NODES = NodeGroup()


@NODES.node("CLIPVisionLoader", **model_inputs(clip_name="clip_vision"))
def vision_encoder(clip_name: str, *, context: Context) -> ClipVision:
    """A vision encoder in a file of its own."""
    path = model_file(context, "clip_vision", clip_name)
    return loading.remembered([path], "vision", lambda: vision_of(loading.weights_at(path)))


@NODES.node("CLIPVisionEncode")
def look(clip_vision: ClipVision, image: torch.Tensor, crop: str) -> VisionOutput:
    """What the encoder sees in the pictures."""
    return clip_vision.look(image, crop=crop == "center")


@NODES.node("StyleModelLoader", **model_inputs(style_model_name="style_models"))
def style_model(style_model_name: str, *, context: Context) -> StyleModel:
    """A style model in a file of its own."""
    path = model_file(context, "style_models", style_model_name)
    return loading.remembered([path], "style", lambda: style_model_of(loading.weights_at(path)))


@NODES.node("StyleModelApply")
def apply_style(
    conditioning: Conditioning,
    style_model: StyleModel,
    clip_vision_output: VisionOutput,
    strength: float = 1.0,
    strength_type: str = "multiply",
) -> tuple[tuple[Condition, ...]]:
    """What was seen put behind the text, weaker or stronger."""
    words = style_model.tokens(clip_vision_output).flatten(0, 1).unsqueeze(0)
    if strength_type == "multiply":
        words = words * strength
    bias = strength if strength_type == "attn_bias" else 1.0
    return (tuple(_styled(condition, words, bias) for condition in conditioning),)


def _styled(condition: Condition, words: torch.Tensor, strength: float) -> Condition:
    text = condition.text
    if text.shape[2] != words.shape[2]:
        raise NodeProblem(
            f"the style model writes words of width {words.shape[2]}, the text's are {text.shape[2]}",
            remedy="use it with a text encoder that was loaded for 'flux'",
        )
    options = dict(condition.options)
    if "attention_mask" in options or strength != 1.0:
        size = options.get("attention_mask_img_shape", (1, 1))
        options["attention_mask"] = with_style(
            options.get("attention_mask"),
            size,
            batch=text.shape[0],
            text=text.shape[1],
            style=words.shape[1],
            strength=strength,
        )
        options["attention_mask_img_shape"] = size
    return Condition(text=torch.cat([text, words.to(text)], dim=1), options=options)
