"""Files on their way to ComfyUI's input folder, named by their content: the same file goes once."""

from __future__ import annotations

import asyncio
import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp

from ..errors import EngineUnavailable, InvalidPrompt
from .connection import Connection

_INLINE = 1 << 20  # bytes; a smaller file is hashed faster than a thread is found for it
_ASK_FIRST = 1 << 18  # bytes; from here on asking whether the server has it costs less than sending it
_KNOWN_SIZES = 4096  # files

# First bytes of formats that nodes choose by suffix, for files that come without one.
_SIGNATURES: tuple[tuple[int, bytes, str], ...] = (
    (0, b"\x89PNG\r\n\x1a\n", ".png"),
    (0, b"\xff\xd8\xff", ".jpg"),
    (0, b"GIF8", ".gif"),
    (8, b"WEBP", ".webp"),
    (8, b"WAVE", ".wav"),
    (8, b"AVI ", ".avi"),
    (4, b"ftypavif", ".avif"),
    (4, b"ftypM4A", ".m4a"),
    (4, b"ftypqt", ".mov"),
    (4, b"ftyp", ".mp4"),
    (0, b"\x1a\x45\xdf\xa3", ".webm"),
    (0, b"OggS", ".ogg"),
    (0, b"fLaC", ".flac"),
    (0, b"ID3", ".mp3"),
    (0, b"\xff\xfb", ".mp3"),
    (0, b"BM", ".bmp"),
    (0, b"II*\x00", ".tif"),
    (0, b"MM\x00*", ".tif"),
    (0, b"glTF", ".glb"),
)


@dataclass(frozen=True, kw_only=True, slots=True)
class ContentName:
    """What a file is called on the server: the start of its sha256 and the suffix that nodes expect."""

    sha256: str
    suffix: str
    size: int

    def __str__(self) -> str:
        return f"{self.sha256[:40]}{self.suffix}"


def content_name(path: Path) -> ContentName:
    """Read the file and name it by its content.

    Raises:
        OSError: it cannot be read.
    """
    digest = hashlib.sha256()
    size = 0
    head = b""
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            head = head or block[:16]
            digest.update(block)
            size += len(block)
    return ContentName(sha256=digest.hexdigest(), suffix=_suffix(path, head), size=size)


def _suffix(path: Path, head: bytes) -> str:
    suffix = path.suffix.lower()
    if 1 < len(suffix) <= 10 and suffix[1:].isascii() and suffix[1:].isalnum():
        return suffix
    return next((name for start, mark, name in _SIGNATURES if head[start : start + len(mark)] == mark), "")


class Uploads:
    """What one server's input folder has from us."""

    def __init__(self) -> None:
        self._names: dict[tuple[str, int, int, int], ContentName] = {}
        self._sent: dict[str, asyncio.Task[str]] = {}

    def forget(self) -> None:
        """Believe nothing of the server any more: it was started again, or its folder was emptied."""
        self._sent.clear()

    async def send(self, connection: Connection, path: Path) -> str:
        """The name below ``input/`` under which the server has the file, sent if need be.

        Raises:
            InvalidPrompt: the file cannot be read, or the server refuses it.
            EngineUnavailable: the server cannot be reached.
        """
        try:
            name = await self._name(path)
        except OSError as error:
            raise InvalidPrompt(f"input file {path.name} cannot be read ({error.strerror or error})") from error
        key = str(name)
        task = self._sent.get(key)
        if task is None or (task.done() and (task.cancelled() or task.exception() is not None)):
            task = self._sent[key] = connection.spawn(_send(connection, path, name))
        try:
            return await asyncio.shield(task)
        except (aiohttp.ClientError, OSError) as error:
            self._sent.pop(key, None)
            raise EngineUnavailable(
                f"ComfyUI at {connection.shown} did not take input file {path.name} ({error})"
            ) from error

    async def _name(self, path: Path) -> ContentName:
        stat = path.stat()
        key = (str(path), stat.st_size, stat.st_mtime_ns, stat.st_ino)
        name = self._names.get(key)
        if name is None:
            name = content_name(path) if stat.st_size <= _INLINE else await asyncio.to_thread(content_name, path)
            if len(self._names) >= _KNOWN_SIZES:
                self._names.clear()
            self._names[key] = name
        return name


async def _send(connection: Connection, path: Path, name: ContentName) -> str:
    if name.size >= _ASK_FIRST and await _has(connection, name):
        return str(name)
    with path.open("rb") as file:
        form = aiohttp.FormData()
        form.add_field("image", file, filename=str(name), content_type="application/octet-stream")
        form.add_field("type", "input")
        async with connection.session.post(connection.at("upload", "image"), data=form) as response:
            answer: Any = None
            if response.status == 200:
                answer = await response.json(content_type=None)
            elif response.status == 413:
                raise InvalidPrompt(
                    f"input file {path.name} ({name.size / 1e6:.0f} MB) is larger than this ComfyUI takes",
                    remedy="start ComfyUI with a larger --max-upload-size, or send a smaller file",
                )
    stored = answer.get("name") if isinstance(answer, dict) else None
    if not isinstance(stored, str):
        raise EngineUnavailable(f"ComfyUI at {connection.shown} answered {response.status} to an upload")
    folder = answer.get("subfolder")
    return f"{folder}/{stored}" if isinstance(folder, str) and folder else stored


async def _has(connection: Connection, name: ContentName) -> bool:
    url = connection.at("view").with_query(filename=str(name), type="input")
    async with connection.session.head(url) as response:
        return response.status == 200 and response.headers.get("Content-Length") == str(name.size)
