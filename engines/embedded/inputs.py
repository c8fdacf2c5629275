"""A prompt's inputs as the node functions take them: defaults filled in, values in their types, dynamic inputs grouped.

Source: ComfyUI 0.33.0 ``execution.py`` (``validate_inputs`` converts, ``get_input_data`` leaves unknown inputs out) and
``comfy_api/latest/_io.py`` (``build_nested_inputs``).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from ...graph.dynamic import AUTOGROW, COMBO, live_inputs
from ...graph.prompt import Link, Prompt, PromptNode
from ...graph.schemas import InputSpec, NodeSchema, NodeSchemas

_CONVERSIONS: Mapping[str, Callable[[Any], Any]] = {"INT": int, "FLOAT": float, "STRING": str, "BOOLEAN": bool}
_TAKES_ANYTHING = frozenset({"CustomCombo"})  # its further widgets are the editor's own


def with_defaults(prompt: Prompt, schemas: NodeSchemas) -> Prompt:
    """The prompt with the required values that an older one lacks, as their node's schema has them.

    A list of choices that states no default begins with it, as in the editor.
    """
    return Prompt(nodes={name: _filled(node, schemas) for name, node in prompt.nodes.items()})


def _filled(node: PromptNode, schemas: NodeSchemas) -> PromptNode:
    schema = schemas.get(node.class_type)
    if schema is None:
        return node
    missing = missing_values(schema.inputs, node.inputs)
    if any(spec.type == COMBO for spec in schema.inputs):
        inputs = {**node.inputs, **missing}
        missing.update(missing_values(tuple(live_inputs(schema, inputs).values()), inputs))
    return replace(node, inputs={**node.inputs, **missing}) if missing else node


def missing_values(specs: tuple[InputSpec, ...], inputs: Mapping[str, Any]) -> dict[str, Any]:
    """The required values that `inputs` lacks, as these inputs state them."""
    missing: dict[str, Any] = {}
    for spec in specs:
        if spec.name in inputs or not spec.required or not spec.is_widget:
            continue
        if spec.has_default:
            missing[spec.name] = spec.default
        elif spec.choices and not spec.open_choices:
            missing[spec.name] = spec.choices[0]
    return missing


@dataclass(frozen=True, kw_only=True, slots=True)
class Prepared:
    """A node ready to run.

    Attributes:
        node: its inputs in their types, those left out that its class does not have.
        groups: for parts of dynamic inputs (by full name) the path in the function's arguments.
    """

    node: PromptNode
    groups: Mapping[str, tuple[str, ...]]


def prepare(node: PromptNode, schema: NodeSchema) -> Prepared:
    """Convert a checked node's values; raises what `graph.check_prompt` has ruled out."""
    known = live_inputs(schema, node.inputs)
    dynamic = {spec.name: spec.type for spec in schema.inputs if spec.type in (AUTOGROW, COMBO)}
    inputs: dict[str, Any] = {}
    groups: dict[str, tuple[str, ...]] = {}
    for name, spec in known.items():  # the schema's order, which growing lists are read in
        if name not in node.inputs:
            continue
        value = node.inputs[name]
        inputs[name] = value if isinstance(value, Link) else _converted(value, spec)
        path = tuple(name.split("."))
        if path[0] in dynamic:  # a choice lies beside the inputs that it brings, also one within another
            groups[name] = (*path, path[-1]) if len(path) == 1 or spec.type == COMBO else path
    for name, kind in dynamic.items():
        if kind == AUTOGROW:
            groups.setdefault(name, (name,))  # a list that nothing has grown is there, and empty
    if schema.class_type in _TAKES_ANYTHING:
        inputs = {**node.inputs, **inputs}
    return Prepared(node=replace(node, inputs=inputs), groups=groups)


def _converted(value: Any, spec: InputSpec) -> Any:
    if isinstance(value, Mapping) and "__value__" in value:
        value = value["__value__"]
    convert = _CONVERSIONS.get(spec.type)
    return value if convert is None or value is None else convert(value)


def grouped(arguments: Mapping[str, Any], groups: Mapping[str, tuple[str, ...]]) -> dict[str, Any]:
    """The arguments of one call, the parts of dynamic inputs put together: ``images.image0`` goes into ``images``."""
    if not groups:
        return dict(arguments)
    nested: dict[str, Any] = {}
    for name, path in groups.items():
        if name not in arguments:
            nested.setdefault(path[0], {})
            continue
        place = nested
        for step in path[:-1]:
            place = place.setdefault(step, {})
        place[path[-1]] = arguments[name]
    plain = {name: value for name, value in arguments.items() if name not in groups}
    return {**plain, **nested}
