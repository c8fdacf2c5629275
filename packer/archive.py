"""Bundles as zip files: the only place that writes or opens one.

Reading believes nothing: `Archive.open` compares every header with its twin and checks every name; `Archive.check`
unpacks every byte into nothing and compares sizes and checksums; only then does `Archive.extract` write. Writing gives
the same bytes for the same members on every run: sorted, fixed times, attributes and deflate level.
"""

from __future__ import annotations

import hashlib
import os
import stat
import zipfile
import zlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from .errors import ArchiveError, MissingFile
from .names import clashes, complaint, shown
from .staging import new_file
from .zipformat import DEFLATED, Entry, read_entries

CHUNK = 1 << 20
"""Bytes read or written at a time."""

LEVEL = 6
"""The deflate level of every bundle that we write."""

_TIME = (1980, 1, 1, 0, 0, 0)  # the earliest time a zip can say; the real one would change the bytes
_MODE = stat.S_IFREG | 0o644


@dataclass(frozen=True, kw_only=True, slots=True)
class Limits:
    """How large a bundle may be, so that opening one cannot fill a disk or the memory.

    Attributes:
        members: number of members, folders included.
        size: bytes of one member, unpacked.
        total: bytes of all members together, unpacked.
        ratio: how often larger a member, or the whole, may be unpacked than packed. Text packs 5 to 30 times, a zip
            bomb 1,000 times. Members (or wholes) under `free` bytes may be anything.
    """

    members: int = 10_000
    size: int = 8 << 30
    total: int = 16 << 30
    ratio: int = 100
    free: int = 1 << 20


LIMITS = Limits()


@dataclass(frozen=True, kw_only=True, slots=True)
class Archive:
    """A bundle's file, its headers read and checked. Members are read from the disk when asked for.

    Attributes:
        path: the file.
        files: the members that are files, by name, sorted.
        folders: the members that are folders, without the final slash, sorted.
    """

    path: Path
    files: Mapping[str, Entry]
    folders: tuple[str, ...]
    _stamp: tuple[int, int]  # size and time of change: a file that changes under us is an error, not a surprise

    @classmethod
    def open(cls, path: Path, limits: Limits = LIMITS) -> Archive:
        """Read and check all headers of the bundle at ``path``; no member's data is read.

        Raises:
            MissingFile: there is no such file.
            ArchiveError: not a zip, damaged, ambiguous, too large, or a member's name or kind is not allowed.
        """
        try:
            with path.open("rb") as file:
                stamp = _stamp(file)
                entries = read_entries(file, stamp[0], limit=limits.members)
            _check_entries(entries, limits, stamp[0])
        except ArchiveError as error:
            raise error.at(file=str(path)) from error.__cause__
        except OSError as error:
            raise _read_error(error, path) from error
        files = {entry.name: entry for entry in sorted(entries, key=lambda entry: entry.name) if entry.name[-1] != "/"}
        folders = tuple(sorted(entry.name.rstrip("/") for entry in entries if entry.name[-1] == "/"))
        return cls(path=path, files=files, folders=folders, _stamp=stamp)

    def read(self, name: str, limit: int | None = None) -> bytes:
        """The bytes of the member ``name``; `ArchiveError` where it is damaged or larger than ``limit`` bytes."""
        entry = self._entry(name)
        if limit is not None and entry.size > limit:
            raise ArchiveError(
                f"it has {entry.size} bytes; {limit} are allowed", file=str(self.path), member=shown(name)
            )
        return b"".join(self.chunks(name))

    def chunks(self, name: str) -> Iterator[bytes]:
        """The bytes of the member ``name`` in pieces; the last comes only after size and checksum were found right."""
        entry = self._entry(name)
        try:
            with self.path.open("rb") as file:
                if _stamp(file) != self._stamp:
                    raise ArchiveError("the file changed while it was read", remedy="try again")
                yield from _unpacked(file, entry)
        except ArchiveError as error:
            raise error.at(file=str(self.path), member=shown(name)) from error.__cause__
        except OSError as error:
            raise _read_error(error, self.path) from error

    def check(self) -> None:
        """Unpack every member into nothing; `ArchiveError` for the first whose size or checksum is wrong."""
        for name in self.files:
            for _ in self.chunks(name):
                pass

    def sha256(self, name: str) -> str:
        """The sha256 of the member ``name``, hexadecimal."""
        digest = hashlib.sha256()
        for chunk in self.chunks(name):
            digest.update(chunk)
        return digest.hexdigest()

    def copy(self, name: str, target: Path) -> None:
        """Write the member ``name`` to the new file ``target``, with plain permissions; its folder must exist."""
        with target.open("xb") as file:
            for chunk in self.chunks(name):
                file.write(chunk)
            file.flush()
            os.fsync(file.fileno())

    def _entry(self, name: str) -> Entry:
        try:
            return self.files[name]
        except KeyError:
            raise ArchiveError(f"it has no member {shown(name)}", file=str(self.path)) from None


def _stamp(file: BinaryIO) -> tuple[int, int]:
    status = os.fstat(file.fileno())
    if not stat.S_ISREG(status.st_mode):
        raise ArchiveError("is not a file")
    return status.st_size, status.st_mtime_ns


def _read_error(error: OSError, path: Path) -> MissingFile | ArchiveError:
    if isinstance(error, FileNotFoundError):
        return MissingFile("there is no such file", file=str(path), remedy="check the path")
    if isinstance(error, IsADirectoryError):
        return ArchiveError("is a folder, not a bundle", file=str(path))
    return ArchiveError(f"cannot be read: {(error.strerror or str(error)).lower()}", file=str(path))


def _check_entries(entries: tuple[Entry, ...], limits: Limits, length: int) -> None:
    for entry in entries:
        why = complaint(entry.name.removesuffix("/")) or _kind_complaint(entry)
        if why:
            raise ArchiveError(why, member=shown(entry.name), remedy="do not unpack it; ask its maker for another")
        if entry.size > limits.size:
            raise ArchiveError(f"it has {entry.size} bytes; {limits.size} are allowed", member=shown(entry.name))
        if entry.size > limits.free and entry.size > limits.ratio * entry.packed:
            raise ArchiveError(
                f"it unpacks to more than {limits.ratio} times its size, as a zip bomb does", member=shown(entry.name)
            )
    total = sum(entry.size for entry in entries)
    if total > limits.total:
        raise ArchiveError(f"it unpacks to {total} bytes; {limits.total} are allowed")
    if total > limits.free and total > limits.ratio * length:
        raise ArchiveError(f"it unpacks to more than {limits.ratio} times its size, as a zip bomb does")
    # A folder counts as a file with an impossible name in it: so it may hold files, but may be neither a file itself,
    # nor there twice, nor in two spellings.
    pair = clashes([entry.name + "\x00" if entry.name[-1] == "/" else entry.name for entry in entries])
    if pair is not None:
        first, second = (name.rstrip("\x00") for name in pair)
        raise ArchiveError(f"it is the same file as {shown(first)} on some systems", member=shown(second))


def _kind_complaint(entry: Entry) -> str | None:
    kind = stat.S_IFMT(entry.mode)
    is_folder = entry.name.endswith("/")
    if kind == stat.S_IFLNK:
        return "it is a symbolic link"
    if kind not in (0, stat.S_IFREG, stat.S_IFDIR):
        return "it is a device, a pipe or a socket"
    if (kind == stat.S_IFDIR and not is_folder) or (is_folder and (kind == stat.S_IFREG or entry.size)):
        return "it is a file by one sign and a folder by another"
    if not is_folder and entry.mode & (stat.S_ISUID | stat.S_ISGID):
        return "it would run with its owner's rights (set-uid)"
    # DOS attributes (low byte and the reparse bit): volume label, device, reparse point; a folder without a slash.
    if entry.attributes & (0x08 | 0x40 | 0x400) or (entry.attributes & 0x10 and not is_folder):
        return "it is marked as something other than a file"
    return None


def _unpacked(file: BinaryIO, entry: Entry) -> Iterator[bytes]:
    """The member's bytes in pieces, one piece behind, so that nobody uses the last of a damaged member unaware."""
    file.seek(entry.start)
    crc, size, held = 0, 0, b""
    for chunk in _inflated(file, entry) if entry.method == DEFLATED else _stored(file, entry.packed):
        crc, size = zlib.crc32(chunk, crc), size + len(chunk)
        if size > entry.size:
            break
        if held:
            yield held
        held = chunk
    if size != entry.size:
        raise ArchiveError("its real size is not the one that its header says")
    if crc != entry.crc:
        raise ArchiveError("its checksum is wrong: it is damaged")
    if held:
        yield held


def _stored(file: BinaryIO, left: int) -> Iterator[bytes]:
    while left:
        chunk = file.read(min(CHUNK, left))
        if not chunk:
            raise ArchiveError("the file is cut short")
        left -= len(chunk)
        yield chunk


def _inflated(file: BinaryIO, entry: Entry) -> Iterator[bytes]:
    inflater = zlib.decompressobj(-zlib.MAX_WBITS)
    try:
        for packed in _stored(file, entry.packed):
            while packed and not inflater.eof:
                chunk = inflater.decompress(packed, CHUNK)
                packed = inflater.unconsumed_tail
                if chunk:
                    yield chunk
            if inflater.eof and (packed or inflater.unused_data):
                raise ArchiveError("its data goes on after its end")
    except zlib.error as error:
        raise ArchiveError("its data is damaged") from error
    if not inflater.eof:
        raise ArchiveError("its data is cut short")


WriteProgress = Callable[[str, int, int], None]
"""Called with (member, bytes written so far of all members, bytes of all members)."""


def write_archive(
    path: Path,
    members: Mapping[str, bytes | Path],
    *,
    sha256: Mapping[str, str] | None = None,
    progress: WriteProgress | None = None,
) -> None:
    """Write the zip ``path`` from ``members`` (name -> bytes, or a file to copy), whole or not at all.

    Args:
        sha256: what each member must hash to, where that was promised elsewhere (a manifest inside the same zip).

    Raises:
        ArchiveError: a name that `Archive.open` would refuse, or a file that changed since it was hashed.
        MissingFile: a file to copy is not there.
        PackerError: the folder cannot be written to, or the disk is full; nothing is left then.
    """
    names = sorted(members)
    for name in names:
        why = complaint(name)
        if why:
            raise ArchiveError(why, member=shown(name), remedy="rename the file")
    pair = clashes(names)
    if pair:
        raise ArchiveError(f"it is the same file as {shown(pair[0])} on some systems", member=shown(pair[1]))
    total = sum(_size(source) for source in members.values())
    done = 0
    with new_file(path) as file, zipfile.ZipFile(file, "w") as archive:
        for name in names:
            digest = _write_member(archive, name, members[name])
            done += _size(members[name])
            if progress is not None:
                progress(name, done, total)
            if sha256 is not None and sha256.get(name, digest) != digest:
                raise ArchiveError("the file changed while it was packed", member=shown(name), remedy="pack again")


def _write_member(archive: zipfile.ZipFile, name: str, source: bytes | Path) -> str:
    info = zipfile.ZipInfo(name, _TIME)
    info.create_system = 3  # Unix, on every platform: the field would otherwise tell where it was packed
    info.external_attr = _MODE << 16
    info.compress_type, size = _method(source)
    # `_compresslevel` is how Python < 3.13 names what ZipFile.writestr's own argument sets.
    setattr(info, "compress_level" if hasattr(info, "compress_level") else "_compresslevel", LEVEL)
    digest = hashlib.sha256()
    with archive.open(info, "w", force_zip64=size >= 0x7FFFFFFF) as member:
        for chunk in _chunks_of(source):
            digest.update(chunk)
            member.write(chunk)
    return digest.hexdigest()


def _size(source: bytes | Path) -> int:
    if isinstance(source, bytes):
        return len(source)
    try:
        return source.stat().st_size
    except OSError as error:
        raise MissingFile(f"cannot be read: {(error.strerror or str(error)).lower()}", file=str(source)) from error


def _chunks_of(source: bytes | Path) -> Iterator[bytes]:
    if isinstance(source, bytes):
        yield source
        return
    try:
        with source.open("rb") as file:
            while chunk := file.read(CHUNK):
                yield chunk
    except OSError as error:
        raise MissingFile(f"cannot be read: {(error.strerror or str(error)).lower()}", file=str(source)) from error


def _method(source: bytes | Path) -> tuple[int, int]:
    """How to pack, and the size: deflated where it helps and the result does not look like a zip bomb to `Archive`."""
    packer = zlib.compressobj(LEVEL, zlib.DEFLATED, -zlib.MAX_WBITS)
    size = packed = 0
    for chunk in _chunks_of(source):
        size += len(chunk)
        packed += len(packer.compress(chunk))
    packed += len(packer.flush())
    bomb = size > 4096 and size * 2 > LIMITS.ratio * packed
    return (zipfile.ZIP_DEFLATED if packed < 0.95 * size and not bomb else zipfile.ZIP_STORED), size
