"""Stable Diffusion 3's transformer (MMDiT), built from a file's tensors with diffusers' classes.

Sizes are read from shapes (heads are 64 wide), so that small models of the layout load too. Behaviour of ComfyUI 0.33.0
``comfy/ldm/modules/diffusionmodules/mmdit.py``: sides that are no multiple of a patch are filled up from the other
side, ControlNets may add to the last block too, blocks can be skipped.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence
from typing import Any

import torch
from torch import nn

from ..diffusion.weights import State, fill
from ..problems import NodeProblem
from .mmdit_layout import Piece, block_count, dual_attention, pieces, placed

HEAD_SIZE = 64


def recognised(names: Collection[str]) -> bool:
    """Whether the names (without prefix) are those of such a transformer."""
    return "joint_blocks.0.context_block.attn.qkv.weight" in names


def configuration(state: State) -> dict[str, Any]:
    """diffusers' settings for these tensors, named as in the file without prefix.

    Raises:
        NodeProblem: a tensor that says a size is missing.
    """
    try:
        embedding, context = state["x_embedder.proj.weight"], state["context_embedder.weight"]
        width, patch = embedding.shape[0], embedding.shape[2]
        positions = math.isqrt(state["pos_embed"].shape[1])
        return {
            "sample_size": positions * patch,
            "patch_size": patch,
            "in_channels": embedding.shape[1],
            "out_channels": state["final_layer.linear.weight"].shape[0] // (patch * patch),
            "num_layers": block_count(state),
            "num_attention_heads": width // HEAD_SIZE,
            "attention_head_dim": HEAD_SIZE,
            "joint_attention_dim": context.shape[1],
            "caption_projection_dim": context.shape[0],
            "pooled_projection_dim": state["y_embedder.mlp.0.weight"].shape[1],
            "pos_embed_max_size": positions,
            "dual_attention_layers": dual_attention(state),
            "qk_norm": "rms_norm" if "joint_blocks.0.context_block.attn.ln_q.weight" in state else None,
        }
    except KeyError as error:
        raise NodeProblem(
            f"the model has no tensor {error.args[0]!r}, which Stable Diffusion 3's have",
            remedy="fetch the file again, or run it on a ComfyUI",
        ) from error


class Transformer(nn.Module):
    """Predicts the velocity of a latent.

    Args:
        state: the tensors, named as Stability names them, without prefix (``joint_blocks.0.x_block.attn.qkv.weight``…);
            they are used as they are, not copied.

    Attributes:
        model: diffusers' `SD3Transformer2DModel`.
        layout: where each tensor of the file lies in it, for LoRA.

    Raises:
        NodeProblem: the tensors are those of no such transformer.
    """

    def __init__(self, state: State) -> None:
        super().__init__()
        from diffusers.models.transformers.transformer_sd3 import SD3Transformer2DModel

        config = configuration(state)
        self.patch: int = config["patch_size"]
        self.largest: int = config["pos_embed_max_size"] * self.patch
        self.layout: tuple[Piece, ...] = tuple(pieces(config["num_layers"]))
        with torch.device("meta"):
            self.model: Any = SD3Transformer2DModel(**config)
        fill(self.model, placed(state, self.layout), what="the transformer")

    def forward(
        self,
        latent: torch.Tensor,
        timesteps: torch.Tensor,
        context: torch.Tensor,
        pooled: torch.Tensor,
        *,
        control: Sequence[torch.Tensor | None] = (),
        skip: Collection[int] = (),
    ) -> torch.Tensor:
        """The velocity [batch, channels, rows, columns].

        Args:
            latent: [batch, channels, rows, columns].
            timesteps: [batch], 0 to 1000.
            context: text [batch, tokens, width].
            pooled: pooled text [batch, width].
            control: what to add after each block, [batch, patches, width].
            skip: numbers of blocks to leave out.
        """
        rows, columns = latent.shape[-2:]
        padded = fill_up(latent, self.patch)
        if max(padded.shape[-2:]) > self.largest:
            raise NodeProblem(
                f"the latent is {columns} x {rows}, the model knows positions up to {self.largest} x {self.largest}",
                remedy="make the picture smaller",
            )
        model = self.model
        x = model.pos_embed(padded).contiguous()
        told = model.time_text_embed(timesteps, pooled)
        text = model.context_embedder(context)
        for number, block in enumerate(model.transformer_blocks):
            if number not in skip:
                text, x = block(hidden_states=x, encoder_hidden_states=text, temb=told)
            added = control[number] if number < len(control) else None
            if added is not None:
                x = x + added
        x = model.proj_out(model.norm_out(x, told))
        return unpatched(x, padded.shape[-2:], self.patch)[:, :, :rows, :columns]


def fill_up(latent: torch.Tensor, patch: int) -> torch.Tensor:
    """The latent with its last two sides made multiples of a patch, filled up from their other ends."""
    right, below = -latent.shape[-1] % patch, -latent.shape[-2] % patch
    if not right and not below:
        return latent
    return torch.nn.functional.pad(latent, (0, right, 0, below), mode="circular")


def unpatched(x: torch.Tensor, size: Sequence[int], patch: int) -> torch.Tensor:
    """A latent [batch, channels, *size] of patches [batch, count, patch * patch * channels], channels innermost."""
    rows, columns = size[0] // patch, size[1] // patch
    x = x.reshape(x.shape[0], rows, columns, patch, patch, -1)
    return x.permute(0, 5, 1, 3, 2, 4).reshape(x.shape[0], -1, rows * patch, columns * patch)
