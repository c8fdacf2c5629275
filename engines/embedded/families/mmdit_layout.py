"""Where the tensors of Stable Diffusion 3's transformer (MMDiT) lie in diffusers' model.

Files keep Stability's names (``joint_blocks.0.x_block.attn.qkv.weight``…); diffusers has other names, three matrices
for one of attention and the halves of two modulations the other way round. A table of pieces says it once: weights are
placed by it as views, nothing is copied, and LoRA find their targets by it.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import torch

from ..diffusion.weights import State


@dataclass(frozen=True, kw_only=True, slots=True)
class Piece:
    """Part of a tensor of the file and where it belongs.

    Attributes:
        source, target: names in the file and in the model.
        part, parts: which of how many equal parts of the file's rows this is.
        place: which of `parts` of the target's rows it is, where the target is as large as the source; None where
            the piece is the whole target.
    """

    source: str
    target: str
    part: int = 0
    parts: int = 1
    place: int | None = None


# What has a weight and a bias, outside of the blocks.
_OUTSIDE = {
    "x_embedder.proj": "pos_embed.proj",
    "t_embedder.mlp.0": "time_text_embed.timestep_embedder.linear_1",
    "t_embedder.mlp.2": "time_text_embed.timestep_embedder.linear_2",
    "y_embedder.mlp.0": "time_text_embed.text_embedder.linear_1",
    "y_embedder.mlp.2": "time_text_embed.text_embedder.linear_2",
    "context_embedder": "context_embedder",
    "final_layer.linear": "proj_out",
}
# Of a block: the stream of the picture, then that of the text.
_LINEAR = {
    "x_block.attn.proj": "attn.to_out.0",
    "x_block.attn2.proj": "attn2.to_out.0",
    "x_block.adaLN_modulation.1": "norm1.linear",
    "x_block.mlp.fc1": "ff.net.0.proj",
    "x_block.mlp.fc2": "ff.net.2",
    "context_block.attn.proj": "attn.to_add_out",
    "context_block.adaLN_modulation.1": "norm1_context.linear",
    "context_block.mlp.fc1": "ff_context.net.0.proj",
    "context_block.mlp.fc2": "ff_context.net.2",
}
_FUSED = {
    "x_block.attn.qkv": ("attn.to_q", "attn.to_k", "attn.to_v"),
    "x_block.attn2.qkv": ("attn2.to_q", "attn2.to_k", "attn2.to_v"),
    "context_block.attn.qkv": ("attn.add_q_proj", "attn.add_k_proj", "attn.add_v_proj"),
}
_NORMS = {
    "x_block.attn.ln_q": "attn.norm_q",
    "x_block.attn.ln_k": "attn.norm_k",
    "x_block.attn2.ln_q": "attn2.norm_q",
    "x_block.attn2.ln_k": "attn2.norm_k",
    "context_block.attn.ln_q": "attn.norm_added_q",
    "context_block.attn.ln_k": "attn.norm_added_k",
}
_ENDINGS = ("weight", "bias")
_BLOCK = re.compile(r"joint_blocks\.(\d+)\.")


def block_count(names: Iterable[str]) -> int:
    """How many joint blocks the names speak of."""
    return 1 + max((int(found[1]) for name in names if (found := _BLOCK.match(name))), default=-1)


def dual_attention(names: Iterable[str]) -> tuple[int, ...]:
    """The blocks whose picture stream has a second attention of its own, as SD 3.5 medium's first thirteen."""
    return tuple(sorted(int(name.split(".")[1]) for name in names if name.endswith(".x_block.attn2.qkv.weight")))


def pieces(blocks: int, *, last_is_short: bool = True) -> Iterator[Piece]:
    """Where each tensor belongs that such a model can have.

    Args:
        blocks: how many joint blocks.
        last_is_short: whether the last block only reads the text (a ControlNet's also writes it).
    """
    yield Piece(source="pos_embed", target="pos_embed.pos_embed")
    for source, target in _OUTSIDE.items():
        for ending in _ENDINGS:
            yield Piece(source=f"{source}.{ending}", target=f"{target}.{ending}")
    yield from _swapped("final_layer.adaLN_modulation.1", "norm_out.linear")
    for block in range(blocks):
        old, new = f"joint_blocks.{block}.", f"transformer_blocks.{block}."
        short = last_is_short and block == blocks - 1
        for source, target in _LINEAR.items():
            if short and source == "context_block.adaLN_modulation.1":
                yield from _swapped(old + source, new + target)
                continue
            for ending in _ENDINGS:
                yield Piece(source=f"{old}{source}.{ending}", target=f"{new}{target}.{ending}")
        for source, targets in _FUSED.items():
            for ending in _ENDINGS:
                for part, target in enumerate(targets):
                    yield Piece(source=f"{old}{source}.{ending}", target=f"{new}{target}.{ending}", part=part, parts=3)
        for source, target in _NORMS.items():
            yield Piece(source=f"{old}{source}.weight", target=f"{new}{target}.weight")


def _swapped(source: str, target: str) -> Iterator[Piece]:
    """Stability's modulation gives shift, then scale; diffusers' takes scale first."""
    for ending in _ENDINGS:
        for part in range(2):
            yield Piece(source=f"{source}.{ending}", target=f"{target}.{ending}", part=part, parts=2, place=1 - part)


def placed(state: State, table: Iterable[Piece]) -> dict[str, torch.Tensor]:
    """The file's tensors by the model's names, views where that is possible; names that no piece has are left out."""
    found: dict[str, torch.Tensor] = {}
    halves: dict[str, dict[int, torch.Tensor]] = {}
    for piece in table:
        tensor = state.get(piece.source)
        if tensor is None:
            continue
        rows = tensor.shape[0] // piece.parts if piece.parts > 1 else 0
        view = tensor[piece.part * rows : (piece.part + 1) * rows] if piece.parts > 1 else tensor
        if piece.place is None:
            found[piece.target] = view
        else:
            halves.setdefault(piece.target, {})[piece.place] = view
    for target, parts in halves.items():
        found[target] = torch.cat([parts[place] for place in sorted(parts)])
    return found
