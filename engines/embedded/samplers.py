"""Samplers: from noise to a picture, step by step, with ComfyUI's numbers.

Sources: ComfyUI ``comfy/k_diffusion/sampling.py``; Karras et al. 2022 (arXiv 2206.00364) for Euler, Heun and the
ancestral steps; Lu et al. 2022 (arXiv 2206.00927, 2211.01095) for DPM-Solver and DPM-Solver++.

x is a latent of any shape; sigmas [steps + 1] fall to 0 or to where a later run goes on.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial

import torch

from .noise import NoiseSource, fresh_noise
from .problems import NodeProblem
from .sigmas import NoiseLevels

Denoiser = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]

FIRST_PERCENT = 1e-4  # how far into a flow a run begins that would need the logarithm of nothing
FIRST_HALF_STEP = 0.9999


@dataclass(kw_only=True)
class Walk:
    """What a sampler needs beside the latent.

    Attributes:
        denoise: what the model makes of a latent at a noise level [batch]: the picture it sees in it.
        levels: the model's noise levels.
        seed: of the noise between steps.
        told: hears (step, latent, denoised) before each step; may raise to stop.
        eta, s_noise: how much noise is put back at each step, and a factor to it.
        unguided: as `denoise`, with what the model sees under the negative alone beside it; the CFG++ samplers need it.
    """

    denoise: Denoiser
    levels: NoiseLevels
    seed: int
    told: Callable[[int, torch.Tensor, torch.Tensor], None] = lambda step, x, denoised: None
    eta: float = 1.0
    s_noise: float = 1.0
    unguided: Callable[[torch.Tensor, torch.Tensor], tuple[torch.Tensor, torch.Tensor]] | None = None

    def see(self, x: torch.Tensor, sigma: torch.Tensor | float) -> torch.Tensor:
        """What the model makes of `x` at one level."""
        return self.denoise(x, sigma * x.new_ones([x.shape[0]]))

    def see_twice(self, x: torch.Tensor, sigma: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """As `see`, with what the model makes of `x` under the negative alone."""
        levels = sigma * x.new_ones([x.shape[0]])
        if self.unguided is None:
            seen = self.denoise(x, levels)
            return seen, seen
        return self.unguided(x, levels)

    def look_twice(self, step: int, x: torch.Tensor, sigma: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """As `look`, with what the model makes of `x` under the negative alone."""
        seen, other = self.see_twice(x, sigma)
        self.told(step, x, seen)
        return seen, other

    def steps(self, sigmas: torch.Tensor) -> Iterator[tuple[int, torch.Tensor, torch.Tensor]]:
        """Number, level and next level of each step."""
        for step in range(len(sigmas) - 1):
            yield step, sigmas[step], sigmas[step + 1]

    def look(self, step: int, x: torch.Tensor, sigma: torch.Tensor) -> torch.Tensor:
        """What the model makes of `x` at the beginning of a step; whoever listens is told."""
        denoised = self.see(x, sigma)
        self.told(step, x, denoised)
        return denoised


Sampler = Callable[[Walk, torch.Tensor, torch.Tensor], torch.Tensor]


def slope(x: torch.Tensor, sigma: torch.Tensor, denoised: torch.Tensor) -> torch.Tensor:
    """Where the noise points at."""
    return (x - denoised) / sigma


def ancestral(sigma: torch.Tensor, following: torch.Tensor, eta: float) -> tuple[torch.Tensor, torch.Tensor]:
    """The level to step down to, and the noise to put back, so that the next level comes out."""
    if not eta:
        return following, torch.zeros_like(following)
    up = eta * (following**2 * (sigma**2 - following**2) / sigma**2) ** 0.5
    up = torch.where(up < following, up, following)  # of a level without end, too
    return (following**2 - up**2) ** 0.5, up


def _flow_ancestral(
    sigma: torch.Tensor, following: torch.Tensor, eta: float
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """For a flow: the level to step down to, the factor of the picture, and the noise to put back."""
    down = following * (1 + (following / sigma - 1) * eta)
    keep = (1 - following) / (1 - down)
    return down, keep, (following**2 - down**2 * keep**2) ** 0.5


def euler(walk: Walk, x: torch.Tensor, sigmas: torch.Tensor) -> torch.Tensor:
    """Along the slope."""
    for step, sigma, following in walk.steps(sigmas):
        x = x + slope(x, sigma, walk.look(step, x, sigma)) * (following - sigma)
    return x


def euler_ancestral(walk: Walk, x: torch.Tensor, sigmas: torch.Tensor) -> torch.Tensor:
    """Along the slope and beyond, then some noise back."""
    noise = fresh_noise(x, walk.seed)
    for step, sigma, following in walk.steps(sigmas):
        denoised = walk.look(step, x, sigma)
        if walk.levels.is_flow:
            if following == 0:
                x = denoised
                continue
            down, keep, up = _flow_ancestral(sigma, following, walk.eta)
            x = down / sigma * x + (1 - down / sigma) * denoised
            if walk.eta > 0:
                x = keep * x + noise(sigma, following) * walk.s_noise * up
            continue
        down, up = ancestral(sigma, following, walk.eta)
        if down == 0:
            x = denoised
        else:
            x = x + slope(x, sigma, denoised) * (down - sigma) + noise(sigma, following) * walk.s_noise * up
    return x


def heun(walk: Walk, x: torch.Tensor, sigmas: torch.Tensor) -> torch.Tensor:
    """Along the mean of the slopes at both ends."""
    for step, sigma, following in walk.steps(sigmas):
        way = slope(x, sigma, walk.look(step, x, sigma))
        if following != 0:
            ahead = x + way * (following - sigma)
            way = (way + slope(ahead, following, walk.see(ahead, following))) / 2
        x = x + way * (following - sigma)
    return x


def dpm_2(walk: Walk, x: torch.Tensor, sigmas: torch.Tensor) -> torch.Tensor:
    """Along the way in the middle (of the logarithms)."""
    for step, sigma, following in walk.steps(sigmas):
        way = slope(x, sigma, walk.look(step, x, sigma))
        if following != 0:
            way = _middle_slope(walk, x, way, sigma, following)
        x = x + way * (following - sigma)
    return x


def _middle_slope(
    walk: Walk, x: torch.Tensor, way: torch.Tensor, sigma: torch.Tensor, following: torch.Tensor
) -> torch.Tensor:
    middle = sigma.log().lerp(following.log(), 0.5).exp()
    half = x + way * (middle - sigma)
    return slope(half, middle, walk.see(half, middle))


def dpm_2_ancestral(walk: Walk, x: torch.Tensor, sigmas: torch.Tensor) -> torch.Tensor:
    """As `dpm_2` and beyond, then some noise back."""
    noise = fresh_noise(x, walk.seed)
    for step, sigma, following in walk.steps(sigmas):
        keep: torch.Tensor | float = 1.0
        if walk.levels.is_flow:
            down, keep, up = _flow_ancestral(sigma, following, walk.eta)
        else:
            down, up = ancestral(sigma, following, walk.eta)
        way = slope(x, sigma, walk.look(step, x, sigma))
        if down == 0:
            x = x + way * (down - sigma)
        else:
            x = x + _middle_slope(walk, x, way, sigma, down) * (down - sigma)
            x = keep * x + noise(sigma, following) * walk.s_noise * up
    return x


def lms(walk: Walk, x: torch.Tensor, sigmas: torch.Tensor, order: int = 4) -> torch.Tensor:
    """Along a polynomial through the last slopes."""
    slopes: list[torch.Tensor] = []
    for step, sigma, following in walk.steps(sigmas):
        denoised = walk.look(step, x, sigma)
        slopes = [slope(x, sigma, denoised), *slopes][:order]
        if following == 0:
            x = denoised
            continue
        known = sigmas[step + 1 - len(slopes) : step + 1].flip(0).tolist()
        weights = _polynomial_weights(known, float(sigma), float(following))
        x = x + sum((weight * slope for weight, slope in zip(weights, slopes, strict=True)), torch.zeros_like(x))
    return x


def _polynomial_weights(places: list[float], start: float, end: float) -> list[float]:
    """The integrals from `start` to `end` of the Lagrange polynomials through `places`: exact, ComfyUI's is to 1e-4."""
    weights = []
    for own in places:
        product = [1.0]  # coefficients, the constant first
        for other in places:
            if other == own:
                continue
            factor = 1 / (own - other)
            shifted = [0.0, *(c * factor for c in product)]
            product = [a - b * other * factor for a, b in zip(shifted, [*product, 0.0], strict=True)]
        weights.append(sum(c * (end ** (n + 1) - start ** (n + 1)) / (n + 1) for n, c in enumerate(product)))
    return weights


def dpmpp_2s_ancestral(walk: Walk, x: torch.Tensor, sigmas: torch.Tensor) -> torch.Tensor:
    """DPM-Solver++ of order 2 with a look in the middle, then some noise back."""
    noise = fresh_noise(x, walk.seed)
    for step, sigma, following in walk.steps(sigmas):
        denoised = walk.look(step, x, sigma)
        if walk.levels.is_flow:
            x = _flow_2s_step(walk, x, sigma, following, denoised, noise)
            continue
        down, up = ancestral(sigma, following, walk.eta)
        if down == 0:
            x = x + slope(x, sigma, denoised) * (down - sigma)
        else:
            distance = sigma.log() - down.log()
            middle = (sigma.log() - 0.5 * distance).exp()
            half = middle / sigma * x - (-0.5 * distance).expm1() * denoised
            x = down / sigma * x - (-distance).expm1() * walk.see(half, middle)
        if following > 0:
            x = x + noise(sigma, following) * walk.s_noise * up
    return x


def _flow_2s_step(
    walk: Walk,
    x: torch.Tensor,
    sigma: torch.Tensor,
    following: torch.Tensor,
    denoised: torch.Tensor,
    noise: NoiseSource,
) -> torch.Tensor:
    down, keep, up = _flow_ancestral(sigma, following, walk.eta)
    if following == 0:
        return x + slope(x, sigma, denoised) * (down - sigma)
    middle = torch.full_like(sigma, FIRST_HALF_STEP)
    if sigma != 1.0:
        start, end = ((1 - sigma) / sigma).log(), ((1 - down) / down).log()
        middle = 1 / ((start + 0.5 * (end - start)).exp() + 1)
    half = middle / sigma * x + (1 - middle / sigma) * denoised
    x = down / sigma * x + (1 - down / sigma) * walk.see(half, middle)
    return keep * x + noise(sigma, following) * walk.s_noise * up if walk.eta > 0 else x


def dpmpp_2m(walk: Walk, x: torch.Tensor, sigmas: torch.Tensor) -> torch.Tensor:
    """DPM-Solver++ of order 2 from the last two looks."""
    before: torch.Tensor | None = None
    for step, sigma, following in walk.steps(sigmas):
        denoised = walk.look(step, x, sigma)
        distance = sigma.log() - following.log()
        seen = denoised
        if before is not None and following != 0:
            ratio = (sigmas[step - 1].log() - sigma.log()) / distance
            seen = (1 + 1 / (2 * ratio)) * denoised - (1 / (2 * ratio)) * before
        x = following / sigma * x - (-distance).expm1() * seen
        before = denoised
    return x


def half_log_snr(levels: NoiseLevels, sigma: torch.Tensor) -> torch.Tensor:
    """Half the logarithm of signal to noise at a level."""
    return -(sigma.logit() if levels.is_flow else sigma.log())


def from_half_log_snr(levels: NoiseLevels, value: torch.Tensor) -> torch.Tensor:
    """The level of it."""
    return (-value).sigmoid() if levels.is_flow else (-value).exp()


def startable(levels: NoiseLevels, sigmas: torch.Tensor) -> torch.Tensor:
    """A flow's first level is 1, which has no logarithm of its signal: a little less."""
    if levels.is_flow and len(sigmas) > 1 and sigmas[0] >= 1:
        sigmas = sigmas.clone()
        sigmas[0] = levels.at_percent(FIRST_PERCENT)
    return sigmas


def ddpm(walk: Walk, x: torch.Tensor, sigmas: torch.Tensor) -> torch.Tensor:
    """The steps of the original diffusion model (Ho et al. 2020, arXiv 2006.11239)."""
    noise = fresh_noise(x, walk.seed)
    for step, sigma, following in walk.steps(sigmas):
        denoised = walk.look(step, x, sigma)
        signal, signal_after = 1 / (sigma * sigma + 1), 1 / (following * following + 1)
        kept = signal / signal_after
        predicted = (x - denoised) / sigma
        scaled = x / torch.sqrt(1.0 + sigma**2.0)
        x = (1.0 / kept).sqrt() * (scaled - (1 - kept) * predicted / (1 - signal).sqrt())
        if following > 0:
            x = x + ((1 - kept) * (1.0 - signal_after) / (1.0 - signal)).sqrt() * noise(sigma, following)
            x = x * torch.sqrt(1.0 + following**2.0)
    return x


def lcm(walk: Walk, x: torch.Tensor, sigmas: torch.Tensor) -> torch.Tensor:
    """What the model sees, with the next level's noise on it (Luo et al. 2023, arXiv 2310.04378)."""
    noise = fresh_noise(x, walk.seed)
    for step, sigma, following in walk.steps(sigmas):
        x = walk.look(step, x, sigma)
        if following > 0:
            drawn = noise(sigma, following)
            x = following * drawn + (1.0 - following) * x if walk.levels.is_flow else x + drawn * following
    return x


_OWN: Mapping[str, Sampler] = {
    "euler": euler,
    "euler_ancestral": euler_ancestral,
    "heun": heun,
    "dpm_2": dpm_2,
    "dpm_2_ancestral": dpm_2_ancestral,
    "lms": lms,
    "dpmpp_2s_ancestral": dpmpp_2s_ancestral,
    "dpmpp_2m": dpmpp_2m,
    "ddpm": ddpm,
    "lcm": lcm,
    "ddim": euler,
}
# Those of other modules, loaded when asked for: module and function, with its options.
_OTHERS: Mapping[str, tuple[str, str, Mapping[str, object]]] = {
    "dpmpp_sde": ("samplers_sde", "dpmpp_sde", {}),
    "dpmpp_sde_gpu": ("samplers_sde", "dpmpp_sde", {}),
    "dpmpp_2m_sde": ("samplers_sde", "dpmpp_2m_sde", {}),
    "dpmpp_2m_sde_gpu": ("samplers_sde", "dpmpp_2m_sde", {}),
    "dpmpp_2m_sde_heun": ("samplers_sde", "dpmpp_2m_sde", {"heun": True}),
    "dpmpp_2m_sde_heun_gpu": ("samplers_sde", "dpmpp_2m_sde", {"heun": True}),
    "dpmpp_3m_sde": ("samplers_sde", "dpmpp_3m_sde", {}),
    "dpmpp_3m_sde_gpu": ("samplers_sde", "dpmpp_3m_sde", {}),
    "heunpp2": ("samplers_multistep", "heunpp2", {}),
    "ipndm": ("samplers_multistep", "ipndm", {}),
    "ipndm_v": ("samplers_multistep", "ipndm_v", {}),
    "deis": ("samplers_multistep", "deis", {}),
    "res_multistep": ("samplers_multistep", "res_multistep", {}),
    "res_multistep_cfg_pp": ("samplers_multistep", "res_multistep", {"cfg_pp": True}),
    "res_multistep_ancestral": ("samplers_multistep", "res_multistep", {"eta": None}),
    "res_multistep_ancestral_cfg_pp": ("samplers_multistep", "res_multistep", {"eta": None, "cfg_pp": True}),
    "gradient_estimation": ("samplers_multistep", "gradient_estimation", {}),
    "gradient_estimation_cfg_pp": ("samplers_multistep", "gradient_estimation", {"cfg_pp": True}),
    "euler_cfg_pp": ("samplers_guided", "euler_ancestral_cfg_pp", {"noisy": False}),
    "euler_ancestral_cfg_pp": ("samplers_guided", "euler_ancestral_cfg_pp", {}),
    "dpmpp_2m_cfg_pp": ("samplers_guided", "dpmpp_2m_cfg_pp", {}),
    "dpmpp_2s_ancestral_cfg_pp": ("samplers_guided", "dpmpp_2s_ancestral_cfg_pp", {}),
    "uni_pc": ("samplers_exponential", "uni_pc", {}),
    "uni_pc_bh2": ("samplers_exponential", "uni_pc", {"second": True}),
    "er_sde": ("samplers_exponential", "er_sde", {}),
    "seeds_2": ("samplers_exponential", "seeds_2", {}),
    "seeds_3": ("samplers_exponential", "seeds_3", {}),
    "exp_heun_2_x0": ("samplers_exponential", "seeds_2", {"r": 1.0, "second": True, "noisy": False}),
    "exp_heun_2_x0_sde": ("samplers_exponential", "seeds_2", {"r": 1.0, "second": True}),
    "sa_solver": ("samplers_exponential", "sa_solver", {}),
    "sa_solver_pece": ("samplers_exponential", "sa_solver", {"evaluate_twice": True}),
    "dpm_fast": ("samplers_exponential", "dpm_fast", {}),
    "dpm_adaptive": ("samplers_exponential", "dpm_adaptive", {}),
}
SAMPLERS: tuple[str, ...] = (*_OWN, *_OTHERS)


def sampler(name: str) -> Sampler:
    """The sampler of that name. Raises `NodeProblem` where there is none."""
    if name in _OWN:
        return _OWN[name]
    if name not in _OTHERS:
        raise NodeProblem(f"the embedded engine lacks the sampler {name!r}", remedy=f"use one of {', '.join(SAMPLERS)}")
    module, function, options = _OTHERS[name]
    found: Sampler = getattr(importlib.import_module(f".{module}", __package__), function)
    return partial(found, **options) if options else found
