"""Loading: what the editor makes of a workflow file, as a `Canvas`.

The steps and their order are the front end's (``app.loadGraphData``, ``LGraph.configure``, ``LGraphNode.configure``):
make every node by its schema, definitions before their instances, lay the saved inputs and values over it, promote the
widgets of subgraphs, tell the links where their inputs are now, let primitives take their widget.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from .canvas import UNSET, BoundarySlot, Canvas, CanvasNode, Outlet, Socket, type_text
from .errors import ConversionError
from .groupnodes import GroupNode, group_data, read_group, unfold
from .jsontext import short
from .plan import Plan, furnish, lay_out, lay_over, lay_over_outputs, plan_of
from .promotion import attach_promoted_widgets, flush_proxy_widgets
from .renumbering import renumber
from .restoring import recorded_widgets, restore_values
from .schemas import NodeSchemas
from .virtual import furnish_primitives, is_virtual
from .widgets import grow_for, tell_links
from .workflow import Subgraph, Workflow, WorkflowLink, WorkflowNode

MAX_UNFOLDED = 10_000
"""Nodes inside group nodes, copies counted."""

MAX_NESTING = 100
"""Levels of subgraphs in subgraphs; the editor itself stops at 1,000, people at 4."""


def load(workflow: Workflow, schemas: NodeSchemas) -> list[Canvas]:
    """The canvas that the editor shows after loading `workflow`, and behind it those of its subgraphs.

    Raises:
        ConversionError: a definition is missing or contains itself, or saved values cannot be told apart.
    """
    if schemas.modern:
        workflow = renumber(workflow)
    loader = _Loader(workflow, schemas)
    root = Canvas(id=None, name="", path="")
    for subgraph_id in _leaf_first(workflow):
        loader.definitions[subgraph_id] = loader.definition(workflow.subgraphs[subgraph_id])
    loader.fill(root, workflow.nodes, workflow.links)
    canvases = [root, *loader.definitions.values(), *loader.unfolded]
    for canvas in canvases:
        _correct_target_slots(canvas)
        for node in canvas.nodes.values():
            if not node.settled:
                _drop_orphaned_inputs(node)
        furnish_primitives(canvas)
        for node in canvas.nodes.values():
            if node.widgets:
                _mend_old_values(node, modern=loader.modern)
    return canvases


def _leaf_first(workflow: Workflow) -> list[str]:
    """The definitions that the workflow uses, each after those it contains."""
    if not workflow.subgraphs:
        return []
    done: dict[str, None] = {}
    path: dict[str, WorkflowNode] = {}

    def instances(nodes: Iterable[WorkflowNode]) -> list[WorkflowNode]:
        return [node for node in nodes if node.type in workflow.subgraphs]

    stack: list[tuple[str | None, list[WorkflowNode]]] = [(None, instances(workflow.nodes)[::-1])]
    while stack:
        current, todo = stack[-1]
        if not todo:
            stack.pop()
            if current is not None:
                path.pop(current, None)
                done[current] = None
            continue
        node = todo.pop()
        if node.type in path:
            raise ConversionError(
                f"the subgraph {short(workflow.subgraphs[node.type].name or node.type)} contains itself",
                node_id=node.id,
                path=node.path,
            )
        if node.type in done:
            continue
        if len(path) >= MAX_NESTING:
            raise ConversionError(f"subgraphs are nested deeper than {MAX_NESTING} levels", path=node.path)
        path[node.type] = node
        stack.append((node.type, instances(workflow.subgraphs[node.type].nodes)[::-1]))
    return list(done)


class _Loader:
    """What the steps share: the schemas, and the definitions that are loaded already."""

    def __init__(self, workflow: Workflow, schemas: NodeSchemas) -> None:
        self.workflow = workflow
        self.schemas = schemas
        self.modern = schemas.modern
        self.folded = "groupNodes" in workflow.extra
        self.definitions: dict[str, Canvas] = {}
        self.groups: dict[str, GroupNode] = {}
        self.unfolded: list[Canvas] = []

    def definition(self, subgraph: Subgraph) -> Canvas:
        canvas = Canvas(id=subgraph.id, name=subgraph.name, path=subgraph.path)
        canvas.inputs = [BoundarySlot(s.name, type_text(s.type), list(s.links)) for s in subgraph.inputs]
        canvas.outputs = [BoundarySlot(s.name, type_text(s.type), list(s.links)) for s in subgraph.outputs]
        self.fill(canvas, subgraph.nodes, subgraph.links)
        return canvas

    def fill(self, canvas: Canvas, nodes: Iterable[WorkflowNode], links: Mapping[int, WorkflowLink]) -> None:
        canvas.wires = dict(links)
        modern = self.modern
        made = [self.node(saved, canvas) for saved in nodes]
        canvas.nodes = {node.id: node for node, _ in made}
        for node, plan in made:
            if plan is not None:
                lay_out(node, plan, modern=modern)
            else:
                self.configure(node)
        for node in canvas.nodes.values():
            if node.definition is not None and modern and "proxyWidgets" in node.properties:
                flush_proxy_widgets(node)

    def node(self, saved: WorkflowNode, canvas: Canvas) -> tuple[CanvasNode, Plan | None]:
        """A node with its class's own inputs, outputs and widgets; or yet without, and the plan to lay it out by."""
        node = CanvasNode(saved, canvas)
        kind = saved.type
        if kind == "PrimitiveNode":
            canvas.primitives.append(node)
        if kind in self.definitions:
            node.definition = definition = self.definitions[kind]
            node.title = saved.title or definition.name
            definition.instances.append(node)
        elif self.folded and (data := group_data(kind, self.workflow.extra)) is not None:
            if canvas.id is not None:
                raise ConversionError(
                    "a group node inside a subgraph, which no editor can run",
                    node_id=saved.id,
                    class_type=saved.type,
                    path=saved.path,
                    remedy="open the workflow in the editor and convert the group node to nodes",
                )
            group = self.groups.get(saved.type)
            if group is None:
                group = self.groups[saved.type] = read_group(saved.type, data, self.schemas)
            furnish(node, group.schema)
        elif is_virtual(kind):
            node.virtual = True
        else:
            node.plain = saved.mode == 0
            schema = self.schemas.get(kind)
            if schema is not None:
                node.title = saved.title or schema.display_name
                plan = plan_of(schema, saved)
                if plan.fixed:
                    node.schema = schema
                    node.settled = True
                    return node, plan
                furnish(node, schema)
        return node, None

    def configure(self, node: CanvasNode) -> None:
        saved = node.saved
        if node.definition is not None:
            _configure_instance(node, modern=self.modern)
            return
        if node.schema is None:
            node.inputs = [Socket(i.name, type_text(i.type), i.link, i.widget) for i in saved.inputs]
            node.outputs = [Outlet(o.name, type_text(o.type), o.links) for o in saved.outputs]
            if not node.virtual:
                recorded_widgets(node)
            return
        lay_over(node)
        for socket in _growing(node.inputs) if node.groups else ():
            grow_for(node, socket, wired=socket.link in node.canvas.wires)
        restore_values(node, modern=self.modern)
        group = self.groups.get(node.type)
        if group is not None:
            inner = Canvas(id=node.type, name=node.type, path=node.saved.path)
            if sum(len(canvas.nodes) for canvas in self.unfolded) + len(group.nodes) > MAX_UNFOLDED:
                raise ConversionError(f"its group nodes hold more than {MAX_UNFOLDED} nodes")
            self.fill(inner, group.nodes, {})
            unfold(node, group, inner)
            self.unfolded.append(inner)


def _growing(sockets: list[Socket]) -> Iterable[Socket]:
    """The sockets in turn, those included that appear behind the current one while it is looked at."""
    index = 0
    while index < len(sockets):
        yield sockets[index]
        index += 1


def _configure_instance(node: CanvasNode, *, modern: bool) -> None:
    definition = node.definition
    assert definition is not None
    saved = {item.name: item for item in node.saved.inputs}
    node.inputs = []
    for index, slot in enumerate(definition.inputs):
        item = saved.get(slot.name)
        node.inputs.append(Socket(slot.name, slot.type, item.link if item is not None else None, slot=index))
    node.outputs = [Outlet(slot.name, slot.type) for slot in definition.outputs]
    lay_over_outputs(node)
    attach_promoted_widgets(node, modern=modern)


def _correct_target_slots(canvas: Canvas) -> None:
    wires = canvas.wires
    for node in canvas.nodes.values():
        for index, socket in enumerate(node.inputs):
            link = socket.link
            if link is None:
                continue
            wire = wires.get(link)
            if wire is not None and wire.target_slot != index:
                wires[wire.id] = wire._replace(target_slot=index)


def _drop_orphaned_inputs(node: CanvasNode) -> None:
    """Inputs of widgets that the class has no longer go, and their wires with them."""
    if node.schema is None or node.definition is not None:
        return
    names = {widget.name for widget in node.widgets}
    orphaned = [s for s in node.inputs if s.widget is not None and s.widget not in names]
    for socket in orphaned:
        node.inputs.remove(socket)
        node.canvas.cut(socket.link)
    if orphaned:
        tell_links(node)


_CONTROLS: Mapping[object, str] = {True: "randomize", False: "fixed"}
_MENDED = frozenset({"KSampler", "KSamplerAdvanced", "PrimitiveNode"})


def _mend_old_values(node: CanvasNode, *, modern: bool) -> None:
    """What the editor corrects in every file it opens."""
    for widget in node.widgets:
        value = widget.value
        if value is None or value is UNSET:
            spec = widget.spec
            if spec is None:
                continue
            if widget.kind == "STRING" and value is None and spec.multiline:
                widget.value = ""  # a text area cannot hold null
            elif modern and widget.kind == "COMBO" and spec.choices:
                widget.value = spec.choices[0]
    if node.type not in _MENDED:
        return
    for widget in node.widgets:
        value = widget.value
        if node.type != "PrimitiveNode" and widget.name == "sampler_name" and isinstance(value, str):
            widget.value = value.removeprefix("sample_")
        if widget.kind == "control" and isinstance(value, bool):
            widget.value = _CONTROLS[value]
