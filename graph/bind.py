"""(prompt, interface, values) -> a prompt without markers, and the files that go with it.

Engines get bound prompts only, so any ComfyUI runs them, whether the markers' packs are installed or not: values
become literals where they are consumed, image and mask markers become the core's loaders, output markers the core's
savers. Stock nodes never change class.
"""

from __future__ import annotations

import random
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from difflib import get_close_matches
from pathlib import Path

from .errors import BindError
from .interface import Interface, OutputType, Parameter, ParameterType
from .interface_markers import zip_text_node
from .jsontext import JSON, short
from .markers import INPUT_MARKERS, OUTPUT_MARKERS, STOCK_OUTPUTS, SWITCHES, InputMarker, is_marker, marker_value_input
from .prompt import InputRef, Link, Prompt, PromptNode
from .schemas import NodeSchemas
from .values import checked_value


@dataclass(frozen=True, kw_only=True, slots=True)
class Bound:
    """A prompt that an engine can run.

    Attributes:
        prompt: without markers.
        files: local files that the engine must put where the input can read them (and name them there).
    """

    prompt: Prompt
    files: Mapping[InputRef, Path] = field(default_factory=dict)


def bind(
    prompt: Prompt,
    interface: Interface,
    values: Mapping[str, JSON | Path],
    *,
    schemas: NodeSchemas | None = None,
    chance: random.Random | None = None,
) -> Bound:
    """Put ``values`` (by parameter name) into the prompt and take its markers out.

    A `Path` is a local file; text for a file parameter names a file in the engine's input folder. What is not given
    takes its default.

    Args:
        schemas: tell which inputs are optional, so that an image nobody sent can be left out; the built-in ones
            where None.
        chance: picks the seed of a ComfyUI-Deploy seed that is set to random; the system's randomness where None.

    Raises:
        BindError: an unknown name, a missing or unfit value; names the parameter and the remedy.
    """
    _check_names(interface, values)
    given: dict[InputRef, JSON | Path] = {}
    for parameter in interface.parameters:
        value = _value(parameter, values, chance)
        for target in parameter.targets:
            if target.node not in prompt.nodes:
                raise BindError(
                    f"parameter {parameter.name!r} sets node {short(target.node)}, which is not in this prompt",
                    parameter=parameter.name,
                    remedy="find the interface again",
                )
            if value is not None:
                given[target] = value
    binding = _Binding(prompt, {t: p for p in interface.parameters for t in p.targets}, given, schemas)
    return binding.bound(_output_names(interface))


def _check_names(interface: Interface, values: Mapping[str, JSON | Path]) -> None:
    known = [p.name for p in interface.parameters]
    for name in values:
        if name not in known:
            near = get_close_matches(str(name), known, 1)
            remedy = f"did you mean {near[0]!r}?" if near else f"known are {', '.join(known) or 'none'}"
            raise BindError(f"no parameter is named {short(name)}", parameter=str(name), remedy=remedy)


def _value(parameter: Parameter, values: Mapping[str, JSON | Path], chance: random.Random | None) -> JSON | Path | None:
    """The checked value of a parameter; None where its node keeps what it has."""
    value = values.get(parameter.name)
    if value is not None:
        return checked_value(parameter, value)
    if parameter.required:
        raise BindError(
            f"parameter {parameter.name!r} is missing",
            parameter=parameter.name,
            remedy=f"give {'a file' if parameter.type.is_file else 'a value'} for it",
        )
    if parameter.default is None:
        seed = parameter.type is ParameterType.INTEGER and None not in (parameter.minimum, parameter.maximum)
        if seed and parameter.minimum is not None and parameter.maximum is not None:
            return (chance or random.SystemRandom()).randint(int(parameter.minimum), int(parameter.maximum))
        return None
    return checked_value(parameter, parameter.default) if parameter.type.is_file else parameter.default


def _output_names(interface: Interface) -> dict[str, str]:
    names: dict[str, str] = {}
    for output in interface.outputs:
        names.setdefault(output.node, output.name)
    return names


# Required inputs that only a browser fills in; a server checks that they are there and ignores what they hold.
_BROWSER_INPUTS: Mapping[str, Mapping[str, JSON]] = {"ImageCompare": {"compare_view": {"__value__": ["", ""]}}}


class _Binding:
    """One run of `bind`: the nodes of the result as they come about."""

    def __init__(
        self,
        prompt: Prompt,
        parameters: Mapping[InputRef, Parameter],
        given: Mapping[InputRef, JSON | Path],
        schemas: NodeSchemas | None,
    ) -> None:
        self.prompt = prompt
        self.parameters = parameters
        self.given = given
        self.files: dict[InputRef, Path] = {}
        self._given_at: dict[str, list[InputRef]] = {}
        for ref in given:
            self._given_at.setdefault(ref.node, []).append(ref)
        self._schemas = schemas

    def bound(self, output_names: Mapping[str, str]) -> Bound:
        nodes: dict[str, PromptNode] = {}
        for node_id, node in self.prompt.nodes.items():
            if node.class_type in SWITCHES:
                continue
            marker = INPUT_MARKERS.get(node.class_type)
            if marker is not None:
                loader = self._loader(node_id, node, marker)
                if loader is not None:
                    nodes[node_id] = loader
            elif node.class_type in OUTPUT_MARKERS:
                nodes.update(self._savers(node_id, node, output_names.get(node_id, "output")))
            else:
                inputs = self._inputs(node_id, node)
                nodes[node_id] = replace(node, inputs={**_BROWSER_INPUTS.get(node.class_type, {}), **inputs})
        return Bound(prompt=Prompt(nodes=nodes), files=self.files)

    def _inputs(self, node_id: str, node: PromptNode) -> dict[str, Link | JSON]:
        """A stock node's inputs: given values put in, wires to markers resolved."""
        inputs: dict[str, Link | JSON] = {}
        for name, value in node.inputs.items():
            ref = InputRef(node_id, name)
            if ref in self.given:
                inputs[name] = self._literal(ref, self.given[ref])
            elif isinstance(value, Link):
                self._wire(inputs, ref, node, value)
            else:
                inputs[name] = value
        for ref in self._given_at.get(node_id, ()):
            if ref.input not in node.inputs:
                inputs[ref.input] = self._literal(ref, self.given[ref])
        return inputs

    def _wire(self, inputs: dict[str, Link | JSON], ref: InputRef, node: PromptNode, link: Link) -> None:
        """Put into ``inputs`` what a wire brings once markers are gone; nothing where an optional file was not sent."""
        end, marker_id = self._resolved(link, ref, node)
        if isinstance(end, Link):
            inputs[ref.input] = end
        elif isinstance(end, _Nothing):
            if not self._optional(node.class_type, ref.input):
                parameter = self._parameter_of(marker_id)
                raise BindError(
                    f"is not given, and input {ref.input!r} of node {ref.node} ({node.class_type}) cannot do without",
                    parameter=parameter.name if parameter else None,
                    node_id=marker_id,
                    remedy="give a file for it, or save one in the workflow",
                )
        else:
            inputs[ref.input] = self._literal(ref, end)

    def _resolved(self, link: Link, ref: InputRef, node: PromptNode) -> tuple[Link | JSON | Path | _Nothing, str]:
        """Follow a wire through markers: to a stock node, a value, or nothing. And the last marker's id."""
        marker_id = ""
        for _ in range(len(self.prompt.nodes) + 1):
            source = self.prompt.nodes.get(link.node)
            marker = INPUT_MARKERS.get(source.class_type) if source else None
            if source is not None and marker is None and is_marker(source.class_type):
                raise BindError(
                    f"is wired to node {short(link.node)} ({source.class_type}), which has no outputs",
                    node_id=ref.node,
                    class_type=node.class_type,
                    input_name=ref.input,
                )
            if source is None or marker is None:
                return link, marker_id
            marker_id = link.node
            slot = marker.slots.get(link.slot)
            if slot is None:
                raise BindError(
                    f"output {link.slot} of node {link.node} ({source.class_type}) cannot be served",
                    node_id=ref.node,
                    class_type=node.class_type,
                    input_name=ref.input,
                )
            held = InputRef(link.node, marker_value_input(source))
            value = self.given.get(held, source.inputs.get(held.input))
            if value is None or (value == "" and marker.becomes):
                default = source.inputs.get(marker.wired_default) if marker.wired_default else None
                if not isinstance(default, Link):
                    return NOTHING, marker_id
                value = default
            if not isinstance(value, Link):
                return (Link(link.node, slot) if marker.becomes else value), marker_id
            link = value
        raise BindError("its wires form a cycle of markers", node_id=ref.node, class_type=node.class_type)

    def _loader(self, node_id: str, node: PromptNode, marker: InputMarker) -> PromptNode | None:
        """The stock loader in a file marker's place; None where the marker just goes."""
        if marker.becomes is None:
            return None
        held = InputRef(node_id, marker_value_input(node))
        value = self.given.get(held, node.inputs.get(held.input))
        if value is None or value == "" or isinstance(value, Link):
            return None
        inputs: dict[str, Link | JSON] = {
            marker.stock_input: self._literal(InputRef(node_id, marker.stock_input), value)
        }
        if marker.becomes == "LoadImageMask":
            inputs["channel"] = node.inputs.get("channel", "alpha")
        return PromptNode(class_type=marker.becomes, inputs=inputs, title=node.title, meta=node.meta, extra=node.extra)

    def _savers(self, node_id: str, node: PromptNode, name: str) -> dict[str, PromptNode]:
        marker = OUTPUT_MARKERS[node.class_type]
        wired = node.inputs.get(marker.wired)
        if wired is None:
            raise BindError(f"nothing is wired to its {marker.wired!r}", node_id=node_id, class_type=node.class_type)
        class_type, stock_input, more = STOCK_OUTPUTS[marker.type]
        inputs: dict[str, Link | JSON] = {}
        self._put(inputs, InputRef(node_id, stock_input), node, wired)
        if class_type != "PreviewAny":
            inputs["filename_prefix"] = name
        inputs |= {key: node.inputs.get(key, value) for key, value in more.items()}
        saver = PromptNode(class_type=class_type, inputs=inputs, title=node.title, meta=node.meta, extra=node.extra)
        savers = {node_id: saver}
        text = node.inputs.get("text") if node.class_type == "CPackOutputZip" else None
        if isinstance(text, Link):
            text_id = zip_text_node(node_id)
            beside: dict[str, Link | JSON] = {}
            self._put(beside, InputRef(text_id, "source"), node, text)
            savers[text_id] = PromptNode(class_type=STOCK_OUTPUTS[OutputType.TEXT][0], inputs=beside, title=node.title)
        return savers

    def _put(self, inputs: dict[str, Link | JSON], ref: InputRef, node: PromptNode, value: Link | JSON) -> None:
        if isinstance(value, Link):
            self._wire(inputs, ref, node, value)
        else:
            inputs[ref.input] = value

    def _literal(self, ref: InputRef, value: JSON | Path) -> JSON:
        """A value as an input holds it: a file by its name, a list so that it is not taken for a wire."""
        if isinstance(value, Path):
            self.files[ref] = value
            return value.name
        return {"__value__": value} if isinstance(value, list) else value

    def _optional(self, class_type: str, name: str) -> bool:
        if self._schemas is None:
            self._schemas = NodeSchemas.builtin()
        schema = self._schemas.get(class_type)
        spec = schema.input(name) if schema else None
        return spec is not None and not spec.required

    def _parameter_of(self, node_id: str) -> Parameter | None:
        return next((p for ref, p in self.parameters.items() if ref.node == node_id), None)


class _Nothing:
    """A file that nobody sent."""


NOTHING = _Nothing()
