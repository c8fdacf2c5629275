"""Follow a prompt's wires backwards: to the value that decides, the texts that make a prompt, the latent's source.

What runs is followed: of a switch with a known setting, the branch that it takes.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import cached_property

from .dynamic import live_inputs
from .jsontext import JSON
from .prompt import InputRef, Link, Prompt, PromptNode, consumers
from .schemas import InputSpec, NodeSchema, NodeSchemas

VALUE_NODES: Mapping[str, str] = {
    "PrimitiveString": "value",
    "PrimitiveStringMultiline": "value",
    "PrimitiveInt": "value",
    "PrimitiveFloat": "value",
    "PrimitiveBoolean": "value",
}
"""Core nodes that hold one value and give it out: class -> input."""

_SWITCH = "ComfySwitchNode"
_PASSES: Mapping[str, str] = {"PreviewAny": "source"}  # nodes that give out what they take
_ABSENT = object()
# Text inputs that steer a text node and are no part of what it says.
_STEERING = frozenset(
    {"delimiter", "find", "replace", "regex_pattern", "key", "filename_prefix", "system_prompt", "negative_prompt"}
)
_SAMPLER_PARTS = frozenset({"CONDITIONING", "GUIDER", "NOISE", "SIGMAS"})
_TEXT_TYPES = frozenset({"STRING", "*", "COMFY_MATCHTYPE_V3"})


class Trace:
    """A prompt with what is known of its classes, ready to be followed.

    Attributes:
        live: the ids of the nodes that run, in the order of the file: what an output needs, inactive branches left out.
        consumers: for each node the inputs that it feeds, with the slot; see `prompt.consumers`.
    """

    def __init__(self, prompt: Prompt, schemas: NodeSchemas) -> None:
        self.prompt = prompt
        self.schemas = schemas
        self.consumers = consumers(prompt)
        self._inputs: dict[str, dict[str, InputSpec]] = {}
        self._settled: dict[Link, Link] = {}
        self._literal: dict[InputRef, InputRef | None] = {}
        self.live = self._living()

    def schema(self, node_id: str) -> NodeSchema | None:
        """What is known of a node's class; None where nothing is."""
        return self.schemas.get(self.prompt.nodes[node_id].class_type)

    def inputs(self, node_id: str) -> Mapping[str, InputSpec]:
        """The inputs that the node has as it is set, parts of dynamic ones included, by full name."""
        if node_id not in self._inputs:
            schema = self.schema(node_id)
            self._inputs[node_id] = live_inputs(schema, self.prompt.nodes[node_id].inputs) if schema else {}
        return self._inputs[node_id]

    def spec(self, ref: InputRef) -> InputSpec | None:
        """What is known of an input; None where nothing is."""
        return self.inputs(ref.node).get(ref.input)

    def outputs(self, node_id: str) -> frozenset[str]:
        """The types that a node gives out."""
        schema = self.schema(node_id)
        return frozenset(output.type for output in schema.outputs) if schema else frozenset()

    def settled(self, link: Link) -> Link:
        """Where a wire really comes from: through switches with a known setting and nodes that only show."""
        walked: list[Link] = []
        while link not in self._settled and len(walked) <= len(self.prompt.nodes):
            walked.append(link)
            node = self.prompt.nodes.get(link.node)
            held = self._passed(link.node, node) if node else None
            value = node.inputs.get(held) if node and held else None
            if not isinstance(value, Link):
                break
            link = value
        end = self._settled.get(link, link)
        self._settled.update(dict.fromkeys(walked, end))
        return end

    def literal(self, ref: InputRef) -> InputRef | None:
        """The input whose value decides ``ref``: itself, or a wired value node's; None where it is computed."""
        walked: list[InputRef] = []
        found: InputRef | None = None
        while len(walked) <= len(self.prompt.nodes):
            if ref in self._literal:
                found = self._literal[ref]
                break
            walked.append(ref)
            node = self.prompt.nodes.get(ref.node)
            value = node.inputs.get(ref.input, _ABSENT) if node else _ABSENT
            if not isinstance(value, Link):
                found = None if value is _ABSENT else ref
                break
            source = self.settled(value)
            feeder = self.prompt.nodes.get(source.node)
            held = (VALUE_NODES.get(feeder.class_type) or self._passed(source.node, feeder)) if feeder else None
            if held is None:
                break
            ref = InputRef(source.node, held)
        self._literal.update(dict.fromkeys(walked, found))
        return found

    def value(self, ref: InputRef) -> JSON:
        """The value that decides ``ref``, unwrapped; None where it is computed."""
        found = self.literal(ref)
        value = self.prompt.nodes[found.node].inputs[found.input] if found else None
        return value["__value__"] if isinstance(value, dict) and "__value__" in value else value

    def texts(self, ref: InputRef) -> tuple[InputRef, ...]:
        """Every literal text that goes into ``ref``: its own, or what text nodes (joining, rewriting) are given."""
        found: dict[InputRef, None] = {}
        seen: set[str] = set()
        stack = [ref]
        while stack:
            at = stack.pop()
            value = self.prompt.nodes[at.node].inputs.get(at.input)
            if isinstance(value, Link):
                source = self.settled(value).node
                if source not in seen:
                    seen.add(source)
                    stack.extend(reversed(list(self._text_inputs(source))))
            elif isinstance(value, str):
                found[at] = None
        return tuple(found)

    def encoders(self, ref: InputRef) -> tuple[str, ...]:
        """The nodes that turn text into the conditioning that goes into ``ref``, through what lies between."""
        found: dict[str, None] = {}
        seen: set[Link] = set()
        first = self.prompt.nodes[ref.node].inputs.get(ref.input)
        stack = [first] if isinstance(first, Link) else []
        while stack:
            link = self.settled(stack.pop())
            if link in seen:
                continue
            seen.add(link)
            node = self.prompt.nodes[link.node]
            if node.class_type == "ConditioningZeroOut":
                continue  # says nothing, whatever text it is given
            if any(spec.type == "STRING" for spec in self.inputs(link.node).values()):
                found[link.node] = None
            stack.extend(reversed(list(self._conditionings(link))))
        return tuple(found)

    def latent_sources(self, ref: InputRef) -> tuple[str, ...]:
        """The nodes on the way back along the latents that go into ``ref``, nearest first."""
        return self.sources(ref, "LATENT")

    def sources(self, ref: InputRef, kind: str) -> tuple[str, ...]:
        """The nodes on the way back from ``ref`` along wires of one type ("MODEL"), nearest first."""
        found: dict[str, None] = {}
        first = self.prompt.nodes[ref.node].inputs.get(ref.input)
        stack = [first] if isinstance(first, Link) else []
        while stack:
            source = self.settled(stack.pop()).node
            if source in found:
                continue
            found[source] = None
            for name, spec in self.inputs(source).items():
                value = self.prompt.nodes[source].inputs.get(name)
                if isinstance(value, Link) and kind in spec.types:
                    stack.append(value)
        return tuple(found)

    @cached_property
    def prompted(self) -> tuple[str, ...]:
        """The nodes that run, without samplers (and their schedules, guiders, noises) that no text reaches.

        Such samplers work out a depth map or the like; where no sampler has a text, all nodes are here.
        """
        samplers: dict[str, bool] = {}
        parts: dict[str, set[str]] = {}
        for node_id in self.live:
            inputs = self.inputs(node_id)
            if "LATENT" in self.outputs(node_id) and any(s.types & _SAMPLER_PARTS for s in inputs.values()):
                parts[node_id] = self.sampler_parts(node_id)
                samplers[node_id] = any(
                    self.encoders(InputRef(part, name))
                    for part in parts[node_id]
                    for name, spec in self.inputs(part).items()
                    if "CONDITIONING" in spec.types
                )
        if not any(samplers.values()):
            return self.live
        kept = {part for node_id, texts in samplers.items() if texts for part in parts[node_id]}
        left = {part for node_id, texts in samplers.items() if not texts for part in parts[node_id]} - kept
        return tuple(node_id for node_id in self.live if node_id not in left)

    def sampler_parts(self, node_id: str) -> set[str]:
        """A sampler and what steers it: its guider, noise and schedule."""
        found = {node_id}
        stack = [node_id]
        while stack:
            at = stack.pop()
            for name, spec in self.inputs(at).items():
                value = self.prompt.nodes[at].inputs.get(name)
                if isinstance(value, Link) and spec.types & _SAMPLER_PARTS - {"CONDITIONING"}:
                    source = self.settled(value).node
                    if source not in found:
                        found.add(source)
                        stack.append(source)
        return found

    def _conditionings(self, link: Link) -> Iterator[Link]:
        """The conditioning wires into a node that end in its output ``link.slot``: paired by name where several."""
        schema, node = self.schema(link.node), self.prompt.nodes[link.node]
        wires = {
            name: value
            for name, spec in self.inputs(link.node).items()
            if "CONDITIONING" in spec.types and isinstance(value := node.inputs.get(name), Link)
        }
        wanted = schema.outputs[link.slot].name if schema and 0 <= link.slot < len(schema.outputs) else ""
        if wanted in wires:
            yield wires[wanted]
        else:
            yield from wires.values()

    def _text_inputs(self, node_id: str) -> Iterator[InputRef]:
        node = self.prompt.nodes[node_id]
        for name, spec in self.inputs(node_id).items():
            texty = not spec.types.isdisjoint(_TEXT_TYPES)
            # What is put in the place of a mark is steering where it is typed in, and a text where it is wired.
            wired = last_part(name) == "replace" and isinstance(node.inputs.get(name), Link)
            if texty and name in node.inputs and (wired or last_part(name) not in _STEERING):
                yield InputRef(node_id, name)

    def _passed(self, node_id: str, node: PromptNode) -> str | None:
        """The input whose value the node gives out unchanged; None where it does more than that."""
        if node.class_type == _SWITCH:
            setting = self.value(InputRef(node_id, "switch"))
            return None if not isinstance(setting, bool) else "on_true" if setting else "on_false"
        return _PASSES.get(node.class_type)

    def _living(self) -> tuple[str, ...]:
        roots = [n for n in self.prompt.nodes if (schema := self.schema(n)) is not None and schema.output_node]
        reached: set[str] = set()
        stack = roots or list(self.prompt.nodes)
        while stack:
            node_id = stack.pop()
            if node_id in reached or node_id not in self.prompt.nodes:
                continue
            reached.add(node_id)
            node = self.prompt.nodes[node_id]
            passed = self._passed(node_id, node) if node.class_type == _SWITCH else None
            for name, link in node.links:
                if passed is None or name in {passed, "switch"}:
                    stack.append(link.node)
        return tuple(n for n in self.prompt.nodes if n in reached)


def last_part(name: str) -> str:
    """The own name of a part of a dynamic input: ``model.resolution`` -> ``resolution``."""
    return name.rpartition(".")[2]


def custom_title(prompt: Prompt, schemas: NodeSchemas, node_id: str) -> str:
    """The title that a person gave the node; empty where it is its class's own."""
    node = prompt.nodes[node_id]
    schema = schemas.get(node.class_type)
    own = {node.class_type, schema.display_name if schema else ""}
    return node.title if node.title and node.title not in own else ""
