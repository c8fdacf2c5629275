"""Noise levels beyond those of ``sigmas``: continuous ones, and those of distilled models.

Source: ComfyUI ``comfy/model_sampling.py`` and ``comfy_extras/nodes_model_advanced.py``.
"""

from __future__ import annotations

import math

import torch

from ..sigmas import ALWAYS, Discrete


class Continuous:
    """Levels evenly spaced in their logarithm, told as a quarter of it (EDM: Stable Video Diffusion, Playground 2.5).

    Args:
        low, high: the bounds.
    """

    is_flow = False

    def __init__(self, *, low: float = 0.002, high: float = 120.0) -> None:
        self.sigmas = torch.linspace(math.log(low), math.log(high), 1000).exp()

    def sigma(self, timestep: torch.Tensor) -> torch.Tensor:
        """See `NoiseLevels.sigma`."""
        return (timestep / 0.25).exp()

    def timestep(self, sigma: torch.Tensor) -> torch.Tensor:
        """See `NoiseLevels.timestep`."""
        return 0.25 * sigma.log()

    def at_percent(self, percent: float) -> float:
        """See `NoiseLevels.at_percent`."""
        if percent <= 0.0:
            return ALWAYS
        if percent >= 1.0:
            return 0.0
        low, high = math.log(float(self.sigmas[0])), math.log(float(self.sigmas[-1]))
        return math.exp((high - low) * (1.0 - percent) + low)


class ContinuousAngle(Continuous):
    """The same, told as an angle (ModelSamplingContinuousV)."""

    def sigma(self, timestep: torch.Tensor) -> torch.Tensor:
        """See `NoiseLevels.sigma`."""
        return (timestep * math.pi / 2).tan()

    def timestep(self, sigma: torch.Tensor) -> torch.Tensor:
        """See `NoiseLevels.timestep`."""
        return sigma.atan() / math.pi * 2


class Distilled(Discrete):
    """Fifty of a thousand levels, as LCM was distilled to."""

    steps = 50

    def __init__(self, *, zero_snr: bool = False) -> None:
        super().__init__(zero_snr=zero_snr)
        self._skip = len(self.sigmas) // self.steps
        last = len(self.sigmas)
        places = [last - 1 - place * self._skip for place in range(self.steps)]
        self.sigmas = self.sigmas[sorted(places)]
        self._logs = self.sigmas.log()

    def timestep(self, sigma: torch.Tensor) -> torch.Tensor:
        """See `NoiseLevels.timestep`: the number among the thousand."""
        return super().timestep(sigma) * self._skip + (self._skip - 1)

    def sigma(self, timestep: torch.Tensor) -> torch.Tensor:
        """See `NoiseLevels.sigma`."""
        return super().sigma((timestep - (self._skip - 1)) / self._skip)
