"""Nodes of Stable Diffusion 3. Source: ComfyUI ``comfy_extras/nodes_sd3.py`` and ``comfy_extras/nodes_slg.py``."""

from __future__ import annotations

import re
from typing import Any

import torch

from .context import Context
from .diffusion.encoders import Clip
from .diffusion.prompts import encoded_tokens, needed, tokenized
from .diffusion.values import Condition, Guided, Model
from .problems import NodeProblem
from .registry import NodeGroup

NODES = NodeGroup()


@NODES.node("CLIPTextEncodeSD3")
def encode_texts(
    clip: Clip, clip_l: str, clip_g: str, t5xxl: str, empty_padding: str, *, context: Context
) -> tuple[tuple[Condition, ...]]:
    """A text for each encoder. An empty one tells nothing, or what an empty prompt tells ("empty_prompt")."""
    clip = needed(clip)

    def tokens(text: str) -> dict[str, list[Any]]:
        found = tokenized(clip, text, context)
        if not isinstance(found, dict) or not {"l", "g", "t5xxl"} <= set(found):
            raise NodeProblem(
                "the text encoders are not those of Stable Diffusion 3", remedy="load them with the type 'sd3'"
            )
        return {name: list(sections) for name, sections in found.items()}

    said = {"l": clip_l, "g": clip_g, "t5xxl": t5xxl}
    found = {name: [] if not text and empty_padding == "none" else tokens(text)[name] for name, text in said.items()}
    longest = max(len(found["l"]), len(found["g"]))
    if len(found["l"]) != len(found["g"]):
        empty = tokens("")
        for name in ("l", "g"):
            while len(found[name]) < longest:
                found[name] += empty[name]
    return (encoded_tokens(clip, found),)


@NODES.node("SkipLayerGuidanceSD3")
def skip_layers_sd3(model: Model, layers: str, scale: float, start_percent: float, end_percent: float) -> Model:
    """Guidance away from what the model sees with some of its blocks left out."""
    return _away_from_skipping(model, layers, scale, start_percent, end_percent)


@NODES.node("SkipLayerGuidanceDiT")
def skip_layers(
    model: Model,
    double_layers: str,
    single_layers: str,
    scale: float,
    start_percent: float,
    end_percent: float,
    rescaling_scale: float,
) -> Model:
    """The same; `single_layers` are those without a stream of their own for the text, of which this family has none."""
    return _away_from_skipping(model, double_layers, scale, start_percent, end_percent, rescaling_scale)


def _away_from_skipping(
    model: Model, layers: str, scale: float, start: float, end: float, rescaling: float = 0.0
) -> Model:
    from .families.sd3 import SKIP_LAYERS

    numbers = tuple(int(number) for number in re.findall(r"\d+", layers))
    if not numbers:
        return model
    if model.network.family != "sd3":
        raise NodeProblem(
            f"the embedded engine leaves blocks out of Stable Diffusion 3 models only, {model.source!r} is none",
            remedy="take the node out, or run it on a ComfyUI",
        )
    first, last = model.levels.at_percent(start), model.levels.at_percent(end)

    def away(step: Guided) -> torch.Tensor:
        if scale <= 0 or not last <= float(step.sigma[0]) <= first or step.again is None:
            return step.denoised
        result = step.denoised + (step.positive - step.again({SKIP_LAYERS: (numbers,)})) * scale
        if rescaling != 0:
            result = result * (rescaling * (step.positive.std() / result.std()) + (1 - rescaling))
        return result

    return model.with_cfg_after(away)
