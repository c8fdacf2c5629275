"""sha256 of large files: several at once, and remembered, so that a file is read once in its life.

A remembered hash is used where path, size, time of change and inode are the same. It lies in one SQLite file in the
user's cache folder, shared by all processes; where that cannot be used, everything still works, only slower.
"""

from __future__ import annotations

import hashlib
import logging
import os
import sqlite3
import threading
import time
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

from .errors import MissingFile

log = logging.getLogger(__name__)

CHUNK = 4 << 20
"""Bytes hashed at a time; hashlib gives the interpreter to other threads meanwhile."""

WORKERS = 4
"""Files hashed at once: more do not help a disk, and one core hashes 0.5 to 2 GB/s."""

SETTLED_SECONDS = 2.0
"""A file changed more recently is not remembered: its time of change could stay the same on the next change."""

HashProgress = Callable[[Path, int, int], None]
"""Called with (file, bytes hashed so far of all files, bytes of all files); from any thread, one call at a time."""

_Key = tuple[str, int, int, int]  # path, size, mtime_ns, inode


def default_cache() -> Path:
    """The cache file in the user's cache folder."""
    import platformdirs

    return platformdirs.user_cache_path("comfy-atelier", appauthor=False) / "hashes.sqlite3"


class HashCache:
    """The remembered hashes. Every method works without the file; nothing here raises for the cache's own sake."""

    def __init__(self, path: Path | None = None) -> None:
        self.path = path if path is not None else default_cache()

    def find(self, keys: Iterable[_Key]) -> dict[_Key, str]:
        """The remembered hashes of the files that are still the same."""
        found: dict[_Key, str] = {}
        if not self.path.is_file():
            return found
        try:
            with closing(self._open()) as database:
                for key in keys:
                    row = database.execute(
                        "SELECT sha256 FROM hashes WHERE path = ? AND size = ? AND mtime_ns = ? AND inode = ?", key
                    ).fetchone()
                    if row:
                        found[key] = str(row[0])
        except (sqlite3.Error, OSError) as error:
            log.info("the hash cache %s cannot be read: %s", self.path, error)
        return found

    def add(self, hashes: dict[_Key, str]) -> None:
        """Remember hashes; an older entry of the same path is replaced."""
        if not hashes:
            return
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self._drop_if_broken()
            with closing(self._open()) as database, database:
                database.executemany(
                    "INSERT OR REPLACE INTO hashes (path, size, mtime_ns, inode, sha256) VALUES (?, ?, ?, ?, ?)",
                    [(*key, value) for key, value in hashes.items()],
                )
        except (sqlite3.Error, OSError) as error:
            log.info("the hash cache %s cannot be written: %s", self.path, error)

    def _drop_if_broken(self) -> None:
        """Remove a file that is no database (any more): it would be of no use for ever."""
        if self.path.is_file():
            try:
                with closing(self._open()) as database:
                    database.execute("SELECT count(*) FROM hashes WHERE path = ''").fetchone()
            except sqlite3.OperationalError:
                raise
            except sqlite3.DatabaseError:
                self.path.unlink(missing_ok=True)

    def _open(self) -> sqlite3.Connection:
        database = sqlite3.connect(self.path, timeout=30)
        try:
            # Nothing is lost if the power goes that could not be computed again.
            database.execute("PRAGMA synchronous = OFF")
            database.execute(
                "CREATE TABLE IF NOT EXISTS hashes (path TEXT PRIMARY KEY, size INTEGER NOT NULL, "
                "mtime_ns INTEGER NOT NULL, inode INTEGER NOT NULL, sha256 TEXT NOT NULL) WITHOUT ROWID"
            )
        except BaseException:
            database.close()
            raise
        return database


def hash_files(
    paths: Iterable[Path],
    *,
    cache: HashCache | None = None,
    progress: HashProgress | None = None,
    workers: int = WORKERS,
) -> dict[Path, str]:
    """The sha256 of each file, hexadecimal; remembered ones from ``cache``, the rest read now.

    Raises:
        MissingFile: a file cannot be read, or changes while it is read.
    """
    keys = {path: _key(path) for path in dict.fromkeys(paths)}
    remembered = cache.find(keys.values()) if cache else {}
    result = {path: remembered[key] for path, key in keys.items() if key in remembered}
    todo = [path for path in keys if path not in result]
    if todo:
        meter = _Meter(sum(keys[path][1] for path in todo), progress)
        # The largest first, so that no thread ends alone with it.
        todo.sort(key=lambda path: -keys[path][1])
        with ThreadPoolExecutor(min(workers, len(todo), os.cpu_count() or 1)) as pool:
            try:
                fresh = dict(zip(todo, pool.map(lambda path: _hash(path, keys[path], meter), todo), strict=True))
            except BaseException:
                meter.stop = True
                raise
        result.update(fresh)
        if cache:
            horizon = time.time_ns() - int(SETTLED_SECONDS * 1e9)
            cache.add({keys[path]: value for path, value in fresh.items() if keys[path][2] < horizon})
    return {path: result[path] for path in keys}


class _Meter:
    def __init__(self, total: int, progress: HashProgress | None) -> None:
        self.total, self.progress = total, progress
        self.done = 0
        self.stop = False
        self._lock = threading.Lock()

    def add(self, path: Path, count: int) -> None:
        with self._lock:
            self.done += count
            if self.progress is not None:
                self.progress(path, self.done, self.total)


def _key(path: Path) -> _Key:
    try:
        status = path.stat()
    except OSError as error:
        raise _unreadable(path, error) from error
    return str(path.absolute()), status.st_size, status.st_mtime_ns, status.st_ino


def _hash(path: Path, key: _Key, meter: _Meter) -> str:
    digest = hashlib.sha256()
    left = key[1]
    try:
        with path.open("rb", buffering=0) as file:
            buffer = memoryview(bytearray(CHUNK))
            # A file that grows faster than it is read would never end.
            while left >= 0 and not meter.stop and (count := file.readinto(buffer)):
                left -= count
                digest.update(buffer[:count])
                meter.add(path, count)
    except OSError as error:
        raise _unreadable(path, error) from error
    if left > 0 and meter.stop:
        return ""  # nobody will see it: another file's error is on its way
    if left or _key(path) != key:
        raise MissingFile(
            "changed while it was read", file=str(path), remedy="wait until it is complete, and try again"
        )
    return digest.hexdigest()


def _unreadable(path: Path, error: OSError) -> MissingFile:
    return MissingFile(f"cannot be read: {(error.strerror or str(error)).lower()}", file=str(path))
