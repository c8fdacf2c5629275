"""The autoencoder of Stable Video Diffusion: pictures one by one into latents, latents of a video into frames together.

The parts are diffusers' `Encoder` and `TemporalDecoder`; names are those of Stability's ``sgm`` (``time_stack``,
``mix_factor``). As ComfyUI 0.33.0 (``comfy/sd.py``) it has no quant_conv, and all latents of a batch are one video.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import torch

from ..problems import NodeProblem

State = Mapping[str, torch.Tensor]

LAYERS = 2  # residual blocks a level in the encoder; the decoder has one more
_ATTENTION = {"norm": "group_norm", "q": "to_q", "k": "to_k", "v": "to_v", "proj_out": "to_out.0"}
_TEMPORAL = {"in_layers.0": "norm1", "in_layers.2": "conv1", "out_layers.0": "norm2", "out_layers.3": "conv2"}


def is_video_autoencoder(state: State) -> bool:
    """Whether these tensors, named as in ``first_stage_model``, have a decoder that looks along the frames."""
    return "decoder.mid.block_1.mix_factor" in state


class VideoAutoencoder:
    """Encodes pictures and decodes videos; the same calls as `Autoencoder`.

    Args:
        state: the tensors, named as in ``first_stage_model`` (``decoder.mid.block_1.mix_factor``…).

    Attributes:
        channels: of a latent.
        factor: pixels of a side for one of the latent.
        model: both halves, as one module.

    Raises:
        NodeProblem: the tensors are those of no such autoencoder.
    """

    def __init__(self, state: State) -> None:
        from diffusers.models.autoencoders.autoencoder_kl_temporal_decoder import TemporalDecoder
        from diffusers.models.autoencoders.vae import Encoder

        if not is_video_autoencoder(state):
            raise NodeProblem("the file holds no autoencoder for video", remedy="choose one of Stable Video Diffusion")
        numbers = [int(found[1]) for name in state if (found := re.match(r"encoder\.down\.(\d+)\.", name))]
        levels = 1 + max(numbers, default=-1)
        try:
            widths = tuple(state[f"encoder.down.{level}.block.0.conv1.weight"].shape[0] for level in range(levels))
            self.channels: int = state["decoder.conv_in.weight"].shape[1]
            self.factor = 2 ** (levels - 1)
            encoder = Encoder(
                in_channels=state["encoder.conv_in.weight"].shape[1],
                out_channels=self.channels,
                down_block_types=("DownEncoderBlock2D",) * levels,
                block_out_channels=widths,
                layers_per_block=LAYERS,
            )
            decoder = TemporalDecoder(
                in_channels=self.channels,
                out_channels=state["decoder.conv_out.weight"].shape[0],
                block_out_channels=widths,
                layers_per_block=LAYERS,
            )
            self.model: Any = torch.nn.ModuleDict({"encoder": encoder, "decoder": decoder}).eval()
            self.model.load_state_dict(renamed(state, levels))
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
        moments: torch.Tensor = self.model["encoder"](pixels)
        return moments.chunk(2, dim=1)[0]

    def decode(self, latent: torch.Tensor) -> torch.Tensor:
        """The frames [frames, height, width, 3] in 0..1 of a video's latent [frames, channels, rows, columns]."""
        if latent.shape[1] != self.channels:
            raise NodeProblem(
                f"the latent has {latent.shape[1]} channels, the autoencoder takes {self.channels}",
                remedy="use the VAE that belongs to the model",
            )
        frames = latent.shape[0]
        still = torch.zeros(1, frames, device=latent.device)
        pixels: torch.Tensor = self.model["decoder"](latent, image_only_indicator=still, num_frames=frames)
        return ((pixels + 1.0) / 2.0).clamp(0.0, 1.0).movedim(1, -1)


def renamed(state: State, levels: int) -> dict[str, torch.Tensor]:
    """The tensors under diffusers' names; a 1 x 1 convolution in the attention becomes a matrix."""
    own: dict[str, torch.Tensor] = {}
    for key, tensor in state.items():
        half, _, path = key.partition(".")
        if half not in ("encoder", "decoder"):
            continue  # quant_conv and its like are not used, as in ComfyUI
        path, _, kind = path.rpartition(".")
        if kind == "mix_factor":
            path = f"{path}.time_mixer"
        if found := re.fullmatch(r"mid\.attn_1\.(\w+)", path):
            name = f"mid_block.attentions.0.{_ATTENTION.get(found[1], found[1])}"
            tensor = tensor.squeeze(-1).squeeze(-1) if tensor.ndim == 4 else tensor
        elif found := re.fullmatch(r"mid\.block_(\d)\.(.+)", path):
            name = f"mid_block.resnets.{int(found[1]) - 1}.{_in_block(found[2], half)}"
        elif found := re.fullmatch(r"down\.(\d+)\.block\.(\d+)\.(.+)", path):
            name = f"down_blocks.{found[1]}.resnets.{found[2]}.{_in_block(found[3], half)}"
        elif found := re.fullmatch(r"up\.(\d+)\.block\.(\d+)\.(.+)", path):
            name = f"up_blocks.{levels - 1 - int(found[1])}.resnets.{found[2]}.{_in_block(found[3], half)}"
        elif found := re.fullmatch(r"down\.(\d+)\.downsample\.conv", path):
            name = f"down_blocks.{found[1]}.downsamplers.0.conv"
        elif found := re.fullmatch(r"up\.(\d+)\.upsample\.conv", path):
            name = f"up_blocks.{levels - 1 - int(found[1])}.upsamplers.0.conv"
        else:
            name = {"norm_out": "conv_norm_out", "conv_out.time_mix_conv": "time_conv_out"}.get(path, path)
        own[f"{half}.{name}.{kind}"] = tensor
    return own


def _in_block(path: str, half: str) -> str:
    if half == "decoder" and path.startswith("time_stack."):
        return f"temporal_res_block.{_TEMPORAL.get(path.removeprefix('time_stack.'), path)}"
    path = path.replace("nin_shortcut", "conv_shortcut")
    return path if half == "encoder" or path == "time_mixer" else f"spatial_res_block.{path}"
