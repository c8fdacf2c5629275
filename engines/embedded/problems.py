"""What a node says when it cannot do what was asked: a sentence and a remedy, no traceback."""

from __future__ import annotations


class NodeProblem(Exception):
    """The inputs of a node ask for something it cannot give; the executor adds node and class.

    Attributes:
        message: what is wrong, one sentence, lower case, no full stop.
        remedy: what to do about it, one sentence.
    """

    def __init__(self, message: str, *, remedy: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.remedy = remedy


class NotEnoughMemory(NodeProblem):
    """A result would not fit into the memory that is free."""


class RunCancelled(Exception):
    """The caller took the run back."""
