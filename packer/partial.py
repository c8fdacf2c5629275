"""A download that is not whole yet: ``<name>.incomplete`` beside its final place, and what is known of it.

The data counts only as far as something vouches for it: the sha256 of the whole, known before, or (where nobody knows
one) the server's own mark of the version together with a flush to the disk.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from types import TracebackType
from typing import BinaryIO, Self

from .errors import PackerError
from .staging import flush_folder, new_file

CHUNK = 1 << 20
ENDING = ".incomplete"
_SYNC_SMALLEST = 4 << 20
_SYNC_LARGEST = 256 << 20
_NOTE_BYTES = 64 << 10


@dataclass(frozen=True, kw_only=True, slots=True)
class Note:
    """What the data is a beginning of. ``sha256`` is of the whole file; ``flushed`` bytes are surely on the disk."""

    url: str = ""
    etag: str | None = None
    size: int | None = None
    sha256: str | None = None
    flushed: int = 0

    @classmethod
    def read(cls, path: Path) -> Self | None:
        """The note in a file; None where it is missing or not one of ours."""
        try:
            with path.open("rb") as file:
                value = json.loads(file.read(_NOTE_BYTES))
            note = cls(**value)
        except (OSError, ValueError, TypeError, RecursionError):
            return None
        texts = (note.etag, note.sha256)
        fine = isinstance(note.url, str) and all(text is None or isinstance(text, str) for text in texts)
        counts = (note.flushed, *(() if note.size is None else (note.size,)))
        return note if fine and all(type(count) is int and count >= 0 for count in counts) else None


class Partial:
    """The data got so far, open for more. Used by one process at a time: its caller holds the lock."""

    def __init__(self, target: Path) -> None:
        self.target = target
        self.path = target.with_name(target.name + ENDING)
        self.note_path = target.with_name(target.name + ENDING + ".json")
        self.note = Note()
        self.length = 0
        self._digest = hashlib.sha256()
        self._file: BinaryIO | None = None

    def __enter__(self) -> Self:
        flags = os.O_RDWR | os.O_CREAT | getattr(os, "O_BINARY", 0) | getattr(os, "O_NOFOLLOW", 0)
        self._file = os.fdopen(os.open(self.path, flags, 0o666), "r+b", buffering=CHUNK)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._file is None:
            return
        try:
            # A disk that is full must not hide why we stopped.
            with contextlib.suppress(OSError, PackerError):
                if self.length:
                    self.flush()
        finally:
            with contextlib.suppress(OSError):
                self._file.close()
            self._file = None
        if not self.length:
            self.remove()

    @property
    def file(self) -> BinaryIO:
        """The open data."""
        assert self._file is not None
        return self._file

    @property
    def on_disk(self) -> int:
        """Bytes that the data takes there, of whatever it is the beginning."""
        return os.fstat(self.file.fileno()).st_size

    def resume(self, sha256: str | None, size: int | None, progress: Callable[[int], None]) -> None:
        """Take up what an earlier run left, if it is a beginning of the file that is wanted; else start empty.

        It is read once, so that the hash of the whole covers it. ``progress`` gets the bytes read so far.
        """
        note = Note.read(self.note_path)
        length = self.on_disk
        if note is not None and sha256 is not None and note.sha256 == sha256:
            trusted = length
        elif note is not None and sha256 is None and (size is None or note.size == size):
            trusted = min(length, note.flushed)
        else:
            trusted = 0
        if note is None or not trusted or (size is not None and trusted > size):
            self.restart()
            return
        self.note = note
        self.file.truncate(trusted)
        self.file.seek(0)
        while self.length < trusted:
            data = self.file.read(min(CHUNK, trusted - self.length))
            if not data:
                self.restart()
                return
            self._digest.update(data)
            self.length += len(data)
            progress(self.length)

    def restart(self) -> None:
        """Forget the data."""
        self.file.seek(0)
        self.file.truncate()
        self.length = 0
        self._digest = hashlib.sha256()
        self.note = Note()

    def describe(self, note: Note) -> None:
        """State what the data is (the beginning) of; on the disk before the first byte of it."""
        note = replace(note, flushed=self.note.flushed if self.length else 0)
        if note != self.note:
            self.note = note
            self._write_note()

    def append(self, data: bytes) -> None:
        """Add the next bytes; flushed to the disk every twentieth of the file, but not for each small piece."""
        self.file.write(data)
        self._digest.update(data)
        self.length += len(data)
        step = min(max((self.note.size or 0) // 20, _SYNC_SMALLEST), _SYNC_LARGEST)
        if self.length - self.note.flushed >= step:
            self.flush()

    def flush(self) -> None:
        """Bring the data to the disk, and note how much."""
        self._sync()
        if self.note.flushed != self.length:
            self.note = replace(self.note, flushed=self.length)
            self._write_note()

    def sha256(self) -> str:
        """Of all data got so far."""
        return self._digest.hexdigest()

    def is_intact(self) -> bool:
        """Whether the file on the disk still has the length of what was written."""
        self.file.flush()
        return self.on_disk == self.length

    def finish(self) -> None:
        """Give the data its final name, whole and on the disk, replacing what is there."""
        self._sync()
        self.file.close()
        self._file = None
        os.replace(self.path, self.target)  # noqa: PTH105 - the os functions stand together here
        flush_folder(self.target.parent)
        self.note_path.unlink(missing_ok=True)

    def remove(self) -> None:
        """Leave nothing behind."""
        for path in (self.path, self.note_path):
            with contextlib.suppress(OSError):
                path.unlink(missing_ok=True)

    def _sync(self) -> None:
        self.file.flush()
        os.fsync(self.file.fileno())

    def _write_note(self) -> None:
        with new_file(self.note_path) as file:
            file.write((json.dumps(asdict(self.note), indent=1) + "\n").encode())
