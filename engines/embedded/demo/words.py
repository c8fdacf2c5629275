"""The model's words: a vocabulary of its own, and how a prompt's text becomes numbers.

A word that the model does not know is mapped to one that it does ("violet" is purple) or left out; it is never an
error. Punctuation says nothing.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

from .scenes import BACKGROUNDS, SHAPES, SIZES

LENGTH = 32  # places in one section of a prompt, the beginning and the end among them

_GRAMMAR = ("a", "an", "the", "and", "on", "in", "at", "of", "to", "above", "below", "left", "right", "top", "bottom")
_OTHER = ("middle", "background", "shape", "striped", "two", "three")
# Numbers are places in this list: new words go to its end.
VOCABULARY = ("<pad>", "<begin>", "<end>", *_GRAMMAR, *BACKGROUNDS, *SHAPES, *SIZES, *_OTHER)
PAD, BEGIN, END = 0, 1, 2

_SAME = {
    "one": "a",
    "grey": "gray",
    "violet": "purple",
    "magenta": "pink",
    "rose": "pink",
    "crimson": "red",
    "scarlet": "red",
    "golden": "yellow",
    "gold": "yellow",
    "navy": "blue",
    "lime": "green",
    "disc": "circle",
    "disk": "circle",
    "ball": "circle",
    "dot": "circle",
    "round": "circle",
    "box": "square",
    "cube": "square",
    "pyramid": "triangle",
    "donut": "ring",
    "doughnut": "ring",
    "plus": "cross",
    "crescent": "moon",
    "hearts": "heart",
    "big": "large",
    "huge": "large",
    "giant": "large",
    "tiny": "small",
    "little": "small",
    "centre": "middle",
    "center": "middle",
    "upper": "top",
    "lower": "bottom",
    "over": "above",
    "under": "below",
    "beneath": "below",
    "underneath": "below",
    "beside": "and",
    "with": "and",
    "backdrop": "background",
    "object": "shape",
    "thing": "shape",
    "stripes": "striped",
    "stripy": "striped",
}
_NUMBERS = {word: number for number, word in enumerate(VOCABULARY)}
_WORD = re.compile(r"[a-z]+")


def known(word: str) -> str | None:
    """The vocabulary's word for this one (lower case), or None."""
    if word in _NUMBERS:
        return word
    if word in _SAME:
        return _SAME[word]
    if word.endswith("s"):
        return known(word[:-1]) if len(word) > 1 else None
    return None


def numbers(text: str) -> tuple[list[int], list[str]]:
    """The numbers of a text's words, without beginning and end; and the words that were left out."""
    found, strange = [], []
    for word in _WORD.findall(text.lower()):
        name = known(word)
        if name is None:
            strange.append(word)
        else:
            found.append(_NUMBERS[name])
    return found, strange


def section(words: Sequence[int]) -> list[int]:
    """`LENGTH` numbers: the beginning, at most ``LENGTH - 2`` words, the end, padding."""
    inner = list(words[: LENGTH - 2])
    return [BEGIN, *inner, END, *[PAD] * (LENGTH - 2 - len(inner))]


def batch(captions: Iterable[str]) -> list[list[int]]:
    """One section a caption, for training and scoring."""
    return [section(numbers(caption)[0]) for caption in captions]
