"""JSON read strictly: what other tools disagree about is an error here that names its place.

Python's own reader takes NaN, the last of two equal keys, half a surrogate pair and numbers that no peer can hold; each
of them fails later, far from its cause. Here they are errors with the JSON path.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from typing import Any

from .errors import GraphError

JSON = Any  # None | bool | int | float | str | list[JSON] | dict[str, JSON]; recursive aliases cost more than they tell

MAX_DEPTH = 100
"""Nesting that a document may have. The official templates need 12; `copy.deepcopy` and encoders break near 300."""

MAX_INTEGER_BITS = 1024
"""Bits of the largest integer: beyond it no conversion to a float is possible. A seed needs 64."""


MAX_VALUES = 1_000_000
"""Values in a document, told by its commas before it is parsed: more take seconds. The largest template has 40,000."""

_PLAIN = 2**64


class _Unreadable:
    """Stands in the tree for a literal that cannot be kept, until the walk that knows its path reports it."""

    def __init__(self, why: str) -> None:
        self.why = why


class _Repeated(dict[str, JSON]):
    """An object that named a key twice."""

    key: str = ""


def parse_json(text: str | bytes, *, error: type[GraphError] = GraphError) -> JSON:
    """The JSON value that ``text`` holds.

    Bytes are UTF-8, with or without a byte order mark, or UTF-16 with one (what a Windows shell's ``>`` writes).

    Raises:
        error: not UTF-8, not JSON (with line and column), a repeated key, NaN or an infinity, an integer beyond
            `MAX_INTEGER_BITS`, half a surrogate pair, or deeper than `MAX_DEPTH`; the last five with the JSON path.
    """
    text = _decoded(text, error)
    if not text.strip():
        raise error("the document is empty", remedy="it must hold one JSON object")
    if text.count(",") > MAX_VALUES:
        raise error(f"the document holds more than {MAX_VALUES} values")
    try:
        value = json.loads(
            text,
            object_pairs_hook=_object,
            parse_constant=lambda name: _Unreadable(f"{name} is not JSON"),
            parse_int=_integer,
            parse_float=_number,
        )
    except json.JSONDecodeError as e:
        raise error(f"not JSON: {_plain(e.msg)} at line {e.lineno}, column {e.colno}") from None
    except RecursionError:
        raise error(f"nested deeper than {MAX_DEPTH} levels") from None
    check_json(value, error=error)
    return value


def check_json(value: JSON, *, error: type[GraphError] = GraphError, path: str = "") -> None:
    """Raise ``error``, with the JSON path, for what `parse_json` refuses or what is no JSON at all.

    For values that came as objects: from another parser, or from a program.
    """
    stack: list[tuple[JSON, _Path | None, int]] = [(value, None, 0)]
    while stack:
        item, place, depth = stack.pop()
        why = _complaint(item)
        if why is not None:
            raise error(why, path=path + _spelled(place) or None)
        if depth > MAX_DEPTH and isinstance(item, dict | list):
            raise error(f"nested deeper than {MAX_DEPTH} levels", path=_shortened(path + _spelled(place)))
        for key, child in _children(item):
            kind = type(child)  # most values need no second look, and a large file has a million of them
            if kind is str:
                if child.isascii():
                    continue
            elif kind is int:
                if -_PLAIN < child < _PLAIN:
                    continue
            elif kind is bool or child is None or (kind is float and child - child == 0):
                continue
            stack.append((child, (place, key), depth + 1))


_Path = tuple[Any, str | int]  # (parent path or None, last step): spelled out only where an error needs it


def _children(item: JSON) -> Iterator[tuple[str | int, JSON]]:
    if isinstance(item, dict):
        yield from item.items()
    elif isinstance(item, list):
        yield from enumerate(item)


def _complaint(item: JSON) -> str | None:
    """Why ``item`` itself, not what it holds, cannot stay; None where it can."""
    if item is None or isinstance(item, bool):
        return None
    if isinstance(item, str):
        return None if _encodable(item) else "holds half of a surrogate pair, which no UTF-8 file can carry"
    if isinstance(item, int):
        if item.bit_length() > MAX_INTEGER_BITS:
            return f"an integer of {item.bit_length()} bits; no more than {MAX_INTEGER_BITS} fit"
        return None
    if isinstance(item, float):
        return None if math.isfinite(item) else f"{item} is not JSON"
    if isinstance(item, _Unreadable):
        return item.why
    if isinstance(item, _Repeated):
        return f"names {short(item.key)} twice"
    if isinstance(item, dict):
        for key in item:
            if not isinstance(key, str):
                return f"a key must be a string, not {type(key).__name__}"
            if not _encodable(key):
                return "a key holds half of a surrogate pair, which no UTF-8 file can carry"
        return None
    if isinstance(item, list):
        return None
    return f"{type(item).__name__} is not JSON"


def _encodable(text: str) -> bool:
    if text.isascii():
        return True
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        return False
    return True


def short(value: JSON, limit: int = 60) -> str:
    """A value as a message shows it: JSON on one line without control characters, cut at ``limit`` characters."""
    if isinstance(value, str):
        value = value[: limit + 1]
    elif isinstance(value, int) and value.bit_length() > MAX_INTEGER_BITS:
        return f"an integer of {value.bit_length()} bits"
    try:
        text = json.dumps(value, ensure_ascii=False, default=str)
    except (RecursionError, ValueError):
        return type(value).__name__
    text = "".join(c if c.isprintable() else f"\\u{ord(c):04x}" for c in text[: limit + 1])
    return text if len(text) <= limit else text[: limit - 1] + "…"


def _spelled(place: _Path | None) -> str:
    steps: list[str] = []
    while place is not None:
        place, step = place
        if isinstance(step, int):
            steps.append(f"[{step}]")
        elif isinstance(step, str) and step.isidentifier():
            steps.append(f".{step}")
        else:
            steps.append(f"[{short(step)}]")
    return "".join(reversed(steps)).removeprefix(".")


def _shortened(path: str) -> str:
    return path if len(path) <= 80 else path[:79] + "…"


def _decoded(text: str | bytes, error: type[GraphError]) -> str:
    if isinstance(text, bytes):
        encoding = "utf-16" if text[:2] in (b"\xff\xfe", b"\xfe\xff") else "utf-8"
        try:
            text = text.decode(encoding)
        except UnicodeDecodeError as e:
            raise error(f"not {encoding.upper()}: byte {e.start} cannot be read", remedy="save it as UTF-8") from None
    return text.removeprefix("\ufeff")


def _plain(message: str) -> str:
    return message[:1].lower() + message[1:]


def _object(pairs: list[tuple[str, JSON]]) -> dict[str, JSON]:
    value = dict(pairs)
    if len(value) == len(pairs):
        return value
    seen: set[str] = set()
    repeated = _Repeated(value)
    for key, _ in pairs:
        if key in seen:
            repeated.key = key
            break
        seen.add(key)
    return repeated


def _integer(text: str) -> int | _Unreadable:
    if len(text) > MAX_INTEGER_BITS // 3:
        return _Unreadable(f"an integer of {len(text)} digits; a server takes at most 64 bits")
    return int(text)


def _number(text: str) -> float | _Unreadable:
    value = float(text)
    return value if math.isfinite(value) else _Unreadable(f"{short(text)} is too large for a number")
