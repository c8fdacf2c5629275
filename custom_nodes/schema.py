"""One way to write a node schema for every ComfyUI from 0.3.64 on: fields that a version lacks are left out."""

# mypy: disable-error-code="import-not-found, misc, no-any-return"
# Type checkers have no ComfyUI at hand: neither its modules nor its base classes are known to them.

from __future__ import annotations

from dataclasses import fields
from typing import Any

from comfy_api.latest import io

KNOWN_FIELDS = frozenset(field.name for field in fields(io.Schema))


def node_schema(*, node_id: str, group: str, aliases: tuple[str, ...] = (), **values: Any) -> io.Schema:
    """A schema in category ``Atelier/<group>``; ``aliases`` are further words to find the node by (0.33 has them)."""
    values |= {"node_id": node_id, "category": f"Atelier/{group}", "search_aliases": list(aliases)}
    return io.Schema(**{name: value for name, value in values.items() if name in KNOWN_FIELDS})


class _AnyCombo(str):
    """The type word COMBO that also fits the combos of V1 nodes, whose type is their list of choices.

    ComfyUI compares types with ``!=`` only, and says so in ``comfy_execution/validation.py``.
    """

    __slots__ = ()

    def __ne__(self, other: object) -> bool:
        return not (isinstance(other, list | tuple) or str(other) in ("COMBO", "*"))

    __eq__ = str.__eq__
    __hash__ = str.__hash__


AnyCombo = io.Custom("COMBO")
AnyCombo.io_type = _AnyCombo("COMBO")
"""An output that can be wired to any combo widget."""

SettingsType = io.Custom("ATELIER_SETTINGS")
"""What a model wants, on a wire (settings.Settings)."""
