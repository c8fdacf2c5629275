"""What can be wrong with a workflow or a prompt: one base class, each child says which kind of wrong."""

from __future__ import annotations

from typing import Self


class GraphError(Exception):
    """Something in a workflow or prompt is wrong; says what, where, and what to do.

    Attributes:
        message: what is wrong, one sentence, lower case, no full stop.
        file: the file it was read from, where known.
        node_id: the node's id as the prompt writes it ("57:8" inside a subgraph).
        class_type: the node's class.
        input_name: the input or widget.
        path: the JSON path (``nodes[3].inputs[0].link``), where that says more than a node id.
        remedy: what to do about it, one sentence.
    """

    def __init__(
        self,
        message: str,
        *,
        file: str | None = None,
        node_id: str | None = None,
        class_type: str | None = None,
        input_name: str | None = None,
        path: str | None = None,
        remedy: str | None = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.file = file
        self.node_id = node_id
        self.class_type = class_type
        self.input_name = input_name
        self.path = path
        self.remedy = remedy

    def at(self, **place: str | None) -> Self:
        """Add places that an outer caller knows (``raise error.at(file=...)``); what is already known stays."""
        for name, value in place.items():
            if value is not None and getattr(self, name) is None:
                setattr(self, name, value)
        return self

    @property
    def where(self) -> str:
        """The place in words: ``flow.json: node 5 (KSampler), input 'seed'``; empty where nothing is known."""
        parts = []
        if self.node_id is not None:
            parts.append(f"node {self.node_id}" + (f" ({self.class_type})" if self.class_type else ""))
        elif self.class_type is not None:
            parts.append(f"class {self.class_type}")
        if self.input_name is not None:
            parts.append(f"input {self.input_name!r}")
        if self.path is not None:
            parts.append(self.path)
        place = ", ".join(parts)
        return f"{self.file}: {place}" if self.file and place else self.file or place

    def __str__(self) -> str:
        text = f"{self.where}: {self.message}" if self.where else self.message
        return f"{text}; {self.remedy}" if self.remedy else text


class WorkflowError(GraphError):
    """A workflow (UI format) is not one, or contradicts itself."""


class PromptError(GraphError):
    """A prompt (API format) is not one, or a server would refuse it: cycle, dangling link, unknown slot, wrong type."""


class SchemaError(GraphError):
    """Node schemas cannot be read, or a class is in none of them."""


class ConversionError(GraphError):
    """A workflow cannot be converted without guessing."""


class InterfaceError(GraphError):
    """An interface contradicts itself, or an override names what is not there."""


class BindError(GraphError):
    """A value does not fit its parameter, a required one is missing, or a name is unknown."""

    def __init__(self, message: str, *, parameter: str | None = None, **place: str | None) -> None:
        super().__init__(message, **place)
        self.parameter = parameter
