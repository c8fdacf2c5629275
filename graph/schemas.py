"""Node schemas: what a server's ``/object_info`` says of each node class; from its answer, a file or a saved table.

Sources of the format: ComfyUI ``server.py`` (``node_info``), ``comfy_api/latest/_io.py`` (the V3 types), and what the
front end reads from it. `NodeSchemas` is a mapping that parses a class when it is first asked for, so that converting
one small workflow does not pay for nine hundred classes.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, Self

from .errors import SchemaError
from .prompt import JSON

TABLE_FORMAT = "comfy-atelier node schemas"
TABLE_VERSION = 1
TABLES = Path(__file__).parent / "tables"
MAX_BYTES = 512 * 1024 * 1024  # of an /object_info after decompression; a server with 1,000 packs has about 30 MB

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
# Lists of the core that mix constants with what is on the machine, so that a server without files shows constants only.
_MIXED_LISTS = frozenset(
    {("VAELoader", "vae_name"), ("TrainLoraNode", "existing_lora"), ("ModelAttentionBackend", "attention")}
)
_PROSE = frozenset({"tooltip", "description", "placeholder", "display_name"})
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
    return any(isinstance(choice, str) and _FILE_NAME.search(choice) for choice in choices)


class NodeSchemas(Mapping[str, NodeSchema]):
    """Node schemas by class name. Classes are parsed when first asked for; a missing one is a `KeyError`."""

    def __init__(
        self,
        raw: Mapping[str, Any],
        *,
        choices: list[list[JSON]] | None = None,
        version: str | None = None,
        modern: bool | None = None,
    ) -> None:
        """`raw` holds server entries, table entries (with `choices`, the lists they share) or parsed schemas."""
        self._raw = raw
        self._choices = choices
        self._modern = modern
        self._parsed: dict[str, NodeSchema] = {}
        self.version = version

    def __getitem__(self, class_type: str) -> NodeSchema:
        found = self._parsed.get(class_type)
        if found is None:
            raw = self._raw[class_type]
            if isinstance(raw, NodeSchema):
                found = raw
            elif self._choices is not None:
                found = _from_table(class_type, raw, self._choices)
            else:
                found = _from_server(class_type, raw)
            self._parsed[class_type] = found
        return found

    def __iter__(self) -> Iterator[str]:
        return iter(self._raw)

    def __len__(self) -> int:
        return len(self._raw)

    def __contains__(self, class_type: object) -> bool:
        return class_type in self._raw

    @cached_property
    def modern(self) -> bool:
        """Whether the front end that comes with this server is one of 2026 (1.4x), by what the server says of its nodes.

        Both generations give other answers for some files: promoted widgets, ids inside subgraphs, muted subgraphs.
        """
        if self._modern is not None:
            return self._modern
        return any("essentials_category" in e or "has_intermediate_output" in e for e in self._raw.values())

    def __repr__(self) -> str:
        return f"<NodeSchemas: {len(self)} classes{f' of ComfyUI {self.version}' if self.version else ''}>"

    @classmethod
    def from_object_info(cls, info: JSON, *, version: str | None = None) -> Self:
        """From the JSON of a server's ``/object_info``; `SchemaError` where it is none."""
        if not isinstance(info, dict) or not all(isinstance(entry, dict) for entry in info.values()):
            raise SchemaError("this is not a server's /object_info: it must be an object of objects, one a class")
        if info and not any("input" in entry or "output" in entry for entry in info.values()):
            raise SchemaError(
                "this is not a server's /object_info: no class in it has an input or an output",
                remedy="save one with `atelier schemas save --comfyui URL`",
            )
        return cls(info, version=version)

    @classmethod
    def from_file(cls, path: str | Path) -> Self:
        """From a file with a server's ``/object_info`` or a table saved by `save_table`, plain or as ``.xz``."""
        path = Path(path)
        try:
            data = _read(path)
            parsed = json.loads(data)
        except OSError as error:
            raise SchemaError(f"cannot be read: {error.strerror or error}", file=str(path)) from error
        except (ValueError, RecursionError) as error:
            raise SchemaError(f"is not JSON: {error}", file=str(path)) from error
        if isinstance(parsed, dict) and parsed.get("format") == TABLE_FORMAT:
            return cls._from_table_json(parsed, str(path))
        try:
            return cls.from_object_info(parsed)
        except SchemaError as error:
            raise error.at(file=str(path)) from None

    @classmethod
    def _from_table_json(cls, table: dict[str, Any], file: str) -> Self:
        if table.get("version") != TABLE_VERSION:
            raise SchemaError(
                f"is a table of format version {table.get('version')!r}, this program reads {TABLE_VERSION}",
                file=file,
                remedy="save it again with `atelier schemas save`",
            )
        classes, choices = table.get("classes"), table.get("choices")
        if not isinstance(classes, dict) or not isinstance(choices, list):
            raise SchemaError("is a damaged table of node schemas", file=file)
        return cls(classes, choices=choices, version=table.get("comfyui"), modern=table.get("modern") is True)

    @classmethod
    def builtin(cls, version: str | None = None) -> NodeSchemas:
        """What ships with the package: schemas of ComfyUI `version` (the newest by default) and of our own nodes.

        Lists of model and input files are not in them (`InputSpec.open_choices`): they differ from machine to machine.
        """
        found = builtin_versions()
        if version is None:
            version = found[-1] if found else ""
        if version not in found:
            raise SchemaError(
                f"no schemas of ComfyUI {version} ship with this package, only of {', '.join(found)}",
                remedy="give --comfyui URL, or --schemas FILE with the server's /object_info",
            )
        schemas: NodeSchemas = cls.from_file(TABLES / f"comfyui-{version}.json")
        for table in ("markers.json", "atelier.json"):  # comfy-pack's and ComfyUI-Deploy's marker nodes; our own nodes
            if (TABLES / table).is_file():
                schemas = schemas.merged(cls.from_file(TABLES / table))
        return schemas

    def merged(self, other: NodeSchemas) -> NodeSchemas:
        """Both; where both have a class, `other` wins."""
        return NodeSchemas(_Chain(other, self), version=self.version or other.version, modern=self.modern)

    def save_table(self, path: str | Path, *, version: str | None = None) -> None:
        """Write a compact table: names, types, defaults, choices, order, outputs; no prose.

        The same schemas give the same bytes. Choices that depend on the machine are left out. Written to a temporary
        file first, so that a full disk leaves the old table.
        """
        path = Path(path)
        text = self.table_text(version=version)
        temporary = path.with_name(path.name + ".part")
        try:
            temporary.write_text(text, encoding="utf-8", newline="\n")
            temporary.replace(path)
        except OSError as error:
            temporary.unlink(missing_ok=True)
            raise SchemaError(f"cannot be written: {error.strerror or error}", file=str(path)) from error

    def table_text(self, *, version: str | None = None) -> str:
        """The text of the table that `save_table` writes: one line for each class and each shared list of choices."""
        shared: dict[str, int] = {}
        lines = []
        for class_type in sorted(self):
            entry = _to_table(self[class_type], shared)
            lines.append(f"{json.dumps(class_type, ensure_ascii=False)}:{_compact(entry)}")
        head = f'"format":{json.dumps(TABLE_FORMAT)},"version":{TABLE_VERSION},'
        head += f'"comfyui":{json.dumps(version or self.version)},"modern":{json.dumps(self.modern)},'
        return "{" + head + '"choices":[\n' + ",\n".join(shared) + '\n],"classes":{\n' + ",\n".join(lines) + "\n}}\n"


class _Chain(Mapping[str, NodeSchema]):
    """Several schemas as one, the first that has a class wins; nothing is parsed before it is asked for."""

    def __init__(self, *parts: NodeSchemas) -> None:
        self._parts = parts

    def __getitem__(self, class_type: str) -> NodeSchema:
        for part in self._parts:
            if class_type in part:
                return part[class_type]
        raise KeyError(class_type)

    def __contains__(self, class_type: object) -> bool:
        return any(class_type in part for part in self._parts)

    def __iter__(self) -> Iterator[str]:
        return iter(dict.fromkeys(name for part in reversed(self._parts) for name in part))

    def __len__(self) -> int:
        return len(set().union(*self._parts))


def builtin_versions() -> tuple[str, ...]:
    """The ComfyUI versions whose schemas ship with this package, oldest first."""
    names = (path.name.removeprefix("comfyui-").removesuffix(".json") for path in TABLES.glob("comfyui-*.json"))
    return tuple(sorted(names, key=lambda name: [int(part) if part.isdigit() else 0 for part in name.split(".")]))


def _read(path: Path) -> bytes:
    with path.open("rb") as file:
        start = file.read(6)
        file.seek(0)
        if start == b"\xfd7zXZ\x00":
            import lzma

            try:
                with lzma.open(file) as unpacked:
                    data = unpacked.read(MAX_BYTES + 1)
            except (lzma.LZMAError, EOFError) as error:
                raise SchemaError(f"is a damaged .xz file: {error}", file=str(path)) from error
        else:
            data = file.read(MAX_BYTES + 1)
    if len(data) > MAX_BYTES:
        raise SchemaError(f"is larger than {MAX_BYTES >> 20} MB", file=str(path))
    return data


def _from_server(class_type: str, raw: Mapping[str, Any]) -> NodeSchema:
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


# ---------------------------------------------------------------------------------------------------- the compact table
#
# {"format", "version", "comfyui", "choices": [[..], ..], "classes": {class: entry}}; entry:
#   "inputs": [[name, type, {options}], ..]   "optional": true in the options of an optional input; "choices": index
#                                             into the shared lists; "open": true for a list that was left out
#   "outputs": [[type, name, {"list": true, "match": group}], ..]
#   and, where they are not the usual: "output_node", "deprecated", "experimental", "api_node", "is_input_list" (true),
#   "title", "category", "module", "hidden": [name, ..]

_FLAGS = ("output_node", "deprecated", "experimental", "api_node", "is_input_list")


def _compact(value: JSON) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


def _without_prose(value: JSON) -> JSON:
    if isinstance(value, dict):
        # Only options are stripped; an input that happens to be called "description" is a list, never a text.
        return {k: _without_prose(v) for k, v in value.items() if not (k in _PROSE and isinstance(v, str | None))}
    if isinstance(value, list):
        return [_without_prose(item) for item in value]
    return value


def _to_table(schema: NodeSchema, shared: dict[str, int]) -> dict[str, JSON]:
    inputs: list[JSON] = []
    for spec in schema.inputs:
        options: dict[str, JSON] = {}
        if not spec.required:
            options["optional"] = True
        if spec.open_choices:
            options["open"] = True
        elif spec.choices is not None and spec.type == "COMBO":
            options["choices"] = shared.setdefault(_compact(list(spec.choices)), len(shared))
        if spec.has_default:
            options["default"] = spec.default
        for key, value in (("min", spec.minimum), ("max", spec.maximum), ("step", spec.step)):
            if value is not None:
                options[key] = value
        if spec.multiline:
            options["multiline"] = True
        for key, value in spec.options.items():
            if (
                not (key in _PROSE and isinstance(value, str))
                and value is not None
                and (key, value) != ("multiselect", False)
            ):
                options[key] = _without_prose(value)
        inputs.append([spec.name, spec.type, options] if options else [spec.name, spec.type])
    outputs: list[JSON] = []
    for output in schema.outputs:
        extra: dict[str, JSON] = {"list": True} if output.is_list else {}
        if output.match is not None:
            extra["match"] = output.match
        outputs.append([output.type, output.name, extra] if extra else [output.type, output.name])
    entry: dict[str, JSON] = {"inputs": inputs, "outputs": outputs}
    entry.update((flag, True) for flag in _FLAGS if getattr(schema, flag))
    texts = (("title", schema.display_name), ("category", schema.category), ("module", schema.python_module))
    entry.update((key, text) for key, text in texts if text)
    if schema.hidden:
        entry["hidden"] = list(schema.hidden)
    return entry


def _from_table(class_type: str, raw: Mapping[str, Any], shared: list[list[JSON]]) -> NodeSchema:
    try:
        outputs = tuple(
            OutputSpec(name=o[1], type=o[0], is_list=bool(extra.get("list")), match=extra.get("match"))
            for o in raw["outputs"]
            for extra in [o[2] if len(o) > 2 else {}]
        )
        masks = bool(outputs) and all(output.type == "MASK" for output in outputs)
        inputs = []
        for name, kind, *rest in raw["inputs"]:
            options = dict(rest[0]) if rest else {}
            required = not options.pop("optional", False)
            if "choices" in options:
                options["options"] = shared[options.pop("choices")]
            inputs.append(parse_input(name, [kind, options], required=required, class_type=class_type, masks=masks))
        return NodeSchema(
            class_type=class_type,
            inputs=tuple(inputs),
            outputs=outputs,
            display_name=raw.get("title", class_type),
            category=raw.get("category", ""),
            python_module=raw.get("module", ""),
            hidden=tuple(raw.get("hidden", ())),
            **{flag: raw.get(flag, False) for flag in _FLAGS},
        )
    except (KeyError, IndexError, TypeError, ValueError) as error:
        raise SchemaError("the table of node schemas is damaged here", class_type=class_type) from error
