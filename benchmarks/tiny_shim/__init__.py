"""A ComfyUI custom node without nodes: makes ComfyUI count what a tiny model's file holds where it has sizes fixed.

For tests and benchmarks with the files of ``benchmarks/tiny_models.py``; link this folder into ``custom_nodes``. Files
with the marker tensor only:

- text encoders (T5-XXL, Qwen2.5-VL, Llama; CLIP-G inside checkpoints): layers, heads and widths, through ComfyUI's own
  ``<name>_model_config``;
- HiDream: how many blocks of each kind; Stable Diffusion 3.5: how many blocks, apart from how many heads;
- ControlNets in diffusers' names: the width of each level; DiffSynth's patches: how many blocks.

For any file: where Llama's vocabulary is not beside ComfyUI, bytes stand for words; and a picture that a node scales
to more than 512 pixels a side becomes eight times smaller than asked for, since edit models ask for a megapixel, which
takes a CPU minutes. Workflows stay what a person would run; the networks and the pictures are smaller.
"""

from __future__ import annotations

import logging
import sys
from pathlib import Path
from typing import Any

import comfy.model_detection
import comfy.sd
import comfy.text_encoders.hunyuan_video as llama_texts
import comfy.text_encoders.qwen_vl as qwen_eyes
import comfy.utils
import nodes

MARK = "__tiny_shim__"
LARGE, SMALLER, MULTIPLE = 512, 8, 16
"""Sides above so many pixels become so many times smaller, rounded to what each latent and patch can be cut into."""

NODE_CLASS_MAPPINGS: dict[str, Any] = {}


def blocks(names: Any, prefix: str) -> int:
    """How many different numbers follow ``prefix`` among the tensors' names."""
    return len({name[len(prefix) :].split(".")[0] for name in names if name.startswith(prefix)})


def encoder_options(state: dict[str, Any]) -> dict[str, Any]:
    """The configuration of a marked text encoder, under the name by which ComfyUI asks for it."""
    first = "encoder.block.0.layer."
    if f"{first}0.SelfAttention.q.weight" in state:
        heads = state[f"{first}0.SelfAttention.relative_attention_bias.weight"].shape[1]
        inner = state[f"{first}0.SelfAttention.q.weight"].shape[0]
        dense = state[f"{first}1.DenseReluDense.wi_0.weight"].shape[0]
        counted = sum(name.endswith("SelfAttention.q.weight") for name in state)
        return {
            "t5xxl_model_config": {"num_layers": counted, "num_heads": heads, "d_kv": inner // heads, "d_ff": dense}
        }
    name = "qwen25_7b" if "model.layers.0.self_attn.k_proj.bias" in state else "llama"
    return {
        f"{name}_model_config": {
            "num_hidden_layers": blocks(state, "model.layers."),
            "num_attention_heads": state["model.layers.0.self_attn.q_proj.weight"].shape[0] // 128,
            "intermediate_size": state["model.layers.0.mlp.gate_proj.weight"].shape[0],
        }
    }


class Sizes:
    """What the file that is being loaded holds of networks that take no configuration."""

    eyes = 32
    patches = 60


_load_encoders = comfy.sd.load_text_encoder_state_dicts


def load_encoders(state_dicts: Any = (), *args: Any, **named: Any) -> Any:
    """ComfyUI's own, told the sizes of marked files."""
    options: dict[str, Any] = {}
    for state in state_dicts:
        if MARK in state:
            options |= encoder_options(state)
            Sizes.eyes = blocks(state, "visual.blocks.") or Sizes.eyes
            state.pop(MARK)
    if options:
        logging.info("tiny_shim: %s", options)
        named["model_options"] = {**named.get("model_options", {}), **options}
    try:
        return _load_encoders(state_dicts, *args, **named)
    finally:
        Sizes.eyes = 32


comfy.sd.load_text_encoder_state_dicts = load_encoders

_load_checkpoint = comfy.sd.load_state_dict_guess_config
CLIP_G = (
    "conditioner.embedders.1.model.transformer.resblocks.",
    "conditioner.embedders.0.model.transformer.resblocks.",
    "text_encoders.clip_g.transformer.text_model.encoder.layers.",
)
"""Where the layers of CLIP-G lie in checkpoints of SDXL, of its refiner and of Stable Diffusion 3.5."""


def load_checkpoint(state: Any, *args: Any, **named: Any) -> Any:
    """ComfyUI's own, told how many layers the CLIP-G inside has."""
    layers = max(blocks(state, prefix) for prefix in CLIP_G)
    if 0 < layers < 32:
        named["te_model_options"] = {
            **named.get("te_model_options", {}),
            "clip_g_model_config": {"num_hidden_layers": layers},
        }
    return _load_checkpoint(state, *args, **named)


comfy.sd.load_state_dict_guess_config = load_checkpoint


class Eyes(qwen_eyes.Qwen2VLVisionTransformer):
    """Qwen2.5-VL's vision tower with as many blocks as the file has."""

    def __init__(self, *args: Any, **named: Any) -> None:
        super().__init__(*args, **{**named, "num_layers": Sizes.eyes})


qwen_eyes.Qwen2VLVisionTransformer = Eyes

_detect = comfy.model_detection.detect_unet_config


def detect_unet_config(state: Any, prefix: str, *args: Any, **named: Any) -> Any:
    """ComfyUI's own, with the numbers of blocks that a marked file has."""
    found = _detect(state, prefix, *args, **named)
    if found and prefix + MARK in state:
        if found.get("image_model") == "hidream":
            double = blocks(state, f"{prefix}double_stream_blocks.")
            single = blocks(state, f"{prefix}single_stream_blocks.")
            found |= {"num_layers": double, "num_single_layers": single}
            found["llama_layers"] = found["llama_layers"][: double + single]
        if "context_embedder_config" in found:
            found["num_blocks"] = blocks(state, f"{prefix}joint_blocks.")
    return found


comfy.model_detection.detect_unet_config = detect_unet_config

_of_diffusers = comfy.model_detection.unet_config_from_diffusers_unet


def of_diffusers(state: Any, *args: Any, **named: Any) -> Any:
    """ComfyUI's own, with the widths that a marked file has."""
    found = _of_diffusers(state, *args, **named)
    if found and MARK in state:
        levels = range(blocks(state, "down_blocks."))
        widths = [state[f"down_blocks.{level}.resnets.0.conv1.weight"].shape[0] for level in levels]
        found = {**found, "channel_mult": [width // found["model_channels"] for width in widths]}
    return found


comfy.model_detection.unet_config_from_diffusers_unet = of_diffusers

_load_file = comfy.utils.load_torch_file


def load_file(*args: Any, **named: Any) -> Any:
    """ComfyUI's own; remembers how many blocks the last patch file had."""
    found = _load_file(*args, **named)
    state = found[0] if isinstance(found, tuple) else found
    Sizes.patches = 60
    if MARK in state and "controlnet_blocks.0.y_rms.weight" in state:
        Sizes.patches = blocks(state, "controlnet_blocks.")
        state.pop(MARK)  # the patch takes no tensor that it does not know
    return found


comfy.utils.load_torch_file = load_file

if "ModelPatchLoader" in nodes.NODE_CLASS_MAPPINGS:
    patches = sys.modules[nodes.NODE_CLASS_MAPPINGS["ModelPatchLoader"].__module__]

    class Patch(patches.QwenImageBlockWiseControlNet):  # type: ignore[name-defined, misc]  # known at run time only
        """DiffSynth's control with as many blocks as the file has."""

        def __init__(self, *args: Any, **named: Any) -> None:
            super().__init__(Sizes.patches, *args, **named)

    patches.QwenImageBlockWiseControlNet = Patch

_upscale = comfy.utils.common_upscale


def upscale(samples: Any, width: int, height: int, *args: Any, **named: Any) -> Any:
    """ComfyUI's own, to smaller sizes."""
    if max(width, height) > LARGE:
        width, height = (max(1, round(side / SMALLER / MULTIPLE)) * MULTIPLE for side in (width, height))
    return _upscale(samples, width, height, *args, **named)


comfy.utils.common_upscale = upscale

_Llama = llama_texts.LlamaTokenizerFast


class LlamaTokenizer:
    """Llama's own where its file is there, else the bytes of the text after the token of its beginning."""

    START = 128000

    @classmethod
    def from_pretrained(cls, path: str, *args: Any, **named: Any) -> Any:
        """As transformers' tokenizers are made."""
        there = (Path(path) / "tokenizer.json").exists()
        return _Llama.from_pretrained(path, *args, **named) if there else cls()

    def __call__(self, text: str, **named: Any) -> dict[str, list[int]]:
        return {"input_ids": [self.START, *text.encode()]}

    def get_vocab(self) -> dict[str, int]:
        """Each token by its text."""
        return {"<|begin_of_text|>": self.START} | {f"<{byte}>": byte for byte in range(256)}


llama_texts.LlamaTokenizerFast = LlamaTokenizer
