"""The interface that App Mode declares: ``extra.linearData``, exactly its inputs and outputs, in its order.

Source of the format: the front end's linear mode. ``linearData`` is ``{"inputs": [[node id, widget, {...}?], ...],
"outputs": [node id, ...]}``. A node id is one of the workflow's nodes, a node inside a subgraph by its own id, by its
path (``"30:5"``) or below its definition (``"<uuid>:5"``), or a subgraph's node, whose widgets are promoted ones. What
is not in the prompt any more (deleted, muted) is left out, as the front end leaves it out.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from .interface import Interface, Output, Parameter, Source
from .interface_fields import parameter_for
from .interface_graph import graph_outputs, graph_parameters, roles
from .interface_names import Names, identifier, title_name
from .interface_outputs import output_for
from .jsontext import JSON
from .prompt import InputRef, Prompt
from .schemas import NodeSchemas
from .tracing import Trace, custom_title, last_part
from .workflow import SUBGRAPH_INPUT, Subgraph, Workflow, WorkflowLink, WorkflowNode

_MAX_HOPS = 100  # reroutes and subgraphs between a primitive and the widgets that it sets


def app_mode_interface(prompt: Prompt, schemas: NodeSchemas, workflow: Workflow) -> Interface | None:
    """The interface of the workflow's App Mode; None where it has none (no data, or nothing of it is left).

    Where only outputs were chosen, or only inputs, the graph tells the rest.
    """
    data = workflow.extra.get("linearData")
    if not isinstance(data, dict):
        return None
    trace = Trace(prompt, schemas)
    parameters = tuple(_parameters(trace, workflow, data.get("inputs")))
    outputs = tuple(_outputs(trace, data.get("outputs")))
    if not parameters and not outputs:
        return None
    return Interface(
        parameters=parameters or graph_parameters(prompt, schemas),
        outputs=outputs or graph_outputs(prompt, schemas),
        source=Source.APP_MODE,
    )


def _parameters(trace: Trace, workflow: Workflow, entries: JSON) -> Iterator[Parameter]:
    names = Names()
    known = {role.ref: role.name for role in roles(trace)}
    seen: set[InputRef] = set()
    for entry in entries if isinstance(entries, list) else ():
        if not isinstance(entry, list) or len(entry) < 2 or not isinstance(entry[1], str):
            continue
        node_id, widget = str(entry[0]), entry[1]
        refs = [ref for ref in _refs(trace.prompt, workflow, node_id, widget) if ref not in seen]
        if not refs:
            continue
        seen.update(refs)
        name = _name(trace, workflow, node_id, widget, refs[0], known)
        title = custom_title(trace.prompt, trace.schemas, refs[0].node)
        parameter = parameter_for(trace, refs[0], name, also=tuple(refs[1:]))
        if parameter is not None:
            yield replace(parameter, name=names.take(name, title=title, node_id=refs[0].node))


def _name(
    trace: Trace, workflow: Workflow, node_id: str, widget: str, ref: InputRef, known: dict[InputRef, str]
) -> str:
    """The widget's label where it was renamed, else its role (``prompt``), else its own name or its node's title."""
    node = next((node for node in workflow.nodes if node.id == node_id), None)
    for slot in node.inputs if node else ():
        label = slot.raw.get("label")
        if slot.widget == widget and isinstance(label, str) and label.strip() and label != widget:
            return title_name(label, identifier(last_part(widget)))
    if ref in known:
        return known[ref]
    own = last_part(widget)
    title = (node.title if node else None) or trace.prompt.nodes[ref.node].title or ""
    return title_name(title) if own == "value" and title else identifier(own, "value")


def _outputs(trace: Trace, entries: JSON) -> Iterator[Output]:
    names = Names()
    seen: set[str] = set()
    for entry in entries if isinstance(entries, list) else ():
        for node_id in _prompt_ids(trace.prompt, str(entry)):
            if node_id not in seen:
                seen.add(node_id)
                yield output_for(trace, node_id, names)


def _prompt_ids(prompt: Prompt, node_id: str) -> list[str]:
    """The prompt's nodes that a node id of App Mode means: itself, or that node in each instance of its subgraph."""
    if node_id in prompt.nodes:
        return [node_id]
    inner = node_id.rpartition(":")[2]
    return [found for found in prompt.nodes if ":" in found and found.rpartition(":")[2] == inner]


def _refs(prompt: Prompt, workflow: Workflow, node_id: str, widget: str) -> list[InputRef]:
    """The prompt's inputs that a widget sets, those that hold a value or are wired; each once."""
    root = next((node for node in workflow.nodes if node.id == node_id), None)
    if root is not None and root.type in workflow.subgraphs:
        places = _promoted(workflow, workflow.subgraphs[root.type], root, root.id, widget, 0)
    elif root is not None and root.type == "PrimitiveNode":
        places = _set_by_primitive(workflow, root)
    else:
        places = iter((found, widget) for found in _prompt_ids(prompt, node_id))
    found = (InputRef(*place) for place in places)
    return list(dict.fromkeys(r for r in found if r.node in prompt.nodes and r.input in prompt.nodes[r.node].inputs))


def _promoted(
    workflow: Workflow, graph: Subgraph, host: WorkflowNode, path: str, widget: str, depth: int
) -> Iterator[tuple[str, str]]:
    """Where a subgraph node's widget leads: through the subgraph's own inputs, or by ``properties.proxyWidgets``."""
    if depth > _MAX_HOPS:
        return
    for index, slot in enumerate(graph.inputs):
        if slot.name == widget:
            for link in graph.links.values():
                if link.origin_id == SUBGRAPH_INPUT and link.origin_slot == index:
                    yield from _into(workflow, graph, link, path, depth + 1)
    proxies = host.properties.get("proxyWidgets")
    for proxy in proxies if isinstance(proxies, list) else ():
        if isinstance(proxy, list) and len(proxy) >= 2 and proxy[1] == widget:
            inner = next((node for node in graph.nodes if node.id == str(proxy[0])), None)
            if inner is not None and inner.type in workflow.subgraphs:
                nested = workflow.subgraphs[inner.type]
                yield from _promoted(workflow, nested, inner, f"{path}:{inner.id}", widget, depth + 1)
            elif inner is not None:
                yield f"{path}:{inner.id}", widget


def _into(
    workflow: Workflow, graph: Workflow | Subgraph, link: WorkflowLink, path: str, depth: int
) -> Iterator[tuple[str, str]]:
    """The inputs that a link reaches, through reroutes and into subgraphs. ``path`` is that of ``graph``'s instance."""
    target = next((node for node in graph.nodes if node.id == link.target_id), None)
    if target is None or depth > _MAX_HOPS:
        return
    own = f"{path}:{target.id}" if path else target.id
    if target.type == "Reroute":
        for onward in graph.links.values():
            if onward.origin_id == target.id:
                yield from _into(workflow, graph, onward, path, depth + 1)
    elif 0 <= link.target_slot < len(target.inputs):
        name = target.inputs[link.target_slot].name
        if target.type in workflow.subgraphs:
            yield from _promoted(workflow, workflow.subgraphs[target.type], target, own, name, depth + 1)
        else:
            yield own, name


def _set_by_primitive(workflow: Workflow, node: WorkflowNode) -> Iterator[tuple[str, str]]:
    for link in workflow.links.values():
        if link.origin_id == node.id:
            yield from _into(workflow, workflow, link, "", 0)
