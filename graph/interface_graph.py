"""The interface that a prompt shows without being marked: prompts, pictures, seeds, sizes, and what is saved.

Every rule follows wires and types, not node ids or titles of some template: the text that ends in a sampler's
``positive`` is the prompt, whatever lies between. Titles only choose among several texts, and names.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass

from .files import file_kind
from .interface import Parameter, ParameterType
from .interface_fields import parameter_for
from .interface_names import Names, identifier, title_name
from .interface_outputs import graph_outputs
from .jsontext import JSON
from .prompt import InputRef, Link, Prompt
from .schemas import NodeSchemas
from .tracing import VALUE_NODES, Trace, custom_title, last_part

__all__ = ["graph_outputs", "graph_parameters", "roles"]

_ORDER = [
    "prompt",
    "negative_prompt",
    "text",
    "image",
    "mask",
    "video",
    "audio",
    "file",
    "seed",
    "steps",
    "cfg",
    "guidance",
    "strength",
    "width",
    "height",
    "aspect_ratio",
    "resolution",
    "megapixels",
    "size",
    "length",
    "duration",
    "fps",
    "batch_size",
    "lora_strength",
    "control_strength",
]
# Roles whose inputs share one parameter where their saved values are the same.
_SHARED = frozenset(
    [
        "prompt",
        "negative_prompt",
        "seed",
        "steps",
        "cfg",
        "guidance",
        "strength",
        "width",
        "height",
        "length",
        "fps",
        "batch_size",
    ]
)
_NEGATIVE = frozenset({"negative", "negative_prompt", "uncond", "negative_conditioning"})
_ONE_PROMPT = frozenset(
    ["text", "text_g", "text_l", "prompt", "clip_l", "clip_g", "t5xxl", "llama", "bert", "mt5xl"]
)  # of text encoders
_LONG = 1500  # characters beyond which a text is more likely an instruction to a language model than a prompt
_MADE = frozenset({"LATENT", "NOISE", "GUIDER", "SIGMAS"})
_MEDIA = frozenset({"IMAGE", "VIDEO", "AUDIO", "SVG", "MESH", "FILE_3D"})


@dataclass(frozen=True, slots=True)
class Role:
    """An input that a caller would want to set, and what for.

    Attributes:
        prefer: a better name where several inputs have the role.
        decides: the input that ``ref`` decides, where that is another node's.
    """

    name: str
    ref: InputRef
    prefer: str = ""
    decides: InputRef | None = None


def graph_parameters(prompt: Prompt, schemas: NodeSchemas) -> tuple[Parameter, ...]:
    """The parameters that a person would expect, texts first, then files, then numbers."""
    trace = Trace(prompt, schemas)
    found = list(roles(trace))
    found.sort(key=lambda role: (_rank(role), _number_in(role.prefer)))
    names = Names()
    parameters = []
    often = Counter(role.name for role in found)
    for group in _groups(trace, found):
        first = group[0]
        several = often[first.name] > len(group)
        wanted = first.prefer if several and first.prefer else first.name
        title = custom_title(prompt, schemas, first.ref.node)
        name = names.take(wanted, title=title, node_id=first.ref.node)
        also = tuple(role.ref for role in group[1:])
        parameter = parameter_for(trace, first.ref, name, also=also, decides=first.decides)
        if parameter is not None:
            parameters.append(parameter)
    return tuple(parameters)


def _rank(role: Role) -> int:
    name = role.name if role.name in _ORDER else role.name.partition("_")[0]
    return _ORDER.index(name) if name in _ORDER else len(_ORDER)


def _number_in(name: str) -> int:
    """The number that a name ends with, so that ``image1`` comes before ``image2`` whichever was made first."""
    digits = name[len(name.rstrip("0123456789")) :]
    return int(digits[:6]) if digits else -1


def roles(trace: Trace) -> Iterator[Role]:
    """Every input with a role, each input once, in the order of the rules."""
    seen: set[InputRef] = set()
    for rule in (_prompts, _files, _seeds, _sampling, _strengths, _sizes, _requests, _titled_values):
        for role in rule(trace):
            if role.ref not in seen:
                seen.add(role.ref)
                yield role


def _groups(trace: Trace, found: list[Role]) -> list[list[Role]]:
    """The roles, those of one name and one saved value together where sharing makes sense."""
    groups: list[list[Role]] = []
    by_value: dict[tuple[str, str], list[Role]] = {}
    for role in found:
        key = (role.name, repr(trace.value(role.ref)))
        if role.name in _SHARED and key in by_value:
            by_value[key].append(role)
        else:
            by_value[key] = [role]
            groups.append(by_value[key])
    return groups


def _prompts(trace: Trace) -> Iterator[Role]:
    """Texts that end in a sampler's, guider's or detector's conditioning."""
    done: set[InputRef] = set()
    for negative in (False, True):  # a text that serves both is the prompt
        for node_id in trace.live:
            if "CONDITIONING" in trace.outputs(node_id):
                continue
            for name, spec in trace.inputs(node_id).items():
                if "CONDITIONING" not in spec.types or (last_part(name) in _NEGATIVE) is not negative:
                    continue
                if name == "cond2":  # the middle one of three: the negative text with the reference pictures
                    continue
                for encoder in trace.encoders(InputRef(node_id, name)):
                    for role in _encoder_texts(trace, encoder, "negative_prompt" if negative else "prompt"):
                        if role.ref not in done and not (negative and _says_nothing(trace, node_id, role.ref)):
                            done.add(role.ref)
                            yield role


def _says_nothing(trace: Trace, sampler: str, ref: InputRef) -> bool:
    """Whether a negative text is empty and would not count either: at cfg 1 it is not even looked at."""
    return not str(trace.value(ref) or "").strip() and trace.value(InputRef(sampler, "cfg")) == 1


def _encoder_texts(trace: Trace, node_id: str, role: str) -> Iterator[Role]:
    """The texts of one text encoder: what its inputs (CLIP-L, T5, ...) share is one, each that differs is its own."""
    values: dict[str, InputRef] = {}
    for name, spec in trace.inputs(node_id).items():
        if spec.type != "STRING":
            continue
        ref = _user_text(trace, InputRef(node_id, name))
        if ref is None:
            continue
        own = last_part(name)
        if own not in _ONE_PROMPT:
            yield Role("negative_prompt" if own in _NEGATIVE else identifier(own, "text"), ref)
            continue
        values[own] = ref
    main = next((own for own in ("text", "prompt", "t5xxl", "text_g") if own in values), next(iter(values), None))
    if main is None:
        return
    said = trace.value(values[main])
    yield Role(role, values[main])
    for own, ref in values.items():
        if own != main and ref != values[main]:
            same = trace.value(ref) == said
            yield Role(role if same else f"{role}_{own}", ref)


def _user_text(trace: Trace, ref: InputRef) -> InputRef | None:
    """Of all texts that go into an input the one that its user writes; None where nothing is literal."""
    texts = trace.texts(ref)
    return max(texts, key=lambda at: _likeness(trace, at)) if texts else None


def _likeness(trace: Trace, ref: InputRef) -> int:
    """How much a text looks like what a user writes rather than a system prompt, a template or a separator."""
    title = (trace.prompt.nodes[ref.node].title or "").lower()
    text = str(trace.value(ref))
    score = 10 if last_part(ref.input) in {"prompt", "text", "value"} else 0
    score += 50 if "user" in title else 0
    score += 20 if "prompt" in title else 0
    score -= 100 if "system" in title or "instruction" in title else 0
    score -= 60 if "template" in title and "user" not in title else 0
    score -= 40 if len(text) > _LONG else 0
    return score - (15 if not text.strip() else 0)


def _files(trace: Trace) -> Iterator[Role]:
    """Pictures, masks, videos and sounds that are loaded by name.

    Those of a branch that does not run too: a server looks for everything that an output names.
    """
    live = set(trace.live)
    for node_id, node in trace.prompt.nodes.items():
        if node_id not in live and node_id not in trace.consumers:
            continue
        for name, value in node.inputs.items():
            kind = file_kind(node, name, trace.schemas)
            if kind is None or not isinstance(value, str) or not value:
                continue
            parameter = parameter_for(trace, InputRef(node_id, name), kind)
            if parameter is not None:
                yield Role(parameter.type.value, InputRef(node_id, name), _fed(trace, node_id, parameter.type))


_PLAIN = frozenset(
    ["image", "images", "pixels", "mask", "video", "audio", "file", "input", "source", "on_true", "on_false", "value"]
)


def _fed(trace: Trace, node_id: str, kind: ParameterType) -> str:
    """A name from what a loaded file goes into (``start_image``); empty where that says nothing."""
    for ref, _ in trace.consumers.get(node_id, ()):
        own = last_part(ref.input)
        own = "" if own in _PLAIN else identifier(own, "")
        if own:
            return own if kind.value in own or "frame" in own else f"{own}_{kind.value}"
    return ""


def _seeds(trace: Trace) -> Iterator[Role]:
    """Seeds of what makes pictures; of other nodes (language models) only where there is none of these."""
    makers: list[Role] = []
    others: list[Role] = []
    mains = trace.prompted
    for node_id in trace.live:
        for name, spec in trace.inputs(node_id).items():
            if last_part(name) not in {"seed", "noise_seed"} or spec.type != "INT" or _adds_no_noise(trace, node_id):
                continue
            ref = trace.literal(InputRef(node_id, name))
            if ref is not None:
                made = trace.outputs(node_id)
                main = made & (_MADE | _MEDIA) and node_id in mains
                role = Role("seed", ref, decides=InputRef(node_id, name))
                (makers if main else others).append(role)
    yield from makers or others[:1]


def _adds_no_noise(trace: Trace, node_id: str) -> bool:
    return trace.value(InputRef(node_id, "add_noise")) in {"disable", False} and "add_noise" in trace.inputs(node_id)


def _sampling(trace: Trace) -> Iterator[Role]:
    """Steps, cfg, guidance, and how much of a given picture is repainted."""
    wanted = {"steps": ("steps", _MADE), "cfg": ("cfg", _MADE), "guidance": ("guidance", frozenset({"CONDITIONING"}))}
    masked = _has_masked_latent(trace)
    for node_id in trace.prompted:
        made = trace.outputs(node_id)
        for name in trace.inputs(node_id):
            role, types = wanted.get(name, ("", frozenset()))
            if role and made & types:
                yield from _literal_role(trace, role, InputRef(node_id, name))
            if name == "denoise" and made & _MADE and _repaints(trace, InputRef(node_id, name), masked):
                yield from _literal_role(trace, "strength", InputRef(node_id, name))


def _repaints(trace: Trace, ref: InputRef, masked: bool) -> bool:
    """Whether ``denoise`` says how much of a picture is repainted: it is below 1, or a latent is masked."""
    value = trace.value(ref)
    return masked or (isinstance(value, int | float) and value < 1)


def _has_masked_latent(trace: Trace) -> bool:
    return any(
        "LATENT" in trace.outputs(node_id) and isinstance(trace.prompt.nodes[node_id].inputs.get("mask"), Link)
        for node_id in trace.live
    )


def _strengths(trace: Trace) -> Iterator[Role]:
    """How strongly LoRAs and control networks work."""
    for node_id in trace.live:
        node = trace.prompt.nodes[node_id]
        inputs = trace.inputs(node_id)
        if "lora_name" in inputs and "strength_model" in inputs:
            stem = str(trace.value(InputRef(node_id, "lora_name")) or "").replace("\\", "/").rpartition("/")[2]
            prefer = f"{identifier(stem.rpartition('.')[0], 'lora')[:32].strip('_')}_strength"
            for role in _literal_role(trace, "lora_strength", InputRef(node_id, "strength_model")):
                yield Role(role.name, role.ref, prefer)
        elif ("control_net" in inputs and "strength" in inputs and "CONDITIONING" in trace.outputs(node_id)) or (
            node.class_type.startswith("QwenImageDiffsynthControlnet") and "strength" in inputs
        ):
            yield from _literal_role(trace, "control_strength", InputRef(node_id, "strength"))


def _sizes(trace: Trace) -> Iterator[Role]:
    """Width, height, length and batch of the first latent (or of an empty picture), wherever they are said again."""
    sources = [n for n in trace.live if "LATENT" in trace.outputs(n)]
    sources += [n for n in trace.live if not any(True for _ in trace.prompt.nodes[n].links)]
    said: dict[str, JSON] = {}
    for node_id in dict.fromkeys(sources):
        inputs = trace.inputs(node_id)
        if not {"width", "height"} <= inputs.keys() or not trace.outputs(node_id) & {"LATENT", "IMAGE"}:
            continue
        for name, role in (
            ("width", "width"),
            ("height", "height"),
            ("length", "length"),
            ("batch_size", "batch_size"),
        ):
            for found in _literal_role(trace, role, InputRef(node_id, name)):
                said.setdefault(role, trace.value(found.ref))
                yield found
        yield from _computed_size(trace, node_id)
    yield from _said_again(trace, said)


def _computed_size(trace: Trace, node_id: str) -> Iterator[Role]:
    """Where another node works out the size from a ratio: that node's own settings."""
    value = trace.prompt.nodes[node_id].inputs.get("width")
    if not isinstance(value, Link):
        return
    source = trace.settled(value).node
    for name in ("aspect_ratio", "megapixels", "resolution"):
        if name in trace.inputs(source):
            yield from _literal_role(trace, name, InputRef(source, name))


def _said_again(trace: Trace, said: dict[str, JSON]) -> Iterator[Role]:
    """Other nodes' width and height, where both are the latent's: they are meant to stay the same."""
    if "width" not in said or "height" not in said:
        return
    for node_id in trace.live:
        refs = [trace.literal(InputRef(node_id, name)) for name in ("width", "height")]
        if refs[0] and refs[1] and [trace.value(r) for r in refs if r] == [said["width"], said["height"]]:
            yield Role("width", refs[0], decides=InputRef(node_id, "width"))
            yield Role("height", refs[1], decides=InputRef(node_id, "height"))


# What nodes call the text that they are asked with.
_ASKED = {"prompt": "prompt", "negative_prompt": "negative_prompt", "text": "prompt", "prompt_text": "prompt"}


def _requests(trace: Trace) -> Iterator[Role]:
    """What nodes that ask a model for something themselves (partner nodes, language models) are told."""
    for node_id in trace.live:
        schema = trace.schema(node_id)
        made = trace.outputs(node_id)
        if schema is None or "CONDITIONING" in made or not (schema.api_node or "prompt" in trace.inputs(node_id)):
            continue
        for name, spec in trace.inputs(node_id).items():
            own, ref = last_part(name), InputRef(node_id, name)
            if spec.type == "STRING" and (own in _ASKED or (schema.api_node and spec.multiline)):
                text = _user_text(trace, ref)
                if text is not None and "system" not in own:
                    negative = own in _NEGATIVE or "negative" in own
                    yield Role("negative_prompt" if negative else _ASKED.get(own) or identifier(own, "text"), text)
            elif schema.api_node and own in {"aspect_ratio", "resolution", "size", "duration", "width", "height"}:
                yield from _literal_role(trace, own, ref)


def _titled_values(trace: Trace) -> Iterator[Role]:
    """Value nodes that a person gave a title: they were put there to be set."""
    for node_id in trace.live:
        held = VALUE_NODES.get(trace.prompt.nodes[node_id].class_type)
        title = custom_title(trace.prompt, trace.schemas, node_id)
        if held and title and "system" not in title.lower() and "template" not in title.lower():
            ref = InputRef(node_id, held)
            if trace.literal(ref) == ref:
                yield Role(title_name(title), ref)


def _literal_role(trace: Trace, role: str, ref: InputRef) -> Iterator[Role]:
    found = trace.literal(ref)
    if found is not None:
        yield Role(role, found, decides=ref)
