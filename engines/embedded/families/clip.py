"""CLIP's text encoders as the families of Stable Diffusion use them: tokens, layers, one or two encoders.

Source: ComfyUI ``comfy/sd1_clip.py``, ``comfy/sdxl_clip.py``, ``comfy/text_encoders/sd2_clip.py``.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch

from ..clip_text import END, START, ClipText, Section, Token
from ..diffusion.encoders import Clip, Embeddings, TextEncoder
from ..diffusion.values import Alias, Condition
from ..diffusion.weights import Component, Deferred, State, Weights
from ..problems import NodeProblem
from ..weighting import weighted_parts
from .clip_tokenizer import clip_tokenizer

if TYPE_CHECKING:
    from ..context import Run

LENGTH = 77
LARGE_WORD = 8  # tokens from which a word may be broken at the end of a section
EMBEDDING = "embedding:"

_OPEN_CLIP = {
    "ln_1": "layer_norm1",
    "ln_2": "layer_norm2",
    "mlp.c_fc": "mlp.fc1",
    "mlp.c_proj": "mlp.fc2",
    "attn.out_proj": "self_attn.out_proj",
}
_OPEN_CLIP_TOP = {
    "positional_embedding": "text_model.embeddings.position_embedding.weight",
    "token_embedding.weight": "text_model.embeddings.token_embedding.weight",
    "ln_final.weight": "text_model.final_layer_norm.weight",
    "ln_final.bias": "text_model.final_layer_norm.bias",
    "text_projection.weight": "text_projection.weight",
}


@dataclass(frozen=True, kw_only=True, slots=True)
class ClipKind:
    """How one of CLIP's encoders is used.

    Attributes:
        name: "clip_l", "clip_g", "clip_h": the prefix of its tensors.
        padding: the token that fills a section up.
        layer: from which layer, None the last; `normalised`: whether the last norm is applied to an earlier one.
        projected: whether its pooled vector is projected.
    """

    name: str
    activation: str
    padding: int = END
    layer: int | None = None
    normalised: bool = True
    projected: bool = True


CLIP_L = ClipKind(name="clip_l", activation="quick_gelu", projected=False)
CLIP_H = ClipKind(name="clip_h", activation="gelu", padding=0, layer=-2)
XL_CLIP_L = ClipKind(name="clip_l", activation="quick_gelu", layer=-2, normalised=False)
XL_CLIP_G = ClipKind(name="clip_g", activation="gelu", padding=0, layer=-2, normalised=False)


def tokenized(
    text: str, *, padding: int = END, embeddings: Embeddings | None = None, key: str = "", run: Run | None = None
) -> list[Section]:
    """The sections of 77 tokens of a prompt, with weights.

    Args:
        embeddings: finds textual inversions; `key` says for which encoder.
        run: whose folders are searched for CLIP's vocabulary.
    """
    tokenizer = clip_tokenizer(run.model_folders, run.comfyui_folder) if run is not None else clip_tokenizer()
    groups: list[list[tuple[Token, float]]] = []
    for part, weight in weighted_parts(text):
        for word in _words(part):
            if word.startswith(EMBEDDING) and embeddings is not None:
                vectors, rest = _embedding(word.removeprefix(EMBEDDING).strip("\n"), embeddings, key)
                if vectors is not None:
                    groups.append([(vector, weight) for vector in vectors])
                if not rest:
                    continue
                word = rest
            groups.append([(token, weight) for token in tokenizer(word)])
    return _sections(groups, padding)


def _words(text: str) -> list[str]:
    first, *others = re.split(r"(?<=\s)" + re.escape(EMBEDDING), text)
    return [word for word in (first, *(EMBEDDING + other for other in others)) if word]


def _embedding(name: str, embeddings: Embeddings, key: str) -> tuple[torch.Tensor | None, str]:
    """The vectors [tokens, width] of a textual inversion and the text after its name."""
    words = name.split()
    if not words:
        return None, ""
    first, rest = words[0], " ".join(words[1:])
    bracket = re.search(r"[<\[]", first)
    if bracket is not None:
        rest = first[bracket.start() :] + (f" {rest}" if rest else "")
        first = first[: bracket.start()]
    found = embeddings(first)
    if found is None and first != first.strip(","):
        bare = first.strip(",")
        found, rest = embeddings(bare), f"{first[len(bare) :]} {rest}"
    if found is None:
        return None, rest
    vectors = found.get(key, found.get("", None))
    if vectors is None:
        vectors = next(iter(found.values()))
    return (vectors.reshape(1, -1) if vectors.ndim == 1 else vectors), rest


def _sections(groups: Sequence[Sequence[tuple[Token, float]]], padding: int) -> list[Section]:
    """Words are kept whole where they can be; a long one is broken."""
    section: list[tuple[Token, float]] = [(START, 1.0)]
    sections = [section]
    for group in groups:
        left = list(group)
        large = len(left) >= LARGE_WORD
        while left:
            room = LENGTH - 1 - len(section)
            if len(left) <= room:
                section.extend(left)
                break
            if large:
                section.extend(left[:room])
                left = left[room:]
                section.append((END, 1.0))
            else:
                section.append((END, 1.0))
                section.extend([(padding, 1.0)] * room)
            section = [(START, 1.0)]
            sections.append(section)
    section.append((END, 1.0))
    section.extend([(padding, 1.0)] * (LENGTH - len(section)))
    return [*sections]


class ClipModules:
    """The built encoders, by name."""

    def __init__(self, encoders: Mapping[str, Any]) -> None:
        for name, encoder in encoders.items():
            setattr(self, name, encoder)


class ClipEncoder(TextEncoder):
    """One of CLIP's encoders, or L and G together (SDXL)."""

    family = "stable_diffusion"

    def __init__(self, *kinds: ClipKind) -> None:
        self.kinds = kinds

    def build(self, state: State) -> Any:
        """See `TextEncoder.build`."""
        encoders: dict[str, ClipText] = {}
        for kind in self.kinds:
            prefix = f"{kind.name}."
            own = {name.removeprefix(prefix): state[name] for name in state if name.startswith(prefix)}
            encoders[kind.name] = ClipText(own, activation=kind.activation, padding=kind.padding)
        return ClipModules(encoders)

    def tokenize(self, text: str, *, embeddings: Embeddings | None = None, **options: Any) -> dict[str, list[Section]]:
        """Sections by encoder; see `tokenized`."""
        return {
            kind.name: tokenized(
                text, padding=kind.padding, embeddings=embeddings, key=kind.name, run=options.get("run")
            )
            for kind in self.kinds
        }

    def encode(self, module: Any, tokens: Any, *, layer: int | None = None) -> Condition:
        """See `TextEncoder.encode`. Of two encoders the texts lie side by side, and the last one's pooled text is
        used."""
        texts: list[torch.Tensor] = []
        pooled: torch.Tensor | None = None
        for kind in self.kinds:
            encoder: ClipText = getattr(module, kind.name)
            text, pooled = encoder.encode(
                tokens[kind.name],
                layer=layer if layer is not None else kind.layer,
                normalised=kind.normalised,
                projected=kind.projected,
            )
            texts.append(text.float().cpu())
        length = min(text.shape[1] for text in texts)
        assert pooled is not None
        return Condition(
            text=torch.cat([text[:, :length] for text in texts], dim=-1),
            options={"pooled_output": pooled.float().cpu()},
        )

    def aliases(self, weights: Weights) -> Mapping[str, Alias]:
        """See `TextEncoder.aliases`: ``lora_te_text_model_…``, ``lora_te1_…`` (L), ``lora_te2_…`` (G)."""
        found: dict[str, Alias] = {}
        for name in weights:
            encoder, _, rest = name.partition(".")
            if not rest.endswith(".weight"):
                continue
            flat = rest.removesuffix(".weight").replace(".", "_")
            stems = {"clip_g": ("lora_te2_",), "clip_l": ("lora_te1_", "lora_te_")}.get(encoder, ("lora_te_",))
            if len(self.kinds) == 1 and encoder == "clip_g":
                stems = ("lora_te2_", "lora_te_")
            for stem in stems:
                found[stem + flat] = Alias(name=name)
        return found


def clip_of(weights: Weights, *kinds: ClipKind) -> Clip:
    """A Clip of tensors that are below their encoders' names in transformers' layout."""
    for kind in kinds:
        if f"{kind.name}.text_model.embeddings.token_embedding.weight" not in weights:
            raise NodeProblem(
                f"{weights.source!r} holds no text encoder {kind.name}", remedy="choose the file that does"
            )
    encoder = ClipEncoder(*kinds)
    halved = tuple(f"{kind.name}." for kind in kinds)
    return Clip(encoder=encoder, component=Component(weights=weights, build=encoder.build, role="text", halved=halved))


def in_transformers_layout(weights: Weights) -> Weights:
    """OpenCLIP's tensors (``transformer.resblocks.0.attn.in_proj_weight``…) by transformers' names; others as they
    are."""
    if not any(".resblocks." in name for name in weights):
        return weights
    tensors: dict[str, torch.Tensor | Deferred] = {}
    for name in weights:
        top = _OPEN_CLIP_TOP.get(name)
        if top is not None:
            tensors[top] = weights.entry(name)
        elif name == "text_projection":
            tensors["text_projection.weight"] = _turned(weights, name)
        elif name.startswith("transformer.resblocks."):
            _convert_block(weights, name, tensors)
    return Weights(tensors, source=weights.source, metadata=weights.metadata)


def _turned(weights: Weights, name: str) -> Deferred:
    shape = weights.shape(name)
    return Deferred(
        shape=torch.Size((shape[1], shape[0])), dtype=weights.dtype(name), make=lambda: weights[name].T.contiguous()
    )


def _convert_block(weights: Weights, name: str, tensors: dict[str, torch.Tensor | Deferred]) -> None:
    number, _, rest = name.removeprefix("transformer.resblocks.").partition(".")
    place = f"text_model.encoder.layers.{number}"
    if rest in ("attn.in_proj_weight", "attn.in_proj_bias"):
        kind = rest.removeprefix("attn.in_proj_")
        for part, tensor in zip("qkv", weights[name].chunk(3), strict=True):
            tensors[f"{place}.self_attn.{part}_proj.{kind}"] = tensor
        return
    path, _, kind = rest.rpartition(".")
    tensors[f"{place}.{_OPEN_CLIP.get(path, path)}.{kind}"] = weights.entry(name)
