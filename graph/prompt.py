"""The server's JSON: a typed, frozen model of the API format, ``id -> class_type + inputs``.

Source of the format: ComfyUI ``execution.py`` (``validate_prompt``) and its ``POST /prompt``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

JSON = Any  # None | bool | int | float | str | list[JSON] | dict[str, JSON]; recursive aliases cost more than they tell


class Link(NamedTuple):
    """A wire in a prompt: output ``slot`` of node ``node``."""

    node: str
    slot: int


class InputRef(NamedTuple):
    """An input of a node: where a value or a file goes."""

    node: str
    input: str


@dataclass(frozen=True, kw_only=True, slots=True)
class PromptNode:
    """One node of a prompt. ``inputs`` holds `Link`s for wires and plain JSON for values."""

    class_type: str
    inputs: Mapping[str, Link | JSON] = field(default_factory=dict)
    title: str | None = None
    meta: Mapping[str, JSON] = field(default_factory=dict)  # the rest of _meta, kept as it came
    extra: Mapping[str, JSON] = field(default_factory=dict)  # unknown keys of the node, kept as they came


@dataclass(frozen=True, kw_only=True, slots=True)
class Prompt:
    """A prompt: nodes by id, in the order of the file."""

    nodes: Mapping[str, PromptNode]
