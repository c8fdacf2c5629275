"""UI to API without a browser: the prompt that ComfyUI's front end would send for a workflow.

The work is done as the editor does it, in three steps: `loading` makes the state that the editor has after it opened
the file, `resolution` follows each link to what feeds it, and here the nodes that a server runs are written down. Where
the editor would guess or send something that it cannot know, this stops: `ConversionError` names node and widget.
"""

from __future__ import annotations

import random
from collections.abc import Mapping
from datetime import datetime
from functools import cached_property

from .canvas import UNSET, Canvas, CanvasNode, Widget
from .errors import ConversionError
from .jsontext import JSON
from .loading import load
from .prompt import Link, Prompt, PromptNode
from .replacements import SAVERS, Names, dynamic_prompt
from .resolution import Place, Resolver, class_name, expand
from .schemas import NodeSchemas
from .virtual import BROADCASTERS, apply_primitives
from .workflow import Workflow


def convert(workflow: Workflow, schemas: NodeSchemas, *, resolve_dynamic_prompts: bool | int = False) -> Prompt:
    """The prompt that ComfyUI's front end sends for a workflow.

    Args:
        resolve_dynamic_prompts: choose one of each ``{a|b}`` in prompt texts: True at random, an integer as the seed of
            the choice. Without it such a text is kept as it is written.

    Raises:
        ConversionError: something cannot be converted without guessing: a class that is in no schema and whose values
            the file does not name, values that do not fit the node's widgets, links in a circle or from nowhere.
    """
    canvases = load(workflow, schemas)
    source: random.Random | None = None
    if resolve_dynamic_prompts is not False:
        seed = None if resolve_dynamic_prompts is True else resolve_dynamic_prompts
        source = random.Random(seed)  # noqa: S311 — wording of a prompt, nothing secret
    try:
        for canvas in canvases:
            apply_primitives(canvas)
        return _Writer(canvases[0], schemas, source).write()
    finally:  # they refer to each other in circles, which only the garbage collector would find
        for canvas in canvases:
            canvas.nodes.clear()
            canvas.instances.clear()
            canvas.primitives.clear()


class _Writer:
    """Writes the nodes of a canvas down as a prompt."""

    def __init__(self, root: Canvas, schemas: NodeSchemas, source: random.Random | None) -> None:
        self.source = source
        self.places = expand(root, modern=schemas.modern)
        self.resolver = Resolver(root, modern=schemas.modern)
        self.wired: list[tuple[dict[str, Link | JSON], str, Link]] = []
        self.blocked: dict[tuple[str, str], Place] = {}
        self.unlisted: list[str] = []  # of the node at hand: widgets whose value only the server's list could tell
        self.modern = schemas.modern

    def write(self) -> Prompt:
        nodes: dict[str, PromptNode] = {}
        real: dict[str, CanvasNode] = {}
        unknown: dict[str, str] = {}
        for place in self.places:
            _, node, node_id = place
            if not node.plain and (node.virtual or node.muted or node.bypassed):
                continue
            if node.type in BROADCASTERS:
                raise _broadcaster(place)
            if node.schema is None and not node.complete:
                unknown.setdefault(node.type, node_id)
                continue
            if node_id in real:
                raise ConversionError(
                    "its id is that of another node once subgraphs are expanded", node_id=node_id, path=node.saved.path
                )
            real[node_id] = node
            inputs = self._values(node)
            self._wires(place, inputs)
            if self.unlisted:
                self._refuse_unlisted(node_id, node, inputs)
            nodes[node_id] = PromptNode(class_type=node.type, inputs=inputs, title=node.title)
        if unknown:
            raise _unknown_classes(unknown)
        for inputs, name, link in self.wired:
            if link.node not in nodes and inputs.get(name) is link:
                del inputs[name]
        prompt = Prompt(nodes=nodes)
        self._refuse_blocked(prompt, real)
        return prompt

    def _refuse_blocked(self, prompt: Prompt, real: Mapping[str, CanvasNode]) -> None:
        """Stop where a bypass leaves a node without what it needs, if any output depends on that node.

        The editor sends such a prompt and the server refuses it; in parts that no output needs nobody minds.
        """
        if not self.blocked:
            return
        reached = {node_id for node_id, node in real.items() if node.schema is None or node.schema.output_node}
        stack = list(reached)
        while stack:
            for _, link in prompt.nodes[stack.pop()].links:
                if link.node not in reached:
                    reached.add(link.node)
                    stack.append(link.node)
        for (node_id, name), place in self.blocked.items():
            schema = real[node_id].schema
            spec = schema.input(name) if schema is not None else None
            if node_id in reached and spec is not None and spec.required and name not in prompt.nodes[node_id].inputs:
                raise ConversionError(
                    f"it is required and comes through bypassed node {place.id} ({class_name(place.node)}), "
                    f"which has no input of type {spec.type} to pass on",
                    node_id=node_id,
                    class_type=real[node_id].type,
                    input_name=name,
                    remedy="wire it to something else, or make that node active again",
                )

    @cached_property
    def _names(self) -> Names:
        return Names(place.node for place in self.places)

    @cached_property
    def _now(self) -> datetime:
        return datetime.now().astimezone()

    def _values(self, node: CanvasNode) -> dict[str, Link | JSON]:
        """What a node's own widgets send."""
        inputs: dict[str, Link | JSON] = {}
        for widget in node.widgets:
            name, value = widget.name, widget.value
            if not widget.sent or not name:
                continue
            if widget.kind == "index":
                inputs[name] = _index(node)
            elif isinstance(value, str):
                if name == "filename_prefix" or (
                    widget.spec is not None and widget.spec.options.get("dynamicPrompts") is True
                ):
                    value = self._text(node, widget, value)
                inputs[name] = value
            elif value is not UNSET:
                inputs[name] = value if type(value) is not list else _boxed(widget, value)
                if value is None and self.modern and _unlisted(widget):
                    self.unlisted.append(name)
            elif _unlisted(widget):
                self.unlisted.append(name)
        return inputs

    def _refuse_unlisted(self, node_id: str, node: CanvasNode, inputs: Mapping[str, Link | JSON]) -> None:
        """Where nothing was saved, the editor takes the first of the server's files, which only the server knows."""
        for name in self.unlisted:
            if inputs.get(name) is None:
                raise ConversionError(
                    "no value was saved for it, and what the editor would choose depends on the server's files",
                    node_id=node_id,
                    class_type=node.type,
                    input_name=name,
                    remedy="choose one in the editor, or give the server's schemas (--comfyui URL, --schemas FILE)",
                )
        self.unlisted.clear()

    def _text(self, node: CanvasNode, widget: Widget, value: str) -> str:
        if widget.spec is not None and widget.spec.options.get("dynamicPrompts") is True:
            return dynamic_prompt(value, self.source)
        if node.type in SAVERS and "%" in value:
            return self._names.replaced(value, self._now)
        return value

    def _wires(self, place: Place, inputs: dict[str, Link | JSON]) -> None:
        """What comes over a node's wires, put over what its widgets send."""
        node, node_id = place.node, place.node.id
        wires, nodes = node.canvas.wires, node.canvas.nodes
        prefix = place.id[: len(place.id) - len(node_id)] if place.instances else ""
        for index, socket in enumerate(node.inputs):
            if socket.link is None:
                continue
            wire = wires.get(socket.link)
            origin = nodes.get(wire.origin_id) if wire is not None and wire.target_id == node_id else None
            if wire is not None and origin is not None and origin.plain:
                # Straight from a node that runs, as nearly all wires are.
                inputs[socket.name] = link = Link(prefix + origin.id, wire.origin_slot)
                self.wired.append((inputs, socket.name, link))
                continue
            found = self.resolver.source(place, index)
            if isinstance(found, Widget):
                if found.value is not UNSET:
                    inputs[socket.name] = _boxed(found, found.value)
            elif found is not None:
                inputs[socket.name] = found
                self.wired.append((inputs, socket.name, found))
            elif (bypassed := self.resolver.blocked(place, index)) is not None:
                self.blocked[place.id, socket.name] = bypassed


def _unlisted(widget: Widget) -> bool:
    """Whether the widget is a list of the machine's files, read from a table, which has no such lists."""
    spec = widget.spec
    return spec is not None and widget.kind == "COMBO" and spec.choices is None and spec.open_choices


def _index(node: CanvasNode) -> int:
    """CustomCombo's second output: the place of the choice in its list."""
    choice = node.widgets[0].value
    options = [other.value for other in node.widgets[2:]]
    return options.index(choice) if choice in options else -1


def _boxed(widget: Widget, value: JSON) -> JSON:
    """A list as the server wants it: boxed, because a bare list of two is a link."""
    if not isinstance(value, list):
        return value
    return {"__type__": "CURVE", "__value__": value} if widget.kind == "CURVE" else {"__value__": value}


def _broadcaster(place: Place) -> ConversionError:
    return ConversionError(
        "it adds wires by rules that only its own script in the browser knows",
        node_id=place.id,
        class_type=place.node.type,
        remedy="in the editor, convert its wires to real links (its menu has that), and save",
    )


def _unknown_classes(unknown: dict[str, str]) -> ConversionError:
    classes = sorted(unknown)
    shown = ", ".join(classes[:10]) + (f" and {len(classes) - 10} more" if len(classes) > 10 else "")
    first = min(unknown, key=lambda name: classes.index(name))
    return ConversionError(
        f"no schema is known for {'class' if len(classes) == 1 else 'classes'} {shown}, "
        "and the file does not name all their values",
        node_id=unknown[first],
        class_type=first,
        remedy="give --comfyui URL of a ComfyUI that has them, or --schemas FILE with its /object_info",
    )
