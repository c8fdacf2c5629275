"""HunyuanImage 2.1's text encoders: Qwen 2.5 VL for the prompt, ByT5 for what stands in quotes (in the picture).

Source: ComfyUI 0.33.0 ``comfy/text_encoders/hunyuan_image.py`` and ``qwen_image.py``.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

import torch
from torch import nn

from ..diffusion.encoders import Clip, TextEncoder
from ..diffusion.values import Condition
from ..diffusion.weights import Component, Deferred, State, Weights
from ..problems import NodeProblem
from . import qwen_vl, t5
from .tokenizers import QWEN25, vocabulary
from .tokens import Layout, sections

TEMPLATE = (
    "<|im_start|>system\nDescribe the image by detailing the color, shape, size, texture, quantity, text, spatial "
    "relationships of the objects and background:<|im_end|>\n<|im_start|>user\n{}<|im_end|>"
)
LAYER = -3  # of Qwen's
QWEN, GLYPHS = "qwen25_7b", "byt5_small"  # the prefixes of their tensors
PROMPT = Layout(pad=qwen_vl.PAD, least=1)
QUOTED = Layout(end=t5.END, pad=t5.PAD, least=1)
NORM = "model.norm.weight"
MESSAGE, USER, LINE_END = 151644, 872, 198  # <|im_start|>, "user", a line's end
BARE_BRACKET = 27  # what a prompt begins with whose template is of another encoder's kind
OTHER_TEMPLATE_END = 36

_QUOTES = (r"\"(.*?)\"", r"‘(.*?)’", r"“(.*?)”")
_SPECIAL = re.compile(r"(<pad>|</s>|<unk>|<extra_id_\d+>)")
_SPECIAL_BYTES = {"<pad>": 0, "</s>": 1, "<unk>": 2}
FIRST_BYTE, FIRST_EXTRA, EXTRAS = 3, 259, 125


def byte_tokens(text: str) -> list[int]:
    """ByT5's tokens of a text: its bytes, behind three special ones."""
    tokens: list[int] = []
    for piece in _SPECIAL.split(text):
        extra = re.fullmatch(r"<extra_id_(\d+)>", piece)
        if piece in _SPECIAL_BYTES:
            tokens.append(_SPECIAL_BYTES[piece])
        elif extra is not None and int(extra[1]) < EXTRAS:
            tokens.append(FIRST_EXTRA + int(extra[1]))
        else:
            tokens.extend(byte + FIRST_BYTE for byte in piece.encode("utf-8", "surrogatepass"))
    return tokens


def quoted(text: str) -> str:
    """What ByT5 is told of a prompt: every text in quotes; empty where there is none."""
    found = [match for pattern in _QUOTES for match in re.findall(pattern, text)]
    return "".join(f'Text "{match}". ' for match in found)


def template_end(tokens: Sequence[Any]) -> int:
    """The token at which the prompt begins, behind the system's message and the user's name."""
    end, seen = -1, 0
    if tokens[0] == BARE_BRACKET and len(tokens) > OTHER_TEMPLATE_END:
        return OTHER_TEMPLATE_END
    for place, token in enumerate(tokens):
        if token == MESSAGE and seen < 2:
            end = place
            seen += 1
    if len(tokens) > end + 3 and tokens[end + 1] == USER and tokens[end + 2] == LINE_END:
        end += 3
    return end


class HunyuanModules(nn.Module):
    """The built encoders; `glyphs` is None where there is no file of it."""

    def __init__(self, qwen: qwen_vl.QwenVL, glyphs: t5.T5Text | None) -> None:
        super().__init__()
        self.qwen = qwen
        self.glyphs = glyphs


class HunyuanText(TextEncoder):
    """Qwen 2.5 VL, and perhaps ByT5."""

    family = "hunyuan_image"
    tokenizers = (QWEN25,)

    def build(self, state: State) -> HunyuanModules:
        """See `TextEncoder.build`."""
        parts: dict[str, dict[str, torch.Tensor]] = {QWEN: {}, GLYPHS: {}}
        for name in state:
            prefix, _, rest = name.partition(".")
            parts[prefix][rest] = state[name]
        glyphs = t5.T5Text(parts[GLYPHS]) if parts[GLYPHS] else None
        return HunyuanModules(qwen_vl.QwenVL(parts[QWEN]), glyphs)

    def tokenize(
        self, text: str, *, run: Any = None, llama_template: str | None = None, embeddings: Any = None, **options: Any
    ) -> dict[str, Any]:
        """See `TextEncoder.tokenize`: the prompt in its template, without weights; quoted text with weights.

        Args:
            run: whose folders are searched for the tokenizer.
        """
        whole = text
        if not text.startswith(("<|im_start|>", "<|start_header_id|>")):
            whole = (llama_template or TEMPLATE).format(text)
        words = vocabulary(QWEN25, run)
        (prompt,) = sections(whole, words.encode, PROMPT, weighted=False)
        tokens: dict[str, Any] = {QWEN: [token for token, _ in prompt]}
        glyphs = quoted(text)
        if glyphs:
            tokens[GLYPHS] = sections(glyphs, byte_tokens, QUOTED)
        return tokens

    def encode(self, module: Any, tokens: Any, *, layer: int | None = None) -> Condition:
        """See `TextEncoder.encode`: the prompt without its template; ByT5's vectors as ``conditioning_byt5small``."""
        hidden, mask = module.qwen.encode(tokens[QWEN], layer=LAYER if layer is None else layer)
        start = template_end(tokens[QWEN])
        text, mask = hidden[:, start:].float().cpu(), mask[:, start:]
        options: dict[str, Any] = {}
        if not bool(mask.all()):
            options["attention_mask"] = mask.cpu()
        if module.glyphs is not None and GLYPHS in tokens:
            glyphs, seen = module.glyphs.encode(tokens[GLYPHS], masked=True)
            options["conditioning_byt5small"] = (glyphs * seen.unsqueeze(-1)).float().cpu()
        return Condition(text=text, options=options)


def _rounded(tensors: dict[str, Any]) -> dict[str, Any]:
    """The same with ByT5's tensors in the dtype of Qwen's last norm: ComfyUI keeps both encoders in that."""
    norm = tensors.get(f"{QWEN}.{NORM}")
    if norm is None:
        return tensors
    dtype: torch.dtype = norm.dtype
    own = f"{GLYPHS}."
    return {
        name: _as(tensor, dtype) if name.startswith(own) and tensor.dtype != dtype else tensor
        for name, tensor in tensors.items()
    }


def _as(tensor: torch.Tensor | Deferred, dtype: torch.dtype) -> Deferred:
    def make() -> torch.Tensor:
        whole = tensor.make() if isinstance(tensor, Deferred) else tensor
        return whole.to(dtype)

    return Deferred(shape=tensor.shape, dtype=dtype, make=make)


def clip_of(files: Sequence[Weights], kind: str) -> Clip:
    """The encoders in one or two files, in any order.

    Raises:
        NodeProblem: there is no Qwen 2.5 among them, or a file is of another encoder.
    """
    tensors: dict[str, Any] = {}
    names: list[str] = []
    for weights in files:
        if qwen_vl.recognised(weights):
            prefix = QWEN
        elif t5.recognised(weights):
            prefix = GLYPHS
        else:
            raise NodeProblem(
                f"{weights.source!r} is no text encoder of HunyuanImage",
                remedy="choose qwen_2.5_vl_7b and byt5_small_glyphxl",
            )
        if prefix in names:
            raise NodeProblem(
                f"{weights.source!r} is the second file of one text encoder",
                remedy="choose qwen_2.5_vl_7b and byt5_small_glyphxl",
            )
        names.append(prefix)
        tensors |= {f"{prefix}.{name}": weights.entry(name) for name in weights}
    if QWEN in names and GLYPHS in names:
        tensors = _rounded(tensors)
    if QWEN not in names:
        raise NodeProblem(
            "HunyuanImage's text encoder Qwen 2.5 VL is not among the files", remedy="choose qwen_2.5_vl_7b too"
        )
    encoder = HunyuanText()
    joined = Weights(tensors, source=" and ".join(repr(weights.source) for weights in files))
    return Clip(encoder=encoder, component=Component(weights=joined, build=encoder.build, role="text"))
