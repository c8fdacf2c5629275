"""HiDream's own text encoding. Source: ComfyUI 0.33.0 ``comfy_extras/nodes_hidream.py``."""

from __future__ import annotations

from .context import Context
from .diffusion.encoders import Clip
from .diffusion.values import Conditioning
from .problems import NodeProblem
from .registry import NodeGroup

NODES = NodeGroup()


@NODES.node("CLIPTextEncodeHiDream")
def encode(
    clip: Clip | None, clip_l: str, clip_g: str, t5xxl: str, llama: str, *, context: Context
) -> tuple[Conditioning]:
    """A text of its own for each of the four encoders."""
    from .diffusion import prompts

    whole = prompts.needed(clip)
    if whole.encoder.family != "hidream":
        raise NodeProblem(
            "the text encoders are not HiDream's", remedy="load them with QuadrupleCLIPLoader or type 'hidream'"
        )
    texts = {"clip_l": clip_l, "clip_g": clip_g, "t5xxl": t5xxl, "llama": llama}
    tokens = {name: prompts.tokenized(whole, text, context).get(name) for name, text in texts.items()}
    return (prompts.encoded_tokens(whole, tokens),)
