"""Functions on guidance: what keeps it from burning pictures out.

Sources: ComfyUI ``comfy_extras/nodes_model_advanced.py`` (RescaleCFG: Lin et al. 2023, arXiv 2305.08891, section 3.4)
and ``nodes_cfg.py`` (CFGZeroStar: Fan et al. 2025, arXiv 2503.18886; CFGNorm).
"""

from __future__ import annotations

import torch

from .values import Guided


def rescaled(step: Guided, multiplier: float) -> torch.Tensor:
    """The result brought to the positive's spread, by `multiplier`."""
    positive, negative = step.positive, step.negative
    assert negative is not None
    if step.model.levels.is_flow:
        dims = tuple(range(1, positive.ndim))
        guided = negative + step.scale * (positive - negative)
        ratio = positive.std(dim=dims, keepdim=True) / guided.std(dim=dims, keepdim=True).clamp(min=1e-8)
        return multiplier * (guided * ratio) + (1.0 - multiplier) * guided
    sigma = step.sigma.reshape(-1, *([1] * (positive.ndim - 1)))
    both = sigma * sigma + 1.0
    x = step.x / both
    speed, other = ((x - seen) * both**0.5 / sigma for seen in (positive, negative))
    guided = other + step.scale * (speed - other)
    ratio = speed.std(dim=(1, 2, 3), keepdim=True) / guided.std(dim=(1, 2, 3), keepdim=True)
    mixed = multiplier * (guided * ratio) + (1.0 - multiplier) * guided
    return x - mixed * sigma / both**0.5


def zero_star(step: Guided) -> torch.Tensor:
    """The negative scaled to lie along the positive best."""
    negative = step.negative
    assert negative is not None
    towards, away = (step.x - step.positive).flatten(1), (step.x - negative).flatten(1)
    share = (towards * away).sum(dim=1, keepdim=True) / ((away**2).sum(dim=1, keepdim=True) + 1e-8)
    alpha = share.reshape(-1, *([1] * (negative.ndim - 1)))
    return step.denoised + negative * (alpha - 1.0) + step.scale * negative * (1.0 - alpha)


def normed(step: Guided, strength: float) -> torch.Tensor:
    """No channel vector longer than the positive's."""
    wanted = torch.norm(step.positive, dim=1, keepdim=True)
    found = torch.norm(step.denoised, dim=1, keepdim=True)
    made: torch.Tensor = step.denoised * (wanted / (found + 1e-8)).clamp(min=0.0, max=1.0) * strength
    return made


def normed_before(step: Guided, strength: float) -> torch.Tensor:
    """The guided noise as long as the positive's, channel vector by channel vector."""
    assert step.negative is not None
    positive, negative = step.x - step.positive, step.x - step.negative
    guided = negative + step.scale * (positive - negative)
    length = torch.linalg.vector_norm(guided, dim=1, keepdim=True)
    wanted = torch.linalg.vector_norm(positive, dim=1, keepdim=True)
    scaled = guided * torch.where(length > 0, wanted / length.clamp_min(1e-12), torch.ones_like(length))
    return step.x - (scaled if strength == 1.0 else strength * scaled + (1.0 - strength) * guided)
