"""Promotion: widgets of a subgraph's inner nodes that its instances show and hold values for.

Two ways of saving them are about. In front ends up to 1.2x an instance's input is wired inside to a widget, and the
instance's ``widgets_values`` hold one value for each such input. Later ones listed any inner widget in
``properties.proxyWidgets``, with values by the place in that list; since 1.4x the editor turns such a list into wired
inputs as it loads the file, and that is done here too. Source: ``SubgraphNode.ts``, ``proxyWidgetMigration.ts``.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from .canvas import UNSET, BoundarySlot, Canvas, CanvasNode, Socket, Widget, Wire, fits
from .errors import ConversionError
from .jsontext import JSON
from .workflow import SUBGRAPH_INPUT

MAX_PROXIES = 1000
"""Entries of one instance's ``proxyWidgets``; people have a few dozen."""

_PREFIX = re.compile(r"\s*(\d+)\s*:\s*(.+)")
_PREVIEWS = frozenset({"player", "IMAGECOMPARE", "PREVIEW_3D", "PREVIEW_3D_ANIMATION"})


def attach_promoted_widgets(node: CanvasNode, *, modern: bool) -> None:
    """Give an instance's inputs the widgets that they are wired to inside, then the instance's own saved values."""
    for socket in node.inputs:
        socket.host = _promoted(node, socket, modern=modern)
    values = node.saved.widgets_values
    if isinstance(values, dict):
        for socket in node.inputs:
            if socket.host is not None and socket.name in values:
                socket.host.value = values[socket.name]
        return
    quarantined = _quarantined(node)
    index = 0
    for socket in node.inputs:
        if socket.host is None:
            continue
        if socket.name in quarantined:
            socket.host.value = quarantined[socket.name]
        elif values is not None and index < len(values):
            socket.host.value = values[index]
        index += 1


def _promoted(node: CanvasNode, socket: Socket, *, modern: bool) -> Widget | None:
    definition = node.definition
    assert definition is not None
    assert socket.slot is not None
    slot = definition.inputs[socket.slot]
    for inner, target in _ends(definition, slot, modern=modern):
        widget = inner.widget_of(target)
        if widget is not None:
            return Widget(slot.name, widget.kind, widget.value, spec=widget.spec)
    return None


def _ends(definition: Canvas, slot: BoundarySlot, *, modern: bool = True) -> list[tuple[CanvasNode, Socket]]:
    """The inner nodes and inputs that a subgraph input is wired to, in the order of its links."""
    found = []
    for link in slot.links:
        wire = definition.wires.get(link)
        inner = definition.target(wire) if wire is not None else None
        if wire is None or inner is None:
            continue
        for socket in inner.inputs:
            if socket.link == link:
                found.append((inner, socket))
                break
        else:
            if not modern and wire.target_slot < len(inner.inputs):
                found.append((inner, inner.inputs[wire.target_slot]))
    return found


def _quarantined(node: CanvasNode) -> dict[str, JSON]:
    listed = node.properties.get("proxyWidgetErrorQuarantine")
    found: dict[str, JSON] = {}
    for entry in reversed(listed) if isinstance(listed, list) else ():
        original = entry.get("originalEntry") if isinstance(entry, dict) else None
        if isinstance(original, list) and len(original) >= 2 and original[0] == "-1":
            value = entry.get("hostValue")
            if value is not None and isinstance(original[1], str):
                found[original[1]] = value
    return found


# --------------------------------------------------------------------------------------------- lists of proxied widgets


@dataclass(slots=True)
class _Entry:
    """One entry of ``proxyWidgets``: an inner node, its widget, and the instance's value for it (UNSET: none)."""

    node_id: str
    widget: str
    through: str | None  # the innermost node, where two nested subgraphs promote widgets of one name
    value: Any


def flush_proxy_widgets(node: CanvasNode) -> None:
    """Turn an instance's list of proxied widgets into wired inputs of its definition, and set the values."""
    entries = _entries(node)
    primitives: dict[str, list[_Entry]] = {}
    # All are judged before any is changed, so that an entry does not see the inputs made for an earlier one.
    linked_inputs = _linked_inputs(node) if entries else {}
    plans = [(entry, linked_inputs.get((entry.node_id, entry.widget))) for entry in entries]
    for entry, linked in plans:
        if linked is not None:
            _set_host(linked, entry)
            continue
        assert node.definition is not None
        source = node.definition.nodes.get(entry.node_id)
        if source is None:
            _set_by_name(node, entry)
        elif source.type == "PrimitiveNode":
            wired = [link for outlet in source.outputs[:1] for link in outlet.links if link in node.definition.wires]
            if wired or sum(e.node_id == entry.node_id for e in entries) > 1:
                primitives.setdefault(source.id, []).append(entry)
        else:
            _wire_widget(node, source, entry)
    for primitive_id, cohort in primitives.items():
        _bypass_primitive(node, primitive_id, cohort)


def _entries(node: CanvasNode) -> list[_Entry]:
    listed = node.properties.get("proxyWidgets")
    if not isinstance(listed, list):
        return []
    for item in listed:  # one entry of another form and the editor drops the whole list
        if not isinstance(item, list) or len(item) not in (2, 3) or not all(isinstance(part, str) for part in item):
            return []
    if len(listed) > MAX_PROXIES:
        raise ConversionError(
            f"lists {len(listed)} proxied widgets, the limit is {MAX_PROXIES}", node_id=node.id, path=node.saved.path
        )
    saved = node.saved.widgets_values
    values: Sequence[JSON] = saved if isinstance(saved, list) else ()
    entries = []
    for index, item in enumerate(listed):
        value = values[index] if index < len(values) and values[index] is not None else UNSET
        through = item[2] if len(item) == 3 else None
        name = item[1]
        if not _resolves(node, item[0], name):
            while len(name) < 1000 and (match := _PREFIX.fullmatch(name)) is not None:
                through, name = match[1], match[2]
        entries.append(_Entry(item[0], name, through, value))
    return entries


def _resolves(node: CanvasNode, node_id: str, name: str) -> bool:
    """Whether an inner widget of that name exists, through nested subgraphs down to the real one."""
    for _ in range(100):
        assert node.definition is not None
        source = node.definition.nodes.get(node_id)
        if source is None:
            return False
        if source.definition is None:
            return source.widget(name) is not None
        target = _source_of_input(source, name)
        if target is None:
            return False
        node, (node_id, name) = source, target
    return False


def _source_of_input(node: CanvasNode, input_name: str) -> tuple[str, str] | None:
    """The inner node and widget (or nested input) that an instance's input of that name feeds."""
    assert node.definition is not None
    slot = next((s for s in node.definition.inputs if s.name == input_name), None)
    return None if slot is None else _source(node.definition, slot)


def _source(definition: Canvas, slot: BoundarySlot) -> tuple[str, str] | None:
    for inner, target in _ends(definition, slot):
        if inner.definition is not None:
            return inner.id, target.name
        widget = inner.widget_of(target)
        if widget is not None:
            return inner.id, widget.name
    return None


def _linked_inputs(node: CanvasNode) -> dict[tuple[str, str], Socket]:
    """The instance's inputs that are wired inside already, the first for each inner node and widget."""
    assert node.definition is not None
    found: dict[tuple[str, str], Socket] = {}
    for socket in node.inputs:
        if socket.slot is not None and socket.slot < len(node.definition.inputs):
            source = _source(node.definition, node.definition.inputs[socket.slot])
            if source is not None:
                found.setdefault(source, socket)
    return found


def _set_host(socket: Socket, entry: _Entry) -> None:
    if socket.host is not None and entry.value is not UNSET:
        socket.host.value = entry.value


def _set_by_name(node: CanvasNode, entry: _Entry) -> None:
    """Entries with the node id -1 name an input of the instance itself."""
    if entry.node_id != "-1":
        return
    for socket in node.inputs:
        if socket.name == entry.widget:
            _set_host(socket, entry)
            return


def _wire_widget(node: CanvasNode, source: CanvasNode, entry: _Entry) -> None:
    """Make a new input of the definition for an inner widget, and give this instance's one its value."""
    widget, slot = _source_widget(source, entry)
    if (
        widget is None
        or slot is None
        or widget.name.startswith("$$")
        or (not widget.saved and widget.kind in _PREVIEWS)
    ):
        return
    definition = node.definition
    assert definition is not None
    name = _unique(entry.widget, definition)
    _add_input(definition, name, slot.type, [(source, slot)])
    socket = next(s for s in node.inputs if s.name == name)
    _set_host(socket, entry)


def _source_widget(source: CanvasNode, entry: _Entry) -> tuple[Widget | None, Socket | None]:
    if source.definition is None:
        widget = source.widget(entry.widget)
        slot = next((s for s in source.inputs if s.widget == entry.widget), None)
        return widget, slot
    for socket in source.inputs:
        target = _source_of_input(source, socket.name)
        if entry.through is not None:
            found = target == (entry.through, entry.widget)
        else:
            found = socket.name == entry.widget or (target is not None and target[1] == entry.widget)
        if found:
            return socket.host, socket
    return None, None


def _unique(name: str, definition: Canvas) -> str:
    taken = {slot.name for slot in definition.inputs}
    result, number = name, 1
    while result in taken:
        result = f"{name}_{number}"
        number += 1
    return result


def _add_input(definition: Canvas, name: str, kind: str, ends: list[tuple[CanvasNode, Socket]]) -> None:
    """A new input of a definition, wired to `ends`; every instance gets it, with the inner widget's value."""
    slot = BoundarySlot(name, kind, [])
    definition.inputs.append(slot)
    place = len(definition.inputs) - 1
    for inner, socket in ends:
        if socket.link is not None:
            definition.cut(socket.link)
        link = max(definition.wires, default=0) + 1
        definition.wires[link] = Wire(
            link, SUBGRAPH_INPUT, place, inner.id, inner.inputs.index(socket), definition.inputs[place].type
        )
        slot.links.append(link)
        socket.link = link
    inner, socket = ends[0]
    widget = inner.widget_of(socket)
    for instance in definition.instances:
        host = Widget(name, widget.kind, widget.value, spec=widget.spec) if widget is not None else None
        instance.inputs.append(Socket(name, kind, host=host, slot=place))


def _bypass_primitive(node: CanvasNode, primitive_id: str, cohort: list[_Entry]) -> None:
    """A proxied primitive gives way to an input of the definition, wired to all that the primitive fed."""
    definition = node.definition
    assert definition is not None
    primitive = definition.nodes[primitive_id]
    if any(entry.widget != cohort[0].widget for entry in cohort) or not primitive.outputs:
        return
    outlet = primitive.outputs[0]
    ends: list[tuple[CanvasNode, Socket]] = []
    for link in outlet.links:
        wire = definition.wires.get(link)
        target = definition.target(wire) if wire is not None else None
        # By the file's slot number, which is off where the class has got new inputs since: so does the editor.
        if wire is None or target is None or wire.target_slot >= len(target.inputs):
            return
        socket = target.inputs[wire.target_slot]
        if not fits(socket.type, outlet.type):
            return
        ends.append((target, socket))
    if not ends or not _alike([target.widget_of(socket) for target, socket in ends]):
        return
    title = primitive.saved.title
    name = _unique(title if title and title != "PrimitiveNode" else cohort[0].widget, definition)
    taken = {socket.link for _, socket in ends}
    outlet.links = tuple(link for link in outlet.links if link not in taken)
    _add_input(definition, name, outlet.type, ends)
    socket = next(s for s in node.inputs if s.name == name)
    entry = next((e for e in cohort if e.value is not UNSET), None)
    if entry is not None:
        _set_host(socket, entry)


def _alike(widgets: list[Widget | None]) -> bool:
    """Whether one input may feed all of these widgets: the same kind, with the same bounds and step."""
    found = [widget for widget in widgets if widget is not None]
    if not found:
        return True

    def measure(widget: Widget) -> tuple[object, ...]:
        spec = widget.spec
        return (
            (widget.kind, None)
            if spec is None
            else (widget.kind, spec.minimum, spec.maximum, spec.step, spec.multiline)
        )

    return all(measure(widget) == measure(found[0]) for widget in found)
