"""How a model is loaded and sampled with ComfyUI's own nodes: what our loader and sampler nodes do, node by node.

Each function gets ``stock``, which runs one of ComfyUI's nodes: in ComfyUI its own, in the embedded engine ours. What
comes out is what the same nodes wired by hand give.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

from .choice import Loading
from .entries import Variant
from .errors import ChoiceError
from .loaders import CLIP_TYPES, LoaderSpec
from .settings import Settings, settings_of


class Stock(Protocol):
    """The nodes of a ComfyUI, and what our nodes must know of the values that they give."""

    def __call__(self, class_type: str, **inputs: Any) -> tuple[Any, ...]:
        """Run a node: its outputs. Required inputs that only newer versions have take their defaults."""

    def has_guidance(self, conditioning: Any) -> bool:
        """Whether a FluxGuidance node has already set this conditioning's guidance."""

    def encodes_map(self, control_net: Any) -> bool:
        """Whether a ControlNet reads its map through the VAE."""


def load_files(stock: Stock, spec: LoaderSpec, chosen: Loading, precision: str) -> tuple[Any, ...]:
    """A loader's outputs: MODEL, CLIP (for video CLIP_VISION), VAE, CLIP_VISION and STYLE_MODEL where the spec says
    so, SETTINGS.

    ``precision`` is ``weight_dtype`` of UNETLoader; a whole checkpoint keeps its own.
    """
    # The largest file last: what a loader needs besides what it keeps is then needed beside less.
    vae = stock("VAELoader", vae_name=chosen.vae.name)[0] if chosen.vae is not None else None
    clip = None
    if chosen.encoders is not None:
        clip = load_clip(stock, chosen.variant, [part.name for part in chosen.encoders])
    model, own_clip, own_vae = _load_model(stock, spec, chosen, precision)
    clip, vae = (own_clip if clip is None else clip), (own_vae if vae is None else vae)
    outputs = [prepare(stock, model, chosen.variant), clip, vae]
    if chosen.clip_vision is not None:
        outputs.append(stock("CLIPVisionLoader", clip_name=chosen.clip_vision.name)[0])
    if chosen.style_model is not None:
        outputs.append(stock("StyleModelLoader", style_model_name=chosen.style_model.name)[0])
    return (*outputs, settings_of(chosen.variant))


def _load_model(stock: Stock, spec: LoaderSpec, chosen: Loading, precision: str) -> tuple[Any, Any, Any]:
    """MODEL, CLIP (or CLIP_VISION) and VAE of a file; the last two None for a diffusion model alone."""
    if chosen.folder == "diffusion_models":
        return stock("UNETLoader", unet_name=chosen.model, weight_dtype=precision)[0], None, None
    loader = "ImageOnlyCheckpointLoader" if spec.video else "CheckpointLoaderSimple"
    outputs = stock(loader, ckpt_name=chosen.model)
    return outputs[0], outputs[1], outputs[2]


def load_clip(stock: Stock, variant: Variant, names: list[str]) -> Any:
    """The CLIP of one to four encoder files, by the stock loader for that many."""
    kind = variant.text_encoder or CLIP_TYPES[variant.family]
    if len(names) == 1:
        return stock("CLIPLoader", clip_name=names[0], type=kind)[0]
    if len(names) == 2:
        return stock("DualCLIPLoader", clip_name1=names[0], clip_name2=names[1], type=kind)[0]
    numbered = {f"clip_name{place}": name for place, name in enumerate(names, start=1)}
    return stock("TripleCLIPLoader" if len(names) == 3 else "QuadrupleCLIPLoader", **numbered)[0]


def prepare(stock: Stock, model: Any, variant: Variant) -> Any:
    """The model with the sampling shift and CFG normalisation that the variant wants."""
    sampling = variant.sampling
    if sampling is None:
        return model
    if sampling.shift_node == "ModelSamplingFlux" and variant.resolution is not None:
        size = {"width": variant.resolution.width, "height": variant.resolution.height}
        model = stock("ModelSamplingFlux", model=model, max_shift=sampling.shift, base_shift=0.5, **size)[0]
    elif sampling.shift_node is not None:
        model = stock(sampling.shift_node, model=model, shift=sampling.shift)[0]
    if sampling.cfg_norm is not None:
        model = stock("CFGNorm", model=model, strength=sampling.cfg_norm)[0]
    return model


def empty_latent(stock: Stock, settings: Settings, ratio: str, megapixels: float, batch: int) -> tuple[Any, int, int]:
    """AtelierEmptyLatent: a latent of the model's kind, its width and height in pixels."""
    latent = settings.variant.latent
    if latent is None or latent.node is None:
        source = latent.source if latent else "its own request"
        raise ChoiceError(f"{settings.variant.name} takes its latent from {source}; no empty latent is needed")
    width, height = settings.size(ratio, megapixels)
    return stock(latent.node, width=width, height=height, batch_size=batch)[0], width, height


def guided(stock: Stock, settings: Settings, positive: Any) -> Any:
    """The positive conditioning with the model's guidance, unless a FluxGuidance node has set one already."""
    guidance = settings.sampling.guidance
    if guidance is None or stock.has_guidance(positive):
        return positive
    return stock("FluxGuidance", conditioning=positive, guidance=guidance)[0]


def conditions(stock: Stock, settings: Settings, positive: Any, negative: Any) -> tuple[Any, Any]:
    """Both conditionings as the templates wire them: where none is given, the negative is the positive without
    content.
    """
    if negative is None:
        if settings.sampling.cfg != 1.0:
            name = settings.variant.name
            raise ChoiceError(
                f"{name} samples with cfg {settings.sampling.cfg}: wire a negative prompt (it may be empty)"
            )
        negative = stock("ConditioningZeroOut", conditioning=positive)[0]
    return guided(stock, settings, positive), negative


def sample(
    stock: Stock, model: Any, settings: Settings, positive: Any, latent: Any, seed: int, denoise: float, negative: Any
) -> Any:
    """AtelierSample: KSampler with the settings' values; ``negative`` may be None where cfg is 1."""
    sampling = settings.sampling
    positive, negative = conditions(stock, settings, positive, negative)
    inputs = {"steps": sampling.steps, "cfg": sampling.cfg, "sampler_name": sampling.sampler}
    inputs |= {"scheduler": sampling.scheduler, "positive": positive, "negative": negative}
    return stock("KSampler", model=model, seed=seed, latent_image=latent, denoise=denoise, **inputs)[0]


def sample_turbo(
    stock: Stock, model: Any, settings: Settings, positive: Any, latent: Any, seed: int, denoise: float, negative: Any
) -> Any:
    """AtelierSampleTurbo: SamplerCustom with SDTurboScheduler."""
    sampling = settings.sampling
    positive, negative = conditions(stock, settings, positive, negative)
    inputs = {"sampler": stock("KSamplerSelect", sampler_name=sampling.sampler)[0], "latent_image": latent}
    inputs["sigmas"] = stock("SDTurboScheduler", model=model, steps=sampling.steps, denoise=denoise)[0]
    inputs |= {"positive": positive, "negative": negative, "cfg": sampling.cfg}
    return stock("SamplerCustom", model=model, add_noise=True, noise_seed=seed, **inputs)[0]


def sample_guided(
    stock: Stock, model: Any, settings: Settings, positive: Any, latent: Any, seed: int, denoise: float
) -> Any:
    """AtelierSampleGuided: SamplerCustomAdvanced with BasicGuider, one conditioning and no cfg."""
    guider = stock("BasicGuider", model=model, conditioning=guided(stock, settings, positive))[0]
    return _advanced(stock, model, settings, guider, latent, seed, denoise)


def sample_edit(
    stock: Stock,
    model: Any,
    settings: Settings,
    positive: Any,
    picture: Any,
    negative: Any,
    latent: Any,
    seed: int,
    denoise: float,
) -> Any:
    """AtelierSampleEdit: SamplerCustomAdvanced with DualCFGGuider, a scale for the text and one for the picture."""
    sampling = settings.sampling
    if sampling.cfg2 is None:
        raise ChoiceError(f"{settings.variant.name} has no second scale; use 'Sample' instead")
    scales = {"cfg_conds": sampling.cfg, "cfg_cond2_negative": sampling.cfg2, "style": "regular"}
    conds = {"cond1": positive, "cond2": picture, "negative": negative}
    guider = stock("DualCFGGuider", model=model, **conds, **scales)[0]
    return _advanced(stock, model, settings, guider, latent, seed, denoise)


def _advanced(stock: Stock, model: Any, settings: Settings, guider: Any, latent: Any, seed: int, denoise: float) -> Any:
    sampling = settings.sampling
    noise = stock("RandomNoise", noise_seed=seed)[0]
    sampler = stock("KSamplerSelect", sampler_name=sampling.sampler)[0]
    steps = {"scheduler": sampling.scheduler, "steps": sampling.steps, "denoise": denoise}
    sigmas = stock("BasicScheduler", model=model, **steps)[0]
    parts: Mapping[str, Any] = {"noise": noise, "guider": guider, "sampler": sampler, "sigmas": sigmas}
    return stock("SamplerCustomAdvanced", latent_image=latent, **parts)[0]


def sample_video(
    stock: Stock,
    model: Any,
    settings: Settings,
    positive: Any,
    negative: Any,
    latent: Any,
    seed: int,
    denoise: float,
    min_cfg: float,
) -> Any:
    """AtelierSampleVideo: KSampler with a guidance that rises from the first frame to the last."""
    rising = stock("VideoLinearCFGGuidance", model=model, min_cfg=min_cfg)[0]
    return sample(stock, rising, settings, positive, latent, seed, denoise, negative)


def sample_refined(
    stock: Stock,
    model: Any,
    settings: Settings,
    positive: Any,
    negative: Any,
    latent: Any,
    refiner: Any,
    refiner_positive: Any,
    refiner_negative: Any,
    seed: int,
    base_share: float,
) -> Any:
    """AtelierSampleRefined: two KSamplerAdvanced, SDXL's base for the first ``base_share`` of the steps, then the
    refiner.
    """
    sampling = settings.sampling
    last = round(sampling.steps * base_share)
    same: dict[str, Any] = {"noise_seed": seed, "steps": sampling.steps, "cfg": sampling.cfg}
    same |= {"sampler_name": sampling.sampler, "scheduler": sampling.scheduler}
    base = {"model": model, "positive": positive, "negative": negative, "latent_image": latent}
    first = {"add_noise": "enable", "start_at_step": 0, "end_at_step": last, "return_with_leftover_noise": "enable"}
    half = stock("KSamplerAdvanced", **base, **same, **first)[0]
    rest = {
        "add_noise": "disable",
        "start_at_step": last,
        "end_at_step": 10000,
        "return_with_leftover_noise": "disable",
    }
    conds = {"positive": refiner_positive, "negative": refiner_negative, "latent_image": half}
    return stock("KSamplerAdvanced", model=refiner, **conds, **same, **rest)[0]
