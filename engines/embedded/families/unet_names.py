"""Other names of a U-Net's tensors: diffusers', which LoRA files of kohya and peft use.

Read from the names in the file, so that any depth works. Source of the correspondence: diffusers
``loaders/single_file_utils.py`` (`convert_ldm_unet_checkpoint`) and ComfyUI ``comfy/utils.py`` (`unet_to_diffusers`).
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from ..diffusion.weights import Weights

_RESNET: Mapping[str, str] = {
    "in_layers.0": "norm1",
    "in_layers.2": "conv1",
    "emb_layers.1": "time_emb_proj",
    "out_layers.0": "norm2",
    "out_layers.3": "conv2",
    "skip_connection": "conv_shortcut",
}
_TOP: Mapping[str, tuple[str, ...]] = {
    "label_emb.0.0": ("class_embedding.linear_1", "add_embedding.linear_1"),
    "label_emb.0.2": ("class_embedding.linear_2", "add_embedding.linear_2"),
    "input_blocks.0.0": ("conv_in",),
    "out.0": ("conv_norm_out",),
    "out.2": ("conv_out",),
    "time_embed.0": ("time_embedding.linear_1",),
    "time_embed.2": ("time_embedding.linear_2",),
}
_PLACE = re.compile(r"(input_blocks|output_blocks|middle_block)\.(\d+)\.(?:(\d+)\.)?(.+)")


def diffusers_names(weights: Weights) -> dict[str, str]:
    """diffusers' names without ``.weight`` to the file's names with it, of every layer that has a weight."""
    downs = _levels(weights, "input_blocks", "op")
    ups = _levels(weights, "output_blocks", "conv")
    found: dict[str, str] = {}
    for name in weights:
        if not name.endswith(".weight"):
            continue
        own = name.removesuffix(".weight")
        for other in _TOP.get(own, ()):
            found[other] = name
        if own in _TOP:
            continue
        place = _PLACE.match(own)
        if place is not None:
            other = _other(place, downs, ups)
            if other:
                found[other] = name
    return found


def _levels(weights: Weights, side: str, ending: str) -> dict[int, tuple[int, int]]:
    """For each block of one side its level and its number in it; a block that changes the size ends a level."""
    pattern = re.compile(rf"{side}\.(\d+)\.(\d+)\.(.+)")
    blocks: dict[int, set[str]] = {}
    for name in weights:
        match = pattern.match(name)
        if match is not None:
            blocks.setdefault(int(match[1]), set()).add(match[3])
    places: dict[int, tuple[int, int]] = {}
    level = number = 0
    for block in sorted(blocks):
        if side == "input_blocks" and block == 0:
            continue
        places[block] = (level, number)
        number += 1
        if f"{ending}.weight" in blocks[block]:
            level, number = level + 1, 0
    return places


def _other(
    place: re.Match[str], downs: Mapping[int, tuple[int, int]], ups: Mapping[int, tuple[int, int]]
) -> str | None:
    side, first, part, rest = place[1], int(place[2]), place[3], place[4]
    if side == "middle_block":
        if first == 1:
            return f"mid_block.attentions.0.{_joined(part, rest)}"
        resnet = _joined(part, rest)
        return f"mid_block.resnets.{0 if first == 0 else 1}.{_RESNET.get(resnet, resnet)}"
    level, number = (downs if side == "input_blocks" else ups)[first]
    name = "down_blocks" if side == "input_blocks" else "up_blocks"
    if rest == "op":
        return f"{name}.{level}.downsamplers.0.conv"
    if rest == "conv":
        return f"{name}.{level}.upsamplers.0.conv"
    if part == "0":
        return f"{name}.{level}.resnets.{number}.{_RESNET.get(rest, rest)}"
    return f"{name}.{level}.attentions.{number}.{rest}"


def _joined(part: str | None, rest: str) -> str:
    return rest if part is None else f"{part}.{rest}"
