"""How a text becomes sections of tokens with weights, as each text encoder wants them laid out.

Source: ComfyUI ``comfy/sd1_clip.py`` (``SDTokenizer.tokenize_with_weights``).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from ..weighting import weighted_parts

Token = tuple[Any, float]
"""A token's number, or the vector [width] that an embedding has in its place, and its weight."""

Encode = Callable[[str], Sequence[int]]
"""The tokens of a text, without start and end."""

Embedding = Callable[[str], Any]
"""The vectors [count, width] (or one [width]) of the embedding of that name; None where there is none."""

EMBEDDING = "embedding:"
LARGE = 8  # a part of so many tokens may be cut at a section's end; a shorter one moves to the next whole

_BEFORE_EMBEDDING = re.compile(rf"(?<=\s){EMBEDDING}")
_SYNTAX = re.compile(r"[<\[]")  # what ends an embedding's name besides a space


@dataclass(frozen=True, kw_only=True, slots=True)
class Layout:
    """How an encoder's sections look.

    Attributes:
        start, end: tokens around every section; None where the encoder has none.
        pad: the token that fills a section up.
        length: what a section holds at most, start and end included; None where there is no limit.
        full: every section is filled up to `length`.
        least: the last section is filled up to so many.
    """

    pad: int
    start: int | None = None
    end: int | None = None
    length: int | None = None
    full: bool = False
    least: int = 0


def sections(
    text: str, encode: Encode, layout: Layout, *, weighted: bool = True, embedding: Embedding | None = None
) -> list[list[Token]]:
    """The text's tokens with weights, in sections; one section at least.

    Args:
        weighted: whether ``(word:1.2)`` is a weight; a ``\\(`` is a parenthesis either way.
        embedding: looks up what follows ``embedding:``; without it that is text like any other.
    """
    parts = weighted_parts(text) if weighted else [(text.replace("\\)", ")").replace("\\(", "("), 1.0)]
    groups: list[list[Token]] = []
    for part, weight in parts:
        for vectors in _groups(part, encode, embedding):
            groups.append([(vector, weight) for vector in vectors])
    return _laid_out(groups, layout)


def _groups(part: str, encode: Encode, embedding: Embedding | None) -> Iterator[Sequence[Any]]:
    """What a part of one weight consists of: the tokens of its text, the vectors of its embeddings."""
    first, *others = _BEFORE_EMBEDDING.split(part)
    for word in [first, *(EMBEDDING + other for other in others)]:
        rest = word
        if word.startswith(EMBEDDING) and embedding is not None:
            vectors, rest = _embedding(word[len(EMBEDDING) :], embedding)
            if vectors is not None:
                yield list(vectors) if vectors.ndim > 1 else [vectors]
        if rest:
            yield encode(rest)


def _embedding(text: str, embedding: Embedding) -> tuple[Any, str]:
    """The vectors of the embedding that `text` begins with (None: not there), and the text after its name."""
    words = text.strip("\n").split()
    if not words:
        return None, ""
    name, rest = words[0], " ".join(words[1:])
    if found := _SYNTAX.search(name):
        rest = name[found.start() :] + (f" {rest}" if rest else "")
        name = name[: found.start()]
    vectors = embedding(name)
    bare = name.strip(",")
    if vectors is None and len(bare) < len(name):
        return embedding(bare), f"{name[len(bare) :]} {rest}"
    return vectors, rest


def _laid_out(groups: Sequence[Sequence[Token]], layout: Layout) -> list[list[Token]]:
    start: list[Token] = [] if layout.start is None else [(layout.start, 1.0)]
    end: list[Token] = [] if layout.end is None else [(layout.end, 1.0)]
    filler: Token = (layout.pad, 1.0)
    section = list(start)
    done = [section]
    for group in groups:
        left = list(group)
        while left:
            room = len(left) if layout.length is None else layout.length - len(section) - len(end)
            if len(left) <= room:
                section.extend(left)
                break
            if len(group) >= LARGE:
                section.extend(left[:room])
                section.extend(end)
                left = left[room:]
            else:
                section.extend(end)
                if layout.full:
                    section.extend([filler] * room)
            section = list(start)
            done.append(section)
    section.extend(end)
    if layout.full and layout.length is not None:
        section.extend([filler] * (layout.length - len(section)))
    section.extend([filler] * (layout.least - len(section)))
    return done
