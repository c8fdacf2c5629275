"""The interface: the named, typed inputs and outputs that a workflow offers to callers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from .prompt import JSON, InputRef


class ParameterType(StrEnum):
    """What a caller sends for a parameter."""

    TEXT = "text"
    INTEGER = "integer"
    NUMBER = "number"
    BOOLEAN = "boolean"
    CHOICE = "choice"  # one of `choices`
    IMAGE = "image"  # a file
    MASK = "mask"  # a file
    VIDEO = "video"  # a file
    AUDIO = "audio"  # a file
    FILE = "file"  # any file

    @property
    def is_file(self) -> bool:
        """Whether callers send a file (an upload) rather than a JSON value."""
        return self in {self.IMAGE, self.MASK, self.VIDEO, self.AUDIO, self.FILE}


class OutputType(StrEnum):
    """What a caller gets for an output."""

    IMAGE = "image"
    VIDEO = "video"
    AUDIO = "audio"
    TEXT = "text"
    FILE = "file"


@dataclass(frozen=True, kw_only=True, slots=True)
class Parameter:
    """One named input of an interface.

    Attributes:
        name: identifier, unique in the interface; the key in a request.
        target: the node and input whose value it replaces (a marker node's value input, or a stock node's widget).
        default: value used where the caller sends none; for files the saved file name. Meaningless if `required`.
        minimum, maximum, step: bounds of integers and numbers, both ends included.
        choices: allowed values of a choice, in the order the editor shows them.
    """

    name: str
    type: ParameterType
    target: InputRef
    default: JSON = None
    required: bool = False
    minimum: int | float | None = None
    maximum: int | float | None = None
    step: int | float | None = None
    choices: tuple[JSON, ...] | None = None
    multiline: bool = False
    description: str = ""
    title: str = ""  # the node's title in the editor


@dataclass(frozen=True, kw_only=True, slots=True)
class Output:
    """One named output of an interface: what `node` produces."""

    name: str
    type: OutputType
    node: str
    description: str = ""
    title: str = ""


class Source(StrEnum):
    """Where an interface was found."""

    MARKERS = "markers"
    APP_MODE = "app mode"
    GRAPH = "graph"


@dataclass(frozen=True, kw_only=True, slots=True)
class Interface:
    """The named, typed inputs and outputs of a workflow, in the order that callers see."""

    parameters: tuple[Parameter, ...] = ()
    outputs: tuple[Output, ...] = ()
    source: Source = Source.GRAPH
    extra: Mapping[str, JSON] = field(default_factory=dict)
