"""Samplers that go by the last few slopes or looks, without noise between steps or with some.

Sources: ComfyUI ``comfy/k_diffusion/sampling.py`` and ``deis.py``. iPNDM and DEIS: Zhang and Chen 2022 (arXiv
2204.13902); RES: Zhang et al. 2023 (arXiv 2308.02157); gradient estimation: Permenter and Yuan 2023 (arXiv 2306.04848).
"""

from __future__ import annotations

import math

import torch

from .noise import fresh_noise
from .samplers import Walk, ancestral, slope

_ADAMS = ((1.0,), (3 / 2, -1 / 2), (23 / 12, -16 / 12, 5 / 12), (55 / 24, -59 / 24, 37 / 24, -9 / 24))


def heunpp2(walk: Walk, x: torch.Tensor, sigmas: torch.Tensor) -> torch.Tensor:
    """Along a mean of up to three slopes ahead, weighed by their levels."""
    for step, sigma, following in walk.steps(sigmas):
        first = slope(x, sigma, walk.look(step, x, sigma))
        if following == sigmas[-1]:
            x = x + first * (following - sigma)
            continue
        ahead = x + first * (following - sigma)
        second = slope(ahead, following, walk.see(ahead, following))
        after = sigmas[step + 2]
        if after == sigmas[-1]:
            share = following / (2 * sigmas[0])
            mean = first * (1 - share) + second * share
        else:
            beyond = ahead + second * (after - following)
            third = slope(beyond, after, walk.see(beyond, after))
            shares = following / (3 * sigmas[0]), after / (3 * sigmas[0])
            mean = (1 - shares[0] - shares[1]) * first + shares[0] * second + shares[1] * third
        x = x + mean * (following - sigma)
    return x


def ipndm(walk: Walk, x: torch.Tensor, sigmas: torch.Tensor) -> torch.Tensor:
    """Adams-Bashforth over up to four slopes, as if steps were even."""
    slopes: list[torch.Tensor] = []
    for step, sigma, following in walk.steps(sigmas):
        denoised = walk.look(step, x, sigma)
        slopes = [slope(x, sigma, denoised), *slopes][: len(_ADAMS)]
        if following == 0:
            return denoised
        weights = _ADAMS[len(slopes) - 1]
        mixed = sum(weight * each for weight, each in zip(weights[1:], slopes[1:], strict=True))
        x = x + (following - sigma) * (weights[0] * slopes[0] + mixed)
    return x


def ipndm_v(walk: Walk, x: torch.Tensor, sigmas: torch.Tensor) -> torch.Tensor:
    """The same for steps that are not even."""
    slopes: list[torch.Tensor] = []
    for step, sigma, following in walk.steps(sigmas):
        denoised = walk.look(step, x, sigma)
        slopes = [slope(x, sigma, denoised), *slopes][:4]
        if following == 0:
            return denoised
        known = [float(sigmas[step + 1 - place]) - float(sigmas[step - place]) for place in range(len(slopes))]
        weights = _uneven_weights(known)
        mixed = sum(weight * each for weight, each in zip(weights[1:], slopes[1:], strict=True))
        x = x + (following - sigma) * (weights[0] * slopes[0] + mixed)
    return x


def _uneven_weights(widths: list[float]) -> list[float]:
    """The weights of slopes for steps of those widths, this one's first."""
    if len(widths) == 1:
        return [1.0]
    now, one, *more = widths
    weights = [(2 + now / one) / 2, -(now / one) / 2]
    if not more:
        return weights
    two, *last = more
    third = (1 - now / (3 * (now + one)) * (now * (now + one)) / (one * (one + two))) / 2
    weights = [weights[0] + third, weights[1] - (1 + one / two) * third, third * one / two]
    if not last:
        return weights
    three = last[0]
    share = one * (one + two) / (two * (two + three))
    fourth = (1 - now / (3 * (now + one))) / 2
    fourth += (1 - now / (2 * (now + one))) * now / (6 * (now + one + two))
    fourth *= now * (now + one) * (now + one + two) / (one * (one + two) * (one + two + three))
    return [
        weights[0] + fourth,
        weights[1] - (1 + one / two + share) * fourth,
        weights[2] + (one / two + share * (1 + two / three)) * fourth,
        -fourth * share * one / two,
    ]


def deis(walk: Walk, x: torch.Tensor, sigmas: torch.Tensor) -> torch.Tensor:
    """Polynomials through up to three slopes, integrated as the noise of the original process falls."""
    times = _DeisTimes(sigmas)
    slopes: list[torch.Tensor] = []
    for step, sigma, following in walk.steps(sigmas):
        slopes = [slope(x, sigma, walk.look(step, x, sigma)), *slopes][:3]
        if len(slopes) == 1 or following <= 0:
            x = x + (following - sigma) * slopes[0]
        else:
            weights = times.weights(step, len(slopes))
            for weight, each in zip(weights, slopes, strict=True):
                x = x + weight * each
    return x


class _DeisTimes:
    """The times of a variance-preserving process with those levels, between levels 0.002 and 80."""

    points = 10000
    earliest = 1e-3

    def __init__(self, sigmas: torch.Tensor) -> None:
        low, high = math.log(0.002**2 + 1), math.log(80.0**2 + 1)
        self._slope = 2 * (low / self.earliest - high) / (self.earliest - 1)
        self._start = high - 0.5 * self._slope
        levels = sigmas.double()
        root = (self._start**2 + 2 * self._slope * (levels**2 + 1).log()).sqrt()
        self._times = (root - self._start) / self._slope

    def weights(self, step: int, order: int) -> list[float]:
        """The integrals of the Lagrange polynomials through the last `order` times, over the step."""
        start, end = self._times[step], self._times[step + 1]
        taus = torch.linspace(float(start), float(end), self.points, dtype=torch.float64)
        # alpha = exp(-slope * t^2 / 2 - start * t); minus half the derivative of its logarithm, over sqrt(alpha (1 -
        # alpha))
        alpha = torch.exp(-0.5 * taus**2 * self._slope - taus * self._start)
        whole = 0.5 * (taus * self._slope + self._start) / torch.sqrt(alpha * (1 - alpha))
        known = [self._times[step - place] for place in range(order)]
        made = []
        for own in range(order):
            polynomial = torch.ones_like(taus)
            for other in range(order):
                if other != own:
                    polynomial = polynomial * (taus - known[other]) / (known[own] - known[other])
            made.append(float((whole * polynomial).sum() * (end - start) / self.points))
        return made


def res_multistep(
    walk: Walk, x: torch.Tensor, sigmas: torch.Tensor, *, eta: float | None = 0.0, cfg_pp: bool = False
) -> torch.Tensor:
    """Exponential steps of order 2 from the last two looks; `eta` None takes the walk's."""
    noise = fresh_noise(x, walk.seed)
    amount = walk.eta if eta is None else eta
    before: torch.Tensor | None = None
    before_down = sigmas[0]
    for step, sigma, following in walk.steps(sigmas):
        denoised, other = walk.look_twice(step, x, sigma) if cfg_pp else (walk.look(step, x, sigma), None)
        down, up = ancestral(sigma, following, amount)
        base = denoised if other is None else other
        if down == 0 or before is None:
            if other is None:
                x = x + slope(x, sigma, denoised) * (down - sigma)
            else:
                x = denoised + slope(x, sigma, other) * down
        else:
            distance = sigma.log() - down.log()
            place = (before_down.log() - sigmas[step - 1].log()) / distance
            first = torch.expm1(-distance) / -distance
            second = (first - 1.0) / -distance
            mine = torch.nan_to_num(first - second / place, nan=0.0)
            its = torch.nan_to_num(second / place, nan=0.0)
            if other is not None:
                x = x + (denoised - other)
            x = (-distance).exp() * x + distance * (mine * base + its * before)
        if up > 0:
            x = x + noise(sigma, following) * walk.s_noise * up
        before, before_down = base, down
    return x


def gradient_estimation(
    walk: Walk, x: torch.Tensor, sigmas: torch.Tensor, *, gamma: float = 2.0, cfg_pp: bool = False
) -> torch.Tensor:
    """Along the slope, corrected by how it changed."""
    before: torch.Tensor | None = None
    for step, sigma, following in walk.steps(sigmas):
        denoised, other = walk.look_twice(step, x, sigma) if cfg_pp else (walk.look(step, x, sigma), None)
        way = slope(x, sigma, denoised if other is None else other)
        width = following - sigma
        if following == 0:
            x = denoised
        else:
            x = x + way * width if other is None else denoised + way * following
            if before is not None:
                x = x + (gamma - 1) * (way - before) * width
        before = way
    return x
