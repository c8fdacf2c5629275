"""Resolution: where each input of a real node gets its value from, through everything that only the editor has.

The rules are those of the front end's ``ExecutableNodeDTO`` and ``graphToPrompt``: links are followed backwards through
reroutes, bypassed nodes (to an input of a fitting type), in and out of subgraphs, until a real node's output or a
promoted widget's value is met, or nothing.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

from .canvas import Canvas, CanvasNode, Widget, fits
from .errors import ConversionError
from .prompt import Link
from .virtual import GETTERS, setter_of

MAX_EXPANDED = 20_000
"""Nodes after subgraphs are expanded. Definitions that hold each other several times grow exponentially."""


class Place(NamedTuple):
    """A node as it will run: through which instances of subgraphs it is reached, from the outside in.

    `id` is its id in the prompt: ``57:8`` is node 8 in the subgraph of node 57.
    """

    instances: tuple[CanvasNode, ...]
    node: CanvasNode
    id: str


_tuple: Any = tuple.__new__  # a named tuple's own constructor does just this, and takes twice as long


def place_of(instances: tuple[CanvasNode, ...], node: CanvasNode) -> Place:
    """The place of a node inside these instances."""
    if not instances:
        return Place(instances, node, node.id)
    return Place(instances, node, ":".join([*(instance.id for instance in instances), node.id]))


def expand(root: Canvas, *, modern: bool) -> list[Place]:
    """Every node that is no subgraph's instance, in the editor's order; what muted subgraphs hold is left out.

    Raises:
        ConversionError: more than `MAX_EXPANDED` nodes.
    """
    found: list[Place] = []
    count = 0
    stack: list[tuple[tuple[CanvasNode, ...], str, Iterator[CanvasNode]]] = [((), "", iter(execution_order(root)))]
    while stack:
        instances, prefix, nodes = stack[-1]
        for node in nodes:
            if node.definition is None:
                found.append(_tuple(Place, (instances, node, prefix + node.id)))
            elif modern and not instances and (node.muted or node.bypassed):
                continue
            count += 1
            if count > MAX_EXPANDED:
                raise ConversionError(f"its subgraphs expand to more than {MAX_EXPANDED} nodes")
            if node.definition is not None:
                stack.append(((*instances, node), f"{prefix}{node.id}:", iter(node.definition.nodes.values())))
                break
        else:
            stack.pop()
    return found


def execution_order(canvas: Canvas) -> list[CanvasNode]:
    """The nodes, sources first, as the editor lists them: breadth first along the links."""
    waiting: dict[str, int] = {}
    ready: list[CanvasNode] = []
    for node in canvas.nodes.values():
        wired = 0
        for socket in node.inputs:
            if socket.link is not None:
                wired += 1
        if wired:
            waiting[node.id] = wired
        else:
            ready.append(node)
    ordered: list[CanvasNode] = []
    seen: set[int] = set()
    for node in ready:  # grows while it is walked
        ordered.append(node)
        for outlet in node.outputs:
            for link in outlet.links:
                wire = canvas.wires.get(link)
                if wire is None or link in seen:
                    continue
                seen.add(link)
                left = waiting.get(wire.target_id)
                if left is None:
                    continue
                waiting[wire.target_id] = left - 1
                if left == 1:
                    del waiting[wire.target_id]
                    ready.append(canvas.nodes[wire.target_id])
    ordered.extend(canvas.nodes[node_id] for node_id in waiting)
    return ordered


class Resolver:
    """Follows links backwards. Answers are kept, so that a long chain with many ends is walked once."""

    def __init__(self, root: Canvas, *, modern: bool) -> None:
        self.root = root
        self.modern = modern
        self._known: dict[tuple[str, bool, int, str | None], Link | Widget | None] = {}
        self._blocked: dict[tuple[str, bool, int, str | None], Place] = {}

    def blocked(self, place: Place, index: int) -> Place | None:
        """The bypassed node at which the way back from an input ends, for want of an input of a fitting type."""
        return self._blocked.get((place.id, True, index, None))

    def source(self, place: Place, index: int) -> Link | Widget | None:
        """What input `index` of a node gets: another node's output, a promoted widget, or nothing.

        Raises:
            ConversionError: the links form a circle, or lead to a node or link that the file does not have.
        """
        found: _Step | Link | Widget | None = (place, index, True, None)
        walked: dict[tuple[str, bool, int, str | None], None] = {}
        while isinstance(found, tuple) and not isinstance(found, Link):
            place, index, backwards, kind = found
            step = (place.id, backwards, index, kind)
            if step in walked:
                raise _circle(place)
            walked[step] = None
            if step in self._known:
                found = self._known[step]
                if step in self._blocked:
                    self._blocked.update(dict.fromkeys(walked, self._blocked[step]))
                break
            if backwards:
                found = _step_back(place, index, kind)
            elif self.modern and place.node.muted:
                found = None  # a widget then keeps its own value; older front ends followed the link and lost both
            else:
                found = _step_through(place, index, kind or "*", self.root)
                if found is None and place.node.bypassed:
                    self._blocked.update(dict.fromkeys(walked, place))
        self._known.update(dict.fromkeys(walked, found))
        return found


_Step = tuple[Place, int, bool, str | None]


def _step_back(place: Place, index: int, kind: str | None) -> _Step | Widget | None:
    """From an input to the output that feeds it, out of the subgraph where the link comes from its boundary."""
    node = place.node
    if index >= len(node.inputs):
        return None
    socket = node.inputs[index]
    if socket.link is None:
        return None
    canvas = node.canvas
    wire = canvas.wires.get(socket.link)
    if wire is None:
        raise _broken(place, socket.name, f"it is wired to link {socket.link}, which the file does not have")
    if wire.target_id != node.id:
        raise _broken(place, socket.name, f"link {wire.id}, by the file's list of links, goes to node {wire.target_id}")
    if place.instances and wire.from_boundary:
        instance = place.instances[-1]
        if wire.origin_slot >= len(instance.inputs):
            raise _broken(place, socket.name, f"link {wire.id} comes from input {wire.origin_slot} of its subgraph")
        outer = instance.inputs[wire.origin_slot]
        if outer.link is None:
            return outer.host
        return place_of(place.instances[:-1], instance), wire.origin_slot, True, None
    origin = canvas.nodes.get(wire.origin_id)
    if origin is None:
        raise _broken(
            place, socket.name, f"link {wire.id} comes from node {wire.origin_id}, which the file does not have"
        )
    return place_of(place.instances, origin), wire.origin_slot, False, kind or socket.type


def _step_through(place: Place, slot: int, kind: str, root: Canvas) -> _Step | Link | None:
    """From an output to the node that makes it, or on to an input where the node only passes something through."""
    node = place.node
    if node.bypassed:
        index = _bypass(node, slot, kind)
        return None if index is None else (place, index, True, None)
    if node.definition is not None:
        return _step_in(place, slot, kind)
    if node.virtual:
        if node.type in GETTERS:
            canvases = (root, *(instance.definition for instance in place.instances if instance.definition is not None))
            setter = setter_of(node, canvases)
            if setter is None:
                raise _broken(place, None, "no Set node of that name is there")
            found, level = setter
            return place_of(place.instances[: len(place.instances) - level], found), 0, True, kind
        return (place, slot, True, kind) if slot < len(node.inputs) else None
    return Link(place.id, slot)


def _step_in(place: Place, slot: int, kind: str) -> _Step | None:
    """From an instance's output to the inner node that makes it."""
    node = place.node
    definition = node.definition
    assert definition is not None
    if slot >= len(definition.outputs):
        raise _broken(place, None, f"a link comes from output {slot}, its subgraph has {len(definition.outputs)}")
    wire = next((definition.wires[link] for link in definition.outputs[slot].links if link in definition.wires), None)
    if wire is None:
        return None
    inside = (*place.instances, node)
    if wire.from_boundary:  # an input of the subgraph wired straight to an output
        raise _broken(place, None, f"output {slot} of its subgraph is wired to an input of it, which no server can run")
    inner = definition.nodes.get(wire.origin_id)
    if inner is None:
        raise _broken(
            place, None, f"in its subgraph link {wire.id} comes from node {wire.origin_id}, which is not there"
        )
    return place_of(inside, inner), wire.origin_slot, False, kind


def _bypass(node: CanvasNode, slot: int, kind: str) -> int | None:
    """The input that stands in for output `slot` of a bypassed node, for a target of type `kind`."""
    inputs = node.inputs
    if kind in {"*", ""}:
        return slot if len(inputs) > slot else 0 if inputs else None
    made = node.outputs[slot].type if slot < len(node.outputs) else "*"
    if slot < len(inputs) and fits(inputs[slot].type, made) and fits(inputs[slot].type, kind):
        return slot
    for index, socket in enumerate(inputs):
        if socket.type == kind:
            return index
    for index, socket in enumerate(inputs):
        if fits(socket.type, made) and fits(socket.type, kind):
            return index
    return None


def _broken(place: Place, input_name: str | None, message: str) -> ConversionError:
    return ConversionError(
        message,
        node_id=place.id,
        class_type=class_name(place.node),
        input_name=input_name,
        path=place.node.saved.path,
        remedy="open the workflow in the editor, wire it anew and save it",
    )


def _circle(place: Place) -> ConversionError:
    return ConversionError(
        "its links form a circle",
        node_id=place.id,
        class_type=class_name(place.node),
        path=place.node.saved.path,
        remedy="cut one of these wires",
    )


def class_name(node: CanvasNode) -> str:
    """What a node is, for messages."""
    return node.type if node.definition is None else f"subgraph {node.definition.name!r}"
