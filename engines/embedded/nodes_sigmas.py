"""Noise levels without a model: made, split, turned round. Source: ComfyUI ``nodes_custom_sampler.py``.

SIGMAS is float32 [steps + 1].
"""

from __future__ import annotations

import math
import re

import torch

from . import sigmas as levels
from .registry import NodeGroup

NODES = NodeGroup()

_SMALLEST = 0.0001  # stands for 0 where a run begins there


@NODES.node("KarrasScheduler")
def karras(steps: int, sigma_max: float, sigma_min: float, rho: float) -> torch.Tensor:
    """Even steps in sigma^(1 / rho), then 0."""
    return levels.karras(steps, sigma_min, sigma_max, rho)


@NODES.node("ExponentialScheduler")
def exponential(steps: int, sigma_max: float, sigma_min: float) -> torch.Tensor:
    """Even steps in log(sigma), then 0."""
    return levels.exponential(steps, sigma_min, sigma_max)


@NODES.node("PolyexponentialScheduler")
def polyexponential(steps: int, sigma_max: float, sigma_min: float, rho: float) -> torch.Tensor:
    """Steps in log(sigma) that follow a power, then 0."""
    return levels.polyexponential(steps, sigma_min, sigma_max, rho)


@NODES.node("LaplaceScheduler")
def laplace(steps: int, sigma_max: float, sigma_min: float, mu: float, beta: float) -> torch.Tensor:
    """Laplace-distributed log-levels."""
    return levels.laplace(steps, sigma_min, sigma_max, mu, beta)


@NODES.node("VPScheduler")
def variance_preserving(steps: int, beta_d: float, beta_min: float, eps_s: float) -> torch.Tensor:
    """Levels of a continuous variance-preserving process, then 0."""
    return levels.variance_preserving(steps, beta_d, beta_min, eps_s)


@NODES.node("ManualSigmas")
def manual(sigmas: str) -> torch.Tensor:
    """The numbers in a text."""
    numbers = re.findall(r"[-+]?(?:\d*\.*\d+)", sigmas)
    return torch.tensor([float(number) for number in numbers])


@NODES.node("SplitSigmas")
def split(sigmas: torch.Tensor, step: int) -> tuple[torch.Tensor, torch.Tensor]:
    """The levels up to a step and from it on; both have the step's own."""
    return sigmas[: step + 1], sigmas[step:]


@NODES.node("SplitSigmasDenoise")
def split_denoise(sigmas: torch.Tensor, denoise: float) -> tuple[torch.Tensor, torch.Tensor]:
    """The levels split so that the second part has that part of the steps."""
    steps = round(max(sigmas.shape[-1] - 1, 0) * denoise)
    return sigmas[:-steps], sigmas[-(steps + 1) :]


@NODES.node("FlipSigmas")
def flip(sigmas: torch.Tensor) -> torch.Tensor:
    """The levels rising, for going from a picture to noise."""
    turned = sigmas.flip(0)
    if len(turned) and turned[0] == 0:
        turned[0] = _SMALLEST
    return turned


@NODES.node("SetFirstSigma")
def set_first(sigmas: torch.Tensor, sigma: float) -> torch.Tensor:
    """The levels with another first one."""
    changed = sigmas.clone()
    changed[0] = sigma
    return changed


@NODES.node("ExtendIntermediateSigmas")
def extend(sigmas: torch.Tensor, steps: int, start_at_sigma: float, end_at_sigma: float, spacing: str) -> torch.Tensor:
    """More levels between each two, within bounds, evenly or along a quarter of a wave."""
    start = math.inf if start_at_sigma < 0 else start_at_sigma
    parts = torch.linspace(0, 1, steps + 1)[1:-1]
    if spacing == "cosine":
        parts = torch.sin(parts * math.pi / 2)
    elif spacing == "sine":
        parts = 1 - torch.cos(parts * math.pi / 2)
    extended: list[float] = []
    for index, sigma in enumerate(sigmas):
        extended.append(float(sigma))
        if index + 1 < len(sigmas) and end_at_sigma <= sigma <= start:
            extended.extend((parts * (sigmas[index + 1] - sigma) + sigma).tolist())
    return torch.tensor(extended)
