"""ComfyUI's own words for what went wrong, turned into engine errors.

Source: ComfyUI ``execution.py`` (``validate_prompt``, ``handle_execution_error``) and ``server.py`` (``POST /prompt``).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

from ...graph import Prompt
from ..errors import EngineError, EngineUnavailable, InvalidPrompt, NodeError, NodeFailed, OutOfMemory, UnknownNodes

_OUT_OF_MEMORY_TYPE = re.compile(r"(^|\.)(OutOfMemoryError|MemoryError)$")
_OUT_OF_MEMORY_TEXT = re.compile(
    r"out of memory|can't allocate memory|not enough memory|Allocation on device", re.IGNORECASE
)
_LONGEST = 400  # characters of a server's sentence that reach a caller


def refused(status: int, answer: object, prompt: Prompt, known: Iterable[str] | None) -> EngineError:
    """The error for an answer other than 200 to ``POST /prompt``.

    Args:
        status: the HTTP status.
        answer: the JSON body, or None where it was none.
        known: the node classes that the server has, where they could be asked for.
    """
    if status in {401, 403}:
        return EngineUnavailable(
            f"ComfyUI answered {status} to the prompt",
            remedy="give the credentials that it wants, in the URL or as a header",
        )
    if status in {429, 502, 503, 504}:
        return EngineUnavailable(f"ComfyUI answered {status} to the prompt", remedy="try again when it is up")
    if known is not None:
        missing = sorted({node.class_type for node in prompt.nodes.values()} - set(known))
        if missing:
            return unknown_nodes(missing, prompt)
    error = answer.get("error") if isinstance(answer, dict) else None
    nodes = answer.get("node_errors") if isinstance(answer, dict) else None
    errors = node_errors(nodes, prompt)
    if errors:
        return invalid(errors)
    if isinstance(error, dict):
        extra = error.get("extra_info")
        node_id = extra.get("node_id") if isinstance(extra, dict) else None
        message, details = _text(error.get("message")), _text(error.get("details"))
        if isinstance(node_id, str) and node_id in prompt.nodes:
            only = NodeError(
                node_id=node_id, class_type=prompt.nodes[node_id].class_type, message=message, details=details
            )
            return invalid([only])
        sentence = _joined(message, details) or f"ComfyUI answered {status} to the prompt"
        if error.get("type") == "prompt_no_outputs":
            return InvalidPrompt("the prompt has no output node", remedy="add one that saves, SaveImage say")
        return InvalidPrompt(f"ComfyUI refuses the prompt: {sentence}")
    if isinstance(error, str):
        return InvalidPrompt(f"ComfyUI refuses the prompt: {_text(error)}")
    return InvalidPrompt(f"ComfyUI answered {status} to the prompt", remedy="look at its log")


def unknown_nodes(missing: Iterable[str], prompt: Prompt) -> UnknownNodes:
    """The error for classes that the server lacks, with every node that uses one."""
    classes = sorted(missing)
    ours = [name for name in classes if name.startswith("Atelier")]
    remedy = "install the node packs they come from" + (
        " (those named Atelier… are this package's: clone it into ComfyUI's custom_nodes)" if ours else ""
    )
    error = UnknownNodes(f"ComfyUI lacks the node classes {', '.join(classes)}", classes=classes, remedy=remedy)
    error.errors = tuple(
        NodeError(node_id=node_id, class_type=node.class_type, message="unknown node class")
        for node_id, node in prompt.nodes.items()
        if node.class_type in classes
    )
    return error


def node_errors(value: object, prompt: Prompt) -> list[NodeError]:
    """The entries of ``node_errors`` in the order of the prompt."""
    if not isinstance(value, dict):
        return []
    found = []
    order = {node_id: position for position, node_id in enumerate(prompt.nodes)}
    for node_id, entry in sorted(value.items(), key=lambda item: order.get(item[0], len(order))):
        if not isinstance(entry, dict):
            continue
        class_type = entry.get("class_type")
        for reason in entry.get("errors") or [{}]:
            if not isinstance(reason, dict):
                continue
            extra = reason.get("extra_info")
            name = extra.get("input_name") if isinstance(extra, dict) else None
            found.append(
                NodeError(
                    node_id=node_id,
                    class_type=class_type if isinstance(class_type, str) else None,
                    message=_text(reason.get("message")) or "is refused",
                    details=_text(reason.get("details")),
                    input_name=name if isinstance(name, str) else None,
                )
            )
    return found


def invalid(errors: list[NodeError]) -> InvalidPrompt:
    """One error for all the faults of a prompt; its sentence tells the first and counts the others."""
    first = errors[0]
    sentence = _joined(first.message, first.details)
    if len(errors) > 1:
        sentence += f" (and {len(errors) - 1} more)"
    return InvalidPrompt(sentence, errors=errors)


def failed(data: Mapping[str, Any], node_id: str | None) -> NodeFailed:
    """The error for an ``execution_error`` message; `node_id` is the prompt's node that the failed one belongs to."""
    exception_type = data.get("exception_type")
    exception_type = exception_type if isinstance(exception_type, str) else ""
    message = _text(data.get("exception_message")) or exception_type or "failed without a word"
    lines = data.get("traceback")
    traceback = "".join(line for line in lines if isinstance(line, str)) if isinstance(lines, list) else _text(lines)
    class_type = data.get("node_type")
    memory = _OUT_OF_MEMORY_TYPE.search(exception_type) or _OUT_OF_MEMORY_TEXT.search(message)
    return (OutOfMemory if memory else NodeFailed)(
        message,
        node_id=node_id,
        class_type=class_type if isinstance(class_type, str) else None,
        exception_type=exception_type,
        traceback=traceback,
        remedy="use a smaller size, a smaller batch or a smaller model" if memory else None,
    )


def _text(value: object) -> str:
    text = " ".join(value.split()) if isinstance(value, str) else ""
    return text if len(text) <= _LONGEST else text[: _LONGEST - 1] + "…"


def _joined(message: str, details: str) -> str:
    return f"{message}: {details}" if message and details else message or details
