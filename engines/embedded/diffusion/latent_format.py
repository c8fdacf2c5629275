"""The latents of a family: channels, how they are scaled for the network, and a rough picture of them for previews.

Numbers: ComfyUI ``comfy/latent_formats.py``, which has them from the models' own configurations.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch


@dataclass(frozen=True, kw_only=True, slots=True)
class LatentFormat:
    """One family's latents.

    Attributes:
        channels: of a latent.
        scale, shift: the network's latent is ``(latent - shift) * scale``.
        mean, deviation: one number a channel: the network's latent is ``(latent - mean) * scale / deviation``.
        dimensions: 2 for pictures, 3 for [batch, channels, frames, rows, columns].
        factor: pixels of a side for one of the latent; `frames`: frames for one of the latent.
        colours: red, green and blue of each channel of the network's latent, for previews; `colour_bias` is added.
    """

    channels: int = 4
    scale: float = 1.0
    shift: float = 0.0
    mean: tuple[float, ...] = ()
    deviation: tuple[float, ...] = ()
    dimensions: int = 2
    factor: int = 8
    frames: int = 1
    colours: tuple[tuple[float, float, float], ...] = ()
    colour_bias: tuple[float, float, float] = (0.0, 0.0, 0.0)

    def enter(self, latent: torch.Tensor) -> torch.Tensor:
        """An autoencoder's latent as the network takes it."""
        if self.mean:
            return (latent - self._wide(self.mean, latent)) * self.scale / self._wide(self.deviation, latent)
        return (latent - self.shift) * self.scale if self.shift else latent * self.scale

    def leave(self, latent: torch.Tensor) -> torch.Tensor:
        """The network's latent as an autoencoder takes it."""
        if self.mean:
            return latent * self._wide(self.deviation, latent) / self.scale + self._wide(self.mean, latent)
        return latent / self.scale + self.shift if self.shift else latent / self.scale

    def _wide(self, numbers: tuple[float, ...], like: torch.Tensor) -> torch.Tensor:
        tensor = torch.tensor(numbers, dtype=like.dtype, device=like.device)
        return tensor.reshape(1, self.channels, *([1] * (like.ndim - 2)))


STABLE_DIFFUSION = LatentFormat(
    scale=0.18215,
    colours=(
        (0.3512, 0.2297, 0.3227),
        (0.3250, 0.4974, 0.2350),
        (-0.2829, 0.1762, 0.2721),
        (-0.2120, -0.2616, -0.7177),
    ),
)
SDXL = LatentFormat(
    scale=0.13025,
    colours=(
        (0.3651, 0.4232, 0.4341),
        (-0.2533, -0.0042, 0.1068),
        (0.1076, 0.1111, -0.0362),
        (-0.3165, -0.2492, -0.2188),
    ),
    colour_bias=(0.1084, -0.0175, -0.0011),
)
SDXL_PLAYGROUND = LatentFormat(
    scale=0.5,
    mean=(-1.6574, 1.886, -1.383, 2.5155),
    deviation=(8.4927, 5.9022, 6.5498, 5.2299),
    colours=(
        (0.3920, 0.4054, 0.4549),
        (-0.2634, -0.0196, 0.0653),
        (0.0568, 0.1687, -0.0755),
        (-0.3112, -0.2359, -0.2076),
    ),
)
FLUX = LatentFormat(
    channels=16,
    scale=0.3611,
    shift=0.1159,
    colours=(
        (-0.0346, 0.0244, 0.0681),
        (0.0034, 0.0210, 0.0687),
        (0.0275, -0.0668, -0.0433),
        (-0.0174, 0.0160, 0.0617),
        (0.0859, 0.0721, 0.0329),
        (0.0004, 0.0383, 0.0115),
        (0.0405, 0.0861, 0.0915),
        (-0.0236, -0.0185, -0.0259),
        (-0.0245, 0.0250, 0.1180),
        (0.1008, 0.0755, -0.0421),
        (-0.0515, 0.0201, 0.0011),
        (0.0428, -0.0012, -0.0036),
        (0.0817, 0.0765, 0.0749),
        (-0.1264, -0.0522, -0.1103),
        (-0.0280, -0.0881, -0.0499),
        (-0.1262, -0.0982, -0.0778),
    ),
    colour_bias=(-0.0329, -0.0718, -0.0851),
)
