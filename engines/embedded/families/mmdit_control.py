"""ControlNets of Stable Diffusion 3 and 3.5, built from a file's tensors with diffusers' `SD3ControlNetModel`.

Two kinds: joint blocks (InstantX and others; own embedders, text is read) and single blocks (Stability's for 3.5 large;
blocks without text that take the base model's embedder of latents, or of pooled texts). Behaviour of ComfyUI 0.33.0
``comfy/cldm/mmdit.py`` and ``comfy/cldm/dit_embedder.py``.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator
from dataclasses import replace
from typing import Any, Literal

import torch
from torch import nn

from ..diffusion.control import ControlInputs, ControlKind, ControlNet
from ..diffusion.latent_format import LatentFormat
from ..diffusion.values import Residuals
from ..diffusion.weights import Component, State, Weights, fill
from ..problems import NodeProblem
from .mmdit import HEAD_SIZE, Transformer, fill_up
from .mmdit_layout import Piece, block_count, dual_attention, pieces, placed
from .sd3 import LATENT

# What Stability's files ask to be done to the picture, by their number in the tensor "control_type".
KINDS: dict[int, Literal["blur", "canny", "depth"]] = {0: "blur", 1: "canny", 2: "depth"}
_OUTER = {
    "t_embedder.mlp.0": "time_text_embed.timestep_embedder.linear_1",
    "t_embedder.mlp.2": "time_text_embed.timestep_embedder.linear_2",
    "y_embedder.mlp.0": "time_text_embed.text_embedder.linear_1",
    "y_embedder.mlp.2": "time_text_embed.text_embedder.linear_2",
}


def recognised(names: Collection[str]) -> bool:
    """Whether the names are those of such a ControlNet."""
    if "pos_embed_input.proj.weight" not in names:
        return False
    first = "transformer_blocks.0."
    blocks = (
        f"{first}adaLN_modulation.1.bias",
        f"{first}attn.add_q_proj.weight",
        "joint_blocks.0.x_block.attn.qkv.bias",
    )
    return any(name in names for name in blocks)


class JointControl(nn.Module):
    """A ControlNet of joint blocks.

    Args:
        state: the tensors, with diffusers' names or Stability's.

    Attributes:
        hint_channels: of the encoded picture: 16, or 17 with a mask.
    """

    def __init__(self, state: State) -> None:
        super().__init__()
        from diffusers.models.controlnets.controlnet_sd3 import SD3ControlNetModel

        tensors = {name: tensor for name, tensor in state.items() if not name.startswith("final_layer.")}
        if "joint_blocks.0.context_block.attn.qkv.weight" in tensors:
            count = block_count(tensors)
            kept = {
                name: tensors[name] for name in tensors if name.startswith(("controlnet_blocks.", "pos_embed_input."))
            }
            dual = dual_attention(tensors)
            tensors = {**placed(tensors, pieces(count, last_is_short=False)), **kept}
        else:
            count = 1 + max(int(name.split(".")[1]) for name in tensors if name.startswith("transformer_blocks."))
            dual = tuple(n for n in range(count) if f"transformer_blocks.{n}.attn2.to_q.weight" in tensors)
        try:
            width = tensors["pos_embed.proj.weight"].shape[0]
            positions = math.isqrt(tensors["pos_embed.pos_embed"].shape[1])
            self.hint_channels: int = tensors["pos_embed_input.proj.weight"].shape[1]
            channels = tensors["pos_embed.proj.weight"].shape[1]
            config = {
                "sample_size": positions * 2,
                "in_channels": channels,
                "num_layers": count,
                "num_attention_heads": width // HEAD_SIZE,
                "attention_head_dim": HEAD_SIZE,
                "joint_attention_dim": tensors["context_embedder.weight"].shape[1],
                "caption_projection_dim": tensors["context_embedder.weight"].shape[0],
                "pooled_projection_dim": tensors["time_text_embed.text_embedder.linear_1.weight"].shape[1],
                "pos_embed_max_size": positions,
                "extra_conditioning_channels": self.hint_channels - channels,
                "dual_attention_layers": dual,
                "qk_norm": "rms_norm" if "transformer_blocks.0.attn.norm_q.weight" in tensors else None,
            }
        except KeyError as error:
            raise NodeProblem(
                f"the ControlNet has no tensor {error.args[0]!r}", remedy="fetch the file again"
            ) from error
        # the model it was made for has as many blocks as heads; its outputs are spread over them, save the last
        self.spread = max(1, width // HEAD_SIZE // count)
        with torch.device("meta"):
            self.model: Any = SD3ControlNetModel(**config)
        fill(self.model, tensors, what="the ControlNet")

    def forward(
        self,
        latent: torch.Tensor,
        timesteps: torch.Tensor,
        hint: torch.Tensor,
        context: torch.Tensor,
        pooled: torch.Tensor,
        base: Transformer | None = None,
    ) -> list[torch.Tensor]:
        """What to add after each block of the base model; arguments as `SingleControl.forward`'s."""
        model, patch = self.model, 2
        x = model.pos_embed(fill_up(latent, patch)) + model.pos_embed_input(fill_up(hint, patch))
        told = model.time_text_embed(timesteps, torch.zeros_like(pooled))  # these were trained without pooled texts
        text = model.context_embedder(context)
        added: list[torch.Tensor] = []
        for block, out in zip(model.transformer_blocks, model.controlnet_blocks, strict=True):
            text, x = block(hidden_states=x, encoder_hidden_states=text, temb=told)
            added += [out(x)] * self.spread
        return added[:-1]


class SingleControl(nn.Module):
    """A ControlNet of single blocks.

    Args:
        state: the tensors; blocks as Stability names them (``transformer_blocks.0.attn.qkv.weight``…).

    Attributes:
        hint_channels: of the encoded picture.
    """

    def __init__(self, state: State) -> None:
        super().__init__()
        from diffusers.models.controlnets.controlnet_sd3 import SD3ControlNetModel

        tensors = {name: tensor for name, tensor in state.items() if name != "control_type"}
        count = 1 + max(
            (int(name.split(".")[1]) for name in tensors if name.startswith("transformer_blocks.")), default=-1
        )
        found = placed(tensors, _single_pieces(count))
        found |= {name: tensor for name, tensor in tensors.items() if name in found or name.startswith(_KEPT)}
        try:
            told = found["time_text_embed.text_embedder.linear_1.weight"]
            self.hint_channels: int = found["pos_embed_input.proj.weight"].shape[1]
        except KeyError as error:
            raise NodeProblem(
                f"the ControlNet has no tensor {error.args[0]!r}", remedy="fetch the file again"
            ) from error
        width = told.shape[0]
        self.two_embedders: bool = told.shape[0] == told.shape[1]  # of pooled texts: the base model's comes first
        self.spread = -(-(width // HEAD_SIZE) // count)
        with torch.device("meta"):
            self.model: Any = SD3ControlNetModel(
                in_channels=self.hint_channels,
                num_layers=count,
                num_attention_heads=width // HEAD_SIZE,
                attention_head_dim=HEAD_SIZE,
                joint_attention_dim=None,  # this is how diffusers is told of single blocks
                pooled_projection_dim=told.shape[1],
                use_pos_embed=False,
                pos_embed_type=None,
            )
        # ComfyUI takes it from the file here, and from the base model where the texts' embedder is the file's own
        from diffusers.models.embeddings import PatchEmbed

        with torch.device("meta"):
            self.embed: Any = PatchEmbed(
                patch_size=2, in_channels=self.hint_channels, embed_dim=width, pos_embed_type=None
            )
        own = {
            name.removeprefix("pos_embed."): found.pop(name) for name in list(found) if name.startswith("pos_embed.")
        }
        if self.two_embedders:
            fill(self.embed, own, what="the ControlNet")
        fill(self.model, found, what="the ControlNet")

    def forward(
        self,
        latent: torch.Tensor,
        timesteps: torch.Tensor,
        hint: torch.Tensor,
        context: torch.Tensor,
        pooled: torch.Tensor,
        base: Transformer | None = None,
    ) -> list[torch.Tensor]:
        """What to add after each block of the base model.

        Args:
            latent: the noisy latent [batch, channels, rows, columns], as the model sees it.
            timesteps: [batch], 0 to 1000.
            hint: the picture's latent [batch, hint_channels, rows, columns], as the model sees latents.
            context, pooled: the text.
            base: the model it steers, two of whose parts it takes.
        """
        if base is None:
            raise NodeProblem("this ControlNet needs its model", remedy="apply it to a model of SD 3.5 large")
        model, other = self.model, base.model
        padded = fill_up(latent, 2)
        if self.two_embedders:
            pooled = other.time_text_embed.text_embedder(pooled)
            x = self.embed(padded)
        else:
            if other.inner_dim != model.inner_dim:
                raise NodeProblem(
                    f"the ControlNet is {model.inner_dim} wide, the model {other.inner_dim}",
                    remedy="use the ControlNet that belongs to the model",
                )
            x = other.pos_embed.proj(padded).flatten(2).transpose(1, 2)
            x = x + positions(model.inner_dim, padded.shape[-2] // 2, padded.shape[-1] // 2).to(x)
        told = model.time_text_embed(timesteps, pooled)
        x = x + model.pos_embed_input(fill_up(hint, 2))
        added: list[torch.Tensor] = []
        for block, out in zip(model.transformer_blocks, model.controlnet_blocks, strict=True):
            after = block(x, told)
            x = x if self.two_embedders else after
            added += [out(after)] * self.spread
        return added


class SD3Control(ControlKind):
    """A ControlNet of Stable Diffusion 3.x.

    Args:
        joint: whether its blocks are joint ones.
        picture: what Stability's number says of the picture: "canny", "depth"…, None for nothing.
        latent: how the picture's latent is scaled.
    """

    factor = 1

    def __init__(
        self, *, joint: bool, latent: LatentFormat, picture: str | None = None, with_mask: bool = False
    ) -> None:
        self.joint = joint
        self.latent = latent
        self.picture = picture
        self.with_mask = with_mask

    def build(self, state: State) -> JointControl | SingleControl:
        """See `ControlKind.build`."""
        return JointControl(state) if self.joint else SingleControl(state)

    def residuals(self, module: Any, inputs: ControlInputs) -> Residuals:
        """See `ControlKind.residuals`."""
        if inputs.model.network.family != "sd3":
            raise NodeProblem(
                "a ControlNet of Stable Diffusion 3 was put on a model of another family",
                remedy="choose one for the model's family",
            )
        base = None if self.joint else inputs.model.component.module()
        told = inputs.told
        return {"output": module(inputs.x, inputs.timestep, inputs.hint, told["text"], told["pooled"], base)}

    def prepared(self, hint: torch.Tensor) -> torch.Tensor:
        """See `ControlKind.prepared`: Stability's were trained on edges and depths turned so."""
        if self.picture == "canny":
            return hint * 255 * 0.5 + 0.5
        return 1.0 - hint if self.picture == "depth" else hint


def control(weights: Weights) -> ControlNet | None:
    """The ControlNet in a file; None where it is none of this kind."""
    if not recognised(weights):
        return None
    joint = "transformer_blocks.0.adaLN_modulation.1.bias" not in weights
    number = None if joint or "control_type" not in weights else round(float(weights["control_type"].item()))
    kind = SD3Control(
        joint=joint,
        # the joint ones were trained on latents that were not shifted
        latent=replace(LATENT, shift=0.0) if joint else LATENT,
        picture=None if number is None else KINDS.get(number),
        with_mask=joint and weights.shape("pos_embed_input.proj.weight")[1] == LATENT.channels + 1,
    )
    return ControlNet(kind=kind, component=Component(weights=weights, build=kind.build, role="control"))


_KEPT = ("controlnet_blocks.", "pos_embed_input.", "time_text_embed.", "pos_embed.proj.")


def _single_pieces(blocks: int) -> Iterator[Piece]:
    for ending in ("weight", "bias"):
        yield Piece(source=f"x_embedder.proj.{ending}", target=f"pos_embed.proj.{ending}")
        for source, target in _OUTER.items():
            yield Piece(source=f"{source}.{ending}", target=f"{target}.{ending}")
        for number in range(blocks):
            block = f"transformer_blocks.{number}."
            for part, target in enumerate(("to_q", "to_k", "to_v")):
                yield Piece(
                    source=f"{block}attn.qkv.{ending}", target=f"{block}attn.{target}.{ending}", part=part, parts=3
                )
            for old, new in (
                ("attn.proj", "attn.to_out.0"),
                ("adaLN_modulation.1", "norm1.linear"),
                ("mlp.fc1", "ff.net.0.proj"),
                ("mlp.fc2", "ff.net.2"),
            ):
                yield Piece(source=f"{block}{old}.{ending}", target=f"{block}{new}.{ending}")


def positions(width: int, rows: int, columns: int) -> torch.Tensor:
    """Sines and cosines of places [1, rows * columns, width], scaled so that the shorter side spans 0 to 15.

    Source: ComfyUI ``mmdit.py`` (`get_2d_sincos_pos_embed_torch`), which has these numbers for any size.
    """
    middle = 7.5
    shorter = min(rows, columns)
    down = torch.linspace(-middle * rows / shorter, middle * rows / shorter, rows) + middle
    along = torch.linspace(-middle * columns / shorter, middle * columns / shorter, columns) + middle
    frequencies = 1.0 / 10000 ** (torch.arange(width // 4, dtype=torch.float32) / (width / 4))
    parts = []
    for places in (along.repeat(rows), down.repeat_interleave(columns)):
        angles = torch.outer(places, frequencies)
        parts += [angles.sin(), angles.cos()]
    return torch.cat(parts, dim=1).unsqueeze(0)
