"""Download a file: goes on where it stopped, and gets its final name only when every byte is the right one.

The only downloader of the package. Bytes are hashed as they come and the file is flushed before it is renamed, so that
a file at its final path is right whatever the server did (ignored the range, sent another version, flipped, cut or
repeated bytes) and whatever ended the run.
"""

from __future__ import annotations

import random
import re
import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from .addresses import is_sha256
from .errors import FetchCancelled, FetchError, NotThere
from .hashes import HashCache, hash_files
from .lock import FileLock, Locked
from .names import component_complaint
from .partial import CHUNK, Note, Partial
from .staging import write_error
from .transfer import Answer, Client, Interrupted

SPARE_BYTES = 64 << 20
"""What stays free on the disk."""

ADVANCE_BYTES = 1 << 20
"""A transfer that came further by this much was worth it: the count of failures starts again."""

STALL_SECONDS, STALL_BYTES = 30.0, 30 << 10
"""A connection that brings less than this in that time is given up, and another one tried."""

_OTHER = "look at the address; it may have moved, or a proxy on the way answers for it"

Progress = Callable[[int, int | None, str], None]
"""Called with (bytes so far, bytes of the whole or None, name); also while an earlier run's part is read again."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Wanted:
    """A file to download.

    Attributes:
        path: where it goes; its folder is made where missing.
        size: in bytes, exactly; None where unknown.
        mirrors: asked after ``url``, but only where ``sha256`` proves that they have the same file.
    """

    url: str
    path: Path
    sha256: str | None = None
    size: int | None = None
    mirrors: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True, slots=True)
class Fetched:
    """A file at its final path.

    Attributes:
        proof: what vouches for it: the ``sha256`` that was wanted, the one that the ``server`` states for it, or only
            its ``size`` and structure.
        received: bytes that came over the network; 0 where the file was there.
    """

    path: Path
    sha256: str
    size: int
    url: str
    received: int
    proof: Literal["sha256", "server", "size"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Retry:
    """How often in a row a transfer may fail without coming further, and how long to wait in between (seconds)."""

    failures: int = 5
    first: float = 1.0
    longest: float = 30.0

    def wait(self, failures: int, asked: float | None) -> float:
        """Before the next try: doubled each time, a little apart from everybody else's; at least what was asked for."""
        own = min(self.first * 2.0 ** (failures - 1), self.longest) * random.uniform(0.75, 1.25)  # noqa: S311 - no secret
        return max(own, asked or 0.0)


def fetch_file(
    wanted: Wanted,
    *,
    progress: Progress | None = None,
    cancelled: Callable[[], bool] = lambda: False,
    client: Client | None = None,
    retry: Retry | None = None,
    replace: bool = False,
) -> Fetched:
    """Download a file, or find it there already.

    What an interrupted, cancelled or killed run got stays beside ``wanted.path`` as ``.incomplete``.

    Args:
        cancelled: asked after every piece and while waiting; true ends with `FetchCancelled`.
        client: how to ask; None for the user's Hugging Face settings.
        replace: download even where another file has the name; it is replaced at the very end.

    Raises:
        FetchCancelled: ``cancelled`` said so.
        FetchError: no such file, a gated one, another file than the one wanted, no room, no answer, another process
            downloads it right now, or another file has the name.
    """
    path = wanted.path.absolute()
    why = component_complaint(path.name)
    if why or (wanted.sha256 is not None and not is_sha256(wanted.sha256)):
        raise FetchError(why or f"{wanted.sha256!r} is no sha256", file=str(path))
    try:
        there = None if replace else _already_there(wanted, path, progress)
        if there is not None:
            return there
        path.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(path.with_name(path.name + ".incomplete.lock")):
            # Another process may have ended between our look and our lock.
            there = None if replace else _already_there(wanted, path, progress)
            if there is not None:
                return there
            with Partial(path) as part:
                download = _Download(
                    wanted=wanted,
                    part=part,
                    client=client or Client.from_environment(),
                    retry=retry or Retry(),
                    progress=progress,
                    cancelled=cancelled,
                )
                return download.run()
    except Locked as error:
        raise FetchError("is being downloaded by another process", file=str(path), remedy="wait for it") from error
    except OSError as error:
        raise write_error(error, path) from error


def _already_there(wanted: Wanted, path: Path, progress: Progress | None) -> Fetched | None:
    def tell(file: Path, done: int, total: int) -> None:
        if progress is not None:
            progress(done, total, file.name)

    if path.is_dir():
        raise FetchError("is a folder", file=str(path), remedy="move it away")
    if not path.exists():
        return None
    size = path.stat().st_size
    remedy = "move it away, or ask to replace it"
    if wanted.size is not None and size != wanted.size:
        raise FetchError(
            f"another file is there: {size:,} bytes instead of {wanted.size:,}", file=str(path), remedy=remedy
        )
    if wanted.sha256 is None and wanted.size is None:
        raise FetchError("a file is there, and nothing known tells whether it is right", file=str(path), remedy=remedy)
    digest = hash_files([path], cache=HashCache(), progress=tell)[path]
    if wanted.sha256 is not None and digest != wanted.sha256:
        raise FetchError(f"another file is there: its sha256 is {digest}", file=str(path), remedy=remedy)
    return Fetched(
        path=path,
        sha256=digest,
        size=size,
        url=wanted.url,
        received=0,
        proof="sha256" if wanted.sha256 else "size",
    )


class _WrongContent(FetchError):
    """The server has another file."""


class _StartAgain(Exception):
    """What we have is no beginning of what the server has."""


@dataclass(kw_only=True)
class _Download:
    wanted: Wanted
    part: Partial
    client: Client
    retry: Retry
    progress: Progress | None
    cancelled: Callable[[], bool]
    received: int = 0
    _told: float = field(default=0.0, init=False)

    def run(self) -> Fetched:
        if self.wanted.size is not None:
            self._check_space(self.wanted.size)
        self.part.resume(self.wanted.sha256, self.wanted.size, self._resumed)
        failed: list[FetchError] = []
        addresses = [self.wanted.url, *(self.wanted.mirrors if self.wanted.sha256 else ())]
        for url in addresses:
            try:
                return self._from(url)
            except FetchCancelled:
                raise
            except FetchError as error:
                failed.append(error)
        raise self._failure(failed)

    def _failure(self, failed: list[FetchError]) -> FetchError:
        first = failed[0].at(file=self.wanted.path.name)
        if len(failed) > 1:
            others = "; ".join(f"mirror: {error.message}" for error in failed[1:])
            first.message = f"{first.message} ({others})"
            return first
        if isinstance(first, NotThere) and first.remedy is None:
            mirrors = " or ".join(self.wanted.mirrors)
            first.remedy = f"it may be had from {mirrors}" if mirrors else "look for where it has moved to"
        return first

    def _from(self, url: str) -> Fetched:
        failures, furthest, wrong = 0, self.part.length, 0
        while True:
            try:
                if not self._is_whole():
                    self._transfer(url)
                return self._finish(url)
            except _StartAgain:
                self.part.restart()
                reason: Interrupted = Interrupted("the server's file changed on the way")
            except Interrupted as error:
                reason = error
            except _WrongContent:
                # Once, it may have been the way here, or a part of an older version.
                self.part.restart()
                furthest, wrong = 0, wrong + 1
                if wrong > 1:
                    raise
                continue
            failures = 1 if self.part.length >= furthest + ADVANCE_BYTES else failures + 1
            furthest = max(furthest, self.part.length)
            if failures >= self.retry.failures:
                kept = "run it again later: it goes on where it stopped" if self.part.length else "try again later"
                raise FetchError(f"{url}: {reason.reason}, {failures} times in a row", remedy=kept) from reason
            self._sleep(self.retry.wait(failures, reason.wait))

    def _is_whole(self) -> bool:
        return self.part.length > 0 and self.part.length == (self.wanted.size or self.part.note.size)

    def _transfer(self, url: str) -> None:
        """One request, and all of its answer."""
        self._check_cancelled()
        note, offset = self.part.note, self.part.length
        etag = note.etag if note.url == url else None
        # Without the hash of the whole, only a strong mark proves that the rest is of the same version.
        if offset and not (self.wanted.sha256 or note.sha256 or etag):
            self.part.restart()
            offset = 0
        headers = {"Range": f"bytes={offset}-"} if offset else {}
        if offset and etag:
            headers["If-Range"] = etag
        answer = self.client.open(url, headers)
        try:
            total = self._judge(answer, url, offset)
            self._receive(answer, total)
        finally:
            answer.stream.close()

    def _judge(self, answer: Answer, url: str, offset: int) -> int:
        """Decide whether the answer goes on at ``offset`` or starts from the beginning; the size of the whole.

        What the answer's head says of another file leaves the part alone: it may be a page of a proxy on the way.
        """
        if answer.status == 416 or (answer.status == 206 and not offset):
            raise _StartAgain
        if answer.headers.get("content-encoding", "identity") != "identity":
            raise FetchError(f"{url} is sent in another encoding than it was asked for", remedy="try again later")
        note, wanted, stated = self.part.note, self.wanted, answer.stated_sha256
        total = _total(answer, offset)
        if total is None:
            total = wanted.size if wanted.size is not None else answer.stated_size
        if total is None:
            raise FetchError(f"{url}: the server does not say how large the file is", remedy="download it by hand")
        if wanted.size is not None and total != wanted.size:
            raise FetchError(f"{url} has another file: {total:,} bytes instead of {wanted.size:,}", remedy=_OTHER)
        if stated and wanted.sha256 and stated != wanted.sha256:
            raise FetchError(
                f"{url} has another file: its sha256 is {stated} instead of {wanted.sha256}", remedy=_OTHER
            )
        etag = _strong(answer.headers.get("etag"))
        if answer.status == 200 and offset:
            self.part.restart()  # the server takes no ranges, or has another version now
        elif offset:
            same_etag = etag is not None and note.url == url and etag == note.etag
            other_etag = etag is not None and note.url == url and note.etag is not None and etag != note.etag
            same = (stated is not None and stated == note.sha256) or same_etag
            if not same and (wanted.sha256 is None or other_etag):
                raise _StartAgain
            if note.size is not None and note.size != total:
                raise _StartAgain
        self.part.describe(Note(url=url, etag=etag, size=total, sha256=wanted.sha256 or stated))
        self._check_space(total)
        return total

    def _receive(self, answer: Answer, total: int) -> None:
        import http.client

        began, count = time.monotonic(), 0
        while self.part.length < total:
            self._check_cancelled()
            try:
                data = answer.stream.read1(min(CHUNK, total - self.part.length))
            except (OSError, http.client.HTTPException) as error:
                raise Interrupted("the connection broke") from error
            if not data:
                raise Interrupted(f"the connection ended after {self.part.length:,} of {total:,} bytes")
            self.part.append(data)
            self.received += len(data)
            count += len(data)
            self._tell(total)
            if time.monotonic() - began > STALL_SECONDS:
                if count < STALL_BYTES:
                    raise Interrupted("the connection all but stopped")
                began, count = time.monotonic(), 0

    def _finish(self, url: str) -> Fetched:
        part, path = self.part, self.wanted.path.absolute()
        expected = self.wanted.sha256 or part.note.sha256
        digest = part.sha256()
        if not part.is_intact():
            raise _WrongContent(f"{part.path.name} was changed while it was written")
        if expected is not None and digest != expected:
            raise _WrongContent(
                f"{url} gives other bytes: their sha256 is {digest} instead of {expected}",
                remedy="nothing of it was kept; try again, or get it elsewhere",
            )
        if expected is None and path.suffix.lower() in (".safetensors", ".sft"):
            self._check_structure(url)
        size = part.length
        part.finish()
        self._tell(size, last=True)
        proof: Literal["sha256", "server", "size"] = (
            "sha256" if self.wanted.sha256 else "server" if expected else "size"
        )
        return Fetched(path=path, sha256=digest, size=size, url=url, received=self.received, proof=proof)

    def _check_structure(self, url: str) -> None:
        from ..catalogue import HeaderError, read_header

        try:
            read_header(self.part.path)
        except HeaderError as error:
            raise _WrongContent(f"{url} gives no whole safetensors file: {error}") from error

    def _check_space(self, total: int) -> None:
        folder = self.part.path.parent
        free, need = shutil.disk_usage(folder).free, total - self.part.on_disk
        if need > 0 and need + SPARE_BYTES > free:
            raise FetchError(
                f"{need / 1e9:.2f} GB are still to come, {free / 1e9:.2f} GB are free in {folder}",
                remedy="free some space and run it again",
            )

    def _check_cancelled(self) -> None:
        if self.cancelled():
            raise FetchCancelled("stopped", file=self.wanted.path.name, remedy="run it again to go on")

    def _sleep(self, seconds: float) -> None:
        until = time.monotonic() + seconds
        while (left := until - time.monotonic()) > 0:
            self._check_cancelled()
            time.sleep(min(left, 0.2))

    def _resumed(self, length: int) -> None:
        self._check_cancelled()
        self._tell(self.wanted.size or self.part.note.size)

    def _tell(self, total: int | None, *, last: bool = False) -> None:
        now = time.monotonic()
        if self.progress is not None and (last or now - self._told > 0.05 or self.part.length == total):
            self._told = now
            self.progress(self.part.length, total, self.wanted.path.name)


def _total(answer: Answer, offset: int) -> int | None:
    """The size of the whole file by the answer's headers; None where they do not say.

    Raises:
        _StartAgain: a range other than the one that was asked for.
    """
    if answer.status == 206:
        found = re.fullmatch(r"bytes (\d{1,15})-(\d{1,15})/(\d{1,15})", answer.headers.get("content-range", "").strip())
        if not found or int(found[1]) != offset or not offset <= int(found[2]) < int(found[3]):
            raise _StartAgain
        return int(found[3])
    length = answer.headers.get("content-length", "").strip()
    return int(length) if re.fullmatch(r"[0-9]{1,15}", length) else None


def _strong(etag: str | None) -> str | None:
    """An ETag that proves equal bytes (RFC 9110, 8.8.1); None for a weak one or none."""
    etag = (etag or "").strip()
    return etag if re.fullmatch(r'"[\x21\x23-\x7e]{1,512}"', etag) else None
