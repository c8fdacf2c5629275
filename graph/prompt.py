"""The server's JSON: a typed, frozen model of the API format, ``id -> class_type + inputs``.

Source of the format: ComfyUI ``execution.py`` (``validate_prompt``) and its ``POST /prompt``.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple, Self

from .errors import PromptError
from .jsontext import JSON as JSON
from .jsontext import check_json, parse_json, short


class Link(NamedTuple):
    """A wire in a prompt: output ``slot`` of node ``node``."""

    node: str
    slot: int


class InputRef(NamedTuple):
    """An input of a node: where a value or a file goes."""

    node: str
    input: str


@dataclass(frozen=True, kw_only=True, slots=True)
class PromptNode:
    """One node of a prompt. ``inputs`` holds `Link`s for wires and plain JSON for values."""

    class_type: str
    inputs: Mapping[str, Link | JSON] = field(default_factory=dict)
    title: str | None = None
    meta: Mapping[str, JSON] = field(default_factory=dict)  # the rest of _meta, kept as it came
    extra: Mapping[str, JSON] = field(default_factory=dict)  # unknown keys of the node, kept as they came

    @property
    def links(self) -> Iterator[tuple[str, Link]]:
        """The wired inputs: (input name, link), in the order of the inputs."""
        return ((name, value) for name, value in self.inputs.items() if isinstance(value, Link))


@dataclass(frozen=True, kw_only=True, slots=True)
class Prompt:
    """A prompt: nodes by id, in the order of the file."""

    nodes: Mapping[str, PromptNode]

    @classmethod
    def from_json(cls, value: JSON) -> Self:
        """The prompt in ``value``: the nodes by id, or the body of ``POST /prompt`` (``{"prompt": {...}, ...}``).

        Of such a body only the nodes are kept: queue position, client and extra data are not the workflow's.

        Raises:
            PromptError: what is no prompt, with node id and JSON path.
        """
        check_json(value, error=PromptError)
        if not isinstance(value, dict):
            raise PromptError(f"a prompt is a JSON object of nodes, not {_kind(value)}")
        value = _without_envelope(value)
        if not value:
            raise PromptError("the prompt has no nodes")
        return cls(nodes={node_id: _node(node_id, node) for node_id, node in value.items()})

    def to_json(self) -> dict[str, JSON]:
        """The prompt as ``POST /prompt`` takes it; `from_json` of it gives an equal prompt."""
        return {node_id: _node_json(node) for node_id, node in self.nodes.items()}


def parse_prompt(text: str | bytes) -> Prompt:
    """The prompt in a JSON document; see `jsontext.parse_json` and `Prompt.from_json` for what is refused."""
    return Prompt.from_json(parse_json(text, error=PromptError))


def looks_like_prompt(value: JSON) -> bool:
    """Whether a JSON value means to be a prompt (nodes by id, or an envelope of one), right or wrong."""
    if not isinstance(value, dict) or isinstance(value.get("nodes"), list):
        return False
    nodes = _without_envelope(value).values()
    return any(isinstance(node, dict) and ("class_type" in node or "inputs" in node) for node in nodes)


def topological_order(prompt: Prompt, roots: Iterable[str] | None = None) -> tuple[str, ...]:
    """Node ids such that each comes after what it is wired to; all of them, or only what ``roots`` need.

    Raises:
        PromptError: a link to a node that is not there, or a cycle (named node by node).
    """
    done: dict[str, None] = {}
    open_: dict[str, None] = {}  # the path from a root to the node at hand
    for root in prompt.nodes if roots is None else roots:
        stack = [(root, iter(_sources(prompt, root)))] if root not in done else []
        open_.update(dict.fromkeys([root] if stack else []))
        while stack:
            node_id, sources = stack[-1]
            source = next(sources, None)
            if source is None:
                stack.pop()
                open_.pop(node_id)
                done[node_id] = None
            elif source in open_:
                raise _cycle(prompt, list(open_), source)
            elif source not in done:
                open_[source] = None
                stack.append((source, iter(_sources(prompt, source))))
    return tuple(done)


def consumers(prompt: Prompt) -> dict[str, tuple[tuple[InputRef, int], ...]]:
    """For each node that something is wired to: the inputs it feeds, with the slot, in the order of the file."""
    found: dict[str, list[tuple[InputRef, int]]] = {}
    for node_id, node in prompt.nodes.items():
        for name, link in node.links:
            found.setdefault(link.node, []).append((InputRef(node_id, name), link.slot))
    return {node_id: tuple(refs) for node_id, refs in found.items()}


def _sources(prompt: Prompt, node_id: str) -> tuple[str, ...]:
    node = prompt.nodes[node_id]
    sources = dict.fromkeys(link.node for _, link in node.links)
    for name, link in node.links:
        if link.node not in prompt.nodes:
            raise PromptError(
                f"is wired to node {short(link.node)}, which is not there",
                node_id=node_id,
                class_type=node.class_type,
                input_name=name,
            )
    return tuple(sources)


def _cycle(prompt: Prompt, path: list[str], node_id: str) -> PromptError:
    loop = [*path[path.index(node_id) :], node_id]
    shown = loop if len(loop) <= 8 else [*loop[:4], "…", *loop[-3:]]
    return PromptError(
        f"its wires form a cycle: {' <- '.join(shown)}",
        node_id=node_id,
        class_type=prompt.nodes[node_id].class_type,
        remedy="cut one of these wires",
    )


_ENVELOPE = frozenset(
    {"prompt", "client_id", "prompt_id", "extra_data", "number", "front", "partial_execution_targets"}
)


def _without_envelope(value: dict[str, JSON]) -> dict[str, JSON]:
    inner = value.get("prompt")
    if not isinstance(inner, dict) or "class_type" in inner:
        return value
    if _ENVELOPE.issuperset(value) or not any(isinstance(v, dict) and "class_type" in v for v in value.values()):
        return inner
    return value


def _node(node_id: str, value: JSON) -> PromptNode:
    path = f"[{short(node_id)}]"
    if any(ord(c) < 32 or ord(c) == 127 for c in node_id) or not node_id.strip():
        raise PromptError("a node id must be readable text", path=path)
    if node_id in {"nodes", "links", "last_node_id", "version"} and not (
        isinstance(value, dict) and "class_type" in value
    ):
        raise PromptError(
            "this is no prompt but a workflow in the editor's format",
            path=path,
            remedy="convert it (`atelier convert`), or save it with the editor's Export (API)",
        )
    if not isinstance(value, dict):
        raise PromptError(
            f"a node is an object with class_type and inputs, not {_kind(value)}", node_id=node_id, path=path
        )
    class_type = value.get("class_type")
    if not isinstance(class_type, str) or not class_type:
        why = "has no class_type" if "class_type" not in value else f"class_type must be text, not {_kind(class_type)}"
        raise PromptError(why, node_id=node_id, path=f"{path}.class_type")
    inputs = value.get("inputs")
    if not isinstance(inputs, dict):
        why = "has no inputs" if "inputs" not in value else f"inputs must be an object, not {_kind(inputs)}"
        raise PromptError(why, node_id=node_id, class_type=class_type, path=f"{path}.inputs")
    extra = {key: item for key, item in value.items() if key not in {"class_type", "inputs", "_meta"}}
    meta = value.get("_meta")
    if not isinstance(meta, dict) or not meta:
        if "_meta" in value:
            extra["_meta"] = meta  # nothing of ours: kept as it came
        meta = {}
    title = meta.get("title")
    titled = isinstance(title, str)
    return PromptNode(
        class_type=class_type,
        inputs={name: _input(item) for name, item in inputs.items()},
        title=title if titled else None,
        meta={key: item for key, item in meta.items() if not (titled and key == "title")},
        extra=extra,
    )


def _input(value: JSON) -> Link | JSON:
    """A list of a node id and a slot is a wire; any other list stays, for `check_prompt` to judge."""
    if isinstance(value, list) and len(value) == 2 and isinstance(value[0], str) and type(value[1]) is int:
        return Link(value[0], value[1])
    return value


def _node_json(node: PromptNode) -> dict[str, JSON]:
    inputs = {name: list(value) if type(value) is Link else value for name, value in node.inputs.items()}
    result: dict[str, JSON] = {"inputs": inputs, "class_type": node.class_type}
    if node.title is not None:
        result["_meta"] = {"title": node.title, **node.meta}
    elif node.meta:
        result["_meta"] = dict(node.meta)
    if node.extra:
        result.update(node.extra)
    return result


def _kind(value: JSON) -> str:
    names = {dict: "an object", list: "a list", str: "text", bool: "true or false", type(None): "null"}
    return names.get(type(value), "a number")
