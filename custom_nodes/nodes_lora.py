"""LoRA that refuses another family's file, says what did not match, and sets model and encoder strengths apart."""

# mypy: disable-error-code="import-not-found, misc, no-any-return"
# Type checkers have no ComfyUI at hand: neither its modules nor its base classes are known to them.

from __future__ import annotations

from typing import Any

from comfy_api.latest import io

from ..catalogue import Detection, HeaderError, detect
from ..catalogue.adapters import check_adapter, report, unmatched
from .errors import NodeInputError
from .schema import node_schema
from .stock import detected, family_of, lora_modules, model_path, stock

GROUP = "LoRA"
NONE = "none"
STACKED = 4


def _names() -> list[str]:
    return [name for name, (_, found) in detected(("loras",)).items() if found.kind == "lora"]


def _strength(name: str, what: str) -> io.Float.Input:
    return io.Float.Input(name, default=1.0, min=-20.0, max=20.0, step=0.01, tooltip=f"How strongly it changes {what}.")


def _known(name: str) -> Detection:
    try:
        return detect(model_path("loras", name))
    except HeaderError as error:
        raise NodeInputError(f"LoRA '{name}' cannot be used: {error}") from error


def apply(model: Any, clip: Any, name: str, strength_model: float, strength_clip: float) -> tuple[Any, Any, str]:
    """Model and encoders with a LoRA, and in words what of it found its place; the stock loader does the work."""
    check_adapter(name, _known(name), "lora", family_of(model))
    modules, known = lora_modules(model, clip, model_path("loras", name))
    told = report(name, len(modules), unmatched(modules, known))
    if clip is None:
        changed = stock("LoraLoaderModelOnly", model=model, lora_name=name, strength_model=strength_model)[0]
        return changed, None, told
    strengths = {"strength_model": strength_model, "strength_clip": strength_clip}
    return (*stock("LoraLoader", model=model, clip=clip, lora_name=name, **strengths), told)


def _outputs() -> list[Any]:
    return [
        io.Model.Output(tooltip="The model with the LoRA."),
        io.Clip.Output(tooltip="The text encoders with the LoRA; nothing where none were wired."),
        io.String.Output(display_name="report", tooltip="How much of each LoRA found its place in the model."),
    ]


def _wires() -> list[Any]:
    return [
        io.Model.Input("model", tooltip="The model to change."),
        io.Clip.Input(
            "clip", optional=True, tooltip="The text encoders to change; without them only the model is changed."
        ),
    ]


class AtelierLoadLora(io.ComfyNode):
    """One LoRA, checked against the model's family."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        model, clip = _wires()
        return node_schema(
            node_id="AtelierLoadLora",
            display_name="Load LoRA",
            group=GROUP,
            description="Applies a LoRA and refuses one that was made for another family of models.",
            aliases=("lora", "adapter", "lycoris"),
            inputs=[
                model,
                io.Combo.Input("lora", options=_names(), tooltip="LoRA files, by their headers."),
                _strength("strength_model", "the model"),
                _strength("strength_clip", "the text encoders"),
                clip,
            ],
            outputs=_outputs(),
        )

    @classmethod
    def validate_inputs(cls, lora: str | None = None) -> bool | str:
        try:
            if lora is not None:  # a wired name is not known yet
                _known(lora)
        except NodeInputError as error:
            return str(error)
        return True

    @classmethod
    def execute(
        cls, model: Any, lora: str, strength_model: float, strength_clip: float, clip: Any = None
    ) -> io.NodeOutput:
        return io.NodeOutput(*apply(model, clip, lora, strength_model, strength_clip))


class AtelierLoraStack(io.ComfyNode):
    """Up to four LoRAs in a row."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        names = [NONE, *_names()]
        model, clip = _wires()
        inputs = [model]
        for place in range(1, STACKED + 1):
            inputs += [
                io.Combo.Input(f"lora_{place}", options=names, default=NONE, tooltip=f"LoRA {place}; none skips it."),
                _strength(f"strength_model_{place}", "the model"),
                _strength(f"strength_clip_{place}", "the text encoders"),
            ]
        return node_schema(
            node_id="AtelierLoraStack",
            display_name="LoRA Stack",
            group=GROUP,
            description="Applies up to four LoRAs one after the other, each checked against the model's family.",
            aliases=("lora", "multiple loras", "stack"),
            inputs=[*inputs, clip],
            outputs=_outputs(),
        )

    @classmethod
    def execute(cls, model: Any, clip: Any = None, **chosen: Any) -> io.NodeOutput:
        told = []
        for place in range(1, STACKED + 1):
            name = chosen[f"lora_{place}"]
            if name != NONE:
                strengths = (chosen[f"strength_model_{place}"], chosen[f"strength_clip_{place}"])
                model, clip, line = apply(model, clip, name, *strengths)
                told.append(line)
        return io.NodeOutput(model, clip, "\n".join(told))


LORA_NODES: list[type[io.ComfyNode]] = [AtelierLoadLora, AtelierLoraStack]
