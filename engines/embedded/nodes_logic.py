"""Choices and small arithmetic between nodes. Sources: ComfyUI ``nodes_logic.py``, ``nodes_number_convert.py``,
``nodes_resolution.py``.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any

from .expressions import evaluate
from .problems import NodeProblem
from .registry import NodeGroup

NODES = NodeGroup()

_RATIOS: Mapping[str, tuple[int, int]] = {
    "1:1 (Square)": (1, 1),
    "2:3 (Portrait Photo)": (2, 3),
    "3:2 (Photo)": (3, 2),
    "3:4 (Portrait Standard)": (3, 4),
    "4:3 (Standard)": (4, 3),
    "9:16 (Portrait Widescreen)": (9, 16),
    "16:9 (Widescreen)": (16, 9),
    "21:9 (Ultrawide)": (21, 9),
}


def _chosen(switch: bool, on_false: Any = None, on_true: Any = None) -> Iterable[str]:
    if (on_true if switch else on_false) is None:
        yield "on_true" if switch else "on_false"


@NODES.node("ComfySwitchNode", lazy=frozenset({"on_false", "on_true"}), needs=_chosen)
def switch(switch: bool, on_false: Any = None, on_true: Any = None) -> tuple[Any]:
    """One of two values; the other is not computed."""
    return (on_true if switch else on_false,)


@NODES.node("ComfyNotNode")
def not_(value: Any) -> bool:
    """Whether the value is empty, zero or false."""
    return not value


@NODES.node("ComfyAndNode")
def and_(values: Mapping[str, Any]) -> bool:
    """Whether all values are true, non-zero, non-empty."""
    return all(values.values())


@NODES.node("ComfyOrNode")
def or_(values: Mapping[str, Any]) -> bool:
    """Whether any value is true, non-zero, non-empty."""
    return any(values.values())


@NODES.node("CustomCombo")
def custom_combo(choice: str, index: int = 0, **_: Any) -> tuple[str, int]:
    """A choice of a list that the editor keeps, and its place in it."""
    return choice, index


@NODES.node("ComfyNumberConvert")
def number_convert(value: bool | int | float | str) -> tuple[float, int]:
    """A number, a switch or a text as a number with and without a fraction."""
    if isinstance(value, str):
        return _parsed(value)
    if isinstance(value, float) and not math.isfinite(value):
        raise NodeProblem(f"{value} is not a finite number")
    return float(value), int(value)


def _parsed(text: str) -> tuple[float, int]:
    try:
        number = float(text.strip())
    except ValueError as error:
        raise NodeProblem(f"{text!r} is not a number", remedy="give digits") from error
    if not math.isfinite(number):
        raise NodeProblem(f"{text!r} is not a finite number", remedy="give digits")
    try:
        return number, int(text.strip())
    except ValueError:
        return number, int(number)


@NODES.node("ComfyMathExpression")
def math_expression(expression: str, values: Mapping[str, Any]) -> tuple[float, int, bool]:
    """The value of an expression over the wired values `a`, `b`… and `values`, their list."""
    result = evaluate(expression, {**values, "values": list(values.values())})
    try:
        number = float(result)
    except OverflowError:
        number = math.inf
    if not math.isfinite(number):
        raise NodeProblem(f"the expression {expression!r} has no finite value", remedy="correct it")
    return number, int(result), bool(result)


@NODES.node("ResolutionSelector")
def resolution_selector(aspect_ratio: str, megapixels: float = 1.0, multiple: int = 8) -> tuple[int, int]:
    """Width and height of that ratio with about `megapixels` * 2^20 pixels, each a multiple of `multiple`."""
    wide, high = _RATIOS[aspect_ratio]
    scale = math.sqrt(megapixels * 1024 * 1024 / (wide * high))
    return round(wide * scale / multiple) * multiple, round(high * scale / multiple) * multiple
