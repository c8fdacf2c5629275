"""File names of saved results, from a ``filename_prefix`` as ComfyUI's ``get_save_image_path`` reads it."""

from __future__ import annotations

import time
from pathlib import PurePosixPath

from .problems import NodeProblem


def expand(prefix: str, *, width: int, height: int, now: time.struct_time) -> str:
    """Put size and date into a prefix: ``%width%``, ``%height%``, ``%year%``, ``%month%``, ``%day%``, ``%hour%``,
    ``%minute%``, ``%second%``. Other tokens stay (``%batch_num%`` is the file's; the rest is the editor's).
    """
    values = {
        "width": str(width),
        "height": str(height),
        "year": str(now.tm_year),
        "month": f"{now.tm_mon:02}",
        "day": f"{now.tm_mday:02}",
        "hour": f"{now.tm_hour:02}",
        "minute": f"{now.tm_min:02}",
        "second": f"{now.tm_sec:02}",
    }
    for name, value in values.items():
        prefix = prefix.replace(f"%{name}%", value)
    return prefix


def clean(prefix: str) -> str:
    """The prefix as a relative path with forward slashes. Raises `NodeProblem` where it leaves the output folder."""
    parts: list[str] = []
    text = prefix.replace("\\", "/")
    for part in text.split("/"):
        if part in {"", "."}:
            continue
        if part == "..":
            if not parts:
                raise _outside(prefix)
            parts.pop()
        else:
            parts.append(part)
    if text.startswith("/") or (parts and parts[0].endswith(":")) or "\0" in text:
        raise _outside(prefix)
    return "/".join(parts)


def _outside(prefix: str) -> NodeProblem:
    return NodeProblem(
        f"filename_prefix {prefix!r} leads out of the output folder", remedy="use a relative path without '..'"
    )


class Names:
    """Names of one run's files: ``prefix_00001_.png``, counted for each prefix, as ComfyUI counts in its folder."""

    def __init__(self) -> None:
        self._counters: dict[tuple[bool, str], int] = {}

    def next(self, prefix: str, suffix: str, *, temporary: bool = False, batch: int = 0) -> str:
        """The next file name for `prefix`, subfolder included."""
        path = PurePosixPath(prefix)
        key = (temporary, prefix.casefold())
        count = self._counters.get(key, 0) + 1
        self._counters[key] = count
        name = f"{path.name.replace('%batch_num%', str(batch))}_{count:05}{suffix}"
        return str(path.parent / name) if str(path.parent) != "." else name
