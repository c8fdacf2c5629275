"""Files by their content: artifacts and inputs lie in one folder, each named by its sha256, written once and never
changed."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import secrets
import shutil
import time
from collections.abc import Collection
from pathlib import Path
from typing import IO

from .errors import StoreError, StoreFull
from .jobs import StoredFile

NO_SPACE = {errno.ENOSPC, getattr(errno, "EDQUOT", errno.ENOSPC)}
YOUNG_SECONDS = 3600.0  # a file younger than this may belong to a job that is not written down yet

EXTENSIONS = {
    "image/png": "png",
    "image/jpeg": "jpg",
    "image/webp": "webp",
    "image/gif": "gif",
    "image/avif": "avif",
    "image/tiff": "tif",
    "video/mp4": "mp4",
    "video/webm": "webm",
    "video/quicktime": "mov",
    "video/x-matroska": "mkv",
    "video/x-msvideo": "avi",
    "audio/flac": "flac",
    "audio/mpeg": "mp3",
    "audio/ogg": "ogg",
    "audio/wav": "wav",
    "audio/aac": "aac",
    "audio/mp4": "m4a",
    "text/plain": "txt",
    "application/json": "json",
    "model/gltf-binary": "glb",
}

INLINE = {
    "image/png",
    "image/jpeg",
    "image/webp",
    "image/gif",
    "image/avif",
    "video/mp4",
    "video/webm",
    "audio/flac",
    "audio/mpeg",
    "audio/ogg",
    "audio/wav",
    "text/plain",
}
"""What a browser may show in place. Everything else is a download: no page, script or drawing of ours runs in it."""


def bare_type(media_type: str) -> str:
    """``text/plain; charset=utf-8`` -> ``text/plain``."""
    return media_type.partition(";")[0].strip().lower()


def extension(media_type: str) -> str:
    """The usual file extension of a media type, without the dot."""
    return EXTENSIONS.get(bare_type(media_type), "bin")


def clean_filename(name: str, *, fallback: str = "file") -> str:
    """A name that is safe to show and to save under on any system: no folders, no marks that a shell or header reads.

    Letters, digits, ``-``, ``_`` and ``.`` stay, spaces become ``_``, all else goes; at most 100 characters.
    """
    name = name.replace("\\", "/").rpartition("/")[2]
    kept = "".join("_" if c == " " else c for c in name if c.isalnum() or c in "-_. ")
    kept = kept.encode("ascii", "ignore").decode().strip(".-_")[:100].rstrip(".")
    stem = kept.partition(".")[0].upper()
    reserved = {"CON", "PRN", "AUX", "NUL", *(f"{port}{n}" for port in ("COM", "LPT") for n in range(10))}
    return f"{fallback}_{kept}" if stem in reserved else kept or fallback


def _store_error(error: OSError) -> StoreError:
    if error.errno in NO_SPACE:
        return StoreFull("no space is left for artifacts", remedy="free some space where ATELIER_DATA_DIR lies")
    return StoreError(
        f"an artifact cannot be written: {error.strerror or error}", remedy="check the rights of ATELIER_DATA_DIR"
    )


def _created(path: Path) -> IO[bytes]:
    """A new file, open for writing; its folder is made where it is missing, which after a while it never is."""
    try:
        return path.open("xb")
    except FileNotFoundError:
        path.parent.mkdir(parents=True, exist_ok=True)
        return path.open("xb")


class ArtifactStore:
    """Files below one folder, ``<first two of sha256>/<sha256>.<extension>`` (an engine may go by the extension)."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def path(self, sha256: str, media_type: str) -> Path:
        """Where the file of that content and type is, or would be."""
        return self.folder / sha256[:2] / f"{sha256}.{extension(media_type)}"

    def where(self, file: StoredFile) -> Path:
        """Where the file is."""
        return self.path(file.sha256, file.media_type)

    def keep(self, data: bytes | Path, media_type: str, *, filename: str = "", source: str = "") -> StoredFile:
        """Store bytes, or the content of a file; durable when this returns.

        Raises:
            StoreFull: no space is left; nothing half-written stays.
            StoreError: the folder cannot be written.
        """
        try:
            if isinstance(data, bytes):
                return self._keep_bytes(data, media_type, filename, source)
            return self._keep_file(data, media_type, filename, source)
        except OSError as error:
            raise _store_error(error) from error

    def put(self, data: bytes, media_type: str, *, filename: str = "") -> StoredFile:
        """Store a few bytes at once; they last only after `sync`. Raises as `keep` does."""
        try:
            return self._keep_bytes(data, media_type, filename, "", durable=False)
        except OSError as error:
            raise _store_error(error) from error

    def sync(self, file: StoredFile) -> None:
        """Return when a file of `put` is on the disk. Raises `StoreError`."""
        try:
            opened = os.open(self.where(file), os.O_RDWR | getattr(os, "O_BINARY", 0))
            try:
                os.fsync(opened)
            finally:
                os.close(opened)
        except OSError as error:
            raise _store_error(error) from error

    def _keep_bytes(
        self, data: bytes, media_type: str, filename: str, source: str, *, durable: bool = True
    ) -> StoredFile:
        digest = hashlib.sha256(data).hexdigest()
        path = self.path(digest, media_type)
        if not self._touched(path, len(data)):
            temporary = self._temporary(path)
            try:
                with _created(temporary) as file:
                    file.write(data)
                    if durable:
                        file.flush()
                        os.fsync(file.fileno())
                temporary.replace(path)
            except BaseException:
                temporary.unlink(missing_ok=True)
                raise
        return StoredFile(sha256=digest, size=len(data), media_type=media_type, filename=filename, source=source)

    def _keep_file(self, source_path: Path, media_type: str, filename: str, source: str) -> StoredFile:
        with source_path.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
            size = file.tell()
        path = self.path(digest, media_type)
        if not self._touched(path, size):
            temporary = self._temporary(path)
            try:
                with source_path.open("rb") as read, _created(temporary) as write:
                    shutil.copyfileobj(read, write, 1 << 20)
                    write.flush()
                    os.fsync(write.fileno())
                temporary.replace(path)
            except BaseException:
                temporary.unlink(missing_ok=True)
                raise
        return StoredFile(sha256=digest, size=size, media_type=media_type, filename=filename, source=source)

    @staticmethod
    def _touched(path: Path, size: int) -> bool:
        """Whether the file is there already; makes it young again, so that a sweep that runs just now spares it."""
        try:
            if path.stat().st_size != size:
                return False
            os.utime(path)
        except OSError:
            return False
        return True

    @staticmethod
    def _temporary(path: Path) -> Path:
        return path.parent / f".{path.name[:16]}-{secrets.token_hex(4)}.part"

    def read(self, file: StoredFile) -> bytes:
        """The whole file."""
        return self.where(file).read_bytes()

    def sweep(self, used: Collection[str], *, older_than: float = YOUNG_SECONDS) -> int:
        """Delete files that nothing refers to, and half-written ones, unless they are younger than `older_than`
        seconds."""
        limit = time.time() - older_than
        gone = 0
        for path in self.folder.glob("*/*") if self.folder.is_dir() else ():
            if path.name.partition(".")[0] in used:
                continue
            with contextlib.suppress(OSError):
                if path.stat().st_mtime < limit:
                    path.unlink()
                    gone += 1
        return gone
