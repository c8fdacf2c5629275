"""Tiny models by their tensors' names and shapes, family by family: one function a model."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping

from tiny_layouts import (
    UNET,
    Layout,
    above,
    below,
    clip_g,
    clip_l,
    header,
    marked,
    narrow,
    one_width,
    open_clip_vision,
    thin,
    tiny_vae,
    unet,
)

RANK = 4
"""Of every LoRA."""

# Stable Diffusion, SDXL, Stable Video Diffusion.


def sd1() -> Layout:
    """Stable Diffusion 1.5, a whole checkpoint."""
    text = below(header("sd1_checkpoint"), "cond_stage_model.")
    return _checkpoint(unet("sd1_checkpoint"), {"cond_stage_model.": text}, 4)


def sd2() -> Layout:
    """Stable Diffusion 2.1 and SD-Turbo, a whole checkpoint; the encoder's last layer, which the header lacks, too."""
    text = below(header("sd2_checkpoint"), "cond_stage_model.")
    text |= {name.replace(".22.", ".23."): shape for name, shape in text.items() if ".resblocks.22." in name}
    return _checkpoint(unet("sd2_checkpoint"), {"cond_stage_model.": text}, 4)


def sdxl() -> Layout:
    """SDXL base, Turbo and Lightning, a whole checkpoint."""
    text = _three_layers_of_clip_g(below(header("sdxl_checkpoint"), "conditioner."))
    return _checkpoint(unet("sdxl_checkpoint"), {"conditioner.": text}, 4)


def sdxl_refiner() -> Layout:
    """SDXL's refiner, a whole checkpoint."""
    text = _three_layers_of_clip_g(below(header("sdxl_refiner_checkpoint"), "conditioner."))
    return _checkpoint(unet("sdxl_refiner_checkpoint", 384), {"conditioner.": text}, 4)


def _three_layers_of_clip_g(text: Layout) -> Layout:
    """Of the large encoder in a checkpoint three of 32 layers (the shim counts them; a file of its own is whole)."""
    return thin(text, resblocks=range(3))


def svd() -> Layout:
    """Stable Video Diffusion, a whole checkpoint: its eyes are ViT-H."""
    eyes = {"conditioner.embedders.0.open_clip.model.visual.": open_clip_vision()}
    return _checkpoint(unet("svd_checkpoint"), eyes, 4)


def sd1_controlnet() -> Layout:
    """A ControlNet v1.1 of Stable Diffusion 1.5."""
    return above(one_width(below(header("controlnet_sd1_ldm"), "control_model."), 320), "control_model.")


def sdxl_union_controlnet() -> Layout:
    """xinsir's union (promax) in diffusers' names: ComfyUI builds those at full width (marked).

    The picture goes in through the usual 16, 32, 96 and 256 channels (the header has the defaults of diffusers' class).
    """
    layout = one_width(header("diffusers_controlnet_union_sdxl"), 320)
    usual = {48: 16, 96: 32, 192: 96, 384: 256}
    for name, shape in layout.items():
        if name.startswith("controlnet_cond_embedding."):
            layout[name] = tuple(usual.get(side, side) for side in shape)
    return marked(layout)


def sd35_large() -> Layout:
    """Stable Diffusion 3.5 Large at its own width, one block (marked; ComfyUI counts heads and blocks as one)."""
    whole = header("sd3.5_large")
    model = _short_positions(thin(below(whole, UNET), joint_blocks=[37]))
    return _checkpoint(marked(model), _sd35_text(), 16)


def sd35_turbo() -> Layout:
    """Stable Diffusion 3.5 Large Turbo, 128 channels wide: no marker needed; no encoders inside."""
    model = narrow(thin(below(header("sd3.5_large"), UNET), joint_blocks=[0, 37]), 2432, 128)
    return _checkpoint(_short_positions(model), {}, 16)


def sd35_medium() -> Layout:
    """Stable Diffusion 3.5 Medium, 128 channels wide."""
    model = _short_positions(thin(below(header("sd3.5_medium"), UNET), joint_blocks=[0, 23]))
    return _checkpoint(narrow(model, 1536, 128), _sd35_text(), 16)


def sd35_controlnet() -> Layout:
    """Stability's own ControlNet of 3.5 Large: blocks that see the picture only, the text through a vector."""
    width = 2432
    layout: Layout = {"x_embedder.proj.weight": (width, 16, 2, 2), "pos_embed_input.proj.weight": (width, 16, 2, 2)}
    layout |= {"x_embedder.proj.bias": (width,), "pos_embed_input.proj.bias": (width,), "control_type": ()}
    sizes = {"t_embedder.mlp.0": 256, "t_embedder.mlp.2": width, "y_embedder.mlp.0": width, "y_embedder.mlp.2": width}
    for name, of in sizes.items():
        layout |= {f"{name}.weight": (width, of), f"{name}.bias": (width,)}
    for name, out, of in (("attn.qkv", 3, 1), ("attn.proj", 1, 1), ("mlp.fc1", 4, 1), ("mlp.fc2", 1, 4)):
        layout[f"transformer_blocks.0.{name}.weight"] = (out * width, of * width)
        layout[f"transformer_blocks.0.{name}.bias"] = (out * width,)
    layout |= {"transformer_blocks.0.adaLN_modulation.1.weight": (6 * width, width)}
    layout |= {"transformer_blocks.0.adaLN_modulation.1.bias": (6 * width,)}
    return layout | {"controlnet_blocks.0.weight": (width, width), "controlnet_blocks.0.bias": (width,)}


def _sd35_text() -> dict[str, Layout]:
    return {
        "text_encoders.clip_l.transformer.": clip_l(),
        "text_encoders.clip_g.transformer.": thin(clip_g(), layers=range(3)),
    }


def _short_positions(layout: Layout) -> Layout:
    """A table of 64 x 64 positions: ComfyUI reads how many there are."""
    return layout | {"pos_embed": (1, 64 * 64, layout["pos_embed"][2])}


def _checkpoint(model: Layout, parts: Mapping[str, Layout], latent_channels: int) -> Layout:
    whole = above(model, UNET)
    for prefix, part in parts.items():
        whole |= above(part, prefix)
    return whole | above(tiny_vae(latent_channels), "first_stage_model.")


# FLUX.1, HiDream, Qwen-Image, HunyuanImage: at their own width (0.3.64 has it fixed), one block of each kind.


def flux(fixture: str = "flux1_dev") -> Layout:
    """FLUX.1: dev, schnell, Fill, Canny and Depth, Kontext, by the header's name."""
    layout = thin(header(fixture), double_blocks=[0], single_blocks=[0])
    return {name: shape for name, shape in layout.items() if "scale_" not in name and "scaled_fp8" not in name}


def flux_redux() -> Layout:
    """The style model of Redux."""
    return header("flux1_redux")


def sigclip() -> Layout:
    """SigLIP So400m at 384 pixels: ComfyUI has its size fixed."""
    return header("sigclip_384")


def flux_controlnet() -> Layout:
    """The union ControlNet in InstantX's format."""
    return thin(
        header("controlnet_flux_union"),
        controlnet_blocks=[0],
        controlnet_single_blocks=[0],
        single_transformer_blocks=[0],
        transformer_blocks=[0],
    )


def hidream() -> Layout:
    """HiDream-I1 and E1 (marked: ComfyUI builds all 48 blocks)."""
    layout = thin(header("hidream_i1"), double_stream_blocks=[0], single_stream_blocks=[0], caption_projection=range(3))
    return marked(layout)


def qwen_image() -> Layout:
    """Qwen-Image and its edit models."""
    return thin(header("qwen_image_fp8"), transformer_blocks=[0])


def qwen_controlnet(fixture: str = "controlnet_qwen_instantx_union") -> Layout:
    """InstantX's ControlNets: union, and inpainting with its mask channel."""
    return thin(header(fixture), transformer_blocks=[0], controlnet_blocks=[0])


def qwen_patch() -> Layout:
    """DiffSynth's block-wise control, one block (marked: ComfyUI builds 60)."""
    layout: Layout = {"img_in.weight": (3072, 64), "img_in.bias": (3072,)}
    block = "controlnet_blocks.0."
    layout |= {f"{block}x_rms.weight": (3072,), f"{block}y_rms.weight": (3072,)}
    for part in ("input_proj", "output_proj"):
        layout |= {f"{block}{part}.weight": (3072, 3072), f"{block}{part}.bias": (3072,)}
    return marked(layout)


def hunyuan_image(fixture: str = "hunyuan_image_2.1") -> Layout:
    """HunyuanImage 2.1 (base or distilled), 128 channels wide: its width is read from the file, the text's stays."""

    def of_the_text(name: str, place: int) -> bool:
        return place == 1 and name in ("txt_in.input_embedder.weight", "txt_in.c_embedder.in_layer.weight")

    layout = thin(header(fixture), double_blocks=[0], single_blocks=[0])
    return narrow(layout, 3584, 128, of_the_text)


# LoRAs, upscalers.


def low_rank(layout: Layout, modules: str, name: Callable[[str], str], down: str, up: str) -> Layout:
    """A LoRA of rank 4 for the two-sided weights whose module matches a pattern, named by ``name``."""
    changes: Layout = {}
    for key, shape in layout.items():
        module = key.removesuffix(".weight")
        if key.endswith(".weight") and len(shape) == 2 and re.search(modules, module):
            changes[f"{name(module)}.{down}.weight"] = (RANK, shape[1])
            changes[f"{name(module)}.{up}.weight"] = (shape[0], RANK)
    return changes


_ATTENTION = r"attn[12]\.to_(q|k|v|out\.0)$"
_QWEN_ATTENTION = r"attn\.(to_q|to_k|to_v|to_out\.0|add_q_proj|add_k_proj|add_v_proj)$|img_mlp\.net\.0\.proj$"
_TEXT = r"layers\.0\.(self_attn\.[qkv]_proj|mlp\.fc1)$"


def _kohya(prefix: str) -> Callable[[str], str]:
    return lambda module: prefix + module.replace(".", "_")


def sd1_lora() -> Layout:
    """kohya's names, for the UNet and the encoder."""
    text = low_rank(clip_l(), _TEXT, _kohya("lora_te_"), "lora_down", "lora_up")
    return low_rank(unet("sd1_checkpoint"), _ATTENTION, _kohya("lora_unet_"), "lora_down", "lora_up") | text


def sdxl_unet_lora() -> Layout:
    """kohya's names, for the UNet, as the Lightning file is."""
    return low_rank(unet("sdxl_checkpoint"), _ATTENTION, _kohya("lora_unet_"), "lora_down", "lora_up")


def sdxl_lora() -> Layout:
    """kohya's names, for the UNet and both encoders."""
    layout = sdxl_unet_lora()
    for encoder, prefix in ((clip_l(), "lora_te1_"), (clip_g(), "lora_te2_")):
        layout |= low_rank(encoder, _TEXT, _kohya(prefix), "lora_down", "lora_up")
    return layout


def sd35_lora() -> Layout:
    """Stable Diffusion 3.5 Large, in the model's own names."""
    model = thin(below(header("sd3.5_large"), UNET), joint_blocks=[37])
    return low_rank(model, r"attn\.qkv$|x_block\.mlp\.fc1$", _kohya("lora_unet_"), "lora_down", "lora_up")


def flux_lora() -> Layout:
    """kohya's names, for the model and CLIP-L."""
    text = low_rank(clip_l(), _TEXT, _kohya("lora_te1_"), "lora_down", "lora_up")
    wanted = r"attn\.(qkv|proj)$|linear1$"
    return low_rank(flux(), wanted, _kohya("lora_unet_"), "lora_down", "lora_up") | text


def flux_control_lora() -> Layout:
    """Black Forest Labs' own for canny and depth: it widens the picture input."""
    wide = flux() | {"img_in.weight": (3072, 128)}
    layout = low_rank(wide, r"img_in$|attn\.(qkv|proj)$|linear1$", str, "lora_A", "lora_B")
    layout |= {f"{name.removesuffix('.weight')}.bias": (s[0],) for name, s in layout.items() if ".lora_B." in name}
    return layout | {name: shape for name, shape in wide.items() if name.endswith("norm.scale")}


def qwen_lora() -> Layout:
    """In the model's own names, as the Lightning files are."""
    return low_rank(qwen_image(), _QWEN_ATTENTION, str, "lora_down", "lora_up")


def hidream_lora() -> Layout:
    """In diffusers' manner."""
    wanted = r"attn1\.to_[qkv](_t)?$"
    return low_rank(hidream(), wanted, lambda module: f"diffusion_model.{module}", "lora_A", "lora_B")


def esrgan(channels: int = 16, growth: int = 32) -> Layout:
    """Real-ESRGAN x4plus with one block, 16 channels wide: spandrel reads both from the file; the growth is fixed."""
    layout: Layout = {}

    def conv(name: str, into: int, of: int) -> None:
        layout.update({f"{name}.weight": (into, of, 3, 3), f"{name}.bias": (into,)})

    conv("conv_first", channels, 3)
    for dense in (1, 2, 3):
        for place in range(1, 6):
            into = growth if place < 5 else channels
            conv(f"body.0.rdb{dense}.conv{place}", into, channels + (place - 1) * growth)
    for name in ("conv_body", "conv_up1", "conv_up2", "conv_hr"):
        conv(name, channels, channels)
    conv("conv_last", 3, channels)
    return layout


# What reads maps from pictures: transformers takes the numbers of blocks from the file.


def depth_estimator() -> Layout:
    """Depth Anything V2 small, four of its twelve blocks: one for each that is read."""
    return thin(header("depth_anything_v2_small"), layer=range(4))


def pose_estimator() -> Layout:
    """ViTPose base with the simple decoder, one block."""
    return thin(header("vitpose_base_simple"), layer=[0])


def person_detector() -> Layout:
    """RT-DETR with one layer in each stage of its backbone."""
    deeper = re.compile(r"stages\.\d\.layers\.[1-9]")
    return {name: shape for name, shape in header("rtdetr_r50vd").items() if not deeper.search(name)}
