"""The interface: the named, typed inputs and outputs that a workflow offers to callers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Self, TypeVar

from .errors import InterfaceError
from .jsontext import JSON, check_json, short
from .prompt import InputRef

MAX_SEED = 2**64 - 1
"""The largest seed a node takes (``control_after_generate`` inputs of ComfyUI's samplers)."""

MAX_NAME = 64
"""Characters of a parameter's or output's name."""


class ParameterType(StrEnum):
    """What a caller sends for a parameter."""

    TEXT = "text"
    INTEGER = "integer"
    NUMBER = "number"
    BOOLEAN = "boolean"
    CHOICE = "choice"  # one of `choices`
    IMAGE = "image"  # a file
    MASK = "mask"  # a file
    VIDEO = "video"  # a file
    AUDIO = "audio"  # a file
    FILE = "file"  # any file

    @property
    def is_file(self) -> bool:
        """Whether callers send a file (an upload) rather than a JSON value."""
        return self in {self.IMAGE, self.MASK, self.VIDEO, self.AUDIO, self.FILE}


class OutputType(StrEnum):
    """What a caller gets for an output."""

    IMAGE = "image"
    VIDEO = "video"
    AUDIO = "audio"
    TEXT = "text"
    FILE = "file"


@dataclass(frozen=True, kw_only=True, slots=True)
class Parameter:
    """One named input of an interface.

    Attributes:
        name: identifier, unique in the interface; the key in a request.
        target: the node and input whose value it replaces (a marker node's value input, or a stock node's widget).
        default: value used where the caller sends none; for files the saved file name. Meaningless if `required`.
        minimum, maximum, step: bounds of integers and numbers, both ends included.
        choices: allowed values of a choice, in the order the editor shows them.
        also: further inputs that take the same value (the seed of a second sampler, the size said twice).
    """

    name: str
    type: ParameterType
    target: InputRef
    default: JSON = None
    required: bool = False
    minimum: int | float | None = None
    maximum: int | float | None = None
    step: int | float | None = None
    choices: tuple[JSON, ...] | None = None
    multiline: bool = False
    description: str = ""
    title: str = ""  # the node's title in the editor
    also: tuple[InputRef, ...] = ()

    @property
    def targets(self) -> tuple[InputRef, ...]:
        """Every input that takes the value."""
        return (self.target, *self.also)

    def to_json(self) -> dict[str, JSON]:
        """The parameter as the interface's JSON has it; what says nothing is left out."""
        result: dict[str, JSON] = {
            "name": self.name,
            "type": self.type.value,
            "node": self.target.node,
            "input": self.target.input,
        }
        if not self.required or self.default is not None:
            result["default"] = self.default
        optional = {
            "required": self.required,
            "minimum": self.minimum,
            "maximum": self.maximum,
            "step": self.step,
            "choices": None if self.choices is None else list(self.choices),
            "multiline": self.multiline,
            "description": self.description,
            "title": self.title,
            "also": [{"node": ref.node, "input": ref.input} for ref in self.also] or None,
        }
        return result | {
            key: value for key, value in optional.items() if value is not None and value is not False and value != ""
        }

    def json_schema(self) -> dict[str, JSON]:
        """What a caller may send, as JSON Schema (2020-12); a file is a string (an upload's id or a URL)."""
        return _parameter_schema(self)


@dataclass(frozen=True, kw_only=True, slots=True)
class Output:
    """One named output of an interface: what `node` produces."""

    name: str
    type: OutputType
    node: str
    description: str = ""
    title: str = ""

    def to_json(self) -> dict[str, JSON]:
        """The output as the interface's JSON has it; what says nothing is left out."""
        result: dict[str, JSON] = {"name": self.name, "type": self.type.value, "node": self.node}
        return result | {k: v for k, v in {"description": self.description, "title": self.title}.items() if v}


class Source(StrEnum):
    """Where an interface was found."""

    MARKERS = "markers"
    APP_MODE = "app mode"
    GRAPH = "graph"


@dataclass(frozen=True, kw_only=True, slots=True)
class Interface:
    """The named, typed inputs and outputs of a workflow, in the order that callers see."""

    parameters: tuple[Parameter, ...] = ()
    outputs: tuple[Output, ...] = ()
    source: Source = Source.GRAPH
    extra: Mapping[str, JSON] = field(default_factory=dict)

    def parameter(self, name: str) -> Parameter | None:
        """The parameter of that name; None where there is none."""
        return next((p for p in self.parameters if p.name == name), None)

    def output(self, name: str) -> Output | None:
        """The output of that name; None where there is none."""
        return next((o for o in self.outputs if o.name == name), None)

    def to_json(self) -> dict[str, JSON]:
        """The interface as ``atelier.json`` and ``GET /interface`` hold it; `from_json` of it gives an equal one."""
        return {
            **self.extra,
            "source": self.source.value,
            "parameters": [p.to_json() for p in self.parameters],
            "outputs": [o.to_json() for o in self.outputs],
        }

    @classmethod
    def from_json(cls, value: JSON) -> Self:
        """The interface in ``value``; unknown keys are kept in `extra`.

        Raises:
            InterfaceError: what is missing, of a wrong type or named twice, with the JSON path.
        """
        check_json(value, error=InterfaceError)
        fields = _object(value, "")
        source = _one_of(Source, fields.get("source", Source.GRAPH.value), "source")
        parameters = tuple(_parameter(p, f"parameters[{i}]") for i, p in enumerate(_list(fields, "parameters")))
        outputs = tuple(_output(o, f"outputs[{i}]") for i, o in enumerate(_list(fields, "outputs")))
        extra = {key: item for key, item in fields.items() if key not in {"source", "parameters", "outputs"}}
        interface = cls(parameters=parameters, outputs=outputs, source=source, extra=extra)
        interface.validate()
        return interface

    def validate(self) -> None:
        """Raise `InterfaceError` where names are no identifiers or not unique, bounds cross, or choices are missing."""
        for kind, items in (("parameter", self.parameters), ("output", self.outputs)):
            seen: set[str] = set()
            for item in items:
                if not is_name(item.name):
                    raise InterfaceError(
                        f"{kind} name {short(item.name)} is no identifier",
                        remedy="use letters, digits and underscores, a letter first",
                    )
                if item.name in seen:
                    raise InterfaceError(f"two {kind}s are named {item.name!r}", remedy="rename one of them")
                seen.add(item.name)
        for parameter in self.parameters:
            _check_parameter(parameter)

    def json_schema(self) -> dict[str, JSON]:
        """What a caller may send, as JSON Schema (2020-12): one property for each parameter, in order."""
        return {
            "type": "object",
            "properties": {p.name: p.json_schema() for p in self.parameters},
            "required": [p.name for p in self.parameters if p.required],
            "additionalProperties": False,
        }


def is_name(name: str) -> bool:
    """Whether ``name`` may name a parameter or an output.

    A Python identifier of at most 64 characters that does not start with an underscore (pydantic's fields must not).
    """
    return name.isidentifier() and len(name) <= MAX_NAME and not name.startswith("_")


def _check_parameter(parameter: Parameter) -> None:
    low, high = parameter.minimum, parameter.maximum
    if low is not None and high is not None and low > high:
        raise InterfaceError(f"parameter {parameter.name!r}: its minimum {low} is above its maximum {high}")
    if parameter.type is ParameterType.CHOICE and parameter.choices is None:
        raise InterfaceError(f"parameter {parameter.name!r} is a choice without choices")


def _parameter_schema(parameter: Parameter) -> dict[str, JSON]:
    schema: dict[str, JSON] = {}
    match parameter.type:
        case ParameterType.INTEGER | ParameterType.NUMBER | ParameterType.BOOLEAN:
            schema["type"] = parameter.type.value
        case ParameterType.CHOICE:
            schema["enum"] = list(parameter.choices or ())
        case ParameterType.TEXT:
            schema["type"] = "string"
        case _:
            schema |= {"type": "string", "format": "binary"}
    for key, bound in (("minimum", parameter.minimum), ("maximum", parameter.maximum)):
        if bound is not None:
            schema[key] = bound
    if not parameter.required and not parameter.type.is_file:
        schema["default"] = parameter.default
    if parameter.title:
        schema["title"] = parameter.title
    if parameter.description:
        schema["description"] = parameter.description
    return schema


def _parameter(value: JSON, path: str) -> Parameter:
    fields = _object(value, path)
    choices = fields.get("choices")
    if choices is not None and not isinstance(choices, list):
        raise InterfaceError("must be a list", path=f"{path}.choices")
    bounds: dict[str, int | float | None] = {}
    for key in ("minimum", "maximum", "step"):
        bound = fields.get(key)
        if bound is not None and (isinstance(bound, bool) or not isinstance(bound, int | float)):
            raise InterfaceError("must be a number", path=f"{path}.{key}")
        bounds[key] = bound
    return Parameter(
        name=_text(fields, "name", path),
        type=_one_of(ParameterType, fields.get("type"), f"{path}.type"),
        target=InputRef(_text(fields, "node", path), _text(fields, "input", path)),
        default=fields.get("default"),
        required=_flag(fields, "required", path),
        choices=None if choices is None else tuple(choices),
        multiline=_flag(fields, "multiline", path),
        description=_text(fields, "description", path, ""),
        title=_text(fields, "title", path, ""),
        also=tuple(_ref(item, f"{path}.also[{i}]") for i, item in enumerate(_list(fields, "also", path))),
        **bounds,
    )


def _output(value: JSON, path: str) -> Output:
    fields = _object(value, path)
    return Output(
        name=_text(fields, "name", path),
        type=_one_of(OutputType, fields.get("type"), f"{path}.type"),
        node=_text(fields, "node", path),
        description=_text(fields, "description", path, ""),
        title=_text(fields, "title", path, ""),
    )


def _object(value: JSON, path: str) -> dict[str, JSON]:
    if not isinstance(value, dict):
        raise InterfaceError(f"must be an object, not {short(value)}", path=path or None)
    return value


def _ref(value: JSON, path: str) -> InputRef:
    fields = _object(value, path)
    return InputRef(_text(fields, "node", path), _text(fields, "input", path))


def _list(fields: Mapping[str, JSON], key: str, path: str = "") -> list[JSON]:
    value = fields.get(key, [])
    if not isinstance(value, list):
        raise InterfaceError(f"must be a list, not {short(value)}", path=f"{path}.{key}".removeprefix("."))
    return value


def _text(fields: Mapping[str, JSON], key: str, path: str, default: str | None = None) -> str:
    value = fields.get(key, default)
    if not isinstance(value, str):
        raise InterfaceError(
            "is missing" if value is None else f"must be text, not {short(value)}", path=f"{path}.{key}"
        )
    return value


def _flag(fields: Mapping[str, JSON], key: str, path: str) -> bool:
    value = fields.get(key, False)
    if not isinstance(value, bool):
        raise InterfaceError(f"must be true or false, not {short(value)}", path=f"{path}.{key}")
    return value


E = TypeVar("E", bound=StrEnum)


def _one_of(kind: type[E], value: JSON, path: str) -> E:
    try:
        return kind(value)
    except ValueError:
        known = ", ".join(kind)
        raise InterfaceError(f"{short(value)} is none of {known}", path=path) from None
