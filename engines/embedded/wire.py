"""Events and errors as JSON, for the pipe between the engine and its worker."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from .. import errors, events
from ..errors import EngineError, InvalidPrompt, NodeError, NodeFailed, UnknownNodes
from ..events import Event, Preview, Produced

_EVENTS: Mapping[str, type[Any]] = {
    kind.__name__: kind
    for kind in (events.Started, events.Progress, events.Preview, events.Cached, events.Produced, events.Finished)
}
_PLAIN_ERRORS: Mapping[str, type[EngineError]] = {
    kind.__name__: kind for kind in (errors.Cancelled, errors.EngineUnavailable, errors.WorkerLost, errors.EngineError)
}
_NODE_ERRORS: Mapping[str, type[NodeFailed]] = {kind.__name__: kind for kind in (errors.NodeFailed, errors.OutOfMemory)}


def event_to_json(event: Event) -> tuple[dict[str, Any], bytes]:
    """The event's fields, and the bytes of its data where it has any."""
    fields = {name: getattr(event, name) for name in event.__dataclass_fields__}
    payload = b""
    if isinstance(event, Produced | Preview):
        data = fields.pop("data")
        if isinstance(data, Path):
            fields["path"] = str(data)
        else:
            payload = data
    return {"event": type(event).__name__, **fields}, payload


def event_from_json(message: Mapping[str, Any], payload: bytes) -> Event:
    """The inverse of `event_to_json`."""
    fields = dict(message)
    kind = _EVENTS[fields.pop("event")]
    if kind is events.Cached:
        fields["nodes"] = tuple(fields["nodes"])
    elif kind in (Produced, Preview):
        path = fields.pop("path", None)
        fields["data"] = payload if path is None else Path(path)
    event: Event = kind(**fields)
    return event


def error_to_json(error: EngineError) -> dict[str, Any]:
    """The error's class and attributes."""
    fields: dict[str, Any] = {"error": type(error).__name__, "message": error.message, "remedy": error.remedy}
    fields.update(node_id=error.node_id, class_type=error.class_type)
    if isinstance(error, InvalidPrompt):
        fields["errors"] = [asdict(fault) for fault in error.errors]
    if isinstance(error, UnknownNodes):
        fields["classes"] = list(error.classes)
    if isinstance(error, NodeFailed):
        fields.update(exception_type=error.exception_type, traceback=error.traceback)
    return fields


def error_from_json(message: Mapping[str, Any]) -> EngineError:
    """The inverse of `error_to_json`."""
    kind, text, remedy = message["error"], message["message"], message["remedy"]
    place = {"node_id": message["node_id"], "class_type": message["class_type"]}
    if kind == "UnknownNodes":
        return UnknownNodes(text, classes=message["classes"], remedy=remedy)
    if kind == "InvalidPrompt":
        error = InvalidPrompt(text, errors=[NodeError(**fault) for fault in message["errors"]], remedy=remedy)
        error.node_id, error.class_type = place["node_id"], place["class_type"]
        return error
    if kind in _NODE_ERRORS:
        details = {"exception_type": message["exception_type"], "traceback": message["traceback"]}
        return _NODE_ERRORS[kind](text, remedy=remedy, **place, **details)
    return _PLAIN_ERRORS.get(kind, EngineError)(text, remedy=remedy, **place)
