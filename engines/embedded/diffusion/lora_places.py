"""Under which names LoRA files know the weights of a model: each trainer has its own.

Names are ComfyUI 0.33.0's (``comfy/lora.py``), and for U-Nets those that PEFT writes besides. The order counts: where a
file has two names of one weight, the later one wins.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable

from .encoders import TextEncoder
from .lora import Place, Places
from .unet_names import to_diffusers
from .values import Network
from .weights import Weights

Names = Collection[str]
"""Names of tensors as a component's `Weights` have them."""


def generic(names: Names) -> dict[str, Place]:
    """The names that every family shares: kohya's and ComfyUI's own."""
    places: dict[str, Place] = {}
    for name in names:
        if name.endswith(".weight"):
            module = name.removesuffix(".weight")
            places[f"lora_unet_{_flat(module)}"] = Place(key=name)
            places[f"diffusion_model.{module}"] = Place(key=name)
        else:
            places[f"diffusion_model.{name}"] = Place(key=name)
            if name.endswith(".scale"):  # ComfyUI calls the scale of a norm its weight
                places[f"diffusion_model.{name.removesuffix('.scale')}"] = Place(key=name)
    return places


def unet(names: Names) -> Places:
    """A U-Net of Stable Diffusion 1.x, 2.x, SDXL or Stable Video Diffusion, in CompVis' layout."""
    places = generic(names)
    for name, others in to_diffusers(names).items():
        if not name.endswith(".weight"):
            continue
        for other in (name.removesuffix(".weight") for name in others):
            place = Place(key=name)
            places[f"lora_unet_{_flat(other)}"] = place
            places[f"lycoris_{_flat(other)}"] = place
            attached = other.replace(".to_", ".processor.to_")
            if attached.endswith(".to_out.0"):
                attached = attached.removesuffix(".0")
            for prefix in ("base_model.model.", "unet.", ""):
                places[f"{prefix}{other}"] = place
                places[f"{prefix}{attached}"] = place
    return places


CLIP_MODULES = ("mlp.fc1", "mlp.fc2", *(f"self_attn.{part}_proj" for part in ("k", "q", "v", "out")))


def text(names: Names) -> Places:
    """Text encoders, each below its own name: ``clip_l.text_model.encoder…``, ``t5xxl.encoder.block…``."""
    places: dict[str, Place] = {}
    modules = [name.removesuffix(".weight") for name in names if name.endswith(".weight")]
    for module in modules:
        encoder, _, path = module.partition(".")
        place = Place(key=f"{module}.weight")
        places[f"text_encoders.{encoder}.transformer.{path}"] = place
        if not encoder.startswith("clip_"):
            places[f"text_encoders.transformer.{path}"] = place
    encoders = {module.partition(".")[0] for module in modules}
    has_l = "clip_l" in encoders
    for module in modules:
        encoder, _, path = module.partition(".")
        for name in _clip_names(encoder, path, has_l=has_l):
            places[name] = Place(key=f"{module}.weight")
        for name in _other_names(encoder, path, encoders):
            places[name] = Place(key=f"{module}.weight")
    return places


def _clip_names(encoder: str, path: str, *, has_l: bool) -> Iterable[str]:
    """kohya's and diffusers' names of what CLIP's encoders learn."""
    if path == "text_projection":
        yield from {"clip_g": ("lora_prior_te_text_projection", "lora_te2_text_projection")}.get(encoder, ())
        yield from {"clip_l": ("lora_te1_text_projection",)}.get(encoder, ())
        return
    if not path.startswith("text_model.encoder.layers.") or not path.endswith(CLIP_MODULES):
        return
    if encoder in ("clip_l", "clip_h"):
        yield f"lora_te_{_flat(path)}"
        yield f"lora_te1_{_flat(path)}"
        yield f"text_encoder.{path}"
    elif encoder == "clip_g" and has_l:
        yield f"lora_te2_{_flat(path)}"
        yield f"text_encoder_2.{path}"
    elif encoder == "clip_g":
        yield f"lora_te_{_flat(path)}"
        yield f"text_encoder.{path}"
        yield f"lora_prior_te_{_flat(path)}"


def _other_names(encoder: str, path: str, encoders: set[str]) -> Iterable[str]:
    """OneTrainer's names of T5, numbered behind the CLIPs, and those of a language model that is the only encoder."""
    if encoder == "t5xxl":
        number = 1 + ("clip_g" in encoders) + ("clip_l" in encoders)
        if "clip_l" in encoders and number == 2:
            yield f"lora_te2_{_flat(path)}"
            number = 3
        yield f"lora_te{number}_{_flat(path)}"
    if len(encoders) == 1 and path.startswith("model."):
        yield f"lora_te_{_flat(path.removeprefix('model.'))}"


def _flat(module: str) -> str:
    return module.replace(".", "_")


def of_model(network: Network, weights: Weights) -> Places:
    """Every name that a denoiser's tensors go by: the generic ones, a U-Net's in diffusers, and the family's own."""
    places = dict(unet(weights) if "input_blocks.0.0.weight" in weights else generic(weights))
    for name in weights:
        if name.endswith(".weight"):
            _add(places, name.removesuffix(".weight"), Place(key=name))
    for name, alias in network.aliases(weights).items():
        part = None if alias.length is None else (alias.dimension, alias.start, alias.length)
        _add(places, name.removesuffix(".weight"), Place(key=alias.name, part=part))
    return places


def of_clip(encoder: TextEncoder, weights: Weights) -> Places:
    """Every name that the text encoders' tensors go by."""
    own = {name.removesuffix(".weight"): Place(key=alias.name) for name, alias in encoder.aliases(weights).items()}
    return {**text(weights), **own}


def _add(places: dict[str, Place], module: str, place: Place) -> None:
    """A module's name as diffusers', PEFT's, OneTrainer's and SimpleTuner's files write it."""
    for prefix in ("", "transformer.", "unet.", "base_model.model."):
        places[f"{prefix}{module}"] = place
    for prefix in ("lora_unet_", "lora_transformer_", "lycoris_"):
        places[f"{prefix}{_flat(module)}"] = place
