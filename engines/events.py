"""What an engine tells while it runs a prompt."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

__all__ = ["Cached", "Event", "Finished", "Preview", "Produced", "Progress", "Started"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Started:
    """A node begins to execute."""

    node: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Progress:
    """A node has done `value` of `maximum` steps (sampling steps, tiles, frames)."""

    node: str
    value: float
    maximum: float


@dataclass(frozen=True, kw_only=True, slots=True)
class Preview:
    """A picture of the work so far, as encoded bytes."""

    node: str | None
    data: bytes
    media_type: str = "image/jpeg"


@dataclass(frozen=True, kw_only=True, slots=True)
class Cached:
    """These nodes need no work: the engine has their outputs from an earlier run."""

    nodes: tuple[str, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class Produced:
    """A node produced a file or a text.

    Attributes:
        node: id of the node in the prompt.
        output: the kind as ComfyUI's ``ui`` result names it: "images", "video", "audio", "text", "files".
        index: position among the node's results of this kind, from 0.
        media_type: of `data`, "image/png" say; text is "text/plain; charset=utf-8".
        data: the bytes, or a local file. A file belongs to the engine and stays until the iterator goes on or is
            closed: who wants to keep it copies or moves it while handling this event.
        filename: the name that the engine gave it, where it gave one.
        temporary: a preview output (ComfyUI's type "temp"), which a caller shows but does not keep.
    """

    node: str
    output: str
    index: int
    media_type: str
    data: bytes | Path
    filename: str | None = None
    temporary: bool = False


@dataclass(frozen=True, kw_only=True, slots=True)
class Finished:
    """The prompt has run; the last event."""


Event = Started | Progress | Preview | Cached | Produced | Finished
