"""Plans: what a new node of a class has, worked out once and kept with its schema.

A workflow has many nodes of few classes, and of most classes all nodes are alike: the same inputs, widgets and outputs,
whatever their values. Such a class is `fixed`: its nodes are laid out in one go, values and links included. The others
(growing groups, dynamic combos) are furnished by their plan and then changed step by step, as the editor does it.
"""

from __future__ import annotations

from typing import NamedTuple

from .canvas import Autogrow, CanvasNode, Outlet, Socket, Widget, type_text
from .jsontext import JSON
from .restoring import CHANGING, COMPANIONS, fits_widget, restore_values, values_by_name
from .schemas import InputSpec, NodeSchema
from .widgets import furnish_anew, has_forced
from .workflow import WorkflowNode


class Plan(NamedTuple):
    """What a new node of a class has.

    `named` are the widgets that a file names (with or without `buttons`), `types` the JSON types that a value of each
    saved widget may have without a second look, `keeps_all` says that every widget has a saved value.
    """

    inputs: list[tuple[str, str, None, str | None]]
    widgets: list[tuple[str, str, JSON, bool, bool, InputSpec | None]]
    outputs: list[tuple[str, str]]
    groups: dict[str, Autogrow]
    fixed: bool
    input_names: frozenset[str]
    named: frozenset[str]
    buttons: frozenset[str]
    types: list[frozenset[type]]
    keeps_all: bool
    forced: bool


_ANY: frozenset[type] = frozenset({str, int, float, bool, list, dict, type(None)})
_TYPES: dict[str, frozenset[type]] = {
    "INT": frozenset({int, float, type(None)}),
    "FLOAT": frozenset({int, float, type(None)}),
    "BOOLEAN": frozenset({bool, int, str, type(None)}),
    "COMBO": _ANY - {dict},
    "control": frozenset({bool, type(None)}),
}


def plan_of(schema: NodeSchema, saved: WorkflowNode) -> Plan:
    """The plan of a class, made when it is first asked for; `saved` is any node of it."""
    plan: Plan | None = schema.__dict__.get("_plan")
    if plan is None:
        plan = schema.__dict__["_plan"] = _made(schema, CanvasNode.blank(saved))
    return plan


def _made(schema: NodeSchema, node: CanvasNode) -> Plan:
    furnish_anew(node, schema)
    places = [widget for widget in node.widgets if widget.saved]
    return Plan(
        inputs=[(s.name, s.type, None, s.widget) for s in node.inputs],
        widgets=[(w.name, w.kind, w.value, w.saved, w.sent, w.spec) for w in node.widgets],
        outputs=[(o.name, o.type) for o in node.outputs],
        groups=node.groups,
        fixed=not node.groups and not any(widget.kind in CHANGING for widget in node.widgets),
        input_names=frozenset(socket.name for socket in node.inputs),
        named=frozenset(widget.name for widget in places if widget.kind not in COMPANIONS),
        buttons=frozenset(w.name for w in node.widgets if w is node.widget(w.name) and w.kind == "button"),
        types=[_TYPES.get(widget.kind, _ANY) for widget in places],
        keeps_all=len(places) == len(node.widgets),
        forced=has_forced(schema),
    )


def furnish(node: CanvasNode, schema: NodeSchema) -> None:
    """Give a new node the inputs, widgets and outputs of its class, with the defaults of the schema."""
    node.schema = schema
    plan = plan_of(schema, node.saved)
    node.inputs = [Socket(*parts) for parts in plan.inputs]
    node.widgets = [Widget(*parts) for parts in plan.widgets]
    node.outputs = [Outlet(*parts) for parts in plan.outputs]
    node.groups = dict(plan.groups)


def lay_over(node: CanvasNode) -> None:
    """Saved links into the inputs that the class has now; saved inputs that it has not stay at the end."""
    saved = {item.name: item.link for item in node.saved.inputs}
    known = set()
    for socket in node.inputs:
        known.add(socket.name)
        if socket.name in saved:
            socket.link = saved[socket.name]
    for item in node.saved.inputs:
        if item.name not in known:
            node.inputs.append(Socket(item.name, type_text(item.type), item.link, item.widget))
    lay_over_outputs(node)


def lay_over_outputs(node: CanvasNode) -> None:
    """Saved links into a node's outputs; those that the class has not stay at the end."""
    outputs = node.outputs
    for index, output in enumerate(node.saved.outputs):
        if index < len(outputs):
            outputs[index].links = output.links
        else:
            outputs.append(Outlet(output.name, type_text(output.type), output.links))


def lay_out(node: CanvasNode, plan: Plan, *, modern: bool) -> None:
    """Make the inputs, widgets and outputs of a node of a fixed class, with saved links and values.

    The same as `furnish`, `lay_over` and `restore_values`, in fewer steps: most nodes of most files come this way.
    """
    saved = node.saved
    if saved.inputs:
        links = {item.name: item.link for item in saved.inputs}
        link_of = links.get
        node.inputs = [Socket(name, kind, link_of(name), widget) for name, kind, _, widget in plan.inputs]
        if not plan.input_names >= links.keys():
            node.settled = False
            names = plan.input_names
            node.inputs += [
                Socket(item.name, type_text(item.type), item.link, item.widget)
                for item in saved.inputs
                if item.name not in names
            ]
    else:
        node.inputs = [Socket(*parts) for parts in plan.inputs]
    if len(plan.outputs) == len(saved.outputs):
        pairs = zip(plan.outputs, saved.outputs, strict=True)
        node.outputs = [Outlet(name, kind, output.links) for (name, kind), output in pairs]
    else:
        node.outputs = [Outlet(*parts) for parts in plan.outputs]
        lay_over_outputs(node)
    node.widgets = widgets = [Widget(*parts) for parts in plan.widgets]
    values = saved.widgets_values
    if not values or not widgets:
        return
    if plan.forced or type(values) is not list:
        restore_values(node, modern=modern)
        return
    named = {item.widget for item in saved.inputs}
    named.discard(None)
    names_all = named == plan.named or named - plan.buttons == plan.named
    if named and not names_all and values_by_name(node, values) is not None:
        restore_values(node, modern=modern)
        return
    places = widgets if plan.keeps_all else [widget for widget in widgets if widget.saved]
    if named and names_all:
        for widget, value, types in zip(places, values, plan.types, strict=False):
            if type(value) not in types and not fits_widget(widget, value):
                restore_values(node, modern=modern)
                return
    for widget, value in zip(places, values, strict=False):
        widget.value = value
