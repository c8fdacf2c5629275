"""What a node says when it cannot do what was asked, and how that becomes an `EngineError` with its node's name."""

from __future__ import annotations

import contextlib
import traceback
from collections.abc import Callable, Iterator

from ..errors import EngineError, NodeFailed, OutOfMemory


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


@contextlib.contextmanager
def blaming(node_id: str, class_type: str, *, make_room: Callable[[], object]) -> Iterator[None]:
    """Turn what a node raises into an `EngineError` that names it; `make_room` is called where memory ran out."""
    place: dict[str, str] = {"node_id": node_id, "class_type": class_type}
    try:
        yield
    except (RunCancelled, EngineError):
        raise
    except NotEnoughMemory as problem:
        make_room()
        raise OutOfMemory(problem.message, remedy=problem.remedy, exception_type="OutOfMemory", **place) from problem
    except NodeProblem as problem:
        remedy = problem.remedy or None
        raise NodeFailed(problem.message, remedy=remedy, exception_type="NodeProblem", **place) from problem
    except Exception as error:
        details: dict[str, str] = {
            "exception_type": _type_name(type(error)),
            "traceback": "".join(traceback.format_exception(error)),
        }
        first_line = (str(error).strip() or type(error).__name__).splitlines()[0]
        if _is_out_of_memory(error):
            make_room()
            remedy = "make size or batch smaller"
            raise OutOfMemory(f"memory ran out: {first_line}", remedy=remedy, **place, **details) from error
        raise NodeFailed(first_line, **place, **details) from error


def _type_name(kind: type) -> str:
    return kind.__qualname__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__qualname__}"


def _is_out_of_memory(error: Exception) -> bool:
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":
        return True
    text = str(error)  # what torch's allocator for main memory says is a plain RuntimeError
    return isinstance(error, RuntimeError) and ("can't allocate memory" in text or "not enough memory" in text)
