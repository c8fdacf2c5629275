"""What callers send for a parameter: checked, and as the node takes it."""

from __future__ import annotations

import math
from pathlib import Path

from .errors import BindError
from .files import file_name_fault
from .interface import Parameter, ParameterType
from .jsontext import JSON, short

MAX_TEXT = 200_000
"""Characters of a text parameter. The longest prompt that any text encoder of the catalogue reads is far below."""


def checked_value(parameter: Parameter, value: JSON | Path) -> JSON | Path:
    """``value`` as the parameter's node takes it; whole floats become integers, integers become floats.

    Raises:
        BindError: names the parameter, what is wrong and what would be right.
    """
    if parameter.type.is_file:
        return _file(parameter, value)
    match parameter.type:
        case ParameterType.TEXT:
            return _text(parameter, value)
        case ParameterType.BOOLEAN:
            if not isinstance(value, bool):
                raise _unfit(parameter, value, "must be true or false")
            return value
        case ParameterType.CHOICE:
            return _choice(parameter, value)
    return _number(parameter, value)


def parse_value(parameter: Parameter, text: str) -> JSON:
    """The value that ``text`` means, for callers who have only text (a command line, a form field).

    Files stay text: the caller knows whether that is a path or a name. `BindError` where a number is none.
    """
    match parameter.type:
        case ParameterType.INTEGER | ParameterType.NUMBER:
            return _parsed_number(parameter, text)
        case ParameterType.BOOLEAN:
            word = text.strip().lower()
            if word in {"true", "yes", "on", "1"}:
                return True
            if word in {"false", "no", "off", "0"}:
                return False
            raise _unfit(parameter, text, "must be true or false")
        case ParameterType.CHOICE:
            return next((c for c in parameter.choices or () if str(c) == text), text)
    return text


def _parsed_number(parameter: Parameter, text: str) -> int | float:
    try:
        return int(text)
    except ValueError:
        pass
    try:
        return float(text)
    except ValueError:
        raise _unfit(parameter, text, "must be a number") from None


def _text(parameter: Parameter, value: JSON | Path) -> str:
    if not isinstance(value, str):
        raise _unfit(parameter, value, "must be text")
    if len(value) > MAX_TEXT:
        raise _unfit(parameter, value, f"has {len(value)} characters, no more than {MAX_TEXT} are allowed")
    if "\0" in value:
        raise _unfit(parameter, value, "must not hold a NUL character")
    try:
        value.encode("utf-8")
    except UnicodeEncodeError:
        raise _unfit(parameter, value, "holds half of a surrogate pair, which no UTF-8 text can") from None
    return value


def _number(parameter: Parameter, value: JSON | Path) -> int | float:
    whole = parameter.type is ParameterType.INTEGER
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise _unfit(parameter, value, "must be a whole number" if whole else "must be a number")
    if isinstance(value, float) and not math.isfinite(value):
        raise _unfit(parameter, value, "must be a finite number")
    if whole and value != int(value):
        raise _unfit(parameter, value, "must be a whole number")
    if parameter.minimum is not None and value < parameter.minimum:
        raise _unfit(parameter, value, f"must be at least {parameter.minimum}")
    if parameter.maximum is not None and value > parameter.maximum:
        raise _unfit(parameter, value, f"must be at most {parameter.maximum}")
    try:
        return int(value) if whole else float(value)
    except OverflowError:
        raise _unfit(parameter, value, "is too large") from None


def _choice(parameter: Parameter, value: JSON | Path) -> JSON:
    for choice in parameter.choices or ():
        if choice == value and isinstance(choice, bool) == isinstance(value, bool):
            return choice
    listed = [short(choice) for choice in parameter.choices or ()]
    shown = ", ".join(listed[:20]) + (f" and {len(listed) - 20} more" if len(listed) > 20 else "")
    raise _unfit(parameter, value, f"must be one of {shown}")


def _file(parameter: Parameter, value: JSON | Path) -> str | Path:
    if isinstance(value, Path):
        return value
    fault = file_name_fault(value)
    if fault is not None:
        what, _, remedy = fault.partition("; ")
        raise BindError(f"parameter {parameter.name!r}: {what}", parameter=parameter.name, remedy=remedy or None)
    assert isinstance(value, str)
    return value


def _unfit(parameter: Parameter, value: JSON | Path, why: str) -> BindError:
    shown = str(value) if isinstance(value, Path) else short(value)
    return BindError(f"parameter {parameter.name!r} {why}, not {shown}", parameter=parameter.name)
