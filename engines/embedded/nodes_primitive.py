"""Values: what the editor's primitive nodes hold, and a box."""

from __future__ import annotations

from typing import Any

from .registry import NodeGroup

NODES = NodeGroup()


@NODES.node("PrimitiveBoolean", "PrimitiveFloat", "PrimitiveInt", "PrimitiveString", "PrimitiveStringMultiline")
def primitive(value: Any) -> Any:
    """The value itself; the executor has made it the type that the class's schema names."""
    return value


@NODES.node("PrimitiveBoundingBox")
def bounding_box(x: int, y: int, width: int, height: int) -> dict[str, int]:
    """A box in pixels, from its upper left corner."""
    return {"x": x, "y": y, "width": width, "height": height}
