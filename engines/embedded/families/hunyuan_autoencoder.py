"""HunyuanImage 2.1's autoencoder: one latent of 64 channels for 32 x 32 pixels.

The model is diffusers' `AutoencoderKLHunyuanImage`; sizes are read from shapes, names are those of the published file
and of ComfyUI 0.33.0 (``comfy/ldm/hunyuan_video/vae.py``).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import torch

from ..problems import NodeProblem

State = Mapping[str, torch.Tensor]

_ATTENTION = {"q": "to_q", "k": "to_k", "v": "to_v", "proj_out": "proj"}


def is_hunyuan_autoencoder(state: State) -> bool:
    """Whether these tensors, named without a prefix, are those of this autoencoder (pixels are shuffled, not pooled)."""
    first, last = state.get("encoder.conv_out.weight"), state.get("decoder.conv_in.weight")
    return (
        first is not None
        and last is not None
        and last.ndim == 4
        and "encoder.down.0.downsample.conv.weight" in state
        and "decoder.up.0.upsample.conv.weight" in state  # others number their levels the other way round
    )


class HunyuanAutoencoder:
    """Encodes and decodes; the same calls as `Autoencoder`.

    Attributes:
        channels: of a latent.
        factor: pixels of a side for one of the latent.
        model: diffusers'.

    Raises:
        NodeProblem: the tensors are those of no such autoencoder.
    """

    def __init__(self, state: State) -> None:
        from diffusers.models.autoencoders.autoencoder_kl_hunyuanimage import AutoencoderKLHunyuanImage

        if not is_hunyuan_autoencoder(state):
            raise NodeProblem(
                "the file holds no autoencoder of HunyuanImage",
                remedy="choose one that does, such as hunyuan_image_2.1_vae",
            )
        try:
            config = configuration(state)
            with torch.device("meta"):
                self.model: Any = AutoencoderKLHunyuanImage(**config)
            self.model.load_state_dict(renamed(state, layers=config["layers_per_block"]), assign=True)
        except (RuntimeError, KeyError, ValueError) as error:
            raise NodeProblem("the autoencoder's file is not whole", remedy="fetch the file again") from error
        self.model.eval()
        self.channels: int = config["latent_channels"]
        self.factor: int = config["spatial_compression_ratio"]

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
        moments: torch.Tensor = self.model.encoder(pixels)
        return moments.chunk(2, dim=1)[0]

    def decode(self, latent: torch.Tensor) -> torch.Tensor:
        """The image [batch, height, width, 3] in 0..1 of a latent [batch, channels, rows, columns]."""
        if latent.shape[1] != self.channels:
            raise NodeProblem(
                f"the latent has {latent.shape[1]} channels, the autoencoder takes {self.channels}",
                remedy="use the VAE that belongs to the model",
            )
        pixels: torch.Tensor = self.model.decoder(latent)
        return ((pixels + 1.0) / 2.0).clamp(0.0, 1.0).movedim(1, -1)


def configuration(state: State) -> dict[str, Any]:
    """diffusers' settings for these tensors."""
    places = [(int(i), int(j)) for name in state for i, j in re.findall(r"^encoder\.down\.(\d+)\.block\.(\d+)\.", name)]
    levels, layers = 1 + max(level for level, _ in places), 1 + max(layer for _, layer in places)
    widths = tuple(state[f"encoder.down.{level}.block.0.conv1.weight"].shape[0] for level in range(levels))
    shrinks = sum(f"encoder.down.{level}.downsample.conv.weight" in state for level in range(levels))
    return {
        "in_channels": state["encoder.conv_in.weight"].shape[1],
        "out_channels": state["decoder.conv_out.weight"].shape[0],
        "latent_channels": state["decoder.conv_in.weight"].shape[1],
        "block_out_channels": widths,
        "layers_per_block": layers,
        "spatial_compression_ratio": 2**shrinks,
        "sample_size": 2**shrinks,
    }


def renamed(state: State, *, layers: int) -> dict[str, torch.Tensor]:
    """The tensors under diffusers' names, which number residual blocks and changes of size in one row."""
    own: dict[str, torch.Tensor] = {}
    for key, tensor in state.items():
        half, _, path = key.partition(".")
        if half not in ("encoder", "decoder"):
            continue
        path, _, kind = path.rpartition(".")
        in_level = layers + (half == "decoder")
        if found := re.fullmatch(r"(down|up)\.(\d+)\.(?:block\.(\d+)\.(.+)|(?:down|up)sample\.conv)", path):
            number = int(found[2]) * (in_level + 1) + (in_level if found[3] is None else int(found[3]))
            inside = "conv" if found[4] is None else found[4].replace("nin_shortcut", "conv_shortcut")
            name = f"{found[1]}_blocks.{number}.{inside}"
        elif found := re.fullmatch(r"mid\.block_(\d)\.(.+)", path):
            name = f"mid_block.resnets.{int(found[1]) - 1}.{found[2]}"
        elif found := re.fullmatch(r"mid\.attn_1\.(\w+)", path):
            name = f"mid_block.attentions.0.{_ATTENTION.get(found[1], found[1])}"
        else:
            name = path
        own[f"{half}.{name}.{kind}"] = tensor
    return own
