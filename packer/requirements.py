"""Python requirements in a snapshot: one pinned distribution each, or one https source; never an option, never a file.

Sources: PEP 508 (dependency specifiers), PEP 440 (versions). Only what a freeze writes is read: ``name==version`` with
optional extras and marker, and ``name`` with a URL. Everything else is refused, since each such line would be an
instruction to an installer.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from .addresses import url_complaint

_PINNED = re.compile(
    r"(?P<name>[A-Za-z0-9](?:[A-Za-z0-9._-]{0,126}[A-Za-z0-9])?)"
    r"(?:\[(?P<extras>[A-Za-z0-9._-]+(?:, ?[A-Za-z0-9._-]+)*)\])?"
    r" ?={2,3} ?(?P<version>[A-Za-z0-9](?:[A-Za-z0-9.+!_-]{0,126}[A-Za-z0-9])?)"
    r"(?: ?; ?(?P<marker>[^;]+))?\Z"
)
_NAME = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9._-]{0,126}[A-Za-z0-9])?\Z")
_MARKER_TOKEN = re.compile(
    r" *(?:(?P<value>python_version|python_full_version|os_name|sys_platform|platform_release|platform_system"
    r"|platform_version|platform_machine|platform_python_implementation|implementation_name|implementation_version"
    r"|extra|'[A-Za-z0-9 ._+-]*'|\"[A-Za-z0-9 ._+-]*\")(?![A-Za-z0-9_])"
    r"|(?P<operator><=|>=|===|==|!=|~=|<|>|not +in(?![A-Za-z_])|in(?![A-Za-z_]))"
    r"|(?P<joint>and|or)(?![A-Za-z_])|(?P<bracket>[()])) *"
)


@dataclass(frozen=True, kw_only=True, slots=True)
class Requirement:
    """One distribution: pinned to ``version``, or from ``url``. ``spec`` is the snapshot's own key for it."""

    spec: str
    name: str
    version: str | None = None
    url: str | None = None
    marker: str | None = None


def requirement_complaint(spec: str, url: str | None = None) -> str | None:
    """Why the snapshot's ``{spec: url}`` may not be installed; None where it may."""
    result = read_requirement(spec, url)
    return result if isinstance(result, str) else None


def read_requirement(spec: str, url: str | None = None, *, bare: bool = False) -> Requirement | str:
    """The requirement that the snapshot's ``{spec: url}`` is, or the reason why it is none.

    With ``bare``, a name without a version is one too.
    """
    if spec.startswith("-"):
        return "is an option, not a requirement"
    if url:
        if not _NAME.match(spec):
            return "must be a distribution's name, since it has an address"
        # "git+https" is how pip writes a version-control source.
        why = url_complaint(url.removeprefix("git+"))
        return f"its address {why}" if why else Requirement(spec=spec, name=spec, url=url)
    if bare and _NAME.match(spec):
        return Requirement(spec=spec, name=spec)
    match = _PINNED.match(spec)
    if match is None:
        return "must be one requirement of the form name==version"
    marker = match["marker"]
    if marker is not None and not _is_marker(marker):
        return "has a marker that is none"
    return Requirement(spec=spec, name=match["name"], version=match["version"], marker=marker)


def normalised(name: str) -> str:
    """A distribution's name as indexes compare it (PEP 503)."""
    return re.sub(r"[-_.]+", "-", name).lower()


def _is_marker(text: str) -> bool:
    """Whether ``text`` is an environment marker: comparisons joined by ``and`` and ``or``, in round brackets or not."""
    tokens: list[str] = []
    at = 0
    while at < len(text):
        match = _MARKER_TOKEN.match(text, at)
        if match is None:
            return False
        tokens.append(match[0].strip() if match.lastgroup == "bracket" else str(match.lastgroup))
        at = match.end()
    expects_operand, depth, index = True, 0, 0
    while index < len(tokens):
        part = tokens[index]
        if expects_operand and part == "(":
            depth += 1
        elif expects_operand and tokens[index : index + 3] == ["value", "operator", "value"]:
            expects_operand = False
            index += 2
        elif not expects_operand and part == ")" and depth:
            depth -= 1
        elif not expects_operand and part == "joint":
            expects_operand = True
        else:
            return False
        index += 1
    return not expects_operand and depth == 0
