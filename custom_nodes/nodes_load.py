"""One loader for each model family: only its own files in the lists, encoders and VAE chosen by themselves, settings
included.
"""

# mypy: disable-error-code="import-not-found, misc, no-any-return"
# Type checkers have no ComfyUI at hand: neither its modules nor its base classes are known to them.

from __future__ import annotations

from typing import Any, ClassVar

from comfy_api.latest import io

from ..catalogue import Variant
from .errors import NodeInputError
from .loading import (
    AUTOMATIC,
    CLIP_TYPES,
    ENCODER_INPUTS,
    LOADERS,
    NONE,
    LoaderSpec,
    check_model,
    pick_encoder,
    pick_part,
    pick_vae,
    pick_variant,
)
from .schema import SettingsType, node_schema
from .settings import settings_of
from .stock import detected, model_path, stock

MODEL_FOLDERS = ("checkpoints", "diffusion_models")
PRECISIONS = ("default", "fp8_e4m3fn", "fp8_e4m3fn_fast", "fp8_e5m2")
"""``weight_dtype`` of the stock UNETLoader; a whole checkpoint keeps its own."""


def _inputs(spec: LoaderSpec) -> list[Any]:
    models = detected(MODEL_FOLDERS)
    encoders = detected(("text_encoders",))
    vaes = detected(("vae",))
    fitting = [name for name, (_, found) in models.items() if spec.accepts(found)]
    inputs: list[Any] = [
        io.Combo.Input(
            "model", options=fitting, tooltip="Whole checkpoints and diffusion models of this family, by their headers."
        ),
        io.Combo.Input(
            "variant",
            options=[AUTOMATIC, *spec.variants],
            default=AUTOMATIC,
            tooltip="Which model of the family it is, for the settings. Choose it where the file's header cannot tell.",
        ),
    ]
    for kind in spec.encoders:
        names = [name for name, (_, found) in encoders.items() if kind in found.encoders]
        text = f"The {kind} encoder: automatic takes the checkpoint's own, else the best file; none leaves it out."
        inputs.append(
            io.Combo.Input(
                ENCODER_INPUTS[kind], options=[AUTOMATIC, NONE, *names], default=AUTOMATIC, optional=True, tooltip=text
            )
        )
    fits = [
        name for name, (_, found) in vaes.items() if found.kind == "vae" and set(spec.families) & set(found.families)
    ]
    inputs.append(
        io.Combo.Input(
            "vae",
            options=[AUTOMATIC, *fits],
            default=AUTOMATIC,
            optional=True,
            tooltip="The VAE: automatic takes the checkpoint's own, else the best file there is.",
        )
    )
    inputs.append(
        io.Combo.Input(
            "precision",
            options=list(PRECISIONS),
            default="default",
            optional=True,
            tooltip="A diffusion model in fewer bits: less memory, a little less exact. A checkpoint keeps its own.",
        )
    )
    return inputs


def _load_clip(variant: Variant, names: list[str]) -> Any:
    """The CLIP of one to four encoder files, by the stock loader for that many."""
    kind = variant.text_encoder or CLIP_TYPES[variant.family]
    if len(names) == 1:
        return stock("CLIPLoader", clip_name=names[0], type=kind)[0]
    if len(names) == 2:
        return stock("DualCLIPLoader", clip_name1=names[0], clip_name2=names[1], type=kind)[0]
    numbered = {f"clip_name{place}": name for place, name in enumerate(names, start=1)}
    return stock("TripleCLIPLoader" if len(names) == 3 else "QuadrupleCLIPLoader", **numbered)[0]


def prepare(model: Any, variant: Variant) -> Any:
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


class FamilyLoader(io.ComfyNode):
    """What the loaders share; each family's class names its spec."""

    SPEC: ClassVar[LoaderSpec]

    @classmethod
    def define_schema(cls) -> io.Schema:
        spec = cls.SPEC
        names = ", ".join(variant.name for variant in spec.entries)
        outputs = [io.Model.Output(tooltip="The diffusion model, its sampling shift set as the variant wants.")]
        if spec.video:
            outputs.append(io.ClipVision.Output(tooltip="Reads the picture that the video starts from."))
        else:
            outputs.append(io.Clip.Output(tooltip="The text encoders."))
        outputs.append(io.Vae.Output(tooltip="Turns latents into pictures and back."))
        if spec.style:
            outputs.append(io.ClipVision.Output(tooltip="Reads the reference pictures."))
            outputs.append(io.StyleModel.Output(tooltip="Turns what CLIP vision reads into a prompt (Redux)."))
        outputs.append(
            SettingsType.Output(display_name="SETTINGS", tooltip="What the authors recommend for this variant.")
        )
        return node_schema(
            node_id=spec.node_id,
            display_name=spec.title,
            group="load a model",
            description=f"Loads {names}. The list has only files of this family, known by their headers.",
            aliases=spec.aliases,
            inputs=_inputs(spec),
            outputs=outputs,
        )

    @classmethod
    def validate_inputs(cls, model: str | None = None, **others: Any) -> bool | str:
        """Say in words what a wrong file is, in place of a list of all files that would be right; wired values come
        later.
        """
        precision = others.get("precision", PRECISIONS[0])
        if precision not in PRECISIONS:
            return f"precision '{precision}' is none of {', '.join(PRECISIONS)}"
        if model is None:
            return True
        try:
            _, found, _ = cls._find(model)
            check_model(cls.SPEC, model, found)
            pick_variant(cls.SPEC, others.get("variant", AUTOMATIC), model, found)
        except NodeInputError as error:
            return str(error)
        return True

    @classmethod
    def _find(cls, model: str) -> tuple[str, Any, Any]:
        files = detected(MODEL_FOLDERS)
        if model not in files:
            folder = next((folder for folder in MODEL_FOLDERS if _has(folder, model)), None)
            where = "models/checkpoints or models/diffusion_models"
            if folder is None:
                raise NodeInputError(f"model '{model}' is not in {where}; put it there, or choose another")
            raise NodeInputError(
                f"model '{model}' has no readable safetensors header; convert it, or download it again"
            )
        folder, found = files[model]
        return folder, found, files

    @classmethod
    def execute(
        cls, model: str, variant: str, vae: str = AUTOMATIC, precision: str = "default", **encoders: str
    ) -> io.NodeOutput:
        folder, found, _ = cls._find(model)
        check_model(cls.SPEC, model, found)
        entry = pick_variant(cls.SPEC, variant, model, found)
        loaded, clip, built_in_vae = _load_model(cls.SPEC, folder, model, precision)
        if not cls.SPEC.video:
            clip = _clip(entry, clip if "text_encoder" in found.parts else None, encoders)
        parts = [prepare(loaded, entry), clip, _vae(entry, built_in_vae if "vae" in found.parts else None, vae)]
        if cls.SPEC.style:
            vision, style = detected(("clip_vision",)), detected(("style_models",))
            parts.append(stock("CLIPVisionLoader", clip_name=pick_part(entry, "clip_vision", vision))[0])
            parts.append(stock("StyleModelLoader", style_model_name=pick_part(entry, "style_model", style))[0])
        return io.NodeOutput(*parts, settings_of(entry))


def _has(folder: str, name: str) -> bool:
    try:
        return model_path(folder, name).is_file()
    except NodeInputError:
        return False


def _load_model(spec: LoaderSpec, folder: str, name: str, precision: str) -> tuple[Any, Any, Any]:
    """MODEL, CLIP (or CLIP_VISION) and VAE of a file; the last two None for a diffusion model alone."""
    if folder == "diffusion_models":
        return stock("UNETLoader", unet_name=name, weight_dtype=precision)[0], None, None
    loader = "ImageOnlyCheckpointLoader" if spec.video else "CheckpointLoaderSimple"
    model, clip, vae = stock(loader, ckpt_name=name)
    return model, clip, vae


def _clip(entry: Variant, built_in: Any, chosen: dict[str, str]) -> Any:
    """The checkpoint's own encoders, unless it has none or a person chose others."""
    wanted = {kind: chosen.get(ENCODER_INPUTS[kind], AUTOMATIC) for kind in entry.text_encoders}
    if built_in is not None and all(choice in (AUTOMATIC, NONE) for choice in wanted.values()):
        return built_in
    files = detected(("text_encoders",))
    names = [pick_encoder(entry, kind, choice, files) for kind, choice in wanted.items()]
    present = [name for name in names if name is not None]
    if not present:
        raise NodeInputError(f"{entry.name} has no text encoder left: set at least one to automatic")
    return _load_clip(entry, present)


def _vae(entry: Variant, built_in: Any, chosen: str) -> Any:
    if built_in is not None and chosen == AUTOMATIC:
        return built_in
    return stock("VAELoader", vae_name=pick_vae(entry, chosen, detected(("vae",))))[0]


def _loader(spec: LoaderSpec) -> type[io.ComfyNode]:
    return type(spec.node_id, (FamilyLoader,), {"SPEC": spec, "__module__": __name__, "__doc__": spec.title})


LOADER_NODES: list[type[io.ComfyNode]] = [_loader(spec) for spec in LOADERS]
