"""The U-Net of Stable Diffusion 1.x, 2.x and SDXL, built from a checkpoint's tensors with diffusers' blocks.

How many levels there are, how wide they are and where attention sits is read from names and shapes, so that small
models of the same layout load too. Layout: CompVis ``openaimodel.py``, which checkpoints and ComfyUI keep.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import torch
from torch import nn

from .problems import NodeProblem

GROUPS = 32
_RESNET_NAMES = {
    "in_layers.0": "norm1",
    "in_layers.2": "conv1",
    "emb_layers.1": "time_emb_proj",
    "out_layers.0": "norm2",
    "out_layers.3": "conv2",
    "skip_connection": "conv_shortcut",
}

State = Mapping[str, torch.Tensor]


class UNet(nn.Module):
    """Predicts from a noisy latent, timesteps and text what was added (or the velocity).

    Args:
        state: the tensors, named as in ``model.diffusion_model`` (``input_blocks.0.0.weight``…).
        heads: attention heads at every level (SD 1.x has 8); or
        head_size: the width of a head, the number follows (SD 2.x and SDXL: 64).

    Raises:
        NodeProblem: the tensors are those of no such U-Net.
    """

    def __init__(self, state: State, *, heads: int | None = None, head_size: int | None = None) -> None:
        super().__init__()
        if "input_blocks.0.0.weight" not in state or "out.2.weight" not in state:
            raise NodeProblem("the file holds no U-Net of Stable Diffusion", remedy="choose a checkpoint that does")
        self.width = state["input_blocks.0.0.weight"].shape[0]
        self._head_options = (heads, head_size)
        self.time_embed = _mlp(state, "time_embed")
        self.label_embed = _mlp(state, "label_emb.0") if "label_emb.0.0.weight" in state else None
        self.down = self._blocks(state, "input_blocks")
        self.middle = nn.ModuleList(self._parts(state, "middle_block"))
        self.up = self._blocks(state, "output_blocks")
        self.norm = nn.GroupNorm(GROUPS, state["out.0.weight"].shape[0])
        self.out = _conv(state["out.2.weight"])
        _load(self.norm, state, "out.0")
        _load(self.out, state, "out.2")

    def _blocks(self, state: State, name: str) -> nn.ModuleList:
        count = 1 + max(int(key.split(".")[1]) for key in state if key.startswith(f"{name}."))
        return nn.ModuleList(nn.ModuleList(self._parts(state, f"{name}.{index}")) for index in range(count))

    def _parts(self, state: State, prefix: str) -> list[nn.Module]:
        inside = re.compile(re.escape(prefix) + r"\.(\d+)\.")
        numbers = sorted({int(found[1]) for key in state if (found := inside.match(key))})
        return [self._part(state, f"{prefix}.{number}") for number in numbers]

    def _part(self, state: State, prefix: str) -> nn.Module:
        from diffusers.models.downsampling import Downsample2D
        from diffusers.models.resnet import ResnetBlock2D
        from diffusers.models.upsampling import Upsample2D

        part: nn.Module
        if f"{prefix}.in_layers.2.weight" in state:
            out_channels, in_channels = state[f"{prefix}.in_layers.2.weight"].shape[:2]
            part = ResnetBlock2D(
                in_channels=in_channels,
                out_channels=out_channels,
                temb_channels=state[f"{prefix}.emb_layers.1.weight"].shape[1],
                groups=GROUPS,
                eps=1e-5,
            )
            _load(part, state, prefix, _RESNET_NAMES)
        elif f"{prefix}.transformer_blocks.0.norm1.weight" in state:
            part = self._transformer(state, prefix)
        elif f"{prefix}.op.weight" in state:
            channels = state[f"{prefix}.op.weight"].shape[0]
            part = Downsample2D(channels, use_conv=True, padding=1, name="op")
            _load(part, state, prefix, {"op": "conv"})
        elif f"{prefix}.conv.weight" in state:
            part = Upsample2D(state[f"{prefix}.conv.weight"].shape[0], use_conv=True)
            _load(part, state, prefix)
        elif f"{prefix}.weight" in state:
            part = _conv(state[f"{prefix}.weight"])
            _load(part, state, prefix)
        else:
            raise NodeProblem(f"the U-Net has an unknown part {prefix!r}", remedy="run it on a ComfyUI")
        return part

    def _transformer(self, state: State, prefix: str) -> nn.Module:
        from diffusers.models.transformers.transformer_2d import Transformer2DModel

        inner, channels = state[f"{prefix}.proj_in.weight"].shape[:2]
        heads, size = self._head_options
        blocks = re.compile(re.escape(prefix) + r"\.transformer_blocks\.(\d+)\.")
        part = Transformer2DModel(
            num_attention_heads=heads or inner // (size or 64),
            attention_head_dim=inner // heads if heads else size or 64,
            in_channels=channels,
            num_layers=1 + max(int(found[1]) for key in state if (found := blocks.match(key))),
            cross_attention_dim=state[f"{prefix}.transformer_blocks.0.attn2.to_k.weight"].shape[1],
            use_linear_projection=state[f"{prefix}.proj_in.weight"].ndim == 2,
            norm_num_groups=GROUPS,
        )
        _load(part, state, prefix)
        module: nn.Module = part
        return module

    def forward(
        self, x: torch.Tensor, timesteps: torch.Tensor, context: torch.Tensor, label: torch.Tensor | None = None
    ) -> torch.Tensor:
        """The prediction.

        Args:
            x: latent [batch, channels, rows, columns], scaled as the model was trained.
            timesteps: [batch].
            context: text [batch, tokens, width].
            label: what SDXL is told besides (pooled text and sizes) [batch, width].
        """
        from diffusers.models.embeddings import get_timestep_embedding

        steps = get_timestep_embedding(timesteps, self.width, flip_sin_to_cos=True, downscale_freq_shift=0)
        told = self.time_embed(steps.to(x.dtype))
        if self.label_embed is not None:
            if label is None:
                raise NodeProblem("this model needs a pooled text", remedy="wire a text encoder of SDXL")
            told = told + self.label_embed(label.to(x.dtype))
        kept: list[torch.Tensor] = []
        for block in self.down:
            x = _through(block, x, told, context)
            kept.append(x)
        x = _through(self.middle, x, told, context)
        for block in self.up:
            x = torch.cat([x, kept.pop()], dim=1)
            x = _through(block, x, told, context, size=kept[-1].shape[-2:] if kept else None)
        return self.out(torch.nn.functional.silu(self.norm(x)))  # type: ignore[no-any-return] # a module's call is Any


def _through(parts: Any, x: torch.Tensor, told: torch.Tensor, context: torch.Tensor, size: Any = None) -> torch.Tensor:
    for part in parts:
        kind = type(part).__name__
        if kind == "ResnetBlock2D":
            x = part(x, told)
        elif kind == "Transformer2DModel":
            x = part(x, encoder_hidden_states=context, return_dict=False)[0]
        elif kind == "Upsample2D":
            x = part(x, output_size=size)  # of what it is joined with: odd sizes were rounded on the way down
        else:
            x = part(x)
    return x


def _conv(weight: torch.Tensor) -> nn.Conv2d:
    size = weight.shape[-1]
    return nn.Conv2d(weight.shape[1], weight.shape[0], size, padding=size // 2)


def _mlp(state: State, prefix: str) -> nn.Sequential:
    first, last = state[f"{prefix}.0.weight"], state[f"{prefix}.2.weight"]
    module = nn.Sequential(
        nn.Linear(first.shape[1], first.shape[0]), nn.SiLU(), nn.Linear(last.shape[1], last.shape[0])
    )
    _load(module, state, prefix)
    return module


def _load(module: nn.Module, state: State, prefix: str, names: Mapping[str, str] | None = None) -> None:
    """Fill `module` from the tensors below `prefix`, whose parts are called `names` there."""
    own: dict[str, torch.Tensor] = {}
    for key, tensor in state.items():
        if not key.startswith(f"{prefix}."):
            continue
        path, _, kind = key[len(prefix) + 1 :].rpartition(".")
        path = (names or {}).get(path, path)
        own[f"{path}.{kind}" if path else kind] = tensor
    try:
        module.load_state_dict(own)
    except RuntimeError as error:
        raise NodeProblem(f"the U-Net's part {prefix!r} is not whole", remedy="fetch the file again") from error
