"""Plain tables for terminals and pipes."""

from __future__ import annotations

import shutil
import sys
import unicodedata
from collections.abc import Sequence


def _width(text: str) -> int:
    """Columns that a text takes in a terminal: wide East Asian characters take two, combining ones none."""
    return sum(
        0 if unicodedata.combining(char) else 2 if unicodedata.east_asian_width(char) in "WF" else 1 for char in text
    )


def columns(rows: Sequence[Sequence[str]], *, width: int | None = None) -> str:
    """Rows (the first one the heading) as aligned columns.

    Lines are cut at the terminal's width, never in a pipe.
    """
    if width is None and sys.stdout.isatty():
        width = shutil.get_terminal_size().columns
    widths = [max(_width(row[index]) for row in rows) for index in range(len(rows[0]))]
    lines = []
    for number, row in enumerate(rows):
        cells = [cell + " " * (widths[index] - _width(cell)) for index, cell in enumerate(row)]
        line = "  ".join(cells).rstrip()
        lines.append(line[: width - 1] + "…" if width and len(line) > width else line)
        if number == 0:
            lines.append("  ".join("-" * size for size in widths))
    return "\n".join(lines)
