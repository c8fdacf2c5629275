"""The autoencoder between pictures and latents (Stable Diffusion, SDXL, SD 3.5, FLUX.1), built from a file's tensors.

The model is diffusers' `AutoencoderKL`, the names are converted by diffusers; sizes are read from shapes. Behaviour of
ComfyUI 0.33.0 ``comfy/sd.py`` (`VAE`): the latent is the mean, unscaled; sides are cut to multiples from the middle.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import torch

from .problems import NodeProblem

State = Mapping[str, torch.Tensor]


class Autoencoder:
    """Encodes and decodes.

    Args:
        state: the tensors, named as in ``first_stage_model`` (``encoder.conv_in.weight``…).

    Attributes:
        channels: of a latent.
        factor: pixels of a side for one of the latent.

    Raises:
        NodeProblem: the tensors are those of no such autoencoder.
    """

    def __init__(self, state: State) -> None:
        from diffusers.loaders import single_file_utils
        from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL

        config = configuration(state)
        self.channels: int = config["latent_channels"]
        self.factor = 2 ** (len(config["block_out_channels"]) - 1)
        self.model: Any = AutoencoderKL(**config).eval()
        convert: Any = single_file_utils.convert_ldm_vae_checkpoint  # it has no types
        try:
            self.model.load_state_dict(convert(dict(state), config))
        except (RuntimeError, KeyError) as error:
            raise NodeProblem("the autoencoder's file is not whole", remedy="fetch the file again") from error

    def encode(self, image: torch.Tensor) -> torch.Tensor:
        """A latent [batch, channels, rows, columns] of an image [batch, height, width, 3] in 0..1."""
        rows, columns = (side // self.factor * self.factor for side in image.shape[1:3])
        if not rows or not columns:
            raise NodeProblem(
                f"an image of {image.shape[2]} x {image.shape[1]} is too small to encode",
                remedy=f"use at least {self.factor} pixels a side",
            )
        top, left = (image.shape[1] % self.factor) // 2, (image.shape[2] % self.factor) // 2
        pixels = image[:, top : top + rows, left : left + columns, :3].movedim(-1, 1) * 2.0 - 1.0
        latent: torch.Tensor = self.model.encode(pixels).latent_dist.mode()
        return latent

    def decode(self, latent: torch.Tensor) -> torch.Tensor:
        """The image [batch, height, width, 3] in 0..1 of a latent [batch, channels, rows, columns]."""
        if latent.shape[1] != self.channels:
            raise NodeProblem(
                f"the latent has {latent.shape[1]} channels, the autoencoder takes {self.channels}",
                remedy="use the VAE that belongs to the model",
            )
        pixels: torch.Tensor = self.model.decode(latent).sample
        return ((pixels + 1.0) / 2.0).clamp(0.0, 1.0).movedim(1, -1)


def configuration(state: State) -> dict[str, Any]:
    """diffusers' settings for these tensors. Raises `NodeProblem` where they are not such an autoencoder's."""
    needed = ("encoder.conv_in.weight", "encoder.conv_out.weight", "decoder.conv_in.weight", "decoder.conv_out.weight")
    if not all(name in state for name in needed):
        raise NodeProblem(
            "the file holds no autoencoder of this kind", remedy="choose one that does, such as ae or vae"
        )
    places = [(int(i), int(j)) for name in state for i, j in re.findall(r"^encoder\.down\.(\d+)\.block\.(\d+)\.", name)]
    levels, layers = 1 + max(level for level, _ in places), 1 + max(layer for _, layer in places)
    return {
        "in_channels": state["encoder.conv_in.weight"].shape[1],
        "out_channels": state["decoder.conv_out.weight"].shape[0],
        "down_block_types": ("DownEncoderBlock2D",) * levels,
        "up_block_types": ("UpDecoderBlock2D",) * levels,
        "block_out_channels": tuple(
            state[f"encoder.down.{level}.block.0.conv1.weight"].shape[0] for level in range(levels)
        ),
        "layers_per_block": layers,
        "latent_channels": state["decoder.conv_in.weight"].shape[1],
        "use_quant_conv": "quant_conv.weight" in state,
        "use_post_quant_conv": "post_quant_conv.weight" in state,
    }
