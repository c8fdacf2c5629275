"""How a network's output becomes a picture, and how noise goes onto one.

Source: ComfyUI ``comfy/model_sampling.py``. sigma is a number in a tensor [] or [batch]; latents have any shape.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import torch

from ..sigmas import NoiseLevels


class Prediction(Protocol):
    """What a network was trained to predict."""

    def entering(self, sigma: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
        """What the network is given for the noisy latent `x`."""

    def denoised(self, sigma: torch.Tensor, output: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
        """The picture in `x`, from what the network said."""

    def noisy(
        self, sigma: torch.Tensor, noise: torch.Tensor, latent: torch.Tensor, *, strongest: bool = False
    ) -> torch.Tensor:
        """`latent` at that noise level; `strongest` where it is the model's highest, which stands for no picture."""

    def finished(self, sigma: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
        """The latent that a run hands on when it stops at that level."""


def _spread(sigma: torch.Tensor, dimensions: int) -> torch.Tensor:
    return sigma.reshape(()) if sigma.numel() == 1 else sigma.reshape(sigma.shape[0], *([1] * (dimensions - 1)))


@dataclass(frozen=True, kw_only=True, slots=True)
class Epsilon:
    """The noise that was added (Stable Diffusion 1.x, SDXL)."""

    data: float = 1.0  # the standard deviation of pictures

    def entering(self, sigma: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
        """See `Prediction.entering`: brought to variance 1."""
        return x / (_spread(sigma, x.ndim) ** 2 + self.data**2) ** 0.5

    def denoised(self, sigma: torch.Tensor, output: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
        """See `Prediction.denoised`."""
        return x - output * _spread(sigma, output.ndim)

    def noisy(
        self, sigma: torch.Tensor, noise: torch.Tensor, latent: torch.Tensor, *, strongest: bool = False
    ) -> torch.Tensor:
        """See `Prediction.noisy`."""
        level = _spread(sigma, noise.ndim)
        return noise * (torch.sqrt(1.0 + level**2.0) if strongest else level) + latent

    def finished(self, sigma: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
        """See `Prediction.finished`: as it is."""
        return x


@dataclass(frozen=True, kw_only=True, slots=True)
class Velocity(Epsilon):
    """v = cos * noise - sin * picture (Stable Diffusion 2.x 768, Stable Video Diffusion)."""

    def denoised(self, sigma: torch.Tensor, output: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
        """See `Prediction.denoised`."""
        level, data = _spread(sigma, output.ndim), self.data
        both = level**2 + data**2
        return x * data**2 / both - output * level * data / both**0.5


@dataclass(frozen=True, kw_only=True, slots=True)
class Edm(Velocity):
    """Karras et al. 2022 (arXiv 2206.00364): as `Velocity` with the other sign (Playground 2.5)."""

    def denoised(self, sigma: torch.Tensor, output: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
        """See `Prediction.denoised`."""
        level, data = _spread(sigma, output.ndim), self.data
        both = level**2 + data**2
        return x * data**2 / both + output * level * data / both**0.5


@dataclass(frozen=True, kw_only=True, slots=True)
class Picture(Epsilon):
    """The picture itself."""

    def denoised(self, sigma: torch.Tensor, output: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
        """See `Prediction.denoised`."""
        return output


@dataclass(frozen=True, kw_only=True, slots=True)
class Straight:
    """The direction from picture to noise along a straight line: flow matching (SD 3.5, FLUX.1, Qwen-Image…)."""

    def entering(self, sigma: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
        """See `Prediction.entering`: as it is."""
        return x

    def denoised(self, sigma: torch.Tensor, output: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
        """See `Prediction.denoised`."""
        return x - output * _spread(sigma, output.ndim)

    def noisy(
        self, sigma: torch.Tensor, noise: torch.Tensor, latent: torch.Tensor, *, strongest: bool = False
    ) -> torch.Tensor:
        """See `Prediction.noisy`."""
        level = _spread(sigma, noise.ndim)
        return level * noise + (1.0 - level) * latent

    def finished(self, sigma: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
        """See `Prediction.finished`: without the part that noise takes."""
        return x / (1.0 - _spread(sigma, x.ndim))


@dataclass(frozen=True, kw_only=True, slots=True)
class Consistency(Epsilon):
    """A model distilled for consistency (Luo et al. 2023, arXiv 2310.04378): noise, and the picture weighed by time.

    Attributes:
        levels: tells the timestep of a level.
    """

    levels: NoiseLevels

    def denoised(self, sigma: torch.Tensor, output: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
        """See `Prediction.denoised`."""
        time = _spread(self.levels.timestep(sigma.cpu()).to(x.device), output.ndim) * 10.0
        picture = x - output * _spread(sigma, output.ndim)
        square = time**2 + 0.25
        return time / square**0.5 * picture + 0.25 / square * x
