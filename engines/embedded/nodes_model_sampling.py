"""Other noise levels, predictions and rules of guidance for a model.

Source: ComfyUI ``comfy_extras/nodes_model_advanced.py``, ``nodes_cfg.py``.
"""

from __future__ import annotations

from dataclasses import replace
from functools import partial

from . import sigmas as noise_levels
from .diffusion import latent_format
from .diffusion.levels import Continuous, ContinuousAngle, Distilled
from .diffusion.prediction import Consistency, Edm, Epsilon, Picture, Prediction, Straight, Velocity
from .diffusion.rescaling import normed, normed_before, rescaled, zero_star
from .diffusion.values import Model
from .problems import NodeProblem
from .registry import NodeGroup

NODES = NodeGroup()


@NODES.node("ModelSamplingDiscrete")
def discrete(model: Model, sampling: str, zsnr: bool) -> Model:
    """A thousand levels, and what the model predicts."""
    if sampling == "lcm":
        levels = Distilled(zero_snr=zsnr)
        return model.with_levels(levels, Consistency(levels=levels))
    predictions: dict[str, Prediction] = {"eps": Epsilon(), "v_prediction": Velocity(), "x0": Picture()}
    if sampling not in predictions:
        raise NodeProblem(
            f"the embedded engine has no sampling {sampling!r}", remedy=f"use one of {', '.join(predictions)}, lcm"
        )
    return model.with_levels(noise_levels.Discrete(zero_snr=zsnr), predictions[sampling])


@NODES.node("ModelSamplingContinuousEDM")
def continuous_edm(model: Model, sampling: str, sigma_max: float, sigma_min: float) -> Model:
    """Levels between two bounds, and what the model predicts."""
    if sampling == "cosmos_rflow":
        raise NodeProblem("the embedded engine has no sampling 'cosmos_rflow'", remedy="run it on a ComfyUI")
    data = 0.5 if sampling.startswith("edm") else 1.0
    kinds: dict[str, type[Epsilon]] = {"eps": Epsilon, "v_prediction": Velocity}
    prediction = kinds.get(sampling, Edm)(data=data)
    made = model.with_levels(Continuous(low=sigma_min, high=sigma_max), prediction)
    return replace(made, latent=latent_format.SDXL_PLAYGROUND) if sampling == "edm_playground_v2.5" else made


@NODES.node("ModelSamplingContinuousV")
def continuous_velocity(model: Model, sampling: str, sigma_max: float, sigma_min: float) -> Model:
    """Levels between two bounds, told as angles."""
    return model.with_levels(ContinuousAngle(low=sigma_min, high=sigma_max), Velocity())


@NODES.node("ModelSamplingSD3")
def shifted(model: Model, shift: float) -> Model:
    """A flow shifted towards noise."""
    return model.with_levels(noise_levels.Flow(shift=shift), Straight())


@NODES.node("ModelSamplingAuraFlow")
def shifted_untimed(model: Model, shift: float) -> Model:
    """A flow shifted towards noise, its levels told as they are."""
    return model.with_levels(noise_levels.Flow(shift=shift, multiplier=1.0), Straight())


@NODES.node("RescaleCFG")
def rescale_cfg(model: Model, multiplier: float) -> Model:
    """Guidance that keeps the positive's spread."""
    return model.with_cfg_rule(partial(rescaled, multiplier=multiplier))


@NODES.node("CFGZeroStar")
def cfg_zero_star(model: Model) -> Model:
    """Guidance with the negative scaled to fit."""
    return model.with_cfg_after(zero_star)


@NODES.node("CFGNorm")
def cfg_norm(model: Model, strength: float, pre_cfg: bool = False) -> Model:
    """Guidance that makes no vector longer than the positive's."""
    if pre_cfg:
        return model.with_cfg_rule(partial(normed_before, strength=strength))
    return model.with_cfg_after(partial(normed, strength=strength))
