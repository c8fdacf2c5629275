"""Qwen-Image's transformer and its ControlNet, built from a file's tensors with diffusers' classes.

Files have diffusers' own names. Sizes are read from shapes. Behaviour of ComfyUI 0.33.0 ``comfy/ldm/qwen_image``: where
pictures lie in the rotary embedding (several reference pictures, in four ways), sides that are no multiple of a patch
are filled up from the other side.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Sequence
from typing import Any

import torch
from torch import nn

from ..diffusion.weights import State, fill
from ..problems import NodeProblem

PATCH = 2
AXES = (16, 56, 56)  # of a head's width: frame, row, column; of 128
HEAD_SIZE = 128
THETA = 10000.0
ZERO_MARK = "__index_timestep_zero__"  # in files whose references are shown at time zero (Edit 2511)
LAYERED_MARK = "time_text_embed.addition_t_embedding.weight"
CONTROL_SPREAD = 60  # blocks of the model that ControlNets are made for
# Adds to the picture's tokens after a block: (tokens [batch, count, width], latent, block's number) -> tokens.
BlockPatch = Callable[[torch.Tensor, torch.Tensor, int], torch.Tensor]


def recognised(names: Collection[str]) -> bool:
    """Whether the names (without prefix) are those of such a transformer."""
    return "txt_norm.weight" in names and "proj_out.weight" in names and "img_in.weight" in names


def reference_method(names: Collection[str]) -> str:
    """How such a model was trained to be shown reference pictures."""
    if LAYERED_MARK in names:
        return "negative_index"
    return "index_timestep_zero" if ZERO_MARK in names else "index"


def _configuration(state: State) -> dict[str, Any]:
    try:
        width = state["img_in.weight"].shape[0]
        head = state["transformer_blocks.0.attn.norm_q.weight"].shape[0]
        numbers = [int(found[1]) for name in state if (found := re.match(r"transformer_blocks\.(\d+)\.", name))]
        return {
            "patch_size": PATCH,
            "in_channels": state["img_in.weight"].shape[1],
            "num_layers": 1 + max(numbers),
            "attention_head_dim": head,
            "num_attention_heads": width // head,
            "joint_attention_dim": state["txt_in.weight"].shape[1],
            "axes_dims_rope": _axes(head),
        }
    except KeyError as error:
        raise NodeProblem(
            f"the model has no tensor {error.args[0]!r}, which Qwen-Image's have",
            remedy="fetch the file again, or run it on a ComfyUI",
        ) from error


def _axes(head: int) -> tuple[int, int, int]:
    """The published split of a head's width; smaller heads keep its proportions, in pairs."""
    if head == HEAD_SIZE:
        return AXES
    side = head * AXES[1] // HEAD_SIZE // 2 * 2
    return head - 2 * side, side, side


class _Shared(nn.Module):
    """What transformer and ControlNet do alike: embedding of picture, text, time and places."""

    model: Any
    axes: tuple[int, int, int]

    def prepared(
        self, tokens: torch.Tensor, ids: torch.Tensor, timesteps: torch.Tensor, text: torch.Tensor, size: Sequence[int]
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, tuple[torch.Tensor, torch.Tensor]]:
        """Picture and text as tokens of the model's width, time, and the turns of picture and text.

        Args:
            tokens: patches [batch, count, channels * 4]; `ids` their places [count, 3].
            timesteps: [batch], or twice that where references are shown at time zero.
            size: rows and columns of the latent.
        """
        model = self.model
        picture = model.img_in(tokens)
        words = model.txt_in(model.txt_norm(text))
        layered = getattr(model.time_text_embed, "use_additional_t_cond", False)
        which = (torch.zeros(timesteps.shape[0], dtype=torch.long, device=timesteps.device),) if layered else ()
        told = model.time_text_embed(timesteps, picture, *which)
        start = max((side + PATCH // 2) // PATCH // 2 for side in size)
        places = torch.arange(start, start + text.shape[1], device=ids.device, dtype=ids.dtype)
        return picture, words, told, (turns(ids, self.axes), turns(places.unsqueeze(1).repeat(1, 3), self.axes))


class Transformer(_Shared):
    """Predicts the velocity of a latent.

    Args:
        state: the tensors, named as diffusers names them, without prefix; used as they are, not copied.

    Attributes:
        model: diffusers' `QwenImageTransformer2DModel`.
        references: how reference pictures are shown unless asked otherwise.
    """

    def __init__(self, state: State) -> None:
        super().__init__()
        from diffusers.models.transformers.transformer_qwenimage import QwenImageTransformer2DModel

        self.references = reference_method(state)
        config = {
            **_configuration(state),
            "out_channels": state["proj_out.weight"].shape[0] // PATCH**2,
            "use_additional_t_cond": LAYERED_MARK in state,
        }
        self.axes = config["axes_dims_rope"]
        with torch.device("meta"):
            self.model = QwenImageTransformer2DModel(**config)
        fill(self.model, {name: state[name] for name in state if name != ZERO_MARK}, what="the transformer")

    def forward(
        self,
        latent: torch.Tensor,
        timesteps: torch.Tensor,
        text: torch.Tensor,
        *,
        mask: torch.Tensor | None = None,
        references: Sequence[torch.Tensor] = (),
        method: str | None = None,
        control: Sequence[torch.Tensor | None] = (),
        patches: Sequence[BlockPatch] = (),
    ) -> torch.Tensor:
        """The velocity, of the latent's shape.

        Args:
            latent: [batch, channels, frames, rows, columns].
            timesteps: [batch], 0 to 1.
            text: [batch, tokens, width].
            mask: [batch, tokens], 0 where a token is not to be looked at.
            references: latents of reference pictures, each [batch, channels, frames, rows, columns].
            method: how they are shown: "index", "index_timestep_zero", "negative_index", "offset"; None for the
                model's own way.
            control: what to add after each block to the first tokens of the picture.
            patches: run after each block, before `control`.
        """
        rows, columns = latent.shape[-2:]
        tokens, ids = patched(latent)
        count = tokens.shape[1]
        method = method or self.references
        for reference, frame, down, along in placed(references, method):
            more, more_ids = patched(reference, frame=frame, down=down, along=along)
            tokens, ids = torch.cat([tokens, more], dim=1), torch.cat([ids, more_ids])
        zero = bool(references) and method == "index_timestep_zero"
        if zero:
            timesteps = torch.cat([timesteps, timesteps * 0])
        x, words, told, turned = self.prepared(tokens, ids, timesteps, text, (rows, columns))
        at_zero = None
        if zero:
            at_zero = (torch.arange(x.shape[1], device=x.device) >= count).int().unsqueeze(0).repeat(x.shape[0], 1)
        seen = None if mask is None else mask.bool()
        for number, block in enumerate(self.model.transformer_blocks):
            block.zero_cond_t = zero  # diffusers makes it a matter of the model, here it is one of the run
            words, x = block(
                hidden_states=x,
                encoder_hidden_states=words,
                encoder_hidden_states_mask=seen,
                temb=told,
                image_rotary_emb=turned,
                modulate_index=at_zero,
            )
            for patch in patches:
                x = patch(x, latent, number)
            added = control[number] if number < len(control) else None
            if added is not None:
                x = torch.cat([x[:, : added.shape[1]] + added, x[:, added.shape[1] :]], dim=1)
        told = told.chunk(2)[0] if zero else told
        x = self.model.proj_out(self.model.norm_out(x[:, :count], told))
        return unpatched(x, latent.shape)


class ControlNet(_Shared):
    """InstantX' ControlNet: a shorter transformer that also sees a picture's latent.

    Attributes:
        masked: whether the picture comes with a mask, for inpainting.
    """

    def __init__(self, state: State) -> None:
        super().__init__()
        from diffusers.models.controlnets.controlnet_qwenimage import QwenImageControlNetModel

        config = _configuration(state)
        self.axes = config["axes_dims_rope"]
        extra = state["controlnet_x_embedder.weight"].shape[1] - config["in_channels"]
        self.masked = extra > 0
        with torch.device("meta"):
            self.model = QwenImageControlNetModel(**config, extra_condition_channels=extra)
        fill(self.model, state, what="the ControlNet")

    def forward(
        self,
        latent: torch.Tensor,
        timesteps: torch.Tensor,
        hint: torch.Tensor,
        text: torch.Tensor,
    ) -> list[torch.Tensor]:
        """What to add after each block of the model; `hint` is the picture's latent, the rest as in `Transformer`.

        There is no mask of tokens: ComfyUI tells a ControlNet of none.
        """
        tokens, ids = patched(latent)
        x, words, told, turned = self.prepared(tokens, ids, timesteps, text, latent.shape[-2:])
        x = x + self.model.controlnet_x_embedder(patched(hint)[0])
        spread = -(-CONTROL_SPREAD // len(self.model.controlnet_blocks))
        added: list[torch.Tensor] = []
        for block, out in zip(self.model.transformer_blocks, self.model.controlnet_blocks, strict=True):
            words, x = block(
                hidden_states=x,
                encoder_hidden_states=words,
                encoder_hidden_states_mask=None,
                temb=told,
                image_rotary_emb=turned,
            )
            added += [out(x)] * spread
        return added[:CONTROL_SPREAD]


def placed(references: Sequence[torch.Tensor], method: str) -> list[tuple[torch.Tensor, int, int, int]]:
    """Each reference with its frame, and by how many rows and columns of the latent it is moved.

    With "index" and "index_timestep_zero" each is a frame of its own, with "negative_index" before the picture; with
    any other method they lie in one frame, side by side or one below the other.
    """
    found: list[tuple[torch.Tensor, int, int, int]] = []
    height = width = 0
    for number, reference in enumerate(references, start=1):
        down = along = 0
        if method in ("index", "index_timestep_zero"):
            frame = number
        elif method == "negative_index":
            frame = -number
        else:
            frame = 1
            if reference.shape[-2] + height > reference.shape[-1] + width:
                along = width
            else:
                down = height
            height, width = max(height, reference.shape[-2] + down), max(width, reference.shape[-1] + along)
        found.append((reference, frame, down, along))
    return found


def patched(
    latent: torch.Tensor, *, frame: int = 0, down: int = 0, along: int = 0
) -> tuple[torch.Tensor, torch.Tensor]:
    """The patches [batch, count, channels * 4] of a latent [batch, channels, frames, rows, columns], and the place of
    each [count, 3]: frame, row and column, from the picture's middle."""
    padded = torch.nn.functional.pad(
        latent, (0, latent.shape[-1] % PATCH, 0, latent.shape[-2] % PATCH, 0, 0), mode="circular"
    )
    batch, channels, frames, height, width = padded.shape
    rows, columns = height // PATCH, width // PATCH
    tokens = padded.reshape(batch, channels, frames, rows, PATCH, columns, PATCH).permute(0, 2, 3, 5, 1, 4, 6)
    ids = torch.zeros((frames, rows, columns, 3), device=latent.device)
    steps = torch.arange(frames, device=latent.device) if frames > 1 else torch.tensor([frame], device=latent.device)
    ids[..., 0] = steps.reshape(-1, 1, 1)
    shift = [(offset + PATCH // 2) // PATCH for offset in (down, along)]
    ids[..., 1] = (torch.arange(rows, device=latent.device) + shift[0] - rows // 2).reshape(1, -1, 1)
    ids[..., 2] = (torch.arange(columns, device=latent.device) + shift[1] - columns // 2).reshape(1, 1, -1)
    return tokens.reshape(batch, frames * rows * columns, channels * PATCH**2), ids.reshape(-1, 3)


def unpatched(x: torch.Tensor, shape: Sequence[int]) -> torch.Tensor:
    """The latent of a shape [batch, channels, frames, rows, columns] whose patches these are."""
    batch, _, frames, height, width = shape
    rows, columns = -(-height // PATCH), -(-width // PATCH)
    x = x.reshape(batch, frames, rows, columns, -1, PATCH, PATCH).permute(0, 4, 1, 2, 5, 3, 6)
    return x.reshape(batch, -1, frames, rows * PATCH, columns * PATCH)[..., :height, :width]


def turns(ids: torch.Tensor, axes: Sequence[int]) -> torch.Tensor:
    """The rotary embedding of places [count, 3] as complex numbers [count, half a head's width]."""
    parts = []
    for axis, size in enumerate(axes):
        # in double precision, as ComfyUI has it (comfy/ldm/flux/math.py)
        steps = torch.linspace(0, (size - 2) / size, steps=size // 2, dtype=torch.float64)
        angles = torch.outer(ids[:, axis].double().cpu(), 1.0 / THETA**steps)
        parts.append(torch.polar(torch.ones_like(angles), angles))
    return torch.cat(parts, dim=1).to(device=ids.device, dtype=torch.complex64)
