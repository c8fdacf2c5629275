"""DPM-Solver++ for the stochastic equation: noise along one Brownian path, so that it does not change with the steps.

Sources: Lu et al. 2022 (arXiv 2211.01095); ComfyUI ``comfy/k_diffusion/sampling.py``.
"""

from __future__ import annotations

from functools import partial

import torch

from .noise import brownian_noise
from .samplers import Walk, ancestral, from_half_log_snr, half_log_snr, startable


def dpmpp_sde(walk: Walk, x: torch.Tensor, sigmas: torch.Tensor, r: float = 0.5) -> torch.Tensor:
    """DPM-Solver++ for the stochastic equation, with a look in the middle."""
    if len(sigmas) <= 1:
        return x
    noise = brownian_noise(x, sigmas, walk.seed)
    place, level = partial(half_log_snr, walk.levels), partial(from_half_log_snr, walk.levels)
    noisy = walk.eta > 0 and walk.s_noise > 0
    for step, sigma, following in walk.steps(startable(walk.levels, sigmas)):
        denoised = walk.look(step, x, sigma)
        if following == 0:
            x = denoised
            continue
        start, end = place(sigma), place(following)
        halfway = start + r * (end - start)
        middle = level(halfway)
        scale, scale_middle, scale_end = sigma * start.exp(), middle * halfway.exp(), following * end.exp()
        down, up = ancestral((-start).exp(), (-halfway).exp(), walk.eta)
        distance = -down.log() - start
        half = scale_middle / scale * (-distance).exp() * x - scale_middle * (-distance).expm1() * denoised
        if noisy:
            half = half + scale_middle * noise(sigma, middle) * walk.s_noise * up
        seen = walk.see(half, middle)
        down, up = ancestral((-start).exp(), (-end).exp(), walk.eta)
        distance = -down.log() - start
        weight = 1 / (2 * r)
        mixed = (1 - weight) * denoised + weight * seen
        x = scale_end / scale * (-distance).exp() * x - scale_end * (-distance).expm1() * mixed
        if noisy:
            x = x + scale_end * noise(sigma, following) * walk.s_noise * up
    return x


def dpmpp_2m_sde(walk: Walk, x: torch.Tensor, sigmas: torch.Tensor, *, heun: bool = False) -> torch.Tensor:
    """DPM-Solver++ for the stochastic equation, of order 2 from the last two looks."""
    return _multistep_sde(walk, x, sigmas, order=2, heun=heun)


def dpmpp_3m_sde(walk: Walk, x: torch.Tensor, sigmas: torch.Tensor) -> torch.Tensor:
    """DPM-Solver++ for the stochastic equation, of order 3 from the last three looks."""
    return _multistep_sde(walk, x, sigmas, order=3, heun=True)


def _multistep_sde(walk: Walk, x: torch.Tensor, sigmas: torch.Tensor, *, order: int, heun: bool) -> torch.Tensor:
    if len(sigmas) <= 1:
        return x
    noise = brownian_noise(x, sigmas, walk.seed)
    seen: list[torch.Tensor] = []  # the latest first
    strides: list[torch.Tensor] = []
    for step, sigma, following in walk.steps(startable(walk.levels, sigmas)):
        denoised = walk.look(step, x, sigma)
        if following == 0:
            return denoised
        end = half_log_snr(walk.levels, following)
        stride = end - half_log_snr(walk.levels, sigma)
        wide = stride * (walk.eta + 1)
        scale = following * end.exp()
        x = following / sigma * (-stride * walk.eta).exp() * x - scale * (-wide).expm1() * denoised
        x = x + scale * _correction(denoised, seen, stride, strides, wide, heun=heun)
        if walk.eta > 0 and walk.s_noise > 0:
            amount = following * (-(-2 * stride * walk.eta).expm1()).sqrt() * walk.s_noise
            x = x + noise(sigma, following) * amount
        seen, strides = [denoised, *seen][: order - 1], [stride, *strides][: order - 1]
    return x


def _correction(
    denoised: torch.Tensor,
    seen: list[torch.Tensor],
    stride: torch.Tensor,
    strides: list[torch.Tensor],
    wide: torch.Tensor,
    *,
    heun: bool,
) -> torch.Tensor:
    """What the looks before this one say of its change, in units of the scale."""
    if not seen:
        return torch.zeros_like(denoised)
    ratio = strides[0] / stride
    change = (denoised - seen[0]) / ratio
    if not heun:
        return -0.5 * (-wide).expm1() * change
    second = (-wide).expm1() / wide + 1
    if len(seen) == 1:
        return second * change
    ratio_before = strides[1] / stride
    change_before = (seen[0] - seen[1]) / ratio_before
    bend = (change - change_before) / (ratio + ratio_before)
    return second * (change + bend * ratio) - (second / wide - 0.5) * bend
