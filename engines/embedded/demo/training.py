"""What every part's training shares: the optimiser's course, averaged weights, precision, and words on the way."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True, kw_only=True, slots=True)
class Course:
    """How long and how fast one part learns.

    Attributes:
        steps, batch: how many steps, and of how many examples each.
        rate: the highest learning rate; it rises over ``warm`` steps, and falls to nothing as half a cosine over the
            last ``fall`` (a part of all steps).
        decay: of the weights (AdamW, arXiv 1711.05101).
        average: how much of the averaged weights stays at each step, at the end; 0 keeps the last weights.
        seed: of everything drawn on the way.
    """

    steps: int
    batch: int
    rate: float
    warm: int = 100
    fall: float = 1.0
    decay: float = 0.01
    average: float = 0.999
    seed: int = 0

    def rate_at(self, step: int) -> float:
        """The learning rate of one step."""
        if step < self.warm:
            return self.rate * (step + 1) / self.warm
        begin = max(self.warm, round(self.steps * (1 - self.fall)))
        part = max(0, step - begin) / max(1, self.steps - begin)
        return self.rate * 0.5 * (1 + math.cos(math.pi * part))


@dataclass(frozen=True, kw_only=True, slots=True)
class Place:
    """Where to compute, and in what: bfloat16 for the products where ``half``, float32 for everything kept."""

    device: str = "cpu"
    half: bool = True

    def autocast(self) -> torch.autocast:
        """The context that forward passes run in."""
        import torch

        return torch.autocast(self.device, dtype=torch.bfloat16, enabled=self.half)


def learn(
    name: str,
    parameters: Iterable[torch.nn.Parameter],
    loss: Callable[[int], torch.Tensor],
    course: Course,
    say: Callable[[str], None],
    every: int = 100,
    watch: Callable[[int, list[torch.Tensor]], None] | None = None,
) -> float:
    """Take ``course.steps`` steps down ``loss(step)``; the parameters end as their average. Returns seconds a step."""
    import torch

    learned = [parameter for parameter in parameters if parameter.requires_grad]
    optimiser = torch.optim.AdamW(learned, lr=course.rate, weight_decay=course.decay, betas=(0.9, 0.99), fused=True)
    average = [parameter.detach().clone() for parameter in learned] if course.average else []
    begun, seen = time.monotonic(), 0.0
    step = 0
    while step < course.steps:
        for group in optimiser.param_groups:
            group["lr"] = course.rate_at(step)
        value = loss(step)
        torch.autograd.backward([value])
        torch.nn.utils.clip_grad_norm_(learned, 1.0)
        optimiser.step()
        optimiser.zero_grad(set_to_none=True)
        if average:
            # The first steps' weights are forgotten sooner.
            keep = min(course.average, (step + 1) / (step + 10))
            torch._foreach_lerp_(average, [parameter.detach() for parameter in learned], 1 - keep)
        seen += float(value.detach())
        if (step + 1) % every == 0 or step + 1 == course.steps:
            pace = (time.monotonic() - begun) / (step + 1)
            say(f"{name} {step + 1}/{course.steps}: loss {seen / ((step % every) + 1):.5f}, {pace:.3f} s a step")
            seen = 0.0
        if watch is not None:
            watch(step, average)
        step += 1
    with torch.no_grad():
        for parameter, kept in zip(learned, average, strict=False):
            parameter.copy_(kept)
    return (time.monotonic() - begun) / course.steps
