"""The node cache: results by signature, least recently used first out, bounded by bytes."""

from __future__ import annotations

import sys
from collections import OrderedDict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

DEFAULT_BYTES = 1024**3  # what ATELIER_CACHE_BYTES replaces


@dataclass(frozen=True, kw_only=True, slots=True)
class Artifact:
    """A file or text that an output node made, before it has a name.

    Attributes:
        kind: "images", "text"… as ComfyUI's ``ui`` result names it.
        prefix: what the file's name begins with, subfolder included; None for texts, which have none.
        suffix: what follows the counter in it: "_.png".
    """

    kind: str
    media_type: str
    data: bytes
    prefix: str | None = None
    suffix: str = ""
    temporary: bool = False


@dataclass(frozen=True, kw_only=True, slots=True)
class Result:
    """What a node gave: for each output the list of its values, and the artifacts."""

    outputs: tuple[list[Any], ...]
    artifacts: tuple[Artifact, ...] = ()


def size_of(value: Any) -> int:
    """Bytes that keeping `value` costs: tensors by their storage (a slice keeps the whole), the rest by its parts."""
    return _size(value, set())


def _size(value: Any, seen: set[int]) -> int:
    storage = getattr(value, "untyped_storage", None)
    if storage is not None:
        held = storage()
        key = held.data_ptr()
        if key in seen:
            return 0
        seen.add(key)
        return int(held.nbytes())
    if id(value) in seen:
        return 0
    seen.add(id(value))
    if isinstance(value, Artifact):
        return len(value.data) + 256
    if isinstance(value, Result):
        return 256 + _sum(value.outputs, seen) + _sum(value.artifacts, seen)
    if isinstance(value, Mapping):
        return sys.getsizeof(value) + _sum(value.keys(), seen) + _sum(value.values(), seen)
    if isinstance(value, list | tuple | set | frozenset):
        return sys.getsizeof(value) + _sum(value, seen)
    resident = getattr(value, "resident_bytes", None)  # models say themselves what they hold
    if resident is not None:
        return int(resident())
    return sys.getsizeof(value)


def _sum(values: Iterable[Any], seen: set[int]) -> int:
    return sum(_size(value, seen) for value in values)


class NodeCache:
    """Results by signature; the least recently used leave first when `limit` bytes are exceeded. 0 keeps nothing."""

    def __init__(self, limit: int = DEFAULT_BYTES) -> None:
        self.limit = limit
        self.used = 0
        self._entries: OrderedDict[str, tuple[Result, int]] = OrderedDict()

    def __len__(self) -> int:
        return len(self._entries)

    def __contains__(self, signature: str | None) -> bool:
        return signature in self._entries

    def get(self, signature: str | None) -> Result | None:
        """The result of that signature, now the most recently used; None where there is none."""
        if signature is None or signature not in self._entries:
            return None
        self._entries.move_to_end(signature)
        return self._entries[signature][0]

    def put(self, signature: str | None, result: Result) -> None:
        """Keep `result`, unless it alone exceeds the limit; older ones leave."""
        if signature is None:
            return
        size = size_of(result)
        if size > self.limit:
            return
        self._drop(signature)
        self._entries[signature] = (result, size)
        self.used += size
        self.shrink(self.limit)

    def shrink(self, limit: int) -> int:
        """Let the least recently used go until at most `limit` bytes are held; returns the bytes let go."""
        before = self.used
        while self.used > limit and self._entries:
            _, (_, size) = self._entries.popitem(last=False)
            self.used -= size
        return before - self.used

    def clear(self) -> int:
        """Let everything go; returns the bytes let go."""
        return self.shrink(0)

    def _drop(self, signature: str) -> None:
        if signature in self._entries:
            self.used -= self._entries.pop(signature)[1]
