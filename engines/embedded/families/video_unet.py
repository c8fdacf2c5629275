"""The U-Net of Stable Video Diffusion, built from a checkpoint's tensors with diffusers' spatio-temporal blocks.

As `UNet`, with a second, temporal half in each block that looks along the frames. Sources: Blattmann et al. 2023
(arXiv 2311.15127); Stability's ``sgm`` names (``time_stack``, ``time_mixer``), which checkpoints
and ComfyUI 0.33.0 keep.
"""

from __future__ import annotations

import re
from typing import Any

import torch
from torch import nn

from ..diffusion.unet_names import RESNET
from ..problems import NodeProblem
from ..unet import State, UNet, load

_RES_NAMES = {
    **{name: f"spatial_res_block.{own}" for name, own in RESNET.items()},
    **{f"time_stack.{name}": f"temporal_res_block.{own}" for name, own in RESNET.items()},
}
_POSITION_NAMES = {"time_pos_embed.0": "time_pos_embed.linear_1", "time_pos_embed.2": "time_pos_embed.linear_2"}


class VideoUNet(UNet):
    """Predicts the velocity of all frames of a video at once.

    Args:
        state: the tensors, named as in ``model.diffusion_model``.
        head_size: the width of an attention head.

    Raises:
        NodeProblem: the tensors are those of no such U-Net.
    """

    def __init__(self, state: State, *, head_size: int = 64) -> None:
        if "input_blocks.1.0.time_mixer.mix_factor" not in state:
            raise NodeProblem(
                "the file holds no U-Net for video", remedy="choose a checkpoint of Stable Video Diffusion"
            )
        super().__init__(state, head_size=head_size)

    def _part(self, state: State, prefix: str) -> nn.Module:
        from diffusers.models.resnet import SpatioTemporalResBlock

        if f"{prefix}.time_stack.in_layers.2.weight" not in state:
            return super()._part(state, prefix)
        out_channels, in_channels = state[f"{prefix}.in_layers.2.weight"].shape[:2]
        with torch.device("meta"):
            part: nn.Module = SpatioTemporalResBlock(
                in_channels=in_channels,
                out_channels=out_channels,
                temb_channels=state[f"{prefix}.emb_layers.1.weight"].shape[1],
                eps=1e-5,
            )
        load(part, state, prefix, _RES_NAMES)
        return part

    def _transformer(self, state: State, prefix: str) -> nn.Module:
        from diffusers.models.transformers.transformer_temporal import TransformerSpatioTemporalModel

        inner, channels = state[f"{prefix}.proj_in.weight"].shape[:2]
        inside = re.compile(re.escape(prefix) + r"\.time_stack\.(.+)\.(?:weight|bias)$")
        temporal = [found[1] for key in state if (found := inside.match(key))]
        size = self._head_options[1] or 64
        with torch.device("meta"):
            part: nn.Module = TransformerSpatioTemporalModel(
                num_attention_heads=inner // size,
                attention_head_dim=size,
                in_channels=channels,
                num_layers=1 + max((int(name.split(".")[0]) for name in temporal), default=-1),
                cross_attention_dim=state[f"{prefix}.transformer_blocks.0.attn2.to_k.weight"].shape[1],
            )
        names = {f"time_stack.{name}": f"temporal_transformer_blocks.{name}" for name in temporal}
        load(part, state, prefix, {**names, **_POSITION_NAMES})
        return part

    def forward_frames(
        self, x: torch.Tensor, timesteps: torch.Tensor, context: torch.Tensor, label: torch.Tensor, *, frames: int
    ) -> torch.Tensor:
        """The prediction.

        Args:
            x: latents of the frames beside that of the picture [batch * frames, channels, rows, columns].
            timesteps: [batch * frames].
            context: what CLIP saw in the picture [batch * frames, 1, width].
            label: frame rate, motion and augmentation [batch * frames, width].
            frames: of each video.
        """
        from diffusers.models.embeddings import get_timestep_embedding

        if self.label_embed is None:
            raise NodeProblem("the video model has no label_emb", remedy="fetch the file again")
        steps = get_timestep_embedding(timesteps, self.width, flip_sin_to_cos=True, downscale_freq_shift=0)
        told = self.time_embed(steps.to(x.dtype)) + self.label_embed(label.to(x.dtype))
        still = torch.zeros(x.shape[0] // frames, frames, device=x.device)  # none of the frames is a picture of its own
        kept: list[torch.Tensor] = []
        for block in self.down:
            x = _through(block, x, told, context, still)
            kept.append(x)
        x = _through(self.middle, x, told, context, still)
        for block in self.up:
            x = torch.cat([x, kept.pop()], dim=1)
            x = _through(block, x, told, context, still, size=kept[-1].shape[-2:] if kept else None)
        return self.out(torch.nn.functional.silu(self.norm(x)))  # type: ignore[no-any-return] # a module's call is Any


def _through(
    parts: Any, x: torch.Tensor, told: torch.Tensor, context: torch.Tensor, still: torch.Tensor, size: Any = None
) -> torch.Tensor:
    for part in parts:
        kind = type(part).__name__
        if kind == "SpatioTemporalResBlock":
            x = part(x, told, image_only_indicator=still)
        elif kind == "TransformerSpatioTemporalModel":
            x = part(x, encoder_hidden_states=context, image_only_indicator=still, return_dict=False)[0]
        elif kind == "Upsample2D":
            x = part(x, output_size=size)  # of what it is joined with: odd sizes were rounded on the way down
        else:
            x = part(x)
    return x
