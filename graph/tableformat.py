"""Tables of node schemas: the compact file that ships with the package, and that `atelier schemas save` writes.

One line for each class, sorted, so that two versions compare well and the same schemas give the same bytes. Prose
(tooltips, descriptions) is left out, and so are lists of choices that depend on a machine's files.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from .errors import SchemaError
from .jsontext import JSON
from .nodeschema import NodeSchema, OutputSpec, parse_input

TABLE_FORMAT = "comfy-atelier node schemas"
TABLE_VERSION = 1
_PROSE = frozenset({"tooltip", "description", "placeholder", "display_name"})

#
# {"format", "version", "comfyui", "choices": [[..], ..], "classes": {class: entry}}; entry:
#   "inputs": [[name, type, {options}], ..]   "optional": true in the options of an optional input; "choices": index
#                                             into the shared lists; "open": true for a list that was left out
#   "outputs": [[type, name, {"list": true, "match": group}], ..]
#   and, where they are not the usual: "output_node", "deprecated", "experimental", "api_node", "is_input_list" (true),
#   "title", "category", "module", "hidden": [name, ..]

_FLAGS = ("output_node", "deprecated", "experimental", "api_node", "is_input_list")


def compact(value: JSON) -> str:
    """JSON on one line, as it stands in a table."""
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


def _without_prose(value: JSON) -> JSON:
    if isinstance(value, dict):
        # Only options are stripped; an input that happens to be called "description" is a list, never a text.
        return {k: _without_prose(v) for k, v in value.items() if not (k in _PROSE and isinstance(v, str | None))}
    if isinstance(value, list):
        return [_without_prose(item) for item in value]
    return value


def to_table(schema: NodeSchema, shared: dict[str, int]) -> dict[str, JSON]:
    """A class as its line in a table; `shared` collects the lists of choices with their numbers."""
    inputs: list[JSON] = []
    for spec in schema.inputs:
        options: dict[str, JSON] = {}
        if not spec.required:
            options["optional"] = True
        if spec.open_choices:
            options["open"] = True
        elif spec.choices is not None and spec.type == "COMBO":
            options["choices"] = shared.setdefault(compact(list(spec.choices)), len(shared))
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


def from_table(class_type: str, raw: Mapping[str, Any], shared: list[list[JSON]]) -> NodeSchema:
    """A class from its line in a table; `SchemaError` where that is damaged."""
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
