"""Nodes of Stable Diffusion 3. Source: ComfyUI ``comfy_extras/nodes_sd3.py``."""

from __future__ import annotations

from typing import Any

from .context import Context
from .diffusion.prompts import encoded_tokens, needed, tokenized
from .diffusion.values import Clip, Condition
from .problems import NodeProblem
from .registry import NodeGroup

NODES = NodeGroup()


@NODES.node("CLIPTextEncodeSD3")
def encode_texts(
    clip: Clip, clip_l: str, clip_g: str, t5xxl: str, empty_padding: str, *, context: Context
) -> tuple[tuple[Condition, ...]]:
    """A text for each encoder. An empty one tells nothing, or what an empty prompt tells ("empty_prompt")."""
    clip = needed(clip)

    def tokens(text: str) -> dict[str, list[Any]]:
        found = tokenized(clip, text, context)
        if not isinstance(found, dict) or not {"l", "g", "t5xxl"} <= set(found):
            raise NodeProblem(
                "the text encoders are not those of Stable Diffusion 3", remedy="load them with the type 'sd3'"
            )
        return {name: list(sections) for name, sections in found.items()}

    said = {"l": clip_l, "g": clip_g, "t5xxl": t5xxl}
    found = {name: [] if not text and empty_padding == "none" else tokens(text)[name] for name, text in said.items()}
    longest = max(len(found["l"]), len(found["g"]))
    if len(found["l"]) != len(found["g"]):
        empty = tokens("")
        for name in ("l", "g"):
            while len(found[name]) < longest:
                found[name] += empty[name]
    return (encoded_tokens(clip, found),)
