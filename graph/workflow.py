"""The editor's JSON: a typed, frozen model of the UI format, of the schema versions 0.4 and 1.0.

Sources of the format: the front end's ``workflowSchema.ts`` (its own validation) and ``LGraph.serialize``. Typed is
what the rest of this package reads; every object also keeps what it was read from (``raw``): unknown keys stay, and
`Workflow.to_json` gives back what `Workflow.from_json` took. Reading checks structure only; what the links mean is
`convert`'s business, because a file may hold leftovers that the editor ignores too.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple, Self

from .errors import WorkflowError
from .jsontext import JSON, parse_json, short

MAX_NODES = 50_000  # of one graph; the largest official template has about 250
MAX_LINKS = 200_000  # of one graph
MAX_SLOTS = 5_000  # inputs of one node or one subgraph

_tuple: Any = tuple.__new__  # a named tuple's own constructor does just this, and takes twice as long

SUBGRAPH_INPUT = "-10"  # the node id that links inside a subgraph give for the subgraph's own inputs
SUBGRAPH_OUTPUT = "-20"


class WorkflowLink(NamedTuple):
    """A wire: output ``origin_slot`` of a node to input ``target_slot`` of another."""

    id: int
    origin_id: str
    origin_slot: int
    target_id: str
    target_slot: int
    type: JSON = None

    @property
    def from_boundary(self) -> bool:
        """It comes from an input of the subgraph that it is in."""
        return self.origin_id == SUBGRAPH_INPUT


class NodeInput(NamedTuple):
    """An input slot of a node. `widget` names the widget it belongs to, where it is one's socket.

    A tuple like the other parts of a node: made by the thousand, and frozen dataclasses take three times as long.
    """

    name: str
    type: JSON
    link: int | None
    widget: str | None
    raw: Mapping[str, JSON]


class NodeOutput(NamedTuple):
    """An output slot of a node, with the ids of the links that leave it."""

    name: str
    type: JSON
    links: tuple[int, ...]
    raw: Mapping[str, JSON]


class WorkflowNode(NamedTuple):
    """A node as the editor saved it. `path` is its JSON path (``nodes[3]``), for messages.

    `widgets_values` is a list in widget order, an object by widget name, or None where the file has none.
    """

    id: str
    type: str
    mode: int
    title: str | None
    inputs: tuple[NodeInput, ...]
    outputs: tuple[NodeOutput, ...]
    properties: Mapping[str, JSON]
    widgets_values: list[JSON] | dict[str, JSON] | None
    path: str
    raw: Mapping[str, JSON]

    @property
    def muted(self) -> bool:
        """Mode 2, "never": the node does not run and gives nothing."""
        return self.mode == 2

    @property
    def bypassed(self) -> bool:
        """Mode 4: the node is left out and its inputs are passed through by type."""
        return self.mode == 4


@dataclass(frozen=True, slots=True)
class SubgraphSlot:
    """An input or output of a subgraph definition, with the ids of the links inside that touch it."""

    id: str
    name: str
    type: JSON
    links: tuple[int, ...]
    raw: Mapping[str, JSON]


@dataclass(frozen=True, slots=True)
class Subgraph:
    """A subgraph definition; a node whose type is its `id` is an instance of it."""

    id: str
    name: str
    nodes: tuple[WorkflowNode, ...]
    links: Mapping[int, WorkflowLink]
    inputs: tuple[SubgraphSlot, ...]
    outputs: tuple[SubgraphSlot, ...]
    path: str
    raw: Mapping[str, JSON]


@dataclass(frozen=True, slots=True)
class Workflow:
    """A workflow. `subgraphs` has every definition at any depth, by id; `raw` is the JSON it was read from."""

    nodes: tuple[WorkflowNode, ...]
    links: Mapping[int, WorkflowLink]
    subgraphs: Mapping[str, Subgraph]
    version: float
    extra: Mapping[str, JSON]
    raw: Mapping[str, JSON]

    @classmethod
    def from_json(cls, value: JSON) -> Self:
        """The workflow in a JSON value, as the editor saves it.

        Raises:
            WorkflowError: what is no workflow or contradicts itself, with the JSON path.
        """
        if not isinstance(value, dict):
            raise WorkflowError(f"a workflow is a JSON object, not {_kind(value)}")
        if "nodes" not in value:
            raise WorkflowError("a workflow has a list 'nodes', this has none", remedy=_REMEDY)
        nodes, links = _graph(value, "")
        subgraphs: dict[str, Subgraph] = {}
        _definitions(value, subgraphs)
        version = value.get("version")
        return cls(
            nodes=nodes,
            links=links,
            subgraphs=subgraphs,
            version=version if isinstance(version, int | float) and not isinstance(version, bool) else 0.4,
            extra=_mapping(value.get("extra"), "extra"),
            raw=value,
        )

    def to_json(self) -> dict[str, JSON]:
        """What it was read from, unknown keys included; a copy that the caller may change."""
        try:
            return copy.deepcopy(dict(self.raw))
        except RecursionError:
            raise WorkflowError("nested too deeply to be written again") from None

    def node(self, node_id: str) -> WorkflowNode | None:
        """The node of that id in the outermost graph."""
        return next((node for node in self.nodes if node.id == node_id), None)


def parse_workflow(text: str | bytes) -> Workflow:
    """The workflow in a JSON document; see `jsontext.parse_json` and `Workflow.from_json` for what is refused."""
    return Workflow.from_json(parse_json(text, error=WorkflowError))


def looks_like_workflow(value: JSON) -> bool:
    """Whether a JSON value means to be a workflow, right or wrong."""
    if not isinstance(value, dict):
        return False
    if "nodes" in value:
        return not (isinstance(value["nodes"], dict) and "class_type" in value["nodes"])
    return "last_node_id" in value or "links" in value


_REMEDY = "give a file saved by the editor (Save), or a prompt (Export (API))"


def _definitions(root: dict[str, Any], found: dict[str, Subgraph]) -> None:
    # Definitions may hold definitions: an explicit stack, since the nesting is the file's to choose.
    stack: list[tuple[dict[str, Any], str]] = [(root, "")]
    while stack:
        holder, path = stack.pop()
        definitions = holder.get("definitions")
        if definitions is None:
            continue
        place = f"{path}definitions"
        listed = _mapping(definitions, place).get("subgraphs")
        if listed is None:
            continue
        if not isinstance(listed, list):
            raise _wrong(f"must be a list, not {_kind(listed)}", f"{place}.subgraphs")
        for index, raw in enumerate(listed):
            at = f"{place}.subgraphs[{index}]"
            raw = _object(raw, at)
            subgraph_id, name = raw.get("id"), raw.get("name")
            if not isinstance(subgraph_id, str) or not subgraph_id:
                raise _wrong("a subgraph definition needs an id, a text", f"{at}.id")
            # The editor keeps the first of two definitions with one id; two that differ are nothing to choose from.
            if subgraph_id in found:
                if found[subgraph_id].raw != raw:
                    raise _wrong(f"a second, different definition of subgraph {short(subgraph_id)}", at)
                continue
            nodes, links = _graph(raw, f"{at}.")
            found[subgraph_id] = Subgraph(
                id=subgraph_id,
                name=name if isinstance(name, str) else "",
                nodes=nodes,
                links=links,
                inputs=_subgraph_slots(raw.get("inputs"), f"{at}.inputs"),
                outputs=_subgraph_slots(raw.get("outputs"), f"{at}.outputs"),
                path=at,
                raw=raw,
            )
            stack.append((raw, f"{at}."))


def _graph(raw: dict[str, Any], path: str) -> tuple[tuple[WorkflowNode, ...], dict[int, WorkflowLink]]:
    listed = raw.get("nodes")
    if not isinstance(listed, list):
        raise _wrong(f"must be a list, not {_kind(listed)}", f"{path}nodes", _REMEDY)
    if len(listed) > MAX_NODES:
        raise _wrong(f"has {len(listed)} nodes, the limit is {MAX_NODES}", f"{path}nodes")
    nodes = tuple([parse_node(node, f"{path}nodes[{index}]") for index, node in enumerate(listed)])
    seen: dict[str, str] = {}
    for node in nodes:
        first = seen.setdefault(node.id, node.path)
        if first != node.path:
            raise _wrong(f"the id {short(node.id)} is taken by {first}", f"{node.path}.id")
    return nodes, _links(raw.get("links"), f"{path}links")


def parse_node(raw: JSON, path: str) -> WorkflowNode:
    """One node of a workflow's list of nodes; `path` is its place, for messages."""
    raw = _object(raw, path)
    kind, mode, title, values = raw.get("type"), raw.get("mode"), raw.get("title"), raw.get("widgets_values")
    if not isinstance(kind, str) or not kind:
        raise _wrong(f"a node's type is a text, not {_kind(kind)}", f"{path}.type")
    if values is not None and not isinstance(values, list | dict):
        raise _wrong(f"must be a list or an object, not {_kind(values)}", f"{path}.widgets_values")
    inputs, outputs = raw.get("inputs"), raw.get("outputs")
    node_id, properties = raw.get("id"), raw.get("properties")
    if type(properties) is not dict:
        properties = _mapping(properties, f"{path}.properties")
    parts = (
        str(node_id) if type(node_id) is int else _node_id(node_id, path, "id"),
        kind,
        mode if isinstance(mode, int) else 0,
        title if isinstance(title, str) else None,
        _inputs(inputs, path) if inputs else (),
        _outputs(outputs, path) if outputs else (),
        properties,
        values,
        path,
        raw,
    )
    node: WorkflowNode = _tuple(WorkflowNode, parts)
    return node


def _inputs(listed: JSON, path: str) -> tuple[NodeInput, ...]:
    if not isinstance(listed, list):
        raise _wrong(f"must be a list, not {_kind(listed)}", f"{path}.inputs")
    if len(listed) > MAX_SLOTS:
        raise _wrong(f"has {len(listed)} inputs, the limit is {MAX_SLOTS}", f"{path}.inputs")
    found = []
    for index, raw in enumerate(listed):
        if not isinstance(raw, dict):
            raise _wrong(f"must be an object, not {_kind(raw)}", f"{path}.inputs[{index}]")
        name, link, widget = raw.get("name"), raw.get("link"), raw.get("widget")
        if link is not None and type(link) is not int:
            link = _integer(link, f"{path}.inputs[{index}].link")
        if widget is not None:
            widget = widget.get("name") if isinstance(widget, dict) else None
            if not isinstance(widget, str):
                widget = None
        if type(name) is not str:
            name = ""
        found.append(_tuple(NodeInput, (name, raw.get("type"), link, widget, raw)))
    return tuple(found)


def _outputs(listed: JSON, path: str) -> tuple[NodeOutput, ...]:
    if not isinstance(listed, list):
        raise _wrong(f"must be a list, not {_kind(listed)}", f"{path}.outputs")
    found = []
    for index, raw in enumerate(listed):
        if not isinstance(raw, dict):
            raise _wrong(f"must be an object, not {_kind(raw)}", f"{path}.outputs[{index}]")
        name, links = raw.get("name"), raw.get("links")
        if not links:
            links = ()
        elif type(links) is list and (len(links) == 1 and type(links[0]) is int):  # as most are
            links = (links[0],)
        else:
            links = _link_ids(links, path, f"outputs[{index}].links")
        if type(name) is not str:
            name = ""
        found.append(_tuple(NodeOutput, (name, raw.get("type"), links, raw)))
    return tuple(found)


def _subgraph_slots(listed: JSON, path: str) -> tuple[SubgraphSlot, ...]:
    if listed is None:
        return ()
    if not isinstance(listed, list):
        raise _wrong(f"must be a list, not {_kind(listed)}", path)
    if len(listed) > MAX_SLOTS:
        raise _wrong(f"has {len(listed)} entries, the limit is {MAX_SLOTS}", path)
    found = []
    for index, raw in enumerate(listed):
        raw = _object(raw, f"{path}[{index}]")
        slot_id, name = raw.get("id"), raw.get("name")
        found.append(
            SubgraphSlot(
                id=slot_id if isinstance(slot_id, str) else "",
                name=name if isinstance(name, str) else "",
                type=raw.get("type"),
                links=_link_ids(raw.get("linkIds"), f"{path}[{index}]", "linkIds"),
                raw=raw,
            )
        )
    return tuple(found)


def _link_ids(listed: JSON, path: str, key: str) -> tuple[int, ...]:
    if not listed:
        return ()
    if not isinstance(listed, list):
        raise _wrong(f"must be a list, not {_kind(listed)}", f"{path}.{key}")
    return tuple(
        link if type(link) is int else _integer(link, f"{path}.{key}[{index}]")
        for index, link in enumerate(listed)
        if link is not None
    )


def _links(listed: JSON, path: str) -> dict[int, WorkflowLink]:
    if listed is None:
        return {}
    if isinstance(listed, dict):  # written so by some exporters: by id
        listed = list(listed.values())
    if not isinstance(listed, list):
        raise _wrong(f"must be a list, not {_kind(listed)}", path)
    if len(listed) > MAX_LINKS:
        raise _wrong(f"has {len(listed)} links, the limit is {MAX_LINKS}", path)
    found: dict[int, WorkflowLink] = {}
    for index, raw in enumerate(listed):
        if raw is None:  # old front ends left holes, and the editor skips them
            continue
        if type(raw) is list and len(raw) == 6:
            link_id, origin, slot, target, target_slot, kind = raw
            if type(link_id) is type(origin) is type(slot) is type(target) is type(target_slot) is int and (
                slot >= 0 and target_slot >= 0 and link_id not in found
            ):  # as nearly all are
                found[link_id] = _tuple(WorkflowLink, (link_id, str(origin), slot, str(target), target_slot, kind))
                continue
        if isinstance(raw, list) and len(raw) >= 5:
            link_id, origin, slot, target, target_slot = raw[:5]
            kind = raw[5] if len(raw) > 5 else None
        elif isinstance(raw, dict):
            link_id, origin, slot = raw.get("id"), raw.get("origin_id"), raw.get("origin_slot")
            target, target_slot, kind = raw.get("target_id"), raw.get("target_slot"), raw.get("type")
        else:
            raise _wrong("a link is a list of six values or an object", f"{path}[{index}]")
        at = f"{path}[{index}]"
        link = WorkflowLink(
            link_id if type(link_id) is int else _integer(link_id, f"{at}, its id"),
            str(origin) if type(origin) is int else _node_id(origin, at, "origin_id"),
            slot if type(slot) is int and slot >= 0 else _slot(slot, f"{at}, its origin slot"),
            str(target) if type(target) is int else _node_id(target, at, "target_id"),
            target_slot
            if type(target_slot) is int and target_slot >= 0
            else _slot(target_slot, f"{at}, its target slot"),
            kind,
        )
        if found.setdefault(link.id, link) != link:
            raise _wrong(f"a second, different link with the id {link.id}", at)
    return found


def _node_id(value: JSON, path: str, key: str) -> str:
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    if isinstance(value, str) and value.strip() and value.isprintable() and len(value) <= 200:
        return value
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    raise _wrong(f"a node id is an integer or a text, not {short(value)}", f"{path}.{key}")


def _integer(value: JSON, path: str) -> int:
    if isinstance(value, float) and value.is_integer():
        return int(value)
    if isinstance(value, str) and value.isascii() and value.isdigit() and len(value) < 20:
        return int(value)
    if isinstance(value, int) and not isinstance(value, bool):
        return value
    raise _wrong(f"must be an integer, not {short(value)}", path)


def _slot(value: JSON, path: str) -> int:
    slot = _integer(value, path)
    if slot < 0:
        raise _wrong(f"a slot is 0 or more, not {slot}", path)
    return slot


def _object(value: JSON, path: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise _wrong(f"must be an object, not {_kind(value)}", path)
    return value


def _mapping(value: JSON, path: str) -> Mapping[str, JSON]:
    return {} if value is None or value == [] else _object(value, path)


def _kind(value: JSON) -> str:
    names = {dict: "an object", list: "a list", str: "a text", bool: "a boolean", type(None): "nothing"}
    return names.get(type(value), "a number" if isinstance(value, int | float) else type(value).__name__)


def _wrong(message: str, path: str, remedy: str | None = None) -> WorkflowError:
    return WorkflowError(message, path=path, remedy=remedy)


__all__ = [
    "SUBGRAPH_INPUT",
    "SUBGRAPH_OUTPUT",
    "NodeInput",
    "NodeOutput",
    "Subgraph",
    "SubgraphSlot",
    "Workflow",
    "WorkflowLink",
    "WorkflowNode",
    "looks_like_workflow",
    "parse_node",
    "parse_workflow",
]
