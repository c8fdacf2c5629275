"""Cases of `parity.py`: FLUX.1 (schnell, dev, Krea, Fill, Canny, Depth, Redux, Kontext), with the files of
``tiny_models.py``.

Each curated workflow of the family has a case here with the stock nodes that its own nodes stand for.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from parity_cases import Case, node, there

PROMPT = "a (red:1.3) fox in the snow, \\(photo\\)"
DEV, SCHNELL, KREA = "flux1-dev", "flux1-schnell", "flux1-krea-dev_fp8_scaled"
FILL, CANNY, KONTEXT = "flux1-fill-dev", "flux1-canny-dev", "flux1-dev-kontext_fp8_scaled"
CONTROLNET = "FLUX.1-dev-ControlNet-Union-Pro.safetensors"
PARTS = ("text_encoders/clip_l", "text_encoders/t5xxl_fp16", "vae/ae")
MASK = {"noise_mask": True}


def cases(base: Path) -> Iterator[Case]:
    """Those whose files are there."""
    if not there(base, *(f"{part}.safetensors" for part in PARTS)):
        return
    for name, files, prompt in (*texts(), *pictures(), *references(), *controls(), *loras()):
        if there(base, *files):
            yield Case(name=f"flux {name}", prompt=prompt)


Row = tuple[str, tuple[str, ...], Mapping[str, Any]]


def stock(model: str = DEV, *, guidance: float = 3.5, **changes: Any) -> dict[str, Any]:
    """Text to picture: "1" the model, "2" its text encoders, "3" its VAE, "5" the positive, "6" the negative, "7" the
    latent, "8" KSampler.
    """
    size = {"width": 96, "height": 64, "batch_size": 1} | {
        n: changes.pop(n) for n in ("width", "height", "batch_size") if n in changes
    }
    sampler = {"seed": 42, "steps": 3, "cfg": 1.0, "sampler_name": "euler", "scheduler": "simple", "denoise": 1.0}
    wires = {"model": ["1", 0], "positive": ["5", 0], "negative": ["6", 0], "latent_image": ["7", 0]}
    return {
        "1": node("UNETLoader", unet_name=f"{model}.safetensors", weight_dtype="default"),
        "2": node(
            "DualCLIPLoader", clip_name1="clip_l.safetensors", clip_name2="t5xxl_fp16.safetensors", type="flux",
            device="default",
        ),
        "3": node("VAELoader", vae_name="ae.safetensors"),
        "4": node("CLIPTextEncode", text=changes.pop("text", PROMPT), clip=["2", 0]),
        "5": node("FluxGuidance", conditioning=["4", 0], guidance=guidance),
        "6": node("ConditioningZeroOut", conditioning=["4", 0]),
        "7": node("EmptySD3LatentImage", **size),
        "8": node("KSampler", **{**sampler, **wires, **changes}),
        "9": node("VAEDecode", samples=["8", 0], vae=["3", 0]),
        "10": node("SaveImage", images=["9", 0], filename_prefix="parity"),
    }  # fmt: skip


def file(model: str) -> tuple[str, ...]:
    """A diffusion model's file."""
    return (f"diffusion_models/{model}.safetensors",)


def put(prompt: dict[str, Any], nodes: Mapping[str, Any], **wires: Any) -> dict[str, Any]:
    """The prompt with further nodes, KSampler wired anew."""
    prompt.update(nodes)
    prompt["8"]["inputs"].update(wires)
    return prompt


def texts() -> Iterator[Row]:
    """From text alone."""
    yield "schnell, text to image", file(SCHNELL), stock(SCHNELL, steps=4)
    yield "dev, text to image", file(DEV), stock()
    yield "krea, text to image", file(KREA), stock(KREA, guidance=4.5, width=80, height=112)
    yield "dev, odd latent", file(DEV), stock(width=104, height=72, batch_size=2)
    yield "dev, long prompt", file(DEV), stock(text="a fox, " * 90 + "(and a (very) old oak:0.6)")
    yield "dev, beta and dpmpp_2m", file(DEV), stock(sampler_name="dpmpp_2m", scheduler="beta", steps=4)
    yield "dev, sde", file(DEV), stock(sampler_name="dpmpp_2m_sde", scheduler="sgm_uniform", steps=4)
    other = put(stock(cfg=2.5), {"6": node("CLIPTextEncode", text="blurry", clip=["2", 0])})
    yield "dev, negative prompt", file(DEV), other
    without = put(stock(), {"5": node("FluxDisableGuidance", conditioning=["4", 0])})
    yield "dev, no guidance", file(DEV), without
    both = node("CLIPTextEncodeFlux", clip=["2", 0], clip_l="a fox", t5xxl="a (blue:0.8) fox", guidance=2.5)
    yield "dev, a prompt for each encoder", file(DEV), put(stock(), {"5": both})
    skipped = put(stock(), {"11": node("CLIPSetLastLayer", clip=["2", 0], stop_at_clip_layer=-2)})
    skipped["4"]["inputs"]["clip"] = ["11", 0]
    yield "dev, clip skip", file(DEV), skipped
    shift = node("ModelSamplingFlux", model=["1", 0], max_shift=1.15, base_shift=0.5, width=96, height=64)
    yield "dev, shifted by size", file(DEV), put(stock(), {"11": shift}, model=["11", 0])
    yield "dev, guider and levels by hand", file(DEV), guided(stock())


def guided(prompt: dict[str, Any]) -> dict[str, Any]:
    """The same with a guider, noise and levels of their own nodes, as Redux' workflow samples."""
    own = {
        "21": node("BasicGuider", model=["1", 0], conditioning=prompt["8"]["inputs"]["positive"]),
        "22": node("RandomNoise", noise_seed=42),
        "23": node("KSamplerSelect", sampler_name="euler"),
        "24": node("BasicScheduler", model=["1", 0], scheduler="simple", steps=3, denoise=1.0),
        "8": node(
            "SamplerCustomAdvanced", noise=["22", 0], guider=["21", 0], sampler=["23", 0], sigmas=["24", 0],
            latent_image=["7", 0],
        ),
    }  # fmt: skip
    return {**prompt, **own}


def pictures() -> Iterator[Row]:
    """From a picture: changed, filled, extended, by its edges."""
    image = {"11": node("LoadImage", image="picture.png")}
    encoded = {**image, "12": node("VAEEncode", pixels=["11", 0], vae=["3", 0])}
    yield "dev, image to image", file(DEV), put(stock(denoise=0.6, steps=5), encoded, latent_image=["12", 0])
    for name, inputs in (("fill, inpaint", MASK), ("fill, inpaint without a noise mask", {"noise_mask": False})):
        prompt = stock(FILL, guidance=30.0)
        yield name, file(FILL), filled(put(prompt, image), ["11", 0], ["11", 1], **inputs)
    pad = node("ImagePadForOutpaint", image=["11", 0], left=16, top=0, right=24, bottom=8, feathering=8)
    yield (
        "fill, outpaint",
        file(FILL),
        filled(put(stock(FILL, guidance=30.0), {**image, "13": pad}), ["13", 0], ["13", 1], **MASK),
    )
    soft = filled(put(stock(DEV, steps=4), image), ["11", 0], ["11", 1], **MASK)
    soft["14"] = node("DifferentialDiffusion", model=["1", 0], strength=0.7)
    yield "dev, differential diffusion", file(DEV), put(soft, {}, model=["14", 0])
    yield "canny, control", file(CANNY), shown(put(stock(CANNY, guidance=30.0), image))


def filled(prompt: dict[str, Any], pixels: Any, mask: Any, **inputs: Any) -> dict[str, Any]:
    """InpaintModelConditioning between the texts and KSampler."""
    told = {"positive": ["5", 0], "negative": ["6", 0], "vae": ["3", 0], "pixels": pixels, "mask": mask}
    made = node("InpaintModelConditioning", **told, **inputs)
    return put(prompt, {"12": made}, positive=["12", 0], negative=["12", 1], latent_image=["12", 2])


def shown(prompt: dict[str, Any]) -> dict[str, Any]:
    """The picture "11"'s edges behind InstructPixToPixConditioning."""
    nodes = {
        "13": node("Canny", image=["11", 0], low_threshold=0.15, high_threshold=0.3),
        "12": node(
            "InstructPixToPixConditioning", positive=["5", 0], negative=["6", 0], vae=["3", 0], pixels=["13", 0]
        ),
    }
    return put(prompt, nodes, positive=["12", 0], negative=["12", 1], latent_image=["12", 2])


def references() -> Iterator[Row]:
    """Pictures to look at: Kontext's, Redux'."""
    one = {
        "11": node("LoadImage", image="picture.png"),
        "12": node("VAEEncode", pixels=["11", 0], vae=["3", 0]),
        "13": node("ReferenceLatent", conditioning=["4", 0], latent=["12", 0]),
    }
    yield "kontext, one image", file(KONTEXT), put(stock(KONTEXT, guidance=2.5), seen(one, "13"))
    two = {
        **one,
        "14": node("ImageScale", image=["11", 0], upscale_method="lanczos", width=56, height=72, crop="center"),
        "15": node("VAEEncode", pixels=["14", 0], vae=["3", 0]),
        "16": node("ReferenceLatent", conditioning=["13", 0], latent=["15", 0]),
    }
    yield "kontext, two images", file(KONTEXT), put(stock(KONTEXT, guidance=2.5), seen(two, "16"))
    for method in ("index", "uxo/uno"):
        way = node("FluxKontextMultiReferenceLatentMethod", conditioning=["16", 0], reference_latents_method=method)
        yield f"kontext, {method}", file(KONTEXT), put(stock(KONTEXT), seen({**two, "17": way}, "17"))
    stitched = {
        **one,
        "14": node(
            "ImageStitch", image1=["11", 0], image2=["11", 0], direction="right", match_image_size=True,
            spacing_width=0, spacing_color="white",
        ),
    }  # fmt: skip
    stitched["12"] = node("VAEEncode", pixels=["14", 0], vae=["3", 0])
    yield "kontext, stitched images", file(KONTEXT), put(stock(KONTEXT, guidance=2.5), seen(stitched, "13"))
    files = (
        *file(DEV),
        "clip_vision/sigclip_vision_patch14_384.safetensors",
        "style_models/flux1-redux-dev.safetensors",
    )
    for kind, strength in (("multiply", 1.0), ("multiply", 0.4), ("attn_bias", 0.4)):
        nodes = {
            "11": node("LoadImage", image="picture.png"),
            "12": node("CLIPVisionLoader", clip_name="sigclip_vision_patch14_384.safetensors"),
            "13": node("CLIPVisionEncode", clip_vision=["12", 0], image=["11", 0], crop="center"),
            "14": node("StyleModelLoader", style_model_name="flux1-redux-dev.safetensors"),
            "15": node(
                "StyleModelApply", conditioning=["5", 0], style_model=["14", 0], clip_vision_output=["13", 0],
                strength=strength, strength_type=kind,
            ),
        }  # fmt: skip
        yield f"redux, {kind} {strength}", files, guided(put(stock(), nodes, positive=["15", 0]))


def seen(nodes: Mapping[str, Any], last: str) -> dict[str, Any]:
    """Nodes of references, with the guidance behind the last."""
    guidance = node("FluxGuidance", conditioning=[last, 0], guidance=2.5)
    return {**nodes, "5": guidance}


def controls() -> Iterator[Row]:
    """A union ControlNet with each kind of map that the workflows have, and two in a row."""
    files = (*file(DEV), f"controlnet/{CONTROLNET}")
    for kind in ("auto", "canny/lineart/anime_lineart/mlsd", "depth", "openpose"):
        name = kind.partition("/")[0]
        yield f"controlnet, {name}", files, controlled(kind)
    prompt = controlled("depth")
    again = {
        **prompt["14"]["inputs"],
        "positive": ["14", 0],
        "negative": ["14", 1],
        "strength": 0.4,
        "start_percent": 0.3,
    }
    prompt["15"] = node("ControlNetApplyAdvanced", **again)
    yield "controlnet, twice", files, put(prompt, {}, positive=["15", 0], negative=["15", 1])


def controlled(kind: str) -> dict[str, Any]:
    """A ControlNet "14" between the texts and KSampler."""
    nodes = {
        "11": node("LoadImage", image="picture.png"),
        "12": node("ControlNetLoader", control_net_name=CONTROLNET),
        "13": node("SetUnionControlNetType", control_net=["12", 0], type=kind),
        "14": node(
            "ControlNetApplyAdvanced", positive=["5", 0], negative=["6", 0], control_net=["13", 0], image=["11", 0],
            strength=0.7, start_percent=0.0, end_percent=0.8, vae=["3", 0],
        ),
    }  # fmt: skip
    return put(stock(), nodes, positive=["14", 0], negative=["14", 1])


def loras() -> Iterator[Row]:
    """LoRA, also the ones that widen the model for a control picture."""
    wires = {"model": ["1", 0], "clip": ["2", 0], "strength_model": 0.8, "strength_clip": 0.6}
    prompt = put(stock(), {"11": node("LoraLoader", lora_name="tiny_flux1_lora.safetensors", **wires)}, model=["11", 0])
    prompt["4"]["inputs"]["clip"] = ["11", 1]
    yield "dev, LoRA", (*file(DEV), "loras/tiny_flux1_lora.safetensors"), prompt
    for name in ("canny", "depth"):
        lora = f"flux1-{name}-dev-lora.safetensors"
        nodes = {
            "11": node("LoadImage", image="picture.png"),
            "20": node("LoraLoaderModelOnly", model=["1", 0], lora_name=lora, strength_model=0.85),
        }
        yield (
            f"dev, {name} LoRA",
            (*file(DEV), f"loras/{lora}"),
            shown(put(stock(guidance=10.0), nodes, model=["20", 0])),
        )
