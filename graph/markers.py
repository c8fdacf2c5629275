"""The marker nodes of three makers: what their classes are called, what they carry, what takes their place.

In the editor a marker passes a value through and says "this is an input" or "this is an output"; `interface_markers`
reads them, `bind` takes them out. Sources: our own table in DESIGN ("Marker nodes"); comfy-pack's
``nodes/nodes.py`` (0.4.4); ComfyUI-Deploy's ``comfy-nodes/*.py``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from .interface import OutputType, ParameterType
from .jsontext import JSON
from .prompt import PromptNode


class Maker(StrEnum):
    """Whose marker it is; they name and describe their parameters in different ways."""

    ATELIER = "atelier"
    COMFY_PACK = "comfy-pack"
    DEPLOY = "comfyui-deploy"


@dataclass(frozen=True, kw_only=True, slots=True)
class InputMarker:
    """A node class that marks an input.

    Attributes:
        type: what callers send; None where the value's own type tells (comfy-pack's "any").
        value: the input that holds the value.
        becomes: the stock class that takes its place, by its `value` input; None where the value itself goes to every
            consumer.
        stock_input: the input of that class that names the file.
        slots: the marker's output slots and what they become; a slot that is not here cannot be served.
        optional: other inputs that may hold a wired default (ComfyUI-Deploy).
    """

    maker: Maker
    type: ParameterType | None
    value: str
    becomes: str | None = None
    stock_input: str = "image"
    slots: Mapping[int, int] = field(default_factory=lambda: {0: 0})
    wired_default: str | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class OutputMarker:
    """A node class that marks an output: ``wired`` is the input that takes what is to be given out."""

    maker: Maker
    type: OutputType
    wired: str


_IMAGE_AND_MASK = {0: 0, 1: 1}
_A, _C, _D = Maker.ATELIER, Maker.COMFY_PACK, Maker.DEPLOY
_P, _O = ParameterType, OutputType

INPUT_MARKERS: Mapping[str, InputMarker] = {
    "AtelierInputText": InputMarker(maker=_A, type=_P.TEXT, value="value"),
    "AtelierInputInteger": InputMarker(maker=_A, type=_P.INTEGER, value="value"),
    "AtelierInputNumber": InputMarker(maker=_A, type=_P.NUMBER, value="value"),
    "AtelierInputSwitch": InputMarker(maker=_A, type=_P.BOOLEAN, value="value"),
    "AtelierInputChoice": InputMarker(maker=_A, type=_P.CHOICE, value="value"),
    "AtelierInputImage": InputMarker(
        maker=_A, type=_P.IMAGE, value="image", becomes="LoadImage", slots=_IMAGE_AND_MASK
    ),
    "AtelierInputMask": InputMarker(maker=_A, type=_P.MASK, value="image", becomes="LoadImageMask"),
    "AtelierInputFile": InputMarker(maker=_A, type=_P.FILE, value="path"),
    "CPackInputImage": InputMarker(maker=_C, type=_P.IMAGE, value="image", becomes="LoadImage", slots=_IMAGE_AND_MASK),
    "CPackInputString": InputMarker(maker=_C, type=_P.TEXT, value="value"),
    "CPackInputInt": InputMarker(maker=_C, type=_P.INTEGER, value="value"),
    "CPackInputFile": InputMarker(maker=_C, type=_P.FILE, value="path"),
    "CPackInputAny": InputMarker(maker=_C, type=None, value="input"),
    "ComfyUIDeployExternalText": InputMarker(maker=_D, type=_P.TEXT, value="default_value"),
    "ComfyUIDeployExternalTextAny": InputMarker(maker=_D, type=_P.TEXT, value="default_value"),
    "ComfyUIDeployExternalNumber": InputMarker(maker=_D, type=_P.NUMBER, value="default_value"),
    "ComfyUIDeployExternalNumberInt": InputMarker(maker=_D, type=_P.INTEGER, value="default_value"),
    "ComfyUIDeployExternalNumberSlider": InputMarker(maker=_D, type=_P.NUMBER, value="default_value"),
    "ComfyUIDeployExternalNumberSliderInt": InputMarker(maker=_D, type=_P.INTEGER, value="default_value"),
    "ComfyUIDeployExternalSeed": InputMarker(maker=_D, type=_P.INTEGER, value="default_value"),
    "ComfyUIDeployExternalBoolean": InputMarker(maker=_D, type=_P.BOOLEAN, value="default_value"),
    "ComfyUIDeployExternalEnum": InputMarker(maker=_D, type=_P.CHOICE, value="default_value"),
    "ComfyUIDeployExternalCheckpoint": InputMarker(maker=_D, type=_P.TEXT, value="default_value"),
    "ComfyUIDeployExternalLora": InputMarker(maker=_D, type=_P.TEXT, value="default_lora_name"),
    "ComfyUIDeployExternalFaceModel": InputMarker(maker=_D, type=_P.TEXT, value="default_face_model_name"),
    "ComfyUIDeployExternalFile": InputMarker(maker=_D, type=_P.FILE, value="file_url"),
    "ComfyUIDeployExternalVid": InputMarker(maker=_D, type=_P.FILE, value="default_value"),
    "ComfyUIDeployExternalImage": InputMarker(
        maker=_D, type=_P.IMAGE, value="default_value_url", becomes="LoadImage", wired_default="default_value"
    ),
    "ComfyUIDeployExternalImageAlpha": InputMarker(
        maker=_D, type=_P.IMAGE, value="default_value_url", becomes="LoadImage", wired_default="default_value"
    ),
    "ComfyUIDeployExternalImageBatch": InputMarker(
        maker=_D, type=_P.IMAGE, value="images", becomes="LoadImage", wired_default="default_value"
    ),
    "ComfyUIDeployExternalAudio": InputMarker(
        maker=_D,
        type=_P.AUDIO,
        value="audio_file",
        becomes="LoadAudio",
        stock_input="audio",
        wired_default="default_value",
    ),
}
"""Every class that marks an input."""

OUTPUT_MARKERS: Mapping[str, OutputMarker] = {
    "AtelierOutputImage": OutputMarker(maker=_A, type=_O.IMAGE, wired="images"),
    "AtelierOutputVideo": OutputMarker(maker=_A, type=_O.VIDEO, wired="video"),
    "AtelierOutputText": OutputMarker(maker=_A, type=_O.TEXT, wired="text"),
    "AtelierOutputFile": OutputMarker(maker=_A, type=_O.FILE, wired="path"),
    "CPackOutputImage": OutputMarker(maker=_C, type=_O.IMAGE, wired="images"),
    "CPackOutputVideo": OutputMarker(maker=_C, type=_O.VIDEO, wired="video"),
    "CPackOutputAudio": OutputMarker(maker=_C, type=_O.AUDIO, wired="audio"),
    "CPackOutputTextFile": OutputMarker(maker=_C, type=_O.TEXT, wired="text"),
    "CPackOutputFile": OutputMarker(maker=_C, type=_O.FILE, wired="filename"),
    "CPackOutputZip": OutputMarker(maker=_C, type=_O.IMAGE, wired="images"),
    "ComfyDeployOutputImage": OutputMarker(maker=_D, type=_O.IMAGE, wired="images"),
    "ComfyDeployWebscoketImageOutput": OutputMarker(maker=_D, type=_O.IMAGE, wired="images"),
    "ComfyDeployOutputText": OutputMarker(maker=_D, type=_O.TEXT, wired="text"),
    "ComfyDeployOutputFile": OutputMarker(maker=_D, type=_O.FILE, wired="file_path"),
}
"""Every class that marks an output."""

SWITCHES = frozenset({"CPackOutputZipSwitch"})
"""Markers that neither take nor give a value: a served prompt goes without them."""

UNSERVED = frozenset(
    {
        "ComfyUIDeployExternalEXR",
        "ComfyUIDeployExternalVideo",
        "ComfyDeployWebscoketImageInput",
        "ComfyDeployOutputEXR",
    }
)
"""Markers that do work of their own which no stock node does: they stay, and need their pack on the engine."""

STOCK_OUTPUTS: Mapping[OutputType, tuple[str, str, Mapping[str, JSON]]] = {
    OutputType.IMAGE: ("SaveImage", "images", {}),
    OutputType.VIDEO: ("SaveVideo", "video", {"format": "auto", "codec": "auto"}),
    OutputType.AUDIO: ("SaveAudio", "audio", {}),
    OutputType.TEXT: ("PreviewAny", "source", {}),
    OutputType.FILE: ("PreviewAny", "source", {}),
}
"""What takes an output marker's place: class, wired input, further inputs. In ComfyUI 0.3.64 and 0.33.0 alike."""


def is_marker(class_type: str) -> bool:
    """Whether a prompt may hold the class only until it is bound."""
    return class_type in INPUT_MARKERS or class_type in OUTPUT_MARKERS or class_type in SWITCHES


def marker_value_input(node: PromptNode) -> str:
    """The input that holds an input marker's value; of comfy-pack's markers it is the first, whatever its name."""
    marker = INPUT_MARKERS[node.class_type]
    if marker.maker is Maker.COMFY_PACK and marker.value not in node.inputs and node.inputs:
        return next(iter(node.inputs))
    return marker.value
