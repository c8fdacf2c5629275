"""Replacements: what the editor puts into texts as it queues: dynamic prompts, and ``%names%`` in output file names."""

from __future__ import annotations

import random
import re
from collections.abc import Iterable
from datetime import datetime

from .canvas import UNSET, CanvasNode
from .jsontext import JSON

_LINE_END = re.compile("[\n\r\u2028\u2029]")
_PLACEHOLDER = re.compile(r"%([^%]+)%")
_UNSAFE = re.compile(r"[/?<>\\:*|\"\x00-\x1f\x7f]")
_OPENING = re.compile(r"[\\{]")
_MARK = re.compile(r"[\\{}|]")
_DATE_PART = re.compile(r"d{1,2}|M{1,2}|h{1,2}|m{1,2}|s{1,2}|yyyy|yy")

MAX_CHARACTERS = 1_000_000
"""Characters looked at while choices are resolved, nested ones again and again; longer texts are left as they are."""

MAX_CHOICES_DEPTH = 50
"""Choices in choices; deeper ones are left as they are written."""

SAVERS = frozenset(
    {
        "SaveImage",
        "SaveImageAdvanced",
        "SaveSVGNode",
        "SaveVideo",
        "SaveAnimatedWEBP",
        "SaveWEBM",
        "SaveAudio",
        "SaveAudioMP3",
        "SaveAudioOpus",
        "SaveAudioAdvanced",
        "SaveGLB",
        "Save3DAdvanced",
        "SaveGaussianSplat",
        "SavePointCloud",
        "SaveAnimatedPNG",
        "CLIPSave",
        "VAESave",
        "ModelSave",
        "LoraSave",
        "SaveLatent",
    }
)
"""The classes whose `filename_prefix` takes ``%date:yyyy-MM-dd%`` and ``%Node.widget%``."""


def dynamic_prompt(text: str, source: random.Random | None) -> str:
    """A text with C comments taken out and one of each ``{a|b}`` taken; backslashes keep braces and bars.

    Without a `source` of randomness a text that offers a choice stays as it is, comments and all: the server then gets
    what the file says. A group without alternatives is no choice: ``{a}`` becomes ``a`` either way, as in the editor.
    """
    if "{" not in text and "\\" not in text and "/" not in text:
        return text
    try:
        return _Choices(source).resolve(text, 0)
    except _OpenChoiceError:
        return text


def without_comments(text: str) -> str:
    """A text without ``/* … */`` and ``// …`` to the end of the line; an opened comment that never ends stays."""
    if "/*" not in text and "//" not in text:
        return text
    parts: list[str] = []
    index = 0
    closable = True
    while (slash := text.find("/", index)) != -1 and slash + 1 < len(text):
        following = text[slash + 1]
        end = -1
        if following == "/":
            found = _LINE_END.search(text, slash)
            end = len(text) if found is None else found.start()
        elif following == "*" and closable:
            close = text.find("*/", slash + 2)
            closable = close != -1
            end = close + 2 if closable else -1
        if end == -1:
            parts.append(text[index : slash + 1])
            index = slash + 1
        else:
            parts.append(text[index:slash])
            index = end
    parts.append(text[index:])
    return "".join(parts)


class _OpenChoiceError(Exception):
    """A choice was met and there is nothing to choose by."""


class _Choices:
    """One pass over a text; a method for each thing that its grammar has."""

    def __init__(self, source: random.Random | None) -> None:
        self.source = source
        self.budget = MAX_CHARACTERS

    def resolve(self, text: str, depth: int) -> str:
        if depth > MAX_CHOICES_DEPTH:
            raise _OpenChoiceError
        self.budget -= len(text)
        if self.budget < 0:
            raise _OpenChoiceError
        text = without_comments(text)
        parts: list[str] = []
        index = 0
        while (found := _OPENING.search(text, index)) is not None:
            parts.append(text[index : found.start()])
            index = found.end()
            if found[0] == "\\":
                parts.append("\\" + (text[index] if index < len(text) else "undefined"))
                index += 1
                continue
            options, index = _options(text, index)
            if len(options) == 1:
                chosen = options[0]
            elif self.source is None:
                raise _OpenChoiceError
            else:
                chosen = self.source.choice(options)
            parts.append(self.resolve(chosen, depth + 1))
        parts.append(text[index:])
        return re.sub(r"\\([{}|])", r"\1", "".join(parts))


def _options(text: str, index: int) -> tuple[list[str], int]:
    """The alternatives of a group whose opening brace was just read, and where the text goes on."""
    options: list[str] = []
    current: list[str] = []
    depth = 0
    while True:
        found = _MARK.search(text, index)
        if found is None:
            current.append(text[index:])
            index = len(text)
            break
        current.append(text[index : found.start()])
        char, index = found[0], found.end()
        if char == "\\":
            current.append(char + (text[index] if index < len(text) else "undefined"))
            index += 1
            continue
        if char == "{":
            depth += 1
        elif char == "}":
            if not depth:
                break
            depth -= 1
        elif char == "|" and not depth:
            options.append("".join(current))
            current = []
            continue
        current.append(char)
    options.append("".join(current))
    return options, index


class Names:
    """The nodes that ``%Node.widget%`` can name: by their "Node name for S&R" property, else by their title."""

    def __init__(self, nodes: Iterable[CanvasNode]) -> None:
        self._by_property: dict[str, CanvasNode] = {}
        self._by_title: dict[str, CanvasNode] = {}
        for node in nodes:
            name = node.properties.get("Node name for S&R")
            if isinstance(name, str):
                self._by_property.setdefault(name, node)
            self._by_title.setdefault(node.title, node)

    def replaced(self, text: str, now: datetime) -> str:
        """A file name with ``%date:…%`` as the local time and ``%Node.widget%`` as that widget's value.

        What names nothing stays as it is written.
        """

        def value_of(match: re.Match[str]) -> str:
            parts = match[1].split(".")
            if len(parts) != 2:
                return format_date(parts[0][5:], now) if parts[0].startswith("date:") else match[0]
            node = self._by_property.get(parts[0]) or self._by_title.get(parts[0])
            widget = node.widget(parts[1]) if node is not None else None
            return match[0] if widget is None else _UNSAFE.sub("_", _text(widget.value))

        return _PLACEHOLDER.sub(value_of, text)


def format_date(pattern: str, now: datetime) -> str:
    """A time by the editor's pattern: yyyy, yy, M, d, h (0 to 23), m, s; doubled letters pad with a zero."""
    parts = {"d": now.day, "M": now.month, "h": now.hour, "m": now.minute, "s": now.second}

    def value_of(match: re.Match[str]) -> str:
        part = match[0]
        if part.startswith("y"):
            return str(now.year)[2:] if part == "yy" else str(now.year)
        return str(parts[part[0]]).rjust(len(part), "0")

    return _DATE_PART.sub(value_of, pattern)


def _text(value: JSON) -> str:
    """A widget's value as JavaScript writes it into a text."""
    if value is None or value is UNSET:
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float) and value.is_integer() and abs(value) < 1e21:
        return str(int(value))
    return str(value)
