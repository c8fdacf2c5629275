"""Diffusion models and whole checkpoints by their tensors' names and shapes.

Where the facts come from: ComfyUI's ``comfy/model_detection.py`` and ``supported_models.py`` (0.33.0) for which names
and shapes mean what; the model cards for which variant has which.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace

from .detection import Detection
from .header import Header

LDM_PREFIX = "model.diffusion_model."
_VAE_PREFIXES = ("first_stage_model.", "vae.")
_TEXT_PREFIXES = ("cond_stage_model.", "conditioner.embedders.", "text_encoders.", "text_encoder.")
_VISION_PREFIXES = ("conditioner.embedders.0.open_clip.model.visual.", "embedder.model.visual.", "clip_vision.")

_Rule = Callable[[Header], Detection | None]


def _found(family: str, architecture: str, variants: Iterable[str], **more: object) -> Detection:
    base = Detection(
        kind="diffusion_model", families=(family,), architecture=architecture, variants=tuple(variants), format="ldm"
    )
    return replace(base, **more)  # type: ignore[arg-type]  # the callers in this file pass fields of Detection


def _stranger(label: str, **more: object) -> Detection:
    return replace(Detection(kind="diffusion_model", label=label), **more)  # type: ignore[arg-type]  # as above


def cross_attention_width(header: Header) -> int:
    """The width of the text that a UNet listens to, from its first cross-attention; 0 where it has none."""
    shape = header.first_ending("attn2.to_k.weight", "attn2.to_k.down", "attn2.to_k.down.weight")
    return shape[1] if len(shape) > 1 else 0


UNET_WIDTHS = {768: "sd1", 1024: "sd2", 2048: "sdxl", 1280: "sdxl-refiner"}
"""CLIP-L, OpenCLIP-H, CLIP-L with CLIP-G, CLIP-G alone."""


def _ldm_unet(header: Header) -> Detection | None:
    channels = header.size("input_blocks.0.0.weight", 1)
    if not channels or "out.2.weight" not in header:
        return None
    width = cross_attention_width(header)
    if header.has_part(".time_stack.", ".time_mix_blocks."):
        return _svd(header, width, channels)
    return _unet(width, channels, header.size("label_emb.0.0.weight", 1), "ldm")


def _diffusers_unet(header: Header) -> Detection | None:
    channels = header.size("conv_in.weight", 1)
    if not channels or not header.has_prefix("down_blocks.") or "conv_norm_out.weight" not in header:
        return None
    width = cross_attention_width(header)
    if header.has_part(".temporal_transformer_blocks."):
        return _svd(header, width, channels, "diffusers")
    return _unet(width, channels, header.size("add_embedding.linear_1.weight", 1), "diffusers")


def _svd(header: Header, width: int, channels: int, form: str = "ldm") -> Detection:
    if width == 1024 and channels == 8:
        return _found("svd", "svd", ("svd-xt", "svd"), format=form, latent_channels=4)
    return _stranger("a video UNet (Stable Video 3D, Zero123 or AnimateDiff)", format=form)


def _unet(width: int, channels: int, conditioning: int, form: str) -> Detection:
    traits = {9: ("inpaint",), 8: ("instruct_pix2pix",), 5: ("depth",), 7: ("upscale",)}.get(channels, ())
    architecture = UNET_WIDTHS.get(width)
    if width == 2048 and conditioning not in (2816, 0):
        return _stranger("a UNet of SDXL's text width with other conditioning (Kolors, SSD)", format=form)
    if architecture is None or traits == ("upscale",):
        return _stranger("a UNet of an unknown kind", format=form)
    family = "sdxl" if architecture == "sdxl-refiner" else architecture
    variants = {
        "sd1": ("sd-1.5", "sd-1.4"),
        "sd2": ("sd-2.1-768v", "sd-2.1-base", "sd-2.0-768v", "sd-2.0-base", "sd-turbo"),
        "sdxl": ("sdxl-base", "sdxl-turbo", "sdxl-lightning"),
        "sdxl-refiner": ("sdxl-refiner",),
    }[architecture]
    if traits:
        variants = ("sd-2.0-inpainting",) if (architecture, channels) == ("sd2", 9) else ()
    return _found(family, architecture, variants, traits=traits, format=form, latent_channels=4)


def _sd3(header: Header) -> Detection | None:
    if "joint_blocks.0.context_block.attn.qkv.weight" not in header:
        return None
    channels = header.size("x_embedder.proj.weight", 1)
    if "joint_blocks.0.context_block.attn.ln_q.weight" not in header:
        return _stranger("Stable Diffusion 3 (not 3.5)", latent_channels=channels)
    if header.has_part(".x_block.attn2.qkv.weight"):
        return _found("sd3.5", "sd3.5-medium", ("sd3.5-medium",), latent_channels=channels)
    return _found("sd3.5", "sd3.5-large", ("sd3.5-large", "sd3.5-large-turbo"), latent_channels=channels)


def _diffusers_sd3(header: Header) -> Detection | None:
    if "transformer_blocks.0.attn.add_q_proj.weight" not in header or "pos_embed.proj.weight" not in header:
        return None
    channels = header.size("pos_embed.proj.weight", 1)
    if "transformer_blocks.0.attn.norm_added_q.weight" not in header:
        return _stranger("Stable Diffusion 3 (not 3.5)", format="diffusers", latent_channels=channels)
    medium = header.has_prefix("transformer_blocks.0.attn2.")
    architecture = "sd3.5-medium" if medium else "sd3.5-large"
    variants = ("sd3.5-medium",) if medium else ("sd3.5-large", "sd3.5-large-turbo")
    return _found("sd3.5", architecture, variants, format="diffusers", latent_channels=channels)


FLUX_INPUTS: dict[int, tuple[tuple[str, ...], tuple[str, ...]]] = {
    64: (("flux1-dev", "flux1-krea-dev", "flux1-kontext-dev", "flux1-redux-dev", "flux1-uso-dev"), ()),
    128: (("flux1-canny-dev", "flux1-depth-dev"), ("control",)),
    384: (("flux1-fill-dev",), ("inpaint",)),
}
"""Width of FLUX.1's picture input (4 pixels of 16 channels, and of what is concatenated) -> variants and traits."""


def flux_variant(width: int, guided: bool, form: str) -> Detection:
    """FLUX.1 by its picture input's width and whether it has a guidance embedding."""
    variants, traits = FLUX_INPUTS.get(width, ((), ()))
    if not guided and width == 64:
        variants = ("flux1-schnell",)
    return _found("flux1", "flux1", variants, traits=traits, format=form, latent_channels=16)


def _flux(header: Header) -> Detection | None:
    norms = ("double_blocks.0.img_attn.norm.key_norm.weight", "double_blocks.0.img_attn.norm.key_norm.scale")
    if not any(name in header for name in norms):
        return None
    if "double_stream_modulation_img.lin.weight" in header:
        return _stranger("FLUX.2")
    if header.has_prefix("distilled_guidance_layer."):
        return _stranger("Chroma")
    if "controlnet_blocks.0.weight" in header or "img_in.weight" not in header:
        return None
    if "vector_in.in_layer.weight" not in header:
        return _stranger("a relative of FLUX.1 without its CLIP input (LongCat-Image, Ovis-Image)")
    return flux_variant(header.size("img_in.weight", 1), "guidance_in.in_layer.weight" in header, "comfyui")


def _diffusers_flux(header: Header) -> Detection | None:
    if not header.has_prefix("single_transformer_blocks.0.") or "controlnet_x_embedder.weight" in header:
        return None
    width, context = header.size("x_embedder.weight", 1), header.size("context_embedder.weight", 1)
    if not width or context != 4096 or not header.has_prefix("time_text_embed.text_embedder."):
        return _stranger("a relative of FLUX.1 in diffusers' names", format="diffusers")
    return flux_variant(width, header.has_prefix("time_text_embed.guidance_embedder."), "diffusers")


def _hidream(header: Header) -> Detection | None:
    if "caption_projection.0.linear.weight" not in header:
        return None
    variants = ("hidream-i1-full", "hidream-i1-dev", "hidream-i1-fast", "hidream-e1-full", "hidream-e1.1")
    channels = header.size("x_embedder.proj.weight", 1) // 4
    return _found("hidream", "hidream", variants, format="comfyui", latent_channels=channels)


def _qwen_image(header: Header) -> Detection | None:
    if not (header.size("txt_norm.weight", 0) == 3584 and header.has_prefix("transformer_blocks.0.img_mod.")):
        return None
    if header.size("proj_out.weight", 0) not in (64, 0):
        return _stranger("a relative of Qwen-Image")
    if "time_text_embed.addition_t_embedding.weight" in header:
        return _found("qwen-image", "qwen-image-layered", ("qwen-image-layered",), format="comfyui", latent_channels=16)
    edits = ("qwen-image-edit-2511",) if "__index_timestep_zero__" in header else _QWEN_VARIANTS
    return _found("qwen-image", "qwen-image", edits, format="comfyui", latent_channels=16)


_QWEN_VARIANTS = (
    "qwen-image",
    "qwen-image-2512",
    "qwen-image-edit",
    "qwen-image-edit-2509",
    "qwen-image-edit-2511",
)


def _hunyuan_image(header: Header) -> Detection | None:
    if not header.has_prefix("txt_in.individual_token_refiner.blocks.0.norm1."):
        return None
    picture = header.shape("img_in.proj.weight")
    if header.has_prefix("vector_in.") or header.has_prefix("vision_in."):
        return _stranger("HunyuanVideo")
    if len(picture) == 5:
        # Patches of one frame and twice the channels: the refiner; ComfyUI tells it by the same shape.
        if picture[2:] == (1, 1, 1) and picture[1] == 128:
            return _found("hunyuan-image", "hunyuan-image-refiner", (), traits=("refiner",), latent_channels=64)
        return _stranger("HunyuanVideo")
    distilled = header.has_prefix("guidance_in.", "time_r_in.")
    variants = ("hunyuan-image-2.1-distilled",) if distilled else ("hunyuan-image-2.1",)
    channels = picture[1] if len(picture) > 1 else 0
    return _found("hunyuan-image", "hunyuan-image-2.1", variants, format="comfyui", latent_channels=channels)


_STRANGERS = (
    ("PixArt", ("adaln_single.emb.timestep_embedder.linear_1.weight", "pos_embed.proj.weight")),
    ("PixArt", ("t_embedder.mlp.0.weight", "y_embedder.y_embedding", "t_block.1.weight")),
    ("Hunyuan-DiT", ("mlp_t5.0.weight",)),
    ("AuraFlow", ("double_layers.0.attn.w1q.weight",)),
    ("Stable Cascade", ("clip_txt_mapper.weight",)),
    ("Wan", ("head.modulation", "patch_embedding.weight")),
    ("LTX-Video", ("adaln_single.emb.timestep_embedder.linear_1.weight", "patchify_proj.weight")),
    ("Lumina 2 or Z-Image", ("cap_embedder.1.weight", "layers.0.attention.qkv.weight")),
    ("Genmo Mochi", ("t5_yproj.weight",)),
)
"""Other well-known models: naming them tells people more than "unknown"."""


def _known_stranger(header: Header) -> Detection | None:
    for label, names in _STRANGERS:
        if all(name in header for name in names):
            return _stranger(label)
    return None


_RULES: tuple[_Rule, ...] = (
    _sd3,
    _flux,
    _hidream,
    _qwen_image,
    _hunyuan_image,
    _ldm_unet,
    _diffusers_flux,
    _diffusers_sd3,
    _diffusers_unet,
    _known_stranger,
)


def detect_diffusion_model(header: Header) -> Detection | None:
    """A diffusion model or a checkpoint; None where the tensors are those of neither."""
    prefix = next((p for p in (LDM_PREFIX, "model.", "transformer.") if _is_prefix(header, p)), "")
    inner = header.below(prefix)
    for rule in _RULES:
        found = rule(inner)
        if found is not None:
            parts = _parts(header)
            return replace(found, kind="checkpoint", parts=("diffusion_model", *parts)) if parts else found
    return None


def _is_prefix(header: Header, prefix: str) -> bool:
    """Whether more than a handful of tensors lie below it, as ComfyUI decides."""
    return header.text.count(f"\n{prefix}") > 5


def _parts(header: Header) -> tuple[str, ...]:
    named = (("text_encoder", _TEXT_PREFIXES), ("vae", _VAE_PREFIXES), ("clip_vision", _VISION_PREFIXES))
    parts = [part for part, prefixes in named if header.has_prefix(*prefixes)]
    if "clip_vision" in parts and not header.has_prefix(
        "cond_stage_model.", "text_encoders.", "conditioner.embedders.1."
    ):
        parts.remove("text_encoder")  # Stable Video Diffusion's only embedder looks at pictures
    return tuple(parts)
