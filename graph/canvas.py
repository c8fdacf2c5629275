"""The canvas: what the editor holds in memory after it loaded a workflow, as far as a prompt depends on it.

A `Workflow` is what a file says. The editor does not send that: it makes each node anew from the server's schemas, lays
the saved values over it, moves wires to where the inputs are now, and lets some nodes change themselves. These classes
are that second state, mutable because loading is a sequence of changes; `loading` makes it, `resolution` reads it.

There is one `Canvas` for the workflow and one for each subgraph definition, shared by all instances of it, as in the
editor: what differs between instances (promoted widgets) lives on the instance's own inputs.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from .jsontext import JSON
from .schemas import InputSpec, NodeSchema
from .workflow import WorkflowLink, WorkflowNode

# JavaScript's `undefined`: a widget without any value, which JSON leaves out.
UNSET: Final[Any] = type("_Unset", (), {"__repr__": lambda self: "UNSET", "__bool__": lambda self: False})()


@dataclass(slots=True, eq=False)
class Widget:
    """A widget of a node.

    Attributes:
        kind: the type of the input it edits ("INT", "COMBO"), or "control", "filter", "button", "shim".
        saved: it has a place in the node's list of saved values.
        sent: it has a place in the prompt.
    """

    name: str
    kind: str
    value: JSON = UNSET
    saved: bool = True
    sent: bool = True
    spec: InputSpec | None = None


@dataclass(slots=True, eq=False)
class Socket:
    """An input of a node: a name, a type, and the id of the link that ends here.

    `widget` names the widget that it feeds. On an instance of a subgraph `host` is the promoted widget itself and
    `slot` the index of the definition's input.
    """

    name: str
    type: str
    link: int | None = None
    widget: str | None = None
    host: Widget | None = None
    slot: int | None = None


@dataclass(slots=True, eq=False)
class Outlet:
    """An output of a node."""

    name: str
    type: str
    links: tuple[int, ...] = ()


# A link on a canvas is the file's own, put in again changed where a node's inputs are not where the file had them.
Wire = WorkflowLink


@dataclass(slots=True, eq=False)
class Autogrow:
    """A group of inputs that grows as its last one is wired (COMFY_AUTOGROW_V3)."""

    names: tuple[str, ...] | None
    prefix: str
    minimum: int
    maximum: int
    members: tuple[tuple[str, JSON, bool], ...]  # (name, specification, required)
    specs: dict[tuple[int, str, bool], InputSpec] = field(default_factory=dict)  # of members that were made: read once


class CanvasNode:
    """A node on a canvas, as saved and still without inputs, outputs and widgets.

    `definition` is set on an instance of a subgraph, `virtual` on what only the editor has (reroutes, notes);
    `complete` is false where the class has no schema and the file does not name every value; `plain` is one that runs
    itself: neither virtual nor an instance, muted or bypassed. `settled` says that all its inputs are those of its
    class, and these never change. `preset` is a primitive's value where a group node holds it.
    """

    __slots__ = (
        "canvas", "complete", "definition", "groups", "id", "inputs", "mode", "outputs", "plain", "preset",
        "properties", "saved", "schema", "settled", "title", "type", "virtual", "widgets",
    )  # fmt: skip

    def __init__(self, saved: WorkflowNode, canvas: Canvas) -> None:
        self.id = saved.id
        self.type = saved.type
        self.title = saved.title or saved.type
        self.mode = saved.mode
        self.saved = saved
        self.canvas = canvas
        self.schema: NodeSchema | None = None
        self.definition: Canvas | None = None
        self.virtual = False
        self.complete = True
        self.settled = False
        self.plain = False
        self.preset: JSON = UNSET
        self.inputs: list[Socket] = []
        self.outputs: list[Outlet] = []
        self.widgets: list[Widget] = []
        self.groups: dict[str, Autogrow] = {}
        self.properties: Mapping[str, JSON] = saved.properties

    @classmethod
    def blank(cls, saved: WorkflowNode) -> CanvasNode:
        """A node like a saved one on a canvas of its own, to see what its class brings."""
        return cls(saved, Canvas(id=None, name="", path=""))

    @property
    def muted(self) -> bool:
        return self.mode == 2

    @property
    def bypassed(self) -> bool:
        return self.mode == 4

    def widget(self, name: str | None) -> Widget | None:
        """The widget of that name; of a subgraph's instance the promoted one."""
        if self.definition is not None:
            for socket in self.inputs:
                if socket.host is not None and socket.host.name == name:
                    return socket.host
            return None
        for widget in self.widgets:
            if widget.name == name:
                return widget
        return None

    def widget_of(self, socket: Socket) -> Widget | None:
        """The widget that a socket feeds, where it feeds one."""
        if socket.host is not None:
            return socket.host
        return None if socket.widget is None else self.widget(socket.widget)


@dataclass(slots=True, eq=False)
class BoundarySlot:
    """An input or output of a subgraph definition, with the ids of the links inside that touch it."""

    name: str
    type: str
    links: list[int]


@dataclass(slots=True, eq=False)
class Canvas:
    """The nodes and wires of the workflow (`id` is None) or of one subgraph definition."""

    id: str | None
    name: str
    path: str
    nodes: dict[str, CanvasNode] = field(default_factory=dict)
    wires: dict[int, Wire] = field(default_factory=dict)
    inputs: list[BoundarySlot] = field(default_factory=list)
    outputs: list[BoundarySlot] = field(default_factory=list)
    instances: list[CanvasNode] = field(default_factory=list)
    primitives: list[CanvasNode] = field(default_factory=list)

    def target(self, wire: Wire) -> CanvasNode | None:
        """The node a wire ends in; None at the subgraph's boundary or where there is no such node."""
        return self.nodes.get(wire.target_id)

    def cut(self, link: int | None) -> None:
        """Take a wire away and forget it in the input it ends in."""
        wire = self.wires.pop(link, None) if link is not None else None
        if wire is None:
            return
        target = self.nodes.get(wire.target_id)
        for socket in target.inputs if target is not None else ():
            if socket.link == wire.id:
                socket.link = None


def type_text(kind: JSON) -> str:
    """A slot's type as text; files hold lists (rgthree) and numbers (old event slots) too."""
    if isinstance(kind, str):
        return kind
    if isinstance(kind, list):
        return ",".join(str(part) for part in kind)
    if kind is None or kind == 0:
        return "*"
    return str(kind)


def fits(first: str, second: str) -> bool:
    """Whether a wire may join two slot types: equal but for case, sharing one of several, or either one a wildcard."""
    if first in {"", "*", "0"} or second in {"", "*", "0"} or first == second:
        return True
    first, second = first.lower(), second.lower()
    if "," not in first and "," not in second:
        return first == second
    others = second.split(",")
    return any(fits(a, b) for a in first.split(",") for b in others)
