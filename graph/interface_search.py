"""Find the interface of a prompt, from the first source that has one: marker nodes, App Mode, the graph itself."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from .interface import Interface, Source
from .interface_appmode import app_mode_interface
from .interface_graph import graph_outputs, graph_parameters
from .interface_markers import marker_outputs, marker_parameters
from .markers import INPUT_MARKERS, OUTPUT_MARKERS, SWITCHES
from .prompt import Prompt
from .schemas import NodeSchemas
from .workflow import Workflow


def find_interface(
    prompt: Prompt,
    schemas: NodeSchemas,
    workflow: Workflow | None = None,
    *,
    has_file: Callable[[str], bool] = lambda name: False,
) -> Interface:
    """The named, typed inputs and outputs that the prompt offers.

    Args:
        workflow: where it is known, its App Mode data and titles are read too.
        has_file: whether an input file of that name comes with the prompt; a loaded image that has one is optional,
            with that file as its default.
    """
    classes = {node.class_type for node in prompt.nodes.values()}
    if not classes.isdisjoint(INPUT_MARKERS) or not classes.isdisjoint(OUTPUT_MARKERS):
        interface = Interface(
            parameters=marker_parameters(prompt, schemas),
            outputs=marker_outputs(prompt) or graph_outputs(prompt, schemas),
            source=Source.MARKERS,
            extra={} if classes.isdisjoint(SWITCHES) else {"zip": True},
        )
    else:
        found = app_mode_interface(prompt, schemas, workflow) if workflow is not None else None
        interface = found or Interface(
            parameters=graph_parameters(prompt, schemas),
            outputs=graph_outputs(prompt, schemas),
            source=Source.GRAPH,
        )
    parameters = tuple(
        replace(p, required=False)
        if p.required and interface.source is not Source.MARKERS and isinstance(p.default, str) and has_file(p.default)
        else p
        for p in interface.parameters
    )
    return replace(interface, parameters=parameters)
