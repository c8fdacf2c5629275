"""Renumbering: node ids made unique across the workflow and all its subgraph definitions, as the editor makes them.

Front ends of 2026 give every inner node that shares its id with another a new one, counted up from the file's last node
id, and the ids in a prompt show it. Source: ``subgraphDeduplication.ts``.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

from .jsontext import JSON
from .workflow import Subgraph, Workflow, WorkflowNode


def renumber(workflow: Workflow) -> Workflow:
    """The workflow with unique node ids; itself where they are unique already."""
    used = {node.id for node in workflow.nodes}
    if _all_different(workflow, used):
        return workflow
    last = _last_node_id(workflow)
    renamed: dict[str, dict[str, str]] = {}
    for subgraph in workflow.subgraphs.values():
        names: dict[str, str] = {}
        for node in subgraph.nodes:
            if node.id in used:
                last += 1
                while str(last) in used:
                    last += 1
                names[node.id] = str(last)
                used.add(str(last))
            else:
                used.add(node.id)
                number = _number(node.id)
                if number is not None and number > last:
                    last = number
        if names:
            renamed[subgraph.id] = names
    subgraphs = {key: _renamed(subgraph, renamed) for key, subgraph in workflow.subgraphs.items()}
    nodes = tuple(_with_proxies(node, renamed) for node in workflow.nodes)
    return dataclasses.replace(workflow, nodes=nodes, subgraphs=subgraphs)


def _all_different(workflow: Workflow, root: set[str]) -> bool:
    seen = set(root)
    for subgraph in workflow.subgraphs.values():
        for node in subgraph.nodes:
            if node.id in seen:
                return False
            seen.add(node.id)
    return True


def _number(node_id: str) -> int | None:
    """The id as a number, where it is one in the form that JavaScript writes."""
    if len(node_id) > 15 or not node_id.isascii() or not node_id.removeprefix("-").isdigit():
        return None
    number = int(node_id)
    return number if str(number) == node_id else None


def _last_node_id(workflow: Workflow) -> int:
    state = workflow.raw.get("state")
    listed: list[JSON] = [
        workflow.raw.get("last_node_id"),
        state.get("lastNodeId") if isinstance(state, dict) else None,
    ]
    return max((n for n in listed if isinstance(n, int) and not isinstance(n, bool) and n < 10**15), default=0)


def _renamed(subgraph: Subgraph, renamed: Mapping[str, Mapping[str, str]]) -> Subgraph:
    names = renamed.get(subgraph.id, {})
    nodes = tuple(
        _with_proxies(node._replace(id=names[node.id]) if node.id in names else node, renamed)
        for node in subgraph.nodes
    )
    links = subgraph.links
    if names:
        links = {
            key: link._replace(
                origin_id=names.get(link.origin_id, link.origin_id), target_id=names.get(link.target_id, link.target_id)
            )
            for key, link in links.items()
        }
    return dataclasses.replace(subgraph, nodes=nodes, links=links)


def _with_proxies(node: WorkflowNode, renamed: Mapping[str, Mapping[str, str]]) -> WorkflowNode:
    """An instance whose list of proxied widgets names the inner nodes by their new ids."""
    names = renamed.get(node.type)
    listed = node.properties.get("proxyWidgets")
    if not names or not isinstance(listed, list):
        return node
    proxies = [
        [names.get(str(entry[0]), entry[0]), *entry[1:]] if isinstance(entry, list) and entry else entry
        for entry in listed
    ]
    return node._replace(properties={**node.properties, "proxyWidgets": proxies})
