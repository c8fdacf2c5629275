"""The U-Net of Stable Diffusion 1.x, 2.x and SDXL, built from a checkpoint's tensors with diffusers' blocks.

How many levels there are, how wide they are and where attention sits is read from names and shapes, so that small
models of the same layout load too. Layout: CompVis ``openaimodel.py``, which checkpoints and ComfyUI keep.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import nn

from .diffusion.unet_names import RESNET
from .problems import NodeProblem

LOG = logging.getLogger(__name__)
GROUPS = 32

State = Mapping[str, torch.Tensor]
Residuals = Mapping[str, Sequence[torch.Tensor | None]]


class UNetParts(nn.Module):
    """What a U-Net and its ControlNet share: blocks made from tensors, which stay where they are (no copies).

    Args:
        heads: attention heads at every level (SD 1.x has 8); or
        head_size: the width of a head, the number follows (SD 2.x and SDXL: 64).
    """

    width: int  # of the first level
    time_embed: nn.Module
    label_embed: nn.Module | None

    def __init__(self, *, heads: int | None = None, head_size: int | None = None) -> None:
        super().__init__()
        self._head_options = (heads, head_size)

    def told(self, x: torch.Tensor, timesteps: torch.Tensor, label: torch.Tensor | None) -> torch.Tensor:
        """What residual blocks are told of timesteps [batch] and `label` [batch, width]: [batch, width]."""
        from diffusers.models.embeddings import get_timestep_embedding

        steps = get_timestep_embedding(timesteps, self.width, flip_sin_to_cos=True, downscale_freq_shift=0)
        told: torch.Tensor = self.time_embed(steps.to(x.dtype))
        if self.label_embed is not None:
            if label is None:
                raise NodeProblem("this model needs a pooled text", remedy="wire a text encoder of SDXL")
            told = told + self.label_embed(label.to(x.dtype))
        return told

    def blocks(self, state: State, name: str) -> nn.ModuleList:
        """The blocks ``name.0``, ``name.1``…"""
        count = 1 + max(int(key.split(".")[1]) for key in state if key.startswith(f"{name}."))
        return nn.ModuleList(nn.ModuleList(self.parts(state, f"{name}.{index}")) for index in range(count))

    def parts(self, state: State, prefix: str) -> list[nn.Module]:
        """What is in one block, in order."""
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
            with torch.device("meta"):
                part = ResnetBlock2D(
                    in_channels=in_channels,
                    out_channels=out_channels,
                    temb_channels=state[f"{prefix}.emb_layers.1.weight"].shape[1],
                    groups=GROUPS,
                    eps=1e-5,
                )
            load(part, state, prefix, RESNET)
        elif f"{prefix}.transformer_blocks.0.norm1.weight" in state:
            part = self._transformer(state, prefix)
        elif f"{prefix}.op.weight" in state:
            channels = state[f"{prefix}.op.weight"].shape[0]
            with torch.device("meta"):
                part = Downsample2D(channels, use_conv=True, padding=1, name="op")
            load(part, state, prefix, {"op": "conv"})
        elif f"{prefix}.conv.weight" in state:
            with torch.device("meta"):
                part = Upsample2D(state[f"{prefix}.conv.weight"].shape[0], use_conv=True)
            load(part, state, prefix)
        elif f"{prefix}.weight" in state:
            part = conv(state, prefix)
        else:
            raise NodeProblem(f"the U-Net has an unknown part {prefix!r}", remedy="run it on a ComfyUI")
        return part

    def _transformer(self, state: State, prefix: str) -> nn.Module:
        from diffusers.models.transformers.transformer_2d import Transformer2DModel

        inner, channels = state[f"{prefix}.proj_in.weight"].shape[:2]
        heads, size = self._head_options
        blocks = re.compile(re.escape(prefix) + r"\.transformer_blocks\.(\d+)\.")
        with torch.device("meta"):
            part = Transformer2DModel(
                num_attention_heads=heads or inner // (size or 64),
                attention_head_dim=inner // heads if heads else size or 64,
                in_channels=channels,
                num_layers=1 + max(int(found[1]) for key in state if (found := blocks.match(key))),
                cross_attention_dim=state[f"{prefix}.transformer_blocks.0.attn2.to_k.weight"].shape[1],
                use_linear_projection=state[f"{prefix}.proj_in.weight"].ndim == 2,
                norm_num_groups=GROUPS,
            )
        load(part, state, prefix)
        module: nn.Module = part
        return module


class UNet(UNetParts):
    """Predicts from a noisy latent, timesteps and text what was added (or the velocity).

    Args:
        state: the tensors, named as in ``model.diffusion_model`` (``input_blocks.0.0.weight``…).
        heads, head_size: see `UNetParts`.

    Raises:
        NodeProblem: the tensors are those of no such U-Net.
    """

    def __init__(self, state: State, *, heads: int | None = None, head_size: int | None = None) -> None:
        super().__init__(heads=heads, head_size=head_size)
        if "input_blocks.0.0.weight" not in state or "out.2.weight" not in state:
            raise NodeProblem("the file holds no U-Net of Stable Diffusion", remedy="choose a checkpoint that does")
        self.width = state["input_blocks.0.0.weight"].shape[0]
        self.time_embed = mlp(state, "time_embed")
        self.label_embed = mlp(state, "label_emb.0") if "label_emb.0.0.weight" in state else None
        self.down = self.blocks(state, "input_blocks")
        self.middle = nn.ModuleList(self.parts(state, "middle_block"))
        self.up = self.blocks(state, "output_blocks")
        with torch.device("meta"):
            self.norm = nn.GroupNorm(GROUPS, state["out.0.weight"].shape[0])
        load(self.norm, state, "out.0")
        self.out = conv(state, "out.2")

    def forward(
        self,
        x: torch.Tensor,
        timesteps: torch.Tensor,
        context: torch.Tensor,
        label: torch.Tensor | None = None,
        control: Residuals | None = None,
    ) -> torch.Tensor:
        """The prediction.

        Args:
            x: latent [batch, channels, rows, columns], scaled as the model was trained.
            timesteps: [batch].
            context: text [batch, tokens, width].
            label: what SDXL is told besides (pooled text and sizes) [batch, width].
            control: what ControlNets add: "input" to what comes out of each input block, "middle", "output" to what
                each input block hands over to the way up; by the block's number.
        """
        told = self.told(x, timesteps, label)
        added = control or {}
        kept: list[torch.Tensor] = []
        for number, block in enumerate(self.down):
            x = _with(through(block, x, told, context), added.get("input", ()), number)
            kept.append(x)
        x = _with(through(self.middle, x, told, context), added.get("middle", ()), 0)
        for block in self.up:
            side = kept.pop()
            x = torch.cat([x, _with(side, added.get("output", ()), len(kept))], dim=1)
            x = through(block, x, told, context, size=kept[-1].shape[-2:] if kept else None)
        return self.out(torch.nn.functional.silu(self.norm(x)))  # type: ignore[no-any-return] # a module's call is Any


def _with(x: torch.Tensor, added: Sequence[torch.Tensor | None], number: int) -> torch.Tensor:
    """`x` with what is to be added at that block; what does not fit is logged and left out, as in ComfyUI."""
    tensor = added[number] if number < len(added) else None
    if tensor is None:
        return x
    try:
        return x + tensor
    except RuntimeError:
        LOG.warning("a ControlNet's output %s does not fit %s: it is made for another model", tensor.shape, x.shape)
        return x


def through(parts: Any, x: torch.Tensor, told: torch.Tensor, context: torch.Tensor, size: Any = None) -> torch.Tensor:
    """`x` after the parts of a block; `size` is what the way up is joined with next."""
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


def conv(state: State, prefix: str, *, stride: int = 1) -> nn.Conv2d:
    """A convolution that keeps the size (at stride 1), its tensors below `prefix`."""
    weight = state[f"{prefix}.weight"]
    size = weight.shape[-1]
    with torch.device("meta"):
        module = nn.Conv2d(weight.shape[1], weight.shape[0], size, padding=size // 2, stride=stride)
    load(module, state, prefix)
    return module


def mlp(state: State, prefix: str) -> nn.Sequential:
    """Two layers with SiLU between them, ``prefix.0`` and ``prefix.2``."""
    first, last = state[f"{prefix}.0.weight"], state[f"{prefix}.2.weight"]
    with torch.device("meta"):
        module = nn.Sequential(
            nn.Linear(first.shape[1], first.shape[0]), nn.SiLU(), nn.Linear(last.shape[1], last.shape[0])
        )
    load(module, state, prefix)
    return module


def load(module: nn.Module, state: State, prefix: str, names: Mapping[str, str] | None = None) -> None:
    """Assign a module the tensors below `prefix`, whose parts are called `names` there. Raises `NodeProblem`."""
    own: dict[str, torch.Tensor] = {}
    for key, tensor in state.items():
        if not key.startswith(f"{prefix}."):
            continue
        path, _, kind = key[len(prefix) + 1 :].rpartition(".")
        path = (names or {}).get(path, path)
        own[f"{path}.{kind}" if path else kind] = tensor
    try:
        module.load_state_dict(own, assign=True)
    except RuntimeError as error:
        raise NodeProblem(f"the U-Net's part {prefix!r} is not whole", remedy="fetch the file again") from error
    module.requires_grad_(False)
