"""Which names a file in a bundle may have, so that it means one and the same file on Linux, macOS and Windows.

A name is refused on every platform if it would be dangerous, ambiguous or impossible on one of them: a bundle that
unpacks here unpacks everywhere. Sources: Microsoft, "Naming Files, Paths, and Namespaces"; Unicode UAX #15 (forms) and
#9 (bidirectional controls); the rules of uv (pull request 15136) and of CPython's ``zipfile``.
"""

from __future__ import annotations

import re
import unicodedata

MAX_NAME_BYTES = 1024
"""UTF-8 bytes of a whole name."""

MAX_COMPONENT_BYTES = 255
"""UTF-8 bytes of one component: the limit of ext4, and below that of NTFS and APFS."""

MAX_DEPTH = 32
"""Components of a name."""

_FORBIDDEN = frozenset('/<>:"|?*\\')
_RESERVED = re.compile(r"(con|prn|aux|nul|conin\$|conout\$|clock\$|com[0-9¹²³]|lpt[0-9¹²³])", re.IGNORECASE)
_GIT = frozenset({".git", "git~1"})
# Marks that change how a name is shown, not what it is: bidirectional controls, separators, zero-width fillers, tags.
_DECEIVING = frozenset(
    [0x061C, 0x200B, 0x200E, 0x200F, *range(0x2028, 0x202F), 0x2060, *range(0x2066, 0x206A), 0xFEFF, 0x180E]
) | frozenset(range(0xFFF9, 0xFFFC))


def shown(name: str) -> str:
    """``name`` as a message shows it: quoted, control and deceiving characters escaped, shortened in the middle."""
    if len(name) > 120:
        name = name[:60] + "…" + name[-40:]
    return "'" + "".join(c if c.isprintable() and ord(c) not in _DECEIVING else _escaped(c) for c in name) + "'"


def _escaped(character: str) -> str:
    code = ord(character)
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"


def complaint(name: str) -> str | None:
    """Why ``name`` (relative, components parted by ``/``, none at the end) cannot be a file's; None where it can."""
    if not name:
        return "the name is empty"
    try:
        size = len(name.encode("utf-8"))
    except UnicodeEncodeError:
        return "the name is not Unicode"
    if size > MAX_NAME_BYTES:
        return f"the name has {size} bytes; {MAX_NAME_BYTES} are allowed"
    # "\\server\x" and "C:\x" are said as what they are rather than as a forbidden character.
    if name.startswith(("/", "\\")):
        return "the name is absolute"
    if re.match(r"[A-Za-z]:", name):
        return "the name has a drive letter"
    parts = name.split("/")
    if len(parts) > MAX_DEPTH:
        return f"the name is {len(parts)} folders deep; {MAX_DEPTH} are allowed"
    return next((why for why in map(component_complaint, parts) if why), None) or _compatibility_complaint(name, parts)


def component_complaint(part: str) -> str | None:
    """Why ``part`` cannot be one component of a name (a file or folder name); None where it can."""
    if not part:
        return "a component of the name is empty"
    if part in (".", ".."):
        return f"the name has a {part!r} component"
    if len(part.encode("utf-8", "surrogatepass")) > MAX_COMPONENT_BYTES:
        return f"a component of the name has more than {MAX_COMPONENT_BYTES} bytes"
    for character in part:
        why = _character_complaint(character)
        if why:
            return why
    if part[-1] in ". ":
        return "a component of the name ends in a dot or a space, which Windows drops"
    if _RESERVED.fullmatch(part.partition(".")[0].rstrip(" ")):
        return "a component of the name is a device on Windows"
    if part.casefold() in _GIT:
        return "the name lies in a git folder"
    return None


def _character_complaint(character: str) -> str | None:
    code = ord(character)
    if character in _FORBIDDEN:
        return f"the name has the character {character!r}"
    category = unicodedata.category(character)
    if category == "Cc":
        return f"the name has the control character {_escaped(character)}"
    if category == "Cs" or code & 0xFFFE == 0xFFFE or 0xFDD0 <= code <= 0xFDEF:
        return f"the name has {_escaped(character)}, which is no character"
    if code in _DECEIVING or 0xE0000 <= code <= 0xE007F:
        return f"the name has {_escaped(character)}, which hides what the name is"
    return None


def _compatibility_complaint(name: str, parts: list[str]) -> str | None:
    # Some tools and file systems compare names after NFKC, which turns full-width dots and slashes into real ones.
    folded = unicodedata.normalize("NFKC", name).replace("\\", "/")
    if folded == name:
        return None
    folded_parts = folded.split("/")
    if len(folded_parts) != len(parts) or any(part in ("", ".", "..") for part in folded_parts):
        return "the name becomes another path when its characters are normalised"
    if any(part.casefold() in _GIT for part in folded_parts) or re.match(r"[A-Za-z]:", folded):
        return "the name becomes another path when its characters are normalised"
    return None


def folded(name: str) -> str:
    """What file systems that ignore case and Unicode form compare: two names with the same value are one file there."""
    return unicodedata.normalize("NFC", unicodedata.normalize("NFD", name).casefold())


def clashes(names: list[str]) -> tuple[str, str] | None:
    """The first two of ``names`` that are one file somewhere, or of which one is a folder above the other."""
    files: dict[str, str] = {}
    for name in names:
        key = folded(name)
        if key in files:
            return files[key], name
        files[key] = name
    folders: dict[str, str] = {}  # folded folder -> as first spelled, to see `Input/a` beside `input/b`
    for name in names:
        parts = name.split("/")
        for depth in range(1, len(parts)):
            folder = "/".join(parts[:depth])
            key = folded(folder)
            if key in files:
                return files[key], name
            if folders.setdefault(key, folder) != folder:
                return folders[key], name
    return None
