"""Where the tensors of FLUX.1's transformer lie in diffusers' model.

Files keep Black Forest Labs' names (``double_blocks.0.img_attn.qkv.weight``…); diffusers has other names, several
matrices for one fused, and the halves of the last modulation the other way round. diffusers' own conversion knows one
width only and copies; this table places views, and LoRA find their targets by it.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

import torch

State = Mapping[str, torch.Tensor]

DOUBLE, SINGLE = "double_blocks", "single_blocks"


@dataclass(frozen=True, kw_only=True, slots=True)
class Piece:
    """Part of a tensor of the file and where it belongs.

    Attributes:
        source, target: names in the file and in the model.
        start, length: the rows; `length` None for all to the end. None for the whole of `start` too.
        turned: the target has the rows' halves the other way round.
    """

    source: str
    target: str
    start: int | None = None
    length: int | None = None
    turned: bool = False


_EMBEDDERS = {"time_in": "timestep_embedder", "vector_in": "text_embedder", "guidance_in": "guidance_embedder"}
_LAYERS = {"in_layer": "linear_1", "out_layer": "linear_2"}
_OUTSIDE = {
    "img_in": "x_embedder",
    "txt_in": "context_embedder",
    "final_layer.linear": "proj_out",
    **{
        f"{old}.{layer}": f"time_text_embed.{new}.{linear}"
        for old, new in _EMBEDDERS.items()
        for layer, linear in _LAYERS.items()
    },
}
_DOUBLE = {
    "img_mod.lin": "norm1.linear",
    "txt_mod.lin": "norm1_context.linear",
    "img_attn.proj": "attn.to_out.0",
    "txt_attn.proj": "attn.to_add_out",
    "img_mlp.0": "ff.net.0.proj",
    "img_mlp.2": "ff.net.2",
    "txt_mlp.0": "ff_context.net.0.proj",
    "txt_mlp.2": "ff_context.net.2",
}
_FUSED = {
    "img_attn.qkv": ("attn.to_q", "attn.to_k", "attn.to_v"),
    "txt_attn.qkv": ("attn.add_q_proj", "attn.add_k_proj", "attn.add_v_proj"),
}
_NORMS = {
    "img_attn.norm.query_norm": "attn.norm_q",
    "img_attn.norm.key_norm": "attn.norm_k",
    "txt_attn.norm.query_norm": "attn.norm_added_q",
    "txt_attn.norm.key_norm": "attn.norm_added_k",
}
_SINGLE = {"modulation.lin": "norm.linear", "linear2": "proj_out"}
_LINEAR1 = ("attn.to_q", "attn.to_k", "attn.to_v", "proj_mlp")
_SINGLE_NORMS = {"norm.query_norm": "attn.norm_q", "norm.key_norm": "attn.norm_k"}
_ENDINGS = ("weight", "bias")
_NORM_ENDINGS = ("scale", "weight")  # of a norm's one tensor: BFL's, and what ComfyUI saves


def block_count(names: Iterable[str], stack: str) -> int:
    """How many blocks of a stack (`DOUBLE` or `SINGLE`) the names speak of."""
    block = re.compile(rf"{stack}\.(\d+)\.")
    return 1 + max((int(found[1]) for name in names if (found := block.match(name))), default=-1)


def pieces(width: int, doubles: int, singles: int) -> Iterator[Piece]:
    """Where each tensor belongs that such a model can have.

    Args:
        width: of the transformer; how rows of fused tensors are counted.
        doubles, singles: how many blocks of each kind.
    """
    for ending in _ENDINGS:
        for source, target in _OUTSIDE.items():
            yield Piece(source=f"{source}.{ending}", target=f"{target}.{ending}")
        yield Piece(source=f"final_layer.adaLN_modulation.1.{ending}", target=f"norm_out.linear.{ending}", turned=True)
    for number in range(doubles):
        old, new = f"{DOUBLE}.{number}.", f"transformer_blocks.{number}."
        yield from _renamed(old, new, _DOUBLE, _ENDINGS)
        yield from _norms(old, new, _NORMS)
        for source, targets in _FUSED.items():
            yield from _split(old + source, [new + target for target in targets], width)
    for number in range(singles):
        old, new = f"{SINGLE}.{number}.", f"single_transformer_blocks.{number}."
        yield from _renamed(old, new, _SINGLE, _ENDINGS)
        yield from _norms(old, new, _SINGLE_NORMS)
        yield from _split(f"{old}linear1", [new + target for target in _LINEAR1], width)


def _renamed(old: str, new: str, table: Mapping[str, str], endings: Iterable[str]) -> Iterator[Piece]:
    for source, target in table.items():
        for ending in endings:
            yield Piece(source=f"{old}{source}.{ending}", target=f"{new}{target}.{ending}")


def _norms(old: str, new: str, table: Mapping[str, str]) -> Iterator[Piece]:
    for source, target in table.items():
        for ending in _NORM_ENDINGS:
            yield Piece(source=f"{old}{source}.{ending}", target=f"{new}{target}.weight")


def _split(source: str, targets: Iterable[str], width: int) -> Iterator[Piece]:
    """A fused tensor: q, k and v of `width` rows each, what is left goes to a fourth target."""
    for ending in _ENDINGS:
        for place, target in enumerate(targets):
            yield Piece(
                source=f"{source}.{ending}",
                target=f"{target}.{ending}",
                start=place * width,
                length=width if place < 3 else None,
            )


def placed(state: State, table: Iterable[Piece]) -> dict[str, torch.Tensor]:
    """The file's tensors by the model's names, views wherever that is possible; names without a piece are left out."""
    found: dict[str, torch.Tensor] = {}
    read: dict[str, torch.Tensor] = {}  # a tensor may be made when it is read
    for piece in table:
        if piece.source not in state:
            continue
        tensor = read.get(piece.source)
        if tensor is None:
            tensor = read[piece.source] = state[piece.source]
        if piece.start is not None:
            tensor = tensor[piece.start : None if piece.length is None else piece.start + piece.length]
        if piece.turned:
            tensor = torch.cat(tensor.chunk(2)[::-1])
        found[piece.target] = tensor
    return found
