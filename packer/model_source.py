"""The interface as a pydantic model: its names and constraints, and its source text for an exported service.

The service builds the same model while it runs (`api.models`), from the same functions; a test holds the two equal.
"""

from __future__ import annotations

import keyword
import textwrap
from collections.abc import Sequence
from typing import Any

from ..graph import Interface, Parameter, ParameterType
from ..graph.values import MAX_TEXT

DOC = "What the workflow takes."
WIDTH = 110  # columns of the generated source

KINDS = {
    ParameterType.TEXT: "str",
    ParameterType.INTEGER: "int",
    ParameterType.NUMBER: "float",
    ParameterType.BOOLEAN: "bool",
}


def field_names(interface: Interface) -> dict[str, str]:
    """The attribute of each parameter, by its name: the name itself, but where Python or pydantic needs that name."""
    taken = {p.name for p in interface.parameters if _attribute(p.name) == p.name}
    names: dict[str, str] = {}
    for parameter in interface.parameters:
        attribute = _attribute(parameter.name)
        while attribute != parameter.name and attribute in taken:
            attribute = f"{attribute}_"
        taken.add(attribute)
        names[parameter.name] = attribute
    return names


def _attribute(name: str) -> str:
    from pydantic import BaseModel

    safe = name.lstrip("_") or "value"
    reserved = keyword.iskeyword(safe) or hasattr(BaseModel, safe) or safe == "model_config" or safe in _MODULE_NAMES
    return f"{safe}_" if safe != name or reserved else name


# What the generated module calls its own things: inside the class a field of that name would hide it.
_MODULE_NAMES = {"Annotated", "Any", "FileInput", "Field", "Literal", "bool", "float", "int", "str"}


def is_literal(choices: Sequence[Any] | None) -> bool:
    """Whether ``Literal`` can spell these choices."""
    return bool(choices) and all(isinstance(choice, str | int | bool) for choice in choices or ())


def is_optional(parameter: Parameter) -> bool:
    """Whether null stands for "not given": files, and values without a default of their own."""
    return not parameter.required and (parameter.default is None or parameter.type.is_file)


def default(parameter: Parameter) -> Any:
    """The default of an optional parameter's field."""
    return None if parameter.type.is_file else parameter.default


def bounds(parameter: Parameter) -> dict[str, Any]:
    """The keywords of the parameter's ``Field`` that bound its value; where null is allowed, they are its other
    type's."""
    keywords: dict[str, Any] = {}
    if parameter.type in {ParameterType.INTEGER, ParameterType.NUMBER}:
        keywords |= {"ge": parameter.minimum, "le": parameter.maximum}
    if parameter.type is ParameterType.TEXT:
        keywords["max_length"] = MAX_TEXT
    return {key: value for key, value in keywords.items() if value is not None}


def notes(parameter: Parameter) -> dict[str, Any]:
    """The keywords of the parameter's ``Field`` that tell of it."""
    keywords: dict[str, Any] = {"title": parameter.title or None, "description": _description(parameter)}
    if parameter.type is ParameterType.CHOICE and not is_literal(parameter.choices):
        keywords["json_schema_extra"] = {"enum": list(parameter.choices or ())}
    return {key: value for key, value in keywords.items() if value is not None}


def _description(parameter: Parameter) -> str | None:
    parts = [parameter.description.strip()]
    if parameter.type.is_file and not parameter.required:
        parts.append("Without it the workflow's own file is used.")
    if parameter.default is None and parameter.type is ParameterType.INTEGER and not parameter.required:
        parts.append("Without it one is drawn at random.")
    return " ".join(part for part in parts if part) or None


def model_source(interface: Interface) -> str:
    """The class ``Inputs`` of an exported service, as Python source."""
    names = field_names(interface)
    lines = ["class Inputs(BaseInputs):", f'    """{DOC}"""', ""]
    for parameter in interface.parameters:
        lines += _field(parameter, names[parameter.name])
    if not interface.parameters:
        lines.pop()
    return "\n".join(lines) + "\n"


def imports(interface: Interface) -> tuple[set[str], set[str], set[str]]:
    """The names that `model_source` uses: from typing, from pydantic, from comfy_atelier.api."""
    typing, pydantic, ours = set(), set(), {"Inputs as BaseInputs"}
    for parameter in interface.parameters:
        kind = _kind(parameter)
        if _keywords(parameter, parameter.name) or bounds(parameter):
            typing.add("Annotated")
            pydantic.add("Field")
        if kind.startswith("Literal"):
            typing.add("Literal")
        elif kind == "Any":
            typing.add("Any")
        elif kind == "FileInput":
            ours.add(kind)
    for name, attribute in field_names(interface).items():
        if name != attribute:
            typing.add("Annotated")
            pydantic.add("Field")
    return typing, pydantic, ours


def _kind(parameter: Parameter) -> str:
    if parameter.type is ParameterType.CHOICE:
        if not is_literal(parameter.choices):
            return "Any"
        return f"Literal[{', '.join(_literal(choice) for choice in parameter.choices or ())}]"
    return KINDS.get(parameter.type, "FileInput")


def _keywords(parameter: Parameter, attribute: str) -> dict[str, Any]:
    keywords = notes(parameter) if is_optional(parameter) else {**bounds(parameter), **notes(parameter)}
    return {"alias": parameter.name, **keywords} if attribute != parameter.name else keywords


def _call(keywords: dict[str, Any]) -> list[str]:
    return [f"{key}={_literal(value)}" for key, value in keywords.items()]


def _field(parameter: Parameter, attribute: str) -> list[str]:
    kind = _kind(parameter)
    if is_optional(parameter):
        inner = ", ".join(_call(bounds(parameter)))
        kind = f"Annotated[{kind}, Field({inner})] | None" if inner else f"{kind} | None"
    keywords = _call(_keywords(parameter, attribute))
    ending = "" if parameter.required else f" = {_literal(default(parameter))}"
    shown = kind if len(kind) <= WIDTH - 10 else _wrapped(kind)
    if not keywords:
        line = f"    {attribute}: {kind}{ending}"
        return [line if len(line) <= WIDTH else f"    {attribute}: {_wrapped(kind, '    ')}{ending}"]
    line = f"    {attribute}: Annotated[{kind}, Field({', '.join(keywords)})]{ending}"
    if len(line) <= WIDTH:
        return [line]
    lines = "\n".join(f"            {keyword}," for keyword in keywords)
    short = f"        Field({', '.join(keywords)}),"
    if len(short) <= WIDTH:
        return [f"    {attribute}: Annotated[\n        {shown},\n{short}\n    ]{ending}"]
    return [f"    {attribute}: Annotated[\n        {shown},\n        Field(\n{lines}\n        ),\n    ]{ending}"]


def _wrapped(kind: str, margin: str = "        ") -> str:
    """A long ``Literal`` over several lines, broken between its choices only."""
    if not kind.startswith("Literal["):
        return kind
    body, _, tail = kind.removeprefix("Literal[").rpartition("]")
    lines: list[str] = [""]
    for choice in _split(body):
        if lines[-1] and len(lines[-1]) + len(choice) + 2 > WIDTH - len(margin) - 6:
            lines.append("")
        lines[-1] += f"{choice}, "
    inner = textwrap.indent("\n".join(line.rstrip() for line in lines), margin + "    ")
    return f"Literal[\n{inner}\n{margin}]{tail}"


def _split(body: str) -> list[str]:
    """The choices of a ``Literal``'s source; a comma inside a text is none."""
    import ast

    parsed = ast.parse(f"[{body}]", mode="eval").body
    assert isinstance(parsed, ast.List)
    return [_literal(ast.literal_eval(element)) for element in parsed.elts]


def _literal(value: Any) -> str:
    """A value as source, with the quotes that formatters like."""
    if not isinstance(value, str):
        return repr(value)
    text = repr(value)
    if text.startswith("'") and '"' not in value and "\\'" not in text:
        return f'"{text[1:-1]}"'
    return text
