"""What a caller's headers ask for: Accept (RFC 9110, 12.5.1), Prefer (RFC 7240), Range (RFC 9110, 14). Pure
functions."""

from __future__ import annotations

import re
from dataclasses import dataclass

MAX_HEADER = 4096  # characters of a header that is looked at
_RANGE = re.compile(r"bytes=(\d{0,18})-(\d{0,18})", re.ASCII)


def quality(accept: str, media_type: str) -> tuple[float, int]:
    """How welcome a media type is: (quality 0..1, how exactly it was named: 0 ``*/*``, 1 ``image/*``, 2 in full)."""
    kind = media_type.partition("/")[0]
    best: tuple[float, int] = (0.0, -1)
    for item in accept[:MAX_HEADER].split(","):
        name, *parameters = (part.strip().lower() for part in item.split(";"))
        exactness = {media_type: 2, f"{kind}/*": 1, "*/*": 0}.get(name)
        if exactness is None or exactness <= best[1]:
            continue
        weight = 1.0
        for parameter in parameters:
            key, _, value = parameter.partition("=")
            if key.strip() == "q":
                try:
                    weight = min(max(float(value), 0.0), 1.0)
                except ValueError:
                    weight = 0.0
        best = (weight, exactness)
    return best[0], max(best[1], 0)


def wants_file(accept: str | None, media_type: str) -> bool:
    """Whether the file itself, rather than JSON that links to it, is what a caller wants.

    ``*/*`` and no header at all mean the file; JSON is sent to who names it and does not like the file better.
    """
    if not accept:
        return True
    file, json = quality(accept, media_type), quality(accept, "application/json")
    return file[0] > 0 and file >= json


@dataclass(frozen=True, kw_only=True, slots=True)
class Preference:
    """What ``Prefer`` asks for: an answer at once, or after so many seconds at most."""

    respond_async: bool = False
    wait: float | None = None


def preference(header: str | None) -> Preference:
    """``respond-async, wait=10``; what is not understood is ignored, as the RFC says."""
    respond_async, wait = False, None
    for item in re.split(r"[,;]", (header or "")[:MAX_HEADER]):
        name, _, value = (part.strip().lower() for part in item.partition("="))
        if name == "respond-async":
            respond_async = True
        elif name == "wait" and re.fullmatch(r"\d{1,6}", value.strip('"'), re.ASCII):
            wait = float(value.strip('"'))
    return Preference(respond_async=respond_async, wait=wait)


class Unsatisfiable(Exception):
    """The range lies outside the file."""


def byte_range(header: str | None, size: int) -> tuple[int, int] | None:
    """The one range asked for as (start, end), end excluded; None where the whole file is to be sent.

    Several ranges, other units and what cannot be read mean the whole file, which the RFC allows.

    Raises:
        Unsatisfiable: the range begins after the end.
    """
    match = _RANGE.fullmatch((header or "").strip().replace(" ", "")[:MAX_HEADER].lower())
    if match is None or not (match[1] or match[2]):
        return None
    if not match[1]:  # the last bytes
        length = min(int(match[2]), size)
        if length == 0:
            raise Unsatisfiable
        return size - length, size
    start = int(match[1])
    end = min(int(match[2]) + 1, size) if match[2] else size
    if match[2] and int(match[2]) < start:
        return None  # "bytes=5-2" is not a range at all
    if start >= size:
        raise Unsatisfiable
    return start, end


def etag_matches(header: str | None, etag: str) -> bool:
    """Whether ``If-None-Match`` names the tag."""
    if not header:
        return False
    tags = [tag.strip().removeprefix("W/") for tag in header[:MAX_HEADER].split(",")]
    return "*" in tags or etag in tags
