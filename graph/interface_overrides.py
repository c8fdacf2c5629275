"""Changes to an interface that a person asks for: one parameter more, one less, another name.

All of them are pure: the interface that was found stays, another comes back.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from difflib import get_close_matches

from .errors import InterfaceError
from .interface import Interface, Output, Parameter, is_name
from .interface_fields import parameter_for
from .jsontext import short
from .prompt import InputRef, Link, Prompt
from .schemas import NodeSchemas
from .tracing import Trace

_SHAPES = {
    "param": "NAME=NODE.WIDGET, such as seed=3.seed",
    "rename": "OLD=NEW, such as value=title",
}


def apply_overrides(
    interface: Interface,
    *,
    params: Sequence[str] = (),
    hide: Sequence[str] = (),
    rename: Sequence[str] = (),
    prompt: Prompt | None = None,
    schemas: NodeSchemas | None = None,
) -> Interface:
    """The interface with a person's changes, in the order hide, rename, params.

    Args:
        params: ``name=node.widget``: a parameter for that input; one of that name, or for that input, is replaced.
        hide: names of parameters that become fixed at their defaults, and of outputs that are not given out.
        rename: ``old=new``, of parameters and outputs.
        prompt, schemas: needed for ``params``.

    Raises:
        InterfaceError: a name, node or widget that is not there, or a name that is none; says which are.
    """
    for name in hide:
        interface = hidden(interface, name)
    for change in rename:
        old, new = _pair(change, "rename")
        interface = renamed(interface, old, new)
    for change in params:
        name, place = _pair(change, "param")
        if prompt is None:
            raise InterfaceError("a parameter can only be added where the prompt is known")
        interface = with_parameter(interface, prompt, schemas or NodeSchemas.builtin(), name, place)
    interface.validate()
    return interface


def hidden(interface: Interface, name: str) -> Interface:
    """Without the parameter or output of that name. A parameter that callers must send cannot be hidden."""
    parameter = interface.parameter(name)
    if parameter is not None and parameter.required:
        raise InterfaceError(
            f"parameter {name!r} has no value of its own, so it cannot be hidden", remedy="save one in the workflow"
        )
    parameters = tuple(p for p in interface.parameters if p.name != name)
    outputs = tuple(o for o in interface.outputs if o.name != name)
    if len(parameters) == len(interface.parameters) and len(outputs) == len(interface.outputs):
        raise _unknown(interface, name)
    return replace(interface, parameters=parameters, outputs=outputs)


def renamed(interface: Interface, old: str, new: str) -> Interface:
    """With the parameter or output ``old`` named ``new``."""
    if not is_name(new):
        raise InterfaceError(
            f"{short(new)} is no identifier", remedy="use letters, digits and underscores, a letter first"
        )
    if interface.parameter(old) is None and interface.output(old) is None:
        raise _unknown(interface, old)
    return replace(
        interface,
        parameters=tuple(replace(p, name=new) if p.name == old else p for p in interface.parameters),
        outputs=tuple(replace(o, name=new) if o.name == old else o for o in interface.outputs),
    )


def with_parameter(interface: Interface, prompt: Prompt, schemas: NodeSchemas, name: str, place: str) -> Interface:
    """With a parameter ``name`` for the input at ``place`` (``node.widget``), in the place of one that is replaced."""
    if not is_name(name):
        raise InterfaceError(
            f"{short(name)} is no identifier", remedy="use letters, digits and underscores, a letter first"
        )
    ref = input_at(prompt, place)
    value = prompt.nodes[ref.node].inputs[ref.input]
    if isinstance(value, Link):
        raise InterfaceError(
            f"is wired to node {short(value.node)}, so it has no value to set",
            node_id=ref.node,
            class_type=prompt.nodes[ref.node].class_type,
            input_name=ref.input,
            remedy="name the input at the other end of the wire",
        )
    added = parameter_for(Trace(prompt, schemas), ref, name)
    if added is None:
        raise InterfaceError(
            f"holds {short(value)}, which no caller can send as text, a number, a switch or a file",
            node_id=ref.node,
            class_type=prompt.nodes[ref.node].class_type,
            input_name=ref.input,
        )
    return replace(interface, parameters=_placed(interface.parameters, added))


def input_at(prompt: Prompt, place: str) -> InputRef:
    """The input that ``node.widget`` means. Both may hold dots: the longest node id that fits counts."""
    for cut in range(len(place) - 1, 0, -1):
        if place[cut] == "." and place[:cut] in prompt.nodes:
            node_id, name = place[:cut], place[cut + 1 :]
            node = prompt.nodes[node_id]
            if name in node.inputs:
                return InputRef(node_id, name)
            near = get_close_matches(name, list(node.inputs), 1)
            raise InterfaceError(
                f"has no input {short(name)}",
                node_id=node_id,
                class_type=node.class_type,
                remedy=f"did you mean {near[0]!r}?" if near else f"it has {', '.join(node.inputs) or 'none'}",
            )
    wanted = place.partition(".")[0]
    near = get_close_matches(wanted, list(prompt.nodes), 1)
    raise InterfaceError(
        f"no node {short(wanted)} is in the prompt" if "." in place else f"{short(place)} names no node and widget",
        remedy=f"did you mean {near[0]!r}?" if near else f"write it as {_SHAPES['param']}",
    )


def _placed(parameters: tuple[Parameter, ...], added: Parameter) -> tuple[Parameter, ...]:
    at = next((i for i, p in enumerate(parameters) if p.name == added.name or p.target == added.target), None)
    kept = [p for p in parameters if p.name != added.name and p.target != added.target]
    kept.insert(len(kept) if at is None else min(at, len(kept)), added)
    return tuple(kept)


def _pair(change: str, kind: str) -> tuple[str, str]:
    left, equals, right = change.partition("=")
    if not equals or not left.strip() or not right.strip():
        raise InterfaceError(f"{short(change)} is no {kind}", remedy=f"write it as {_SHAPES[kind]}")
    return left.strip(), right.strip()


def _unknown(interface: Interface, name: str) -> InterfaceError:
    items: list[Parameter | Output] = [*interface.parameters, *interface.outputs]
    known = list(dict.fromkeys(item.name for item in items))
    near = get_close_matches(name, known, 1)
    remedy = f"did you mean {near[0]!r}?" if near else f"known are {', '.join(known) or 'none'}"
    return InterfaceError(f"no parameter or output is named {short(name)}", remedy=remedy)
