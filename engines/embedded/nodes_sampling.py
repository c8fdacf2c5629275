"""Sampling: KSampler and its kin. Source: ComfyUI ``nodes.py``, ``comfy_extras/nodes_custom_sampler.py``."""

from __future__ import annotations

import torch

from .context import Context
from .diffusion.guiders import cfg_guider
from .diffusion.sampling import fitted_latent, levels_of_run, part_of_run, sample, sampler_choice
from .diffusion.values import Conditioning, Guider, Latent, Model, Noise, SamplerChoice
from .registry import NodeGroup

NODES = NodeGroup()

_SIZES = ("downscale_ratio_spacial", "downscale_ratio_temporal")  # of an empty latent; a sampled one is a model's own


def _sampled(latent: Latent, samples: torch.Tensor) -> Latent:
    kept = {name: value for name, value in latent.items() if name not in _SIZES}
    return {**kept, "samples": samples}


@NODES.node("KSampler")
def ksampler(
    model: Model,
    seed: int,
    steps: int,
    cfg: float,
    sampler_name: str,
    scheduler: str,
    positive: Conditioning,
    negative: Conditioning,
    latent_image: Latent,
    denoise: float = 1.0,
    *,
    context: Context,
) -> Latent:
    """Noise on a latent and off again, guided by prompts."""
    return _ksampler(
        model, sampler_name, scheduler, cfg, positive, negative, latent_image, Noise(seed=seed), context,
        sigmas=levels_of_run(model, sampler_name, scheduler, steps, denoise),
    )  # fmt: skip


@NODES.node("KSamplerAdvanced")
def ksampler_advanced(
    model: Model,
    add_noise: str,
    noise_seed: int,
    steps: int,
    cfg: float,
    sampler_name: str,
    scheduler: str,
    positive: Conditioning,
    negative: Conditioning,
    latent_image: Latent,
    start_at_step: int,
    end_at_step: int,
    return_with_leftover_noise: str,
    *,
    context: Context,
) -> Latent:
    """A part of a run, with or without noise at its begin and its end."""
    sigmas = part_of_run(
        levels_of_run(model, sampler_name, scheduler, steps),
        start=start_at_step,
        end=end_at_step,
        to_the_end=return_with_leftover_noise != "enable",
    )
    noise = Noise(seed=noise_seed, none=add_noise == "disable")
    return _ksampler(
        model, sampler_name, scheduler, cfg, positive, negative, latent_image, noise, context, sigmas=sigmas
    )


def _ksampler(
    model: Model,
    sampler_name: str,
    scheduler: str,
    cfg: float,
    positive: Conditioning,
    negative: Conditioning,
    latent: Latent,
    noise: Noise,
    context: Context,
    *,
    sigmas: torch.Tensor | None,
) -> Latent:
    if sigmas is None:
        return _sampled(latent, fitted_latent(model, latent))
    guider = cfg_guider(model, positive, negative, cfg)
    return _sampled(latent, sample(guider, sampler_choice(sampler_name), sigmas, latent, noise, context).samples)


@NODES.node("SamplerCustom")
def sampler_custom(
    model: Model,
    add_noise: bool,
    noise_seed: int,
    cfg: float,
    positive: Conditioning,
    negative: Conditioning,
    sampler: SamplerChoice,
    sigmas: torch.Tensor,
    latent_image: Latent,
    *,
    context: Context,
) -> tuple[Latent, Latent]:
    """A run over given levels; also what the model saw last."""
    noise = Noise(seed=noise_seed, none=not add_noise)
    made = sample(cfg_guider(model, positive, negative, cfg), sampler, sigmas, latent_image, noise, context)
    return _sampled(latent_image, made.samples), _sampled(latent_image, made.denoised)


@NODES.node("SamplerCustomAdvanced")
def sampler_custom_advanced(
    noise: Noise,
    guider: Guider,
    sampler: SamplerChoice,
    sigmas: torch.Tensor,
    latent_image: Latent,
    *,
    context: Context,
) -> tuple[Latent, Latent]:
    """A run with a guider; also what the model saw last."""
    made = sample(guider, sampler, sigmas, latent_image, noise, context)
    return _sampled(latent_image, made.samples), _sampled(latent_image, made.denoised)
