"""What reads texts and pictures: what travels over CLIP, VAE, CLIP_VISION, CLIP_VISION_OUTPUT and STYLE_MODEL wires.

Immutable like all `values`; how a family brings its own is told there.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

import torch

from .values import Alias, Condition
from .weights import Component, State, WeightPatch, Weights


class TextEncoder(ABC):
    """A family's text encoders, described; their tensors are in the Clip's component.

    Attributes:
        tokenizers: the tokenizers (`families.tokenizers.TokenizerFiles`) that a run must find; `tokenize` gets the
            `context.Run` as its option "run", for `families.tokenizers.vocabulary`.
    """

    family: str
    tokenizers: Sequence[Any] = ()

    @abstractmethod
    def build(self, state: State) -> Any:
        """The module, or an object with the modules as attributes, of these tensors."""

    @abstractmethod
    def tokenize(self, text: str, **options: Any) -> Any:
        """Tokens with weights of a text; options: images, a template, `embeddings` (a look-up of textual
        inversions)…"""

    @abstractmethod
    def encode(self, module: Any, tokens: Any, *, layer: int | None = None) -> Condition:
        """The condition that tokens make; `layer` is what CLIPSetLastLayer asks for (-1, -2…), None the family's
        own."""

    def aliases(self, weights: Weights) -> Mapping[str, Alias]:
        """Other names of the tensors in LoRA files (``lora_te1_…``), whole."""
        return {}


# Finds a textual inversion by name: the vectors [tokens, width] by the encoder they are for ("clip_l", "clip_g",
# "" for any), or None.
Embeddings = Callable[[str], Mapping[str, torch.Tensor] | None]


@dataclass(frozen=True, kw_only=True, slots=True, eq=False, weakref_slot=True)
class Clip:
    """What a CLIP wire carries.

    Attributes:
        layer: from CLIPSetLastLayer.
        options: further settings by node (FLUX's minimum lengths…), for `TextEncoder.tokenize`.
    """

    encoder: TextEncoder
    component: Component
    layer: int | None = None
    options: Mapping[str, Any] = field(default_factory=dict)

    def tokenize(self, text: str, **options: Any) -> Any:
        """See `TextEncoder.tokenize`."""
        return self.encoder.tokenize(text, **{**self.options, **options})

    def encode(self, tokens: Any, **added: Any) -> tuple[Condition, ...]:
        """The conditioning that tokens make, with these options added."""
        return (self.encoder.encode(self.component.module(), tokens, layer=self.layer).with_options(**added),)

    def with_weight_patches(self, patches: Sequence[WeightPatch]) -> Clip:
        """The same with patched weights."""
        return replace(self, component=self.component.patched(patches))

    def with_options(self, **options: Any) -> Clip:
        """The same with these settings."""
        return replace(self, options={**self.options, **options})

    def resident_bytes(self) -> int:
        """See `Component.resident_bytes`."""
        return self.component.resident_bytes()


class Coder(ABC):
    """An autoencoder, described.

    Attributes:
        channels: of a latent.
        factor: pixels of a side for one of the latent.
        dimensions: 2, or 3 for [batch, channels, frames, rows, columns].
        frames: frames for one of the latent (Wan: 4).
        together: the latents of a batch are one video and are decoded in one piece.
        output: "image" in 0..1 after (x + 1) / 2 is the coder's own affair: encode takes and decode gives 0..1.
    """

    channels: int
    factor: int = 8
    dimensions: int = 2
    frames: int = 1
    together: bool = False

    @abstractmethod
    def build(self, state: State) -> Any:
        """The module of these tensors."""

    @abstractmethod
    def encode(self, module: Any, pixels: torch.Tensor) -> torch.Tensor:
        """The latent of pixels [batch, height, width, 3] in 0..1 whose sides are multiples of `factor`; of a coder
        with 3 dimensions, the batch are frames and the latent is [1, channels, frames, rows, columns]."""

    @abstractmethod
    def decode(self, module: Any, latent: torch.Tensor) -> torch.Tensor:
        """Pixels [batch, height, width, 3] in 0..1 (not clamped) of a latent; with 3 dimensions [batch, frames, …,
        3]."""

    def activation_bytes(self, shape: Sequence[int], item: int) -> int:
        """What decoding a latent of that shape needs besides the weights, estimated."""
        area = shape[0]
        for side in shape[2:]:
            area *= side
        return area * self.factor**2 * item * 640


@dataclass(frozen=True, kw_only=True, slots=True, eq=False, weakref_slot=True)
class Vae:
    """What a VAE wire carries. `autoencoding` encodes and decodes with it: whole or in tiles, cut and checked."""

    coder: Coder
    component: Component

    def resident_bytes(self) -> int:
        """See `Component.resident_bytes`."""
        return self.component.resident_bytes()


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class VisionOutput:
    """What a CLIP_VISION_OUTPUT wire carries: [batch, tokens, width] twice, and [batch, width] projected."""

    last_hidden: torch.Tensor
    penultimate: torch.Tensor
    embeds: torch.Tensor


class ClipVision(Protocol):
    """What a CLIP_VISION wire carries."""

    def look(self, image: torch.Tensor, *, crop: bool = True) -> VisionOutput:
        """What it sees in an image [batch, height, width, 3] in 0..1; `crop` takes the middle square."""


class StyleModel(Protocol):
    """What a STYLE_MODEL wire carries (FLUX Redux)."""

    def tokens(self, seen: VisionOutput) -> torch.Tensor:
        """What is put behind the text: [batch, tokens, width]."""
