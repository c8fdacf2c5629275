"""Restoring: saved widget values back into widgets, by place as the editor does, refused where places do not fit."""

from __future__ import annotations

import re

from .canvas import CanvasNode, Widget
from .errors import ConversionError
from .jsontext import JSON, short
from .widgets import CONTROL_VALUES, set_value, without_forced

_UUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", re.IGNORECASE)
_NUMBER = re.compile(r"\s*[-+]?(\d+\.?\d*|\.\d+)([eE][-+]?\d+)?\s*")


def restore_values(node: CanvasNode, *, modern: bool) -> None:
    """Set the widgets of a configured node to the values that the file has for it."""
    values = node.saved.widgets_values
    if values is None or node.schema is None:
        return
    if isinstance(values, dict):
        if not all(key.isdigit() and len(key) < 5 for key in values):
            _by_name(node, values)
            return
        values = [values.get(str(place)) for place in range(max(map(int, values), default=-1) + 1)]
    values = without_forced(node.schema, node.widgets, values, modern=modern)
    _by_place(node, values)


def _by_name(node: CanvasNode, values: dict[str, JSON]) -> None:
    index = 0
    while index < len(node.widgets):
        widget = node.widgets[index]
        if widget.saved and widget.name in values:
            set_value(node, widget, values[widget.name])
        index += 1


def _by_place(node: CanvasNode, values: list[JSON]) -> None:
    """Values to widgets in order, as the editor does it; by the file's own names where the class has changed since.

    A file of 2025 or later names the widget of every value it has (``inputs[].widget``). Where the class has gained or
    lost a widget since, or a value cannot be its widget's, places are wrong and names are right.
    """
    named = _named_if_needed(node, values)
    if named is not None:
        for name, value in named.items():
            widget = node.widget(name)
            if widget is None:
                continue  # the class has this widget no longer
            if not fits_widget(widget, value):
                raise misfit(node, widget, value)
            widget.value = value
        return
    index = place = 0
    while index < len(node.widgets) and place < len(values):
        widget = node.widgets[index]
        index += 1
        if widget.saved:
            set_value(node, widget, values[place])
            place += 1


def _named_if_needed(node: CanvasNode, values: list[JSON]) -> dict[str, JSON] | None:
    """Saved values by name, where the file has names and places cannot be trusted."""
    names = {item.widget for item in node.saved.inputs if item.widget is not None}
    if not names:
        return None
    places = [widget for widget in node.widgets if widget.saved]
    if names == {widget.name for widget in places if widget.kind not in COMPANIONS} and all(
        map(fits_widget, places, values)
    ):
        return None
    # Where values change which widgets there are, places can only be told one after the other.
    if node.groups or any(widget.kind in CHANGING for widget in node.widgets):
        return None
    named = values_by_name(node, values)
    if named is None:
        return None
    changed = {widget.name for widget in places if widget.kind not in COMPANIONS} != {
        name for name in named if (found := node.widget(name)) is None or found.kind != "button"
    }
    return named if changed or not all(map(fits_widget, places, values)) else None


COMPANIONS = frozenset({"control", "filter", "button"})
CHANGING = frozenset({"COMFY_DYNAMICCOMBO_V3", "option", "index"})


def values_by_name(node: CanvasNode, values: list[JSON]) -> dict[str, JSON] | None:
    """Each saved value by the name of its widget, where the file names them all and no name twice."""
    names = [item.widget for item in node.saved.inputs if item.widget is not None]
    if not names or len(set(names)) != len(names):
        return None
    paired = pair_with_names(names, values)
    return None if paired is None else dict(paired)


def recorded_widgets(node: CanvasNode) -> None:
    """Widgets of a class without schema, from the names that the file itself records; else the node is incomplete."""
    if _UUID.fullmatch(node.type):
        raise ConversionError(
            "its subgraph definition is not in the file",
            node_id=node.id,
            path=f"{node.saved.path}.type",
            remedy="save the whole workflow again from the editor",
        )
    names = [item.widget for item in node.saved.inputs if item.widget is not None]
    values = node.saved.widgets_values
    if values is None:
        node.complete = not names
        return
    if isinstance(values, dict):
        node.complete = all(name in values for name in names)
        node.widgets = [Widget(name, "recorded", value) for name, value in values.items() if not names or name in names]
        return
    paired = pair_with_names(names, values)
    if paired is None:
        node.complete = False
        return
    node.widgets = [Widget(name, "recorded", value) for name, value in paired]


def pair_with_names(names: list[str], values: list[JSON]) -> list[tuple[str, JSON]] | None:
    """Names and values side by side, where what is left over is just the control values behind seeds; else None."""
    if len(names) == len(values):
        return list(zip(names, values, strict=True))
    if not len(names) <= len(values) <= 2 * len(names):
        return None
    paired: list[tuple[str, JSON]] = []
    rest = list(values)
    for name in names:
        if not rest:
            return None
        value = rest.pop(0)
        paired.append((name, value))
        number = isinstance(value, int) and not isinstance(value, bool)
        if number and rest and rest[0] in CONTROL_VALUES and len(rest) > len(names) - len(paired):
            rest.pop(0)
    return paired if not rest else None


def fits_widget(widget: Widget, value: JSON) -> bool:
    """Whether a saved value can belong to a widget, by its JSON type alone; null can belong to any."""
    if value is None:
        return True
    kind = widget.kind
    if kind in {"INT", "FLOAT"}:
        if isinstance(value, str):
            return len(value) < 400 and _NUMBER.fullmatch(value) is not None
        return isinstance(value, int | float) and not isinstance(value, bool)
    if kind == "BOOLEAN":
        return isinstance(value, bool | int | str)
    if kind == "COMBO":
        return not isinstance(value, dict)
    if kind == "control":
        return isinstance(value, bool) or value in CONTROL_VALUES
    return True


def misfit(node: CanvasNode, widget: Widget, value: JSON) -> ConversionError:
    """The error for a saved value that cannot be its widget's."""
    return ConversionError(
        f"the saved value {short(value)} is none for widget {widget.name!r} ({widget.kind})",
        node_id=node.id,
        class_type=node.type,
        input_name=widget.name,
        path=f"{node.saved.path}.widgets_values",
        remedy="open the workflow in the editor, correct the value and save it again",
    )
