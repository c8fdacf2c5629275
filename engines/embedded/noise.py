"""Random noise as ComfyUI draws it, so that a seed gives the same picture.

Sources: ComfyUI ``comfy/sample.py`` (first noise), ``comfy/k_diffusion/sampling.py`` (noise between steps).
"""

from __future__ import annotations

import importlib
import warnings
from collections.abc import Callable, Sequence
from typing import Any

import torch

# From one noise level to the next: noise of the latent's shape and of variance 1.
NoiseSource = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]


def first_noise(shape: Sequence[int], seed: int, indices: Sequence[int] | None = None) -> torch.Tensor:
    """The noise that a run begins with, float32 on the CPU.

    Args:
        indices: which pictures of a larger batch these are: each gets the noise it would have there.
    """
    generator = torch.manual_seed(seed)  # the process's own generator, as in ComfyUI: some samplers draw from it later
    if indices is None:
        return torch.randn(tuple(shape), generator=generator)
    drawn: dict[int, torch.Tensor] = {}
    for place in range(max(indices) + 1):
        one = torch.randn((1, *shape[1:]), generator=generator)
        if place in indices:
            drawn[place] = one
    return torch.cat([drawn[place] for place in indices])


def fresh_noise(like: torch.Tensor, seed: int) -> NoiseSource:
    """New noise at each call. On the CPU the seed is one higher, lest the first noise come again."""
    generator = torch.Generator(device=like.device)
    generator.manual_seed(seed + 1 if like.device.type == "cpu" else seed)

    def draw(sigma: torch.Tensor, following: torch.Tensor) -> torch.Tensor:
        return torch.randn(like.shape, dtype=like.dtype, device=like.device, generator=generator)

    return draw


def brownian_noise(like: torch.Tensor, sigmas: torch.Tensor, seed: int) -> NoiseSource:
    """Noise of a Brownian path over the noise levels: smaller steps refine it instead of drawing anew."""
    torchsde: Any = importlib.import_module("torchsde")  # loads slowly, and few samplers need it; it has no types
    low, high = sigmas[sigmas > 0].min().cpu(), sigmas.max().cpu()
    path = torchsde.BrownianTree(low, torch.zeros_like(like, device="cpu"), high, entropy=seed)

    def draw(sigma: torch.Tensor, following: torch.Tensor) -> torch.Tensor:
        start, end = sigma.cpu().float(), following.cpu().float()
        rising = bool(start < end)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # of bounds that rounding moves by 1e-7
            step = path(start, end) if rising else -path(end, start)
        noise: torch.Tensor = step.to(like) / (end - start).abs().sqrt().to(like)
        return noise

    return draw
