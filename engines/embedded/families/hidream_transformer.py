"""HiDream-I1's and E1's transformer, built from a file's tensors with diffusers' `HiDreamImageTransformer2DModel`.

Blocks, widths and experts are counted (ComfyUI 0.33.0 always makes 16 and 32 blocks). The file's names are diffusers'
own. A picture of any shape is one row of patches, without padding, as ComfyUI has it; the edit models see the picture
to edit at the right of the one that they make.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import torch

from ..diffusion.weights import fill

State = Mapping[str, torch.Tensor]

HEAD_SIZE = 128
PATCH = 2
ROPE_AXES = (64, 32, 32)
LLAMA_LAYERS = 32  # of Llama 3.1 8B; the blocks beyond take the last
ACTIVE_EXPERTS = 2


def is_hidream(names: Mapping[str, Any]) -> bool:
    """Whether names of tensors are those of this transformer."""
    return "caption_projection.0.linear.weight" in names and "x_embedder.proj.weight" in names


def configuration(state: State) -> dict[str, Any]:
    """diffusers' settings for these tensors."""
    width, patch = state["x_embedder.proj.weight"].shape
    double, single = _count(state, "double_stream_blocks"), _count(state, "single_stream_blocks")
    routed = _count(state, r"double_stream_blocks\.0\.block\.ff_i\.experts")
    captions = _count(state, "caption_projection")
    return {
        "patch_size": PATCH,
        "in_channels": patch // PATCH**2,
        "out_channels": state["final_layer.linear.weight"].shape[0] // PATCH**2,
        "num_layers": double,
        "num_single_layers": single,
        "attention_head_dim": HEAD_SIZE,
        "num_attention_heads": width // HEAD_SIZE,
        "caption_channels": [
            state[f"caption_projection.{captions - 1}.linear.weight"].shape[1],
            state["caption_projection.0.linear.weight"].shape[1],
        ],
        "text_emb_dim": state["p_embedder.pooled_embedder.linear_1.weight"].shape[1],
        "num_routed_experts": routed,
        "num_activated_experts": min(ACTIVE_EXPERTS, routed),
        "axes_dims_rope": ROPE_AXES,
        "max_resolution": (128, 128),
        "llama_layers": [min(block, LLAMA_LAYERS - 1) for block in range(double + single)],
    }


def _count(state: State, prefix: str) -> int:
    numbers = [int(found[1]) for name in state if (found := re.match(rf"{prefix}\.(\d+)\.", name))]
    return 1 + max(numbers, default=-1)


def build(state: State, *, source: str = "") -> Any:
    """The transformer with these tensors, in their dtype.

    Raises:
        NodeProblem: tensors are missing or of other shapes.
    """
    from diffusers.models.transformers.transformer_hidream_image import HiDreamImageTransformer2DModel

    with torch.device("meta"):
        model: Any = HiDreamImageTransformer2DModel(**configuration(state))
    fill(model, state, what="HiDream's transformer", source=source)
    return model


def predict(
    model: Any,
    x: torch.Tensor,
    timestep: torch.Tensor,
    *,
    t5: torch.Tensor,
    llama: torch.Tensor,
    pooled: torch.Tensor,
    beside: torch.Tensor | None = None,
) -> torch.Tensor:
    """The flow from picture to noise.

    Args:
        model: of `build`.
        x: latent [batch, channels, rows, columns].
        timestep: noise level times 1000 [batch].
        t5: [batch, tokens, width].
        llama: every layer's states [batch, layers, tokens, width].
        pooled: CLIP-L's and CLIP-G's pooled text [batch, width].
        beside: latent of the picture to edit [batch, channels, rows, columns].
    """
    rows, columns = x.shape[-2:]
    wide = x if beside is None else torch.cat([x, beside], dim=-1)
    wide = torch.nn.functional.pad(wide, (0, -wide.shape[-1] % PATCH, 0, -wide.shape[-2] % PATCH), mode="circular")
    batch, channels, height, width = wide.shape
    grid = (height // PATCH, width // PATCH)
    patches = wide.reshape(batch, channels, grid[0], PATCH, grid[1], PATCH).permute(0, 2, 4, 3, 5, 1)
    places = torch.zeros(*grid, 3, device=x.device)
    places[..., 1] = torch.arange(grid[0], device=x.device)[:, None]
    places[..., 2] = torch.arange(grid[1], device=x.device)[None, :]
    # A mask of ones keeps diffusers from padding what is not square.
    flow: torch.Tensor = model(
        hidden_states=patches.reshape(batch, grid[0] * grid[1], -1),
        timesteps=timestep,
        encoder_hidden_states_t5=t5,
        encoder_hidden_states_llama3=llama.movedim(1, 0),
        pooled_embeds=pooled,
        img_ids=places.reshape(1, -1, 3).expand(batch, -1, -1),
        img_sizes=[grid] * batch,
        hidden_states_masks=torch.ones(batch, grid[0] * grid[1], dtype=x.dtype, device=x.device),
        return_dict=False,
    )[0]
    return -flow[..., :rows, :columns]
