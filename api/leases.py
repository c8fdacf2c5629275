"""Who is alive: each service process holds a lock on a file of its own, so that another can tell a dead one's jobs.

A lease that lapses says the same, but only after its time; after a restart on the same machine the lock says it at
once.
The system lets go of the lock when the process ends, however it ends.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import IO

SUFFIX = ".lock"


class Instance:
    """This process as an owner of leases.

    Attributes:
        name: unique among all processes that ever ran.
    """

    def __init__(self, folder: Path) -> None:
        self.name = f"{os.getpid()}-{secrets.token_hex(8)}"
        self._folder = folder
        self._file: IO[bytes] | None = None

    def open(self) -> None:
        """Take the lock that says we live."""
        self._folder.mkdir(parents=True, exist_ok=True)
        self._file = (self._folder / f"{self.name}{SUFFIX}").open("wb")
        if not _lock(self._file):
            raise OSError(f"cannot lock {self._file.name}")

    def close(self) -> None:
        """Let go."""
        if self._file is not None:
            self._file.close()
            self._file = None
            with contextlib.suppress(OSError):
                (self._folder / f"{self.name}{SUFFIX}").unlink()

    def dead(self, owners: Iterable[str]) -> frozenset[str]:
        """Those of `owners` that ran on this folder and are gone; of others nothing is known. Removes their files."""
        gone = set()
        for owner in owners:
            if owner == self.name or not owner or any(mark in owner for mark in "/\\."):
                continue
            path = self._folder / f"{owner}{SUFFIX}"
            try:
                with path.open("r+b") as file:
                    if not _lock(file):
                        continue
            except OSError:
                continue
            gone.add(owner)
        return frozenset(gone)

    def sweep(self, keep: Iterable[str]) -> None:
        """Remove the lock files of dead processes, but for those in `keep`, whose jobs still name them."""
        keep = set(keep)
        if not self._folder.is_dir():
            return
        owners = [path.name.removesuffix(SUFFIX) for path in self._folder.glob(f"*{SUFFIX}")]
        for owner in self.dead(set(owners) - keep):
            with contextlib.suppress(OSError):
                (self._folder / f"{owner}{SUFFIX}").unlink()


def _lock(file: IO[bytes]) -> bool:
    """Take the whole file's lock without waiting; False where another process has it."""
    try:
        if sys.platform == "win32":
            import msvcrt

            file.seek(0)
            msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)
        else:
            import fcntl

            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True
