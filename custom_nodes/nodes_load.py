"""One loader for each model family: only its own files in the lists, encoders and VAE chosen by themselves, settings
included.
"""

# mypy: disable-error-code="import-not-found, misc, no-any-return"
# Type checkers have no ComfyUI at hand: neither its modules nor its base classes are known to them.

from __future__ import annotations

from typing import Any, ClassVar

from comfy_api.latest import io

from ..catalogue.choice import check_model, choose, find_model, pick_variant
from ..catalogue.loaders import AUTOMATIC, ENCODER_INPUTS, LOADERS, MODEL_FOLDERS, NONE, LoaderSpec
from ..catalogue.wiring import load_files
from .errors import NodeInputError
from .schema import SettingsType, node_schema
from .stock import detected, model_path, stock

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
    return [*inputs, *_style_inputs(spec)]


def _style_inputs(spec: LoaderSpec) -> list[Any]:
    """Redux's two further files; last, so that workflows saved without them keep their other values."""
    asked = (
        ("clip_vision", "clip_vision", "reads the reference"),
        ("style_model", "style_models", "turns it to a prompt"),
    )
    return [
        io.Combo.Input(
            role,
            options=[
                AUTOMATIC,
                *(
                    name
                    for name, (_, found) in detected((folder,)).items()
                    if found.kind == role and set(spec.families) & set(found.families)
                ),
            ],
            default=AUTOMATIC,
            optional=True,
            tooltip=f"The file that {what}: automatic takes the best there is.",
        )
        for role, folder, what in (asked if spec.style else ())
    ]


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
            _check_readable(model)
            _, found = find_model(model, detected(MODEL_FOLDERS))
            check_model(cls.SPEC, model, found)
            pick_variant(cls.SPEC, others.get("variant", AUTOMATIC), model, found)
        except NodeInputError as error:
            return str(error)
        return True

    @classmethod
    def execute(cls, precision: str = PRECISIONS[0], **values: str) -> io.NodeOutput:
        _check_readable(values["model"])
        return io.NodeOutput(*load_files(stock, cls.SPEC, choose(cls.SPEC, values, detected), precision))


def _check_readable(model: str) -> None:
    """Tell a file whose header cannot be read from one that is not there."""
    if model not in detected(MODEL_FOLDERS) and any(_has(folder, model) for folder in MODEL_FOLDERS):
        raise NodeInputError(f"model '{model}' has no readable safetensors header; convert it, or download it again")


def _has(folder: str, name: str) -> bool:
    try:
        return model_path(folder, name).is_file()
    except NodeInputError:
        return False


def _loader(spec: LoaderSpec) -> type[io.ComfyNode]:
    return type(spec.node_id, (FamilyLoader,), {"SPEC": spec, "__module__": __name__, "__doc__": spec.title})


LOADER_NODES: list[type[io.ComfyNode]] = [_loader(spec) for spec in LOADERS]
