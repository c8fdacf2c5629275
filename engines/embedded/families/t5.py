"""T5's encoder, built from a file's tensors with transformers, and ComfyUI's weighting of its tokens.

Source: ComfyUI ``comfy/text_encoders/t5.py`` and ``comfy/sd1_clip.py`` (``SDClipModel``, ``encode_token_weights``): a
weight moves a token's vector away from (or towards) what an empty text has in its place; padding is looked at like
text unless masks are asked for.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import nn

from ..problems import NodeProblem
from .tokens import Layout, Token

END, PAD = 1, 0
FLUX = Layout(end=END, pad=PAD, least=256)
STABLE_DIFFUSION_3 = Layout(end=END, pad=PAD, least=77)
HIDREAM = Layout(end=END, pad=PAD, length=128, least=128)  # of its sections only the first is read

_BIAS = "encoder.block.0.layer.0.SelfAttention.relative_attention_bias.weight"
_QUERY = "encoder.block.0.layer.0.SelfAttention.q.weight"
_FORWARD = "encoder.block.0.layer.1.DenseReluDense."


def recognised(shapes: Mapping[str, Any]) -> bool:
    """Whether the tensors' names are those of a T5 encoder."""
    return _BIAS in shapes and "encoder.final_layer_norm.weight" in shapes


def configuration(state: Mapping[str, torch.Tensor]) -> dict[str, Any]:
    """transformers' settings for these tensors.

    Raises:
        NodeProblem: a tensor that says a size is missing.
    """
    gated = f"{_FORWARD}wi_0.weight" in state
    try:
        buckets, heads = state[_BIAS].shape
        vocabulary, width = state["shared.weight"].shape
        return {
            "vocab_size": vocabulary,
            "d_model": width,
            "d_kv": state[_QUERY].shape[0] // heads,
            "d_ff": state[f"{_FORWARD}{'wi_0' if gated else 'wi'}.weight"].shape[0],
            "num_layers": sum(name.endswith(".SelfAttention.q.weight") for name in state),
            "num_heads": heads,
            "relative_attention_num_buckets": buckets,
            "relative_attention_max_distance": 128,
            "feed_forward_proj": "gated-gelu" if gated else "relu",
            "dropout_rate": 0.0,
        }
    except (KeyError, ValueError) as error:
        raise NodeProblem(
            f"the file holds no whole T5 encoder: {error.args[0]!r} is missing",
            remedy="choose a T5 text encoder such as t5xxl_fp16.safetensors",
        ) from error


class T5Text(nn.Module):
    """Encodes tokens.

    Args:
        state: the tensors, named as transformers names them (``encoder.block.0.layer.0.SelfAttention.q.weight``…,
            ``shared.weight``); used as they are, not copied.

    Raises:
        NodeProblem: the tensors are those of no such encoder.
    """

    def __init__(self, state: Mapping[str, torch.Tensor]) -> None:
        super().__init__()
        from transformers import T5Config, T5EncoderModel

        from ..diffusion.weights import fill

        config = T5Config(**configuration(state))
        if config.is_gated_act:
            config.dense_act_fn = "gelu_pytorch_tanh"  # "gelu_new" by another name; torch has this one whole
        with torch.device("meta"):
            self.model: Any = T5EncoderModel(config)
        own = {name: state[name] for name in state if name != "encoder.embed_tokens.weight"}
        own["encoder.embed_tokens.weight"] = own["shared.weight"]
        fill(self.model, own, what="the T5 text encoder")
        for block in self.model.encoder.block:
            dense = block.layer[-1].DenseReluDense
            dense.wo = _Plain(dense.wo)
        self.width: int = config.d_model
        self._device: torch.device | None = None

    def moved(self, device: torch.device, dtype: torch.dtype) -> None:
        """Weights stay where they are and come to `device` in float32 when used (see ``diffusion.streaming``)."""
        self._device = device

    def encode(
        self, sections: Sequence[Sequence[Token]], *, masked: bool = False, layer: int | None = None
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """The text [1, tokens, width] in float32, and which tokens are text [1, tokens] (1, or 0 behind the end).

        Args:
            sections: tokens with their weights, all of one length.
            masked: whether tokens behind the end are hidden from the others.
            layer: from which layer, -2 the last but one…; the last norm is applied to it. One that is not there
                stands for the last, as in ComfyUI.
        """
        length = max(len(section) for section in sections)
        rows = [[token for token, _ in section] for section in sections]
        weighted = any(weight != 1.0 for section in sections for _, weight in section)
        if weighted:
            rows.append([END, *([PAD] * (length - 1))])
        vectors, mask = self._embedded(rows)
        earlier = layer is not None and -len(self.model.encoder.block) <= layer < -1
        answer = self.model(
            inputs_embeds=vectors,
            attention_mask=mask if masked else torch.ones_like(mask),
            output_hidden_states=earlier,
        )
        hidden = answer.last_hidden_state
        if earlier and layer is not None:
            hidden = self.model.encoder.final_layer_norm(answer.hidden_states[layer])
        hidden = hidden.float()
        text = hidden[: len(sections)]
        if weighted:
            weights = torch.tensor(
                [[weight for _, weight in section] for section in sections], dtype=text.dtype, device=text.device
            ).unsqueeze(-1)
            text = torch.where(weights != 1.0, (text - hidden[-1]) * weights + hidden[-1], text)
        return text.reshape(1, -1, text.shape[-1]), mask[: len(sections)].reshape(1, -1)

    def _embedded(self, rows: Sequence[Sequence[Any]]) -> tuple[torch.Tensor, torch.Tensor]:
        """The vectors [rows, tokens, width] in float32, and their mask [rows, tokens], where the encoder computes."""
        table = self.model.get_input_embeddings().weight
        embedded: list[torch.Tensor] = []
        masks: list[list[int]] = []
        for row in rows:
            # an embedding made for another width is left out, as ComfyUI does; the row keeps its length
            fits = [token for token in row if isinstance(token, int) or token.shape[-1] == self.width]
            fits += [PAD] * (len(row) - len(fits))
            plain = [token if isinstance(token, int) else -1 for token in fits]
            numbers = torch.tensor(plain, device=table.device)
            if int(numbers.max()) >= table.shape[0]:
                raise NodeProblem(
                    f"the tokenizer knows more words ({int(numbers.max()) + 1} at least) than the T5 text encoder "
                    f"({table.shape[0]})",
                    remedy="choose the text encoder that belongs to the tokenizer",
                )
            vectors = table[numbers.clamp(min=0)].float()
            for place, token in enumerate(fits):
                if not isinstance(token, int):
                    vectors[place] = token.to(vectors)
            ended = plain.index(END) if END in plain else len(plain) - 1
            embedded.append(vectors)
            masks.append([1] * (ended + 1) + [0] * (len(plain) - ended - 1))
        device = self._device or table.device
        return torch.stack(embedded).to(device), torch.tensor(masks, device=device)


class _Plain(nn.Module):
    """A linear layer whose dtype is not asked for: transformers casts what it is given to the dtype that the weights
    are kept in, which is not the one that they are used in where they come layer by layer.
    """

    weight = None

    def __init__(self, linear: nn.Module) -> None:
        super().__init__()
        self.linear = linear

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """See `torch.nn.Linear`."""
        y: torch.Tensor = self.linear(x)
        return y
