"""HunyuanImage 2.1's autoencoder: one latent of 64 channels for 32 x 32 pixels.

The model is diffusers' `AutoencoderKLHunyuanImage`; sizes are read from shapes, names are those of the published file
and of ComfyUI 0.33.0 (``comfy/ldm/hunyuan_video/vae.py``).
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

import torch

from ..diffusion.encoders import Coder
from ..diffusion.weights import State, Weights, fill

_ATTENTION = {"q": "to_q", "k": "to_k", "v": "to_v", "proj_out": "proj"}


class HunyuanCoder(Coder):
    """Pictures into latents of 64 channels, and back.

    Args:
        channels: of a latent.
        factor: pixels of a side for one of the latent.
        source: the file's name, for messages.
    """

    def __init__(self, *, channels: int, factor: int, source: str = "") -> None:
        self.channels = channels
        self.factor = factor
        self._source = source

    def build(self, state: State) -> Any:
        """diffusers' module. Raises `NodeProblem` where tensors are missing or of other shapes."""
        from diffusers.models.autoencoders.autoencoder_kl_hunyuanimage import AutoencoderKLHunyuanImage

        config = configuration(state)
        with torch.device("meta"):
            module = AutoencoderKLHunyuanImage(**config)
        named = renamed(state, layers=config["layers_per_block"])
        fill(module, named, what="HunyuanImage's autoencoder", source=self._source)
        return module

    def encode(self, module: Any, pixels: torch.Tensor) -> torch.Tensor:
        """See `Coder.encode`: the mean."""
        moments: torch.Tensor = module.encoder(pixels.movedim(-1, 1) * 2.0 - 1.0)
        return moments.chunk(2, dim=1)[0]

    def decode(self, module: Any, latent: torch.Tensor) -> torch.Tensor:
        """See `Coder.decode`."""
        pixels: torch.Tensor = module.decoder(latent)
        return ((pixels + 1.0) / 2.0).movedim(1, -1)

    def activation_bytes(self, shape: Sequence[int], item: int) -> int:
        """See `Coder.activation_bytes`; ComfyUI 0.33.0 reckons the same (``comfy/sd.py``)."""
        return 700 * shape[0] * shape[2] * shape[3] * self.factor**2 * item


def hunyuan_coder(weights: Weights) -> HunyuanCoder | None:
    """The autoencoder in these tensors, named without prefix; None where it is another one.

    It shuffles pixels where others pool them, and numbers the decoder's levels from the latent on.
    """
    names = ("encoder.conv_out.weight", "encoder.down.0.downsample.conv.weight", "decoder.up.0.upsample.conv.weight")
    first = "decoder.conv_in.weight"
    if not all(name in weights for name in (*names, first)) or len(weights.shape(first)) != 4:
        return None
    shrinks = sum(name.startswith("encoder.down.") and name.endswith(".downsample.conv.weight") for name in weights)
    return HunyuanCoder(channels=weights.shape(first)[1], factor=2**shrinks, source=weights.source)


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
