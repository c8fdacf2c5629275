"""Noise levels: what a model was trained at (`Discrete`, `Flow`, `FluxFlow`), and those a run visits.

SIGMAS is float32 [steps + 1], falling, most often to 0. Sources: ComfyUI ``comfy/model_sampling.py``,
``comfy/samplers.py`` (its scheduler functions) and ``comfy/k_diffusion/sampling.py`` (Karras et al. 2022,
arXiv 2206.00364, and the others named there).
"""

from __future__ import annotations

import importlib
import math
from collections.abc import Callable, Mapping
from functools import cached_property
from typing import Any, Protocol

import torch

from .problems import NodeProblem

ALWAYS = 999999999.9  # a noise level above all others, as ComfyUI writes it


class NoiseLevels(Protocol):
    """The noise levels of a model, ``sigmas`` rising, and where in them a timestep is.

    `is_flow`: noise and picture are mixed, ``sigma * noise + (1 - sigma) * picture``; else noise is added.
    """

    is_flow: bool

    @property
    def sigmas(self) -> torch.Tensor:
        """Every level, float32, rising."""

    def sigma(self, timestep: torch.Tensor) -> torch.Tensor:
        """The level of a timestep (any shape)."""

    def timestep(self, sigma: torch.Tensor) -> torch.Tensor:
        """The timestep of a level (any shape)."""

    def at_percent(self, percent: float) -> float:
        """The level after that part (0..1) of the timesteps, beyond all levels at the ends."""


class Discrete:
    """A thousand levels from betas whose roots rise evenly: Stable Diffusion 1.x, 2.x and SDXL."""

    is_flow = False

    def __init__(
        self, *, start: float = 0.00085, end: float = 0.012, count: int = 1000, zero_snr: bool = False
    ) -> None:
        betas = torch.linspace(start**0.5, end**0.5, count, dtype=torch.float64) ** 2
        signal = torch.cumprod(1.0 - betas, dim=0)
        sigmas = ((1 - signal) / signal) ** 0.5
        if zero_snr:
            sigmas = _to_zero_snr(sigmas)
        self.sigmas = sigmas.float()
        self._logs = sigmas.log().float()

    def sigma(self, timestep: torch.Tensor) -> torch.Tensor:
        """Between two levels the logarithm is interpolated."""
        place = timestep.float().clamp(0, len(self.sigmas) - 1)
        low, high, part = place.floor().long(), place.ceil().long(), place.frac()
        return ((1 - part) * self._logs[low] + part * self._logs[high]).exp()

    def timestep(self, sigma: torch.Tensor) -> torch.Tensor:
        """The nearest level's number."""
        distances = (sigma.log() - self._logs.reshape(-1, *([1] * sigma.ndim))).abs()
        return distances.argmin(dim=0)

    def at_percent(self, percent: float) -> float:
        """See `NoiseLevels.at_percent`."""
        if percent <= 0.0:
            return ALWAYS
        if percent >= 1.0:
            return 0.0
        return float(self.sigma(torch.tensor((1.0 - percent) * 999.0)))


def _to_zero_snr(sigmas: torch.Tensor) -> torch.Tensor:
    """Stretched so that the last level is all noise (Lin et al. 2023, arXiv 2305.08891, algorithm 1)."""
    roots = (1 / (sigmas * sigmas + 1)).sqrt()
    first, last = roots[0].clone(), roots[-1].clone()
    signal = ((roots - last) * (first / (first - last))) ** 2
    signal[-1] = 4.8973451890853435e-08  # ComfyUI's stand-in for 0
    return ((1 - signal) / signal) ** 0.5


class Flow:
    """Straight lines from noise to picture, shifted towards noise: SD 3.5, HunyuanImage, HiDream, Qwen-Image."""

    is_flow = True

    def __init__(self, *, shift: float = 1.0, multiplier: float = 1000.0) -> None:
        self.shift = shift
        self.multiplier = multiplier

    @cached_property
    def sigmas(self) -> torch.Tensor:
        """A thousand levels."""
        return self.sigma((torch.arange(1, 1001, 1) / 1000) * self.multiplier)

    def sigma(self, timestep: torch.Tensor) -> torch.Tensor:
        """``shift * t / (1 + (shift - 1) * t)``."""
        part = timestep / self.multiplier
        return part if self.shift == 1.0 else self.shift * part / (1 + (self.shift - 1) * part)

    def timestep(self, sigma: torch.Tensor) -> torch.Tensor:
        """The level times the multiplier: the model is told the level, not its number."""
        return sigma * self.multiplier

    def at_percent(self, percent: float) -> float:
        """See `NoiseLevels.at_percent`."""
        if percent <= 0.0:
            return 1.0
        if percent >= 1.0:
            return 0.0
        part = 1.0 - percent
        return part if self.shift == 1.0 else self.shift * part / (1 + (self.shift - 1) * part)


class FluxFlow:
    """Straight lines from noise to picture, shifted by an exponent: FLUX.1."""

    is_flow = True

    def __init__(self, *, shift: float = 1.15) -> None:
        self.shift = shift

    @cached_property
    def sigmas(self) -> torch.Tensor:
        """Ten thousand levels."""
        return self.sigma(torch.arange(1, 10001, 1) / 10000)

    def sigma(self, timestep: torch.Tensor) -> torch.Tensor:
        """``e^shift / (e^shift + 1/t - 1)``."""
        return math.exp(self.shift) / (math.exp(self.shift) + (1 / timestep - 1))

    def timestep(self, sigma: torch.Tensor) -> torch.Tensor:
        """The level itself."""
        return sigma

    def at_percent(self, percent: float) -> float:
        """See `NoiseLevels.at_percent`."""
        if percent <= 0.0:
            return 1.0
        if percent >= 1.0:
            return 0.0
        return math.exp(self.shift) / (math.exp(self.shift) + (1 / (1.0 - percent) - 1))


def _with_zero(sigmas: torch.Tensor) -> torch.Tensor:
    return torch.cat([sigmas, sigmas.new_zeros([1])])


def karras(steps: int, sigma_min: float, sigma_max: float, rho: float = 7.0) -> torch.Tensor:
    """Even steps in sigma^(1 / rho)."""
    if rho == 0 or (sigma_min == 0 and rho < 0):
        raise NodeProblem("rho is 0", remedy="use a larger one; 7 is usual")
    low, high = sigma_min ** (1 / rho), sigma_max ** (1 / rho)
    return _with_zero((high + torch.linspace(0, 1, steps) * (low - high)) ** rho)


def _logarithm(sigma: float) -> float:
    if sigma <= 0:
        raise NodeProblem(f"a noise level of {sigma} has no logarithm", remedy="use one above 0")
    return math.log(sigma)


def exponential(steps: int, sigma_min: float, sigma_max: float) -> torch.Tensor:
    """Even steps in log(sigma)."""
    return _with_zero(torch.linspace(_logarithm(sigma_max), _logarithm(sigma_min), steps).exp())


def polyexponential(steps: int, sigma_min: float, sigma_max: float, rho: float = 1.0) -> torch.Tensor:
    """Steps in log(sigma) that follow a power."""
    low, high = _logarithm(sigma_min), _logarithm(sigma_max)
    return _with_zero(torch.exp(torch.linspace(1, 0, steps) ** rho * (high - low) + low))


def variance_preserving(steps: int, beta_d: float = 19.9, beta_min: float = 0.1, eps_s: float = 1e-3) -> torch.Tensor:
    """Levels of a continuous variance-preserving process."""
    t = torch.linspace(1, eps_s, steps)
    return _with_zero(torch.sqrt(torch.special.expm1(beta_d * t**2 / 2 + beta_min * t)))


def laplace(steps: int, sigma_min: float, sigma_max: float, mu: float = 0.0, beta: float = 0.5) -> torch.Tensor:
    """Laplace-distributed log-levels (Hang et al. 2024, arXiv 2407.03297), without a 0 at the end."""
    x = torch.linspace(0, 1, steps)
    logs = mu - beta * torch.sign(0.5 - x) * torch.log(1 - 2 * torch.abs(0.5 - x) + 1e-5)
    return torch.clamp(torch.exp(logs), min=sigma_min, max=sigma_max)


def kl_optimal(steps: int, sigma_min: float, sigma_max: float) -> torch.Tensor:
    """Even steps in atan(sigma) (Sabour et al. 2024, arXiv 2404.14507)."""
    part = torch.arange(steps, dtype=torch.float) / (steps - 1) if steps > 1 else torch.full((steps,), math.nan)
    return _with_zero((part * math.atan(sigma_min) + (1 - part) * math.atan(sigma_max)).tan())


def simple(levels: NoiseLevels, steps: int) -> torch.Tensor:
    """Every so-manieth level from the top."""
    stride = len(levels.sigmas) / steps
    return torch.tensor([*(float(levels.sigmas[-(1 + int(step * stride))]) for step in range(steps)), 0.0])


def ddim_uniform(levels: NoiseLevels, steps: int) -> torch.Tensor:
    """Every so-manieth level from the bottom."""
    ends_low = math.isclose(float(levels.sigmas[1]), 0, abs_tol=0.00001)
    stride = max(len(levels.sigmas) // (steps + ends_low), 1)
    rising = [float(sigma) for sigma in levels.sigmas[1::stride]]
    return torch.tensor([*reversed(rising), *([] if ends_low else [0.0])])


def normal(levels: NoiseLevels, steps: int) -> torch.Tensor:
    """Even steps in timesteps, the last level among them, then 0."""
    start, end = levels.timestep(levels.sigmas[-1]), levels.timestep(levels.sigmas[0])
    ends_low = math.isclose(float(levels.sigma(end)), 0, abs_tol=0.00001)
    places = torch.linspace(float(start), float(end), steps + ends_low)
    return torch.tensor([*(float(levels.sigma(place)) for place in places), *([] if ends_low else [0.0])])


def sgm_uniform(levels: NoiseLevels, steps: int) -> torch.Tensor:
    """Even steps in timesteps, of which the last is 0 instead of the lowest level."""
    start, end = levels.timestep(levels.sigmas[-1]), levels.timestep(levels.sigmas[0])
    places = torch.linspace(float(start), float(end), steps + 1)[:-1]
    return torch.tensor([*(float(levels.sigma(place)) for place in places), 0.0])


def beta(levels: NoiseLevels, steps: int, alpha: float = 0.6, beta: float = 0.6) -> torch.Tensor:
    """Steps dense at both ends, by the quantiles of a beta distribution (Lee et al. 2024, arXiv 2407.12173)."""
    import numpy as np

    stats: Any = importlib.import_module("scipy.stats")  # loads slowly, and few prompts need it; it has no types
    parts = stats.beta.ppf(1 - np.linspace(0, 1, steps, endpoint=False), alpha, beta)
    places = [int(place) for place in np.rint(parts * (len(levels.sigmas) - 1))]
    kept = [place for index, place in enumerate(places) if index == 0 or place != places[index - 1]]
    return torch.tensor([*(float(levels.sigmas[place]) for place in kept), 0.0])


def linear_quadratic(levels: NoiseLevels, steps: int, threshold: float = 0.025) -> torch.Tensor:
    """Small even steps at first, then ever larger ones (Genmo's Mochi)."""
    if steps == 1:
        return torch.tensor([1.0, 0.0]) * levels.sigmas[-1]
    even = steps // 2
    rest = steps - even
    surplus = even - threshold * steps
    square = surplus / (even * rest**2)
    slope = threshold / even - 2 * surplus / rest**2
    parts = [step * threshold / even for step in range(even)]
    parts += [square * step**2 + slope * step + square * even**2 for step in range(even, steps)]
    return torch.tensor([1.0 - part for part in (*parts, 1.0)]) * levels.sigmas[-1]


_OF_LEVELS: Mapping[str, Callable[[NoiseLevels, int], torch.Tensor]] = {
    "simple": simple,
    "sgm_uniform": sgm_uniform,
    "ddim_uniform": ddim_uniform,
    "beta": beta,
    "normal": normal,
    "linear_quadratic": linear_quadratic,
}
_OF_BOUNDS: Mapping[str, Callable[[int, float, float], torch.Tensor]] = {
    "karras": karras,
    "exponential": exponential,
    "kl_optimal": kl_optimal,
}
SCHEDULERS = ("simple", "sgm_uniform", "karras", "exponential", "ddim_uniform", "beta", "normal", "linear_quadratic",
              "kl_optimal")  # fmt: skip


def schedule(levels: NoiseLevels, scheduler: str, steps: int) -> torch.Tensor:
    """The levels that a run of `steps` visits. Raises `NodeProblem` for a scheduler that is none."""
    if scheduler in _OF_LEVELS:
        return _OF_LEVELS[scheduler](levels, steps)
    if scheduler in _OF_BOUNDS:
        return _OF_BOUNDS[scheduler](steps, float(levels.sigmas[0]), float(levels.sigmas[-1]))
    raise NodeProblem(f"there is no scheduler {scheduler!r}", remedy=f"use one of {', '.join(SCHEDULERS)}")
