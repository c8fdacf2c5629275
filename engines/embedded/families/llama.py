"""Llama 3 as a text encoder that shows every layer, built from a file's tensors with transformers' `LlamaModel`.

Sizes are read from shapes (heads are 128 wide). Behaviour of ComfyUI 0.33.0 ``comfy/text_encoders/llama.py`` and
``comfy/text_encoders/hidream.py``; it has Llama 3.1's positions unscaled.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence
from typing import Any

import torch
from torch import nn

from ..diffusion.weights import State, fill
from ..problems import NodeProblem
from .tokens import Layout, Token

START, PAD = 128000, 128009
HIDREAM = Layout(start=START, pad=PAD, least=128)
HEAD_SIZE = 128
ROPE_BASE = 500000.0
_LAYER = re.compile(r"model\.layers\.(\d+)\.")


def recognised(names: Collection[str]) -> bool:
    """Whether the names are those of a Llama (and not of Qwen 2.5, whose projections have a bias)."""
    return (
        "model.embed_tokens.weight" in names
        and "model.layers.0.self_attn.k_proj.weight" in names
        and "model.layers.0.self_attn.k_proj.bias" not in names
        and "model.layers.0.self_attn.q_norm.weight" not in names
        and "model.layers.0.post_feedforward_layernorm.weight" not in names
    )


class LlamaText(nn.Module):
    """Encodes tokens.

    Args:
        state: the tensors, named ``model.layers.0.self_attn.q_proj.weight``…; used as they are, not copied.
        layout: whose start and pad tokens the encoder knows.

    Raises:
        NodeProblem: the tensors are those of no such encoder.
    """

    def __init__(self, state: State, *, layout: Layout = HIDREAM) -> None:
        super().__init__()
        from transformers.models.llama import modeling_llama as llama

        config = _configuration(state)
        with torch.device("meta"):
            self.model: Any = llama.LlamaModel(config)
        self.model.rotary_emb = llama.LlamaRotaryEmbedding(config=config)  # computed, not loaded
        own = {name.removeprefix("model."): state[name] for name in state if name.startswith("model.")}
        fill(self.model, own, what="the Llama text encoder")
        self.width: int = config.hidden_size
        self.layout = layout

    def encode(self, section: Sequence[Token]) -> torch.Tensor:
        """What each layer makes of the tokens: [1, layers, tokens, width] in float32, the last with its norm.

        Padding is hidden from the text. ComfyUI reads a token's weight as that of the layer of its number; so is it
        here.
        """
        rows = [[token for token, _ in section]]
        weights = [weight for _, weight in section]
        weighted = any(weight != 1.0 for weight in weights)
        if weighted:
            rows.append([self.layout.start, *([self.layout.pad] * (len(section) - 1))])
        vectors, mask = self._embedded(rows)
        places = torch.arange(vectors.shape[1], device=vectors.device).unsqueeze(0)
        answer = self.model(
            inputs_embeds=vectors,
            attention_mask=mask,
            position_ids=places,
            output_hidden_states=True,
            use_cache=False,
        )
        states = torch.stack(answer.hidden_states, dim=1).float()  # the first is what goes into the first layer
        text = states[:1]
        if weighted:
            scale = text.new_ones(states.shape[1])
            told = weights[: states.shape[1]]
            scale[: len(told)] = torch.tensor(told, device=scale.device)
            wide = scale.reshape(1, -1, 1, 1)
            text = torch.where(wide != 1.0, (text - states[-1:]) * wide + states[-1:], text)
        return text[:, 1:]

    def _embedded(self, rows: Sequence[Sequence[Any]]) -> tuple[torch.Tensor, torch.Tensor]:
        """The vectors [rows, tokens, width] in the encoder's dtype, and which are text [rows, tokens] (1 or 0)."""
        table = self.model.embed_tokens
        words = table.weight.shape[0]
        embedded: list[torch.Tensor] = []
        masks: list[list[int]] = []
        for row in rows:
            fits = [token for token in row if isinstance(token, int) or token.shape[-1] == self.width]
            fits += [self.layout.pad] * (len(row) - len(fits))  # an embedding of another width is left out
            plain = [token if isinstance(token, int) else -1 for token in fits]
            if max(plain) >= words:
                raise NodeProblem(
                    f"the tokenizer knows more words ({max(plain) + 1} at least) than the Llama text encoder ({words})",
                    remedy="choose the text encoder that belongs to the tokenizer",
                )
            # the layer is asked, not its weights: they may be kept elsewhere and smaller until they are used
            vectors = table(torch.tensor(plain, device=table.weight.device).clamp(min=0))
            for place, token in enumerate(fits):
                if not isinstance(token, int):
                    vectors[place] = token.to(vectors)
            ended = plain.index(self.layout.pad) if self.layout.pad in plain else len(plain)
            embedded.append(vectors)
            masks.append([1] * ended + [0] * (len(plain) - ended))
        joined = torch.stack(embedded)
        return joined, torch.tensor(masks, device=joined.device)


def _configuration(state: State) -> Any:
    from transformers import LlamaConfig

    try:
        vocabulary, width = state["model.embed_tokens.weight"].shape
        queries = state["model.layers.0.self_attn.q_proj.weight"].shape[0]
        keys = state["model.layers.0.self_attn.k_proj.weight"].shape[0]
        inner = state["model.layers.0.mlp.gate_proj.weight"].shape[0]
    except (KeyError, ValueError) as error:
        raise NodeProblem(
            f"the file holds no whole Llama text encoder: {error.args[0]!r} is missing",
            remedy="choose one such as llama_3.1_8b_instruct_fp8_scaled.safetensors",
        ) from error
    return LlamaConfig(
        vocab_size=vocabulary,
        hidden_size=width,
        intermediate_size=inner,
        num_hidden_layers=1 + max(int(found[1]) for name in state if (found := _LAYER.match(name))),
        num_attention_heads=queries // HEAD_SIZE,
        num_key_value_heads=keys // HEAD_SIZE,
        head_dim=HEAD_SIZE,
        rms_norm_eps=1e-5,
        rope_parameters={"rope_type": "default", "rope_theta": ROPE_BASE},
        bos_token_id=None,
        eos_token_id=None,
        pad_token_id=None,
        use_cache=False,
        attn_implementation="sdpa",
    )
