"""Widgets: what inputs and widgets the editor gives a node by its schema, and how saved values come back into them.

Source of the behaviour: ComfyUI's front end (``litegraphService.ts``, ``widgets.ts``, ``dynamicWidgets.ts`` and the
extensions in ``extensions/core``), read in the releases 1.27.10 (ComfyUI 0.3.64) and 1.49.6 (ComfyUI 0.33.0).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from .canvas import UNSET, Autogrow, CanvasNode, Outlet, Socket, Widget
from .jsontext import JSON
from .schemas import WIDGET_TYPES, InputSpec, NodeSchema, parse_input

CONTROL_VALUES = ("fixed", "increment", "decrement", "randomize", "increment-wrap")
SEED_NAMES = frozenset({"seed", "noise_seed"})

# What only the user's browser can fill in; a file has at best a stale value.
BROWSER_TYPES = frozenset({"LOAD_3D", "LOAD_3D_ADVANCED", "LOAD_3D_ANIMATION", "WEBCAM", "AUDIO_RECORD"})
_DISPLAY_TYPES = frozenset({"PREVIEW_3D", "PREVIEW_3D_ANIMATION", "IMAGECOMPARE"})
_ADDED_TYPES = frozenset({"IMAGEUPLOAD", "AUDIOUPLOAD", "AUDIO_UI", "LOAD_3D_ADVANCED", "PREVIEW_3D"})
_PLAIN_TYPES = frozenset({"INT", "FLOAT", "BOOLEAN", "STRING", "COMBO"})
_AUDIO_PLAYERS = frozenset(
    {"LoadAudio", "SaveAudio", "PreviewAudio", "SaveAudioMP3", "SaveAudioOpus", "SaveAudioAdvanced"}
)


def furnish_anew(node: CanvasNode, schema: NodeSchema) -> None:
    """Give a new node the inputs, widgets and outputs of its class by the schema itself; see `plan.furnish`."""
    node.schema = schema
    specs = [*schema.inputs, *_added_specs(schema)]
    for spec in specs:
        _add_socket(node, spec)
    for spec in specs:
        _add_widget(node, spec)
    for output in schema.outputs:
        kind = "*" if output.type == "COMFY_MATCHTYPE_V3" else output.type
        node.outputs.append(Outlet(output.name, kind))
    if schema.class_type == "CustomCombo":
        node.widgets.append(Widget("index", "index"))
        _add_option(node)
    elif schema.class_type == "WebcamCapture":
        node.widgets.append(Widget("waiting for camera...", "button", "capture", sent=False))


def _added_specs(schema: NodeSchema) -> list[InputSpec]:
    """Inputs that the front end's own extensions add to a class: upload buttons, players, 3D views."""
    added = []
    name = schema.class_type
    if name in _AUDIO_PLAYERS:
        added.append(parse_input("audioUI", ["AUDIO_UI", {}]))
    for spec in schema.inputs:
        if spec.required and spec.type == "COMBO" and (spec.upload in {"image", "mask", "video"}):
            added.append(parse_input("upload", ["IMAGEUPLOAD", {}]))
            break
    audio = schema.input("audio")
    if audio is not None and audio.required and audio.upload == "audio":
        added.append(parse_input("upload", ["AUDIOUPLOAD", {}]))
    if name in {"SaveGLB", "Preview3D"} and schema.input("image") is None:
        added.append(parse_input("image", ["PREVIEW_3D", {}]))
    elif name == "Preview3DAnimation" and schema.input("image") is None:
        added.append(parse_input("image", ["PREVIEW_3D_ANIMATION", {}]))
    return added


def _widget_type(spec: InputSpec) -> str:
    kind = spec.options.get("widgetType")
    return kind if isinstance(kind, str) else spec.type


def _has_widget(spec: InputSpec) -> bool:
    kind = _widget_type(spec)
    return (kind in WIDGET_TYPES or kind in _ADDED_TYPES) and not spec.options.get("forceInput")


def _add_socket(node: CanvasNode, spec: InputSpec) -> None:
    if _has_widget(spec):
        return
    if spec.type == "COMFY_AUTOGROW_V3":
        _add_autogrow(node, spec)
    elif spec.type == "COMFY_MATCHTYPE_V3":
        template = spec.options.get("template")
        allowed = template.get("allowed_types") if isinstance(template, dict) else None
        node.inputs.append(Socket(spec.name, allowed if isinstance(allowed, str) else "*"))
    else:
        node.inputs.append(Socket(spec.name, spec.type))


def default_value(spec: InputSpec, kind: str) -> JSON:
    """The value of a widget that nobody touched; UNSET where the editor has none either."""
    if kind in {"INT", "FLOAT"}:
        return spec.default if spec.default is not None else 0
    if kind == "BOOLEAN":
        return spec.default if spec.default is not None else False
    if kind in {"COMBO", "COMFY_DYNAMICCOMBO_V3"}:
        if spec.default and kind == "COMBO":
            return spec.default
        return spec.choices[0] if spec.choices else UNSET
    if spec.default is not None:
        return spec.default
    return _DEFAULTS.get(kind, UNSET)


_DEFAULTS: dict[str, JSON] = {
    "STRING": "",
    "MARKDOWN": "",
    "TEXTAREA": "",
    "PAINTER": "",
    "COLOR": "#000000",
    "BOUNDING_BOX": {"x": 0, "y": 0, "width": 512, "height": 512},
    "BOUNDING_BOXES": [],
    "COLORS": [],
    "CURVE": {"points": [[0, 0], [1, 1]], "interpolation": "monotone_cubic"},
    "RANGE": {"min": 0.0, "max": 1.0},
    "CHART": {},
    "GALLERIA": [],
}


def _add_widget(node: CanvasNode, spec: InputSpec) -> None:
    if not _has_widget(spec):
        return
    kind, name = _widget_type(spec), spec.name
    add = node.widgets.append
    widget = Widget(name, kind, default_value(spec, kind), spec=spec)
    if kind in {"IMAGEUPLOAD", "AUDIOUPLOAD"}:
        add(Widget(name, "button", "image" if kind == "IMAGEUPLOAD" else "", sent=False))
    elif kind == "AUDIO_UI":
        add(Widget(name, "player", "", saved=False, sent=False))
    elif kind in {"LOAD_3D", "LOAD_3D_ANIMATION"}:
        if node.widget("model_file") is not None:
            for label in ("upload 3d model", "upload extra resources", "clear"):
                add(Widget(label, "button", sent=False))
        add(widget)
    elif kind == "AUDIO_RECORD":
        add(widget)
        add(Widget(name, "button", "", sent=False))
    elif kind == "IMAGECOMPARE":
        widget.saved = False  # what the browser shows is not kept, but a server asks that it be there
        widget.value = ["", ""]
        add(widget)
    elif kind in _DISPLAY_TYPES:
        widget.sent = spec in node.schema.inputs if node.schema is not None else False
        add(widget)
    elif kind == "BOUNDING_BOX":
        add(widget)
        for part in ("x", "y", "width", "height"):
            add(Widget(part, "INT", sent=False))
    elif kind == "COLOR" and any(w.name == name and w.kind == "COLOR" for w in node.widgets):
        pass
    else:
        add(widget)
        _add_controls(node, spec, kind)
        if kind == "COMFY_DYNAMICCOMBO_V3":
            _choose(node, widget)
    node.inputs.append(Socket(name, spec.type, widget=name))


def _add_controls(node: CanvasNode, spec: InputSpec, kind: str) -> None:
    control = spec.options.get("control_after_generate")
    if kind == "INT" and control is None:
        control = spec.name in SEED_NAMES
    if not control or kind not in {"INT", "FLOAT", "COMBO"}:
        return
    initial = control if isinstance(control, str) and kind != "FLOAT" else "fixed" if kind == "FLOAT" else "randomize"
    node.widgets.append(Widget(_control_name(spec), "control", initial, sent=False))
    if kind == "COMBO":
        node.widgets.append(Widget("control_filter_list", "filter", "", sent=False))


def _control_name(spec: InputSpec) -> str:
    control = spec.options.get("control_after_generate")
    return control if isinstance(control, str) and control not in CONTROL_VALUES else "control_after_generate"


def set_value(node: CanvasNode, widget: Widget, value: JSON) -> None:
    """Set a widget; a dynamic combo changes the node's other inputs and widgets with it."""
    widget.value = value
    if widget.kind == "COMFY_DYNAMICCOMBO_V3":
        _choose(node, widget)
    elif widget.kind == "option" and value and node.widgets[-1] is widget:
        _add_option(node)


def _add_option(node: CanvasNode) -> None:
    """CustomCombo's list of choices: a text widget for each, and always an empty one at the end."""
    node.widgets.append(Widget(f"option{len(node.widgets) - 1}", "option", ""))


def _choose(node: CanvasNode, widget: Widget) -> None:
    """Give the node the inputs of a dynamic combo's chosen option; a wire stays where the new option has its input."""
    prefix = widget.name + "."
    removed = [socket for socket in node.inputs if socket.name.startswith(prefix)]
    if removed:
        node.inputs[:] = [socket for socket in node.inputs if not socket.name.startswith(prefix)]
    node.widgets[:] = [other for other in node.widgets if not other.name.startswith(prefix)]
    option = _option(node, widget)
    if option is None:
        for socket in removed:
            node.canvas.cut(socket.link)
        return
    place = node.widgets.index(widget) + 1
    widget_count, input_count = len(node.widgets), len(node.inputs)
    if option.plain:
        added_widgets = [Widget(*parts) for parts in option.widgets]
        node.inputs += [Socket(*parts) for parts in option.inputs]
    else:
        _add(node, option.specs)
        added_widgets = node.widgets[widget_count:]
        del node.widgets[widget_count:]
    node.widgets[place:place] = added_widgets
    own = next((i for i, socket in enumerate(node.inputs) if socket.name == widget.name), None)
    if own is not None:
        added = node.inputs[input_count:]
        del node.inputs[input_count:]
        node.inputs[own + 1 : own + 1] = added
        tell_links(node, own + 1)
    for socket in removed:
        now = next((s for s in node.inputs if s.name == socket.name), None)
        if now is None:
            node.canvas.cut(socket.link)
        else:
            now.link = socket.link
            tell_links(node, node.inputs.index(now), only=now)
            grow_for(node, now, wired=now.link in node.canvas.wires)


def tell_links(node: CanvasNode, start: int = 0, *, only: Socket | None = None) -> None:
    """Links of moved inputs learn their new places. Others keep what the file says until all is loaded."""
    for index, socket in enumerate(node.inputs[start:] if only is None else [only], start):
        wire = node.canvas.wires.get(socket.link) if socket.link is not None else None
        if wire is not None and wire.target_slot != index:
            node.canvas.wires[wire.id] = wire._replace(target_slot=index)


class _Option(NamedTuple):
    """What an option of a dynamic combo brings. A `plain` one always brings the same, made ready here."""

    specs: list[InputSpec]
    plain: bool
    inputs: list[tuple[str, str, None, str | None]]
    widgets: list[tuple[str, str, JSON, bool, bool, InputSpec | None]]


def _option(node: CanvasNode, widget: Widget) -> _Option | None:
    """What the chosen option brings; kept with the schema."""
    known: dict[tuple[str, str], _Option | None] = {}
    if node.schema is not None and isinstance(widget.value, str):
        known = node.schema.__dict__.setdefault("_options", known)
    key = (widget.name, str(widget.value))
    if key not in known:
        known[key] = _read_option(node, widget)
    return known[key]


def _read_option(node: CanvasNode, widget: Widget) -> _Option | None:
    sections = _option_inputs(widget)
    if sections is None:
        return None
    specs = [
        parse_input(f"{widget.name}.{name}", raw, required=required, class_type=node.type)
        for required, section in zip((True, False), sections, strict=True)
        for name, raw in section.items()
    ]
    blank = CanvasNode.blank(node.saved)
    plain = all(_widget_type(s) in _PLAIN_TYPES if _has_widget(s) else s.type != "COMFY_AUTOGROW_V3" for s in specs)
    if plain:
        _add(blank, specs)
    return _Option(
        specs,
        plain,
        [(s.name, s.type, None, s.widget) for s in blank.inputs],
        [(w.name, w.kind, w.value, w.saved, w.sent, w.spec) for w in blank.widgets],
    )


def _add(node: CanvasNode, specs: list[InputSpec]) -> None:
    for spec in specs:
        _add_socket(node, spec)
        _add_widget(node, spec)


def _option_inputs(widget: Widget) -> tuple[dict[str, JSON], dict[str, JSON]] | None:
    listed = widget.spec.options.get("options") if widget.spec is not None else None
    if not widget.value or not isinstance(listed, list):
        return None
    for option in reversed(listed):  # of two options with one key the front end keeps the last
        if isinstance(option, dict) and option.get("key") == widget.value:
            inputs = option.get("inputs")
            inputs = inputs if isinstance(inputs, dict) else {}
            required, optional = inputs.get("required"), inputs.get("optional")
            return (
                required if isinstance(required, dict) else {},
                optional if isinstance(optional, dict) else {},
            )
    return None


# ------------------------------------------------------------------------------------------------------------- autogrow


def _add_autogrow(node: CanvasNode, spec: InputSpec) -> None:
    template = spec.options.get("template")
    template = template if isinstance(template, dict) else {}
    inner = template.get("input")
    inner = inner if isinstance(inner, dict) else {}
    members = tuple(
        (name, raw, required)
        for section, required in (("required", True), ("optional", False))
        for part in (inner.get(section),)
        for name, raw in (part.items() if isinstance(part, dict) else ())
    )
    names = template.get("names")
    names = tuple(str(name) for name in names) if isinstance(names, list) and names else None
    minimum, maximum = template.get("min", 1), template.get("max", 100)
    prefix = template.get("prefix")
    node.groups[spec.name] = Autogrow(
        names=names,
        prefix=prefix if isinstance(prefix, str) else "",
        minimum=minimum if isinstance(minimum, int) else 1,
        maximum=len(names) if names else maximum if isinstance(maximum, int) else 100,
        members=members,
    )
    if members:
        for ordinal in range(max(1, min(node.groups[spec.name].minimum, 200) + 1)):
            _grow(node, ordinal, spec.name)


def _member_name(group: Autogrow, group_name: str, ordinal: int, key: str) -> str:
    if group.names is not None:
        base = group.names[ordinal] if 0 <= ordinal < len(group.names) else "undefined"
    else:
        base = f"{group.prefix if len(group.members) == 1 else key}{ordinal}"
    return f"{group_name}.{base}"


def _grow(node: CanvasNode, ordinal: int, group_name: str) -> None:
    group = node.groups[group_name]
    if ordinal >= group.maximum:
        return
    added: list[Socket] = []
    for key, raw, required in group.members:
        name = _member_name(group, group_name, ordinal, key)
        # A widget that the node has already is not made a second time: one widget, one saved value.
        spec = group.specs.get((ordinal, key, required))
        if spec is None:
            needed = required and ordinal < group.minimum
            spec = parse_input(name, raw, required=needed, class_type=node.type)
            group.specs[ordinal, key, required] = spec
        if node.widget(name) is None:
            _add_socket(node, spec)
            _add_widget(node, spec)
            added.append(node.inputs.pop())
        else:
            added.append(Socket(name, spec.type, widget=name))
        if len(group.members) != 1:
            _ensure_widget(node, added[-1])
    for socket in added:
        for existing in [s for s in node.inputs if s.name == socket.name]:
            node.inputs.remove(existing)
            if socket.link is None:
                socket.link = existing.link
    before = _member_name(group, group_name, ordinal - 1, group.members[-1][0])
    places = [i for i, s in enumerate(node.inputs) if s.name.startswith(before)]
    place = places[-1] + 1 if places else len(node.inputs)
    node.inputs[place:place] = added
    tell_links(node, place)


def _ensure_widget(node: CanvasNode, socket: Socket) -> None:
    if socket.widget is not None and node.widget(socket.widget) is not None:
        return
    node.widgets.append(Widget(socket.name, "shim", saved=False))
    socket.widget = socket.name


def grow_for(node: CanvasNode, socket: Socket, *, wired: bool) -> None:
    """What a growing group does when one of its inputs is found wired: the next one appears."""
    if not node.groups:
        return
    group_name = socket.name.rpartition(".")[0]
    group = node.groups.get(group_name)
    if group is None:
        return
    if socket.widget is not None:
        _ensure_widget(node, socket)
    if not wired:
        return
    name = socket.name[len(group_name) + 1 :]
    if group.names is not None:
        ordinal = group.names.index(name) if name in group.names else None
    else:
        digits = name[len(name.rstrip("0123456789")) :]
        ordinal = int(digits) if digits and len(digits) < 6 else None
    if ordinal is not None and group.members:
        _grow(node, ordinal + 1, group_name)


# --------------------------------------------------------------------------------------------------------- saved values


def has_forced(schema: NodeSchema) -> bool:
    """Whether an input of the class had a widget before front end 1.16 and is a plain socket since."""
    return any(spec.options.get("forceInput") for spec in schema.inputs)


def without_forced(schema: NodeSchema, widgets: Sequence[Widget], values: list[JSON], *, modern: bool) -> list[JSON]:
    """The saved values without those of inputs that had a widget before front end 1.16 and are plain sockets since.

    Told by the count: only where there is exactly one value for each widget of the old kind.
    """
    if not has_forced(schema):
        return values
    names = {widget.name for widget in widgets}
    specs = [s for s in schema.inputs if s.name in names or s.options.get("forceInput")]
    forced: list[bool] = []
    count = 0
    for spec in specs:
        force = bool(spec.options.get("forceInput"))
        control = bool(spec.options.get("control_after_generate"))
        if modern:
            forced.extend([force, False] if control else [force])
            count = len(forced)
        else:  # this release counted controls but did not step over them
            forced.append(force)
            count += 2 if control or spec.name in SEED_NAMES else 1
    if count != len(values):
        return values
    return [value for index, value in enumerate(values) if index >= len(forced) or not forced[index]]
