"""Cases of `parity.py`: Stable Video Diffusion, HunyuanImage 2.1, HiDream, with the files of ``tiny_models.py``.

Each curated workflow of these families has a case here with the stock nodes that its own nodes stand for.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from parity_cases import Case, node, there

HIDREAM_TEXT = ("clip_l_hidream", "clip_g_hidream", "t5xxl_fp8_e4m3fn_scaled", "llama_3.1_8b_instruct_fp8_scaled")
PROMPT = "a (red:1.3) fox in the snow, photo"
QUOTING = 'a red fox beside a sign that says "Hello World", photo'


def cases(base: Path) -> Iterator[Case]:
    """Those whose files are there."""
    yield from video(base)
    yield from hunyuan_image(base)
    yield from hidream(base)


def sampled(model: Any, positive: Any, negative: Any, latent: Any, **changes: Any) -> dict[str, Any]:
    """A KSampler."""
    values = {"seed": 42, "steps": 3, "cfg": 3.5, "sampler_name": "euler", "scheduler": "simple", "denoise": 1.0}
    wires = {"model": model, "positive": positive, "negative": negative, "latent_image": latent}
    return node("KSampler", **wires, **{**values, **changes})


def shown(latent: Any, vae: Any) -> dict[str, Any]:
    """What a latent is decoded to, saved."""
    return {
        "90": node("VAEDecode", samples=latent, vae=vae),
        "91": node("SaveImage", images=["90", 0], filename_prefix="parity"),
    }


def video(base: Path) -> Iterator[Case]:
    """A picture begins to move: guidance that rises along the frames, or rises and falls; a batch of one."""
    checkpoint = "svd_xt.safetensors"
    if not there(base, f"checkpoints/{checkpoint}"):
        return
    told = {"width": 64, "height": 48, "video_frames": 3, "motion_bucket_id": 90, "fps": 6, "augmentation_level": 0.0}
    wires = {"clip_vision": ["1", 1], "init_image": ["3", 0], "vae": ["1", 2]}
    prompt = {
        "1": node("ImageOnlyCheckpointLoader", ckpt_name=checkpoint),
        "2": node("LoadImage", image="picture.png"),
        "3": node("ImageScale", image=["2", 0], upscale_method="lanczos", width=96, height=64, crop="center"),
        "4": node("SVD_img2vid_Conditioning", **wires, **told),
        "5": node("VideoLinearCFGGuidance", model=["1", 0], min_cfg=1.0),
        "6": sampled(["5", 0], ["4", 0], ["4", 1], ["4", 2], cfg=2.5, scheduler="karras"),
        **shown(["6", 0], ["1", 2]),
    }
    yield Case(name="svd-xt-image-to-video", prompt=prompt)
    triangle = {**prompt, "5": node("VideoTriangleCFGGuidance", model=["1", 0], min_cfg=1.5)}
    triangle["6"] = sampled(["5", 0], ["4", 0], ["4", 1], ["4", 2], cfg=3.0, sampler_name="euler_ancestral")
    yield Case(name="svd triangle, euler_ancestral", prompt=triangle)
    plain = {**prompt, "6": sampled(["1", 0], ["4", 0], ["4", 1], ["4", 2], sampler_name="dpmpp_2m", steps=2)}
    yield Case(name="svd plain cfg, dpmpp_2m", prompt=plain)


def hunyuan_image(base: Path) -> Iterator[Case]:
    """Base and distilled; with and without quoted text, with Qwen's file alone, with a second look each step."""
    vae, qwen, glyphs = "hunyuan_image_2.1_vae_fp16", "qwen_2.5_vl_7b", "byt5_small_glyphxl_fp16"
    common = (f"vae/{vae}.safetensors", f"text_encoders/{qwen}.safetensors", f"text_encoders/{glyphs}.safetensors")
    files = {"clip_name1": f"{qwen}.safetensors", "clip_name2": f"{glyphs}.safetensors", "type": "hunyuan_image"}
    for variant, name in (("base", "hunyuanimage2.1_bf16"), ("distilled", "hunyuanimage2.1_distilled_bf16")):
        if not there(base, f"diffusion_models/{name}.safetensors", *common):
            continue
        prompt = {
            "1": node("UNETLoader", unet_name=f"{name}.safetensors", weight_dtype="default"),
            "2": node("DualCLIPLoader", **files, device="default"),
            "3": node("VAELoader", vae_name=f"{vae}.safetensors"),
            "4": node("CLIPTextEncode", text=PROMPT, clip=["2", 0]),
            "5": node("CLIPTextEncode", text="blurry, low quality", clip=["2", 0]),
            "6": node("EmptyHunyuanImageLatent", width=256, height=192, batch_size=1),
            **shown(["7", 0], ["3", 0]),
        }
        if variant == "base":
            prompt["8"] = node("ModelSamplingSD3", model=["1", 0], shift=5.0)
            prompt["7"] = sampled(["8", 0], ["4", 0], ["5", 0], ["6", 0])
            yield Case(name="hunyuan-image-21-text-to-image", prompt=prompt)
            alone = {**prompt, "2": node("CLIPLoader", clip_name=files["clip_name1"], type="hunyuan_image")}
            alone["6"] = node("EmptyHunyuanImageLatent", width=128, height=192, batch_size=2)
            yield Case(name="hunyuan image, Qwen alone, batch of 2", prompt=alone)
            quoting = {**prompt, "4": node("CLIPTextEncode", text=QUOTING, clip=["2", 0])}
            yield Case(name="hunyuan image, text in the picture", prompt=quoting)
            continue
        prompt["8"] = node("ModelSamplingSD3", model=["1", 0], shift=4.0)
        prompt["9"] = node("FluxGuidance", conditioning=["4", 0], guidance=3.25)
        prompt["7"] = sampled(["8", 0], ["9", 0], ["5", 0], ["6", 0], cfg=1.0)
        yield Case(name="hunyuan-image-21-distilled-text-to-image", prompt=prompt)
        heun = {**prompt, "7": sampled(["1", 0], ["4", 0], ["5", 0], ["6", 0], sampler_name="heun")}
        yield Case(name="hunyuan image distilled, heun, cfg", prompt=heun)


def hidream(base: Path) -> Iterator[Case]:
    """I1 full, dev and fast; E1 and E1.1; some of the encoders; a text for each of them."""
    texts = [f"text_encoders/{name}.safetensors" for name in HIDREAM_TEXT]
    if not there(base, "vae/ae.safetensors", *texts):
        return
    files = {f"clip_name{place}": f"{name}.safetensors" for place, name in enumerate(HIDREAM_TEXT, start=1)}

    def prompt(name: str, shift: float | None, **changes: Any) -> dict[str, Any]:
        made = {
            "1": node("UNETLoader", unet_name=f"{name}.safetensors", weight_dtype="default"),
            "2": node("QuadrupleCLIPLoader", **files),
            "3": node("VAELoader", vae_name="ae.safetensors"),
            "4": node("CLIPTextEncode", text=PROMPT, clip=["2", 0]),
            "5": node("CLIPTextEncode", text="blurry, low quality", clip=["2", 0]),
            "6": node("EmptySD3LatentImage", width=96, height=64, batch_size=1),
            "7": sampled(["8", 0] if shift else ["1", 0], ["4", 0], ["5", 0], ["6", 0], **changes),
            **shown(["7", 0], ["3", 0]),
        }
        return made | ({"8": node("ModelSamplingSD3", model=["1", 0], shift=shift)} if shift else {})

    full = prompt("hidream_i1_full_fp8", 3.0, cfg=5.0, sampler_name="uni_pc")
    variants = {
        "hidream-i1-full-text-to-image": full,
        "hidream-i1-dev-text-to-image": prompt(
            "hidream_i1_dev_fp8", 6.0, cfg=1.0, sampler_name="lcm", scheduler="normal"
        ),
        "hidream-i1-fast-text-to-image": prompt(
            "hidream_i1_fast_fp8", 3.0, cfg=1.0, sampler_name="lcm", scheduler="normal"
        ),
        "hidream own shift, euler": prompt("hidream_i1_full_fp8", None, cfg=5.0),
    }
    own = {"clip_l": "a fox", "clip_g": "the (snow:1.2)", "t5xxl": "a sign", "llama": "a photo of (a:0.8) fox"}
    variants["hidream a text for each encoder"] = {
        **variants["hidream own shift, euler"],
        "4": node("CLIPTextEncodeHiDream", clip=["2", 0], **own),
    }
    two = {"clip_name1": files["clip_name3"], "clip_name2": files["clip_name1"], "type": "hidream"}
    variants["hidream T5 and CLIP-L alone"] = {
        **variants["hidream own shift, euler"],
        "2": node("DualCLIPLoader", **two, device="default"),
    }
    for name, made in variants.items():
        if there(base, f"diffusion_models/{made['1']['inputs']['unet_name']}"):
            yield Case(name=name, prompt=made)
    for name, model, scheduler in (
        ("hidream-e1-edit", "hidream_e1_full_bf16", "normal"),
        ("hidream-e11-edit", "hidream_e1_1_bf16", "simple"),
    ):
        if there(base, f"diffusion_models/{model}.safetensors"):
            yield Case(name=name, prompt=edit(prompt(model, None), scheduler, normalised=name == "hidream-e11-edit"))


def edit(prompt: dict[str, Any], scheduler: str, *, normalised: bool) -> dict[str, Any]:
    """The same with a picture to edit and a guidance of two strengths, as the template has it."""
    looks = {"positive": ["4", 0], "negative": ["5", 0], "vae": ["3", 0], "pixels": ["11", 0]}
    model = ["19", 0] if normalised else ["1", 0]
    guided = {"model": model, "cond1": ["12", 0], "cond2": ["12", 1], "negative": ["5", 0]}
    prompt |= {
        "10": node("LoadImage", image="picture.png"),
        "11": node("ImageScale", image=["10", 0], upscale_method="lanczos", width=64, height=64, crop="center"),
        "12": node("InstructPixToPixConditioning", **looks),
        "13": node("DualCFGGuider", **guided, cfg_conds=5.0, cfg_cond2_negative=2.0, style="regular"),
        "14": node("RandomNoise", noise_seed=42),
        "15": node("KSamplerSelect", sampler_name="euler"),
        "16": node("BasicScheduler", model=["1", 0], scheduler=scheduler, steps=3, denoise=1.0),
        "7": node(
            "SamplerCustomAdvanced",
            noise=["14", 0],
            guider=["13", 0],
            sampler=["15", 0],
            sigmas=["16", 0],
            latent_image=["12", 2],
        ),
    }
    if normalised:
        prompt["19"] = node("CFGNorm", model=["1", 0], strength=1.0)
    del prompt["6"]
    return prompt
