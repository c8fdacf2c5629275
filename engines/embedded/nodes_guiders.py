"""Noise, samplers and guiders as values of their own, and levels that depend on a model.

Source: ComfyUI ``comfy_extras/nodes_custom_sampler.py`` and ``nodes_align_your_steps.py``.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial

import torch

from . import samplers, samplers_sde, sigmas
from .diffusion.guiders import basic_guider, cfg_guider, dual_cfg_guider
from .diffusion.sampling import drawn_noise, sampler_choice
from .diffusion.values import Conditioning, Guider, Latent, Model, Noise, SamplerChoice
from .problems import NodeProblem
from .registry import NodeGroup

NODES = NodeGroup()

TURBO_STEPS = 10
# Sabour et al. 2024 (arXiv 2404.14507), https://research.nvidia.com/labs/toronto-ai/AlignYourSteps/howto.html
_ALIGNED: Mapping[str, tuple[float, ...]] = {
    "SD1": (
        14.6146412293,
        6.4745760956,
        3.8636745985,
        2.6946151520,
        1.8841921177,
        1.3943805092,
        0.9642583904,
        0.6523686016,
        0.3977456272,
        0.1515232662,
        0.0291671582,
    ),
    "SDXL": (
        14.6146412293,
        6.3184485287,
        3.7681790315,
        2.1811480769,
        1.3405244945,
        0.8620721141,
        0.5550693289,
        0.3798540708,
        0.2332364134,
        0.1114188177,
        0.0291671582,
    ),
    "SVD": (700.00, 54.5, 15.886, 7.977, 4.248, 1.789, 0.981, 0.403, 0.173, 0.034, 0.002),
}


@NODES.node("RandomNoise")
def random_noise(noise_seed: int) -> Noise:
    """Noise by a seed."""
    return Noise(seed=noise_seed)


@NODES.node("DisableNoise")
def no_noise() -> Noise:
    """None."""
    return Noise(none=True)


@NODES.node("KSamplerSelect")
def select(sampler_name: str) -> SamplerChoice:
    """A sampler by its name."""
    return sampler_choice(sampler_name)


def _choice(name: str, **options: float) -> SamplerChoice:
    return SamplerChoice(name=name, run=samplers.sampler(name), options=options)


@NODES.node("SamplerEulerAncestral")
def euler_ancestral(eta: float, s_noise: float) -> SamplerChoice:
    """Euler's steps with noise."""
    return _choice("euler_ancestral", eta=eta, s_noise=s_noise)


@NODES.node("SamplerEulerAncestralCFGPP")
def euler_ancestral_cfg_pp(eta: float, s_noise: float) -> SamplerChoice:
    """The same by CFG++."""
    return _choice("euler_ancestral_cfg_pp", eta=eta, s_noise=s_noise)


@NODES.node("SamplerDPMPP_2S_Ancestral")
def dpmpp_2s_ancestral(eta: float, s_noise: float) -> SamplerChoice:
    """DPM-Solver++(2S) with noise."""
    return _choice("dpmpp_2s_ancestral", eta=eta, s_noise=s_noise)


@NODES.node("SamplerDPMPP_SDE")
def dpmpp_sde(eta: float, s_noise: float, r: float, noise_device: str) -> SamplerChoice:
    """DPM-Solver++ for the stochastic equation."""
    run = partial(samplers_sde.dpmpp_sde, r=r)
    return SamplerChoice(name="dpmpp_sde", run=run, options={"eta": eta, "s_noise": s_noise})


@NODES.node("SamplerDPMPP_2M_SDE")
def dpmpp_2m_sde(solver_type: str, eta: float, s_noise: float, noise_device: str) -> SamplerChoice:
    """DPM-Solver++(2M) for the stochastic equation."""
    run = partial(samplers_sde.dpmpp_2m_sde, heun=solver_type == "heun")
    return SamplerChoice(name="dpmpp_2m_sde", run=run, options={"eta": eta, "s_noise": s_noise})


@NODES.node("SamplerDPMPP_3M_SDE")
def dpmpp_3m_sde(eta: float, s_noise: float, noise_device: str) -> SamplerChoice:
    """DPM-Solver++(3M) for the stochastic equation."""
    return _choice("dpmpp_3m_sde", eta=eta, s_noise=s_noise)


@NODES.node("SamplerLMS")
def lms(order: int) -> SamplerChoice:
    """Linear multistep."""
    return SamplerChoice(name="lms", run=partial(samplers.lms, order=order))


@NODES.node("BasicGuider")
def basic(model: Model, conditioning: Conditioning) -> Guider:
    """The positive alone."""
    return basic_guider(model, conditioning)


@NODES.node("CFGGuider")
def cfg(model: Model, positive: Conditioning, negative: Conditioning, cfg: float) -> Guider:
    """Away from the negative, towards the positive."""
    return cfg_guider(model, positive, negative, cfg)


@NODES.node("DualCFGGuider")
def dual_cfg(
    model: Model,
    cond1: Conditioning,
    cond2: Conditioning,
    negative: Conditioning,
    cfg_conds: float,
    cfg_cond2_negative: float,
    style: str = "regular",
) -> Guider:
    """From the negative to the second, from there to the first."""
    return dual_cfg_guider(
        model, cond1, cond2, negative, first=cfg_conds, second=cfg_cond2_negative, nested=style == "nested"
    )


@NODES.node("BasicScheduler")
def basic_scheduler(model: Model, scheduler: str, steps: int, denoise: float) -> torch.Tensor:
    """The levels that a scheduler picks of the model's."""
    total = steps
    if denoise < 1.0:
        if denoise <= 0.0:
            return torch.empty(0)
        total = int(steps / denoise)
    return sigmas.schedule(model.levels, scheduler, total)[-(steps + 1) :]


@NODES.node("BetaSamplingScheduler")
def beta_scheduler(model: Model, steps: int, alpha: float, beta: float) -> torch.Tensor:
    """Steps dense where a beta distribution is."""
    return sigmas.beta(model.levels, steps, alpha, beta)


@NODES.node("SDTurboScheduler")
def turbo_scheduler(model: Model, steps: int, denoise: float) -> torch.Tensor:
    """The levels that Turbo models were distilled to."""
    start = TURBO_STEPS - int(TURBO_STEPS * denoise)
    timesteps = (torch.arange(1, TURBO_STEPS + 1) * 100 - 1).flip(0)[start : start + steps]
    levels = model.levels.sigma(timesteps)
    return torch.cat([levels, levels.new_zeros([1])])


@NODES.node("AlignYourStepsScheduler")
def aligned_scheduler(model_type: str, steps: int, denoise: float) -> torch.Tensor:
    """Levels found by optimisation for each family; between them the logarithm is interpolated."""
    import numpy as np

    total = steps
    if denoise < 1.0:
        if denoise <= 0.0:
            return torch.empty(0)
        total = round(steps * denoise)
    known = _ALIGNED[model_type]
    levels = list(known)
    if steps + 1 != len(known):
        places, wanted = np.linspace(0, 1, len(known)), np.linspace(0, 1, steps + 1)
        levels = [float(level) for level in np.exp(np.interp(wanted, places, np.log(known[::-1])))[::-1]]
    levels = levels[-(total + 1) :]
    levels[-1] = 0.0
    return torch.tensor(levels)


@NODES.node("SamplingPercentToSigma")
def percent_to_sigma(model: Model, sampling_percent: float, return_actual_sigma: bool) -> float:
    """The level after a part of the run."""
    if return_actual_sigma and sampling_percent in (0.0, 1.0):
        return float(model.levels.sigmas[-1 if sampling_percent == 0.0 else 0])
    return model.levels.at_percent(sampling_percent)


@NODES.node("AddNoise")
def add_noise(model: Model, noise: Noise, sigmas: torch.Tensor, latent_image: Latent) -> Latent:
    """A latent with the noise between two levels on it."""
    if not len(sigmas):
        return latent_image
    samples: torch.Tensor = latent_image["samples"]
    if samples.shape[1] != model.latent.channels:
        raise NodeProblem(
            f"the latent has {samples.shape[1]} channels, model {model.source!r} takes {model.latent.channels}",
            remedy="use a latent of the model's own family",
        )
    drawn = drawn_noise(noise, samples, latent_image.get("batch_index"))
    scale = (sigmas[0] - sigmas[-1]).abs() if len(sigmas) > 1 else sigmas[0]
    entered = model.latent.enter(samples) if bool(samples.any()) else samples
    noisy = model.latent.leave(model.prediction.noisy(scale, drawn, entered))
    return {**latent_image, "samples": torch.nan_to_num(noisy, nan=0.0, posinf=0.0, neginf=0.0)}
