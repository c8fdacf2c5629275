"""A parameter for an input of a node: its type, bounds, choices and default, from the schema and the file."""

from __future__ import annotations

from collections.abc import Mapping

from .dynamic import COMBO as DYNAMIC_COMBO
from .files import file_kind, file_name_fault
from .interface import Parameter, ParameterType
from .jsontext import JSON
from .prompt import InputRef, Link
from .schemas import InputSpec
from .tracing import Trace, custom_title

_TYPES: Mapping[str, ParameterType] = {
    "STRING": ParameterType.TEXT,
    "INT": ParameterType.INTEGER,
    "FLOAT": ParameterType.NUMBER,
    "BOOLEAN": ParameterType.BOOLEAN,
}


def parameter_for(
    trace: Trace, ref: InputRef, name: str, *, also: tuple[InputRef, ...] = (), decides: InputRef | None = None
) -> Parameter | None:
    """The parameter that sets ``ref``; None where the input is wired, absent, or of a type that no caller can send.

    ``decides`` is the input that a value node decides: its bounds hold where they are narrower.
    """
    node = trace.prompt.nodes[ref.node]
    if ref.input not in node.inputs or isinstance(node.inputs[ref.input], Link):
        return None
    value = trace.value(ref)
    spec = trace.spec(ref)
    kind = parameter_type(trace, ref, value)
    if kind is None:
        return None
    number = kind in {ParameterType.INTEGER, ParameterType.NUMBER}
    decided = trace.spec(decides) if decides and decides != ref else None
    low, high = _bounds(spec, decided if decided and _TYPES.get(decided.type) is kind else None)
    mask = kind is ParameterType.IMAGE and _mask_used(trace, ref.node)
    return Parameter(
        name=name,
        type=kind,
        target=ref,
        default=None if kind.is_file and file_name_fault(value) else _default(kind, value),
        required=kind.is_file,
        minimum=low if number else None,
        maximum=high if number else None,
        step=spec.step if spec and number else None,
        choices=_choices(spec, node.inputs, ref.input) if spec and kind is ParameterType.CHOICE else None,
        multiline=bool(spec and spec.multiline and kind is ParameterType.TEXT),
        description="Its transparent parts are the mask." if mask else "",
        title=custom_title(trace.prompt, trace.schemas, ref.node),
        also=also,
    )


def parameter_type(trace: Trace, ref: InputRef, value: JSON) -> ParameterType | None:
    """What a caller sends for an input; None where its type is none that JSON or a file can be."""
    node = trace.prompt.nodes[ref.node]
    kind = file_kind(node, ref.input, trace.schemas)
    if kind is not None:
        if not isinstance(value, str):
            return None
        only_mask = kind == "image" and _only_mask(trace, ref.node)
        return ParameterType.MASK if only_mask else ParameterType(kind)
    spec = trace.spec(ref)
    if spec is not None:
        if spec.type in _TYPES:
            return _TYPES[spec.type]
        if spec.type in {"COMBO", DYNAMIC_COMBO}:
            fixed = spec.choices and not spec.open_choices
            return ParameterType.CHOICE if fixed else _type_of(value)
    return _type_of(value)


def _type_of(value: JSON) -> ParameterType | None:
    if isinstance(value, bool):
        return ParameterType.BOOLEAN
    if isinstance(value, int):
        return ParameterType.INTEGER
    if isinstance(value, float):
        return ParameterType.NUMBER
    return ParameterType.TEXT if isinstance(value, str) else None


def _default(kind: ParameterType, value: JSON) -> JSON:
    """The saved value as callers see it: numbers that the file has as text become numbers."""
    try:
        if kind is ParameterType.INTEGER:
            return int(value)
        if kind is ParameterType.NUMBER:
            return float(value)
    except (TypeError, ValueError, OverflowError):
        return value
    return value


def _bounds(*specs: InputSpec | None) -> tuple[int | float | None, int | float | None]:
    lows = [spec.minimum for spec in specs if spec and spec.minimum is not None]
    highs = [spec.maximum for spec in specs if spec and spec.maximum is not None]
    return max(lows, default=None), min(highs, default=None)


def _choices(spec: InputSpec, inputs: Mapping[str, Link | JSON], name: str) -> tuple[JSON, ...]:
    """A combo's choices; of a dynamic one those whose own required inputs the prompt already has."""
    choices = spec.choices or ()
    listed = spec.options.get("options")
    if spec.type != DYNAMIC_COMBO or not isinstance(listed, list):
        return choices
    ready = []
    for option in listed:
        nested = option.get("inputs") if isinstance(option, Mapping) else None
        needed = nested.get("required") if isinstance(nested, Mapping) else None
        if all(f"{name}.{inner}" in inputs for inner in needed or ()):
            ready.append(option.get("key"))
    return tuple(choice for choice in choices if choice in ready) or choices


def _only_mask(trace: Trace, node_id: str) -> bool:
    """Whether only the mask of a loaded picture is used."""
    return {slot for _, slot in trace.consumers.get(node_id, ())} == {1}


def _mask_used(trace: Trace, node_id: str) -> bool:
    """Whether a loaded picture's mask is used beside it."""
    loads = trace.prompt.nodes[node_id].class_type == "LoadImage"
    return loads and {0, 1} <= {slot for _, slot in trace.consumers.get(node_id, ())}
