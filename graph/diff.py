"""What changed between two prompts: nodes, wires and values, models, interface, and whether that breaks callers."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum

from .files import MODEL_INPUTS
from .interface import Interface, Output, Parameter, ParameterType
from .jsontext import JSON, short
from .prompt import Link, Prompt, PromptNode


class Kind(StrEnum):
    """What a change is about."""

    NODE = "node"
    VALUE = "value"
    WIRE = "wire"
    MODEL = "model"
    PARAMETER = "parameter"
    OUTPUT = "output"


class Action(StrEnum):
    """What happened to it."""

    ADDED = "added"
    REMOVED = "removed"
    CHANGED = "changed"


@dataclass(frozen=True, kw_only=True, slots=True)
class Change:
    """One difference.

    Attributes:
        subject: what changed: ``3 (KSampler).cfg``, a model's file name, a parameter's name.
        old, new: the two values; None where there was or is none.
        breaking: calls that worked before may fail or mean something else now.
        why: what breaks, or what else is to say; may be empty.
    """

    kind: Kind
    action: Action
    subject: str
    old: JSON = None
    new: JSON = None
    breaking: bool = False
    why: str = ""

    def __str__(self) -> str:
        sign = {Action.ADDED: "+", Action.REMOVED: "-", Action.CHANGED: "~"}[self.action]
        if self.action is Action.CHANGED and (self.old is not None or self.new is not None):
            text = f"{sign} {self.kind.value} {self.subject}: {short(self.old)} -> {short(self.new)}"
        else:
            text = f"{sign} {self.kind.value} {self.subject}"
        why = f" ({self.why})" if self.why else ""
        return f"{text}{why}{' BREAKING' if self.breaking else ''}"

    def to_json(self) -> dict[str, JSON]:
        """The change as ``atelier diff --json`` prints it."""
        fields: dict[str, JSON] = {
            "kind": self.kind.value,
            "action": self.action.value,
            "subject": self.subject,
            "old": self.old,
            "new": self.new,
            "why": self.why,
        }
        return {key: value for key, value in fields.items() if value not in (None, "")} | {"breaking": self.breaking}


@dataclass(frozen=True, kw_only=True, slots=True)
class Difference:
    """All changes from one prompt to another, in the order: nodes, values and wires, models, interface."""

    changes: tuple[Change, ...]

    @property
    def breaking(self) -> bool:
        """Whether any change breaks callers."""
        return any(change.breaking for change in self.changes)

    def of(self, kind: Kind) -> tuple[Change, ...]:
        """The changes of one kind."""
        return tuple(change for change in self.changes if change.kind is kind)


def diff(
    old: Prompt, new: Prompt, *, old_interface: Interface | None = None, new_interface: Interface | None = None
) -> Difference:
    """What changed from ``old`` to ``new``; of the interface only where both are given.

    Nodes are the same where their ids are, or, where an id is gone, where class, values and wires are: a workflow that
    was only renumbered is unchanged.
    """
    pairs = _pairs(old, new)
    changes = [*_nodes(old, new, pairs), *_inputs(old, new, pairs), *_models(old, new)]
    if old_interface is not None and new_interface is not None:
        changes += [*_parameters(old_interface, new_interface), *_outputs(old_interface, new_interface)]
    return Difference(changes=tuple(changes))


def _pairs(old: Prompt, new: Prompt) -> dict[str, str]:
    """Node ids of ``old`` -> of ``new``: first the same id and class, then equal content, as often as it leads on."""
    pairs = {n: n for n, node in old.nodes.items() if n in new.nodes and new.nodes[n].class_type == node.class_type}
    taken = set(pairs.values())
    found = True
    while found:
        found = False
        spare: dict[str, list[str]] = {}
        for node_id, node in new.nodes.items():
            if node_id not in taken:
                spare.setdefault(_content(node, {}), []).append(node_id)
        for node_id, node in old.nodes.items():
            if node_id in pairs:
                continue
            same = spare.get(_content(node, pairs))
            if same:
                pairs[node_id] = same.pop(0)
                taken.add(pairs[node_id])
                found = True
    return pairs


def _content(node: PromptNode, pairs: Mapping[str, str]) -> str:
    """Class and inputs as text, wires by the ids that their sources have in the new prompt."""
    inputs = sorted(
        (
            name,
            repr(("wire", pairs.get(value.node, value.node), value.slot)) if isinstance(value, Link) else repr(value),
        )
        for name, value in node.inputs.items()
    )
    return repr((node.class_type, inputs))


def _place(node_id: str, node: PromptNode, name: str = "") -> str:
    return f"{node_id} ({node.class_type})" + (f".{name}" if name else "")


def _nodes(old: Prompt, new: Prompt, pairs: Mapping[str, str]) -> Iterator[Change]:
    for node_id, node in old.nodes.items():
        if node_id not in pairs:
            yield Change(kind=Kind.NODE, action=Action.REMOVED, subject=_place(node_id, node))
    kept = set(pairs.values())
    for node_id, node in new.nodes.items():
        if node_id not in kept:
            yield Change(kind=Kind.NODE, action=Action.ADDED, subject=_place(node_id, node))


def _inputs(old: Prompt, new: Prompt, pairs: Mapping[str, str]) -> Iterator[Change]:
    for old_id, new_id in pairs.items():
        before, after = old.nodes[old_id], new.nodes[new_id]
        for name in dict.fromkeys([*before.inputs, *after.inputs]):
            left = _seen(before.inputs.get(name, _ABSENT), pairs)
            right = _seen(after.inputs.get(name, _ABSENT), {})
            if left == right and type(left) is type(right):
                continue
            wired = isinstance(left, Link) or isinstance(right, Link)
            yield Change(
                kind=Kind.WIRE if wired else Kind.VALUE,
                action=Action.ADDED if left is _ABSENT else Action.REMOVED if right is _ABSENT else Action.CHANGED,
                subject=_place(new_id, after, name),
                old=_shown(left),
                new=_shown(right),
            )


class _Absent:
    """No such input."""


_ABSENT = _Absent()


def _seen(value: Link | JSON, pairs: Mapping[str, str]) -> Link | JSON:
    if isinstance(value, Link):
        return Link(pairs.get(value.node, value.node), value.slot)
    return float(value) if isinstance(value, int) and not isinstance(value, bool) and abs(value) < 2**53 else value


def _shown(value: Link | JSON) -> JSON:
    if isinstance(value, Link):
        return f"node {value.node}, output {value.slot}"
    if isinstance(value, _Absent):
        return None
    return int(value) if isinstance(value, float) and value.is_integer() else value


def _models(old: Prompt, new: Prompt) -> Iterator[Change]:
    before, after = _files(old), _files(new)
    for name in sorted(before - after):
        yield Change(kind=Kind.MODEL, action=Action.REMOVED, subject=name)
    for name in sorted(after - before):
        yield Change(kind=Kind.MODEL, action=Action.ADDED, subject=name)


def _files(prompt: Prompt) -> set[str]:
    return {
        f"{folder}/{value}"
        for node in prompt.nodes.values()
        for name, folder in MODEL_INPUTS.items()
        if isinstance(value := node.inputs.get(name), str) and "." in value
    }


def _parameters(old: Interface, new: Interface) -> Iterator[Change]:
    for parameter in old.parameters:
        after = new.parameter(parameter.name)
        if after is None:
            why = "callers that send it are refused"
            yield Change(kind=Kind.PARAMETER, action=Action.REMOVED, subject=parameter.name, breaking=True, why=why)
        else:
            yield from _parameter(parameter, after)
    for parameter in new.parameters:
        if old.parameter(parameter.name) is None:
            why = "callers must send it" if parameter.required else ""
            yield Change(
                kind=Kind.PARAMETER, action=Action.ADDED, subject=parameter.name, breaking=parameter.required, why=why
            )


def _parameter(old: Parameter, new: Parameter) -> Iterator[Change]:
    def changed(what: str, left: JSON, right: JSON, *, breaking: bool = False, why: str = "") -> Change:
        subject = f"{new.name}.{what}"
        return Change(
            kind=Kind.PARAMETER, action=Action.CHANGED, subject=subject, old=left, new=right, breaking=breaking, why=why
        )

    if old.type is not new.type:
        wider = (old.type, new.type) == (ParameterType.INTEGER, ParameterType.NUMBER)
        yield changed("type", old.type.value, new.type.value, breaking=not wider)
    if old.required != new.required:
        why = "callers must send it now" if new.required else ""
        yield changed("required", old.required, new.required, breaking=new.required, why=why)
    elif not new.required and old.default != new.default:
        yield changed("default", old.default, new.default, why="callers that do not send it get another result")
    for what, left, right, narrower in (
        ("minimum", old.minimum, new.minimum, _narrower(old.minimum, new.minimum, 1)),
        ("maximum", old.maximum, new.maximum, _narrower(old.maximum, new.maximum, -1)),
    ):
        if left != right:
            yield changed(what, left, right, breaking=narrower, why="values outside are refused" if narrower else "")
    if old.choices != new.choices and old.type is new.type is ParameterType.CHOICE:
        gone = [choice for choice in old.choices or () if choice not in (new.choices or ())]
        why = f"no longer: {', '.join(map(str, gone))}" if gone else ""
        yield changed("choices", list(old.choices or ()), list(new.choices or ()), breaking=bool(gone), why=why)


def _narrower(old: float | None, new: float | None, inwards: int) -> bool:
    """Whether a bound refuses what it allowed; ``inwards`` is 1 for a minimum and -1 for a maximum."""
    return new is not None and (old is None or (new - old) * inwards > 0)


def _outputs(old: Interface, new: Interface) -> Iterator[Change]:
    before: dict[str, Output] = {output.name: output for output in old.outputs}
    after: dict[str, Output] = {output.name: output for output in new.outputs}
    for name, output in before.items():
        if name not in after:
            yield Change(kind=Kind.OUTPUT, action=Action.REMOVED, subject=name, breaking=True)
        elif after[name].type is not output.type:
            yield Change(
                kind=Kind.OUTPUT,
                action=Action.CHANGED,
                subject=f"{name}.type",
                old=output.type.value,
                new=after[name].type.value,
                breaking=True,
            )
    for name in after:
        if name not in before:
            yield Change(kind=Kind.OUTPUT, action=Action.ADDED, subject=name)
