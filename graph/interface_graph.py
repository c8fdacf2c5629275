"""The interface that a prompt shows without being marked: prompts, seeds, sizes, pictures in, files out."""

from __future__ import annotations

from .interface import Output, OutputType, Parameter, ParameterType
from .interface_names import Names
from .prompt import InputRef, Prompt
from .schemas import NodeSchemas

_SAVED: dict[str, OutputType] = {
    "IMAGE": OutputType.IMAGE,
    "VIDEO": OutputType.VIDEO,
    "AUDIO": OutputType.AUDIO,
    "STRING": OutputType.TEXT,
}


def graph_parameters(prompt: Prompt, schemas: NodeSchemas) -> tuple[Parameter, ...]:
    """The parameters that a person would expect, in the order: texts, files, numbers."""
    names = Names()
    found = []
    for node_id, node in prompt.nodes.items():
        schema = schemas.get(node.class_type)
        for name, value in node.inputs.items():
            spec = schema.input(name) if schema else None
            if spec is None or not isinstance(value, str | int | float) or spec.upload is None:
                continue
            kind = ParameterType(spec.upload)
            found.append(
                Parameter(
                    name=names.take(kind.value, title=node.title or "", node_id=node_id),
                    type=kind,
                    target=InputRef(node_id, name),
                    default=value,
                    required=True,
                    title=node.title or "",
                )
            )
    return tuple(found)


def graph_outputs(prompt: Prompt, schemas: NodeSchemas) -> tuple[Output, ...]:
    """What output nodes save or show, in the order of the file."""
    names = Names()
    found = []
    for node_id, node in prompt.nodes.items():
        schema = schemas.get(node.class_type)
        if schema is None or not schema.output_node:
            continue
        wired = [spec.type for spec in schema.inputs if spec.type in _SAVED and spec.name in node.inputs]
        kind = _SAVED[wired[0]] if wired else OutputType.FILE
        name = names.take(kind.value, title=node.title or "", node_id=node_id)
        found.append(Output(name=name, type=kind, node=node_id, title=node.title or ""))
    return tuple(found)
