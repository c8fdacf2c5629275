"""HunyuanImage 2.1's transformer, built from a file's tensors with diffusers' `HunyuanImageTransformer2DModel`.

Widths and depths are read from shapes. Layout: Tencent's names and those that ComfyUI 0.33.0 keeps
(``comfy/ldm/hunyuan_video/model.py``); both load. The distilled model is told guidance and the step's end (mean flow).
"""

from __future__ import annotations

import re
from typing import Any

import torch

from ..diffusion.weights import State, Weights, fill

HEAD_SIZE = 128
ROPE_BASE = 256.0
TIMES = 1000.0  # levels 0..1 and guidance are told to the model times this
GUIDANCE = 6.0  # where nothing sets it

# Tencent's names, in the order they are replaced, as ComfyUI's (``supported_models.HunyuanVideo``).
_ORIGINAL = (
    ("txt_in.t_embedder.mlp.0.", "txt_in.t_embedder.in_layer."),
    ("txt_in.t_embedder.mlp.2.", "txt_in.t_embedder.out_layer."),
    ("txt_in.c_embedder.linear_1.", "txt_in.c_embedder.in_layer."),
    ("txt_in.c_embedder.linear_2.", "txt_in.c_embedder.out_layer."),
    ("_mod.linear.", "_mod.lin."),
    ("_attn_qkv.", "_attn.qkv."),
    ("mlp.fc1.", "mlp.0."),
    ("mlp.fc2.", "mlp.2."),
    ("_attn_q_norm.weight", "_attn.norm.query_norm.weight"),
    ("_attn_k_norm.weight", "_attn.norm.key_norm.weight"),
    (".q_norm.weight", ".norm.query_norm.weight"),
    (".k_norm.weight", ".norm.key_norm.weight"),
    ("_attn_proj.", "_attn.proj."),
    (".modulation.linear.", ".modulation.lin."),
    ("_in.mlp.2.", "_in.out_layer."),
    ("_in.mlp.0.", "_in.in_layer."),
)
_BEGINNINGS = {
    "img_in.proj": "x_embedder.proj",
    "time_in.": "time_guidance_embed.timestep_embedder.",
    "time_r_in.": "time_guidance_embed.timestep_embedder_r.",
    "guidance_in.": "time_guidance_embed.guidance_embedder.",
    "txt_in.input_embedder": "context_embedder.proj_in",
    "txt_in.t_embedder.": "context_embedder.time_text_embed.timestep_embedder.",
    "txt_in.c_embedder.": "context_embedder.time_text_embed.text_embedder.",
    "txt_in.individual_token_refiner.blocks.": "context_embedder.token_refiner.refiner_blocks.",
    "byt5_in.": "context_embedder_2.",
    "double_blocks.": "transformer_blocks.",
    "single_blocks.": "single_transformer_blocks.",
    "final_layer.linear": "proj_out",
    "final_layer.adaLN_modulation.1": "norm_out.linear",
}
_REFINER = {
    "self_attn.proj": "attn.to_out.0",
    "mlp.0": "ff.net.0.proj",
    "mlp.2": "ff.net.2",
    "adaLN_modulation.1": "norm_out.linear",
}
_DOUBLE = {
    "img_mod.lin": "norm1.linear",
    "txt_mod.lin": "norm1_context.linear",
    "img_attn.norm.query_norm": "attn.norm_q",
    "img_attn.norm.key_norm": "attn.norm_k",
    "txt_attn.norm.query_norm": "attn.norm_added_q",
    "txt_attn.norm.key_norm": "attn.norm_added_k",
    "img_attn.proj": "attn.to_out.0",
    "txt_attn.proj": "attn.to_add_out",
    "img_mlp.0": "ff.net.0.proj",
    "img_mlp.2": "ff.net.2",
    "txt_mlp.0": "ff_context.net.0.proj",
    "txt_mlp.2": "ff_context.net.2",
}
_SINGLE = {
    "modulation.lin": "norm.linear",
    "norm.query_norm": "attn.norm_q",
    "norm.key_norm": "attn.norm_k",
    "linear2": "proj_out",
}
_EMBEDDERS = {"in_layer": "linear_1", "out_layer": "linear_2", "fc1": "linear_1", "fc2": "linear_2", "fc3": "linear_3"}
_EMBEDDERS["layernorm"] = "norm"
_SPLIT = {  # one matrix in the file: several here
    "self_attn.qkv": ("attn.to_q", "attn.to_k", "attn.to_v"),
    "img_attn.qkv": ("attn.to_q", "attn.to_k", "attn.to_v"),
    "txt_attn.qkv": ("attn.add_q_proj", "attn.add_k_proj", "attn.add_v_proj"),
    "linear1": ("attn.to_q", "attn.to_k", "attn.to_v", "proj_mlp"),
}


def is_hunyuan_image(weights: Weights) -> bool:
    """Whether the tensors are those of this transformer: a token refiner for text, flat patches, no pooled text."""
    return (
        "txt_in.individual_token_refiner.blocks.0.norm1.weight" in weights
        and "img_in.proj.weight" in weights
        and len(weights.shape("img_in.proj.weight")) == 4
        and not any(name.startswith("vector_in.") for name in weights)
    )


def comfyui_name(name: str) -> str:
    """ComfyUI's name of a tensor for Tencent's; one that has it already stays."""
    for theirs, ours in _ORIGINAL:
        name = name.replace(theirs, ours)
    return re.sub(r"\.scale$", ".weight", name)


def configuration(state: State) -> dict[str, Any]:
    """diffusers' settings for these tensors (ComfyUI's names)."""
    width, channels, *patch = state["img_in.proj.weight"].shape
    area = 1
    for side in patch:
        area *= side
    glyphs = state.get("byt5_in.fc1.weight")
    return {
        "in_channels": channels,
        "out_channels": state["final_layer.linear.weight"].shape[0] // area,
        "num_attention_heads": width // HEAD_SIZE,
        "attention_head_dim": HEAD_SIZE,
        "num_layers": _count(state, "double_blocks"),
        "num_single_layers": _count(state, "single_blocks"),
        "num_refiner_layers": _count(state, r"txt_in\.individual_token_refiner\.blocks"),
        "patch_size": tuple(patch),
        "guidance_embeds": any(name.startswith("guidance_in.") for name in state),
        "text_embed_dim": state["txt_in.input_embedder.weight"].shape[1],
        "text_embed_2_dim": None if glyphs is None else glyphs.shape[1],
        "rope_theta": ROPE_BASE,
        "rope_axes_dim": (64, 64),
        "use_meanflow": any(name.startswith("time_r_in.") for name in state),
    }


def renamed(state: State) -> dict[str, torch.Tensor]:
    """The tensors (ComfyUI's names) under diffusers' names: matrices that hold several are split, views of the same."""
    own: dict[str, torch.Tensor] = {}
    for key, tensor in state.items():
        path, _, kind = key.rpartition(".")
        for name, start, length in parts(path, tensor.shape[0] if tensor.ndim else 0):
            own[f"{name}.{kind}"] = tensor.narrow(0, start, length) if length < tensor.shape[0] else tensor
    for kind in ("weight", "bias"):  # ours asks for the scale first, the file has the shift first
        name = f"norm_out.linear.{kind}"
        if name in own:
            shift, scale = own[name].chunk(2, dim=0)
            own[name] = torch.cat([scale, shift], dim=0)
    return own


def place(path: str) -> tuple[str, ...]:
    """diffusers' names for a layer that ComfyUI calls `path`: several where one matrix holds several, in its order."""
    found = re.fullmatch(r"(txt_in\.individual_token_refiner\.blocks|double_blocks|single_blocks)\.(\d+)\.(.+)", path)
    if found:
        block, number, inside = found.groups()
        start = f"{_BEGINNINGS[f'{block}.']}{number}."
        names = {"double_blocks": _DOUBLE, "single_blocks": _SINGLE}.get(block, _REFINER)
        return tuple(start + name for name in _SPLIT.get(inside, (names.get(inside, inside),)))
    for beginning, ours in _BEGINNINGS.items():
        if path.startswith(beginning):
            rest = path.removeprefix(beginning)
            return (ours + _EMBEDDERS.get(rest, rest),)
    return (path,)


def parts(path: str, rows: int) -> list[tuple[str, int, int]]:
    """diffusers' names for a layer of so many rows, with the first row and the number of rows of each."""
    names = place(path)
    if len(names) == 1:
        return [(names[0], 0, rows)]
    # three of the width; linear1 has the multilayer part behind them, which is four widths
    width = rows // 3 if len(names) == 3 else rows // 7
    sizes = [width, width, width, rows - 3 * width][: len(names)]
    return [(name, index * width, size) for index, (name, size) in enumerate(zip(names, sizes, strict=True))]


def _count(state: State, prefix: str) -> int:
    numbers = [int(found[1]) for name in state if (found := re.match(rf"{prefix}\.(\d+)\.", name))]
    return 1 + max(numbers, default=-1)


def build(state: State, *, source: str = "") -> Any:
    """The transformer with these tensors, in their dtype; nothing is copied but the last layer's modulation.

    Raises:
        NodeProblem: tensors are missing or of other shapes.
    """
    from diffusers.models.transformers.transformer_hunyuanimage import HunyuanImageTransformer2DModel

    state = {comfyui_name(name): tensor for name, tensor in state.items()}
    with torch.device("meta"):
        model: Any = HunyuanImageTransformer2DModel(**configuration(state))
    fill(model, renamed(state), what="HunyuanImage's transformer", source=source)
    for part in model.modules():
        if type(part).__name__ == "RMSNorm":
            part.eps = torch.finfo(torch.float32).eps  # as torch's own, which ComfyUI uses
    _forget_masks(model)
    _cast_times(model)
    return model


def _forget_masks(model: Any) -> None:
    """Let attention run without a mask: ComfyUI has none here, and faster kernels take none."""
    from diffusers.models.transformers.transformer_hunyuanimage import HunyuanImageAttnProcessor

    class Unmasked(HunyuanImageAttnProcessor):  # type: ignore[misc] # diffusers has no types
        def __call__(  # diffusers hands over only what is named here
            self,
            attn: Any,
            hidden_states: torch.Tensor,
            encoder_hidden_states: torch.Tensor | None = None,
            attention_mask: torch.Tensor | None = None,
            image_rotary_emb: Any = None,
        ) -> Any:
            return super().__call__(attn, hidden_states, encoder_hidden_states, None, image_rotary_emb)

    processor = Unmasked()
    for block in (*model.transformer_blocks, *model.single_transformer_blocks):
        block.attn.processor = processor


def _cast_times(model: Any) -> None:
    """Let waves be made of times in float32, whatever the weights' dtype; diffusers would round the times first."""

    def cast(embedder: Any, inputs: tuple[Any, ...]) -> tuple[Any, ...]:
        return (inputs[0].to(embedder.linear_1.weight.dtype), *inputs[1:])

    embed = model.time_guidance_embed
    for embedder in (embed.timestep_embedder, embed.timestep_embedder_r, embed.guidance_embedder):
        if embedder is not None:
            embedder.register_forward_pre_hook(cast)


def predict(
    model: Any,
    x: torch.Tensor,
    timestep: torch.Tensor,
    text: torch.Tensor,
    *,
    glyphs: torch.Tensor | None = None,
    guidance: torch.Tensor | None = None,
    end: torch.Tensor | None = None,
) -> torch.Tensor:
    """The flow from picture to noise.

    Args:
        model: of `build`.
        x: latent [batch, channels, rows, columns].
        timestep: noise level times 1000 [batch], float32.
        text: [batch, tokens, width].
        glyphs: ByT5's of the quoted text [batch, tokens, width].
        guidance: strength that a model is told which is distilled for it [batch].
        end: the level at which the step ends, times 1000 [batch], told to a mean-flow model; None where unknown.
    """
    ones = torch.ones(text.shape[:2], dtype=torch.bool, device=text.device)
    told: dict[str, Any] = {}
    if model.config.guidance_embeds:
        strength = torch.full_like(timestep, GUIDANCE) if guidance is None else guidance.to(timestep)
        told["guidance"] = strength * TIMES
    if model.config.use_meanflow and end is not None:
        told["timestep_r"] = end
    if glyphs is not None and model.context_embedder_2 is not None:
        told["encoder_hidden_states_2"] = glyphs
        told["encoder_attention_mask_2"] = torch.ones(glyphs.shape[:2], dtype=torch.bool, device=text.device)
    flow: torch.Tensor = model(
        hidden_states=x,
        timestep=timestep,
        encoder_hidden_states=text,
        encoder_attention_mask=ones,
        return_dict=False,
        **told,
    )[0]
    return flow
