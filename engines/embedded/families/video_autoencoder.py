"""The autoencoder of Stable Video Diffusion: pictures one by one into latents, latents of a video into frames together.

The parts are diffusers' `Encoder` and `TemporalDecoder`; names are those of Stability's ``sgm`` (``time_stack``,
``mix_factor``). As ComfyUI 0.33.0 (``comfy/sd.py``) it has no quant_conv, and all latents of a batch are one video.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

import torch

from ..diffusion.encoders import Coder
from ..diffusion.weights import State, Weights, fill

LAYERS = 2  # residual blocks a level in the encoder; the decoder has one more
_ATTENTION = {"norm": "group_norm", "q": "to_q", "k": "to_k", "v": "to_v", "proj_out": "to_out.0"}
_TEMPORAL = {"in_layers.0": "norm1", "in_layers.2": "conv1", "out_layers.0": "norm2", "out_layers.3": "conv2"}


class VideoCoder(Coder):
    """Pictures one by one into latents; the latents of a batch, which are one video, into frames together.

    Args:
        channels: of a latent.
        levels: of width in either half.
        source: the file's name, for messages.
    """

    together = True

    def __init__(self, *, channels: int, levels: int, source: str = "") -> None:
        self.channels = channels
        self.factor = 2 ** (levels - 1)
        self._levels = levels
        self._source = source

    def build(self, state: State) -> Any:
        """Both halves as one module. Raises `NodeProblem` where tensors are missing or of other shapes."""
        from diffusers.models.autoencoders.autoencoder_kl_temporal_decoder import TemporalDecoder
        from diffusers.models.autoencoders.vae import Encoder

        widths = tuple(  # `fill` names what is missing
            state.get(f"encoder.down.{level}.block.0.conv1.weight", state["decoder.conv_in.weight"]).shape[0]
            for level in range(self._levels)
        )
        with torch.device("meta"):
            encoder = Encoder(
                in_channels=3,
                out_channels=self.channels,
                down_block_types=("DownEncoderBlock2D",) * self._levels,
                block_out_channels=widths,
                layers_per_block=LAYERS,
            )
            decoder = TemporalDecoder(
                in_channels=self.channels, out_channels=3, block_out_channels=widths, layers_per_block=LAYERS
            )
        module = torch.nn.ModuleDict({"encoder": encoder, "decoder": decoder})
        fill(module, renamed(state, self._levels), what="the autoencoder for video", source=self._source)
        return module

    def encode(self, module: Any, pixels: torch.Tensor) -> torch.Tensor:
        """See `Coder.encode`: the mean, each picture by itself."""
        moments: torch.Tensor = module["encoder"](pixels.movedim(-1, 1) * 2.0 - 1.0)
        return moments.chunk(2, dim=1)[0]

    def decode(self, module: Any, latent: torch.Tensor) -> torch.Tensor:
        """See `Coder.decode`: the batch are the frames of one video."""
        frames = latent.shape[0]
        still = torch.zeros(1, frames, device=latent.device)  # none of them is a picture of its own
        pixels: torch.Tensor = module["decoder"](latent, image_only_indicator=still, num_frames=frames)
        return ((pixels + 1.0) / 2.0).movedim(1, -1)

    def activation_bytes(self, shape: Sequence[int], item: int) -> int:
        """See `Coder.activation_bytes`; ComfyUI 0.33.0 reckons the same (``comfy/sd.py``)."""
        return 2178 * shape[0] * shape[2] * shape[3] * self.factor**2 * item


def video_coder(weights: Weights) -> VideoCoder | None:
    """The autoencoder in these tensors (``first_stage_model``'s names); None where its decoder sees single frames."""
    if "decoder.mid.block_1.mix_factor" not in weights or "decoder.conv_in.weight" not in weights:
        return None
    numbers = [int(found[1]) for name in weights if (found := re.match(r"encoder\.down\.(\d+)\.", name))]
    levels = 1 + max(numbers, default=0)
    return VideoCoder(channels=weights.shape("decoder.conv_in.weight")[1], levels=levels, source=weights.source)


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
