"""Qwen 2.5 VL as a text encoder that also looks at pictures, built from a file's tensors with transformers.

Sizes are read from shapes (heads are 128 wide, those of the vision tower 80). Behaviour of ComfyUI 0.33.0
``comfy/text_encoders/llama.py`` and ``comfy/text_encoders/qwen_vl.py``.
"""

from __future__ import annotations

import math
import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from ..diffusion.weights import State, fill
from ..problems import NodeProblem

PAD = 151643
HEAD_SIZE = 128
VISION_HEAD_SIZE = 80
FULL_ATTENTION = (7, 15, 23, 31)  # blocks of the vision tower that look beyond their window
PATCH, MERGED = 14, 2  # pixels of a patch's side; patches of a side that become one token
SMALLEST, LARGEST = 3136, 12845056  # pixels that a picture is brought between
MEAN = (0.48145466, 0.4578275, 0.40821073)
DEVIATION = (0.26862954, 0.26130258, 0.27577711)
VISION = "visual."
_PATCHES = "patch_embed.proj.weight"
_LAYER = re.compile(r"model\.layers\.(\d+)\.")
_BLOCK = re.compile(r"visual\.blocks\.(\d+)\.")


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Picture:
    """A picture in the place of a token: [1, height, width, 3] in 0..1."""

    pixels: torch.Tensor


Entry = int | torch.Tensor | Picture
"""What stands in a text: a token's number, a vector [width], or a picture."""


def recognised(names: Collection[str]) -> bool:
    """Whether the names are those of such an encoder (Qwen 2.5, with or without its vision tower)."""
    return "model.layers.0.self_attn.k_proj.bias" in names and "model.embed_tokens.weight" in names


class QwenVL(nn.Module):
    """Encodes a text with pictures in it.

    Args:
        state: the tensors, named ``model.layers.0.self_attn.q_proj.weight``…, ``visual.blocks.0.attn.qkv.weight``…;
            used as they are, not copied. Without the vision tower it reads text only.

    Raises:
        NodeProblem: the tensors are those of no such encoder.
    """

    def __init__(self, state: State) -> None:
        super().__init__()
        from transformers.models.qwen2_5_vl import modeling_qwen2_5_vl as qwen

        config = _text_configuration(state)
        with torch.device("meta"):
            self.text: Any = qwen.Qwen2_5_VLTextModel(config)
            for layer in self.text.layers:
                _resized(layer.self_attn, state)
        self.text.rotary_emb = qwen.Qwen2_5_VLRotaryEmbedding(config=config)  # computed, not loaded
        fill(self.text, _below(state, "model."), what="the text encoder")
        self.width: int = config.hidden_size
        self._device: torch.device | None = None
        self.vision: Any = None
        if any(name.startswith(VISION) for name in state):
            vision = _vision_configuration(state)
            with torch.device("meta"):
                self.vision = qwen.Qwen2_5_VisionTransformerPretrainedModel(vision)
            self.vision.rotary_pos_emb = qwen.Qwen2_5_VLVisionRotaryEmbedding(vision)
            seen = _below(state, VISION)
            # transformers casts pictures to the dtype that this one is kept in, which may be a small one
            seen[_PATCHES] = seen[_PATCHES].float()
            fill(self.vision, seen, what="the text encoder's vision tower")

    def moved(self, device: torch.device, dtype: torch.dtype) -> None:
        """Weights stay where they are and come to `device` when they are used (see ``diffusion.streaming``)."""
        self._device = device

    @property
    def device(self) -> torch.device:
        """Where it computes, in float32, as ComfyUI's text encoders do."""
        where: torch.device = self._device or self.text.embed_tokens.weight.device
        return where

    def encode(self, entries: Sequence[Entry], *, layer: int | None = None) -> tuple[torch.Tensor, torch.Tensor]:
        """What it makes of a text: [1, tokens, width] in float32, and which tokens are text [1, tokens] (1 or 0).

        A picture becomes as many tokens as it has pairs of patches.

        Args:
            layer: from which layer, without the last norm: -1 the last…; None for the last with its norm.
        """
        vectors, mask, spans = self._embedded(entries)
        places = positions(mask, spans)
        kept: list[torch.Tensor] = []
        hook = None
        if layer is not None and -len(self.text.layers) <= layer <= -1:
            hook = self.text.layers[layer].register_forward_hook(lambda _module, _inputs, out: kept.append(_first(out)))
        try:
            answer = self.text(
                inputs_embeds=vectors,
                attention_mask=None if bool(mask.all()) else mask,
                position_ids=places.unsqueeze(1),
                use_cache=False,
            )
        finally:
            if hook is not None:
                hook.remove()
        hidden: torch.Tensor = kept[0] if kept else answer.last_hidden_state
        return hidden.float(), mask

    def look(self, picture: torch.Tensor) -> tuple[torch.Tensor, tuple[int, int]]:
        """The vectors [tokens, width] of a picture [1, height, width, 3] in 0..1; its tokens in rows and columns."""
        if self.vision is None:
            raise NodeProblem(
                "the text encoder's file has no vision tower, so it cannot look at a picture",
                remedy="choose the whole file, such as qwen_2.5_vl_7b_fp8_scaled.safetensors",
            )
        patches, (rows, columns) = patched(picture)
        grid = torch.tensor([[1, rows, columns]], device=self.device)
        seen = self.vision(patches.to(device=self.device, dtype=torch.float32), grid_thw=grid)
        vectors: torch.Tensor = seen.pooler_output
        return vectors, (rows // MERGED, columns // MERGED)

    def _embedded(self, entries: Sequence[Entry]) -> tuple[torch.Tensor, torch.Tensor, list[Span]]:
        """The vectors [1, tokens, width], which are text [1, tokens], and where pictures lie."""
        table = self.text.embed_tokens.weight
        parts: list[torch.Tensor] = []
        mask: list[int] = []
        spans: list[Span] = []
        ended = False
        for entry in entries:
            if isinstance(entry, Picture):
                vectors, (rows, columns) = self.look(entry.pixels)
                spans.append(Span(start=len(mask), rows=rows, columns=columns))
            elif isinstance(entry, torch.Tensor):
                if entry.shape[-1] != self.width:  # an embedding made for another encoder: ComfyUI leaves it out too
                    continue
                vectors = entry.reshape(-1, self.width)
            else:
                if entry >= table.shape[0]:
                    raise NodeProblem(
                        f"the tokenizer knows more words ({entry + 1} at least) than the text encoder "
                        f"({table.shape[0]})",
                        remedy="choose the text encoder that belongs to the tokenizer",
                    )
                vectors = table[entry : entry + 1]
                ended = ended or entry == PAD
                parts.append(vectors.to(self.device, torch.float32))
                mask.append(0 if ended else 1)
                continue
            parts.append(vectors.to(self.device, torch.float32))
            mask += [1] * vectors.shape[0]
        return torch.cat(parts).unsqueeze(0), torch.tensor([mask], device=self.device), spans


@dataclass(frozen=True, kw_only=True, slots=True)
class Span:
    """Where a picture lies among the tokens: from `start`, as many as `rows` times `columns`."""

    start: int
    rows: int
    columns: int


def positions(mask: torch.Tensor, spans: Sequence[Span]) -> torch.Tensor:
    """The places [3, tokens] (time, row, column) of tokens of which `mask` [1, tokens] tells text from padding.

    Text counts on; a picture's tokens stand at one time in rows and columns, and what follows goes on behind its
    longer side. Behind pictures padding keeps the place 1, as in ComfyUI.
    """
    count = mask.shape[1]
    if not spans:
        return torch.arange(count, device=mask.device).repeat(3, 1)
    places = torch.ones((3, count), dtype=torch.long, device=mask.device)
    places[:, : spans[0].start] = torch.arange(spans[0].start, device=mask.device)
    moved = 0
    for span in spans:
        size, longer = span.rows * span.columns, max(span.rows, span.columns)
        start, end = span.start, span.start + size
        after = mask[0, end:]
        counted = after.cumsum(0) - 1 + start + longer + moved
        places[:, end:] = torch.where(after.bool(), counted, places[0, end:])
        grid = torch.arange(size, device=mask.device)
        places[0, start:end] = start + moved
        places[1, start:end] = start + moved + grid // -(-size // span.rows)
        places[2, start:end] = start + moved + grid % span.columns
        moved += longer - size
    return places


def patched(picture: torch.Tensor) -> tuple[torch.Tensor, tuple[int, int]]:
    """The patches [count, 3 * 2 * 14 * 14] of a picture [1, height, width, 3] in 0..1, and its rows and columns of
    them. Sides are brought to multiples of 28 first."""
    pixels = picture[:1, :, :, :3].movedim(-1, 1)
    height, width = pixels.shape[-2:]
    step = PATCH * MERGED
    rows, columns = round(height / step) * step, round(width / step) * step
    if rows * columns > LARGEST:
        ratio = math.sqrt(height * width / LARGEST)
        rows, columns = (max(step, math.floor(side / ratio / step) * step) for side in (height, width))
    elif rows * columns < SMALLEST:
        ratio = math.sqrt(SMALLEST / (height * width))
        rows, columns = (math.ceil(side * ratio / step) * step for side in (height, width))
    pixels = torch.nn.functional.interpolate(pixels, size=(rows, columns), mode="bilinear", align_corners=False)
    mean, deviation = (torch.tensor(numbers, device=pixels.device).reshape(1, 3, 1, 1) for numbers in (MEAN, DEVIATION))
    pixels = ((pixels - mean) / deviation).repeat(2, 1, 1, 1)  # a still picture is shown as two frames
    down, along = rows // PATCH, columns // PATCH
    pixels = pixels.reshape(1, 2, 3, down // MERGED, MERGED, PATCH, along // MERGED, MERGED, PATCH)
    pixels = pixels.permute(0, 3, 6, 4, 7, 2, 1, 5, 8)
    return pixels.reshape(down * along, 3 * 2 * PATCH * PATCH), (down, along)


def _text_configuration(state: State) -> Any:
    from transformers.models.qwen2_5_vl.configuration_qwen2_5_vl import Qwen2_5_VLTextConfig

    try:
        vocabulary, width = state["model.embed_tokens.weight"].shape
        keys = state["model.layers.0.self_attn.k_proj.weight"].shape[0]
        inner = state["model.layers.0.mlp.gate_proj.weight"].shape[0]
    except (KeyError, ValueError) as error:
        raise NodeProblem(
            f"the file holds no whole Qwen 2.5 text encoder: {error.args[0]!r} is missing",
            remedy="choose one such as qwen_2.5_vl_7b_fp8_scaled.safetensors",
        ) from error
    return Qwen2_5_VLTextConfig(
        vocab_size=vocabulary,
        hidden_size=width,
        intermediate_size=inner,
        num_hidden_layers=1 + max(int(found[1]) for name in state if (found := _LAYER.match(name))),
        num_attention_heads=width // HEAD_SIZE,
        num_key_value_heads=keys // HEAD_SIZE,
        rms_norm_eps=1e-6,
        max_position_embeddings=128000,
        rope_parameters={"rope_type": "default", "rope_theta": 1000000.0, "mrope_section": [16, 24, 24]},
        use_sliding_window=False,
        use_cache=False,
        bos_token_id=None,
        eos_token_id=None,
        pad_token_id=None,
        attn_implementation="sdpa",
    )


def _resized(attention: Any, state: State) -> None:
    """Give an attention as many heads as the file has; transformers knows only as many as make up the width."""
    rows = state["model.layers.0.self_attn.q_proj.weight"].shape[0]
    heads = rows // HEAD_SIZE
    if rows == attention.q_proj.out_features:
        return
    attention.q_proj = nn.Linear(attention.hidden_size, rows)
    attention.o_proj = nn.Linear(rows, attention.hidden_size, bias=False)
    attention.num_heads = heads
    attention.num_key_value_groups = heads // attention.num_key_value_heads


def _vision_configuration(state: State) -> Any:
    from transformers.models.qwen2_5_vl.configuration_qwen2_5_vl import Qwen2_5_VLVisionConfig

    try:
        width = state["visual.patch_embed.proj.weight"].shape[0]
        inner = state["visual.blocks.0.mlp.gate_proj.weight"].shape[0]
        out = state["visual.merger.mlp.2.weight"].shape[0]
    except KeyError as error:
        raise NodeProblem(
            f"the text encoder's vision tower has no tensor {error.args[0]!r}", remedy="fetch the file again"
        ) from error
    return Qwen2_5_VLVisionConfig(
        depth=1 + max(int(found[1]) for name in state if (found := _BLOCK.match(name))),
        hidden_size=width,
        intermediate_size=inner,
        num_heads=width // VISION_HEAD_SIZE,
        out_hidden_size=out,
        fullatt_block_indexes=list(FULL_ATTENTION),
        attn_implementation="sdpa",
    )


def _below(state: State, prefix: str) -> dict[str, torch.Tensor]:
    return {name[len(prefix) :]: state[name] for name in state if name.startswith(prefix)}


def _first(output: Any) -> torch.Tensor:
    found: torch.Tensor = output[0] if isinstance(output, tuple) else output
    return found
