"""Texts: joined, cut, searched, shown.

Sources: ComfyUI ``nodes_string.py``, ``nodes_preview_any.py``, ``nodes_text.py``.
"""

from __future__ import annotations

import json
import re
import string as strings
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from . import naming
from .cache import Artifact
from .context import Context
from .problems import NodeProblem
from .registry import NodeGroup

NODES = NodeGroup()

TEXT = "text/plain; charset=utf-8"
LONGEST_PADDING = 1_000_000  # characters that one field of a format may be padded to

_CASES: Mapping[str, Callable[[str], str]] = {
    "UPPERCASE": str.upper,
    "lowercase": str.lower,
    "Capitalize": str.capitalize,
    "Title Case": str.title,
}
_MEDIA = {
    "csv": "text/csv; charset=utf-8",
    "json": "application/json",
    "md": "text/markdown; charset=utf-8",
}
_TRIMS: Mapping[str, Callable[[str], str]] = {"Both": str.strip, "Left": str.lstrip, "Right": str.rstrip}


@NODES.node("StringConcatenate")
def concatenate(string_a: str, string_b: str, delimiter: str = "") -> str:
    """Two texts with a third between them."""
    return f"{string_a}{delimiter}{string_b}"


@NODES.node("StringSubstring")
def substring(string: str, start: int, end: int) -> str:
    """From character `start` up to before `end`; negative ones count from the text's end."""
    return string[start:end]


@NODES.node("StringLength")
def length(string: str) -> int:
    """The number of characters."""
    return len(string)


@NODES.node("CaseConverter")
def change_case(string: str, mode: str) -> str:
    """The text in capitals, small letters, or with leading capitals."""
    return _CASES.get(mode, str)(string)


@NODES.node("StringTrim")
def trim(string: str, mode: str) -> str:
    """The text without white space at its ends."""
    return _TRIMS.get(mode, str)(string)


@NODES.node("StringReplace")
def replace(string: str, find: str, replace: str) -> str:
    """Each `find` as `replace`."""
    return string.replace(find, replace)


@NODES.node("StringContains")
def contains(string: str, substring: str, case_sensitive: bool = True) -> bool:
    """Whether one text is in the other."""
    return substring in string if case_sensitive else substring.lower() in string.lower()


@NODES.node("StringCompare")
def compare(string_a: str, string_b: str, mode: str, case_sensitive: bool = True) -> bool:
    """Whether the first text begins with, ends with or is the second."""
    a, b = (string_a, string_b) if case_sensitive else (string_a.lower(), string_b.lower())
    if mode == "Starts With":
        return a.startswith(b)
    if mode == "Ends With":
        return a.endswith(b)
    return a == b


class _Formatter(strings.Formatter):
    """Python's text formatting without the ways that it gives into the program: private names, and endless padding."""

    def get_field(self, field_name: str, args: Sequence[Any], kwargs: Mapping[str, Any]) -> tuple[Any, str | int]:
        if re.search(r"(^|[.\[])_", field_name):
            raise NodeProblem(f"a format may not use {field_name!r}", remedy="use names without a leading underscore")
        found: tuple[Any, str | int] = super().get_field(field_name, args, kwargs)
        return found

    def format_field(self, value: Any, format_spec: str) -> str:
        if any(int(number) > LONGEST_PADDING for number in re.findall(r"\d+", format_spec)):
            raise NodeProblem(f"a field of the format is wider than {LONGEST_PADDING} characters")
        text: str = super().format_field(value, format_spec)
        return text


@NODES.node("StringFormat")
def format_text(f_string: str, values: Mapping[str, Any] | None = None) -> str:
    """The values put into the places that `f_string` marks, ``{a}``, as Python's ``str.format`` does."""
    try:
        return _Formatter().vformat(f_string, (), dict(values or {}))
    except (KeyError, IndexError) as error:
        raise NodeProblem(f"the format uses {error.args[0]!r}, which is not wired", remedy="wire it") from error


def _flags(case_insensitive: bool, multiline: bool, dotall: bool) -> re.RegexFlag:
    chosen = ((case_insensitive, re.IGNORECASE), (multiline, re.MULTILINE), (dotall, re.DOTALL))
    flags = re.RegexFlag(0)
    for on, flag in chosen:
        flags |= flag if on else re.RegexFlag(0)
    return flags


@NODES.node("RegexMatch")
def regex_match(
    string: str, regex_pattern: str, case_insensitive: bool = True, multiline: bool = False, dotall: bool = False
) -> bool:
    """Whether the pattern is found; a pattern that is none is not."""
    try:
        return re.search(regex_pattern, string, _flags(case_insensitive, multiline, dotall)) is not None
    except re.error:
        return False


@NODES.node("RegexExtract")
def regex_extract(
    string: str,
    regex_pattern: str,
    mode: str,
    case_insensitive: bool = True,
    multiline: bool = False,
    dotall: bool = False,
    group_index: int = 1,
) -> tuple[str | None]:
    """What the pattern finds: the first match or all (one a line), whole or one group. Nothing found gives "".

    "All Matches" of a pattern with several groups gives the first group of each, as Python's ``findall`` makes it.
    """
    try:
        pattern = re.compile(regex_pattern, _flags(case_insensitive, multiline, dotall))
    except re.error:
        return ("",)
    if mode == "All Matches":
        found = pattern.findall(string)
        return ("\n".join(match[0] if isinstance(match, tuple) else match for match in found),)
    if pattern.groups < group_index and mode != "First Match":
        return ("",)
    if mode == "All Groups":
        if not pattern.groups:
            return ("",)
        return ("\n".join(match.group(group_index) for match in pattern.finditer(string)),)
    first = pattern.search(string)
    if first is None:
        return ("",)
    return (first.group(0) if mode == "First Match" else first.group(group_index),)


@NODES.node("RegexReplace")
def regex_replace(
    string: str,
    regex_pattern: str,
    replace: str,
    case_insensitive: bool = True,
    multiline: bool = False,
    dotall: bool = False,
    count: int = 0,
) -> str:
    """Each match as `replace` (``\\1`` is its first group); `count` of them, all where that is 0."""
    flags = _flags(case_insensitive, multiline, dotall)
    try:
        return re.sub(regex_pattern, replace, string, count=count, flags=flags)
    except re.error as error:
        raise NodeProblem(f"the pattern is wrong: {error}", remedy="correct regex_pattern or replace") from error


@NODES.node("JsonExtractString")
def json_extract(json_string: str, key: str) -> str:
    """One value of a JSON object as text; "" where there is none."""
    try:
        data = json.loads(json_string)
    except (ValueError, RecursionError):
        return ""
    value = data.get(key) if isinstance(data, dict) else None
    return "" if value is None else str(value)


@NODES.node("PreviewAny", output_node=True)
def preview_any(source: Any = None, *, context: Context) -> str:
    """Show any value as text: texts and numbers as they are, the rest as JSON, else as Python writes it."""
    text = _shown(source)
    context.produce(Artifact(kind="text", media_type=TEXT, data=text.encode("utf-8", "replace")))
    return text


def _shown(value: Any) -> str:
    if isinstance(value, str):
        return value
    if value is None or isinstance(value, bool | int | float):
        return str(value)
    try:
        return json.dumps(value, indent=4, ensure_ascii=False)
    except (TypeError, ValueError, RecursionError):
        pass
    torch = sys.modules.get("torch")
    if torch is None:
        return str(value)
    torch.set_printoptions(edgeitems=6)
    try:
        return str(value)
    finally:
        torch.set_printoptions(profile="default")


@NODES.node("SaveText", output_node=True)
def save_text(text: str, filename_prefix: str = "ComfyUI", format: str = "txt", *, context: Context) -> str:
    """The text as a file; JSON is indented where it is JSON."""
    content = text
    if format == "json":
        try:
            content = json.dumps(json.loads(text), indent=2, ensure_ascii=False)
        except ValueError:
            pass
    prefix = naming.clean(naming.expand(filename_prefix, width=1, height=1, now=context.run.now))
    context.produce(Artifact(kind="text", media_type=TEXT, data=text.encode("utf-8", "replace")))
    data = content.encode("utf-8", "replace")
    context.produce(
        Artifact(kind="files", media_type=_MEDIA.get(format, TEXT), data=data, prefix=prefix, suffix=f".{format}")
    )
    return text
