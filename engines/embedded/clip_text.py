"""CLIP's text encoders, built from a file's tensors with transformers, and ComfyUI's weighting of tokens.

Source: ComfyUI ``comfy/sd1_clip.py`` (``encode_token_weights``, ``process_tokens``), ``comfy/clip_model.py``. A weight
moves a token's vector away from (or towards) what an empty text has in its place. A token may be a vector itself
(textual inversion).
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import nn

from .problems import NodeProblem

START, END = 49406, 49407
HEAD_SIZE = 64  # of every CLIP text encoder

State = Mapping[str, torch.Tensor]
Token = int | torch.Tensor
Section = Sequence[tuple[Token, float]]  # tokens with their weights, start, end and padding included


class ClipText(nn.Module):
    """Encodes sections of tokens.

    Args:
        state: the tensors, named as transformers names them (``text_model.embeddings.token_embedding.weight``…), with
            ``text_projection.weight`` where the pooled text is projected. They are used as they are, not copied.
        activation: "quick_gelu" for OpenAI's CLIP-L, "gelu" for OpenCLIP's.
        padding: the token that fills a section up: `END` for CLIP-L, 0 for OpenCLIP's.

    Raises:
        NodeProblem: the tensors are those of no such encoder.
    """

    def __init__(self, state: State, *, activation: str = "quick_gelu", padding: int = END) -> None:
        super().__init__()
        from transformers import CLIPTextConfig, CLIPTextModel

        own = {name.removeprefix("text_model."): tensor for name, tensor in state.items()}
        projection = own.pop("text_projection.weight", None)
        for name in ("logit_scale", "embeddings.position_ids"):
            own.pop(name, None)
        embedding = own.get("embeddings.token_embedding.weight")
        if embedding is None:
            raise NodeProblem("the file holds no CLIP text encoder", remedy="choose one that does, such as clip_l")
        numbers = [int(found[1]) for name in own if (found := re.match(r"encoder\.layers\.(\d+)\.", name))]
        self.layers = 1 + max(numbers, default=-1)
        self.length = own["embeddings.position_embedding.weight"].shape[0]
        self.width: int = embedding.shape[1]
        self.padding = padding
        config = CLIPTextConfig(
            vocab_size=embedding.shape[0],
            hidden_size=embedding.shape[1],
            intermediate_size=own["encoder.layers.0.mlp.fc1.weight"].shape[0],
            num_hidden_layers=self.layers,
            num_attention_heads=max(1, embedding.shape[1] // HEAD_SIZE),
            max_position_embeddings=self.length,
            hidden_act=activation,
            bos_token_id=START,
            eos_token_id=END,
            pad_token_id=padding,
        )
        with torch.device("meta"):
            model: Any = CLIPTextModel(config)  # its methods have no types
        self.model = model.requires_grad_(False).eval()
        # transformers 4 keeps its tensors below text_model, transformers 5 does not
        prefix = "text_model." if any(name.startswith("text_model.") for name in self.model.state_dict()) else ""
        try:
            self.model.load_state_dict({f"{prefix}{name}": tensor for name, tensor in own.items()}, assign=True)
        except RuntimeError as error:
            raise NodeProblem("the text encoder's file is not whole", remedy="fetch the file again") from error
        inner: Any = self.model.text_model if prefix else self.model
        inner.embeddings.position_ids = torch.arange(self.length).expand(1, -1)
        inner.embeddings.token_embedding = _Table(inner.embeddings.token_embedding.weight)
        self._inner = inner
        self._projection: nn.Linear | None = None
        if projection is not None:
            with torch.device("meta"):
                self._projection = nn.Linear(projection.shape[1], projection.shape[0], bias=False)
            self._projection.load_state_dict({"weight": projection}, assign=True)
            self._projection.requires_grad_(False)

    def encode(
        self, sections: Sequence[Section], *, layer: int | None = -1, normalised: bool = True, projected: bool = True
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """The text [1, sections * length, width] and its pooled vector [1, width].

        Args:
            sections: at least one, all of one length.
            layer: from which layer: -1 the last, -2 the last but one ("clip skip 2")…; None, or one that is not there,
                is the last with its norm.
            normalised: whether the last norm is applied to that layer.
            projected: whether the pooled vector is projected, where the model has a projection.
        """
        rows = [[token for token, _ in section] for section in sections]
        weighted = any(weight != 1.0 for section in sections for _, weight in section)
        if weighted:
            length = len(rows[0])
            rows.append([START, END, *([self.padding] * (length - 2))])
        hidden, pooled = self._run(rows, layer, normalised, projected)
        vectors = hidden[: len(sections)].clone()
        if weighted:
            empty = hidden[-1]
            numbers = [[weight for _, weight in section] for section in sections]
            weights = torch.tensor(numbers, dtype=vectors.dtype, device=vectors.device)
            changed = (vectors - empty) * weights.unsqueeze(-1) + empty
            vectors = torch.where((weights != 1.0).unsqueeze(-1), changed, vectors)
        return vectors.reshape(1, -1, vectors.shape[-1]), pooled[:1]

    def _run(
        self, rows: Sequence[Sequence[Token]], layer: int | None, normalised: bool, projected: bool
    ) -> tuple[torch.Tensor, torch.Tensor]:
        device = self._inner.embeddings.token_embedding.device
        vectors, tokens = self._looked_up(rows, device)
        table: _Table = self._inner.embeddings.token_embedding
        seen: list[torch.Tensor] = []
        chosen = None if layer is None or abs(layer) > self.layers else self._inner.encoder.layers[layer]
        hook = None if chosen is None else chosen.register_forward_hook(lambda _, __, out: seen.append(_first(out)))
        table.given = vectors
        try:
            last: torch.Tensor = self.model(input_ids=tokens).last_hidden_state
        finally:
            table.given = None
            if hook is not None:
                hook.remove()
        hidden = last
        if seen:
            hidden = self._inner.final_layer_norm(seen[0]) if normalised else seen[0]
        ends = (tokens == END).int().argmax(dim=-1)
        pooled = last[torch.arange(len(tokens), device=last.device), ends]
        if projected and self._projection is not None:
            pooled = self._projection(pooled)
        return hidden, pooled

    def _looked_up(self, rows: Sequence[Sequence[Token]], device: torch.device) -> tuple[torch.Tensor, torch.Tensor]:
        """The vectors of the tokens, and the tokens, where a vector is -1. Vectors of another width are left out."""
        table: _Table = self._inner.embeddings.token_embedding
        kept_rows: list[list[Token]] = []
        for row in rows:
            kept = [token for token in row if isinstance(token, int) or token.shape[-1] == self.width]
            kept_rows.append([*kept, *([self.padding] * (len(row) - len(kept)))])
        numbers = [[token if isinstance(token, int) else -1 for token in row] for row in kept_rows]
        tokens = torch.tensor(numbers, device=device)
        vectors = table.look_up(tokens.clamp_min(0))
        for place, row in enumerate(kept_rows):
            for index, token in enumerate(row):
                if not isinstance(token, int):
                    vectors[place, index] = token.to(vectors)
        return vectors, tokens


def _first(output: Any) -> torch.Tensor:
    tensor: torch.Tensor = output[0] if isinstance(output, tuple) else output
    return tensor


class _Table(nn.Module):
    """The token embedding: kept as the file has it, rows cast when looked up; or what was looked up before."""

    def __init__(self, weight: torch.Tensor) -> None:
        super().__init__()
        self.weight = nn.Parameter(weight.data, requires_grad=False)
        self.given: torch.Tensor | None = None
        self.device = weight.device

    def moved(self, device: torch.device, dtype: torch.dtype) -> None:
        """What is looked up goes to that device; the table stays (see ``diffusion.streaming``)."""
        self.device = device

    def look_up(self, tokens: torch.Tensor) -> torch.Tensor:
        """The vectors of tokens, float32."""
        return nn.functional.embedding(tokens.to(self.weight.device), self.weight).to(self.device, torch.float32)

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        """See `given`."""
        return self.look_up(tokens) if self.given is None else self.given
