"""The model's parts, as diffusers' and transformers' classes build them.

A file's header names the settings a part was built from, so that what a file holds is rebuilt from the file alone; the
numbers here are what `train` builds.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from . import weights
from .words import BEGIN, END, LENGTH, PAD, VOCABULARY

if TYPE_CHECKING:
    import torch
    from diffusers import AutoencoderTiny, ControlNetModel, UNet2DConditionModel
    from transformers import CLIPTextModel

LATENT_CHANNELS = 4
SCALE = 8  # pixels a latent place covers, along a side
SIDE = 256  # of the pictures that the model learns from, in pixels
TEXT_WIDTH = 96
CHANNELS = (32, 96, 112)
SHIFT = 2.0  # how much of the way from noise to picture is spent where there is more noise than picture

AUTOENCODER: dict[str, Any] = {
    "latent_channels": LATENT_CHANNELS,
    "encoder_block_out_channels": (32, 32, 32, 32),
    "decoder_block_out_channels": (32, 32, 32, 32),
    "num_encoder_blocks": (1, 1, 2, 2),
    "num_decoder_blocks": (2, 2, 2, 1),
}

UNET: dict[str, Any] = {
    "sample_size": SIDE // SCALE,
    "in_channels": LATENT_CHANNELS,
    "out_channels": LATENT_CHANNELS,
    "layers_per_block": 1,
    "block_out_channels": CHANNELS,
    # Words are heard at the smallest size alone, where a place is 32 pixels: what goes where is decided there, and the
    # larger sizes, the dear ones, draw it.
    "down_block_types": ("DownBlock2D", "DownBlock2D", "CrossAttnDownBlock2D"),
    "up_block_types": ("CrossAttnUpBlock2D", "UpBlock2D", "UpBlock2D"),
    "cross_attention_dim": TEXT_WIDTH,
    "attention_head_dim": 4,
    "norm_num_groups": 8,
    # What the text is as a whole (its vector at the caption's end) is told to every block beside the time: colours of
    # whole pictures are learned sooner so.
    "class_embed_type": "simple_projection",
    "projection_class_embeddings_input_dim": TEXT_WIDTH,
}

CONTROL: dict[str, Any] = {
    "in_channels": LATENT_CHANNELS,
    "layers_per_block": 1,
    "block_out_channels": CHANNELS,
    "down_block_types": UNET["down_block_types"],
    "cross_attention_dim": TEXT_WIDTH,
    "attention_head_dim": 4,
    "norm_num_groups": 8,
    "conditioning_embedding_out_channels": (16, 24, 32, 48),
}

TEXT: dict[str, Any] = {
    "vocab_size": len(VOCABULARY),
    "hidden_size": TEXT_WIDTH,
    "intermediate_size": 3 * TEXT_WIDTH,
    "projection_dim": TEXT_WIDTH,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "max_position_embeddings": LENGTH,
    "hidden_act": "quick_gelu",
    "pad_token_id": PAD,
    "bos_token_id": BEGIN,
    "eos_token_id": END,
}


def autoencoder(settings: dict[str, Any] | None = None) -> AutoencoderTiny:
    """Pictures [batch, 3, rows, columns] in -1..1 to latents [batch, 4, rows / 8, columns / 8] and back."""
    from diffusers import AutoencoderTiny

    return AutoencoderTiny(**(settings or AUTOENCODER))


def heard(encoder: Any, numbers: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """A text as the denoiser is told it: [batch, LENGTH, TEXT_WIDTH], and the vector at the end [batch, TEXT_WIDTH]."""
    text = encoder(input_ids=numbers).last_hidden_state
    return text, at_end(text, numbers)


def at_end(text: torch.Tensor, numbers: torch.Tensor) -> torch.Tensor:
    """The vectors of a text at the (first) end of each row of numbers."""
    ends = (numbers == END).int().argmax(dim=1)
    return text[range(len(ends)), ends]


def unet(settings: dict[str, Any] | None = None) -> UNet2DConditionModel:
    """The denoiser: what a noisy latent's noise is, less its picture (a rectified flow's direction)."""
    from diffusers import UNet2DConditionModel

    return UNet2DConditionModel(**(settings or UNET))


def control(settings: dict[str, Any] | None = None) -> ControlNetModel:
    """The ControlNet for edges, of the U-Net's own shape."""
    from diffusers import ControlNetModel

    return ControlNetModel(**(settings or CONTROL))


def text_encoder(settings: dict[str, Any] | None = None) -> CLIPTextModel:
    """Numbers [batch, LENGTH] to text [batch, LENGTH, TEXT_WIDTH]."""
    from transformers import CLIPTextConfig, CLIPTextModel

    config = CLIPTextConfig(**(settings or TEXT))
    config._attn_implementation = "eager"  # the quicker one at this size, forwards and backwards
    return CLIPTextModel(config)


@dataclass(frozen=True, kw_only=True, slots=True)
class Parts:
    """A whole model, built.

    Attributes:
        mean, deviation: of the autoencoder's latents, one number a channel; the denoiser's are (latent - mean) /
            deviation.
    """

    unet: UNet2DConditionModel
    autoencoder: AutoencoderTiny
    text: CLIPTextModel
    mean: tuple[float, ...]
    deviation: tuple[float, ...]

    def enter(self, latents: torch.Tensor) -> torch.Tensor:
        """The autoencoder's latents as the denoiser takes them."""
        return (latents - self._wide(self.mean, latents)) / self._wide(self.deviation, latents)

    def leave(self, latents: torch.Tensor) -> torch.Tensor:
        """The denoiser's latents as the autoencoder takes them."""
        return latents * self._wide(self.deviation, latents) + self._wide(self.mean, latents)

    def _wide(self, numbers: tuple[float, ...], like: torch.Tensor) -> torch.Tensor:
        return like.new_tensor(numbers)[None, :, None, None]


@dataclass(frozen=True, kw_only=True, slots=True)
class Preview:
    """A rough picture of a latent: red, green and blue (-1..1) of each channel of the denoiser's latents; a bias."""

    colours: tuple[tuple[float, float, float], ...]
    bias: tuple[float, float, float]


def text_state(module: CLIPTextModel) -> dict[str, torch.Tensor]:
    """The text encoder's tensors as a file names them: transformers 4 has ``text_model.`` before them, 5 has not."""
    return {
        name.removeprefix("text_model."): tensor
        for name, tensor in module.state_dict().items()
        if not name.endswith("position_ids")
    }


def fill_text(module: CLIPTextModel, state: Mapping[str, torch.Tensor]) -> None:
    """Load tensors of `text_state` into a text encoder of either transformers."""
    own = module.state_dict()
    prefix = "text_model." if any(name.startswith("text_model.") for name in own) else ""
    missing = module.load_state_dict({prefix + name: tensor for name, tensor in state.items()}, strict=False)
    if missing.unexpected_keys or any(not name.endswith("position_ids") for name in missing.missing_keys):
        raise ValueError(f"the text encoder's tensors do not fit: {[*missing.missing_keys, *missing.unexpected_keys]}")


def load_parts(path: Path) -> Parts:
    """The model in a checkpoint of this kind, in float32 on the CPU."""
    tensors, metadata = weights.load(path)
    parts = Parts(
        unet=unet(weights.setting(metadata, "network")),
        autoencoder=autoencoder(weights.setting(metadata, "autoencoder")),
        text=text_encoder(weights.setting(metadata, "text")),
        mean=tuple(weights.setting(metadata, "mean")),
        deviation=tuple(weights.setting(metadata, "deviation")),
    )
    parts.unet.load_state_dict(weights.below(tensors, weights.PREFIXES["network"]))
    parts.autoencoder.load_state_dict(weights.below(tensors, weights.PREFIXES["autoencoder"]))
    fill_text(parts.text, weights.below(tensors, weights.PREFIXES["text"]))
    for module in (parts.unet, parts.autoencoder, parts.text):
        module.eval()
    return parts


def save_parts(parts: Parts, path: Path, made: Mapping[str, Any], preview: Preview) -> None:
    """Write a whole model to a checkpoint; ``made`` goes into its header."""
    modules = {
        "network": parts.unet.state_dict(),
        "autoencoder": parts.autoencoder.state_dict(),
        "text": text_state(parts.text),
    }
    tensors = {weights.PREFIXES[part] + name: value for part, state in modules.items() for name, value in state.items()}
    metadata = weights.header(
        "checkpoint",
        made,
        network=UNET,
        autoencoder=AUTOENCODER,
        text=TEXT,
        mean=parts.mean,
        deviation=parts.deviation,
        shift=SHIFT,
        colours=preview.colours,
        colour_bias=preview.bias,
    )
    weights.save(path, tensors, metadata)
