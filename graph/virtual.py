"""Virtual nodes: what exists in the editor only. Reroutes, notes, primitives, and the Get and Set nodes of known packs.

Sources: the front end's ``rerouteNode.ts``, ``noteNode.ts``, ``widgetInputs.ts``; KJNodes ``web/js/setgetnodes.js``;
Easy-Use's and rgthree's nodes by their documented behaviour.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from decimal import ROUND_HALF_UP, Decimal

from .canvas import UNSET, Canvas, CanvasNode, Widget, Wire
from .jsontext import JSON
from .schemas import WIDGET_TYPES, InputSpec, parse_input
from .widgets import SEED_NAMES, default_value

NOTES = frozenset({"Note", "MarkdownNote", "Label (rgthree)", "Bookmark (rgthree)"})
PASS_THROUGH = frozenset({"Reroute", "Reroute (rgthree)"})
SETTERS = {"SetNode": "GetNode", "easy setNode": "easy getNode"}
GETTERS = {getter: setter for setter, getter in SETTERS.items()}
_SWITCHBOARDS = frozenset(
    {
        "Fast Groups Muter (rgthree)",
        "Fast Groups Bypasser (rgthree)",
        "Fast Muter (rgthree)",
        "Fast Bypasser (rgthree)",
        "Fast Actions Button (rgthree)",
        "Mute / Bypass Relay (rgthree)",
        "Mute / Bypass Repeater (rgthree)",
        "Random Unmuter (rgthree)",
        "Node Collector (rgthree)",
    }
)
_VIRTUAL = NOTES | PASS_THROUGH | SETTERS.keys() | GETTERS.keys() | _SWITCHBOARDS | {"PrimitiveNode"}


BROADCASTERS = frozenset(
    {
        "Anything Everywhere",
        "Anything Everywhere?",
        "Anything Everywhere3",
        "Anything Everywhere Triplet",
        "Prompts Everywhere",
        "Seed Everywhere",
    }
)
"""cg-use-everywhere's nodes: their script adds wires as the browser queues, by rules that are not in the file."""


def is_virtual(class_type: str) -> bool:
    """Whether nodes of this class never reach a server."""
    return class_type in _VIRTUAL


def channel(node: CanvasNode) -> str | None:
    """The name under which a Set node stores and a Get node fetches."""
    values = node.saved.widgets_values
    if isinstance(values, dict):
        values = list(values.values())
    return values[0] if values and isinstance(values[0], str) else None


def setter_of(getter: CanvasNode, canvases: tuple[Canvas, ...]) -> tuple[CanvasNode, int] | None:
    """The Set node that a Get node reads from and how many levels out it is, searched from its own canvas outwards."""
    name, kind = channel(getter), GETTERS[getter.type]
    if not name:
        return None
    for level, canvas in enumerate(reversed(canvases)):
        for node in canvas.nodes.values():
            if node.type == kind and channel(node) == name:
                return node, level
    return None


# ----------------------------------------------------------------------------------------------------------- primitives


def furnish_primitives(canvas: Canvas) -> None:
    """Give each wired primitive the widget of what it is wired to, with the primitive's own saved value."""
    for node in canvas.primitives:
        if not node.widgets:
            _furnish(node)


def _wires(node: CanvasNode) -> Iterator[Wire]:
    for outlet in node.outputs[:1]:
        for link in outlet.links:
            wire = node.canvas.wires.get(link)
            if wire is not None and wire.origin_id == node.id:
                yield wire


def _furnish(node: CanvasNode) -> None:
    first = next(_wires(node), None)
    target = node.canvas.target(first) if first is not None else None
    if first is None or target is None or first.target_slot >= len(target.inputs):
        return
    socket = target.inputs[first.target_slot]
    widget = target.widget_of(socket)
    spec = widget.spec if widget is not None else None
    if widget is None:
        if socket.type not in WIDGET_TYPES:
            return
        spec = parse_input("value", [socket.type, {}])
    value = widget.value if widget is not None else UNSET
    if value is UNSET and spec is not None:
        value = default_value(spec, spec.type)
    node.widgets.append(Widget("value", widget.kind if widget is not None else socket.type, value, spec=spec))
    values = node.saved.widgets_values
    if node.preset is not UNSET:
        node.widgets[0].value = node.preset
    elif isinstance(values, list) and values:
        node.widgets[0].value = values[0]
    _narrow(node)


def _narrow(node: CanvasNode) -> None:
    """A number wired to several widgets is held to the bounds that all of them have in common."""
    value = node.widgets[0].value
    specs: list[InputSpec] = []
    for wire in _wires(node):
        target = node.canvas.target(wire)
        if target is None or wire.target_slot >= len(target.inputs):
            continue
        widget = target.widget_of(target.inputs[wire.target_slot])
        if widget is not None and widget.spec is not None:
            specs.append(widget.spec)
    if len(specs) < 2 or not isinstance(value, int | float) or isinstance(value, bool):
        return
    kinds = {spec.type for spec in specs}
    lows = [spec.minimum for spec in specs if spec.minimum is not None]
    highs = [spec.maximum for spec in specs if spec.maximum is not None]
    low, high = max(lows, default=-math.inf), min(highs, default=math.inf)
    if len(kinds) != 1 or not kinds <= {"INT", "FLOAT"} or low > high:
        return
    node.widgets[0].value = low if value < low else high if value > high else value


def apply_primitives(canvas: Canvas) -> None:
    """Write each primitive's value into the widgets it is wired to, as the editor does when it queues."""
    for node in canvas.primitives:
        if not node.widgets:
            continue
        value = node.widgets[0].value
        for wire in _wires(node):
            target = canvas.target(wire)
            if target is None or wire.target_slot >= len(target.inputs):
                continue
            widget = target.widget_of(target.inputs[wire.target_slot])
            if widget is not None:
                widget.value = rounded(widget.spec, value)


def rounded(spec: InputSpec | None, value: JSON) -> JSON:
    """A number as a widget takes it from outside: on its step (INT), to its precision and within bounds (FLOAT)."""
    if spec is None or isinstance(value, bool) or not isinstance(value, int | float):
        return value
    if spec.type == "INT":
        step = spec.step or 1
        if step == 1 or abs(value) >= 1e15:
            return value if isinstance(value, int) else math.floor(value + 0.5)
        low = spec.minimum or 0
        offset = math.fmod(low, step)
        result = math.floor((value - offset) / step + 0.5) * step + offset
        return int(result) if float(result).is_integer() else result
    if spec.type == "FLOAT" and abs(value) < 1e15:
        step = spec.step if spec.step and spec.step > 0 else 0.5
        precision = max(0, -math.floor(math.log10(step)))
        given = spec.options.get("round")
        grain = given if isinstance(given, int | float) and given else 10.0**-precision if precision else None
        if not grain:
            return value
        # Half away from zero on the exact binary value, as JavaScript's toFixed; Python's round goes to the even digit.
        exact = Decimal(math.floor(value / grain + 0.5) * grain)
        result = float(exact.quantize(Decimal(1).scaleb(-min(precision, 12)), rounding=ROUND_HALF_UP))
        low = spec.minimum if spec.minimum is not None else 0
        high = spec.maximum if spec.maximum is not None else 2048
        return min(max(result, low), high)
    return value


def is_seed(spec: InputSpec) -> bool:
    """Whether the editor gives this input a control that changes it after each run."""
    return spec.name in SEED_NAMES or bool(spec.options.get("control_after_generate"))
