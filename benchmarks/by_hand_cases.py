"""The cases of ``by_hand.py``: every family with text, LoRA, control and edit."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from by_hand import (
    FLUX,
    HUNYUAN,
    NOT,
    QWEN,
    SCHNELL,
    SD,
    SD35,
    SDXL,
    SEED,
    SHIFT3,
    SHIFT6,
    SIDE,
    STEPS,
    WORDS,
    Parts,
    Way,
    Wiring,
    draw,
    empty,
    finish,
    flux,
    guided,
    hidream,
    hunyuan,
    picture,
    qwen,
    redux,
    sd15,
    sd21,
    sd35_large,
    sd35_medium,
    sd35_turbo,
    sd_turbo,
    sdxl,
    sdxl_lightning,
    sdxl_refiner,
    sdxl_turbo,
    shorter,
    with_lora,
    words,
)

Load = Callable[[Wiring], Parts]
Case = Callable[[Wiring], None]


def text(load: Load, way: Way, lora: str = "", clip: bool = True, negative: bool | None = None) -> Case:
    """Text to image, with a LoRA or without."""

    def build(w: Wiring) -> None:
        parts = load(w)
        if lora:
            parts = with_lora(w, parts, lora, clip)
        wanted = way.cfg != 1.0 if negative is None else negative
        draw(w, parts, way, words(w, parts), words(w, parts, NOT) if wanted else None, empty(w, way))

    return build


def turbo(load: Load) -> Case:
    """SD-Turbo and SDXL Turbo: SamplerCustom with SDTurboScheduler."""

    def build(w: Wiring) -> None:
        parts = load(w)
        positive, latent = words(w, parts), empty(w, SD)
        if w.ours:
            wires = {"model": parts.model, "settings": shorter(w, parts), "positive": positive, "latent": latent}
            finish(w, parts, w.one("AtelierSampleTurbo", **wires, seed=SEED, denoise=1.0))
            return
        sigmas = w.one("SDTurboScheduler", model=parts.model, steps=STEPS, denoise=1.0)
        values = {"add_noise": True, "noise_seed": SEED, "cfg": 1.0}
        wires = {"model": parts.model, "positive": positive, "latent_image": latent, "sigmas": sigmas}
        wires |= {"negative": w.one("ConditioningZeroOut", conditioning=positive)}
        sampler = w.one("KSamplerSelect", sampler_name="euler_ancestral")
        finish(w, parts, w.one("SamplerCustom", sampler=sampler, **wires, **values))

    return build


def controlled(load: Load, way: Way, file: str, kind: str, strength: float, *, vae: bool, union: bool = False) -> Case:
    """A ControlNet, by the node that knows all ways of control."""

    def build(w: Wiring) -> None:
        parts = load(w)
        positive, seen, latent = words(w, parts), picture(w), empty(w, way, 128)
        negative = words(w, parts, NOT) if way.cfg != 1.0 else w.one("ConditioningZeroOut", conditioning=positive)
        name, span = f"{file}.safetensors", {"strength": strength, "start_percent": 0.0, "end_percent": 1.0}
        conds = {"positive": positive, "negative": negative}
        if w.ours:
            wires = {"model": parts.model, "settings": parts.settings, "vae": parts.vae, "image": seen, **conds}
            out = w.add("AtelierControl", **wires, latent=latent, control=name, kind=kind, **span)
            told = replace(parts, model=out[0])
            draw(w, told, way, out[1], out[2], out[3], own=True)
            return
        net = w.one("ControlNetLoader", control_net_name=name)
        if union:
            words_of = {"canny": "canny/lineart/anime_lineart/mlsd", "depth": "depth", "pose": "openpose"}
            net = w.one("SetUnionControlNetType", control_net=net, type=words_of[kind])
        wires = {"control_net": net, "image": seen, "vae": parts.vae if vae else None, **conds}
        out = w.add("ControlNetApplyAdvanced", **wires, **span)
        draw(w, parts, way, out[0], out[1], latent)

    return build


def inpainted(load: Load, way: Way, fill: bool = False) -> Case:
    """A masked picture: a noise mask, or FLUX Fill's own way."""

    def build(w: Wiring) -> None:
        parts = load(w)
        loaded = w.add("LoadImage", image="example.png")
        positive = words(w, parts)
        negative = words(w, parts, NOT) if way.cfg != 1.0 else w.one("ConditioningZeroOut", conditioning=positive)
        conds, seen = {"positive": positive, "negative": negative}, {"vae": parts.vae, "mask": loaded[1]}
        if w.ours:
            wires = {"model": parts.model, "settings": parts.settings, "image": loaded[0], **conds, **seen}
            out = w.add("AtelierInpaint", **wires)
            draw(w, replace(parts, model=out[0]), way, out[1], out[2], out[3])
        elif fill:
            model = w.one("DifferentialDiffusion", model=parts.model)
            out = w.add("InpaintModelConditioning", pixels=loaded[0], noise_mask=True, **conds, **seen)
            draw(w, replace(parts, model=model), way, out[0], out[1], out[2])
        else:
            latent = w.one("VAEEncode", pixels=loaded[0], vae=parts.vae)
            draw(w, parts, way, positive, negative, w.one("SetLatentNoiseMask", samples=latent, mask=loaded[1]))

    return build


def refined(w: Wiring) -> None:
    """SDXL's base and refiner: our node by its share, by hand from step 1 of 2 on."""
    base, fine = sdxl(w), sdxl_refiner(w)
    conds = {"positive": words(w, base), "negative": words(w, base, NOT)}
    others = {"positive": words(w, fine), "negative": words(w, fine, NOT)}
    latent = empty(w, SDXL)
    if w.ours:
        wires = {"model": base.model, "settings": shorter(w, base), "latent": latent, "refiner": fine.model, **conds}
        wires |= {f"refiner_{name}": cond for name, cond in others.items()}
        finish(w, base, w.one("AtelierSampleRefined", **wires, seed=SEED, base_share=0.5))
        return
    same = {"noise_seed": SEED, "steps": STEPS, "cfg": 7.0, "sampler_name": "dpmpp_2m", "scheduler": "karras"}
    first = {"add_noise": "enable", "start_at_step": 0, "end_at_step": 1, "return_with_leftover_noise": "enable"}
    rest = {"add_noise": "disable", "start_at_step": 1, "end_at_step": 10000, "return_with_leftover_noise": "disable"}
    half = w.one("KSamplerAdvanced", model=base.model, latent_image=latent, **conds, **same, **first)
    finish(w, base, w.one("KSamplerAdvanced", model=fine.model, latent_image=half, **others, **same, **rest))


def video(w: Wiring) -> None:
    """Stable Video Diffusion: three frames of a picture."""
    file = "svd_xt.safetensors"
    if w.ours:
        out = w.add("AtelierLoadSVD", model=file, variant="svd-xt")
    else:
        out = w.add("ImageOnlyCheckpointLoader", ckpt_name=file)
    values = {"width": SIDE, "height": SIDE, "video_frames": 3, "motion_bucket_id": 127, "fps": 6}
    wires = {"clip_vision": out[1], "vae": out[2], "init_image": picture(w)}
    told = w.add("SVD_img2vid_Conditioning", **wires, **values, augmentation_level=0.0)
    parts = Parts(model=out[0], clip=out[1], vae=out[2], settings=out[3])
    if w.ours:
        wires = {"model": out[0], "settings": shorter(w, parts), "positive": told[0], "negative": told[1]}
        finish(w, parts, w.one("AtelierSampleVideo", **wires, latent=told[2], seed=SEED, denoise=1.0, min_cfg=1.0))
        return
    rising = replace(parts, model=w.one("VideoLinearCFGGuidance", model=out[0], min_cfg=1.0))
    draw(w, rising, Way(cfg=2.5, scheduler="karras"), told[0], told[1], told[2])


def read_by_the_model(load: Load, way: Way, lora: str = "") -> Case:
    """FLUX's Canny and Depth, as whole models or as LoRAs: the map is the model's second picture."""

    def build(w: Wiring) -> None:
        parts = load(w)
        positive, seen = words(w, parts), picture(w)
        negative = w.one("ConditioningZeroOut", conditioning=positive)
        wires = {"positive": positive, "negative": negative, "vae": parts.vae}
        if w.ours:
            span = {"strength": 1.0, "start_percent": 0.0, "end_percent": 1.0, "kind": "auto"}
            wires |= {"model": parts.model, "settings": parts.settings, "image": seen, "latent": empty(w, way)}
            out = w.add("AtelierControl", **wires, control=f"{lora}.safetensors" if lora else "none", **span)
            draw(w, replace(parts, model=out[0]), way, out[1], out[2], out[3], own=bool(lora))
            return
        if lora:
            name = f"{lora}.safetensors"
            model = w.one("LoraLoaderModelOnly", model=parts.model, lora_name=name, strength_model=1.0)
            parts = replace(parts, model=model)
        out = w.add("InstructPixToPixConditioning", pixels=seen, **wires)
        draw(w, parts, way, out[0], out[1], out[2])

    return build


def styled(w: Wiring) -> None:
    """FLUX Redux: a picture beside the prompt, one conditioning."""
    parts = redux(w)
    seen = w.one("CLIPVisionEncode", clip_vision=parts.eyes, image=picture(w), crop="center")
    wires = {"conditioning": words(w, parts), "style_model": parts.style, "clip_vision_output": seen}
    told = w.one("StyleModelApply", **wires, strength=0.6, strength_type="multiply")
    latent = empty(w, FLUX)
    if w.ours:
        wires = {"model": parts.model, "settings": shorter(w, parts), "positive": told, "latent": latent}
        finish(w, parts, w.one("AtelierSampleGuided", **wires, seed=SEED, denoise=1.0))
        return
    guider = w.one("BasicGuider", model=parts.model, conditioning=guided(w, told, FLUX))
    _advanced(w, parts, guider, latent, "euler", "simple")


def _advanced(w: Wiring, parts: Parts, guider: Any, latent: Any, sampler: str, scheduler: str) -> None:
    steps = {"scheduler": scheduler, "steps": STEPS, "denoise": 1.0}
    wires = {"noise": w.one("RandomNoise", noise_seed=SEED), "guider": guider, "latent_image": latent}
    wires |= {"sampler": w.one("KSamplerSelect", sampler_name=sampler)}
    wires |= {"sigmas": w.one("BasicScheduler", model=parts.model, **steps)}
    finish(w, parts, w.one("SamplerCustomAdvanced", **wires))


def scaled(w: Wiring, parts: Parts, class_type: str, **values: Any) -> Any:
    """The picture at an edit model's scale: by our node, or by the one that the template has."""
    seen = picture(w)
    if w.ours:
        return w.one("AtelierEditImage", settings=parts.settings, image=seen)
    return w.one(class_type, image=seen, **values)


def kontext(w: Wiring) -> None:
    """FLUX Kontext: the picture as a reference latent."""
    parts = flux("flux1-dev-kontext_fp8_scaled", "flux1-kontext-dev", "AtelierLoadFluxKontext")(w)
    latent = w.one("VAEEncode", pixels=scaled(w, parts, "FluxKontextImageScale"), vae=parts.vae)
    told = w.one("ReferenceLatent", conditioning=words(w, parts), latent=latent)
    draw(w, parts, Way(guidance=2.5), told, None, latent)


def hidream_edit(file: str, variant: str, cfg: tuple[float, float], scheduler: str, scale: tuple[str, dict[str, Any]],
                 *prepared: tuple[str, dict[str, Any]]) -> Case:  # fmt: skip
    """HiDream-E1: two scales, one for the words and one for the picture."""

    def build(w: Wiring) -> None:
        parts = hidream(file, variant, "AtelierLoadHiDreamE1", *prepared)(w)
        positive, negative = words(w, parts), words(w, parts, NOT)
        wires = {"positive": positive, "negative": negative, "vae": parts.vae}
        out = w.add("InstructPixToPixConditioning", pixels=scaled(w, parts, scale[0], **scale[1]), **wires)
        if w.ours:
            wires = {"model": parts.model, "settings": shorter(w, parts), "positive": out[0], "picture": out[1]}
            done = w.one("AtelierSampleEdit", **wires, negative=negative, latent=out[2], seed=SEED, denoise=1.0)
            finish(w, parts, done)
            return
        scales = {"cfg_conds": cfg[0], "cfg_cond2_negative": cfg[1], "style": "regular"}
        conds = {"cond1": out[0], "cond2": out[1], "negative": negative}
        guider = w.one("DualCFGGuider", model=parts.model, **conds, **scales)
        _advanced(w, parts, guider, out[2], "euler", scheduler)

    return build


def qwen_edit(later: bool) -> Case:
    """Qwen-Image-Edit: the prompt's encoder sees the picture; 2509 takes up to three."""
    name = "qwen_image_edit_2509_fp8_e4m3fn" if later else "qwen_image_edit_fp8_e4m3fn"
    variant = "qwen-image-edit-2509" if later else "qwen-image-edit"
    scale = ("FluxKontextImageScale", {}) if later else (
        "ImageScaleToTotalPixels", {"upscale_method": "lanczos", "megapixels": 1.0, "resolution_steps": 1}
    )  # fmt: skip

    def build(w: Wiring) -> None:
        parts = qwen(name, variant, "AtelierLoadQwenImageEdit", 3.0, 1.0)(w)
        seen = scaled(w, parts, scale[0], **scale[1])
        encode = "TextEncodeQwenImageEditPlus" if later else "TextEncodeQwenImageEdit"
        wires = {"clip": parts.clip, "vae": parts.vae, "image1" if later else "image": seen}
        positive, negative = (w.one(encode, prompt=prompt, **wires) for prompt in (WORDS, NOT))
        latent = w.one("VAEEncode", pixels=seen, vae=parts.vae)
        draw(w, parts, replace(QWEN, cfg=2.5), positive, negative, latent)

    return build


def qwen_map(file: str, patch: bool) -> Case:
    """Qwen-Image by DiffSynth's files: a patch of the model, or a LoRA with the map as a reference."""

    def build(w: Wiring) -> None:
        parts, way = qwen()(w), replace(QWEN, cfg=2.5)
        positive, negative, seen = words(w, parts), words(w, parts, NOT), picture(w)
        latent, name = empty(w, way, 128), f"{file}.safetensors"
        if w.ours:
            wires = {"model": parts.model, "settings": parts.settings, "vae": parts.vae, "image": seen}
            wires |= {"positive": positive, "negative": negative, "latent": latent}
            span = {"strength": 0.9, "start_percent": 0.0, "end_percent": 1.0, "kind": "canny"}
            out = w.add("AtelierControl", **wires, control=name, **span)
            draw(w, replace(parts, model=out[0]), way, out[1], out[2], out[3], own=True)
        elif patch:
            wires = {"model": parts.model, "model_patch": w.one("ModelPatchLoader", name=name), "vae": parts.vae}
            model = w.one("QwenImageDiffsynthControlnet", **wires, image=seen, strength=0.9)
            draw(w, replace(parts, model=model), way, positive, negative, latent)
        else:
            model = w.one("LoraLoaderModelOnly", model=parts.model, lora_name=name, strength_model=0.9)
            read = w.one("VAEEncode", pixels=seen, vae=parts.vae)
            conds = [w.one("ReferenceLatent", conditioning=cond, latent=read) for cond in (positive, negative)]
            draw(w, replace(parts, model=model), way, conds[0], conds[1], latent)

    return build


_I1 = "AtelierLoadHiDreamI1"
_UNION, _PROMAX = "FLUX.1-dev-ControlNet-Union-Pro", "diffusion_pytorch_model_promax"
_FILL = flux("flux1-fill-dev", "flux1-fill-dev", "AtelierLoadFluxTools")
_CANNY = flux("flux1-canny-dev", "flux1-canny-dev", "AtelierLoadFluxTools")
_TO_768 = ("ImageScale", {"upscale_method": "bilinear", "width": 768, "height": 768, "crop": "center"})
# 0.3.64 has no resolution_steps and leaves it out of account.
_TO_A_MEGAPIXEL = ("ImageScaleToTotalPixels", {"upscale_method": "area", "megapixels": 1.0, "resolution_steps": 1})
_NORMAL = replace(FLUX, scheduler="normal")
_DEPTH35 = replace(SD35, cfg=8.0, scheduler="normal")
_HIDREAM_FULL = hidream("hidream_i1_full_fp8", "hidream-i1-full", _I1, SHIFT3)

CASES: Mapping[str, Case] = {
    "sd1 text": text(sd15, SD),
    "sd1 LoRA": text(sd15, SD, "tiny_sd15_lora"),
    "sd1 ControlNet": controlled(sd15, SD, "control_v11p_sd15_canny_fp16", "canny", 0.8, vae=False),
    "sd1 inpaint": inpainted(sd15, SD),
    "sd2 text": text(sd21, SD),
    "sd2 turbo": turbo(sd_turbo),
    "sdxl text": text(sdxl, SDXL),
    "sdxl LoRA": text(sdxl, SDXL, "tiny_sdxl_lora"),
    "sdxl ControlNet": controlled(sdxl, SDXL, _PROMAX, "depth", 0.8, vae=False, union=True),
    "sdxl lightning": text(sdxl_lightning, replace(SDXL, cfg=1.0, sampler="euler", scheduler="sgm_uniform")),
    "sdxl turbo": turbo(sdxl_turbo),
    "sdxl refiner": refined,
    "sd3.5 large": text(sd35_large, SD35),
    "sd3.5 LoRA": text(sd35_large, SD35, "tiny_sd35_lora", clip=False),
    "sd3.5 ControlNet": controlled(sd35_large, _DEPTH35, "sd3.5_large_controlnet_depth", "depth", 0.7, vae=True),
    "sd3.5 turbo": text(sd35_turbo, replace(SD35, cfg=1.2)),
    "sd3.5 medium": text(sd35_medium, SD35),
    "svd video": video,
    "flux1 dev": text(flux(), FLUX),
    "flux1 LoRA": text(flux(), FLUX, "tiny_flux1_lora"),
    "flux1 ControlNet": controlled(flux(), _NORMAL, _UNION, "canny", 0.4, vae=True, union=True),
    "flux1 control LoRA": read_by_the_model(flux(), Way(guidance=30.0, scheduler="normal"), "flux1-canny-dev-lora"),
    "flux1 redux": styled,
    "flux1 schnell": text(flux("flux1-schnell", "flux1-schnell"), SCHNELL),
    "flux1 fill": inpainted(_FILL, Way(guidance=30.0, scheduler="normal"), fill=True),
    "flux1 canny": read_by_the_model(_CANNY, Way(guidance=30.0, scheduler="normal")),
    "flux1 kontext": kontext,
    "hidream full": text(_HIDREAM_FULL, Way(cfg=5.0, sampler="uni_pc")),
    "hidream LoRA": text(_HIDREAM_FULL, Way(cfg=5.0, sampler="uni_pc"), "tiny_hidream_lora", clip=False),
    "hidream dev": text(
        hidream("hidream_i1_dev_fp8", "hidream-i1-dev", _I1, SHIFT6), Way(sampler="lcm", scheduler="normal")
    ),
    "hidream e1": hidream_edit("hidream_e1_full_bf16", "hidream-e1-full", (5.0, 2.0), "normal", _TO_768),
    "hidream e1.1": hidream_edit(
        "hidream_e1_1_bf16", "hidream-e1.1", (3.0, 1.5), "simple", _TO_A_MEGAPIXEL, ("CFGNorm", {"strength": 1.0})
    ),
    "qwen-image text": text(qwen(), QWEN),
    "qwen-image LoRA": text(qwen(), QWEN, "tiny_qwen_image_lora", clip=False),
    "qwen-image ControlNet": controlled(
        qwen(), replace(QWEN, cfg=2.5), "Qwen-Image-InstantX-ControlNet-Union", "canny", 0.9, vae=True
    ),
    "qwen-image patch": qwen_map("qwen_image_canny_diffsynth_controlnet", patch=True),
    "qwen-image union LoRA": qwen_map("qwen_image_union_diffsynth_lora", patch=False),
    "qwen-image edit": qwen_edit(later=False),
    "qwen-image edit 2509": qwen_edit(later=True),
    "hunyuan-image text": text(hunyuan("hunyuanimage2.1_bf16", "hunyuan-image-2.1", 5.0), HUNYUAN),
    "hunyuan-image distilled": text(
        hunyuan("hunyuanimage2.1_distilled_bf16", "hunyuan-image-2.1-distilled", 4.0),
        replace(HUNYUAN, cfg=1.0, guidance=3.25),
    ),
}
"""By family and what is done; neighbours share their files."""


def prompts(name: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """A case by our nodes and by hand."""
    built = (Wiring(ours=True), Wiring(ours=False))
    for wiring in built:
        CASES[name](wiring)
    return built[0].nodes, built[1].nodes
