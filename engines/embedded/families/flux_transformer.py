"""FLUX.1's transformer, built from a file's tensors with diffusers' blocks.

Sizes are read from shapes, so that small models of the layout load too. Behaviour of ComfyUI 0.33.0
``comfy/ldm/flux/model.py``: how places are counted, what reference latents are, where ControlNets add.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import nn

from ..diffusion.weights import fill
from ..problems import NodeProblem
from .flux_layout import DOUBLE, SINGLE, State, block_count, pieces, placed

PATCH = 2
AXES = (16, 56, 56)  # of a head's 128 numbers: for the picture's number, its rows and its columns
HEAD_SIZE = sum(AXES)
METHODS = ("offset", "index", "uxo")

_QUERY_NORM = "double_blocks.0.img_attn.norm.query_norm"


def recognised(names: Mapping[str, Any]) -> bool:
    """Whether the names are FLUX.1's transformer's, not those of FLUX.2 (shared modulations) or Chroma (no vector)."""
    return (
        (f"{_QUERY_NORM}.scale" in names or f"{_QUERY_NORM}.weight" in names)
        and "img_in.weight" in names
        and "vector_in.in_layer.weight" in names
        and "double_stream_modulation_img.lin.weight" not in names
    )


def configuration(state: State) -> dict[str, Any]:
    """diffusers' settings for these tensors, named as in the file without prefix.

    Raises:
        NodeProblem: a tensor that says a size is missing, or the width is no multiple of a head's.
    """
    try:
        width, in_channels = state["img_in.weight"].shape
        config = {
            "patch_size": 1,
            "in_channels": in_channels,
            "out_channels": state["final_layer.linear.weight"].shape[0] if "final_layer.linear.weight" in state else 64,
            "num_layers": block_count(state, DOUBLE),
            "num_single_layers": block_count(state, SINGLE),
            "attention_head_dim": HEAD_SIZE,
            "num_attention_heads": width // HEAD_SIZE,
            "joint_attention_dim": state["txt_in.weight"].shape[1],
            "pooled_projection_dim": state["vector_in.in_layer.weight"].shape[1],
            "guidance_embeds": "guidance_in.in_layer.weight" in state,
            "axes_dims_rope": AXES,
        }
    except KeyError as error:
        raise NodeProblem(
            f"the model has no tensor {error.args[0]!r}, which FLUX.1's have",
            remedy="fetch the file again, or run it on a ComfyUI",
        ) from error
    if width % HEAD_SIZE:
        raise NodeProblem(
            f"the model is {width} wide, which is no multiple of {HEAD_SIZE}", remedy="fetch the file again"
        )
    return config


class Transformer(nn.Module):
    """Predicts the velocity of a latent.

    Args:
        state: the tensors, named as Black Forest Labs name them, without prefix; used as they are, not copied.

    Attributes:
        model: diffusers' `FluxTransformer2DModel`.

    Raises:
        NodeProblem: the tensors are those of no such transformer.
    """

    def __init__(self, state: State) -> None:
        super().__init__()
        from diffusers.models.transformers.transformer_flux import FluxTransformer2DModel

        config = configuration(state)
        with torch.device("meta"):
            self.model: Any = FluxTransformer2DModel(**config)
        table = pieces(self.model.inner_dim, config["num_layers"], config["num_single_layers"])
        fill(self.model, placed(state, table), what="FLUX.1's transformer")
        exact_norms(self.model)

    def forward(
        self,
        latent: torch.Tensor,
        timesteps: torch.Tensor,
        context: torch.Tensor,
        pooled: torch.Tensor | None = None,
        *,
        guidance: torch.Tensor | None = None,
        references: Sequence[torch.Tensor] = (),
        method: str = "offset",
        mask: torch.Tensor | None = None,
        control: Mapping[str, Sequence[torch.Tensor | None]] | None = None,
    ) -> torch.Tensor:
        """The velocity [batch, channels, rows, columns].

        Args:
            latent: [batch, channels, rows, columns].
            timesteps: [batch], 0 to 1.
            context: text [batch, tokens, width].
            pooled: pooled text [batch, width]; None stands for zeros.
            guidance: [batch]; left out of a model without it, and where it is None.
            references: latents [batch, channels, rows, columns] of pictures to look at, of any sizes.
            method: where they are thought to lie, one of `METHODS`: before the picture, side by side with each
                other; each in a layer of its own; diagonally below it.
            mask: what is added to attention, [batch, tokens, tokens] of text, picture and references.
            control: what is added after "input" (double) and "output" (single) blocks, [batch, tokens, width].
        """
        model, size = self.model, latent.shape[-2:]
        tokens, places = patches(latent)
        count = tokens.shape[1]
        for reference, (layer, row, column) in zip(references, offsets(size, references, method), strict=True):
            more, where = patches(reference, layer=layer, row=row, column=column)
            tokens, places = torch.cat([tokens, more], dim=1), torch.cat([places, where])
        x = model.x_embedder(tokens)
        told = conditioned(model, timesteps, pooled, guidance, x)
        text = model.context_embedder(context)
        places = torch.cat([places.new_zeros(text.shape[1], len(AXES)), places])
        rotation = model.pos_embed(places)
        options = {} if mask is None else {"joint_attention_kwargs": {"attention_mask": mask.unsqueeze(1).to(x.dtype)}}
        control = control or {}
        for number, block in enumerate(model.transformer_blocks):
            text, x = block(
                hidden_states=x, encoder_hidden_states=text, temb=told, image_rotary_emb=rotation, **options
            )
            x = _with(x, control.get("input", ()), number)
        for number, block in enumerate(model.single_transformer_blocks):
            text, x = block(
                hidden_states=x, encoder_hidden_states=text, temb=told, image_rotary_emb=rotation, **options
            )
            x = _with(x, control.get("output", ()), number)
        x = model.proj_out(model.norm_out(x[:, :count], told))
        return picture(x, size)


def exact_norms(model: nn.Module) -> None:
    """Give the norms of queries and keys the smallest number that their dtype tells from 1, as ComfyUI does."""
    for module in model.modules():
        if isinstance(module, nn.RMSNorm):
            module.eps = None


def conditioned(
    model: Any,
    timesteps: torch.Tensor,
    pooled: torch.Tensor | None,
    guidance: torch.Tensor | None,
    like: torch.Tensor,
) -> torch.Tensor:
    """What time, guidance and pooled text come to for the blocks, [batch, width]."""
    embed = model.time_text_embed
    told: torch.Tensor = embed.timestep_embedder(embed.time_proj(timesteps * 1000.0).to(like.dtype))
    if guidance is not None and hasattr(embed, "guidance_embedder"):
        told = told + embed.guidance_embedder(embed.time_proj(guidance * 1000.0).to(like.dtype))
    width = model.config.pooled_projection_dim
    if pooled is None:
        pooled = like.new_zeros(like.shape[0], width)
    elif pooled.shape[1] < width:
        raise NodeProblem(
            f"the pooled text is {pooled.shape[1]} wide, the model takes {width}",
            remedy="encode the text with encoders loaded for 'flux'",
        )
    return told + embed.text_embedder(pooled[:, :width])  # type: ignore[no-any-return] # a module's call is Any


def patches(
    latent: torch.Tensor, *, layer: float = 0, row: int = 0, column: int = 0
) -> tuple[torch.Tensor, torch.Tensor]:
    """A latent as tokens [batch, tokens, channels * 4] and their places [tokens, 3].

    Sides that are odd are filled up from their other ends. `row` and `column` say in latent pixels where it begins.
    """
    batch, channels, height, width = latent.shape
    if height % PATCH or width % PATCH:
        latent = nn.functional.pad(latent, (0, width % PATCH, 0, height % PATCH), mode="circular")
    rows, columns = latent.shape[-2] // PATCH, latent.shape[-1] // PATCH
    tokens = latent.reshape(batch, channels, rows, PATCH, columns, PATCH).permute(0, 2, 4, 1, 3, 5)
    places = torch.zeros(rows, columns, len(AXES), device=latent.device)
    places[..., 0] = layer
    places[..., 1] = (torch.arange(rows, device=latent.device) + (row + 1) // PATCH).unsqueeze(1)
    places[..., 2] = torch.arange(columns, device=latent.device) + (column + 1) // PATCH
    return tokens.reshape(batch, rows * columns, -1), places.reshape(-1, len(AXES))


def picture(tokens: torch.Tensor, size: Sequence[int]) -> torch.Tensor:
    """The latent [batch, channels, *size] of tokens, as `patches` made them."""
    rows, columns = -(-size[0] // PATCH), -(-size[1] // PATCH)
    x = tokens.reshape(tokens.shape[0], rows, columns, -1, PATCH, PATCH).permute(0, 3, 1, 4, 2, 5)
    return x.reshape(tokens.shape[0], -1, rows * PATCH, columns * PATCH)[..., : size[0], : size[1]]


def offsets(size: Sequence[int], references: Sequence[torch.Tensor], method: str) -> list[tuple[int, int, int]]:
    """Layer, row and column (in latent pixels) where each reference lies, for a picture of that size.

    Source: ComfyUI ``comfy/ldm/flux/model.py`` (``Flux._forward``).
    """
    found: list[tuple[int, int, int]] = []
    height = width = 0
    for number, reference in enumerate(references, start=1):
        rows, columns = reference.shape[-2:]
        if method == "index":
            found.append((number, 0, 0))
        elif method == "uxo":
            begin_row, begin_column = (-(-side // PATCH) * PATCH for side in size)
            found.append((0, begin_row + height, begin_column + width))
            height, width = height + rows, width + columns
        elif method == "offset":
            row, column = (0, width) if rows + height > columns + width else (height, 0)
            found.append((1, row, column))
            height, width = max(height, rows + row), max(width, columns + column)
        else:
            raise NodeProblem(
                f"the embedded engine lacks the way {method!r} of placing reference latents",
                remedy=f"use one of {', '.join(METHODS)}, or run it on a ComfyUI",
            )
    return found


def _with(x: torch.Tensor, added: Sequence[torch.Tensor | None], number: int) -> torch.Tensor:
    """`x` with a ControlNet's addition; references, which come after the picture, get none."""
    more = added[number] if number < len(added) else None
    if more is None:
        return x
    if more.shape[-1] != x.shape[-1]:
        raise NodeProblem(
            f"the ControlNet is {more.shape[-1]} wide, the model {x.shape[-1]}",
            remedy="use a ControlNet that was made for the model",
        )
    return torch.cat([x[:, : more.shape[1]] + more, x[:, more.shape[1] :]], dim=1)
