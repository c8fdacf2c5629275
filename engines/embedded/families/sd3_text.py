"""The text of Stable Diffusion 3: CLIP-L and CLIP-G side by side, T5 behind them; each of the three may be absent.

Behaviour of ComfyUI 0.33.0 ``comfy/text_encoders/sd3_clip.py``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch

from ..clip_text import END, START, ClipText
from ..diffusion.encoders import Clip, Embeddings, TextEncoder
from ..diffusion.values import Condition
from ..diffusion.weights import Component, State, Weights
from ..problems import NodeProblem
from . import t5
from .clip import in_transformers_layout, tokenized
from .tokenizers import T5, vocabulary
from .tokens import sections

WIDTH = 4096  # of the text that the model is told: T5's
WIDTH_L, WIDTH_G = 768, 1280
NAMES = ("clip_l", "clip_g", "t5xxl")
LAYER = -2  # of CLIP's

Tokens = Mapping[str, Sequence[Any]]
"""Sections by encoder: "l", "g", "t5xxl"; none at all for a text that is not to be told."""


class SD3Modules:
    """The built encoders; None where the file lacks one."""

    def __init__(self, clip_l: ClipText | None, clip_g: ClipText | None, t5xxl: t5.T5Text | None) -> None:
        self.clip_l = clip_l
        self.clip_g = clip_g
        self.t5xxl = t5xxl


class SD3Encoder(TextEncoder):
    """Any of CLIP-L, CLIP-G and T5.

    Args:
        present: names of those that are there.
    """

    family = "sd3"

    def __init__(self, present: Sequence[str]) -> None:
        self.present = tuple(present)
        self.tokenizers = (T5,) if "t5xxl" in self.present else ()

    def build(self, state: State) -> SD3Modules:
        """See `TextEncoder.build`."""

        def own(name: str) -> dict[str, torch.Tensor]:
            return {key[len(name) + 1 :]: state[key] for key in state if key.startswith(f"{name}.")}

        return SD3Modules(
            ClipText(own("clip_l"), activation="quick_gelu") if "clip_l" in self.present else None,
            ClipText(own("clip_g"), activation="gelu", padding=0) if "clip_g" in self.present else None,
            t5.T5Text(own("t5xxl")) if "t5xxl" in self.present else None,
        )

    def tokenize(
        self, text: str, *, embeddings: Embeddings | None = None, run: Any = None, **options: Any
    ) -> dict[str, list[Any]]:
        """Sections by encoder. T5's vocabulary is looked for in `run`'s folders, and only where T5 is there."""
        found: dict[str, list[Any]] = {
            "l": list(tokenized(text, embeddings=embeddings, key="clip_l", run=run)),
            "g": list(tokenized(text, padding=0, embeddings=embeddings, key="clip_g", run=run)),
            "t5xxl": [],
        }
        if "t5xxl" in self.present:
            words = vocabulary(T5, run)
            found["t5xxl"] = sections(
                text,
                words.encode,
                t5.STABLE_DIFFUSION_3,
                embedding=None if embeddings is None else lambda name: _vectors(embeddings, name),
            )
        return found

    def encode(self, module: SD3Modules, tokens: Tokens, *, layer: int | None = None) -> Condition:
        """See `TextEncoder.encode`."""
        text: torch.Tensor | None = None
        pooled = torch.zeros((1, WIDTH_L + WIDTH_G))
        if tokens["l"] or tokens["g"]:
            text, pooled = self._clip(module, tokens, LAYER if layer is None else layer)
        if module.t5xxl is not None:
            more, _ = module.t5xxl.encode(tokens["t5xxl"] or [[(t5.END, 1.0)]], layer=layer)
            text = more.cpu() if text is None else torch.cat([text, more.cpu()], dim=1)
        if text is None:
            text = torch.zeros((1, 77, WIDTH))
        return Condition(text=text, options={"pooled_output": pooled})

    def _clip(self, module: SD3Modules, tokens: Tokens, layer: int) -> tuple[torch.Tensor | None, torch.Tensor]:
        """What the CLIPs make of a text, as wide as T5's, and their pooled vectors; zeros for one that is absent."""
        pooled = [torch.zeros((1, WIDTH_L)), torch.zeros((1, WIDTH_G))]
        texts: list[torch.Tensor | None] = [None, None]
        for place, (encoder, name) in enumerate(((module.clip_l, "l"), (module.clip_g, "g"))):
            if encoder is not None:
                empty = [(START, 1.0), (END, 1.0), *([(encoder.padding, 1.0)] * (encoder.length - 2))]
                said, vector = encoder.encode(
                    tokens[name] or [empty],
                    layer=layer,
                    normalised=False,
                    projected=name == "g",
                )
                texts[place], pooled[place] = said.float().cpu(), vector.float().cpu()
        first, second = texts
        if first is None and second is None:
            return None, torch.cat(pooled, dim=-1)
        if first is not None and second is not None:
            length = min(first.shape[1], second.shape[1])
            text = torch.cat([first[:, :length], second[:, :length]], dim=-1)
        elif first is not None:
            text = first
        else:
            assert second is not None
            text = torch.nn.functional.pad(second, (WIDTH_L, 0))
        return torch.nn.functional.pad(text, (0, WIDTH - text.shape[-1])), torch.cat(pooled, dim=-1)


def clip_of(parts: Mapping[str, Weights]) -> Clip:
    """The Clip of these encoders by name ("clip_l"…), each with transformers' names."""
    joined = Weights({}, source=next(iter(parts.values())).source)
    for encoder, part in parts.items():
        joined = joined.with_tensors({f"{encoder}.{name}": part.entry(name) for name in part})
    encoder_of = SD3Encoder([name for name in NAMES if name in parts])
    halved = [f"{name}." for name in ("clip_l", "clip_g") if name in parts]
    if "t5xxl" in parts and parts["t5xxl"].dtype("encoder.final_layer_norm.weight") == torch.float32:
        halved.append("t5xxl.")
    component = Component(weights=joined, build=encoder_of.build, role="text", halved=tuple(halved))
    return Clip(encoder=encoder_of, component=component)


def text(files: Sequence[Weights], kind: str) -> Clip:
    """Text encoder files for the loaders' "sd3": up to three of CLIP-L, CLIP-G and T5, in any order."""
    parts: dict[str, Weights] = {}
    for weights in files:
        own = in_transformers_layout(weights)
        name = _encoder_in(own)
        if name is None:
            raise NodeProblem(
                f"{weights.source!r} holds no text encoder of Stable Diffusion 3",
                remedy="choose clip_l, clip_g and t5xxl files",
            )
        parts[name] = own
    return clip_of(parts)


def in_checkpoint(weights: Weights) -> Clip | None:
    """The text encoders in a whole checkpoint; None where it has none."""
    parts = {name: weights.below(f"text_encoders.{name}.transformer.") for name in NAMES}
    marks = {"t5xxl": "encoder.final_layer_norm.weight"}
    mark = "text_model.final_layer_norm.weight"
    there = {name: part for name, part in parts.items() if marks.get(name, mark) in part}
    return clip_of(there) if there else None


def _encoder_in(weights: Weights) -> str | None:
    if t5.recognised(weights):
        return "t5xxl"
    table = "text_model.embeddings.token_embedding.weight"
    if table not in weights:
        return None
    # ComfyUI counts layers; small models of the layout are told apart by their width
    deep = "text_model.encoder.layers.30.mlp.fc1.weight" in weights
    return "clip_g" if deep or weights.shape(table)[1] == WIDTH_G else "clip_l"


def _vectors(embeddings: Embeddings, name: str) -> torch.Tensor | None:
    found = embeddings(name)
    if found is None:
        return None
    return found.get("t5xxl", found.get("", next(iter(found.values()), None)))
