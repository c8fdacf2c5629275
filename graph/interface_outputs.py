"""The outputs that a prompt shows without being marked: what its nodes save, or, where none saves, what they show."""

from __future__ import annotations

from .interface import Output, OutputType
from .interface_names import Names
from .prompt import Prompt
from .schemas import NodeSchemas
from .tracing import Trace, custom_title

_TYPES: dict[str, OutputType] = {
    "IMAGE": OutputType.IMAGE,
    "MASK": OutputType.IMAGE,
    "VIDEO": OutputType.VIDEO,
    "AUDIO": OutputType.AUDIO,
    "STRING": OutputType.TEXT,
    "*": OutputType.TEXT,
}
_CLASSES: dict[str, OutputType] = {
    "SaveWEBM": OutputType.VIDEO,
    "SaveAnimatedWEBP": OutputType.IMAGE,
    "SaveSVGNode": OutputType.FILE,
    "SaveGLB": OutputType.FILE,
}


def graph_outputs(prompt: Prompt, schemas: NodeSchemas) -> tuple[Output, ...]:
    """What the prompt gives out, in the order of the file.

    Nodes that save come first; where there are none, those that show a picture, then those that show anything.
    """
    trace = Trace(prompt, schemas)
    nodes = [n for n in prompt.nodes if (schema := trace.schema(n)) is not None and schema.output_node]
    saving = [n for n in nodes if _saves(trace, n)]
    showing = [n for n in nodes if output_type(trace, n) is not OutputType.TEXT]
    ends = {n for n in nodes if n not in trace.consumers}
    names = Names()
    shown = [n for n in showing if n in ends] or [n for n in nodes if n in ends]
    return tuple(output_for(trace, node_id, names) for node_id in saving or shown or nodes)


def output_for(trace: Trace, node_id: str, names: Names) -> Output:
    """The output that a node gives, named by its type, its title, its id."""
    kind = output_type(trace, node_id)
    title = custom_title(trace.prompt, trace.schemas, node_id)
    return Output(name=names.take(kind.value, title=title, node_id=node_id), type=kind, node=node_id, title=title)


def output_type(trace: Trace, node_id: str) -> OutputType:
    """What an output node gives, by its class or by what is wired into it."""
    node = trace.prompt.nodes[node_id]
    known = _CLASSES.get(node.class_type)
    if known is not None:
        return known
    wired = {name for name, _ in node.links}
    for name, spec in trace.inputs(node_id).items():
        if name in wired:
            for kind, result in _TYPES.items():
                if kind in spec.types:
                    return result
    return OutputType.FILE


def _saves(trace: Trace, node_id: str) -> bool:
    """Whether the node writes a file to keep: it takes a file name's beginning, or is a saver by its name."""
    inputs = trace.inputs(node_id)
    return "filename_prefix" in inputs or trace.prompt.nodes[node_id].class_type.startswith("Save")
