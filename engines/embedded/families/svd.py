"""Stable Video Diffusion: a picture begins to move.

Source: ComfyUI 0.33.0 ``comfy/supported_models.py`` and ``comfy/model_base.py`` (`SVD_img2vid`).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch

from ..diffusion import latent_format
from ..diffusion.concat import like_noise
from ..diffusion.encoders import Coder
from ..diffusion.levels import Continuous
from ..diffusion.prediction import Velocity
from ..diffusion.told import Each, Same, Shaped, Text
from ..diffusion.values import Asked, Condition, Network, Step
from ..diffusion.weights import State, Weights
from ..problems import NodeProblem
from . import Family
from .video_autoencoder import video_coder
from .video_unet import VideoUNet

LOWEST, HIGHEST = 0.002, 700.0  # noise levels
FACT_WIDTH = 256  # of one embedded number that the model is told
LABEL_WIDTH = 3 * FACT_WIDTH
EYES = "conditioner.embedders.0.open_clip.model.visual."  # where a checkpoint has them
MOTION = "input_blocks.1.0.time_stack.in_layers.0.weight"


class VideoNetwork(Network):
    """The denoiser: told what CLIP saw in the picture, its latent, frame rate, motion and augmentation."""

    family = "svd"
    variant = "svd"
    latent = latent_format.STABLE_DIFFUSION

    def __init__(self, weights: Weights) -> None:
        self.levels = Continuous(low=LOWEST, high=HIGHEST)
        self.prediction = Velocity()
        widths = {
            weights.shape(name)[1] for name in weights if name.endswith(".transformer_blocks.0.attn2.to_k.weight")
        }
        self.text_width = widths.pop() if len(widths) == 1 else None
        self._source = weights.source

    def build(self, state: State) -> VideoUNet:
        """See `Network.build`."""
        try:
            return VideoUNet(state)
        except NodeProblem as problem:
            raise NodeProblem(f"model {self._source!r}: {problem.message}", remedy=problem.remedy) from problem

    def told(self, condition: Condition, asked: Asked) -> dict[str, Each]:
        """See `Network.told`: "text" (what CLIP saw), "concat", "label", "frames"."""
        picture = condition.get("concat_latent_image")
        beside = torch.zeros_like(asked.noise) if picture is None else picture.to(asked.noise)
        facts = (
            condition.get("fps", 6) - 1,
            condition.get("motion_bucket_id", 127),
            condition.get("augmentation_level", 0),
        )
        return {
            "text": Text(condition.text),
            "concat": Shaped(like_noise(beside, asked.noise)),  # as it is: the model learned unscaled latents here
            "label": Each(label(*facts)),
            "frames": Same(asked.noise.shape[0]),
        }

    def predict(
        self, module: Any, x: torch.Tensor, timestep: torch.Tensor, told: Mapping[str, Any], step: Step
    ) -> torch.Tensor:
        """See `Network.predict`."""
        velocity: torch.Tensor = module.forward_frames(
            x, timestep, told["text"], told["label"], frames=int(told["frames"])
        )
        return velocity


def label(*facts: float) -> torch.Tensor:
    """The numbers that the model is told [1, 256 each]: frame rate less one, motion, augmentation."""
    from diffusers.models.embeddings import get_timestep_embedding

    numbers = torch.tensor([float(fact) for fact in facts])
    parts: torch.Tensor = get_timestep_embedding(numbers, FACT_WIDTH, flip_sin_to_cos=True, downscale_freq_shift=0)
    return parts.reshape(1, -1)


def _denoiser(weights: Weights) -> Network | None:
    if MOTION not in weights or "label_emb.0.0.weight" not in weights:
        return None
    if weights.shape("label_emb.0.0.weight")[1] != LABEL_WIDTH or weights.shape("input_blocks.0.0.weight")[1] != 8:
        return None  # SV3D and others of the layout are told other facts
    return VideoNetwork(weights)


def _autoencoder(weights: Weights) -> Coder | None:
    return video_coder(weights)


FAMILY = Family(name="svd", denoiser=_denoiser, autoencoder=_autoencoder)
