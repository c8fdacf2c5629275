"""Strict JSON, and getters that name the JSON path of what is wrong (``models[3].sha256``)."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

from ..graph.errors import GraphError
from ..graph.jsontext import parse_json
from .errors import ManifestError
from .names import shown

JSON = Any  # None | bool | int | float | str | list[JSON] | dict[str, JSON]
T = TypeVar("T")

MAX_ITEMS = 10_000
"""Entries of a list or an object in a manifest: a hundred times what the largest real one has."""

MAX_TEXT = 4096
"""Characters of one string in a manifest."""


def strict_json(data: bytes) -> JSON:
    """The JSON value of a manifest's bytes.

    Raises:
        ManifestError: not UTF-8, a byte order mark, not JSON, a repeated key, NaN, an over-long number or deep nesting;
            with the JSON path where there is one.
    """
    if data.startswith((b"\xef\xbb\xbf", b"\xff\xfe", b"\xfe\xff")):
        raise ManifestError("it begins with a byte order mark", remedy="save it as UTF-8 without one")
    try:
        return parse_json(data)
    except GraphError as error:
        raise ManifestError(error.message, path=error.path) from None


def stable_json(value: JSON) -> bytes:
    """``value`` as UTF-8 JSON that depends on nothing else: keys in their order, indented, newline at the end."""
    return (json.dumps(value, ensure_ascii=False, indent=2, allow_nan=False) + "\n").encode("utf-8")


@dataclass(frozen=True, slots=True)
class Node:
    """A value in a manifest together with its JSON path."""

    value: JSON
    path: str = ""

    def fail(self, message: str, remedy: str | None = None) -> ManifestError:
        """The error that ``message`` is true of this value."""
        return ManifestError(message, path=self.path or None, remedy=remedy)

    def child(self, key: str | int) -> Node:
        """The value at ``key``; None where an object lacks it."""
        if isinstance(key, int):
            return Node(self.value[key], f"{self.path}[{key}]")
        step = key if key.isidentifier() else None
        path = (f"{self.path}.{step}" if self.path else step) if step else f"{self.path}[{shown(without_secrets(key))}]"
        return Node(self.value.get(key), path)

    def items(self) -> list[tuple[str, Node]]:
        """The entries of an object, each with its path; an error where it is none or has too many."""
        if not isinstance(self.value, dict):
            raise self.fail(f"must be an object, not {_kind(self.value)}")
        if len(self.value) > MAX_ITEMS:
            raise self.fail(f"has {len(self.value)} entries; {MAX_ITEMS} are allowed")
        for key in self.value:
            if len(key) > MAX_TEXT:
                raise self.fail(f"has a key of {len(key)} characters; {MAX_TEXT} are allowed")
        return [(key, self.child(key)) for key in self.value]

    def elements(self) -> list[Node]:
        """The elements of a list, each with its path; an error where it is none or has too many."""
        if not isinstance(self.value, list):
            raise self.fail(f"must be a list, not {_kind(self.value)}")
        if len(self.value) > MAX_ITEMS:
            raise self.fail(f"has {len(self.value)} entries; {MAX_ITEMS} are allowed")
        return [self.child(index) for index in range(len(self.value))]

    def text(self) -> str:
        """A string."""
        if not isinstance(self.value, str):
            raise self.fail(f"must be a string, not {_kind(self.value)}")
        if len(self.value) > MAX_TEXT:
            raise self.fail(f"has {len(self.value)} characters; {MAX_TEXT} are allowed")
        return self.value

    def flag(self, default: bool = False) -> bool:
        """A boolean; ``default`` where it is missing or null."""
        if self.value is None:
            return default
        if not isinstance(self.value, bool):
            raise self.fail(f"must be true or false, not {_kind(self.value)}")
        return self.value

    def count(self) -> int:
        """A whole number, zero or more, of at most 63 bits."""
        if not isinstance(self.value, int) or isinstance(self.value, bool):
            raise self.fail(f"must be a whole number, not {_kind(self.value)}")
        if not 0 <= self.value < 1 << 63:
            raise self.fail("must be zero or more and fit in 63 bits")
        return self.value

    def optional(self, read: Callable[[Node], T]) -> T | None:
        """``read(self)``, or None where the value is missing or null."""
        return None if self.value is None else read(self)

    def matching(self, allowed: Callable[[str], bool], what: str) -> str:
        """A string for which ``allowed`` holds; else the error says that it must be ``what``."""
        text = self.text()
        if not allowed(text):
            raise self.fail(f"must be {what}, not {shown(without_secrets(text))}")
        return text


def without_secrets(text: str) -> str:
    """``text`` with what an address says of user and password made unreadable: messages end in logs."""
    return re.sub(r"(?<=://)[^/@\s]+(?=@)", "***", text)


def rest(value: Mapping[str, JSON], *known: str) -> dict[str, JSON]:
    """The entries of an object that nobody asked for: kept, so that reading and writing loses nothing."""
    return {key: item for key, item in value.items() if key not in known}


def _kind(value: JSON) -> str:
    names = {bool: "a boolean", int: "a number", float: "a number", str: "a string", list: "a list", dict: "an object"}
    return "null" if value is None else names.get(type(value), type(value).__name__)
