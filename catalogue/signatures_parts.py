"""Text encoders, VAEs, CLIP vision, style models, model patches, upscalers and embeddings by their tensors.

Where the facts come from: ComfyUI's ``comfy/sd.py`` (detect_te_model, VAE, load_style_model),
``comfy/clip_vision.py`` and ``comfy_extras/nodes_model_patch.py`` (0.33.0); spandrel's architecture names for
upscalers.
"""

from __future__ import annotations

from .detection import Detection
from .header import Header

ENCODER_FAMILIES: dict[str, tuple[str, ...]] = {
    "clip_l": ("flux1", "hidream", "sd1", "sd3.5", "sdxl"),
    "clip_g": ("hidream", "sd3.5", "sdxl"),
    "clip_h": ("sd2",),
    "t5xxl": ("flux1", "hidream", "sd3.5"),
    "llama_3.1_8b": ("hidream",),
    "qwen2.5_vl_7b": ("hunyuan-image", "qwen-image"),
    "byt5_small": ("hunyuan-image",),
}
"""Which families of the catalogue use an encoder."""

_ENCODER_LABELS = {
    "t5_xl": "T5-XL",
    "t5_base": "T5-base",
    "umt5_xxl": "UMT5-XXL (Wan)",
    "qwen2.5_3b": "Qwen2.5 3B",
    "qwen3": "Qwen3",
    "qwen3_vl": "Qwen3-VL",
    "gemma": "Gemma",
    "llama": "a Llama or Mistral of another size",
}


def detect_text_encoder(header: Header) -> Detection | None:
    """A text encoder as CLIPLoader takes it; None where it is none."""
    found = _clip(header) or _t5(header) or _language_model(header)
    if found is None:
        return None
    name, traits, form = found
    return Detection(
        kind="text_encoder",
        families=ENCODER_FAMILIES.get(name, ()),
        encoders=(name,),
        traits=traits,
        format=form,
        label=_ENCODER_LABELS.get(name),
    )


_Encoder = tuple[str, tuple[str, ...], str]
_LAYER = "text_model.encoder.layers.{}.mlp.fc1.weight"
_OPEN_CLIP_LAYER = "transformer.resblocks.{}.mlp.c_fc.weight"
_CLIP_DEPTHS = ((30, "clip_g"), (22, "clip_h"), (0, "clip_l"))
"""A layer that only this encoder and deeper ones have."""


def _clip(header: Header) -> _Encoder | None:
    if header.has_prefix("vision_model.", "visual.transformer."):
        return None
    for pattern, form in ((_LAYER, "transformers"), (_OPEN_CLIP_LAYER, "open_clip")):
        for depth, name in _CLIP_DEPTHS:
            if pattern.format(depth) in header:
                positions = header.size("text_model.embeddings.position_embedding.weight", 0)
                return name, ("long",) if positions > 77 else (), form
    return None


def _t5(header: Header) -> _Encoder | None:
    keys = header.shape("encoder.block.0.layer.0.SelfAttention.k.weight")
    if not keys:
        return None
    if keys[0] == 384:
        return "byt5_small", (), "transformers"
    width = header.size("encoder.block.0.layer.0.layer_norm.weight", 0)
    if width == 4096 and header.has_prefix("encoder.block.0.layer.1.DenseReluDense.wi_1."):
        # UMT5 has a position bias in every layer, T5 in the first one only.
        many = "encoder.block.1.layer.0.SelfAttention.relative_attention_bias.weight" in header
        return "umt5_xxl" if many else "t5xxl", (), "transformers"
    return "t5_xl" if width == 2048 else "t5_base", (), "transformers"


def _language_model(header: Header) -> _Encoder | None:
    if header.has_prefix("model.visual.deepstack_merger_list.", "visual.deepstack_merger_list."):
        return "qwen3_vl", (), "transformers"
    width = header.size("model.layers.0.post_attention_layernorm.weight", 0)
    if not width or not header.has_prefix("model.layers.0.self_attn."):
        return None
    bias = header.size("model.layers.0.self_attn.k_proj.bias", 0)
    if bias:
        name = {512: "qwen2.5_vl_7b", 256: "qwen2.5_3b"}.get(bias, "llama")
        return name, ("vision",) if header.has_prefix("visual.") else (), "transformers"
    if "model.layers.0.post_feedforward_layernorm.weight" in header:
        return "gemma", (), "transformers"
    if "model.layers.0.self_attn.q_norm.weight" in header:
        return "qwen3", (), "transformers"
    words = header.size("model.embed_tokens.weight", 0)
    llama = (
        width == 4096
        and words in (128256, 128320, 0)
        and header.size("model.layers.0.self_attn.k_proj.weight", 0) == 1024
    )
    return "llama_3.1_8b" if llama else "llama", (), "transformers"


VAE_FAMILIES: dict[int, tuple[str, ...]] = {
    4: ("sd1", "sd2", "sdxl"),
    16: ("flux1", "hidream", "sd3.5"),
    64: ("hunyuan-image",),
}
"""Families by a picture VAE's latent channels: those with the same number have the same layout and cannot be told
apart.
"""


def detect_vae(header: Header) -> Detection | None:
    """A VAE as VAELoader takes it (KL, Wan's, or a tiny one); None where it is none."""
    if header.has_prefix("first_stage_model.") and not header.has_prefix("model.diffusion_model."):
        header = header.below("first_stage_model.")
    if "decoder.middle.0.residual.0.gamma" in header:
        return _wan_vae(header)
    for name, form in (("taesd_decoder.1.weight", "taesd"), ("decoder.conv_in.weight", "ldm")):
        channels = header.size(name, 1)
        if channels:
            if form == "ldm" and header.has_prefix("decoder.up_blocks.0.resnets."):
                form = "diffusers"
            families = VAE_FAMILIES.get(channels, ())
            if header.has_part("mix_factor", ".time_stack."):
                families = ("svd",)
            label = None if families else f"a model with {channels} latent channels"
            return Detection(kind="vae", families=families, latent_channels=channels, format=form, label=label)
    if "decoder.conv_in.conv.weight" in header:
        channels = header.size("decoder.conv_in.conv.weight", 1)
        if channels == 32:
            return Detection(kind="vae", families=("hunyuan-image",), traits=("refiner",), latent_channels=channels)
        return Detection(kind="vae", latent_channels=channels, label="a video model (HunyuanVideo, CogVideoX, LTX)")
    return None


def _wan_vae(header: Header) -> Detection:
    if "decoder.upsamples.0.upsamples.0.residual.2.weight" in header:
        return Detection(kind="vae", latent_channels=48, label="Wan 2.2")
    channels = header.size("decoder.conv1.weight", 1)
    layered = header.size("decoder.head.2.weight", 0) == 4  # red, green, blue and alpha
    traits = ("layered",) if layered else ()
    return Detection(kind="vae", families=("qwen-image",), traits=traits, latent_channels=channels, format="wan")


def detect_clip_vision(header: Header) -> Detection | None:
    """A vision tower as CLIPVisionLoader takes it; None where it is none."""
    if "visual.transformer.resblocks.0.attn.in_proj_weight" in header:
        deep = "visual.transformer.resblocks.47.attn.in_proj_weight" in header
        families: tuple[str, ...] = ("sdxl",) if deep else ("sd2", "svd")
        name = "clip_vision_g" if deep else "clip_vision_h"
        return Detection(kind="clip_vision", families=families, encoders=(name,), format="open_clip")
    if "vision_model.encoder.layers.0.layer_norm1.weight" not in header or header.has_prefix("text_model."):
        return None
    name, families = _vision_tower(header)
    return Detection(kind="clip_vision", families=families, encoders=(name,), format="transformers")


def _vision_tower(header: Header) -> tuple[str, tuple[str, ...]]:
    layer = "vision_model.encoder.layers.{}.layer_norm1.weight"
    if layer.format(47) in header:
        return "clip_vision_g", ("sdxl",)
    if layer.format(30) in header:
        return "clip_vision_h", ("sd2", "svd")
    if header.size(layer.format(0), 0) == 1152:
        return "siglip_so400m", ("flux1",)
    return "clip_vision_l", ()


def detect_small_model(header: Header) -> Detection | None:
    """Style models, model patches, upscalers and textual inversions; None where it is none of them."""
    for rule in (_style_model, _model_patch, _upscaler, _embedding):
        found = rule(header)
        if found is not None:
            return found
    return None


def _style_model(header: Header) -> Detection | None:
    if "redux_down.weight" in header:
        return Detection(
            kind="style_model",
            families=("flux1",),
            architecture="flux1",
            variants=("flux1-redux-dev",),
            format="comfyui",
        )
    if "style_embedding" in header:
        return Detection(kind="style_model", families=("sd1",), architecture="sd1", format="t2i_adapter")
    return None


def _model_patch(header: Header) -> Detection | None:
    if "controlnet_blocks.0.y_rms.weight" in header:
        extra = header.size("img_in.weight", 1) - 64
        traits = ("inpaint",) if extra > 0 else ()
        return Detection(
            kind="model_patch", families=("qwen-image",), architecture="qwen-image", traits=traits, format="diffsynth"
        )
    if "feature_embedder.mid_layer_norm.bias" in header:
        return Detection(
            kind="model_patch", families=("flux1",), architecture="flux1", variants=("flux1-uso-dev",), format="uso"
        )
    if header.has_prefix("control_all_x_embedder."):
        return Detection(kind="model_patch", label="Z-Image")
    return None


_UPSCALERS = (
    ("ESRGAN", ("model.0.weight", "model.1.sub.0.RDB1.conv1.0.weight")),
    ("ESRGAN", ("conv_first.weight", "body.0.rdb1.conv1.weight")),
    ("ESRGAN", ("conv_first.weight", "RRDB_trunk.0.RDB1.conv1.weight")),
    ("SwinIR, HAT or DAT", ("conv_first.weight", "conv_after_body.weight")),
    ("RealESRGAN compact", ("body.0.weight", "body.1.weight", "body.2.weight")),
    ("SPAN", ("conv_1.eval_conv.weight", "block_1.c1_r.eval_conv.weight")),
    ("OmniSR", ("residual_layer.0.residual_layer.0.layer.0.fn.0.weight",)),
)


def _upscaler(header: Header) -> Detection | None:
    inner = header
    for prefix in ("params_ema.", "params."):
        if header.has_prefix(prefix):
            inner = header.below(prefix)
    for label, names in _UPSCALERS:
        if all(name in inner for name in names):
            return Detection(kind="upscaler", format=label)
    return None


_EMBEDDING_WIDTHS = {768: ("sd1",), 1024: ("sd2",), 2048: ("sdxl",)}


def _embedding(header: Header) -> Detection | None:
    if len(header.shapes) > 8 or not all(len(shape) in (1, 2) for shape in header.shapes.values()):
        return None
    names = set(header.shapes)
    if names in ({"clip_l", "clip_g"}, {"clip_g"}):
        return Detection(kind="embedding", families=("sdxl",), architecture="sdxl")
    if "emb_params" in names:
        families = _EMBEDDING_WIDTHS.get(header.size("emb_params", -1), ())
        return Detection(kind="embedding", families=families)
    return None
