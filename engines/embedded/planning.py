"""What is known of a prompt before its first node runs: that it is valid, what it needs, what the cache may answer."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ...graph.errors import PromptError
from ...graph.markers import is_marker
from ...graph.prompt import InputRef, Prompt, PromptNode, topological_order
from ...graph.schemas import NodeSchemas
from ...graph.validation import check_prompt
from ..errors import InvalidPrompt, NodeError, UnknownNodes
from . import registry
from .context import Context, Run
from .inputs import prepare, with_defaults
from .problems import NodeProblem
from .registry import NodeClass
from .signatures import sign

POINT_AT_COMFYUI = "run it on a ComfyUI that has them (`--comfyui URL_OR_PATH`, or the setting ATELIER_COMFYUI)"


@dataclass(frozen=True, kw_only=True, slots=True)
class Plan:
    """A prompt that can run.

    Attributes:
        nodes: those that an output needs, by id, ancestors first, their inputs in their types.
        classes, signatures, groups: by node id; see `NodeClass`, `signatures.sign` and `inputs.Prepared`.
        outputs: the output nodes, in the order of the prompt.
    """

    nodes: Mapping[str, PromptNode]
    classes: Mapping[str, NodeClass]
    signatures: Mapping[str, str | None]
    groups: Mapping[str, Mapping[str, tuple[str, ...]]]
    outputs: Sequence[str]

    @property
    def needs_torch(self) -> bool:
        """Whether a node of it needs torch."""
        return any(registry.needs_torch(node.class_type) for node in self.nodes.values())

    def uses(self) -> dict[str, int]:
        """How many inputs take from each node."""
        return dict(Counter(link.node for node in self.nodes.values() for _, link in node.links))


class Planner:
    """Makes plans with these schemas."""

    def __init__(self, schemas: NodeSchemas) -> None:
        self.schemas = schemas

    def plan(self, prompt: Prompt, run: Run) -> Plan:
        """Check `prompt` as a server would and find out what runs.

        Raises:
            UnknownNodes: the engine lacks classes.
            InvalidPrompt: the prompt is wrong.
        """
        _check_classes(prompt)
        prompt = with_defaults(prompt, self.schemas)
        try:
            check_prompt(prompt, self.schemas)
        except PromptError as error:
            raise invalid(error) from error
        classes = {name: registry.load(node.class_type) for name, node in prompt.nodes.items()}
        outputs = [name for name in prompt.nodes if classes[name].output_node]
        prepared = {
            name: prepare(prompt.nodes[name], self.schemas[prompt.nodes[name].class_type])
            for name in topological_order(prompt, outputs)
        }
        nodes = {name: each.node for name, each in prepared.items()}
        groups = {name: each.groups for name, each in prepared.items()}
        _validate(nodes, classes, run)
        return Plan(
            nodes=nodes,
            classes=classes,
            groups=groups,
            outputs=outputs,
            signatures=_signatures(nodes, classes, run),
        )


def shortcomings(prompt: Prompt, schemas: NodeSchemas, run: Run, given: Collection[InputRef] = ()) -> list[NodeError]:
    """Everything that a run of `prompt` would lack: node classes, model files, families, tokenizers.

    Nodes are looked at one by one, marker nodes left out, so that what callers hand in later is not asked for.

    Args:
        given: inputs whose values callers give; nothing is said against those.
    """
    prompt = with_defaults(prompt, schemas)
    found: list[NodeError] = []
    for name, node in prompt.nodes.items():
        if is_marker(node.class_type):
            continue
        if registry.lacking([node.class_type]):
            text = "the embedded engine lacks this node class"
            found.append(NodeError(node_id=name, class_type=node.class_type, message=text, details=POINT_AT_COMFYUI))
            continue
        found += [
            fault
            for fault in _faults(name, node, registry.load(node.class_type), run)
            if fault.input_name is None or InputRef(name, fault.input_name) not in given
        ]
    return found


def unservable(faults: Sequence[NodeError]) -> InvalidPrompt:
    """One error that lists what is missing, each thing once, with the nodes that need it."""
    nodes: dict[tuple[str, str], list[str]] = {}
    for fault in faults:
        lacks = registry.lacking([fault.class_type or ""]) != ()
        text = f"the node class {fault.class_type}" if lacks else fault.message
        nodes.setdefault((text, fault.details), []).append(f"node {fault.node_id} ({fault.class_type})")
    lines = [
        f"  {', '.join(places)}: {text}" + (f"; {remedy}" if remedy else "") for (text, remedy), places in nodes.items()
    ]
    message = "the embedded engine cannot run this workflow; it lacks:\n" + "\n".join(lines)
    classes = registry.lacking(fault.class_type or "" for fault in faults)
    if len(classes) and all(registry.lacking([fault.class_type or ""]) for fault in faults):
        return UnknownNodes(message, classes=classes)
    error = InvalidPrompt(message, errors=faults)
    error.node_id = error.class_type = None  # it is about all of them
    return error


def _check_classes(prompt: Prompt) -> None:
    missing = registry.lacking(node.class_type for node in prompt.nodes.values())
    if missing:
        noun = "class" if len(missing) == 1 else "classes"
        raise UnknownNodes(
            f"the embedded engine lacks the node {noun} {', '.join(missing)}",
            classes=missing,
            remedy=POINT_AT_COMFYUI,
        )


def invalid(error: PromptError) -> InvalidPrompt:
    """What `graph` says against a prompt, as an engine's error."""
    fault = NodeError(
        node_id=error.node_id,
        class_type=error.class_type,
        message=error.message,
        details=error.remedy or "",
        input_name=error.input_name,
    )
    message = f"input {error.input_name!r}: {error.message}" if error.input_name else error.message
    return InvalidPrompt(message, errors=[fault] if error.node_id else [], remedy=error.remedy)


def _values(node: PromptNode) -> dict[str, Any]:
    linked = {name for name, _ in node.links}
    return {name: value for name, value in node.inputs.items() if name not in linked}


def _faults(name: str, node: PromptNode, node_class: NodeClass, run: Run) -> Iterator[NodeError]:
    if node_class.validate is None:
        return
    for fault in node_class.validate(**_values(node), context=Context(run, name, node.class_type)):
        yield NodeError(
            node_id=name,
            class_type=node.class_type,
            message=fault.message,
            details=fault.remedy,
            input_name=fault.input_name,
        )


def _validate(nodes: Mapping[str, PromptNode], classes: Mapping[str, NodeClass], run: Run) -> None:
    errors = [fault for name, node in nodes.items() for fault in _faults(name, node, classes[name], run)]
    if errors:
        raise InvalidPrompt(errors[0].message, errors=errors, remedy=errors[0].details or None)


def _signatures(nodes: Mapping[str, PromptNode], classes: Mapping[str, NodeClass], run: Run) -> dict[str, str | None]:
    fingerprints: dict[str, Any] = {}
    extra: dict[str, str] = {}
    for name, node in nodes.items():
        fingerprint = classes[name].fingerprint
        if fingerprint is not None:
            try:
                fingerprints[name] = fingerprint(**_values(node), context=Context(run, name, node.class_type))
            except (OSError, NodeProblem):
                fingerprints[name] = registry.NEVER_CACHED  # the node itself will say what is wrong
        if classes[name].uses_prompt:
            extra[name] = repr(run.metadata)
    return sign(nodes, fingerprints, extra)
