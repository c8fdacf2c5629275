"""What a node says it produced (its ``ui`` result), read into files to fetch and texts.

Source: ComfyUI ``nodes.py`` (SaveImage), ``comfy_api/latest/_ui.py`` and VideoHelperSuite's ``gifs``.
"""

from __future__ import annotations

import mimetypes
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any

# By suffix, because the system's own table differs from machine to machine.
_MEDIA_TYPES = {
    ".png": "image/png",
    ".jpg": "image/jpeg",
    ".jpeg": "image/jpeg",
    ".webp": "image/webp",
    ".gif": "image/gif",
    ".avif": "image/avif",
    ".bmp": "image/bmp",
    ".tif": "image/tiff",
    ".tiff": "image/tiff",
    ".exr": "image/x-exr",
    ".svg": "image/svg+xml",
    ".mp4": "video/mp4",
    ".m4v": "video/mp4",
    ".webm": "video/webm",
    ".mkv": "video/x-matroska",
    ".mov": "video/quicktime",
    ".avi": "video/x-msvideo",
    ".flac": "audio/flac",
    ".mp3": "audio/mpeg",
    ".wav": "audio/wav",
    ".ogg": "audio/ogg",
    ".opus": "audio/ogg",
    ".m4a": "audio/mp4",
    ".glb": "model/gltf-binary",
    ".gltf": "model/gltf+json",
    ".obj": "model/obj",
    ".txt": "text/plain; charset=utf-8",
    ".json": "application/json",
}
_KINDS = {"image": "images", "video": "video", "audio": "audio"}
TEXT_MEDIA_TYPE = "text/plain; charset=utf-8"


@dataclass(frozen=True, kw_only=True, slots=True)
class RemoteFile:
    """A file on the server. Its three names are the server's words: they go back to ``/view`` and name nothing here.

    Attributes:
        kind: "images", "video", "audio" or "files", by what the file is (videos come under ``images`` or ``gifs``).
        index: position among the node's files of this kind.
    """

    kind: str
    index: int
    filename: str
    subfolder: str
    folder_type: str
    media_type: str

    @property
    def temporary(self) -> bool:
        """Whether it is only for show: ComfyUI empties ``temp`` when it starts, and ``input`` was there before."""
        return self.folder_type != "output"

    @property
    def query(self) -> dict[str, str]:
        """The parameters of ``GET /view``."""
        return {"filename": self.filename, "subfolder": self.subfolder, "type": self.folder_type}

    @property
    def display_name(self) -> str:
        """The file's own name: no folder, no control characters; for people and for download headers."""
        name = self.filename.replace("\\", "/").rsplit("/", 1)[-1]
        return "".join(character for character in name if character.isprintable())


@dataclass(frozen=True, kw_only=True, slots=True)
class Text:
    """A text that a node shows (PreviewAny and its like)."""

    index: int
    text: str


def media_type_of(filename: str) -> str:
    """The media type that a file's name tells; ``application/octet-stream`` where it tells none."""
    suffix = PurePosixPath(filename.replace("\\", "/")).suffix.lower()
    return _MEDIA_TYPES.get(suffix) or mimetypes.guess_type(f"name{suffix}")[0] or "application/octet-stream"


def read_outputs(ui: Mapping[str, Any] | None) -> tuple[RemoteFile | Text, ...]:
    """Everything in an ``executed`` message's ``output``, in its order. What is neither file nor text is left out."""
    found: list[RemoteFile | Text] = []
    counts: dict[str, int] = {}
    for key, values in (ui or {}).items():
        if isinstance(values, str):
            values = [values]
        if not isinstance(values, list):
            continue
        for value in values:
            if isinstance(value, dict):
                item = _file(value, counts)
                if item is not None:
                    found.append(item)
            elif key == "text" and isinstance(value, str):
                index = counts.get("text", 0)
                counts["text"] = index + 1
                found.append(Text(index=index, text=value))
    return tuple(found)


def _file(value: Mapping[str, Any], counts: dict[str, int]) -> RemoteFile | None:
    filename, subfolder, folder_type = value.get("filename"), value.get("subfolder", ""), value.get("type", "output")
    if (
        not isinstance(filename, str)
        or not filename
        or not isinstance(subfolder, str)
        or not isinstance(folder_type, str)
    ):
        return None
    media_type = media_type_of(filename)
    kind = _KINDS.get(media_type.partition("/")[0], "files")
    index = counts.get(kind, 0)
    counts[kind] = index + 1
    return RemoteFile(
        kind=kind, index=index, filename=filename, subfolder=subfolder, folder_type=folder_type, media_type=media_type
    )
