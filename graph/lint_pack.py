"""What our own nodes tell lint: which of their inputs name files, what their loaders load, how they sample."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from ..catalogue import Catalogue, ChoiceError, Detection, Variant
from ..catalogue.choice import pick_variant
from ..catalogue.loaders import AUTOMATIC, ENCODER_INPUTS, MODEL_FOLDERS, LoaderSpec, loader
from ..catalogue.settings import RATIOS, Settings
from .jsontext import JSON
from .prompt import InputRef, Link
from .tracing import Trace

SETTINGS = "ATELIER_SETTINGS"
EMPTY_LATENT = "AtelierEmptyLatent"
CHANGE_SETTINGS = "AtelierChangeSettings"
_CONTROL_FOLDERS = ("controlnet", "model_patches", "loras")


def file_folders(class_type: str, name: str) -> tuple[str, ...]:
    """The folders below ``models/`` that an input of ours may name a file of; empty where it names none."""
    if not class_type.startswith("Atelier"):
        return ()
    if loader(class_type) is not None:
        if name in ENCODER_INPUTS.values():
            return ("text_encoders",)
        return {"model": MODEL_FOLDERS, "vae": ("vae",)}.get(name, ())
    if name == "lora" or (name.startswith("lora_") and name[5:].isdigit()):
        return ("loras",)
    return {"controlnet": ("controlnet",), "control": _CONTROL_FOLDERS}.get(name, ())


def is_encoder_input(class_type: str, name: str) -> bool:
    """Whether an input names a text encoder, of a stock loader or of ours."""
    return name.startswith("clip_name") or (loader(class_type) is not None and name in ENCODER_INPUTS.values())


def model_inputs(class_type: str) -> frozenset[str]:
    """The inputs of a class that name the model itself."""
    return frozenset({"model"} if loader(class_type) is not None else {"ckpt_name", "unet_name"})


def lora_strengths(class_type: str) -> Mapping[str, str]:
    """The inputs of a class that name a LoRA, each with the input of its strength."""
    if class_type == "AtelierLoraStack":
        return {f"lora_{place}": f"strength_model_{place}" for place in range(1, 5)}
    return {"lora": "strength_model"} if class_type.startswith("Atelier") else {"lora_name": "strength_model"}


def automatic_variants(
    spec: LoaderSpec, name: str, found: Detection | None, by_name: tuple[Variant, ...]
) -> tuple[Variant, ...]:
    """What a loader of ours takes a file for: what its header says, else what the catalogue's file of that name is.

    Empty where nothing is known, or where the loader would refuse the file.
    """
    if found is not None:
        try:
            return (pick_variant(spec, AUTOMATIC, name, found),) if spec.accepts(found) else ()
        except ChoiceError:
            return ()
    likely = [variant for variant in by_name if variant.id in spec.variants]
    return (min(likely, key=lambda variant: spec.variants.index(variant.id)),) if likely else ()


def told_variant(trace: Trace, node_id: str, catalogue: Catalogue) -> Variant | None:
    """The variant that a node names in its widget; None for automatic."""
    told = trace.value(InputRef(node_id, "variant"))
    return next((v for v in catalogue.variants if v.id == told), None) if isinstance(told, str) else None


def settings_nodes(trace: Trace, node_id: str) -> tuple[str, ...]:
    """The nodes on the way back along a node's settings, nearest first."""
    return trace.sources(InputRef(node_id, "settings"), SETTINGS)


def changed_setting(trace: Trace, node_id: str, name: str) -> InputRef | None:
    """The input of a Change Settings node that decides a sampler's setting; None where none changes it."""
    for source in settings_nodes(trace, node_id):
        if trace.prompt.nodes[source].class_type == CHANGE_SETTINGS and trace.value(InputRef(source, name)) != 0:
            return InputRef(source, name)
    return None


def recommended(variants: tuple[Variant, ...], name: str) -> JSON:
    """What all variants recommend for a setting; None where they differ or have none."""
    values = {getattr(variant.sampling, name, None) for variant in variants}
    return next(iter(values)) if len(values) == 1 else None


def latent_size(trace: Trace, node_id: str, variants: tuple[Variant, ...]) -> tuple[int, int] | None:
    """The size in pixels that an Empty Latent by Aspect Ratio gives; None where the model is not known."""
    ratio, area = (trace.value(InputRef(node_id, name)) for name in ("aspect_ratio", "megapixels"))
    known = [variant for variant in variants if variant.resolution is not None and variant.sampling is not None]
    if not known or ratio not in RATIOS or isinstance(area, bool) or not isinstance(area, int | float):
        return None
    first = known[0]
    assert first.sampling is not None
    return Settings(variant=first, sampling=first.sampling).size(str(ratio), float(area))


def empty_latents(trace: Trace) -> Iterator[str]:
    """The Empty Latent nodes that run and have their settings wired."""
    for node_id in trace.live:
        node = trace.prompt.nodes[node_id]
        if node.class_type == EMPTY_LATENT and isinstance(node.inputs.get("settings"), Link):
            yield node_id
