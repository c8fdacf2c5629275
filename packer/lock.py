"""A lock between processes that dies with its owner: a locked file, removed when the lock is given back."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Self


class Locked(Exception):
    """Another process (or another place in this one) holds the lock."""


class FileLock:
    """``with FileLock(path):`` holds ``path`` locked, or raises `Locked` at once where somebody else holds it.

    The kernel frees the lock when the process ends in any way, so that a killed run never blocks the next one.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._descriptor: int | None = None

    def __enter__(self) -> Self:
        while True:
            try:
                descriptor = os.open(self.path, os.O_RDWR | os.O_CREAT, 0o600)
            except PermissionError:
                # Windows: the file is being deleted by a process that just gave the lock back, or is held open.
                if sys.platform == "win32" and self.path.exists():
                    raise Locked(str(self.path)) from None
                raise
            try:
                _lock(descriptor)
            except OSError:
                os.close(descriptor)
                raise Locked(str(self.path)) from None
            # The owner before us may have removed the file between our open and our lock: then ours is another file.
            try:
                same = os.path.samestat(os.fstat(descriptor), self.path.stat())
            except FileNotFoundError:
                same = False
            if same:
                self._descriptor = descriptor
                return self
            os.close(descriptor)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        descriptor, self._descriptor = self._descriptor, None
        if descriptor is None:
            return
        if sys.platform == "win32":
            os.close(descriptor)
            with contextlib.suppress(OSError):
                self.path.unlink()
        else:
            with contextlib.suppress(OSError):
                self.path.unlink()
            os.close(descriptor)


@contextlib.contextmanager
def locked_folder(path: Path) -> Iterator[None]:
    """Hold the folder ``path`` (made where missing) as one's own while the block runs; `Locked` where another has it.

    On POSIX systems the folder itself is locked, so that a killed process leaves no lock file; Windows cannot lock a
    folder, so there a file beside it is.
    """
    if sys.platform == "win32":
        with FileLock(path.with_name(path.name + ".lock")):
            path.mkdir(exist_ok=True)
            yield
        return
    descriptor = None
    while descriptor is None:
        descriptor = _open_locked_folder(path)
    try:
        yield
    finally:
        os.close(descriptor)


def _open_locked_folder(path: Path) -> int | None:
    """A locked descriptor of the folder, or None where its owner before us took it away meanwhile."""
    path.mkdir(exist_ok=True)
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    except FileNotFoundError:
        return None
    try:
        _lock(descriptor)
    except OSError:
        os.close(descriptor)
        raise Locked(str(path)) from None
    try:
        same = os.path.samestat(os.fstat(descriptor), path.stat())
    except FileNotFoundError:
        same = False
    if not same:
        os.close(descriptor)
    return descriptor if same else None


if sys.platform == "win32":
    import msvcrt

    def _lock(descriptor: int) -> None:
        msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)

else:
    import fcntl

    def _lock(descriptor: int) -> None:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
