"""Weights in a prompt: ``(word:1.2)``, ``(word)`` for 1.1, ``((word))`` for 1.21, ``\\(`` for a parenthesis itself.

Source: ComfyUI ``comfy/sd1_clip.py`` (``token_weights``), its ways with unbalanced parentheses included.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from .problems import NodeProblem

EMPHASIS = 1.1
DEEPEST = 500  # nested parentheses; ComfyUI itself fails at about 1000

_OPENING, _CLOSING = "\0\2", "\0\1"  # stand for escaped parentheses, as in ComfyUI
_PARENTHESIS = re.compile(r"[()]")


def weighted_parts(text: str, weight: float = 1.0) -> list[tuple[str, float]]:
    """The parts of a prompt with the weight of each, in order.

    Raises:
        NodeProblem: parentheses are nested deeper than `DEEPEST`.
    """
    escaped = text.replace("\\)", _CLOSING).replace("\\(", _OPENING)
    parts: list[tuple[str, float]] = []
    waiting: list[tuple[Iterator[str], float]] = [(_pieces(escaped), weight)]
    while waiting:
        pieces, current = waiting[-1]
        piece = next(pieces, None)
        if piece is None:
            waiting.pop()
        elif len(piece) >= 2 and piece[0] == "(" and piece[-1] == ")":
            if len(waiting) > DEEPEST:
                raise NodeProblem(f"parentheses are nested more than {DEEPEST} deep", remedy="use (word:1.3) instead")
            inner, inner_weight = _weight(piece[1:-1], current)
            waiting.append((_pieces(inner), inner_weight))
        else:
            parts.append((piece.replace(_CLOSING, ")").replace(_OPENING, "("), current))
    return parts


def _weight(inner: str, current: float) -> tuple[str, float]:
    """What is in a pair of parentheses without its number, and its weight: a number is meant as it is."""
    text, colon, number = inner.rpartition(":")
    if colon and text:
        try:
            return text, float(number)
        except ValueError:
            pass
    return inner, current * EMPHASIS


def _pieces(text: str) -> Iterator[str]:
    """The text cut before each outermost opening parenthesis and after its closing one."""
    start = depth = 0
    for found in _PARENTHESIS.finditer(text):
        place = found.start()
        if found[0] == "(":
            if depth == 0:
                if place > start:
                    yield text[start:place]
                start = place
            depth += 1
        else:
            depth -= 1
            if depth == 0:
                yield text[start : place + 1]
                start = place + 1
    if start < len(text):
        yield text[start:]
