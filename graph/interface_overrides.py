"""Changes that a person asks for: a parameter more, one less, another name."""

from __future__ import annotations

from collections.abc import Sequence

from .interface import Interface


def apply_overrides(
    interface: Interface, *, params: Sequence[str] = (), hide: Sequence[str] = (), rename: Sequence[str] = ()
) -> Interface:
    return interface
