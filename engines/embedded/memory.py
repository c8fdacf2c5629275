"""How much memory a result may take: asked before it is made, so that a huge one is an error and not the end."""

from __future__ import annotations

import importlib
import math
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from .problems import NotEnoughMemory

RESERVE = 256 * 1024**2  # bytes left for everything else


def available() -> int | None:
    """Bytes of main memory that are free to use, control groups counted; None where the system does not tell."""
    try:
        psutil: Any = importlib.import_module("psutil")  # not a dependency of ours; the systems but Linux need it
    except ImportError:
        free = _linux_available()
    else:
        free = int(psutil.virtual_memory().available)
    group = _group_available() if sys.platform == "linux" else None
    known = [value for value in (free, group) if value is not None]
    return min(known) if known else None


def _linux_available() -> int | None:
    try:
        with Path("/proc/meminfo").open(encoding="ascii") as lines:
            for line in lines:
                if line.startswith("MemAvailable:"):
                    return int(line.split()[1]) * 1024
    except (OSError, ValueError, IndexError):
        return None
    return None


def _group_available() -> int | None:
    root = Path("/sys/fs/cgroup")
    for limit, used in (
        ("memory.max", "memory.current"),
        ("memory/memory.limit_in_bytes", "memory/memory.usage_in_bytes"),
    ):
        try:
            return max(0, int((root / limit).read_text()) - int((root / used).read_text()))
        except (OSError, ValueError):
            continue  # no such group, or "max"
    return None


def check_room(shape: Sequence[int], *, item: int = 4, copies: int = 2) -> None:
    """Whether a tensor of `shape` can be made, with `copies` of it at once (the result and what is needed on the way).

    Args:
        item: bytes of one element; float32 has 4.

    Raises:
        NotEnoughMemory: it would not fit.
    """
    needed = math.prod(max(0, side) for side in shape) * item * copies
    if needed <= 64 * 1024**2:
        return  # asking the system costs more than a result of this size
    free = available()
    if free is not None and needed > free - RESERVE:
        raise NotEnoughMemory(
            f"a result of {' x '.join(str(side) for side in shape)} needs {needed / 1e9:.1f} GB of memory; "
            f"{free / 1e9:.1f} GB are free",
            remedy="make size or batch smaller",
        )
