"""Group nodes: the editor's way of folding nodes into one before it had subgraphs (2023 to 2025).

``extra.groupNodes`` holds, by name, the inner nodes, the links between them, and settings; a node of type
``workflow>NAME`` (``workflow/NAME`` before 2025) is one folded copy. It shows the inner nodes' free inputs, outputs and
widgets under names of its own, and its saved values go by those. Source: ``groupNode.ts``.

Front ends of 2026 unpack group nodes into subgraphs as they open a file and lose wires, modes and the order of values
on the way (seen with 1.49.6 on files of 1.27.10). They are read here as the front ends read them that wrote them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from .canvas import BoundarySlot, Canvas, CanvasNode, Wire
from .errors import ConversionError
from .jsontext import JSON, short
from .schemas import WIDGET_TYPES, InputSpec, NodeSchema, NodeSchemas, OutputSpec, parse_input
from .widgets import SEED_NAMES
from .workflow import SUBGRAPH_INPUT, SUBGRAPH_OUTPUT, WorkflowNode, parse_node

_PREFIXES = ("workflow>", "workflow/")


@dataclass(slots=True)
class GroupNode:
    """What a group node shows to the outside, and to which inner node each part belongs.

    `inputs` and `widgets` map the outer name to (index of the inner node, its input); `outputs` lists (index, slot).
    """

    schema: NodeSchema
    nodes: list[WorkflowNode]
    links: list[tuple[int, int, int, int, str]]
    inputs: dict[str, tuple[int, str]] = field(default_factory=dict)
    widgets: dict[str, tuple[int, str]] = field(default_factory=dict)
    outputs: list[tuple[int, int]] = field(default_factory=list)


def group_data(class_type: str, extra: Mapping[str, JSON]) -> dict[str, Any] | None:
    """The saved definition of a group node's class; None where it is no group node."""
    groups = extra.get("groupNodes")
    if not isinstance(groups, dict) or not class_type.startswith(_PREFIXES):
        return None
    data = groups.get(class_type[len(_PREFIXES[0]) :])
    return data if isinstance(data, dict) and isinstance(data.get("nodes"), list) else None


def read_group(class_type: str, data: dict[str, Any], schemas: NodeSchemas) -> GroupNode:
    """Work out the outside of a group node from its definition.

    Raises:
        ConversionError: an inner class has no schema: its inputs, and with them all names after, are not known.
    """
    return _Reader(class_type, data, schemas).read()


def _listed(value: JSON) -> list[JSON]:
    return value if isinstance(value, list) else []


def _is_pair(raw: list[JSON]) -> bool:
    return len(raw) >= 2 and all(type(part) is int for part in raw[:2])


class _Reader:
    """Goes through the inner nodes in their order, as the editor does: names depend on what came before."""

    def __init__(self, class_type: str, data: dict[str, Any], schemas: NodeSchemas) -> None:
        self.class_type = class_type
        self.schemas = schemas
        path = f"extra.groupNodes[{short(class_type[len(_PREFIXES[0]) :])}]"
        self.path = path
        self.config = data.get("config") if isinstance(data.get("config"), dict | list) else {}
        self.nodes = [
            parse_node({**raw, "id": index} if isinstance(raw, dict) else raw, f"{path}.nodes[{index}]")
            for index, raw in enumerate(data["nodes"])
        ]
        self.links = [link for raw in _listed(data.get("links")) if (link := self._link(raw)) is not None]
        self.fed = {(link[2], link[3]): link for link in self.links}
        self.feeding = {(link[0], link[1]) for link in self.links}
        self.external = {
            (raw[0], raw[1]) for raw in _listed(data.get("external")) if isinstance(raw, list) and _is_pair(raw)
        }
        self.inputs: list[InputSpec] = []
        self.outputs: list[OutputSpec] = []
        self.seen: dict[str, int] = {}
        self.found = GroupNode(schema=NodeSchema(class_type=class_type), nodes=self.nodes, links=self.links)

    def _link(self, raw: JSON) -> tuple[int, int, int, int, str] | None:
        if not isinstance(raw, list) or len(raw) < 4 or not all(type(part) is int for part in raw[:4]):
            return None  # from or to the outside
        if not (0 <= raw[0] < len(self.nodes) and 0 <= raw[2] < len(self.nodes)):
            return None
        return raw[0], raw[1], raw[2], raw[3], raw[5] if len(raw) > 5 and isinstance(raw[5], str) else "*"

    def read(self) -> GroupNode:
        later: list[tuple[int, WorkflowNode, list[InputSpec], int]] = []
        for index, node in enumerate(self.nodes):
            specs = self._specs(index, node)
            if specs is None:
                continue
            sockets, converted = self._widgets(index, node, specs)
            self._sockets(index, node, sockets)
            later.append((index, node, converted, len(sockets)))
            self._outputs(index, node)
        for index, node, converted, offset in later:
            for place, spec in enumerate(converted):
                if (index, offset + place) not in self.fed:
                    name = self._name(index, node, spec)
                    self._show(name, spec, index)
                    self.found.inputs[name] = (index, spec.name)
                    self.found.widgets[name] = (index, spec.name)
        # The front end makes plain sockets first, then widgets; `furnish` does the same from this order.
        self.found.schema = NodeSchema(
            class_type=self.class_type,
            inputs=tuple(self.inputs),
            outputs=tuple(self.outputs),
            display_name=self.class_type,
        )
        return self.found

    def _specs(self, index: int, node: WorkflowNode) -> list[InputSpec] | None:
        schema = self.schemas.get(node.type)
        if schema is not None:
            return list(schema.inputs)
        if node.type == "PrimitiveNode":
            out = next((link for link in self.links if link[0] == index and link[1] == 0), None)
            return None if out is None else [self._primitive_spec(out)]
        if node.type == "Reroute":
            inside = (index, 0) in self.fed and (index, 0) in self.feeding and (index, 0) not in self.external
            return None if inside else [parse_input("*", ["*", {"forceInput": True}])]
        if node.type in {"Note", "MarkdownNote"}:
            return None
        raise ConversionError(
            f"no schema is known for class {node.type}, which this group node holds",
            class_type=self.class_type,
            path=node.path,
            remedy="give --comfyui URL of a ComfyUI that has it, or --schemas FILE with its /object_info",
        )

    def _primitive_spec(self, link: tuple[int, int, int, int, str]) -> InputSpec:
        """The primitive's own widget: of the kind that it feeds, with a control behind it."""
        target = self.nodes[link[2]]
        schema = self.schemas.get(target.type)
        name = target.inputs[link[3]].name if link[3] < len(target.inputs) else ""
        spec = schema.input(name) if schema is not None else None
        if spec is None:
            return parse_input("value", [link[4], {}])
        kind: JSON = list(spec.choices or ()) if spec.type == "COMBO" else spec.type
        return parse_input("value", [kind, {**spec.options, "control_after_generate": True}])

    def _settings(self, index: int, side: str, key: str) -> dict[str, Any]:
        config = self.config
        entry = config.get(str(index)) if isinstance(config, dict) else None
        part = entry.get(side) if isinstance(entry, dict) else None
        found = part.get(key) if isinstance(part, dict) else None
        return found if isinstance(found, dict) else {}

    def _name(self, index: int, node: WorkflowNode, spec: InputSpec) -> str:
        given = self._settings(index, "input", spec.name).get("name")
        label = next((i.raw.get("label") for i in node.inputs if i.name == spec.name), None)
        name = given if isinstance(given, str) else label if isinstance(label, str) and label else spec.name
        key = name
        if (node.type == "PrimitiveNode" and node.title) or name in self.seen:
            prefix = f"{node.title or node.type} "
            key = name = f"{prefix}{spec.name}"
            if name in self.seen:
                name = f"{prefix}{self.seen[name]} {spec.name}"
        self.seen[key] = self.seen.get(key, 1) + 1
        return name

    def _show(self, name: str, spec: InputSpec, index: int) -> None:
        options = dict(spec.options)
        if spec.name in SEED_NAMES:
            options["control_after_generate"] = True
        self.inputs.append(
            InputSpec(
                name=name,
                type=spec.type,
                choices=spec.choices,
                open_choices=spec.open_choices,
                default=spec.default,
                has_default=spec.has_default,
                minimum=spec.minimum,
                maximum=spec.maximum,
                step=spec.step,
                multiline=spec.multiline,
                options=options,
                is_widget=spec.is_widget,
            )
        )

    def _widgets(
        self, index: int, node: WorkflowNode, specs: list[InputSpec]
    ) -> tuple[list[InputSpec], list[InputSpec]]:
        """Shows the plain widgets; gives back the sockets, and the widgets that are inputs of the inner node too."""
        sockets, converted = [], {}
        places = {item.name: place for place, item in enumerate(node.inputs) if item.widget == item.name}
        for spec in specs:
            if spec.type not in WIDGET_TYPES:
                sockets.append(spec)
            elif spec.name in places:
                converted[places[spec.name]] = spec
            else:
                name = self._name(index, node, spec)
                self._show(name, spec, index)
                self.found.widgets[name] = (index, spec.name)
        # Sorted as texts, as JavaScript sorts: 10 comes before 2.
        return sockets, [converted[place] for place in sorted(converted, key=str)]

    def _sockets(self, index: int, node: WorkflowNode, sockets: list[InputSpec]) -> None:
        for place, spec in enumerate(sockets):
            if (index, place) in self.fed:
                continue
            name = self._name(index, node, spec)
            if self._settings(index, "input", spec.name).get("visible") is False:
                continue
            self._show(name, spec, index)
            self.found.inputs[name] = (index, spec.name if node.type != "Reroute" else "")

    def _outputs(self, index: int, node: WorkflowNode) -> None:
        schema = self.schemas.get(node.type)
        outputs = (
            schema.outputs
            if schema is not None
            else tuple(OutputSpec(name=str(o.name), type=str(o.type)) for o in node.outputs[:1])
        )
        for slot, output in enumerate(outputs):
            hidden = (index, slot) in self.feeding and (index, slot) not in self.external
            visible = self._settings(index, "output", str(slot)).get("visible")
            if visible if isinstance(visible, bool) else not hidden:
                self.outputs.append(output)
                self.found.outputs.append((index, slot))


def unfold(node: CanvasNode, group: GroupNode, inner: Canvas) -> None:
    """Make a configured group node an instance of `inner`, a canvas that holds its inner nodes and no wires yet."""
    numbers = iter(range(1, 1_000_000))
    for source, slot, target, place, kind in group.links:
        target_node = inner.nodes[str(target)]
        name = group.nodes[target].inputs[place].name if place < len(group.nodes[target].inputs) else None
        socket = next((s for s in target_node.inputs if s.name == name), None)
        if socket is None and place < len(target_node.inputs):
            socket = target_node.inputs[place]
        if socket is None:
            continue
        number = next(numbers)
        index = target_node.inputs.index(socket)
        inner.wires[number] = Wire(number, str(source), slot, target_node.id, index, kind)
        socket.link = number
        outlets = inner.nodes[str(source)].outputs
        if slot < len(outlets):
            outlets[slot].links = (*outlets[slot].links, number)
    for place, socket in enumerate(node.inputs):
        socket.slot, socket.host = place, None
        owner = group.inputs.get(socket.name)
        inner.inputs.append(BoundarySlot(socket.name, socket.type, []))
        if owner is None:
            continue
        target_node = inner.nodes[str(owner[0])]
        found = next((s for s in target_node.inputs if s.name == owner[1]), None)
        if found is None or socket.link is None:
            continue
        number = next(numbers)
        index = target_node.inputs.index(found)
        inner.wires[number] = Wire(number, SUBGRAPH_INPUT, place, target_node.id, index, socket.type)
        found.link = number
        inner.inputs[-1].links.append(number)
    for slot, (source, output) in enumerate(group.outputs):
        number = next(numbers)
        inner.wires[number] = Wire(number, str(source), output, SUBGRAPH_OUTPUT, slot)
        inner.outputs.append(BoundarySlot(node.outputs[slot].name, node.outputs[slot].type, [number]))
    for widget in node.widgets:
        owner = group.widgets.get(widget.name)
        if owner is None:
            continue
        target_node = inner.nodes[str(owner[0])]
        if target_node.type == "PrimitiveNode":
            target_node.preset = widget.value
            continue
        inside = target_node.widget(owner[1])
        if inside is not None:
            inside.value = widget.value
    node.definition = inner
    inner.instances.append(node)
