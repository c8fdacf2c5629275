"""The interface as a pydantic model: what a request may hold, and what it says where it does not."""

from __future__ import annotations

import random
from collections.abc import Mapping
from difflib import get_close_matches
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, WithJsonSchema, create_model
from pydantic_core import ErrorDetails, from_json

from ..graph import BindError, Interface, Parameter, ParameterType
from ..graph.values import parse_value
from ..packer.model_source import DOC, bounds, default, field_names, is_literal, is_optional, notes
from .problems import Fault, Problem, invalid_inputs

SECRET = random.SystemRandom()


FileInput = Annotated[
    str,
    WithJsonSchema({"type": "string", "minLength": 1, "contentMediaType": "application/octet-stream"}),
]
"""A file: in JSON the id of an upload (``POST /uploads``) or a ``data:`` URL, in multipart a part."""


class Inputs(BaseModel):
    """The base of every inputs model: only known keys, no guessing of types."""

    model_config = ConfigDict(
        extra="forbid",
        strict=True,
        allow_inf_nan=False,
        frozen=False,
        populate_by_name=True,
        protected_namespaces=(),
        use_attribute_docstrings=False,
    )


def _annotation(parameter: Parameter) -> Any:
    kinds: dict[ParameterType, Any] = {
        ParameterType.TEXT: str,
        ParameterType.INTEGER: int,
        ParameterType.NUMBER: float,
        ParameterType.BOOLEAN: bool,
    }
    kind: Any = kinds.get(parameter.type, FileInput)
    if parameter.type is ParameterType.CHOICE:
        kind = Literal[parameter.choices] if is_literal(parameter.choices) else Any
    if not is_optional(parameter):
        return kind
    inner = bounds(parameter)
    return (Annotated[kind, Field(**inner)] if inner else kind) | None


def inputs_model(interface: Interface) -> type[Inputs]:
    """The pydantic model of an interface's parameters, in their order."""
    names = field_names(interface)
    fields: dict[str, Any] = {}
    for parameter in interface.parameters:
        keywords = notes(parameter) if is_optional(parameter) else {**bounds(parameter), **notes(parameter)}
        if not parameter.required:
            keywords["default"] = default(parameter)
        if names[parameter.name] != parameter.name:
            keywords["alias"] = parameter.name
        fields[names[parameter.name]] = (_annotation(parameter), Field(**keywords))
    model: type[Inputs] = create_model("Inputs", __base__=Inputs, __doc__=DOC, **fields)
    return model


class InputsReader:
    """Reads requests for one interface.

    Args:
        model: the pydantic model that callers see; one made from the interface, or a person's own.
    """

    def __init__(self, interface: Interface, model: type[BaseModel] | None = None) -> None:
        self.interface = interface
        self.model = model if model is not None else inputs_model(interface)
        self._parameters = {parameter.name: parameter for parameter in interface.parameters}
        self._known = [field.alias or name for name, field in self.model.model_fields.items()]

    def from_json(self, body: bytes) -> BaseModel:
        """The inputs in a JSON body.

        Raises:
            Problem: 400 where it is not JSON, 422 where it does not fit.
        """
        try:
            return self.model.__pydantic_validator__.validate_json(body or b"{}")  # type: ignore[no-any-return]
        except ValidationError as error:
            again = _whole_numbers(body, error)
            if again is not None:
                return self.from_values(again)
            raise self._problem(error) from error

    def from_form(self, fields: Mapping[str, str]) -> BaseModel:
        """The inputs in the text parts of a form; file parts are given as their parameter's name.

        Raises:
            Problem: 422 where a value does not fit.
        """
        values: dict[str, Any] = {}
        for name, text in fields.items():
            parameter = self._parameters.get(name)
            if parameter is None:
                values[name] = text
                continue
            try:
                value = parse_value(parameter, text)
                whole = isinstance(value, float) and value.is_integer() and parameter.type is ParameterType.INTEGER
                values[name] = int(value) if whole else value
            except BindError as error:
                raise invalid_inputs([fault_of(error)]) from error
        return self.from_values(values)

    def from_values(self, values: Mapping[str, Any]) -> BaseModel:
        """The inputs as Python values.

        Raises:
            Problem: 422 where a value does not fit.
        """
        try:
            return self.model.__pydantic_validator__.validate_python(dict(values))  # type: ignore[no-any-return]
        except ValidationError as error:
            raise self._problem(error) from error

    def _problem(self, error: ValidationError) -> Problem:
        errors = error.errors(include_url=False, include_context=True)
        if errors[0]["type"] == "json_invalid":
            reason = str(errors[0].get("ctx", {}).get("error", "invalid JSON"))
            return Problem(400, "not-json", f"the body is not JSON: {reason}; send one JSON object")
        return invalid_inputs([self._fault(details) for details in errors[:20]])

    def _fault(self, details: ErrorDetails) -> Fault:
        place = details["loc"]
        name = str(place[0]) if place else ""
        pointer = "/" + "/".join(str(step).replace("~", "~0").replace("/", "~1") for step in place[:1])
        if not place:
            return Fault(detail="the body must be one JSON object with the parameters as its keys", pointer="")
        shown = short(name)
        if details["type"] == "extra_forbidden":
            near = get_close_matches(name, self._known, 1)
            known = ", ".join(self._known[:20]) or "none"
            remedy = f"did you mean {near[0]!r}?" if near else f"known are {known}"
            return Fault(detail=f"no parameter is named {shown}; {remedy}", parameter=name[:64], pointer=pointer[:80])
        return Fault(detail=f"parameter {shown} {_why(details)}", parameter=name, pointer=pointer)


def _whole_numbers(body: bytes, error: ValidationError) -> dict[str, Any] | None:
    """The body's values with 20.0 as 20 where a whole number is wanted, since JSON has one kind of number for both.

    None where that is not all that is wrong.
    """
    errors = error.errors(include_url=False, include_context=False)
    whole = [e["loc"][0] for e in errors if isinstance(e["input"], float) and e["input"].is_integer() and e["loc"]]
    if len(whole) != len(errors) or not all(e["type"] in {"int_type", "int_from_float"} for e in errors):
        return None
    values: dict[str, Any] = from_json(body)
    return {name: int(value) if name in whole else value for name, value in values.items()}


def short(value: Any, *, limit: int = 60) -> str:
    """A caller's value in a message: one line, not long, nothing that a terminal would obey."""
    text = ascii(value) if isinstance(value, str) else str(value)
    return text if len(text) <= limit else f"{text[: limit - 1]}…"


def fault_of(error: BindError) -> Fault:
    """A fault from graph's own words."""
    return Fault(
        detail=f"{error.message}; {error.remedy}" if error.remedy else error.message,
        parameter=error.parameter,
        pointer=f"/{error.parameter}" if error.parameter else None,
    )


def _why(details: ErrorDetails) -> str:
    context = details.get("ctx", {})
    given = short(details.get("input"))
    match details["type"]:
        case "missing":
            return "is missing; give a value for it"
        case "greater_than_equal":
            return f"must be at least {context['ge']}, not {given}"
        case "less_than_equal":
            return f"must be at most {context['le']}, not {given}"
        case "literal_error":
            choices = str(context["expected"])
            return f"must be one of {choices if len(choices) < 400 else choices[:400] + '…'}, not {given}"
        case "string_too_long":
            return f"is too long; at most {context['max_length']} characters are taken"
        case "string_type":
            return f"must be text, not {given}"
        case "int_type" | "int_from_float" | "int_parsing" | "int_parsing_size":
            return f"must be a whole number, not {given}"
        case "float_type" | "float_parsing":
            return f"must be a number, not {given}"
        case "finite_number":
            return "must be a finite number"
        case "bool_type" | "bool_parsing":
            return f"must be true or false, not {given}"
        case _:
            message = details["msg"]
            return f"does not fit: {message[:1].lower()}{message[1:]}"


def drawn(interface: Interface, values: Mapping[str, Any]) -> dict[str, Any]:
    """The values with one drawn for every seed that is set to random, so that the job says which it ran with.

    A seed set to random is an optional integer with bounds and without a default (see `graph.bind`).
    """
    result = {name: value for name, value in values.items() if value is not None}
    for parameter in interface.parameters:
        low, high = parameter.minimum, parameter.maximum
        if (
            parameter.type is ParameterType.INTEGER
            and parameter.name not in result
            and parameter.default is None
            and not parameter.required
            and low is not None
            and high is not None
        ):
            result[parameter.name] = SECRET.randint(int(low), int(high))
    return result
