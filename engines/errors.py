"""Why an engine could not run a prompt: one base class, each child says whose fault it was."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


class EngineError(Exception):
    """An engine cannot do what was asked.

    Attributes:
        message: what happened, one sentence.
        remedy: what to do about it, one sentence.
        node_id, class_type: the node, where there is one.
        retryable: whether the same job may succeed on another attempt (the worker died; not: the prompt is wrong).
    """

    retryable = False

    def __init__(
        self, message: str, *, remedy: str | None = None, node_id: str | None = None, class_type: str | None = None
    ) -> None:
        super().__init__(message)
        self.message = message
        self.remedy = remedy
        self.node_id = node_id
        self.class_type = class_type

    def __str__(self) -> str:
        node = f"node {self.node_id}" + (f" ({self.class_type})" if self.class_type else "") if self.node_id else ""
        text = f"{node}: {self.message}" if node else self.message
        return f"{text}; {self.remedy}" if self.remedy else text


@dataclass(frozen=True, kw_only=True, slots=True)
class NodeError:
    """One fault of a prompt, as an engine's validation reports it."""

    node_id: str | None
    class_type: str | None
    message: str
    details: str = ""
    input_name: str | None = None


class InvalidPrompt(EngineError):
    """The engine refuses the prompt; `errors` says which nodes and why."""

    def __init__(self, message: str, *, errors: Sequence[NodeError] = (), remedy: str | None = None) -> None:
        first = errors[0] if errors else None
        super().__init__(
            message,
            remedy=remedy,
            node_id=first.node_id if first else None,
            class_type=first.class_type if first else None,
        )
        self.errors = tuple(errors)


class UnknownNodes(InvalidPrompt):
    """The engine lacks node classes that the prompt uses; `classes` lists them."""

    def __init__(self, message: str, *, classes: Sequence[str], remedy: str | None = None) -> None:
        super().__init__(message, remedy=remedy)
        self.classes = tuple(classes)


class NodeFailed(EngineError):
    """A node raised while it ran. `exception_type` and `traceback` are the engine's, for logs, not for callers."""

    def __init__(
        self,
        message: str,
        *,
        node_id: str | None = None,
        class_type: str | None = None,
        exception_type: str = "",
        traceback: str = "",
        remedy: str | None = None,
    ) -> None:
        super().__init__(message, node_id=node_id, class_type=class_type, remedy=remedy)
        self.exception_type = exception_type
        self.traceback = traceback


class OutOfMemory(NodeFailed):
    """The device's memory was not enough."""


class WorkerLost(EngineError):
    """The engine's process died or its connection broke while the job ran."""

    retryable = True


class EngineUnavailable(EngineError):
    """The engine cannot be reached or started."""

    retryable = True


class Cancelled(EngineError):
    """The job was cancelled while it ran."""
