"""Tiny models by their tensors' names and shapes: how real files are thinned, VAEs and text encoders.

Names come from ``tests/data/headers``, the headers of files as ComfyUI 0.3.64 and 0.33.0 both load them, so that every
tensor is laid out as in the world. What is thinned: blocks (one or two of each kind are kept), and widths where
ComfyUI reads them from the file (UNets keep their full structure at the first level's width everywhere). What ComfyUI
does not read from a file keeps its real size, or has the marker tensor ``MARK`` by which the custom node
``tiny_shim`` (next to this file) makes ComfyUI count it.
"""

from __future__ import annotations

import json
import lzma
import re
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

HEADERS = Path(__file__).parent.parent / "tests" / "data" / "headers"
MARK = "__tiny_shim__"
"""A tensor by which the shim knows a file whose network it has to thin."""

Layout = dict[str, tuple[int, ...]]
"""Tensor name -> shape."""

UNET = "model.diffusion_model."


def header(name: str) -> Layout:
    """The tensors of a real file."""
    found = json.loads(lzma.decompress((HEADERS / f"{name}.json.xz").read_bytes()))
    return {key: tuple(shape) for key, shape in found["shapes"].items()}


def below(layout: Mapping[str, tuple[int, ...]], prefix: str) -> Layout:
    """The tensors whose names begin so, without that beginning."""
    return {name[len(prefix) :]: shape for name, shape in layout.items() if name.startswith(prefix)}


def above(layout: Mapping[str, tuple[int, ...]], prefix: str) -> Layout:
    """The same tensors with a beginning put before their names."""
    return {prefix + name: shape for name, shape in layout.items()}


def thin(layout: Layout, **kept: Iterable[int]) -> Layout:
    """Only some blocks of each named list (``double_blocks=[0]``), numbered anew from 0."""
    numbers = {part: {old: new for new, old in enumerate(places)} for part, places in kept.items()}
    block = re.compile(rf"(?<![a-z])({'|'.join(kept)})\.(\d+)\.")
    thinned: Layout = {}
    for name, shape in layout.items():
        found = block.search(name)
        if found:
            new = numbers[found[1]].get(int(found[2]))
            if new is None:
                continue
            name = f"{name[: found.start(2)]}{new}{name[found.end(2) :]}"
        thinned[name] = shape
    return thinned


def narrow(layout: Layout, old: int, new: int, keep: Callable[[str, int], bool] = lambda name, place: False) -> Layout:
    """Every side that is a multiple of ``old`` becomes that multiple of ``new``, but for the sides to keep."""
    return {
        name: tuple(
            side // old * new if side % old == 0 and not keep(name, place) else side for place, side in enumerate(shape)
        )
        for name, shape in layout.items()
    }


def marked(layout: Layout, prefix: str = "") -> Layout:
    """The same with the shim's marker."""
    return layout | {f"{prefix}{MARK}": (1,)}


# UNets: the whole structure, each level as wide as the first.

_AS_THEY_ARE = re.compile(
    r"^(time_embed|label_emb|time_embedding|add_embedding|control_add_embedding|controlnet_cond_embedding|conv_in|"
    r"input_hint_block|task_embedding|transformer_layes|spatial_ch_projs|out)\b|^input_blocks\.0\.0|mix_factor$"
)
_SKIPS = re.compile(r"^(input_blocks\.\d+\.0\.skip_connection|down_blocks\.\d+\.resnets\.\d+\.conv_shortcut)\.")


def one_width(layout: Layout, width: int) -> Layout:
    """A UNet (ldm's names) or a ControlNet (either's) with ``width`` channels at every level."""
    narrowed: Layout = {}
    for name, shape in layout.items():
        if _SKIPS.search(name):
            continue  # a level as wide as the one before has no projection
        narrowed[name] = shape if _AS_THEY_ARE.search(name) else _unet_shape(name, shape, width)
    return narrowed


def _unet_shape(name: str, shape: tuple[int, ...], width: int) -> tuple[int, ...]:
    sides = [width if place < 2 and side > 16 else side for place, side in enumerate(shape)]
    if re.search(r"(emb_layers\.1|time_emb_proj)\.weight$", name) or re.search(r"attn2\.to_[kv]\.weight$", name):
        sides[1] = shape[1]  # of the time embedding, of the text
    if re.search(r"^output_blocks\.\d+\.0\.(in_layers\.0|in_layers\.2\.weight|skip_connection\.weight)", name):
        sides[-3 if len(sides) > 1 else 0] = 2 * width  # what comes from below and what came along
    if re.search(r"(ff|ff_in)\.net\.0\.proj\.", name):
        sides[0] = 8 * width
    if re.search(r"(ff|ff_in)\.net\.2\.weight$", name):
        sides[1] = 4 * width
    if ".time_pos_embed.0." in name:
        sides[0] = 4 * width
    if ".time_pos_embed.2.weight" in name:
        sides[1] = 4 * width
    return tuple(sides)


def unet(fixture: str, width: int = 320) -> Layout:
    """The UNet of a whole checkpoint, narrowed."""
    return one_width(below(header(fixture), UNET), width)


# VAEs and text encoders.


def tiny_vae(channels: int) -> Layout:
    """The tiny autoencoder that ComfyUI takes wherever it takes a VAE (madebyollin/taesd): 8 pixels a latent."""
    layout: Layout = {"vae_scale": (1,), "vae_shift": (1,)}

    def conv(name: str, into: int, of: int, bias: bool = True) -> None:
        layout[f"{name}.weight"] = (into, of, 3, 3)
        if bias:
            layout[f"{name}.bias"] = (into,)

    def block(name: str) -> None:
        for place in (0, 2, 4):
            conv(f"{name}.conv.{place}", 64, 64)

    conv("taesd_encoder.0", 64, 3)
    for place in range(1, 14):
        if place in (2, 6, 10):
            conv(f"taesd_encoder.{place}", 64, 64, bias=False)
        else:
            block(f"taesd_encoder.{place}")
    conv("taesd_encoder.14", channels, 64)
    conv("taesd_decoder.1", 64, channels)
    for place in (3, 4, 5, 8, 9, 10, 13, 14, 15, 18):
        block(f"taesd_decoder.{place}")
    for place in (7, 12, 17):
        conv(f"taesd_decoder.{place}", 64, 64, bias=False)
    conv("taesd_decoder.19", 3, 64)
    return layout


def qwen_vae() -> Layout:
    """Qwen-Image's own: ComfyUI 0.3.64 has its width fixed."""
    return header("vae_qwen")


def clip_l() -> Layout:
    """CLIP-L as it is."""
    return header("clip_l")


def clip_g() -> Layout:
    """CLIP-G as it is."""
    return header("clip_g")


def t5xxl() -> Layout:
    """T5-XXL: one block, one head (marked); the last block's name is what tells its size."""
    layout = thin(header("t5xxl"), block=[0])
    layout = {name: shape for name, shape in layout.items() if "decoder" not in name and "embed_tokens" not in name}
    attention = "encoder.block.0.layer.0.SelfAttention."
    layout |= {f"{attention}{part}.weight": (64, 4096) for part in "qkv"}
    layout |= {f"{attention}o.weight": (4096, 64), f"{attention}relative_attention_bias.weight": (32, 1)}
    dense = "encoder.block.0.layer.1.DenseReluDense."
    layout |= {f"{dense}wi_0.weight": (64, 4096), f"{dense}wi_1.weight": (64, 4096), f"{dense}wo.weight": (4096, 64)}
    return marked(layout | {"encoder.block.23.layer.1.DenseReluDense.wi_1.weight": (10240, 4096)})


def qwen_vl() -> Layout:
    """Qwen2.5-VL 7B: four text layers with four heads, two of the eyes' blocks (marked). Hunyuan's template reads the
    third layer from the end.
    """
    layout = thin(header("qwen2.5_vl_7b"), layers=range(4), blocks=range(2))
    return marked(_slim_layers(layout, width=3584, queries=512))


def llama() -> Layout:
    """Llama 3.1 8B: two layers with eight heads (marked); 128256 words, as HiDream's file has."""
    layout = _slim_layers(thin(header("llama_3.1_8b"), layers=range(2)), width=4096, queries=1024)
    return marked(layout | {"model.embed_tokens.weight": (128256, 4096)})


def _slim_layers(layout: Layout, *, width: int, queries: int, dense: int = 64) -> Layout:
    endings = {
        "self_attn.q_proj.weight": (queries, width),
        "self_attn.q_proj.bias": (queries,),
        "self_attn.o_proj.weight": (width, queries),
        "mlp.gate_proj.weight": (dense, width),
        "mlp.up_proj.weight": (dense, width),
        "mlp.down_proj.weight": (width, dense),
    }
    slim = dict(layout)
    for name in layout:
        found = re.match(r"model\.layers\.\d+\.(.+)", name)
        if found and found[1] in endings:
            slim[name] = endings[found[1]]
    return {name: shape for name, shape in slim.items() if not name.startswith("lm_head.")}


def byt5() -> Layout:
    """ByT5-small as it is."""
    return header("byt5_small")


def open_clip_vision(width: int = 1280, layers: int = 32, into: int = 1024) -> Layout:
    """ViT-H of OpenCLIP, whose size ComfyUI has fixed."""
    layout: Layout = {
        "conv1.weight": (width, 3, 14, 14),
        "class_embedding": (width,),
        "positional_embedding": (257, width),
        "proj": (width, into),
    }
    for norm in ("ln_pre", "ln_post", *(f"transformer.resblocks.{n}.ln_{k}" for n in range(layers) for k in (1, 2))):
        layout |= {f"{norm}.weight": (width,), f"{norm}.bias": (width,)}
    for n in range(layers):
        at = f"transformer.resblocks.{n}."
        for name, out, of in (("attn.out_proj", 1, 1), ("mlp.c_fc", 4, 1), ("mlp.c_proj", 1, 4)):
            layout |= {f"{at}{name}.weight": (out * width, of * width), f"{at}{name}.bias": (out * width,)}
        layout |= {f"{at}attn.in_proj_weight": (3 * width, width), f"{at}attn.in_proj_bias": (3 * width,)}
    return layout
