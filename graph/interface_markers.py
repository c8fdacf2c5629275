"""The interface that marker nodes declare: ours, comfy-pack's and ComfyUI-Deploy's.

For comfy-pack's markers, names, types, defaults, bounds and what is required equal what comfy-pack 0.4.4's
``generate_input_model`` reads from the same prompt.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Mapping
from dataclasses import replace

from .interface import Output, OutputType, Parameter, ParameterType
from .interface_names import Names, identifier
from .jsontext import JSON
from .markers import INPUT_MARKERS, OUTPUT_MARKERS, InputMarker, Maker, marker_value_input
from .prompt import InputRef, Link, Prompt, PromptNode
from .schemas import InputSpec, NodeSchemas

DEPLOY_SEED_MAXIMUM = 4294967295
"""Default of ``max_value`` in ComfyUI-Deploy's ``external_seed.py``."""


def marker_parameters(prompt: Prompt, schemas: NodeSchemas) -> tuple[Parameter, ...]:
    """One parameter for each input marker, in the order of the file."""
    names = Names()
    fed = _first_consumers(prompt)
    found = []
    for node_id, node in prompt.nodes.items():
        marker = INPUT_MARKERS.get(node.class_type)
        if marker is None or (marker.maker is Maker.COMFY_PACK and not node.inputs):
            continue
        consumer = fed.get(node_id)
        wanted = _wanted_name(node, marker, consumer)
        if marker.maker is Maker.COMFY_PACK:  # a clash takes the id, as comfy-pack does it
            name = names.take(wanted, node_id=node_id)
        else:
            name = names.take(wanted, title=node.title or "", node_id=node_id)
        found.append(_parameter(name, node_id, node, marker, _is_multiline(prompt, schemas, consumer)))
    return tuple(found)


def marker_outputs(prompt: Prompt) -> tuple[Output, ...]:
    """One output for each output marker, in the order of the file; a zip of pictures and text gives two."""
    names = Names()
    found = []
    for node_id, node in prompt.nodes.items():
        marker = OUTPUT_MARKERS.get(node.class_type)
        if marker is None or not node.inputs:
            continue
        if marker.maker is Maker.COMFY_PACK:
            wanted = _comfy_pack_name(node, None)
        else:
            told = node.inputs.get("name" if marker.maker is Maker.ATELIER else "output_id")
            wanted = identifier(told, marker.type.value) if isinstance(told, str) else marker.type.value
        name = names.take(wanted, node_id=node_id)
        title, description = node.title or "", _said(node.inputs.get("description"))
        found.append(Output(name=name, type=marker.type, node=node_id, description=description, title=title))
        if node.class_type == "CPackOutputZip" and isinstance(node.inputs.get("text"), Link):
            found.append(
                Output(name=names.take(f"{name}_text"), type=OutputType.TEXT, node=zip_text_node(node_id), title=title)
            )
    return tuple(found)


def with_widget_options(prompt: Prompt, schemas: NodeSchemas) -> Prompt:
    """The prompt with what comfy-pack's front end notes beside its "any" inputs: the options of the widget each feeds.

    A prompt that comes from the editor has them already; one that was converted has not, and comfy-pack (and
    `find_interface`) would know neither choices nor bounds.
    """
    fed = _first_consumers(prompt)
    nodes = dict(prompt.nodes)
    for node_id, node in prompt.nodes.items():
        consumer = fed.get(node_id)
        if node.class_type != "CPackInputAny" or "options" in node.meta or consumer is None:
            continue
        schema = schemas.get(prompt.nodes[consumer.node].class_type)
        spec = schema.input(consumer.input) if schema else None
        options = _widget_options(spec) if spec else None
        if options:
            nodes[node_id] = replace(node, meta={**node.meta, "options": options})
    return Prompt(nodes=nodes)


def _widget_options(spec: InputSpec) -> dict[str, JSON] | None:
    """A widget's options as the front end keeps them (``step`` ten times the schema's)."""
    if spec.type == "COMBO" and spec.choices and not spec.open_choices:
        return {"values": list(spec.choices)}
    if spec.type not in {"INT", "FLOAT"}:
        return None
    step = spec.step or (1 if spec.type == "INT" else 0.5)
    options: dict[str, JSON] = {"step": step * 10, "step2": step, "precision": 0 if spec.type == "INT" else 3}
    options |= {"min": spec.minimum} if spec.minimum is not None else {}
    options |= {"max": spec.maximum} if spec.maximum is not None else {}
    # comfy-pack takes a number that rounds to whole ones for an integer, so a float always rounds to less.
    return options | ({"round": 1} if spec.type == "INT" else {"round": min(step, 0.001)})


def zip_text_node(node_id: str) -> str:
    """The id of the node that gives out the text of comfy-pack's zip output, once the prompt is bound."""
    return f"{node_id}:text"


def _parameter(name: str, node_id: str, node: PromptNode, marker: InputMarker, multiline: bool) -> Parameter:
    held = marker_value_input(node)
    value = node.inputs.get(held)
    wired = isinstance(value, Link) or (marker.wired_default is not None and marker.wired_default in node.inputs)
    base = Parameter(
        name=name,
        type=marker.type or ParameterType.TEXT,
        target=InputRef(node_id, held),
        default=None if isinstance(value, Link) else _unwrapped(value),
        multiline=multiline and marker.type is ParameterType.TEXT,
        title=node.title or "",
    )
    match marker.maker:
        case Maker.COMFY_PACK:
            return _comfy_pack(base, node)
        case Maker.ATELIER:
            return _ours(base, node)
        case Maker.DEPLOY:
            return _deploy(base, node, wired=wired)


def _ours(base: Parameter, node: PromptNode) -> Parameter:
    inputs = node.inputs
    described = replace(base, description=_said(inputs.get("description")))
    match base.type:
        case ParameterType.TEXT:
            return replace(described, multiline=inputs.get("multiline") is True)
        case ParameterType.INTEGER | ParameterType.NUMBER:
            return replace(
                described,
                minimum=_number(inputs.get("minimum")),
                maximum=_number(inputs.get("maximum")),
                step=_number(inputs.get("step")),
            )
        case ParameterType.CHOICE:
            listed = inputs.get("choices")
            lines = (
                tuple(dict.fromkeys(line.strip() for line in listed.splitlines() if line.strip()))
                if isinstance(listed, str)
                else ()
            )
            return replace(described, choices=lines or (base.default,))
        case ParameterType.IMAGE | ParameterType.MASK | ParameterType.FILE:
            return replace(described, required=inputs.get("required", True) is True, default=base.default or None)
    return described


def _comfy_pack(base: Parameter, node: PromptNode) -> Parameter:
    if base.type.is_file:
        return replace(base, required=True, default=base.default or None)
    if node.class_type == "CPackInputInt":
        low, high = _number(node.inputs.get("min")), _number(node.inputs.get("max"))
        return replace(
            base,
            minimum=None if low == -sys.maxsize else low,
            maximum=None if high == sys.maxsize else high,
        )
    if node.class_type != "CPackInputAny":
        return base
    options = node.meta.get("options")
    if isinstance(options, Mapping) and options:
        values = options.get("values")
        if isinstance(values, list) and values:
            return replace(base, type=ParameterType.CHOICE, choices=tuple(values))
        if any(key in options for key in ("min", "max", "round", "precision", "step")):
            return _comfy_pack_number(base, options)
    return replace(base, type=_type_of(base.default))


def _comfy_pack_number(base: Parameter, options: Mapping[str, JSON]) -> Parameter:
    """A number by its widget's options: a float where it rounds to less than 1. Integer bounds beyond 63 bits go."""
    rounding = options.get("round", 1)
    low, high = _number(options.get("min")), _number(options.get("max"))
    if isinstance(rounding, int | float) and rounding < 1:
        return replace(base, type=ParameterType.NUMBER, minimum=low, maximum=high, step=_number(options.get("step2")))
    return replace(
        base,
        type=ParameterType.INTEGER,
        minimum=None if low is None or low < -sys.maxsize else low,
        maximum=None if high is None or high > sys.maxsize else high,
    )


def _deploy(base: Parameter, node: PromptNode, *, wired: bool) -> Parameter:
    inputs = node.inputs
    result = replace(
        base, description=_said(inputs.get("description")), title=_said(inputs.get("display_name")) or base.title
    )
    if base.type.is_file:
        # A saved URL is none of our files: whoever calls sends one. A wired default stands in for a missing file.
        local = isinstance(base.default, str) and base.default and not base.default.startswith(("http", "data:", "["))
        return replace(result, required=not wired and not local, default=base.default if local else None)
    low, high = _number(inputs.get("min_value")), _number(inputs.get("max_value"))
    if node.class_type == "ComfyUIDeployExternalSeed":
        low, high = 1 if low is None else max(1, low), DEPLOY_SEED_MAXIMUM if high is None else high
        fixed = isinstance(base.default, int) and low <= base.default <= high
        return replace(result, minimum=low, maximum=high, default=base.default if fixed else None)
    if base.type is ParameterType.CHOICE:
        choices = _deploy_choices(inputs.get("options"))
        return replace(result, choices=choices) if choices else replace(result, type=ParameterType.TEXT)
    if "Slider" in node.class_type:
        return replace(result, minimum=low, maximum=high)
    return result


def _deploy_choices(listed: JSON) -> tuple[JSON, ...]:
    """ComfyUI-Deploy's ``options``: a JSON list, or one choice a line (or between commas)."""
    if not isinstance(listed, str) or not listed.strip():
        return ()
    try:
        parsed = json.loads(listed)
    except (ValueError, RecursionError):
        parsed = None
    if isinstance(parsed, list):
        return tuple(str(choice) for choice in parsed)
    return tuple(dict.fromkeys(part.strip() for part in re.split(r"[\n,]", listed) if part.strip()))


def _wanted_name(node: PromptNode, marker: InputMarker, consumer: InputRef | None) -> str:
    match marker.maker:
        case Maker.COMFY_PACK:
            return _comfy_pack_name(node, consumer)
        case Maker.ATELIER:
            told = node.inputs.get("name")
        case Maker.DEPLOY:
            told = node.inputs.get("input_id")
    fallback = (marker.type or ParameterType.TEXT).value
    if isinstance(told, str) and told.strip():
        return identifier(told, fallback)
    return identifier(consumer.input, fallback) if consumer else fallback


def _comfy_pack_name(node: PromptNode, consumer: InputRef | None) -> str:
    """As comfy-pack names it: the title where it is an identifier, else the fed input's name, else the title.

    Only a name that could be no field of a pydantic model (``4k_width``, ``_``) comes out as another one.
    """
    title = node.title or ""
    if title.isidentifier():
        return title
    if consumer is not None:
        return _comfy_pack_normal(consumer.input)
    # comfy-pack strips these letters, not these words, from the class name; its names are kept as they come out.
    return _comfy_pack_normal(title or node.class_type.lstrip("CPack").lstrip("Input"))


def _comfy_pack_normal(text: str) -> str:
    name = re.sub(r"[^a-zA-Z0-9_]", "_", text)
    if name and name[0].isdigit():
        name = "_" + name
    name = re.sub(r"_+", "_", name).strip("_").lower() or "_"
    # "_4k" loses its underscore again there and is no identifier any more: the one place where our name differs.
    return f"value_{name}" if name[0].isdigit() else name


def _first_consumers(prompt: Prompt) -> dict[str, InputRef]:
    """For each node the input that its slot 0 feeds; the last in the file where there are several, as in comfy-pack."""
    return {
        link.node: InputRef(node_id, name)
        for node_id, node in prompt.nodes.items()
        for name, link in node.links
        if link.slot == 0
    }


def _is_multiline(prompt: Prompt, schemas: NodeSchemas, consumer: InputRef | None) -> bool:
    if consumer is None:
        return False
    schema = schemas.get(prompt.nodes[consumer.node].class_type)
    spec = schema.input(consumer.input) if schema else None
    return spec is not None and spec.multiline


def _type_of(value: JSON) -> ParameterType:
    if isinstance(value, bool):
        return ParameterType.BOOLEAN
    if isinstance(value, int):
        return ParameterType.INTEGER
    return ParameterType.NUMBER if isinstance(value, float) else ParameterType.TEXT


def _unwrapped(value: JSON) -> JSON:
    return value["__value__"] if isinstance(value, dict) and "__value__" in value else value


def _number(value: JSON) -> int | float | None:
    return value if isinstance(value, int | float) and not isinstance(value, bool) else None


def _said(value: JSON) -> str:
    return value.strip() if isinstance(value, str) else ""
