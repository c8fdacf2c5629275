"""The same picture twice: by our loader and sampler, and by ComfyUI's own nodes wired by hand, family by family.

Each case builds one prompt from either; the numbers by hand (cfg, sampler, shift, guidance ...) are those of ComfyUI's
templates, written out. Held to the same pixels by ``tests/custom_nodes/test_stock_nodes.py``; ``loading.py`` times
their loaders. The files are those of ``tiny_models.py``.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

STEPS, SEED, SIDE = 2, 7, 64
WORDS, NOT = "a red fox in the snow", "blurry"
Ref = list[Any]
"""A wire: node id and slot."""


@dataclass(slots=True)
class Wiring:
    """A prompt as it grows; ``ours`` says which of the two it is."""

    ours: bool
    nodes: dict[str, dict[str, Any]] = field(default_factory=dict)

    def add(self, class_type: str, **inputs: Any) -> list[Ref]:
        """A node; its first eight outputs."""
        key = str(len(self.nodes) + 1)
        given = {name: value for name, value in inputs.items() if value is not None}
        self.nodes[key] = {"class_type": class_type, "inputs": given}
        return [[key, slot] for slot in range(8)]

    def one(self, class_type: str, **inputs: Any) -> Ref:
        """A node's first output."""
        return self.add(class_type, **inputs)[0]


@dataclass(frozen=True, kw_only=True, slots=True)
class Parts:
    """What a loader gives; ``settings`` by ours only."""

    model: Ref
    clip: Ref
    vae: Ref
    settings: Ref | None = None
    eyes: Ref | None = None
    style: Ref | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Way:
    """How a variant is sampled, by the templates."""

    cfg: float = 1.0
    sampler: str = "euler"
    scheduler: str = "simple"
    guidance: float | None = None
    latent: str = "EmptySD3LatentImage"


SD = Way(cfg=8.0, scheduler="normal", latent="EmptyLatentImage")
SDXL = Way(cfg=7.0, sampler="dpmpp_2m", scheduler="karras", latent="EmptyLatentImage")
SD35 = Way(cfg=4.01, scheduler="sgm_uniform")
FLUX = Way(guidance=3.5)
SCHNELL = Way()
QWEN = Way(cfg=4.0)
HUNYUAN = Way(cfg=3.5, latent="EmptyHunyuanImageLatent")


# Loaders.


def checkpoint(node: str, file: str, variant: str) -> Callable[[Wiring], Parts]:
    """A whole checkpoint."""

    def load(w: Wiring) -> Parts:
        if w.ours:
            out = w.add(node, model=f"{file}.safetensors", variant=variant)
            return Parts(model=out[0], clip=out[1], vae=out[2], settings=out[3])
        out = w.add("CheckpointLoaderSimple", ckpt_name=f"{file}.safetensors")
        return Parts(model=out[0], clip=out[1], vae=out[2])

    return load


def split(
    node: str,
    file: str,
    variant: str,
    encoders: dict[str, str],
    vae: str,
    clip: tuple[str, str | None],
    *prepared: tuple[str, dict[str, Any]],
) -> Callable[[Wiring], Parts]:
    """A diffusion model, encoders (our input -> file) and a VAE; ``clip`` is the stock loader and its type;
    ``prepared`` the nodes that the model goes through.
    """

    def load(w: Wiring) -> Parts:
        name, names = f"{file}.safetensors", [f"{one}.safetensors" for one in encoders.values()]
        if w.ours:
            chosen = dict(zip(encoders, names, strict=True))
            out = w.add(node, model=name, variant=variant, vae=f"{vae}.safetensors", **chosen)
            return Parts(model=out[0], clip=out[1], vae=out[2], settings=out[3])
        model = w.one("UNETLoader", unet_name=name, weight_dtype="default")
        for class_type, values in prepared:
            model = w.one(class_type, model=model, **values)
        keys = ["clip_name"] if len(names) == 1 else [f"clip_name{place}" for place in range(1, len(names) + 1)]
        read = w.one(clip[0], type=clip[1], **dict(zip(keys, names, strict=True)))
        return Parts(model=model, clip=read, vae=w.one("VAELoader", vae_name=f"{vae}.safetensors"))

    return load


_FLUX_ENCODERS = {"clip_l": "clip_l", "t5xxl": "t5xxl_fp16"}
_FLUX_CLIP = ("DualCLIPLoader", "flux")
_HIDREAM_ENCODERS = {
    "clip_l": "clip_l_hidream",
    "clip_g": "clip_g_hidream",
    "t5xxl": "t5xxl_fp8_e4m3fn_scaled",
    "llama": "llama_3.1_8b_instruct_fp8_scaled",
}
_QWEN_ENCODERS = {"qwen_vl": "qwen_2.5_vl_7b_fp8_scaled"}


def flux(
    file: str = "flux1-dev", variant: str = "flux1-dev", node: str = "AtelierLoadFlux"
) -> Callable[[Wiring], Parts]:
    """FLUX.1 and its relatives."""
    return split(node, file, variant, _FLUX_ENCODERS, "ae", _FLUX_CLIP)


def hidream(file: str, variant: str, node: str, *prepared: tuple[str, dict[str, Any]]) -> Callable[[Wiring], Parts]:
    """HiDream with its four encoders."""
    return split(node, file, variant, _HIDREAM_ENCODERS, "ae", ("QuadrupleCLIPLoader", None), *prepared)


def qwen(
    file: str = "qwen_image_fp8_e4m3fn",
    variant: str = "qwen-image",
    node: str = "AtelierLoadQwenImage",
    shift: float = 3.1,
    norm: float | None = None,
) -> Callable[[Wiring], Parts]:
    """Qwen-Image and its edit models, which have CFGNorm too."""
    prepared: list[tuple[str, dict[str, Any]]] = [("ModelSamplingAuraFlow", {"shift": shift})]
    if norm is not None:
        prepared.append(("CFGNorm", {"strength": norm}))
    return split(node, file, variant, _QWEN_ENCODERS, "qwen_image_vae", ("CLIPLoader", "qwen_image"), *prepared)


def hunyuan(file: str, variant: str, shift: float) -> Callable[[Wiring], Parts]:
    """HunyuanImage 2.1."""
    encoders = {"qwen_vl": "qwen_2.5_vl_7b", "byt5": "byt5_small_glyphxl_fp16"}
    clip = ("DualCLIPLoader", "hunyuan_image")
    shifted = ("ModelSamplingSD3", {"shift": shift})
    node = "AtelierLoadHunyuanImage"
    return split(node, file, variant, encoders, "hunyuan_image_2.1_vae_fp16", clip, shifted)


SHIFT3, SHIFT6 = ("ModelSamplingSD3", {"shift": 3.0}), ("ModelSamplingSD3", {"shift": 6.0})
"""Of HiDream-I1 Full and Fast, and of Dev."""

sd15 = checkpoint("AtelierLoadStableDiffusion", "v1-5-pruned-emaonly-fp16", "sd-1.5")
sd21 = checkpoint("AtelierLoadStableDiffusion", "v2-1_768-ema-pruned", "sd-2.1-768v")
sd_turbo = checkpoint("AtelierLoadStableDiffusion", "sd_turbo", "sd-turbo")
sdxl = checkpoint("AtelierLoadSDXL", "sd_xl_base_1.0", "sdxl-base")
sdxl_turbo = checkpoint("AtelierLoadSDXL", "sd_xl_turbo_1.0_fp16", "sdxl-turbo")
sdxl_lightning = checkpoint("AtelierLoadSDXL", "sdxl_lightning_4step", "sdxl-lightning")
sdxl_refiner = checkpoint("AtelierLoadSDXL", "sd_xl_refiner_1.0", "sdxl-refiner")
sd35_large = checkpoint("AtelierLoadSD35", "sd3.5_large_fp8_scaled", "sd3.5-large")
sd35_medium = checkpoint("AtelierLoadSD35", "sd3.5_medium_incl_clips_t5xxlfp8scaled", "sd3.5-medium")


def sd35_turbo(w: Wiring) -> Parts:
    """A checkpoint without encoders: three files beside it."""
    names = {"clip_l": "clip_l.safetensors", "clip_g": "clip_g.safetensors", "t5xxl": "t5xxl_fp16.safetensors"}
    file = "sd3.5_large_turbo.safetensors"
    if w.ours:
        out = w.add("AtelierLoadSD35", model=file, variant="sd3.5-large-turbo", **names)
        return Parts(model=out[0], clip=out[1], vae=out[2], settings=out[3])
    out = w.add("CheckpointLoaderSimple", ckpt_name=file)
    three = {f"clip_name{place}": name for place, name in enumerate(names.values(), start=1)}
    return Parts(model=out[0], clip=w.one("TripleCLIPLoader", **three), vae=out[2])


def redux(w: Wiring) -> Parts:
    """FLUX.1 dev, the style model and SigLIP."""
    if w.ours:
        names = {key: f"{name}.safetensors" for key, name in _FLUX_ENCODERS.items()}
        out = w.add("AtelierLoadFluxRedux", model="flux1-dev.safetensors", variant="flux1-redux-dev", **names)
        return Parts(model=out[0], clip=out[1], vae=out[2], eyes=out[3], style=out[4], settings=out[5])
    parts = flux()(w)
    shifted = {"max_shift": 1.15, "base_shift": 0.5, "width": 1024, "height": 1024}
    return Parts(
        model=w.one("ModelSamplingFlux", model=parts.model, **shifted),
        clip=parts.clip,
        vae=parts.vae,
        eyes=w.one("CLIPVisionLoader", clip_name="sigclip_vision_patch14_384.safetensors"),
        style=w.one("StyleModelLoader", style_model_name="flux1-redux-dev.safetensors"),
    )


# What every case has.


def words(w: Wiring, parts: Parts, text: str = WORDS) -> Ref:
    """A prompt."""
    return w.one("CLIPTextEncode", clip=parts.clip, text=text)


def picture(w: Wiring) -> Ref:
    """The picture that a case reads."""
    return w.one("LoadImage", image="example.png")


def changed(w: Wiring, parts: Parts, way: Way) -> Ref:
    """Our settings with two steps, and with what a control wants."""
    values = {"cfg": way.cfg, "guidance": way.guidance or 0.0, "sampler": way.sampler, "scheduler": way.scheduler}
    return w.one("AtelierChangeSettings", settings=parts.settings, steps=STEPS, **values)


def shorter(w: Wiring, parts: Parts) -> Ref:
    """Our settings with two steps and all else as recommended."""
    kept = {"cfg": 0.0, "guidance": 0.0, "sampler": "recommended", "scheduler": "recommended"}
    return w.one("AtelierChangeSettings", settings=parts.settings, steps=STEPS, **kept)


def guided(w: Wiring, positive: Ref, way: Way) -> Ref:
    """By hand: FluxGuidance where the model has one."""
    if way.guidance is None:
        return positive
    return w.one("FluxGuidance", conditioning=positive, guidance=way.guidance)


def draw(
    w: Wiring,
    parts: Parts,
    way: Way,
    positive: Ref,
    negative: Ref | None,
    latent: Ref,
    *,
    denoise: float = 1.0,
    own: bool = False,
) -> None:
    """Sampling, decoding, saving; ``own`` where a control changes the recommended settings."""
    if w.ours:
        settings = changed(w, parts, way) if own else shorter(w, parts)
        wires = {"model": parts.model, "settings": settings, "positive": positive, "negative": negative}
        done = w.one("AtelierSample", **wires, latent=latent, seed=SEED, denoise=denoise)
    else:
        negative = negative or w.one("ConditioningZeroOut", conditioning=positive)
        wires = {"model": parts.model, "positive": guided(w, positive, way), "negative": negative}
        values = {"cfg": way.cfg, "sampler_name": way.sampler, "scheduler": way.scheduler, "denoise": denoise}
        done = w.one("KSampler", **wires, latent_image=latent, seed=SEED, steps=STEPS, **values)
    finish(w, parts, done)


def finish(w: Wiring, parts: Parts, latent: Ref) -> None:
    """To a saved picture."""
    w.add("SaveImage", images=w.one("VAEDecode", samples=latent, vae=parts.vae), filename_prefix="by-hand")


def empty(w: Wiring, way: Way, side: int = SIDE) -> Ref:
    """An empty latent."""
    return w.one(way.latent, width=side, height=side, batch_size=1)


def with_lora(w: Wiring, parts: Parts, file: str, clip: bool) -> Parts:
    """A LoRA by our loader or the stock one; with the encoders or without."""
    name, strengths = f"{file}.safetensors", {"strength_model": 0.8}
    if w.ours:
        wires = {"model": parts.model, "clip": parts.clip if clip else None, "lora": name, "strength_clip": 0.5}
        out = w.add("AtelierLoadLora", **wires, **strengths)
    elif clip:
        wires = {"model": parts.model, "clip": parts.clip, "lora_name": name, "strength_clip": 0.5}
        out = w.add("LoraLoader", **wires, **strengths)
    else:
        out = w.add("LoraLoaderModelOnly", model=parts.model, lora_name=name, **strengths)
    read = out[1] if clip else parts.clip
    return Parts(model=out[0], clip=read, vae=parts.vae, settings=parts.settings, eyes=parts.eyes, style=parts.style)
