"""The text of Qwen-Image and its edit models: Qwen 2.5 VL, told in a template that is cut off again.

Behaviour of ComfyUI 0.33.0 ``comfy/text_encoders/qwen_image.py``.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch

from ..diffusion.encoders import Clip, Embeddings, TextEncoder
from ..diffusion.values import Condition
from ..diffusion.weights import Component, State, Weights
from ..problems import NodeProblem
from . import qwen_vl
from .qwen_vl import Entry, Picture, QwenVL
from .tokenizers import QWEN25, vocabulary
from .tokens import Layout, sections

NAME = "qwen25_7b"  # ComfyUI's, of the encoder's tensors
TEXT_TEMPLATE = (
    "<|im_start|>system\nDescribe the image by detailing the color, shape, size, texture, quantity, text, "
    "spatial relationships of the objects and background:<|im_end|>\n<|im_start|>user\n{}<|im_end|>\n"
    "<|im_start|>assistant\n"
)
EDIT_SYSTEM = (
    "<|im_start|>system\nDescribe the key features of the input image (color, shape, size, texture, objects, "
    "background), then explain how the user's text instruction should alter or modify the image. Generate a new image "
    "that meets the user's requirements while maintaining consistency with the original input where appropriate."
    "<|im_end|>\n<|im_start|>user\n"
)
PICTURE = "<|vision_start|><|image_pad|><|vision_end|>"
EDIT_END = "{}<|im_end|>\n<|im_start|>assistant\n"
OWN_TEMPLATES = ("<|im_start|>", "<|start_header_id|>")  # a text that begins so has its own
LAYOUT = Layout(pad=qwen_vl.PAD, least=1)
MESSAGE_START, PICTURE_PAD = 151644, 151655
USER, NEW_LINE = 872, 198


class QwenImageEncoder(TextEncoder):
    """Qwen 2.5 VL with Qwen-Image's templates."""

    family = "qwen_image"
    tokenizers = (QWEN25,)

    def build(self, state: State) -> QwenVL:
        """See `TextEncoder.build`."""
        prefix = f"{NAME}."
        return QwenVL({name[len(prefix) :]: state[name] for name in state if name.startswith(prefix)})

    def tokenize(
        self,
        text: str,
        *,
        images: Sequence[torch.Tensor] = (),
        template: str | None = None,
        embeddings: Embeddings | None = None,
        run: Any = None,
        **options: Any,
    ) -> list[Entry]:
        """The tokens of a text in its template, with pictures in their places.

        Args:
            images: [1, height, width, 3] in 0..1 each.
            template: in place of the family's own; ``{}`` is the text.
        """
        words = vocabulary(QWEN25, run)
        look_up = None if embeddings is None else lambda name: _vectors(embeddings, name)
        return entries(text, words.encode, images=images, template=template, embedding=look_up)

    def encode(self, module: QwenVL, tokens: Sequence[Entry], *, layer: int | None = None) -> Condition:
        """See `TextEncoder.encode`."""
        text, mask = module.encode(tokens, layer=layer)
        start = told_from(tokens, text.shape[1])
        text, mask = text[:, start:].cpu(), mask[:, start:].cpu()
        return Condition(text=text, options={} if bool(mask.all()) else {"attention_mask": mask})


def entries(
    text: str,
    encode: Callable[[str], Sequence[int]],
    *,
    images: Sequence[torch.Tensor] = (),
    template: str | None = None,
    embedding: Callable[[str], torch.Tensor | None] | None = None,
) -> list[Entry]:
    """See `QwenImageEncoder.tokenize`; `encode` gives the tokens of a text."""
    whole = text
    if not text.startswith(OWN_TEMPLATES):
        if template is None:
            template = f"{EDIT_SYSTEM}{PICTURE}{EDIT_END}" if len(images) else TEXT_TEMPLATE
        whole = template.format(text)
    found: list[Entry] = []
    shown = iter(images)
    for section in sections(whole, encode, LAYOUT, weighted=False, embedding=embedding):
        for token, _ in section:
            picture = next(shown, None) if isinstance(token, int) and token == PICTURE_PAD else None
            found.append(token if picture is None else Picture(pixels=picture))
    return found


def told_from(tokens: Sequence[Entry], count: int) -> int:
    """From which token on the model is told: behind the template's second message start and "user", of `count`."""
    starts = [place for place, token in enumerate(tokens) if isinstance(token, int) and token == MESSAGE_START][:2]
    start = starts[-1] if starts else -1
    following = [token if isinstance(token, int) else None for token in tokens[start + 1 : start + 3]]
    return start + 3 if count > start + 3 and following == [USER, NEW_LINE] else start


def text(files: Sequence[Weights], kind: str) -> Clip:
    """The text encoder file for CLIPLoader's "qwen_image"."""
    if len(files) != 1 or not qwen_vl.recognised(files[0]):
        raise NodeProblem(
            f"{files[0].source!r} holds no Qwen 2.5 VL text encoder",
            remedy="choose one such as qwen_2.5_vl_7b_fp8_scaled.safetensors",
        )
    return clip_of(files[0])


def in_checkpoint(weights: Weights) -> Clip | None:
    """The text encoder in a whole checkpoint; None where it has none."""
    own = weights.below(f"text_encoders.{NAME}.transformer.")
    return clip_of(own) if qwen_vl.recognised(own) else None


def clip_of(weights: Weights) -> Clip:
    """The Clip of an encoder's tensors."""
    encoder = QwenImageEncoder()
    own = weights.renamed(lambda name: f"{NAME}.{name}" if name.startswith(("model.", qwen_vl.VISION)) else None)
    return Clip(encoder=encoder, component=Component(weights=own, build=encoder.build, role="text"))


def _vectors(embeddings: Embeddings, name: str) -> torch.Tensor | None:
    found = embeddings(name)
    if found is None:
        return None
    return found.get(NAME, found.get("", next(iter(found.values()), None)))
