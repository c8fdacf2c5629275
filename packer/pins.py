"""The versions that run here of everything this package needs: what an exported service was tried with."""

from __future__ import annotations

import re
from importlib.metadata import Distribution, PackageNotFoundError, distribution

_NAME = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9._-]*[A-Za-z0-9])?")
_EXTRA = re.compile(r"extra\s*==\s*['\"]([^'\"]+)['\"]")


def pins(package: str, extras: frozenset[str]) -> tuple[str, ...]:
    """``name==version`` for what is installed of ``package``'s requirements (with ``extras``) and theirs, sorted.

    What is not installed here has no pin. A build's own suffix (torch's ``+cpu``) is left out: another machine may need
    another build of the same version.
    """
    found: dict[str, str] = {}
    todo = [(package, extras)]
    seen: set[tuple[str, frozenset[str]]] = set()
    while todo:
        name, wanted = todo.pop()
        if (name, wanted) in seen:
            continue
        seen.add((name, wanted))
        try:
            installed = distribution(name)
        except PackageNotFoundError:
            continue
        found[name] = installed.version.partition("+")[0]
        todo += _needs(installed, wanted)
    found.pop(_normal(package), None)
    return tuple(f"{name}=={version}" for name, version in sorted(found.items()))


def _needs(installed: Distribution, extras: frozenset[str]) -> list[tuple[str, frozenset[str]]]:
    needs = []
    for line in installed.requires or ():
        requirement, _, marker = line.partition(";")
        asked = set(_EXTRA.findall(marker))
        if asked and not asked & extras:
            continue
        match = _NAME.match(requirement.strip())
        if match is None:
            continue
        inner = re.search(r"\[([^\]]*)\]", requirement)
        own = frozenset(part.strip() for part in inner[1].split(",")) if inner else frozenset()
        needs.append((_normal(match[0]), own))
    return needs


def _normal(name: str) -> str:
    """The name as package indexes compare names (PEP 503)."""
    return re.sub(r"[-_.]+", "-", name).lower()
