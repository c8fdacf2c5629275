"""HiDream's text encoders: CLIP-L and CLIP-G for pooled texts, T5 and Llama 3.1 for the prompt; any of them may lack.

Source: ComfyUI 0.33.0 ``comfy/text_encoders/hidream.py``: what lacks is told as zeros.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import nn

from ..clip_text import END, ClipText
from ..diffusion.encoders import Clip, Embeddings, TextEncoder
from ..diffusion.values import Condition
from ..diffusion.weights import Component, State, Weights
from ..problems import NodeProblem
from . import llama, t5
from .clip import tokenized
from .tokenizers import LLAMA3, T5, vocabulary
from .tokens import sections

CLIP_L, CLIP_G, T5_XXL, LLAMA = "clip_l", "clip_g", "t5xxl", "llama"  # the prefixes of their tensors
WIDTHS = {CLIP_L: 768, CLIP_G: 1280}  # of the pooled texts
PADDING = {CLIP_L: END, CLIP_G: 0}
ACTIVATION = {CLIP_L: "quick_gelu", CLIP_G: "gelu"}
TEXT_WIDTH, T5_LENGTH, LLAMA_LAYERS = 4096, 128, 32
REMEDY = "choose clip_l_hidream, clip_g_hidream, t5xxl and llama_3.1_8b_instruct"

_TOKENS = "text_model.embeddings.token_embedding.weight"


class HiDreamModules(nn.Module):
    """The built encoders; None for those that lack."""

    def __init__(self, parts: dict[str, dict[str, torch.Tensor]]) -> None:
        super().__init__()
        clips = {
            name: ClipText(parts[name], activation=ACTIVATION[name], padding=PADDING[name])
            for name in (CLIP_L, CLIP_G)
            if name in parts
        }
        self.clips = nn.ModuleDict(clips)
        self.t5 = t5.T5Text(parts[T5_XXL]) if T5_XXL in parts else None
        self.llama = llama.LlamaText(parts[LLAMA]) if LLAMA in parts else None


class HiDreamText(TextEncoder):
    """The encoders of which there are files."""

    family = "hidream"

    def __init__(self, names: Sequence[str]) -> None:
        self.names = tuple(names)
        self.tokenizers = tuple(files for name, files in ((T5_XXL, T5), (LLAMA, LLAMA3)) if name in self.names)

    def build(self, state: State) -> HiDreamModules:
        """See `TextEncoder.build`."""
        parts: dict[str, dict[str, torch.Tensor]] = {}
        for name in state:
            prefix, _, rest = name.partition(".")
            parts.setdefault(prefix, {})[rest] = state[name]
        return HiDreamModules(parts)

    def tokenize(
        self, text: str, *, run: Any = None, embeddings: Embeddings | None = None, **options: Any
    ) -> dict[str, Any]:
        """See `TextEncoder.tokenize`: by encoder; of T5's sections the first alone is read, as in ComfyUI.

        Args:
            run: whose folders are searched for T5's and Llama's tokenizers.
        """
        tokens: dict[str, Any] = {
            name: tokenized(text, padding=PADDING[name], embeddings=embeddings, key=name, run=run)
            for name in (CLIP_L, CLIP_G)
            if name in self.names
        }
        for name, files, layout in ((T5_XXL, T5, t5.HIDREAM), (LLAMA, LLAMA3, llama.HIDREAM)):
            if name in self.names:
                found = sections(text, vocabulary(files, run).encode, layout, embedding=_looked_up(embeddings, name))
                tokens[name] = found[:1]
        return tokens

    def encode(self, module: Any, tokens: Any, *, layer: int | None = None) -> Condition:
        """See `TextEncoder.encode`: T5's text; Llama's layers as ``conditioning_llama3``."""
        pooled: list[torch.Tensor] = []
        for name, width in WIDTHS.items():
            if name in module.clips:
                _, one = module.clips[name].encode(tokens[name], layer=None, normalised=True, projected=True)
                pooled.append(one.float().cpu())
            else:
                pooled.append(torch.zeros(1, width))
        text, states = torch.zeros(1, T5_LENGTH, TEXT_WIDTH), torch.zeros(1, LLAMA_LAYERS, 1, TEXT_WIDTH)
        if module.t5 is not None:
            text = module.t5.encode(tokens[T5_XXL], masked=True)[0].float().cpu()
        if module.llama is not None:
            states = module.llama.encode(tokens[LLAMA][0]).float().cpu()
        return Condition(text=text, options={"pooled_output": torch.cat(pooled, dim=-1), "conditioning_llama3": states})


def _looked_up(embeddings: Embeddings | None, key: str) -> Any:
    """How `tokens.sections` asks for a textual inversion."""
    if embeddings is None:
        return None

    def look(name: str) -> torch.Tensor | None:
        found = embeddings(name)
        if found is None:
            return None
        return found.get(key, found.get("", next(iter(found.values()), None)))

    return look


def encoder_in(weights: Weights) -> str | None:
    """Which of the four encoders a file holds; None for none of them."""
    if t5.recognised(weights):
        return T5_XXL
    if llama.recognised(weights):
        return LLAMA
    if _TOKENS not in weights:
        return None
    return CLIP_G if weights.shape(_TOKENS)[1] == WIDTHS[CLIP_G] else CLIP_L


def clip_of(files: Sequence[Weights], kind: str) -> Clip:
    """The encoders in one to four files, in any order.

    Raises:
        NodeProblem: a file holds none of them, or two hold the same.
    """
    tensors: dict[str, Any] = {}
    names: list[str] = []
    for weights in files:
        name = encoder_in(weights)
        if name is None:
            raise NodeProblem(f"{weights.source!r} is no text encoder of HiDream", remedy=REMEDY)
        if name in names:
            raise NodeProblem(f"{weights.source!r} is the second file of the text encoder {name}", remedy=REMEDY)
        names.append(name)
        tensors |= {f"{name}.{own}": weights.entry(own) for own in weights}
    encoder = HiDreamText(names)
    joined = Weights(tensors, source=" and ".join(weights.source for weights in files))
    component = Component(weights=joined, build=encoder.build, role="text", halved=(f"{CLIP_L}.", f"{CLIP_G}."))
    return Clip(encoder=encoder, component=component)
