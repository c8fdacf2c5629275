"""The cases of `parity.py`: prompts by name. A family adds a function that yields its own, and `cases` calls it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True, kw_only=True, slots=True)
class Case:
    """A prompt that both sides run. Pictures must go into SaveImage."""

    name: str
    prompt: Mapping[str, Any]


def node(class_type: str, **inputs: Any) -> dict[str, Any]:
    """A node of a prompt."""
    return {"class_type": class_type, "inputs": inputs}


def cases(base: Path) -> Iterator[Case]:
    """Every case whose model files are there. `base` has ``models`` and ``input``."""
    import parity_curated  # they build on what is in here
    import parity_flux
    import parity_hidream_hunyuan_svd

    picture(base / "input" / "picture.png", 128, 96)
    yield from stable_diffusion(base)
    yield from parity_flux.cases(base)
    yield from parity_hidream_hunyuan_svd.cases(base)
    yield from parity_curated.cases(base)


def picture(path: Path, width: int, height: int) -> None:
    """A picture with edges, slopes and a transparent corner."""
    from PIL import Image, ImageDraw

    image = Image.linear_gradient("L").resize((width, height)).convert("RGBA")
    draw = ImageDraw.Draw(image)
    draw.ellipse((width // 8, height // 8, width // 2, height // 2), fill=(220, 40, 30, 255))
    draw.rectangle((width // 2, height // 3, width - 8, height - 8), fill=(20, 90, 200, 255))
    draw.rectangle((width // 2, 0, width, height // 3), fill=(0, 0, 0, 0))
    image.save(path)


def there(base: Path, *names: str) -> bool:
    """Whether these model files are there."""
    return all((base / "models" / name).is_file() for name in names)


def text_to_image(checkpoint: str, **changes: Any) -> dict[str, Any]:
    """The stock prompt, with these inputs of KSampler or of the latent changed."""
    latent = {"width": 128, "height": 96, "batch_size": 1}
    sampler = {
        "seed": 42,
        "steps": 4,
        "cfg": 7.0,
        "sampler_name": "euler",
        "scheduler": "normal",
        "denoise": 1.0,
    }
    latent.update({name: value for name, value in changes.items() if name in latent})
    sampler.update({name: value for name, value in changes.items() if name in sampler})
    return {
        "1": node("CheckpointLoaderSimple", ckpt_name=checkpoint),
        "2": node("CLIPTextEncode", text=changes.get("text", "a (red:1.3) fox in the snow, photo"), clip=["1", 1]),
        "3": node("CLIPTextEncode", text="blurry", clip=["1", 1]),
        "4": node("EmptyLatentImage", **latent),
        "5": node("KSampler", model=["1", 0], positive=["2", 0], negative=["3", 0], latent_image=["4", 0], **sampler),
        "6": node("VAEDecode", samples=["5", 0], vae=["1", 2]),
        "7": node("SaveImage", images=["6", 0], filename_prefix="parity"),
    }


SAMPLERS = (
    "euler",
    "euler_cfg_pp",
    "euler_ancestral",
    "euler_ancestral_cfg_pp",
    "heun",
    "heunpp2",
    "exp_heun_2_x0",
    "exp_heun_2_x0_sde",
    "dpm_2",
    "dpm_2_ancestral",
    "lms",
    "dpm_fast",
    "dpm_adaptive",
    "dpmpp_2s_ancestral",
    "dpmpp_2s_ancestral_cfg_pp",
    "dpmpp_sde",
    "dpmpp_sde_gpu",
    "dpmpp_2m",
    "dpmpp_2m_cfg_pp",
    "dpmpp_2m_sde",
    "dpmpp_2m_sde_gpu",
    "dpmpp_2m_sde_heun",
    "dpmpp_2m_sde_heun_gpu",
    "dpmpp_3m_sde",
    "dpmpp_3m_sde_gpu",
    "ddpm",
    "lcm",
    "ipndm",
    "ipndm_v",
    "deis",
    "res_multistep",
    "res_multistep_cfg_pp",
    "res_multistep_ancestral",
    "res_multistep_ancestral_cfg_pp",
    "gradient_estimation",
    "gradient_estimation_cfg_pp",
    "er_sde",
    "seeds_2",
    "seeds_3",
    "sa_solver",
    "sa_solver_pece",
    "ddim",
    "uni_pc",
    "uni_pc_bh2",
)
SCHEDULERS = (
    "simple",
    "sgm_uniform",
    "karras",
    "exponential",
    "ddim_uniform",
    "beta",
    "normal",
    "linear_quadratic",
    "kl_optimal",
)


def stable_diffusion(base: Path) -> Iterator[Case]:
    """SD 1.5: each sampler, each scheduler, and the ways of conditioning; SDXL."""
    checkpoint = "tiny_sd15.safetensors"
    if there(base, f"checkpoints/{checkpoint}"):
        for name in SAMPLERS:
            prompt = text_to_image(checkpoint, sampler_name=name, scheduler="karras", steps=5)
            yield Case(name=f"sd15 sampler {name}", prompt=prompt)
        for name in SCHEDULERS:
            yield Case(name=f"sd15 scheduler {name}", prompt=text_to_image(checkpoint, scheduler=name))
        yield from conditioning(checkpoint)
        yield from latents(checkpoint)
        yield from custom_sampling(checkpoint)
        yield from latent_edits(checkpoint)
        if there(base, "controlnet/tiny_sd15_controlnet.safetensors"):
            yield Case(name="sd15 ControlNetApply", prompt=controlled(checkpoint))
        if there(base, "vae/kl_vae_4ch.safetensors"):
            yield Case(name="sd15 image to image, KL", prompt=image_to_image(checkpoint))
            yield Case(name="sd15 inpaint, mask", prompt=inpaint(checkpoint))
            yield Case(name="sd15 inpaint, emptied", prompt=emptied(checkpoint))
            yield Case(name="sd15 KL in tiles", prompt=in_tiles(checkpoint))
    checkpoint = "tiny_sdxl.safetensors"
    if there(base, f"checkpoints/{checkpoint}"):
        yield Case(name="sdxl text to image", prompt=text_to_image(checkpoint, sampler_name="dpmpp_2m_sde"))
        prompt = text_to_image(checkpoint, cfg=1.0, steps=1, sampler_name="euler_ancestral", scheduler="sgm_uniform")
        yield Case(name="sdxl one step, cfg 1", prompt=prompt)


def controlled(checkpoint: str) -> dict[str, Any]:
    """A ControlNet by the old node, on the positive alone."""
    prompt = text_to_image(checkpoint)
    prompt["8"] = node("ControlNetLoader", control_net_name="tiny_sd15_controlnet.safetensors")
    prompt["9"] = node("LoadImage", image="picture.png")
    prompt["10"] = node("ControlNetApply", conditioning=["2", 0], control_net=["8", 0], image=["9", 0], strength=0.7)
    prompt["5"]["inputs"]["positive"] = ["10", 0]
    return prompt


def conditioning(checkpoint: str) -> Iterator[Case]:
    """Ways of conditioning, on the stock prompt."""
    long = "a fox " * 100 + "(and a (very) old oak:1.4), [brackets] \\(escaped\\)"
    yield Case(name="sd15 long prompt", prompt=text_to_image(checkpoint, text=long))
    yield Case(name="sd15 empty prompt", prompt=text_to_image(checkpoint, text=""))
    text = "naïve café ☕️ 東京 supercalifragilisticexpialidocious BREAK x"
    yield Case(name="sd15 odd words", prompt=text_to_image(checkpoint, text=text))
    for name, nodes in conditioning_nodes().items():
        prompt = text_to_image(checkpoint)
        prompt.update(nodes)
        prompt["5"]["inputs"]["positive"] = ["10", 0]
        yield Case(name=f"sd15 {name}", prompt=prompt)
    prompt = text_to_image(checkpoint)
    prompt["10"] = node("CLIPSetLastLayer", clip=["1", 1], stop_at_clip_layer=-2)
    prompt["2"]["inputs"]["clip"] = prompt["3"]["inputs"]["clip"] = ["10", 0]
    yield Case(name="sd15 clip skip", prompt=prompt)


def conditioning_nodes() -> dict[str, dict[str, Any]]:
    """What is put between prompt "2", another "11", and the sampler; "10" comes last."""
    other = node("CLIPTextEncode", text="a green tree", clip=["1", 1])
    area = {"width": 64, "height": 64, "x": 32, "y": 24, "strength": 1.0}
    parts = {"width": 0.5, "height": 0.5, "x": 0.25, "y": 0.5, "strength": 0.8}
    both = {"conditioning_1": ["2", 0], "conditioning_2": ["12", 0]}
    mask = {
        "13": node("SolidMask", value=1.0, width=32, height=32),
        "14": node("SolidMask", value=0.0, width=128, height=96),
        "15": node("MaskComposite", destination=["14", 0], source=["13", 0], x=16, y=16, operation="add"),
    }
    masked = node("ConditioningSetMask", conditioning=["11", 0], mask=["15", 0], strength=1.0, set_cond_area="default")
    bounds = node(
        "ConditioningSetMask", conditioning=["11", 0], mask=["15", 0], strength=0.7, set_cond_area="mask bounds"
    )
    late = node("ConditioningSetTimestepRange", conditioning=["11", 0], start=0.3, end=1.0)
    return {
        "combine": {"11": other, "12": other, "10": node("ConditioningCombine", **both)},
        "concat": {
            "11": other,
            "10": node("ConditioningConcat", conditioning_to=["2", 0], conditioning_from=["11", 0]),
        },
        "average": {
            "11": other,
            "10": node(
                "ConditioningAverage",
                conditioning_to=["2", 0],
                conditioning_from=["11", 0],
                conditioning_to_strength=0.6,
            ),
        },
        "area": {
            "11": other,
            "12": node("ConditioningSetArea", conditioning=["11", 0], **area),
            "10": node("ConditioningCombine", **both),
        },
        "area in parts": {
            "11": other,
            "12": node("ConditioningSetAreaPercentage", conditioning=["11", 0], **parts),
            "10": node("ConditioningCombine", **both),
        },
        "mask": {"11": other, **mask, "12": masked, "10": node("ConditioningCombine", **both)},
        "mask bounds": {"11": other, **mask, "12": bounds, "10": node("ConditioningCombine", **both)},
        "timestep range": {"11": other, "12": late, "10": node("ConditioningCombine", **both)},
        "zero out": {"10": node("ConditioningZeroOut", conditioning=["2", 0])},
    }


def latents(checkpoint: str) -> Iterator[Case]:
    """Odd sizes, batches, parts of a run."""
    yield Case(name="sd15 batch of 3", prompt=text_to_image(checkpoint, batch_size=3, sampler_name="dpmpp_sde"))
    yield Case(name="sd15 size 8", prompt=text_to_image(checkpoint, width=16, height=16))
    yield Case(name="sd15 odd size", prompt=text_to_image(checkpoint, width=200, height=72))
    prompt = text_to_image(checkpoint)
    sampler = prompt["5"]["inputs"]
    common = {
        name: sampler[name] for name in ("model", "steps", "cfg", "sampler_name", "scheduler", "positive", "negative")
    }
    prompt["5"] = node(
        "KSamplerAdvanced",
        **common,
        add_noise="enable",
        noise_seed=5,
        latent_image=["4", 0],
        start_at_step=0,
        end_at_step=2,
        return_with_leftover_noise="enable",
    )
    prompt["8"] = node(
        "KSamplerAdvanced",
        **common,
        add_noise="disable",
        noise_seed=5,
        latent_image=["5", 0],
        start_at_step=2,
        end_at_step=10000,
        return_with_leftover_noise="disable",
    )
    prompt["6"]["inputs"]["samples"] = ["8", 0]
    yield Case(name="sd15 two samplers", prompt=prompt)


def image_to_image(checkpoint: str) -> dict[str, Any]:
    """A picture encoded by a full-sized KL autoencoder, half denoised."""
    prompt = text_to_image(checkpoint, denoise=0.5, sampler_name="dpmpp_2m", scheduler="karras")
    prompt["8"] = node("LoadImage", image="picture.png")
    prompt["9"] = node("VAELoader", vae_name="kl_vae_4ch.safetensors")
    prompt["4"] = node("VAEEncode", pixels=["8", 0], vae=["9", 0])
    prompt["6"]["inputs"]["vae"] = ["9", 0]
    return prompt


def inpaint(checkpoint: str) -> dict[str, Any]:
    """The same where a mask is."""
    prompt = image_to_image(checkpoint)
    prompt["10"] = node("SetLatentNoiseMask", samples=["4", 0], mask=["8", 1])
    prompt["5"]["inputs"].update(latent_image=["10", 0], sampler_name="euler_ancestral", denoise=1.0)
    return prompt


def emptied(checkpoint: str) -> dict[str, Any]:
    """VAEEncodeForInpaint, of a picture whose sides are no multiples."""
    prompt = image_to_image(checkpoint)
    prompt["11"] = node("ImageCrop", image=["8", 0], width=123, height=90, x=2, y=3)
    prompt["12"] = node("CropMask", mask=["8", 1], width=123, height=90, x=2, y=3)
    prompt["4"] = node("VAEEncodeForInpaint", pixels=["11", 0], vae=["9", 0], mask=["12", 0], grow_mask_by=6)
    prompt["5"]["inputs"].update(denoise=1.0)
    return prompt


def in_tiles(checkpoint: str) -> dict[str, Any]:
    """Encoded and decoded in tiles."""
    prompt = image_to_image(checkpoint)
    prompt["4"] = node(
        "VAEEncodeTiled", pixels=["8", 0], vae=["9", 0], tile_size=64, overlap=16, temporal_size=64, temporal_overlap=8
    )
    prompt["6"] = node(
        "VAEDecodeTiled",
        samples=["5", 0],
        vae=["9", 0],
        tile_size=64,
        overlap=16,
        temporal_size=64,
        temporal_overlap=8,
    )
    return prompt


def custom_sampling(checkpoint: str) -> Iterator[Case]:
    """Guiders, levels and model sampling nodes around SamplerCustomAdvanced."""
    schedulers = {
        "basic": node("BasicScheduler", model=["1", 0], scheduler="beta", steps=4, denoise=0.8),
        "turbo": node("SDTurboScheduler", model=["1", 0], steps=2, denoise=1.0),
        "aligned": node("AlignYourStepsScheduler", model_type="SD1", steps=5, denoise=1.0),
        "beta": node("BetaSamplingScheduler", model=["1", 0], steps=4, alpha=0.5, beta=0.7),
    }
    for name, scheduler in schedulers.items():
        yield Case(name=f"sd15 scheduler node {name}", prompt=advanced(checkpoint, scheduler))
    guiders = {
        "basic": node("BasicGuider", model=["1", 0], conditioning=["2", 0]),
        "dual": node(
            "DualCFGGuider",
            model=["1", 0],
            cond1=["2", 0],
            cond2=["3", 0],
            negative=["13", 0],
            cfg_conds=5.0,
            cfg_cond2_negative=2.5,
            style="regular",
        ),
    }
    guiders["dual nested"] = node("DualCFGGuider", **{**guiders["dual"]["inputs"], "style": "nested"})
    for name, guider in guiders.items():
        prompt = advanced(checkpoint, schedulers["basic"])
        prompt["13"] = node("CLIPTextEncode", text="", clip=["1", 1])
        prompt["10"] = guider
        yield Case(name=f"sd15 guider {name}", prompt=prompt)
    for name, patch in model_patches().items():
        prompt = text_to_image(checkpoint, scheduler="sgm_uniform")
        prompt["10"] = patch
        prompt["5"]["inputs"]["model"] = ["10", 0]
        yield Case(name=f"sd15 {name}", prompt=prompt)


def model_patches() -> dict[str, dict[str, Any]]:
    """Nodes between a loader and a sampler."""
    edm = {"sigma_max": 120.0, "sigma_min": 0.002}
    patches = {
        f"ModelSamplingDiscrete {kind}": node(
            "ModelSamplingDiscrete", model=["1", 0], sampling=kind, zsnr=kind != "eps"
        )
        for kind in ("eps", "v_prediction", "lcm", "x0")
    }
    for kind in ("v_prediction", "edm", "eps"):
        patches[f"ModelSamplingContinuousEDM {kind}"] = node(
            "ModelSamplingContinuousEDM", model=["1", 0], sampling=kind, **edm
        )
    patches["ModelSamplingContinuousV"] = node(
        "ModelSamplingContinuousV", model=["1", 0], sampling="v_prediction", sigma_max=500.0, sigma_min=0.03
    )
    patches["RescaleCFG"] = node("RescaleCFG", model=["1", 0], multiplier=0.7)
    patches["CFGZeroStar"] = node("CFGZeroStar", model=["1", 0])
    patches["CFGNorm"] = node("CFGNorm", model=["1", 0], strength=1.0, pre_cfg=False)
    patches["CFGNorm before"] = node("CFGNorm", model=["1", 0], strength=0.8, pre_cfg=True)
    return patches


def advanced(checkpoint: str, scheduler: dict[str, Any]) -> dict[str, Any]:
    """The stock prompt with the sampler in parts."""
    prompt = text_to_image(checkpoint)
    prompt["8"] = node("RandomNoise", noise_seed=11)
    prompt["9"] = node("KSamplerSelect", sampler_name="dpmpp_2m")
    prompt["10"] = node("CFGGuider", model=["1", 0], positive=["2", 0], negative=["3", 0], cfg=6.0)
    prompt["11"] = scheduler
    prompt["5"] = node(
        "SamplerCustomAdvanced",
        noise=["8", 0],
        guider=["10", 0],
        sampler=["9", 0],
        sigmas=["11", 0],
        latent_image=["4", 0],
    )
    return prompt


def latent_edits(checkpoint: str) -> Iterator[Case]:
    """A sampled latent changed and sampled again."""
    edits = {
        "LatentUpscale": {"upscale_method": "bicubic", "width": 192, "height": 0, "crop": "disabled"},
        "LatentUpscaleBy": {"upscale_method": "nearest-exact", "scale_by": 1.5},
        "LatentRotate": {"rotation": "90 degrees"},
        "LatentFlip": {"flip_method": "y-axis: horizontally"},
        "LatentCrop": {"width": 64, "height": 64, "x": 24, "y": 8},
        "RepeatLatentBatch": {"amount": 2},
        "LatentFromBatch": {"batch_index": 1, "length": 1},
        "LatentMultiply": {"multiplier": 0.7},
    }
    for name, inputs in edits.items():
        prompt = text_to_image(checkpoint, steps=2, batch_size=2)
        again = dict(prompt["5"]["inputs"])
        again.update(latent_image=["8", 0], denoise=0.5, seed=9)
        prompt["8"] = node(name, samples=["5", 0], **inputs)
        prompt["9"] = node("KSampler", **again)
        prompt["6"]["inputs"]["samples"] = ["9", 0]
        yield Case(name=f"sd15 {name}", prompt=prompt)
    pairs = {
        "LatentComposite": {"x": 16, "y": 8, "feather": 16},
        "LatentBlend": {"blend_factor": 0.4},
        "LatentAdd": {},
        "LatentSubtract": {},
        "LatentInterpolate": {"ratio": 0.3},
        "LatentBatch": {},
        "LatentConcat": {"dim": "-x"},
    }
    for name, inputs in pairs.items():
        prompt = text_to_image(checkpoint, steps=2)
        other = dict(prompt["5"]["inputs"])
        other.update(latent_image=["5", 0], denoise=0.6, seed=9)  # one after the other: either may run first otherwise
        prompt["9"] = node("KSampler", **other)
        first, second = ("samples_to", "samples_from") if name == "LatentComposite" else ("samples1", "samples2")
        prompt["8"] = node(name, **{first: ["5", 0], second: ["9", 0]}, **inputs)
        prompt["6"]["inputs"]["samples"] = ["8", 0]
        yield Case(name=f"sd15 {name}", prompt=prompt)
