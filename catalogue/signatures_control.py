"""ControlNets by their tensors: ldm, diffusers, Stability's control-LoRAs and 3.5 format, InstantX, XLabs, Fun, T2I
adapters.

Where the facts come from: ComfyUI's ``comfy/controlnet.py`` (load_controlnet_state_dict and what it calls, 0.33.0).
"""

from __future__ import annotations

from .detection import Detection
from .header import Header
from .signatures_model import UNET_WIDTHS, cross_attention_width


def _control(architecture: str, form: str, *traits: str, label: str | None = None) -> Detection:
    family = {
        "sdxl-refiner": "sdxl",
        "sd3.5-large": "sd3.5",
        "sd3.5-medium": "sd3.5",
    }.get(architecture, architecture)
    return Detection(
        kind="controlnet",
        families=(family,) if family else (),
        architecture=architecture or None,
        traits=traits,
        format=form,
        label=label,
    )


def detect_controlnet(header: Header) -> Detection | None:
    """A ControlNet as ControlNetLoader takes it; None where it is none."""
    for rule in (_unet_controlnet, _transformer_controlnet, _adapter):
        found = rule(header)
        if found is not None:
            return found
    return None


def _unet_controlnet(header: Header) -> Detection | None:
    if "lora_controlnet" in header:
        return _of_unet(header, "control_lora")
    if "controlnet_cond_embedding.conv_in.weight" in header:
        union = ("union",) if "task_embedding" in header else ()
        return _of_unet(header, "diffusers", *union)
    for prefix in ("control_model.", "model.control_model.", ""):
        if f"{prefix}zero_convs.0.0.weight" in header and f"{prefix}input_hint_block.0.weight" in header:
            return _of_unet(header.below(prefix), "ldm")
    return None


def _of_unet(header: Header, form: str, *traits: str) -> Detection:
    architecture = UNET_WIDTHS.get(cross_attention_width(header), "")
    return _control(architecture, form, *traits, label=None if architecture else "a UNet of an unknown kind")


def _transformer_controlnet(header: Header) -> Detection | None:
    if "after_proj_list.18.bias" in header:
        return _control("", "hunyuan_dit", label="Hunyuan-DiT")
    if "control_blocks.0.after_proj.weight" in header and "control_img_in.weight" in header:
        return _control("qwen-image", "fun", "union")
    if "controlnet_blocks.0.linear.weight" in header:
        return _control("flux1", "mistoline")
    if "controlnet_blocks.0.weight" not in header:
        return None
    if "double_blocks.0.img_attn.norm.key_norm.scale" in header:
        return _control("flux1", "xlabs")
    if "pos_embed_input.proj.weight" in header:
        return _stable_diffusion_3(header)
    if "transformer_blocks.0.img_mlp.net.0.proj.weight" in header:
        inpaint = ("inpaint",) if header.size("controlnet_x_embedder.weight", 1) > 64 else ()
        return _control("qwen-image", "instantx", *inpaint)
    if "controlnet_x_embedder.weight" in header:
        union = ("union",) if header.has_prefix("controlnet_mode_embedder.") else ()
        return _control("flux1", "instantx", *union)
    return None


def _stable_diffusion_3(header: Header) -> Detection:
    form = "stability" if "transformer_blocks.0.adaLN_modulation.1.bias" in header else "diffusers"
    width = header.size("pos_embed_input.proj.weight", 0)
    normed = header.has_part(".norm_q.", ".ln_q.")
    if width == 2432:
        return _control("sd3.5-large", form)
    if width == 1536 and (normed or form == "stability"):
        return _control("sd3.5-medium", form)
    return _control("", form, label="Stable Diffusion 3 (not 3.5)")


def _adapter(header: Header) -> Detection | None:
    if header.has_prefix("adapter."):
        header = header.below("adapter.")
    if "body.0.in_conv.weight" in header:
        return _control("sd1", "t2i_adapter")
    if "conv_in.weight" in header and ("body.0.block2.weight" in header or "body.0.resnets.0.block2.weight" in header):
        # The picture is folded 8 times for 64 channels a colour (SD 1), 16 times for 256 (SDXL).
        return _control("sdxl" if header.size("conv_in.weight", 1) in (256, 768) else "sd1", "t2i_adapter")
    return None
