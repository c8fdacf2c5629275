"""The autoencoder of Wan 2.1, which Qwen-Image has too: [batch, 16, frames, rows, columns], four frames to one.

The model is diffusers' `AutoencoderKLQwenImage`, names are converted by diffusers, the width is read from shapes.
Behaviour of ComfyUI 0.33.0 ``comfy/sd.py`` and ``comfy/ldm/wan/vae.py``.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from ..diffusion.encoders import Coder
from ..diffusion.weights import State, Weights, fill
from ..problems import NodeProblem

SHRINKS_TIME = (False, True, True)  # at each halving of the sides


class WanCoder(Coder):
    """Pictures and videos into latents, and back.

    Args:
        channels: of a latent.
        source: the file's name, for messages.
    """

    factor = 8
    dimensions = 3
    frames = 4

    def __init__(self, *, channels: int = 16, source: str = "") -> None:
        self.channels = channels
        self._source = source

    def build(self, state: State) -> Any:
        """diffusers' module. Raises `NodeProblem` where tensors are missing or of other shapes."""
        from diffusers.loaders import single_file_utils
        from diffusers.models.autoencoders.autoencoder_kl_qwenimage import AutoencoderKLQwenImage

        pictures, width = state["encoder.conv1.weight"].shape[1], state["decoder.head.0.gamma"].shape[0]
        if state["decoder.head.2.weight"].shape[0] != pictures:
            raise NodeProblem(
                f"the autoencoder {self._source!r} takes pictures of {pictures} channels and gives others",
                remedy="run it on a ComfyUI",
            )
        with torch.device("meta"):
            module = AutoencoderKLQwenImage(
                base_dim=width,
                z_dim=self.channels,
                temperal_downsample=list(SHRINKS_TIME),
                input_channels=pictures,
            )
        convert: Any = single_file_utils.convert_wan_vae_to_diffusers  # it has no types
        fill(module, convert(dict(state)), what="the autoencoder", source=self._source)
        _without_padding(module)
        return module

    def encode(self, module: Any, pixels: torch.Tensor) -> torch.Tensor:
        """See `Coder.encode`: the mean. Of the frames, one and then each four make one of the latent."""
        frames = (pixels * 2.0 - 1.0).movedim(-1, 0).unsqueeze(0)
        wanted = module.config.input_channels
        if frames.shape[1] < wanted:  # the pictures are opaque
            frames = torch.nn.functional.pad(frames, (0, 0, 0, 0, 0, 0, 0, wanted - frames.shape[1]), value=1.0)
        frames = frames[:, :wanted]
        if frames.shape[2] < 1 + self.frames:
            moments: torch.Tensor = module.quant_conv(module.encoder(frames[:, :, :1]))
        else:
            moments = module.encode(frames[:, :, : 1 + (frames.shape[2] - 1) // 4 * 4]).latent_dist.parameters
        return moments.chunk(2, dim=1)[0]

    def decode(self, module: Any, latent: torch.Tensor) -> torch.Tensor:
        """See `Coder.decode`."""
        if latent.shape[2] == 1:
            pixels: torch.Tensor = module.decoder(module.post_quant_conv(latent))
        else:
            pixels = module.decode(latent).sample
        return ((pixels + 1.0) / 2.0).movedim(1, -1)

    def activation_bytes(self, shape: Sequence[int], item: int) -> int:
        """See `Coder.activation_bytes`; ComfyUI 0.33.0 reckons the same (``comfy/sd.py``)."""
        return (2200 if shape[2] <= 4 else 7000) * shape[0] * shape[3] * shape[4] * self.factor**2 * item


def wan_coder(weights: Weights) -> WanCoder | None:
    """The autoencoder in these tensors, named without prefix; None where it is another one (Wan 2.2's is)."""
    later = "decoder.upsamples.0.upsamples.0.residual.2.weight"
    if "decoder.middle.0.residual.0.gamma" not in weights or later in weights or "conv2.weight" not in weights:
        return None
    return WanCoder(channels=weights.shape("conv2.weight")[0], source=weights.source)


def _without_padding(module: Any) -> None:
    """Let convolutions leave out the frames of zeros before a first frame: two thirds of their work is for nothing."""
    from diffusers.models.autoencoders.autoencoder_kl_qwenimage import QwenImageCausalConv3d

    class Causal(QwenImageCausalConv3d):  # type: ignore[misc] # the type checker does not read diffusers
        def forward(self, x: torch.Tensor, cache_x: torch.Tensor | None = None) -> torch.Tensor:
            if cache_x is not None or x.shape[2] != 1 or self.stride[0] != 1:
                whole: torch.Tensor = super().forward(x, cache_x)
                return whole
            left, _, top, *_ = self._padding  # right as left, below as above
            return torch.nn.functional.conv3d(
                x, self.weight[:, :, -1:], self.bias, stride=self.stride, padding=(0, top, left)
            )

    for part in module.modules():
        if type(part) is QwenImageCausalConv3d:
            part.__class__ = Causal
