"""DiffSynth's block-wise control of Qwen-Image: a small network beside each block that is shown a picture's latent.

diffusers has no class for it; it is two norms and two linear layers a block. Behaviour of ComfyUI 0.33.0
``comfy_extras/nodes_model_patch.py`` (`QwenImageBlockWiseControlNet`, `DiffSynthCnetPatch`).
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from ..diffusion.encoders import Vae
from ..diffusion.weights import Component, State, Weights, fill
from ..problems import NodeProblem
from ..resize import resize
from .qwen_image import WAN_LATENT, QwenImage
from .qwen_transformer import PATCH, patched

_MARK = "controlnet_blocks.0.y_rms.weight"


class BlockControl(nn.Module):
    """What a picture adds after one block.

    Args:
        width: of the model.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.x_rms = nn.RMSNorm(width, eps=1e-6)
        self.y_rms = nn.RMSNorm(width, eps=1e-6)
        self.input_proj = nn.Linear(width, width)
        self.output_proj = nn.Linear(width, width)

    def forward(self, tokens: torch.Tensor, picture: torch.Tensor) -> torch.Tensor:
        """Both are [batch, count, width]."""
        added: torch.Tensor = self.input_proj(self.x_rms(tokens) + self.y_rms(picture))
        shown: torch.Tensor = self.output_proj(nn.functional.gelu(added))
        return shown


class BlockwiseControl(nn.Module):
    """One `BlockControl` for each block of the model.

    Args:
        state: the tensors; used as they are, not copied.

    Attributes:
        mask_channels: of the mask that is joined to the latent, for inpainting; else 0.

    Raises:
        NodeProblem: the tensors are those of no such network.
    """

    def __init__(self, state: State) -> None:
        super().__init__()
        width, channels = state["img_in.weight"].shape
        self.mask_channels = channels // PATCH**2 - WAN_LATENT.channels
        numbers = [int(found[1]) for name in state if (found := re.match(r"controlnet_blocks\.(\d+)\.", name))]
        with torch.device("meta"):
            self.img_in = nn.Linear(channels, width)
            self.controlnet_blocks = nn.ModuleList(BlockControl(width) for _ in range(1 + max(numbers)))
        fill(self, state, what="the model patch")

    def shown(self, latent: torch.Tensor) -> torch.Tensor:
        """The tokens [batch, count, width] of a picture's latent [batch, channels, 1, rows, columns]."""
        tokens: torch.Tensor = self.img_in(patched(latent)[0])
        return tokens


@dataclass(frozen=True, kw_only=True, slots=True, eq=False, weakref_slot=True)
class ModelPatch:
    """What a MODEL_PATCH wire carries."""

    component: Component

    def resident_bytes(self) -> int:
        """See `Component.resident_bytes`."""
        return self.component.resident_bytes()


def model_patch(weights: Weights) -> ModelPatch:
    """The patch in a file. Raises `NodeProblem` where it is none that the engine knows."""
    if _MARK not in weights:
        raise NodeProblem(
            f"{weights.source!r} holds no model patch that the embedded engine knows",
            remedy="choose a Qwen-Image DiffSynth control, or run it on a ComfyUI",
        )
    return ModelPatch(
        component=Component(weights=weights, build=BlockwiseControl, role="control", dtypes=QwenImage.dtypes)
    )


class PictureControl:
    """A `BlockPatch` of Qwen-Image's transformer: adds what the patch makes of a picture.

    Args:
        image: [batch, height, width, 3] in 0..1.
        mask: 1 where the picture is kept [batch, 1, 1, height, width], for inpainting patches.
    """

    def __init__(
        self, *, patch: ModelPatch, vae: Vae, image: torch.Tensor, strength: float, mask: torch.Tensor | None = None
    ) -> None:
        self._patch = patch
        self._vae = vae
        self._image = image
        self._strength = strength
        self._mask = mask
        self._tokens: torch.Tensor | None = None
        self._size: tuple[int, ...] = ()

    def __call__(self, tokens: torch.Tensor, latent: torch.Tensor, number: int) -> torch.Tensor:
        """See `BlockPatch`."""
        loaded = self._patch.component.loaded()
        module: BlockwiseControl = loaded.module
        if number >= len(module.controlnet_blocks):
            raise NodeProblem(
                f"the model patch {self._patch.component.source!r} has {len(module.controlnet_blocks)} blocks, "
                "the model has more",
                remedy="use it with the model that it was made for",
            )
        size = tuple(side * self._vae.coder.factor for side in latent.shape[-2:])
        if self._tokens is None or self._size != size:
            encoded = self._encoded(size, module.mask_channels)
            self._tokens = module.shown(encoded.to(loaded.device, loaded.dtype))
            self._size = size
        first = tokens[:, : self._tokens.shape[1]]
        added = module.controlnet_blocks[number](first.to(loaded.device, loaded.dtype), self._tokens)
        return torch.cat([first + added.to(tokens) * self._strength, tokens[:, first.shape[1] :]], dim=1)

    def _encoded(self, size: tuple[int, ...], mask_channels: int) -> torch.Tensor:
        from ..diffusion.autoencoding import encode

        height, width = size
        image = self._image
        if tuple(image.shape[1:3]) != size:
            image = resize(image.movedim(-1, 1), width, height, "area", "center").movedim(1, -1)
        latent: Any = WAN_LATENT.enter(encode(self._vae, image))
        if mask_channels <= 0:
            return latent  # type: ignore[no-any-return]
        if self._mask is None:
            mask = torch.ones_like(latent)[:, :mask_channels]
        else:
            planes = self._mask.mean(dim=1)
            mask = resize(planes, latent.shape[-1], latent.shape[-2], "bilinear").unsqueeze(2).to(latent)
        return torch.cat([latent, mask], dim=1)
