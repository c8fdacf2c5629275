"""Inputs that a node grows by what it is given: combos with inputs of their own, growing lists, slots that unfold.

Source: ComfyUI ``comfy_api/latest/_io.py`` (``get_finalized_class_inputs`` and the ``_expand_schema_for_dynamic`` of
each dynamic type). A part of a dynamic input is named with dots: ``model.resolution``.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace

from .jsontext import JSON
from .prompt import Link
from .schemas import InputSpec, NodeSchema, parse_input

AUTOGROW = "COMFY_AUTOGROW_V3"
COMBO = "COMFY_DYNAMICCOMBO_V3"
SLOT = "COMFY_DYNAMICSLOT_V3"

MAX_GROWN = 1000
"""Inputs that one growing list may have; ComfyUI's own limit is 100."""


def live_inputs(schema: NodeSchema, inputs: Mapping[str, Link | JSON]) -> dict[str, InputSpec]:
    """The inputs that a server checks for a node with these ``inputs``, by full name, in the schema's order.

    A dynamic combo is there once it has one of its keys, with the inputs of that key; a growing list stands for its
    members, the first of them required. A dynamic combo that is absent is not missed, as in ComfyUI.
    """
    return {spec.name: spec for top in schema.inputs for spec in _expanded(top, top.name, inputs)}


def _expanded(spec: InputSpec, name: str, inputs: Mapping[str, Link | JSON]) -> Iterator[InputSpec]:
    if spec.type == AUTOGROW:
        yield from _grown(spec, name)
    elif spec.type == COMBO:
        if name in inputs:
            yield replace(spec, name=name)
            yield from _nested(_option(spec, inputs[name]), name, inputs)
    elif spec.type == SLOT:
        if name in inputs:
            yield replace(spec, name=name, type=str(spec.options.get("slotType", "*")), required=False)
            yield from _nested(spec.options.get("inputs"), name, inputs)
    else:
        yield spec if spec.name == name else replace(spec, name=name)


def _nested(sections: JSON, prefix: str, inputs: Mapping[str, Link | JSON]) -> Iterator[InputSpec]:
    """The inputs in ``{"required": {...}, "optional": {...}}``, named below ``prefix``."""
    for section in ("required", "optional"):
        specs = sections.get(section) if isinstance(sections, Mapping) else None
        for inner, raw in specs.items() if isinstance(specs, Mapping) else ():
            spec = parse_input(inner, raw, required=section == "required")
            yield from _expanded(spec, f"{prefix}.{inner}", inputs)


def _option(spec: InputSpec, key: Link | JSON) -> JSON:
    listed = spec.options.get("options")
    for option in listed if isinstance(listed, list) else ():
        if isinstance(option, Mapping) and option.get("key") == key:
            return option.get("inputs")
    return None


def _grown(spec: InputSpec, prefix: str) -> Iterator[InputSpec]:
    template = spec.options.get("template")
    if not isinstance(template, Mapping):
        return
    least = template.get("min", 0)
    for section, specs in _sections(template.get("input")):
        raw = next(iter(specs.values()))
        for index, name in enumerate(_grown_names(template)):
            required = section == "required" and isinstance(least, int) and index < least
            yield parse_input(f"{prefix}.{name}", raw, required=required)
        return  # one input is the template


def _sections(value: JSON) -> Iterator[tuple[str, Mapping[str, JSON]]]:
    for section, specs in value.items() if isinstance(value, Mapping) else ():
        if isinstance(specs, Mapping) and specs:
            yield section, specs


def _grown_names(template: Mapping[str, JSON]) -> list[str]:
    names = template.get("names")
    if isinstance(names, list):
        return [str(name) for name in names[:MAX_GROWN]]
    most = template.get("max", 0)
    return [f"{template.get('prefix', '')}{i}" for i in range(min(most, MAX_GROWN) if isinstance(most, int) else 0)]
