"""The autoencoders of Stable Diffusion, SDXL, SD 3.5 and FLUX.1: AutoencoderKL, and the tiny TAESD.

Behaviour: ComfyUI ``comfy/sd.py`` (`VAE`) and ``comfy/taesd/taesd.py``. The models are diffusers'.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from ..autoencoder import configuration
from ..diffusion.encoders import Coder
from ..diffusion.weights import State, Weights, fill
from ..problems import NodeProblem

_TINY_WIDTH = 64


class KlCoder(Coder):
    """diffusers' AutoencoderKL; the latent is the mean of what it says."""

    def __init__(self, weights: Weights) -> None:
        config = configuration(_Shapes(weights))
        self.channels = config["latent_channels"]
        self.factor = 2 ** (len(config["block_out_channels"]) - 1)
        self._source = weights.source

    def build(self, state: State) -> Any:
        """See `Coder.build`."""
        from diffusers.loaders import single_file_utils
        from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL

        config = configuration(state)
        convert: Any = single_file_utils.convert_ldm_vae_checkpoint  # it has no types
        with torch.device("meta"):
            model: Any = AutoencoderKL(**config)
        fill(model, convert(dict(state), config), what="the autoencoder", source=self._source)
        return model

    def encode(self, module: Any, pixels: torch.Tensor) -> torch.Tensor:
        """See `Coder.encode`."""
        latent: torch.Tensor = module.encode(pixels.movedim(-1, 1) * 2.0 - 1.0).latent_dist.mode()
        return latent

    def decode(self, module: Any, latent: torch.Tensor) -> torch.Tensor:
        """See `Coder.decode`."""
        pixels: torch.Tensor = module.decode(latent, return_dict=False)[0]
        return pixels.add(1.0).div_(2.0).movedim(1, -1)

    def activation_bytes(self, shape: Sequence[int], item: int) -> int:
        """See `Coder.activation_bytes`: ComfyUI's estimate for one picture."""
        return 2178 * shape[-2] * shape[-1] * self.factor**2 * item


class _Shapes(dict[str, torch.Tensor]):
    """Tensors without memory, by name: enough to read a configuration from."""

    def __init__(self, weights: Weights) -> None:
        super().__init__({name: torch.empty(weights.shape(name), device="meta") for name in weights})


class TinyCoder(Coder):
    """diffusers' AutoencoderTiny (TAESD) for any number of latent channels."""

    def __init__(self, weights: Weights) -> None:
        self.channels = weights.shape("taesd_decoder.1.weight")[1]
        self._source = weights.source

    def build(self, state: State) -> Any:
        """See `Coder.build`."""
        from diffusers.models.autoencoders.autoencoder_tiny import AutoencoderTiny

        with torch.device("meta"):
            model: Any = AutoencoderTiny(latent_channels=state["taesd_decoder.1.weight"].shape[1])
        own: dict[str, torch.Tensor] = {}
        for name in state:
            part, _, rest = name.partition(".")
            number, _, last = rest.partition(".")
            if part == "taesd_encoder":
                own[f"encoder.layers.{rest}"] = state[name]
            elif part == "taesd_decoder":  # its first layer, a clamp, is a part of diffusers' forward
                own[f"decoder.layers.{int(number) - 1}.{last}"] = state[name]
        fill(model, own, what="the autoencoder", source=self._source)
        model.atelier_scale = float(state["vae_scale"]) if "vae_scale" in state else 1.0
        model.atelier_shift = float(state["vae_shift"]) if "vae_shift" in state else 0.0
        return model

    def encode(self, module: Any, pixels: torch.Tensor) -> torch.Tensor:
        """See `Coder.encode`."""
        latent: torch.Tensor = module.encoder.layers(pixels.movedim(-1, 1))
        scaled: torch.Tensor = latent / module.atelier_scale + module.atelier_shift
        return scaled

    def decode(self, module: Any, latent: torch.Tensor) -> torch.Tensor:
        """See `Coder.decode`."""
        scaled = (latent - module.atelier_shift) * module.atelier_scale
        pixels: torch.Tensor = module.decoder(scaled)
        return pixels.add(1.0).div_(2.0).movedim(1, -1)


def coder_of(weights: Weights) -> Coder | None:
    """The coder of an autoencoder's tensors, or None where they are of another kind."""
    if "taesd_decoder.1.weight" in weights:
        return TinyCoder(weights)
    if "decoder.conv_in.weight" not in weights or len(weights.shape("decoder.conv_in.weight")) != 4:
        return None
    # HunyuanImage's (factor 32) has no middle attention of this layout; Stable Video Diffusion's mixes frames
    if "decoder.mid.block_1.mix_factor" in weights or "decoder.up.0.block.0.conv1.weight" not in weights:
        return None
    if weights.shape("decoder.conv_in.weight")[1] == 64:
        return None
    try:
        return KlCoder(weights)
    except NodeProblem as problem:
        raise NodeProblem(f"{weights.source!r}: {problem.message}", remedy=problem.remedy) from problem
