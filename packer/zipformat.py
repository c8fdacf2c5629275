"""The zip format as bytes: every header read and compared with its twin before anything in the file is believed.

Readers differ in which of a zip's several records they trust: the central directory or the local headers, the first or
the last end record, the zip64 record before the end or the one its locator points at. A file on which they could differ
is refused here. Source: PKWARE APPNOTE.TXT 6.3.10 (section numbers below); what was tried against readers before:
CVE-2025-54368 (uv), CVE-2025-8291 and CVE-2024-0450 (CPython).
"""

from __future__ import annotations

import struct
import zlib
from dataclasses import dataclass
from typing import BinaryIO

from .errors import ArchiveError
from .names import shown

STORED, DEFLATED = 0, 8

MAX_DIRECTORY = 64 << 20
"""Bytes of the directory, which is read as a whole; 10,000 members with long names have 4 MB."""

_END = struct.Struct("<4s4H2LH")  # 4.3.16
_LOCATOR = struct.Struct("<4sLQL")  # 4.3.15
_END64 = struct.Struct("<4sQ2H2L4Q")  # 4.3.14
_CENTRAL = struct.Struct("<4s6H3L5H2L")  # 4.3.12
_LOCAL = struct.Struct("<4s5H3L2H")  # 4.3.7

_ENCRYPTED = 0x1 | 0x40 | 0x2000  # 4.4.4: traditional, strong, masked directory
_DESCRIPTOR = 0x8
_PATCH = 0x20
_UTF8 = 0x800
_BIG, _HUGE = 0xFFFF, 0xFFFFFFFF  # "see the zip64 record"

# Extra fields (4.5.2 and Info-ZIP's list) that change what a member is for some reader.
_ZIP64, _UNICODE_PATH = 0x0001, 0x7075
_LINK_CARRIERS = {0x000D: "PKWARE Unix", 0x756E: "ASi Unix"}  # both can hold a link's target
_AES = 0x9901


@dataclass(frozen=True, kw_only=True, slots=True)
class Entry:
    """One member as both of its headers describe it. ``name`` ends in ``/`` for a folder; sizes are in bytes."""

    name: str
    method: int
    crc: int
    packed: int
    size: int
    start: int  # where the packed bytes begin in the file
    mode: int  # Unix st_mode; 0 where the writer gave none
    attributes: int  # DOS attributes
    extent: tuple[int, int]  # from the local header's first byte to past the descriptor's last


@dataclass(frozen=True, kw_only=True, slots=True)
class _Central:
    raw_name: bytes
    name: str
    flags: int
    method: int
    crc: int
    packed: int
    size: int
    offset: int
    external: int


def read_entries(file: BinaryIO, length: int, *, limit: int) -> tuple[Entry, ...]:
    """Every member of the zip ``file`` of ``length`` bytes, in the directory's order; at most ``limit`` are allowed.

    The members must lie one after another from the first byte to the directory, and the directory up to the end record:
    no prefix, no gap, no overlap, nothing after the end.

    Raises:
        ArchiveError: not a zip, damaged, or two readers could see different members.
    """
    count, directory_size, directory_start = _read_end(file, length)
    if count > limit:
        raise ArchiveError(f"it has {count} members; {limit} are allowed")
    if directory_size > MAX_DIRECTORY:
        raise ArchiveError(f"its directory has {directory_size} bytes; {MAX_DIRECTORY} are allowed")
    centrals = _read_directory(_bytes_at(file, directory_start, directory_size), count)
    entries = [_read_member(file, central, directory_start) for central in centrals]
    position = 0
    for entry in sorted(entries, key=lambda entry: entry.extent):
        if entry.extent[0] != position:
            what = "overlaps another member" if entry.extent[0] < position else "has unlisted bytes before it"
            raise ArchiveError(
                what if position else "the file does not begin with its first member", member=shown(entry.name)
            )
        position = entry.extent[1]
    if position != directory_start:
        raise ArchiveError("there are unlisted bytes before the directory")
    return tuple(entries)


def _bytes_at(file: BinaryIO, start: int, size: int) -> bytes:
    file.seek(start)
    data = file.read(size)
    if len(data) != size:
        raise ArchiveError("the file is cut short")
    return data


def _read_end(file: BinaryIO, length: int) -> tuple[int, int, int]:
    """(members, size of the directory, its offset) from the one end record that reaches the file's last byte."""
    tail_start = max(0, length - _END.size - _BIG)
    tail = _bytes_at(file, tail_start, length - tail_start)
    fitting = [at for at in _occurrences(tail, b"PK\5\6") if _ends_file(tail, at)]
    if not fitting:
        if b"PK\5\6" in tail:
            raise ArchiveError(
                "it does not end where its zip end record says", remedy="it is cut short or has extra bytes"
            )
        raise ArchiveError("not a zip file, or one that is cut short")
    if len(fitting) > 1:
        raise ArchiveError("it has two zip end records, so that it could be read as two different archives")
    at = fitting[0]
    _, disk, first_disk, here, count, size, start, comment = _END.unpack_from(tail, at)
    if b"PK" in tail[at + _END.size : at + _END.size + comment]:
        raise ArchiveError("its comment holds zip records")
    end = tail_start + at
    if at >= _LOCATOR.size and tail[at - _LOCATOR.size :][:4] == b"PK\6\7":
        end, count, size, start = _read_end64(file, end, (disk, first_disk, here, count, size, start))
    elif _BIG in (disk, first_disk, here, count) or _HUGE in (size, start):
        raise ArchiveError("its zip64 end record is missing")
    elif disk or first_disk or here != count:
        raise ArchiveError("it is a part of a split archive")
    if start + size != end:
        raise ArchiveError("its directory is not where its end record says")
    return count, size, start


def _occurrences(data: bytes, what: bytes) -> list[int]:
    found, at = [], data.find(what)
    while at >= 0:
        found.append(at)
        at = data.find(what, at + 1)
    return found


def _ends_file(tail: bytes, at: int) -> bool:
    if len(tail) - at < _END.size:
        return False
    comment: int = _END.unpack_from(tail, at)[-1]
    return at + _END.size + comment == len(tail)


def _read_end64(file: BinaryIO, end: int, small: tuple[int, ...]) -> tuple[int, int, int, int]:
    _, disk, at, disks = _LOCATOR.unpack(_bytes_at(file, end - _LOCATOR.size, _LOCATOR.size))
    if at != end - _LOCATOR.size - _END64.size:
        raise ArchiveError("its zip64 locator does not point at the record before it")
    record = _END64.unpack(_bytes_at(file, at, _END64.size))
    signature, rest, _, _, this_disk, first_disk, here, count, size, start = record
    if signature != b"PK\6\6" or rest != _END64.size - 12:
        raise ArchiveError("its zip64 end record is damaged")
    if disk or disks > 1 or this_disk or first_disk or here != count:
        raise ArchiveError("it is a part of a split archive")
    large = (0, 0, count, count, size, start)
    for short, long, sentinel in zip(small, large, (_BIG, _BIG, _BIG, _BIG, _HUGE, _HUGE), strict=True):
        if short not in (long, sentinel):
            raise ArchiveError("its two end records contradict each other")
    return at, count, size, start


def _read_directory(data: bytes, count: int) -> list[_Central]:
    centrals, at = [], 0
    for _ in range(count):
        if data[at : at + 4] != b"PK\1\2" or len(data) - at < _CENTRAL.size:
            raise ArchiveError("its directory is damaged")
        fields = _CENTRAL.unpack_from(data, at)
        flags, method = fields[3], fields[4]
        crc, packed, size, name_size, extra_size, comment_size, disk, _, external, offset = fields[7:]
        names_at = at + _CENTRAL.size
        at = names_at + name_size + extra_size + comment_size
        if at > len(data):
            raise ArchiveError("its directory is damaged")
        raw_name = data[names_at : names_at + name_size]
        name = _decode(raw_name, flags)
        extra = _read_extra(data[names_at + name_size : names_at + name_size + extra_size], raw_name, name)
        size, packed, offset, disk = _widen(extra, name, [(size, 8), (packed, 8), (offset, 8), (disk, 4)])
        if disk:
            raise ArchiveError("it is a part of a split archive")
        _check_kind(flags, method, extra, name)
        centrals.append(
            _Central(
                raw_name=raw_name,
                name=name,
                flags=flags,
                method=method,
                crc=crc,
                packed=packed,
                size=size,
                offset=offset,
                external=external,
            )
        )
    if at != len(data):
        raise ArchiveError("its directory has more than its end record says")
    return centrals


def _decode(raw: bytes, flags: int) -> str:
    try:
        return raw.decode("utf-8" if flags & _UTF8 else "ascii")
    except UnicodeDecodeError:
        why = "the name is not UTF-8" if flags & _UTF8 else "the name is neither ASCII nor marked as UTF-8"
        raise ArchiveError(why, member=shown(raw.decode("ascii", "replace")), remedy="pack it again") from None


def _read_extra(data: bytes, raw_name: bytes, name: str) -> dict[int, bytes]:
    """The extra fields by id; refused where one is damaged, given twice, or gives the member another name."""
    fields: dict[int, bytes] = {}
    at = 0
    while at < len(data):
        if len(data) - at < 4:
            # Alignment tools pad with up to three zero bytes.
            if any(data[at:]):
                raise ArchiveError("its extra field is damaged", member=shown(name))
            break
        kind, size = struct.unpack_from("<2H", data, at)
        body = data[at + 4 : at + 4 + size]
        if len(body) != size or kind in fields:
            raise ArchiveError("its extra field is damaged", member=shown(name))
        fields[kind] = body
        at += 4 + size
    path = fields.get(_UNICODE_PATH)
    if path is not None and (len(path) < 5 or path[5:] != name.encode("utf-8")):
        raise ArchiveError("it has a second, different name", member=shown(name))
    if path is not None and (path[0] != 1 or struct.unpack_from("<L", path, 1)[0] != zlib.crc32(raw_name)):
        raise ArchiveError("its second name is damaged", member=shown(name))
    return fields


def _widen(extra: dict[int, bytes], name: str, values: list[tuple[int, int]]) -> list[int]:
    """Replace each value that says "see zip64" by the one there, in the order that 4.5.3 fixes."""
    body, at, result = extra.get(_ZIP64), 0, []
    for value, width in values:
        if value == (_HUGE if width == 8 else _BIG):
            if body is None or len(body) < at + width:
                raise ArchiveError("its zip64 field is missing or too short", member=shown(name))
            value = int.from_bytes(body[at : at + width], "little")
            at += width
        result.append(value)
    # Some writers give all sizes even where the header has them; any other surplus is two stories about one member.
    if body is not None and at != len(body):
        given = [int.from_bytes(body[i : i + 8], "little") for i in range(0, len(body) - 7, 8)]
        if len(body) % 8 or given != result[: len(given)]:
            raise ArchiveError("its zip64 field contradicts its header", member=shown(name))
    return result


def _check_kind(flags: int, method: int, extra: dict[int, bytes], name: str) -> None:
    if flags & _ENCRYPTED or _AES in extra:
        raise ArchiveError("it is encrypted", member=shown(name), remedy="pack it without a password")
    if flags & _PATCH:
        raise ArchiveError("it is a patch, not a file", member=shown(name))
    if method not in (STORED, DEFLATED):
        raise ArchiveError(f"it is compressed by method {method}", member=shown(name), remedy="only deflate is read")
    for kind, label in _LINK_CARRIERS.items():
        if kind in extra:
            raise ArchiveError(f"it has a {label} field, which may make it a link", member=shown(name))


def _read_member(file: BinaryIO, central: _Central, directory_start: int) -> Entry:
    """Compare the local header with the central one and find where the data lies."""
    label = shown(central.name)
    if central.offset + _LOCAL.size > directory_start:
        raise ArchiveError("it begins past the directory", member=label)
    header = _LOCAL.unpack(_bytes_at(file, central.offset, _LOCAL.size))
    signature, _, flags, method, _, _, crc, packed, size, name_size, extra_size = header
    if signature != b"PK\3\4":
        raise ArchiveError("its local header is missing", member=label)
    tail = _bytes_at(file, central.offset + _LOCAL.size, name_size + extra_size)
    if tail[:name_size] != central.raw_name:
        other = shown(tail[:name_size].decode("utf-8", "replace"))
        raise ArchiveError(f"its local header calls it {other}", member=label)
    extra = _read_extra(tail[name_size:], central.raw_name, central.name)
    if flags != central.flags or method != central.method:
        raise ArchiveError("its two headers contradict each other", member=label)
    _check_kind(flags, method, extra, central.name)
    start = central.offset + _LOCAL.size + name_size + extra_size
    end = start + central.packed
    if end > directory_start:
        raise ArchiveError("it reaches past the directory", member=label)
    wide = size == _HUGE or packed == _HUGE or _ZIP64 in extra
    said = (crc, *_widen(extra, central.name, [(size, 8), (packed, 8)]))
    if flags & _DESCRIPTOR:
        # 4.3.9: the values follow the data; the header has zeros, or (Java, some zip64 writers) the values already.
        if said != (0, 0, 0) and said != (central.crc, central.size, central.packed):
            raise ArchiveError("its two headers contradict each other", member=label)
        end = _read_descriptor(file, central, end, directory_start, wide=wide)
    elif said != (central.crc, central.size, central.packed):
        raise ArchiveError("its two headers contradict each other", member=label)
    return Entry(
        name=central.name,
        method=method,
        crc=central.crc,
        packed=central.packed,
        size=central.size,
        start=start,
        mode=central.external >> 16,
        attributes=central.external & 0xFFFF,
        extent=(central.offset, end),
    )


def _read_descriptor(file: BinaryIO, central: _Central, at: int, directory_start: int, *, wide: bool) -> int:
    """The end of the data descriptor at ``at``, which must repeat the directory's values."""
    data = _bytes_at(file, at, min(24, directory_start - at))
    shapes = ["<LQQ", "<LLL"] if wide or max(central.size, central.packed) >= _HUGE else ["<LLL", "<LQQ"]
    for signature in (b"PK\7\x08", b""):
        for shape in shapes:
            try:
                expected = signature + struct.pack(shape, central.crc, central.packed, central.size)
            except struct.error:
                continue
            if data.startswith(expected):
                return at + len(expected)
    raise ArchiveError("its data descriptor contradicts the directory", member=shown(central.name))
