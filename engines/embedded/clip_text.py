"""CLIP's text encoders, built from a file's tensors with transformers, and ComfyUI's weighting of tokens.

Source: ComfyUI ``comfy/sd1_clip.py`` (``encode_token_weights``). A weight moves a token's vector away from (or towards)
what an empty text has in its place.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

import torch

from .problems import NodeProblem

START, END = 49406, 49407
HEAD_SIZE = 64  # of every CLIP text encoder

State = Mapping[str, torch.Tensor]
Section = Sequence[tuple[int, float]]  # tokens with their weights, start, end and padding included


class ClipText:
    """Encodes sections of tokens.

    Args:
        state: the tensors, named as transformers names them (``text_model.embeddings.token_embedding.weight``…), with
            ``text_projection.weight`` where the pooled text is projected.
        activation: "quick_gelu" for OpenAI's CLIP-L, "gelu" for OpenCLIP's.
        padding: the token that fills a section up: `END` for CLIP-L, 0 for OpenCLIP's.

    Raises:
        NodeProblem: the tensors are those of no such encoder.
    """

    def __init__(self, state: State, *, activation: str = "quick_gelu", padding: int = END) -> None:
        from transformers import CLIPTextConfig, CLIPTextModel

        own = {name.removeprefix("text_model."): tensor for name, tensor in state.items()}
        self._projection = own.pop("text_projection.weight", None)
        for name in ("logit_scale", "embeddings.position_ids"):
            own.pop(name, None)
        embedding = own.get("embeddings.token_embedding.weight")
        if embedding is None:
            raise NodeProblem("the file holds no CLIP text encoder", remedy="choose one that does, such as clip_l")
        numbers = [int(found[1]) for name in own if (found := re.match(r"encoder\.layers\.(\d+)\.", name))]
        self.layers = 1 + max(numbers, default=-1)
        self.length = own["embeddings.position_embedding.weight"].shape[0]
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
        model: Any = CLIPTextModel(config)  # its methods have no types
        self.model = model.eval()
        # transformers 4 keeps its tensors below text_model, transformers 5 does not
        prefix = "text_model." if any(name.startswith("text_model.") for name in self.model.state_dict()) else ""
        try:
            self.model.load_state_dict({f"{prefix}{name}": tensor for name, tensor in own.items()})
        except RuntimeError as error:
            raise NodeProblem("the text encoder's file is not whole", remedy="fetch the file again") from error
        self._norm: Any = self.model.text_model.final_layer_norm if prefix else self.model.final_layer_norm

    def encode(
        self, sections: Sequence[Section], *, layer: int = -1, normalised: bool = True
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """The text [1, sections * length, width] and its pooled vector [1, width].

        Args:
            sections: at least one, all of one length.
            layer: from which layer: -1 the last, -2 the last but one ("clip skip 2")…
            normalised: whether the last norm is applied to an earlier layer too.
        """
        tokens = [[token for token, _ in section] for section in sections]
        weighted = any(weight != 1.0 for section in sections for _, weight in section)
        if weighted:
            length = len(tokens[0])
            tokens.append([START, END, *([self.padding] * (length - 2))])
        hidden, pooled = self._run(torch.tensor(tokens), layer, normalised)
        vectors = hidden[: len(sections)].clone()
        if weighted:
            empty = hidden[-1]
            weights = torch.tensor([[weight for _, weight in section] for section in sections], dtype=vectors.dtype)
            changed = (vectors - empty) * weights.unsqueeze(-1) + empty
            vectors = torch.where((weights != 1.0).unsqueeze(-1), changed, vectors)
        return vectors.reshape(1, -1, vectors.shape[-1]), pooled[:1]

    def _run(self, tokens: torch.Tensor, layer: int, normalised: bool) -> tuple[torch.Tensor, torch.Tensor]:
        if not -self.layers <= layer <= -1:
            raise NodeProblem(f"the text encoder has no layer {layer}", remedy=f"use -1 to -{self.layers}")
        answer = self.model(input_ids=tokens, output_hidden_states=True)
        last: torch.Tensor = answer.last_hidden_state
        hidden: torch.Tensor = last
        if layer != -1:
            hidden = answer.hidden_states[layer]
            hidden = self._norm(hidden) if normalised else hidden
        ends = (tokens == END).int().argmax(dim=-1)
        pooled = last[torch.arange(len(tokens)), ends]
        return hidden, pooled if self._projection is None else pooled @ self._projection.T
