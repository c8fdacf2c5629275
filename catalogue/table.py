"""A TOML table that knows its place: every error names file, entry and key, and no key is overlooked."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, TypeVar

from .errors import DataError

T = TypeVar("T")
_MISSING = object()


class Table:
    """A TOML table with its place, so that every error names file, entry and key."""

    def __init__(self, values: Mapping[str, Any], place: str) -> None:
        self.values = values
        self.place = place
        self.read: set[str] = set()

    def fail(self, message: str) -> DataError:
        return DataError(f"{self.place}: {message}")

    def get(self, key: str, kind: type[T], default: Any = _MISSING) -> T:
        """The value of ``key``, of that very type (an integer is a number too)."""
        self.read.add(key)
        value = self.values.get(key, default)
        if value is _MISSING:
            raise self.fail(f"'{key}' is missing")
        if key not in self.values:
            return value  # type: ignore[no-any-return]  # the caller's own default
        if kind is float and type(value) is int:
            value = float(value)
        if type(value) is not kind:
            raise self.fail(f"'{key}' must be {kind.__name__}, not {type(value).__name__}")
        return value

    def optional(self, key: str, kind: type[T]) -> T | None:
        return self.get(key, kind, None)

    def choice(self, key: str, choices: tuple[str, ...], default: Any = _MISSING) -> Any:
        value = self.get(key, str, default)
        if value not in choices:
            raise self.fail(f"'{key}' is '{value}'; it must be one of {', '.join(choices)}")
        return value

    def strings(self, key: str) -> tuple[str, ...]:
        values = self.get(key, list, [])
        if not all(isinstance(value, str) for value in values):
            raise self.fail(f"'{key}' must be a list of strings")
        return tuple(values)

    def texts(self, key: str) -> Mapping[str, str]:
        values = self.get(key, dict, {})
        if not all(isinstance(value, str) for value in values.values()):
            raise self.fail(f"'{key}' must map names to strings")
        return MappingProxyType(dict(values))

    def table(self, key: str) -> Table | None:
        values = self.optional(key, dict)
        return None if values is None else Table(values, f"{self.place}: {key}")

    def tables(self, key: str) -> list[Table]:
        rows = self.get(key, list, [])
        return [Table(row, f"{self.place}: {key}[{index}] ({row.get('id', '?')})") for index, row in enumerate(rows)]

    def done(self) -> None:
        """Refuse keys that nobody read: a misspelt key would be a fact lost in silence."""
        unknown = sorted(set(self.values) - self.read)
        if unknown:
            raise self.fail(f"unknown keys: {', '.join(unknown)}")
