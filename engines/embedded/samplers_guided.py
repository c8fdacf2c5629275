"""CFG++ samplers: they step along what the model sees under the negative, towards what guidance makes of both.

Sources: ComfyUI ``comfy/k_diffusion/sampling.py``; Chung et al. 2024 (arXiv 2406.08070).
"""

from __future__ import annotations

import torch

from .noise import fresh_noise
from .samplers import Walk, ancestral, half_log_snr, slope


def euler_ancestral_cfg_pp(walk: Walk, x: torch.Tensor, sigmas: torch.Tensor, *, noisy: bool = True) -> torch.Tensor:
    """Euler's steps, with noise where `noisy`."""
    noise = fresh_noise(x, walk.seed)
    eta = walk.eta if noisy else 0.0
    for step, sigma, following in walk.steps(sigmas):
        denoised, other = walk.look_twice(step, x, sigma)
        if following == 0:
            x = denoised
            continue
        signal = sigma * half_log_snr(walk.levels, sigma).exp()
        signal_after = following * half_log_snr(walk.levels, following).exp()
        way = slope(x, sigma, signal * other)
        down, up = ancestral(sigma / signal, following / signal_after, eta)
        x = signal_after * denoised + signal_after * down * way
        if eta > 0 and walk.s_noise > 0:
            x = x + signal_after * noise(sigma, following) * walk.s_noise * up
    return x


def dpmpp_2m_cfg_pp(walk: Walk, x: torch.Tensor, sigmas: torch.Tensor) -> torch.Tensor:
    """DPM-Solver++ of order 2 from the last two looks."""
    before: torch.Tensor | None = None
    for step, sigma, following in walk.steps(sigmas):
        denoised, other = walk.look_twice(step, x, sigma)
        distance = sigma.log() - following.log()
        shrink = torch.exp(-distance)
        mixed = -shrink * other
        if before is not None and following != 0:
            ratio = (sigmas[step - 1].log() - sigma.log()) / distance
            mixed = mixed - torch.expm1(-distance) * (1 / (2 * ratio)) * (denoised - before)
        x = denoised + mixed + shrink * x
        before = other
    return x


def dpmpp_2s_ancestral_cfg_pp(walk: Walk, x: torch.Tensor, sigmas: torch.Tensor) -> torch.Tensor:
    """DPM-Solver++ of order 2 with a look in the middle, then some noise back."""
    noise = fresh_noise(x, walk.seed)
    for step, sigma, following in walk.steps(sigmas):
        denoised, other = walk.look_twice(step, x, sigma)
        down, up = ancestral(sigma, following, walk.eta)
        if down == 0:
            x = denoised + slope(x, sigma, other) * down
        else:
            distance = sigma.log() - down.log()
            middle = (sigma.log() - 0.5 * distance).exp()
            moved = x + (denoised - other)
            half = middle / sigma * moved - (-distance * 0.5).expm1() * denoised
            seen, other = walk.see_twice(half, middle)
            moved = x + (denoised - other)
            x = down / sigma * moved - (-distance).expm1() * seen
        if following > 0:
            x = x + noise(sigma, following) * walk.s_noise * up
    return x
