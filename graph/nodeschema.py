"""Node schemas as data: one class of nodes with its inputs and outputs, as a server's ``/object_info`` states it.

Sources of the format: ComfyUI ``server.py`` (``node_info``), ``comfy_api/latest/_io.py`` (the V3 types), and what the
front end reads from it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Literal

from .jsontext import JSON

Upload = Literal["image", "mask", "video", "audio", "file"]

# Types that the front end gives a widget (its widgets.ts and the extensions that come with it). Any other type is a
# socket only, unless the input names one of these as its `widgetType`.
WIDGET_TYPES = frozenset(
    [
        "INT",
        "FLOAT",
        "BOOLEAN",
        "STRING",
        "COMBO",
        "MARKDOWN",
        "COLOR",
        "TEXTAREA",
        "BOUNDING_BOX",
        "BOUNDING_BOXES",
        "CHART",
        "GALLERIA",
        "PAINTER",
        "CURVE",
        "RANGE",
        "COLORS",
        "COMPOSITOR",
        "VIDEO_EDIT",
        "IMAGEUPLOAD",
        "IMAGECOMPARE",
        "AUDIO_UI",
        "AUDIOUPLOAD",
        "AUDIO_RECORD",
        "WEBCAM",
        "LOAD_3D",
        "LOAD_3D_ANIMATION",
        "PREVIEW_3D",
        "PREVIEW_3D_ANIMATION",
        "COMFY_DYNAMICCOMBO_V3",
    ]
)

_UPLOADS: dict[str, Upload] = {
    "image_upload": "image",
    "animated_image_upload": "image",
    "video_upload": "video",
    "audio_upload": "audio",
    "file_upload": "file",
}
_FILE_NAME = re.compile(
    r"\.(safetensors|sft|ckpt|pt|pt2|pth|bin|pkl|gguf|onnx|engine|latent|yaml|json|txt|pdf|task|"
    r"png|jpe?g|webp|gif|bmp|tiff?|avif|mp4|webm|mov|mkv|avi|mp3|wav|flac|ogg|opus|m4a|glb|gltf|obj|fbx|stl|ply)$",
    re.IGNORECASE,
)
_NO_FILE = frozenset({"automatic", "none"})
# Lists of the core that mix constants with what is on the machine, so that a server without files shows constants only.
_MIXED_LISTS = frozenset(
    {
        ("VAELoader", "vae_name"),
        ("TrainLoraNode", "existing_lora"),
        ("ModelAttentionBackend", "attention"),
        ("LoadImageDataSetFromFolder", "folder"),
        ("LoadImageTextDataSetFromFolder", "folder"),
        ("LoadVideoDataSetFromFolder", "folder"),
        ("LoadVideoTextDataSetFromFolder", "folder"),
    }
)
_OWN_OPTIONS = frozenset({"default", "min", "max", "step", "multiline"})


@dataclass(frozen=True, kw_only=True, slots=True)
class InputSpec:
    """One input of a node class.

    Attributes:
        type: as the server says it ("INT", "IMAGE", "FLOAT,INT", "COMFY_AUTOGROW_V3"); "COMBO" for every list of
            choices, whichever way the server writes it.
        choices: what a combo offers, in order (of a COMFY_DYNAMICCOMBO_V3 the keys); None where it is no combo or
            where the list was not kept because it depends on a machine's files.
        open_choices: the list depends on what is on the machine (models, uploads, a remote list): a value outside
            `choices` is not wrong by itself.
        default: the schema's own default; None also where `has_default` is false.
        multiline: a text of several lines.
        options: the remaining options of the specification, as the server wrote them.
        upload: the kind of file that an upload widget takes, by the node's flags.
        is_widget: whether the editor gives the input a widget (it may be wired all the same).
    """

    name: str
    type: str
    required: bool = True
    choices: tuple[JSON, ...] | None = None
    open_choices: bool = False
    default: JSON = None
    has_default: bool = False
    minimum: int | float | None = None
    maximum: int | float | None = None
    step: int | float | None = None
    multiline: bool = False
    options: Mapping[str, JSON] = field(default_factory=dict)
    upload: Upload | None = None
    is_widget: bool = False

    @property
    def types(self) -> frozenset[str]:
        """The types that a wire into this input may have ("FLOAT,INT" is two); "*" takes any."""
        return frozenset(part.strip() for part in self.type.split(","))


@dataclass(frozen=True, kw_only=True, slots=True)
class OutputSpec:
    """One output of a node class. `match` is the match-type group whose type it takes, where it has one."""

    name: str
    type: str
    is_list: bool = False
    match: str | None = None


@dataclass(frozen=True, kw_only=True)
class NodeSchema:
    """What a server says of one node class. `inputs` are in the editor's order: required before optional."""

    class_type: str
    inputs: tuple[InputSpec, ...] = ()
    outputs: tuple[OutputSpec, ...] = ()
    output_node: bool = False
    deprecated: bool = False
    experimental: bool = False
    api_node: bool = False
    is_input_list: bool = False
    display_name: str = ""
    category: str = ""
    python_module: str = ""
    hidden: tuple[str, ...] = ()

    @cached_property
    def _by_name(self) -> dict[str, InputSpec]:
        return {spec.name: spec for spec in self.inputs}

    def input(self, name: str) -> InputSpec | None:
        """The input of that name; None where the class has none (parts of dynamic inputs are not listed here)."""
        return self._by_name.get(name)


def parse_input(name: str, raw: JSON, *, required: bool = True, class_type: str = "", masks: bool = False) -> InputSpec:
    """Read one input specification (``[type or choices, options]``) as ``/object_info`` and V3 templates write it.

    Args:
        class_type: the node class, where lists are known that depend on the machine.
        masks: the node gives masks only, so that an image upload is one of a mask.

    A specification that is none gets the type "UNKNOWN": the front end shows such an input as a plain socket.
    """
    parts = raw if isinstance(raw, list) and raw else ["UNKNOWN"]
    head = parts[0]
    options = dict(parts[1]) if len(parts) > 1 and isinstance(parts[1], dict) else {}
    choices: tuple[JSON, ...] | None = None
    if isinstance(head, list):
        kind, choices = "COMBO", tuple(head)
        options.pop("options", None)
    elif isinstance(head, str):
        kind = head
        if kind == "COMBO":
            listed = options.pop("options", None)
            choices = tuple(listed) if isinstance(listed, list) else None if options.get("open") else ()
        elif kind == "COMFY_DYNAMICCOMBO_V3" and isinstance(options.get("options"), list):
            choices = tuple(o["key"] for o in options["options"] if isinstance(o, dict) and "key" in o)
    else:
        kind = "UNKNOWN"
    upload = next((kind_of for flag, kind_of in _UPLOADS.items() if options.get(flag)), None)
    open_choices = options.pop("open", None) is True or (
        kind == "COMBO" and _depends_on_machine(class_type, name, choices or (), options, upload)
    )
    widget = kind if options.get("widgetType") is None else options["widgetType"]
    return InputSpec(
        name=name,
        type=kind,
        required=required,
        choices=choices,
        open_choices=open_choices,
        default=options.get("default"),
        has_default="default" in options,
        minimum=_number(options.get("min")),
        maximum=_number(options.get("max")),
        step=_number(options.get("step")),
        multiline=options.get("multiline") is True,
        options={key: value for key, value in options.items() if key not in _OWN_OPTIONS},
        upload="mask" if masks and upload == "image" else upload,
        is_widget=widget in WIDGET_TYPES and not options.get("forceInput"),
    )


def _number(value: JSON) -> int | float | None:
    return value if isinstance(value, int | float) and not isinstance(value, bool) else None


def _depends_on_machine(
    class_type: str, name: str, choices: tuple[JSON, ...], options: Mapping[str, JSON], upload: Upload | None
) -> bool:
    if upload or options.get("remote") or not choices or (class_type, name) in _MIXED_LISTS:
        return True
    if set(map(str, choices)) <= _NO_FILE:
        return True  # our own loaders on a machine without files: only what stands for none of them
    return any(isinstance(choice, str) and _FILE_NAME.search(choice) for choice in choices)


def parse_schema(class_type: str, raw: Mapping[str, Any]) -> NodeSchema:
    sections = raw.get("input")
    sections = sections if isinstance(sections, dict) else {}
    order = raw.get("input_order")
    order = order if isinstance(order, dict) else {}
    outputs = _server_outputs(raw)
    masks = bool(outputs) and all(output.type == "MASK" for output in outputs)
    inputs = []
    for section in ("required", "optional"):
        specs = sections.get(section)
        if not isinstance(specs, dict):
            continue
        listed = order.get(section)
        names = [n for n in listed if isinstance(n, str) and n in specs] if isinstance(listed, list) else []
        for name in dict.fromkeys([*names, *specs]):
            required = section == "required"
            inputs.append(parse_input(name, specs[name], required=required, class_type=class_type, masks=masks))
    hidden = sections.get("hidden")
    display_name, category, module = raw.get("display_name"), raw.get("category"), raw.get("python_module")
    return NodeSchema(
        class_type=class_type,
        inputs=tuple(inputs),
        outputs=outputs,
        output_node=raw.get("output_node") is True,
        deprecated=raw.get("deprecated") is True,
        experimental=raw.get("experimental") is True,
        api_node=raw.get("api_node") is True,
        is_input_list=raw.get("is_input_list") is True,
        display_name=display_name if isinstance(display_name, str) else class_type,
        category=category if isinstance(category, str) else "",
        python_module=module if isinstance(module, str) else "",
        hidden=tuple(hidden) if isinstance(hidden, dict) else (),
    )


def _server_outputs(raw: Mapping[str, Any]) -> tuple[OutputSpec, ...]:
    types = raw.get("output")
    if not isinstance(types, list):
        return ()

    def at(key: str, index: int) -> Any:
        values = raw.get(key)
        return values[index] if isinstance(values, list) and index < len(values) else None

    outputs = []
    for index, kind in enumerate(types):
        kind = "COMBO" if isinstance(kind, list) else kind if isinstance(kind, str) else "*"
        name, match = at("output_name", index), at("output_matchtypes", index)
        outputs.append(
            OutputSpec(
                name=name if isinstance(name, str) and name else kind,
                type=kind,
                is_list=at("output_is_list", index) is True,
                match=match if isinstance(match, str) else None,
            )
        )
    return tuple(outputs)
