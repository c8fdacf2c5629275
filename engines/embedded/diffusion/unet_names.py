"""Two names for every part of a U-Net: CompVis' (which checkpoints and ComfyUI keep) and diffusers'.

Both follow from how many blocks there are and where attention and resampling sit: that is read from the names.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator

RESNET = {
    "in_layers.0": "norm1",
    "in_layers.2": "conv1",
    "emb_layers.1": "time_emb_proj",
    "out_layers.0": "norm2",
    "out_layers.3": "conv2",
    "skip_connection": "conv_shortcut",
}
"""Parts of a residual block: CompVis -> diffusers."""

_BASIC = (
    ("label_emb.0.0", "class_embedding.linear_1"),
    ("label_emb.0.2", "class_embedding.linear_2"),
    ("label_emb.0.0", "add_embedding.linear_1"),
    ("label_emb.0.2", "add_embedding.linear_2"),
    ("input_blocks.0.0", "conv_in"),
    ("out.0", "conv_norm_out"),
    ("out.2", "conv_out"),
    ("time_embed.0", "time_embedding.linear_1"),
    ("time_embed.2", "time_embedding.linear_2"),
)

Blocks = Iterator[tuple[str, str]]


def to_diffusers(names: Collection[str]) -> dict[str, tuple[str, ...]]:
    """diffusers' names of every tensor of a U-Net in CompVis' layout (a few have two)."""
    known = set(names)
    basic: dict[str, tuple[str, ...]] = {}
    for ours, theirs in _BASIC:
        for kind in ("weight", "bias"):
            if f"{ours}.{kind}" in known:
                basic[f"{ours}.{kind}"] = (*basic.get(f"{ours}.{kind}", ()), f"{theirs}.{kind}")
    blocks = dict([*_inputs(known), *_middle(), *_outputs(known)])
    named = {name: other for name in names if (other := _translated(name, blocks, RESNET)) is not None}
    return {**basic, **{name: (other,) for name, other in named.items()}}


def from_diffusers(names: Collection[str]) -> dict[str, str]:
    """CompVis' names of the tensors of a U-Net's (or a ControlNet's) first half in diffusers' layout."""
    known = set(names)
    basic = {
        f"{theirs}.{kind}": f"{ours}.{kind}"
        for ours, theirs in _BASIC
        for kind in ("weight", "bias")
        if f"{theirs}.{kind}" in known
    }
    blocks = {theirs: ours for ours, theirs in [*_down_blocks(known), *_middle()]}
    turned = {theirs: ours for ours, theirs in RESNET.items()}
    named = {name: other for name in names if (other := _translated(name, blocks, turned)) is not None}
    return {**basic, **named}


def _translated(name: str, blocks: dict[str, str], parts: dict[str, str]) -> str | None:
    """The other name: the longest known block that it begins with, and what comes behind."""
    words = name.split(".")
    for count in range(len(words) - 1, 1, -1):
        block = blocks.get(".".join(words[:count]))
        if block is not None:
            path, kind = ".".join(words[count:-1]), words[-1]
            if not path:
                return f"{block}.{kind}"
            return f"{block}.{parts.get(path, path)}.{kind}"
    return None


def _inputs(known: set[str]) -> Blocks:
    level = resnet = 0
    for number in range(1, _count(known, "input_blocks")):
        if f"input_blocks.{number}.0.op.weight" in known:
            yield f"input_blocks.{number}.0.op", f"down_blocks.{level}.downsamplers.0.conv"
            level, resnet = level + 1, 0
            continue
        yield f"input_blocks.{number}.0", f"down_blocks.{level}.resnets.{resnet}"
        yield f"input_blocks.{number}.1", f"down_blocks.{level}.attentions.{resnet}"
        resnet += 1


def _middle() -> Blocks:
    yield "middle_block.0", "mid_block.resnets.0"
    yield "middle_block.1", "mid_block.attentions.0"
    yield "middle_block.2", "mid_block.resnets.1"


def _outputs(known: set[str]) -> Blocks:
    level = resnet = 0
    for number in range(_count(known, "output_blocks")):
        yield f"output_blocks.{number}.0", f"up_blocks.{level}.resnets.{resnet}"
        attention = f"output_blocks.{number}.1.proj_in.weight" in known
        if attention:
            yield f"output_blocks.{number}.1", f"up_blocks.{level}.attentions.{resnet}"
        resnet += 1
        last = 2 if attention else 1
        if f"output_blocks.{number}.{last}.conv.weight" in known:
            yield f"output_blocks.{number}.{last}.conv", f"up_blocks.{level}.upsamplers.0.conv"
            level, resnet = level + 1, 0


def _down_blocks(known: set[str]) -> Blocks:
    number = 1
    for level in range(_count(known, "down_blocks")):
        for resnet in range(_count(known, f"down_blocks.{level}.resnets")):
            yield f"input_blocks.{number}.0", f"down_blocks.{level}.resnets.{resnet}"
            yield f"input_blocks.{number}.1", f"down_blocks.{level}.attentions.{resnet}"
            number += 1
        if f"down_blocks.{level}.downsamplers.0.conv.weight" in known:
            yield f"input_blocks.{number}.0.op", f"down_blocks.{level}.downsamplers.0.conv"
            number += 1


def _count(known: set[str], prefix: str) -> int:
    place = prefix.count(".") + 1
    numbers = (name.split(".")[place] for name in known if name.startswith(f"{prefix}."))
    return 1 + max((int(number) for number in numbers if number.isdigit()), default=-1)
