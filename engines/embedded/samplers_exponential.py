"""Samplers by exponential integrators: UniPC, ER-SDE, SEEDS, SA-Solver, DPM-Solver's own fast and adaptive ones.

Sources: ComfyUI ``comfy/extra_samplers/uni_pc.py``, ``comfy/k_diffusion/sampling.py``, ``sa_solver.py``. Zhao et al.
2023 (arXiv 2302.04867), Cui et al. 2023 (arXiv 2309.06169), Gonzalez et al. 2023 (arXiv 2305.14267), Xue et al. 2023
(arXiv 2309.05019), Lu et al. 2022 (arXiv 2206.00927).
"""

from __future__ import annotations

import math

import torch

from .noise import fresh_noise
from .samplers import Walk, from_half_log_snr, half_log_snr, startable

LAST_LEVEL = 0.001  # where UniPC ends instead of 0


def uni_pc(walk: Walk, x: torch.Tensor, sigmas: torch.Tensor, *, second: bool = False) -> torch.Tensor:
    """Predictor and corrector of order up to 3; `second` takes the other of the two weights (bh2).

    A last level of 0 becomes `LAST_LEVEL` in `sigmas` itself, as in ComfyUI: for a flow, what is done to the latent at
    the run's end goes by it.
    """
    if len(sigmas) <= 1:
        return x
    levels = sigmas
    if levels[-1] == 0:
        levels[-1] = LAST_LEVEL
    order = min(3, len(levels) - 2)
    run = _UniPc(walk, second)
    x = x / torch.sqrt(1.0 + levels[0] ** 2.0)
    steps = len(levels) - 1
    seen = [(levels[0], run.look(x, levels[0]))]  # the latest last
    walk.told(0, x, seen[-1][1])
    for step in range(1, steps + 1 if order else 1):  # of one step nothing is made, as in ComfyUI
        here = min(order, step, steps + 1 - step) if step >= order else step
        x, look = run.step(x, seen, levels[step], here, correct=step < steps)
        if look is not None:
            seen = [*seen, (levels[step], look)][-order:]
        elif step < steps:
            seen = [*seen, (levels[step], run.look(x, levels[step]))][-order:]
        if step < steps:
            walk.told(step, x, seen[-1][1])
    return x / _signal(levels[-1])


def _signal(sigma: torch.Tensor) -> torch.Tensor:
    return torch.exp(0.5 * torch.log(1 / (sigma * sigma + 1)))


class _UniPc:
    """Steps in the variance-preserving frame, x = signal * picture + spread * noise."""

    def __init__(self, walk: Walk, second: bool) -> None:
        self._walk = walk
        self._second = second

    def look(self, x: torch.Tensor, sigma: torch.Tensor) -> torch.Tensor:
        """The picture in `x`."""
        scaled = x * ((sigma**2 + 1.0) ** 0.5)
        noise = (scaled - self._walk.see(scaled, sigma)) / sigma
        return (x - self._spread(sigma) * noise) / _signal(sigma)

    def _spread(self, sigma: torch.Tensor) -> torch.Tensor:
        return torch.sqrt(1.0 - _signal(sigma) ** 2)

    def _place(self, sigma: torch.Tensor) -> torch.Tensor:
        log_signal = 0.5 * torch.log(1 / (sigma * sigma + 1))
        return log_signal - 0.5 * torch.log(1.0 - torch.exp(2.0 * log_signal))

    def step(
        self,
        x: torch.Tensor,
        seen: list[tuple[torch.Tensor, torch.Tensor]],
        following: torch.Tensor,
        order: int,
        *,
        correct: bool,
    ) -> tuple[torch.Tensor, torch.Tensor | None]:
        """The next x, and what was seen there if it was corrected."""
        sigma, last = seen[-1]
        width = self._place(following) - self._place(sigma)
        ratios = [(self._place(level) - self._place(sigma)) / width for level, _ in reversed(seen[-order:-1])]
        changes = [(look - last) / ratio for (_, look), ratio in zip(reversed(seen[-order:-1]), ratios, strict=True)]
        places = torch.stack([*ratios, torch.ones_like(width)])
        rows, wanted, scale = self._system(-width, places, order)
        base = self._spread(following) / self._spread(sigma) * x - _signal(following) * torch.expm1(-width) * last
        factor = _signal(following) * scale
        predicted = base
        if changes:
            weights = wanted.new_tensor([0.5]) if order == 2 else torch.linalg.solve(rows[:-1, :-1], wanted[:-1])
            predicted = base - factor * _mixed(weights, changes)
        if not correct:
            return predicted, None
        weights = wanted.new_tensor([0.5]) if order == 1 else torch.linalg.solve(rows, wanted)
        look = self.look(predicted, following)
        return base - factor * _mixed(weights, [*changes, look - last]), look

    def _system(
        self, width: torch.Tensor, places: torch.Tensor, order: int
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        scale = torch.expm1(width) if self._second else width
        phi = torch.expm1(width) / width - 1
        rows, wanted, factorial = [], [], 1
        for number in range(1, order + 1):
            rows.append(places ** (number - 1))
            wanted.append(phi * factorial / scale)
            factorial *= number + 1
            phi = phi / width - 1 / factorial
        return torch.stack(rows), torch.stack(wanted), scale


def _mixed(weights: torch.Tensor, tensors: list[torch.Tensor]) -> torch.Tensor:
    total = torch.zeros_like(tensors[0])
    for weight, tensor in zip(weights, tensors, strict=True):
        total = total + weight * tensor
    return total


def er_sde(walk: Walk, x: torch.Tensor, sigmas: torch.Tensor, *, stages: int = 3) -> torch.Tensor:
    """The reverse stochastic equation extended, up to three stages."""
    noise = fresh_noise(x, walk.seed)
    points = torch.arange(0, 200, dtype=torch.float32)

    def scaled(place: torch.Tensor) -> torch.Tensor:
        return place * ((place**0.3).exp() + 10.0)

    sigmas = startable(walk.levels, sigmas)
    ratios = half_log_snr(walk.levels, sigmas).neg().exp()
    before: torch.Tensor | None = None
    change_before: torch.Tensor | None = None
    for step, sigma, following in walk.steps(sigmas):
        denoised = walk.look(step, x, sigma)
        if following == 0:
            x = denoised
            before = denoised
            continue
        start, end = ratios[step], ratios[step + 1]
        signal, signal_after = sigma / start, following / end
        kept = scaled(end) / scaled(start)
        x = signal_after / signal * kept * x + signal_after * (1 - kept) * denoised
        if before is not None and stages >= 2:
            width = end - start
            stride = -width / len(points)
            places = end + points * stride
            total = (1 / scaled(places)).sum() * stride
            change = (denoised - before) / (start - ratios[step - 1])
            x = x + signal_after * (width + total * scaled(end)) * change
            if change_before is not None and stages >= 3:
                bent = ((places - start) / scaled(places)).sum() * stride
                bend = (change - change_before) / ((start - ratios[step - 2]) / 2)
                x = x + signal_after * (width**2 / 2 + bent * scaled(end)) * bend
            change_before = change
        if walk.s_noise > 0:
            amount = (end**2 - start**2 * kept**2).sqrt().nan_to_num(nan=0.0)
            x = x + signal_after * noise(sigma, following) * walk.s_noise * amount
        before = denoised
    return x


def _phi_2(place: torch.Tensor) -> torch.Tensor:
    return (torch.expm1(place) - place) / place


def seeds_2(
    walk: Walk, x: torch.Tensor, sigmas: torch.Tensor, *, r: float = 0.5, second: bool = False, noisy: bool = True
) -> torch.Tensor:
    """Exponential steps with one look in between; `second` weighs both looks to order 2."""
    noise = fresh_noise(x, walk.seed)
    eta, s_noise = (walk.eta, walk.s_noise) if noisy else (0.0, 0.0)
    for step, sigma, following in walk.steps(startable(walk.levels, sigmas)):
        denoised = walk.look(step, x, sigma)
        if following == 0:
            x = denoised
            continue
        start, end = half_log_snr(walk.levels, sigma), half_log_snr(walk.levels, following)
        width = end - start
        wide = width * (eta + 1)
        middle_place = torch.lerp(start, end, r)
        middle = from_half_log_snr(walk.levels, middle_place)
        signal_middle, signal_after = middle * middle_place.exp(), following * end.exp()
        half = middle / sigma * (-r * width * eta).exp() * x - signal_middle * torch.expm1(-r * wide) * denoised
        drawn = torch.zeros_like(x)
        if eta > 0 and s_noise > 0:
            drawn = (-2 * r * width * eta).expm1().neg().sqrt() * noise(sigma, middle)
            half = half + drawn * middle * s_noise
        seen = walk.see(half, middle)
        if second:
            two = _phi_2(-wide) / r
            mixed = (torch.expm1(-wide) - two) * denoised + two * seen
        else:
            mixed = torch.expm1(-wide) * torch.lerp(denoised, seen, 1 / (2 * r))
        x = following / sigma * (-width * eta).exp() * x - signal_after * mixed
        if eta > 0 and s_noise > 0:
            left = (r - 1) * width * eta
            drawn = drawn * left.exp() + left.mul(2).expm1().neg().sqrt() * noise(middle, following)
            x = x + drawn * following * s_noise
    return x


def seeds_3(walk: Walk, x: torch.Tensor, sigmas: torch.Tensor) -> torch.Tensor:
    """Exponential steps with two looks in between."""
    noise = fresh_noise(x, walk.seed)
    eta, s_noise = walk.eta, walk.s_noise
    one, two = 1 / 3, 2 / 3
    for step, sigma, following in walk.steps(startable(walk.levels, sigmas)):
        denoised = walk.look(step, x, sigma)
        if following == 0:
            x = denoised
            continue
        start, end = half_log_snr(walk.levels, sigma), half_log_snr(walk.levels, following)
        width = end - start
        wide = width * (eta + 1)
        places = [torch.lerp(start, end, part) for part in (one, two)]
        middles = [from_half_log_snr(walk.levels, place) for place in places]
        signals = [middle * place.exp() for middle, place in zip(middles, places, strict=True)]
        drawn = torch.zeros_like(x)
        noisy = eta > 0 and s_noise > 0
        third = middles[0] / sigma * (-one * width * eta).exp() * x
        third = third - signals[0] * torch.expm1(-one * wide) * denoised
        if noisy:
            drawn = (-2 * one * width * eta).expm1().neg().sqrt() * noise(sigma, middles[0])
            third = third + drawn * middles[0] * s_noise
        seen = walk.see(third, middles[0])
        its = two / one * _phi_2(-two * wide)
        mine = torch.expm1(-two * wide) - its
        thirds = middles[1] / sigma * (-two * width * eta).exp() * x - signals[1] * (mine * denoised + its * seen)
        if noisy:
            left = (one - two) * width * eta
            drawn = drawn * left.exp() + left.mul(2).expm1().neg().sqrt() * noise(middles[0], middles[1])
            thirds = thirds + drawn * middles[1] * s_noise
        seen = walk.see(thirds, middles[1])
        its = _phi_2(-wide) / two
        mine = torch.expm1(-wide) - its
        x = following / sigma * (-width * eta).exp() * x - following * end.exp() * (mine * denoised + its * seen)
        if noisy:
            left = (two - 1) * width * eta
            drawn = drawn * left.exp() + left.mul(2).expm1().neg().sqrt() * noise(middles[1], following)
            x = x + drawn * following * s_noise
    return x


def sa_solver(
    walk: Walk,
    x: torch.Tensor,
    sigmas: torch.Tensor,
    *,
    evaluate_twice: bool = False,
    orders: tuple[int, int] = (3, 4),
) -> torch.Tensor:
    """Stochastic Adams steps, predicted and corrected; noise only between a fifth and four fifths of the run."""
    if len(sigmas) <= 1:
        return x
    noise = fresh_noise(x, walk.seed)
    high, low = walk.levels.at_percent(0.2), walk.levels.at_percent(0.8)
    sigmas = startable(walk.levels, sigmas)
    places = half_log_snr(walk.levels, sigmas)
    falls = float(sigmas[-1]) == 0
    predicted, looks = x, list[torch.Tensor]()
    tau, width, drawn = 0.0, torch.zeros(()), torch.zeros_like(x)
    for step, sigma, following in walk.steps(sigmas):
        denoised = walk.look(step, predicted, sigma)
        looks = [*looks, denoised][-max(orders) :]
        ahead = min(orders[0], len(looks))
        back = 0 if step == 0 or (following == 0 and not evaluate_twice) else min(orders[1], len(looks))
        if falls:
            ahead, back = min(ahead, len(sigmas) - 2 - step), min(back, len(sigmas) - 1 - step)
        if back == 0:
            x = predicted
        else:
            weights = _adams(sigma, places[step - back + 1 : step + 1], places[step - 1], places[step], tau)
            x = sigma / sigmas[step - 1] * (-(tau**2) * width).exp() * x + _mixed(weights, looks[-back:])
            if tau > 0 and walk.s_noise > 0:
                x = x + drawn
            if evaluate_twice:
                denoised = walk.see(x, sigma)
                looks[-1] = denoised
        if following == 0:
            predicted = denoised
            continue
        tau = 1.0 if high >= float(following) >= low else 0.0
        weights = _adams(following, places[step - ahead + 1 : step + 1], places[step], places[step + 1], tau)
        width = places[step + 1] - places[step]
        predicted = following / sigma * (-(tau**2) * width).exp() * x + _mixed(weights, looks[-ahead:])
        if tau > 0 and walk.s_noise > 0:
            amount = (-2 * tau**2 * width).expm1().neg().sqrt()
            drawn = noise(sigma, following) * following * amount * walk.s_noise
            predicted = predicted + drawn
    return predicted


def _adams(
    sigma: torch.Tensor, known: torch.Tensor, start: torch.Tensor, end: torch.Tensor, tau: float
) -> torch.Tensor:
    """The weights of the looks at `known` places, for a step from `start` to `end`."""
    more = 1 + tau**2
    powers = [float(power) for power in range(len(known))]
    whole = [end**power - start**power * (-more * (end - start)).exp() for power in powers]
    # the integral of exp(more * x) * x^p by parts: each power needs the one below
    integrals: list[torch.Tensor] = []
    for power, product in enumerate(whole):
        integrals.append(product if power == 0 else product - power / more * integrals[-1])
    matrix = torch.stack([known**power for power in powers])
    solved: torch.Tensor = sigma * end.exp() * torch.linalg.solve(matrix, torch.stack(integrals))
    return solved


def _noise_seen(walk: Walk, x: torch.Tensor, time: torch.Tensor) -> torch.Tensor:
    sigma = time.neg().exp()
    return (x - walk.see(x, sigma)) / sigma


def _solver_step(
    walk: Walk, x: torch.Tensor, noise: torch.Tensor, start: torch.Tensor, end: torch.Tensor, order: int,
    known: dict[float, torch.Tensor], r: float = 0.5,
) -> torch.Tensor:  # fmt: skip
    """One of DPM-Solver's steps, in minus the logarithm of the level; `known` keeps looks in between by their place."""
    width, sigma = end - start, end.neg().exp()
    if order == 1:
        return x - sigma * width.expm1() * noise
    first = r if order == 2 else 1 / 3
    one = start + first * width
    if first not in known:
        known[first] = _noise_seen(walk, x - one.neg().exp() * (first * width).expm1() * noise, one)
    seen = known[first]
    if order == 2:
        return x - sigma * width.expm1() * noise - sigma / (2 * r) * width.expm1() * (seen - noise)
    second = 2 / 3
    two = start + second * width
    level = two.neg().exp()
    bend = (second * width).expm1() / (second * width) - 1
    ahead = x - level * (second * width).expm1() * noise - level * (second / first) * bend * (seen - noise)
    last = _noise_seen(walk, ahead, two)
    return x - sigma * width.expm1() * noise - sigma / second * (width.expm1() / width - 1) * (last - noise)


def _bounds(sigmas: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    low = sigmas[-1] if sigmas[-1] != 0 else sigmas[-2]
    return sigmas[0].log().neg(), low.log().neg()


def dpm_fast(walk: Walk, x: torch.Tensor, sigmas: torch.Tensor) -> torch.Tensor:
    """DPM-Solver of order 3 in even steps, as many looks as steps were asked for."""
    if len(sigmas) <= 1:
        return x
    start, end = _bounds(sigmas)
    looks = len(sigmas) - 1
    count = looks // 3 + 1
    times = torch.linspace(float(start), float(end), count + 1)
    orders = [3] * (count - 2) + [2, 1] if looks % 3 == 0 else [3] * (count - 1) + [looks % 3]
    for step, order in enumerate(orders):
        here, following = times[step], times[step + 1]
        seen = _noise_seen(walk, x, here)
        walk.told(step, x, x - here.neg().exp() * seen)
        x = _solver_step(walk, x, seen, here, following, order, {})
    return x


def dpm_adaptive(
    walk: Walk, x: torch.Tensor, sigmas: torch.Tensor, *, relative: float = 0.05, absolute: float = 0.0078
) -> torch.Tensor:
    """DPM-Solver of orders 2 and 3 whose difference decides how far each step goes."""
    if len(sigmas) <= 1:
        return x
    here, end = _bounds(sigmas)
    before, width, step = x, torch.tensor(0.05), 0
    while here < end - 1e-5:
        following = torch.minimum(end, here + width)
        seen = _noise_seen(walk, x, here)
        known: dict[float, torch.Tensor] = {}
        low = _solver_step(walk, x, seen, here, following, 2, known, r=1 / 3)
        high = _solver_step(walk, x, seen, here, following, 3, known)
        allowed = torch.maximum(torch.tensor(absolute), relative * torch.maximum(low.abs(), before.abs()))
        error = float(torch.linalg.norm((low - high) / allowed) / x.numel() ** 0.5)
        factor = 1 + math.atan((1 / (error + 1e-8)) ** (1 / 3) - 1)
        walk.told(step, x, x - here.neg().exp() * seen)
        if factor >= 0.81:
            before, x, here = low, high, following
        width = width * factor
        step += 1
    return x
