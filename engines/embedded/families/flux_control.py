"""ControlNets of FLUX.1, built from a file's tensors with diffusers' `FluxControlNetModel`.

Two kinds: those that read the map's latent (InstantX, Shakker; unions among them; diffusers' names) and those that read
its pixels (XLabs; Black Forest Labs' names). Behaviour of ComfyUI 0.33.0 ``comfy/ldm/flux/controlnet.py``: few outputs
are spread over the model's many blocks. What diffusers lacks: MistoLine's.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import nn

from ..diffusion.control import ControlInputs, ControlKind, ControlNet
from ..diffusion.latent_format import FLUX
from ..diffusion.values import Residuals
from ..diffusion.weights import Component, State, Weights, fill
from ..problems import NodeProblem
from .flux_layout import DOUBLE, SINGLE, block_count, pieces, placed
from .flux_transformer import AXES, HEAD_SIZE, conditioned, exact_norms, patches

DOUBLES, SINGLES = 19, 38  # blocks of the model that the outputs are meant for
MASKED_CHANNELS = 17  # of the map's latent with a mask

_HINT_CONVOLUTIONS = 8  # XLabs' encoder of the map: numbers 0, 2… in the file


class Control(nn.Module):
    """A ControlNet of FLUX.1.

    Args:
        state: the tensors, in diffusers' names, or in Black Forest Labs' with ``input_hint_block.…``.

    Attributes:
        model: diffusers' `FluxControlNetModel`.
        reads_pixels: whether the map goes in as it is, not through a VAE.
        types: how many a union knows; 0 for others.

    Raises:
        NodeProblem: the tensors are those of no such ControlNet.
    """

    def __init__(self, state: State) -> None:
        super().__init__()
        from diffusers.models.controlnets.controlnet_flux import FluxControlNetModel

        tensors = _diffusers(state)
        self.reads_pixels = "input_hint_block.conv_in.weight" in tensors
        try:
            width = tensors["x_embedder.weight"].shape[0]
            hint_channels = tensors["controlnet_x_embedder.weight"].shape[1]
            self.types = tensors["controlnet_mode_embedder.weight"].shape[0] if _MODES in tensors else 0
            config = {
                "in_channels": tensors["x_embedder.weight"].shape[1],
                "num_layers": block_count(tensors, "transformer_blocks"),
                "num_single_layers": block_count(tensors, "single_transformer_blocks"),
                "attention_head_dim": HEAD_SIZE,
                "num_attention_heads": width // HEAD_SIZE,
                "joint_attention_dim": tensors["context_embedder.weight"].shape[1],
                "pooled_projection_dim": tensors["time_text_embed.text_embedder.linear_1.weight"].shape[1],
                "guidance_embeds": "time_text_embed.guidance_embedder.linear_1.weight" in tensors,
                "axes_dims_rope": list(AXES),
                "num_mode": self.types or None,
                "conditioning_embedding_channels": hint_channels // 4 if self.reads_pixels else None,
            }
        except KeyError as error:
            raise NodeProblem(
                f"the ControlNet has no tensor {error.args[0]!r}", remedy="fetch the file again"
            ) from error
        with torch.device("meta"), warnings.catch_warnings():
            warnings.filterwarnings("ignore", "`FluxPosEmbed` is deprecated")  # diffusers' own use of it
            self.model: Any = FluxControlNetModel(**config)
            if hint_channels != config["in_channels"]:
                self.model.controlnet_x_embedder = nn.Linear(hint_channels, width)
        fill(self.model, tensors, what="the ControlNet")
        exact_norms(self.model)

    def forward(
        self,
        latent: torch.Tensor,
        timesteps: torch.Tensor,
        hint: torch.Tensor,
        context: torch.Tensor,
        pooled: torch.Tensor | None = None,
        *,
        guidance: torch.Tensor | None = None,
        types: Sequence[int] = (),
    ) -> dict[str, list[torch.Tensor]]:
        """What to add after double ("input") and single ("output") blocks, [batch, tokens, width].

        Args:
            latent: [batch, 16, rows, columns].
            timesteps: [batch], 0 to 1.
            hint: the map [batch, 3, 8 * rows, 8 * columns] in 0..1, or its latent.
            context, pooled, guidance: see `Transformer.forward`.
            types: what the map shows, by number; unions only.
        """
        model = self.model
        if self.reads_pixels:
            hint = model.input_hint_block(hint * 2.0 - 1.0)
        tokens, places = patches(latent)
        x = model.x_embedder(tokens) + model.controlnet_x_embedder(patches(hint)[0])
        told = conditioned(model, timesteps, pooled, guidance, x)
        text = model.context_embedder(context)
        if self.types and types:
            numbers = torch.tensor(list(types), device=x.device)
            text = torch.cat([model.controlnet_mode_embedder(numbers).expand(x.shape[0], -1, -1).to(text), text], dim=1)
        rotation = model.pos_embed(torch.cat([places.new_zeros(text.shape[1], len(AXES)), places]))
        doubles: list[torch.Tensor] = []
        singles: list[torch.Tensor] = []
        for block, out in zip(model.transformer_blocks, model.controlnet_blocks, strict=True):
            text, x = block(hidden_states=x, encoder_hidden_states=text, temb=told, image_rotary_emb=rotation)
            doubles.append(out(x))
        for block, out in zip(model.single_transformer_blocks, model.controlnet_single_blocks, strict=True):
            text, x = block(hidden_states=x, encoder_hidden_states=text, temb=told, image_rotary_emb=rotation)
            singles.append(out(x))
        found = {"input": self._spread(doubles, DOUBLES)}
        if singles:
            found["output"] = self._spread(singles, SINGLES)
        return found

    def _spread(self, outputs: Sequence[torch.Tensor], blocks: int) -> list[torch.Tensor]:
        """For every block of the model: each output several times in a row, or (XLabs) all of them again and again."""
        times = math.ceil(blocks / len(outputs))
        many = list(outputs) * times if self.reads_pixels else [each for each in outputs for _ in range(times)]
        return many[:blocks]


_MODES = "controlnet_mode_embedder.weight"


def _diffusers(state: State) -> Mapping[str, torch.Tensor]:
    """The tensors in diffusers' names."""
    if "x_embedder.weight" in state:
        return state
    try:
        width = state["img_in.weight"].shape[0]
    except KeyError as error:
        raise NodeProblem("the ControlNet has no tensor 'img_in.weight'", remedy="fetch the file again") from error
    tensors = placed(state, pieces(width, block_count(state, DOUBLE), block_count(state, SINGLE)))
    names = {"pos_embed_input": "controlnet_x_embedder", "input_hint_block.0": "input_hint_block.conv_in"}
    names[f"input_hint_block.{2 * _HINT_CONVOLUTIONS - 2}"] = "input_hint_block.conv_out"
    for number in range(1, _HINT_CONVOLUTIONS - 1):
        names[f"input_hint_block.{2 * number}"] = f"input_hint_block.blocks.{number - 1}"
    for name in state:
        module, _, ending = name.rpartition(".")
        if name.startswith(("controlnet_blocks.", "controlnet_single_blocks.")):
            tensors[name] = state[name]
        elif module in names:
            tensors[f"{names[module]}.{ending}"] = state[name]
    return tensors


class FluxControl(ControlKind):
    """ControlNets of FLUX.1, described."""

    def __init__(self, *, reads_pixels: bool, hint_channels: int = 0) -> None:
        if not reads_pixels:
            self.factor = 1
            self.latent = FLUX
            self.with_mask = hint_channels == MASKED_CHANNELS

    def build(self, state: State) -> Control:
        """See `ControlKind.build`."""
        return Control(state)

    def residuals(self, module: Control, inputs: ControlInputs) -> Residuals:
        """See `ControlKind.residuals`."""
        told, types = inputs.told, inputs.options.get("control_type", ())
        text, wanted = told["text"], module.model.config.joint_attention_dim
        if inputs.x.shape[1] * 4 != module.model.config.in_channels or text.shape[2] != wanted or "pooled" not in told:
            raise NodeProblem(
                "a ControlNet of FLUX.1 was put on a model of another family",
                remedy="choose one for the model's family",
            )
        if module.types and any(number >= module.types for number in types):
            raise NodeProblem(
                f"this union ControlNet knows the types of map 0 to {module.types - 1}, {max(types)} was asked for",
                remedy="choose another type",
            )
        return module(  # type: ignore[no-any-return] # a module's call is Any
            inputs.x,
            inputs.timestep,
            inputs.hint,
            text,
            told["pooled"],
            guidance=told.get("guidance"),
            types=types,
        )


def control(weights: Weights) -> ControlNet | None:
    """The ControlNet in a file; None where it is none of FLUX.1's."""
    if "controlnet_blocks.0.linear.weight" in weights and "double_blocks.0.img_attn.qkv.weight" in weights:
        raise NodeProblem(
            f"{weights.source!r} is MistoLine's ControlNet, which the embedded engine lacks",
            remedy="choose another ControlNet of FLUX.1, or run it on a ComfyUI",
        )
    if "controlnet_blocks.0.weight" not in weights:
        return None
    if "double_blocks.0.img_attn.qkv.weight" in weights and "input_hint_block.0.weight" in weights:
        kind = FluxControl(reads_pixels=True)
    elif "controlnet_x_embedder.weight" in weights and "transformer_blocks.0.norm1_context.linear.weight" in weights:
        kind = FluxControl(reads_pixels=False, hint_channels=weights.shape("controlnet_x_embedder.weight")[1] // 4)
    else:
        return None
    return ControlNet(kind=kind, component=Component(weights=weights, build=kind.build, role="control"))
