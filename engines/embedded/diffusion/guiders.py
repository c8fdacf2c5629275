"""Rules that make one result of what the model sees under several conditionings.

Source: ComfyUI ``comfy/samplers.py`` (``sampling_function``, ``cfg_function``) and ``nodes_custom_sampler.py``.
"""

from __future__ import annotations

import math
from dataclasses import replace
from functools import partial

import torch

from .values import Again, Conditioning, Guided, Guider, Look, Model


def _guided(
    model: Model,
    positive: torch.Tensor,
    negative: torch.Tensor | None,
    scale: float,
    x: torch.Tensor,
    sigma: torch.Tensor,
    again: Again,
) -> torch.Tensor:
    """``negative + (positive - negative) * scale``, or the model's own rule, then the model's functions on it."""
    result = positive if negative is None else negative + (positive - negative) * scale
    if model.cfg_rule is None and not model.cfg_after:
        return result
    # a rule at cfg 1 was never asked the negative: in ComfyUI it is all zeros then
    unseen = torch.zeros_like(x) if negative is None else negative
    step = Guided(
        denoised=result,
        positive=positive,
        negative=unseen,
        scale=scale,
        x=x,
        sigma=sigma,
        model=model,
        again=again,
    )
    if model.cfg_rule is not None:
        result = model.cfg_rule(step)
    for function in model.cfg_after:
        result = function(replace(step, denoised=result))
    return result


def _again(look: Look, name: str = "positive") -> Again:
    """How a function on the result asks what the model sees under that conditioning with further patches."""
    return lambda patches: look([name], patches)[name]


def _only_positive(model: Model, scale: float) -> bool:
    return math.isclose(scale, 1.0) and not model.always_negative


def _cfg(guider: Guider, look: Look, x: torch.Tensor, sigma: torch.Tensor) -> torch.Tensor:
    if _only_positive(guider.model, guider.cfg) or "negative" not in guider.conditionings:
        seen = look(["positive"])
        return _guided(guider.model, seen["positive"], None, guider.cfg, x, sigma, _again(look))
    seen = look(["positive", "negative"])
    return _guided(guider.model, seen["positive"], seen["negative"], guider.cfg, x, sigma, _again(look))


def basic_guider(model: Model, conditioning: Conditioning) -> Guider:
    """The positive alone."""
    return Guider(model=model, conditionings={"positive": conditioning}, rule=_cfg, cfg=1.0)


def cfg_guider(model: Model, positive: Conditioning, negative: Conditioning, cfg: float) -> Guider:
    """Classifier-free guidance (Ho and Salimans 2022, arXiv 2207.12598)."""
    return Guider(model=model, conditionings={"positive": positive, "negative": negative}, rule=_cfg, cfg=cfg)


def dual_cfg_guider(
    model: Model,
    positive: Conditioning,
    middle: Conditioning,
    negative: Conditioning,
    *,
    first: float,
    second: float,
    nested: bool,
) -> Guider:
    """Guidance from the negative to the middle by `second` and from the middle to the positive by `first`."""
    middle = tuple(condition.with_options(prompt_type="negative") for condition in middle)
    return Guider(
        model=model,
        conditionings={"positive": positive, "middle": middle, "negative": negative},
        rule=partial(_dual_cfg, first=first, second=second, nested=nested),
        cfg=first,
    )


def _dual_cfg(
    guider: Guider,
    look: Look,
    x: torch.Tensor,
    sigma: torch.Tensor,
    *,
    first: float,
    second: float,
    nested: bool,
) -> torch.Tensor:
    model = guider.model
    if nested:
        seen = look(["negative", "middle", "positive"])
        text = _guided(model, seen["positive"], seen["middle"], first, x, sigma, _again(look))
        return seen["negative"] + second * (text - seen["negative"])
    names = ["negative", "middle", "positive"]
    zeros = torch.zeros_like(x)
    if _only_positive(model, second):
        names = ["positive"] if math.isclose(first, 1.0) else ["middle", "positive"]
    seen = {"negative": zeros, "middle": zeros, **look(names)}
    between = _guided(model, seen["middle"], seen["negative"], second, x, sigma, _again(look, "middle"))
    return between + (seen["positive"] - seen["middle"]) * first
