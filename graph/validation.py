"""What a server would refuse, said before it is asked: `check_prompt`.

Source: ComfyUI 0.33 ``execution.py`` (``validate_prompt``, ``validate_inputs``) and ``comfy_execution/validation.py``.
What ComfyUI accepts is accepted, with these exceptions, each of which would fail or do harm later: a wire in a circle,
to nowhere or from a slot that is not there, also where no output needs it; a negative slot (Python counts it from the
end); a JSON value where only a wire can bring what is needed; a choice that the node does not offer in an input that
ComfyUI leaves to the node; NaN as text; an output that fails while another would run; files outside the server's
folders (`files`).
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping

from .dynamic import COMBO as DYNAMIC_COMBO
from .dynamic import live_inputs
from .errors import PromptError
from .files import check_files
from .jsontext import JSON, MAX_INTEGER_BITS, short
from .prompt import Link, Prompt, PromptNode, topological_order
from .schemas import InputSpec, NodeSchema, NodeSchemas

ANY = "*"
MATCH = "COMFY_MATCHTYPE_V3"

# Types of the core that no JSON value can be: only a wire brings them. Node packs' types may have widgets of their own.
_WIRED_ONLY = frozenset(
    re.findall(
        r"\w+",
        """IMAGE MASK LATENT MODEL CLIP VAE CONDITIONING CLIP_VISION CLIP_VISION_OUTPUT CONTROL_NET STYLE_MODEL GLIGEN
        UPSCALE_MODEL SAMPLER SIGMAS NOISE GUIDER AUDIO VIDEO AUDIO_ENCODER AUDIO_ENCODER_OUTPUT HOOKS HOOK_KEYFRAMES
        PHOTOMAKER LORA_MODEL MODEL_PATCH LATENT_UPSCALE_MODEL MESH VOXEL SVG""",
    )
)
# Core nodes that judge an input themselves, so that the server checks neither its bounds nor its choices; "*" is all of
# them. From the VALIDATE_INPUTS / validate_inputs of ComfyUI 0.3.64 and 0.33.0.
_JUDGED_BY_NODE: Mapping[str, frozenset[str]] = {
    "LoadImage": frozenset({"image"}),
    "LoadImageMask": frozenset({"image"}),
    "LoadLatent": frozenset({"latent"}),
    "LoadVideo": frozenset({"file"}),
    "LoadAudio": frozenset({"audio"}),
    "Load3D": frozenset({"*"}),
    "Load3DAdvanced": frozenset({"*"}),
    "CustomCombo": frozenset({"*"}),
    "SelectModelDevice": frozenset({"device"}),
    "SelectCLIPDevice": frozenset({"device"}),
    "SelectVAEDevice": frozenset({"device"}),
    "ModelAttentionBackend": frozenset({"attention"}),
    "FluxProUltraImageNode": frozenset({"aspect_ratio"}),
}


def check_prompt(prompt: Prompt, schemas: NodeSchemas, *, only_input: bool = True) -> None:
    """Raise `PromptError`, naming node, class and input, where a server with these schemas would refuse the prompt.

    Classes, wires and files are checked in every node; values, types and what is required in the nodes that an output
    needs, as a server does it.

    Args:
        only_input: refuse files of the server's own output and temporary folders too; see `files.check_files`.
    """
    _check_classes(prompt, schemas)
    topological_order(prompt)
    for node_id, node in prompt.nodes.items():
        for name, link in node.links:
            _check_slot(prompt, schemas, node_id, node, name, link)
    check_files(prompt, schemas, only_input=only_input)
    outputs = [node_id for node_id, node in prompt.nodes.items() if schemas[node.class_type].output_node]
    if not outputs:
        raise PromptError(
            "the prompt has no output node", remedy="add one that saves or shows something, such as SaveImage"
        )
    for node_id in topological_order(prompt, outputs):
        _check_node(prompt, schemas, node_id)


def _check_classes(prompt: Prompt, schemas: NodeSchemas) -> None:
    missing: dict[str, str] = {}
    for node_id, node in prompt.nodes.items():
        if node.class_type not in schemas:
            missing.setdefault(node.class_type, node_id)
    if missing:
        class_type, node_id = next(iter(missing.items()))
        others = [short(name).strip('"') for name in missing][1:]
        raise PromptError(
            f"no node class {short(class_type)} is known"
            + (f", nor {', '.join(others[:10])}{' …' if len(others) > 10 else ''}" if others else ""),
            node_id=node_id,
            remedy="install the node pack it comes from, or give the schemas of a server that has it",
        )


def _check_slot(prompt: Prompt, schemas: NodeSchemas, node_id: str, node: PromptNode, name: str, link: Link) -> None:
    source = schemas[prompt.nodes[link.node].class_type]
    if not 0 <= link.slot < len(source.outputs):
        has = {0: "no outputs", 1: "1 output"}.get(len(source.outputs), f"{len(source.outputs)} outputs")
        raise PromptError(
            f"is wired to output {link.slot} of node {short(link.node)} ({source.class_type}), which has {has}",
            node_id=node_id,
            class_type=node.class_type,
            input_name=name,
        )


def _check_node(prompt: Prompt, schemas: NodeSchemas, node_id: str) -> None:
    node = prompt.nodes[node_id]
    schema = schemas[node.class_type]
    judged = _JUDGED_BY_NODE.get(node.class_type, frozenset())
    try:
        for name, spec in live_inputs(schema, node.inputs).items():
            if name not in node.inputs:
                if spec.required:
                    raise PromptError("the required input is missing", input_name=name)
                continue
            value = node.inputs[name]
            if isinstance(value, Link):
                if not _types_by_itself(schema):
                    _check_type(prompt, schemas, value, spec)
            else:
                _check_value(spec, value, judged=name in judged or ANY in judged)
    except PromptError as error:
        raise error.at(node_id=node_id, class_type=node.class_type) from None


def _types_by_itself(schema: NodeSchema) -> bool:
    """Whether the node judges its wires' types itself (``validate_inputs(input_types)``): Tripo's, in the core."""
    return schema.class_type in {"TripoConversionNode"}


def _check_type(prompt: Prompt, schemas: NodeSchemas, link: Link, spec: InputSpec) -> None:
    source = prompt.nodes[link.node]
    output = schemas[source.class_type].outputs[link.slot]
    if not types_match(output.type, spec.type):
        raise PromptError(
            f"takes {spec.type}, but output {link.slot} of node {short(link.node)} ({source.class_type}) gives "
            f"{output.type}",
            input_name=spec.name,
        )


def types_match(given: str, taken: str) -> bool:
    """Whether a wire of type ``given`` may go into an input of type ``taken``: "*" is any, "A,B" is either."""
    if given == taken or MATCH in {given, taken}:
        return True
    gives, takes = _parts(given), _parts(taken)
    return ANY in gives or ANY in takes or not gives.isdisjoint(takes)


def _parts(kind: str) -> frozenset[str]:
    return frozenset(part.strip() for part in kind.split(","))


def _check_value(spec: InputSpec, value: JSON, *, judged: bool) -> None:
    name = spec.name
    if isinstance(value, list):
        raise PromptError(
            f"{short(value)} is no wire: a wire is a node id and the number of one of its outputs",
            input_name=name,
            remedy='a list as a value is written {"__value__": [...]}',
        )
    if isinstance(value, Mapping) and "__value__" in value:
        value = value["__value__"]
    if spec.type in _WIRED_ONLY and not (value is None and not spec.required):
        raise PromptError(f"takes a wire of type {spec.type}, not the value {short(value)}", input_name=name)
    value = _converted(spec, value)
    if judged:
        return
    if isinstance(value, int | float):
        if spec.minimum is not None and value < spec.minimum:
            raise PromptError(f"{short(value)} is below its minimum {spec.minimum}", input_name=name)
        if spec.maximum is not None and value > spec.maximum:
            raise PromptError(f"{short(value)} is above its maximum {spec.maximum}", input_name=name)
    elif spec.minimum is not None or spec.maximum is not None:
        raise PromptError(f"must be a number, not {short(value)}", input_name=name)
    if spec.type in {"COMBO", DYNAMIC_COMBO}:
        _check_choice(spec, value)


def _converted(spec: InputSpec, value: JSON) -> JSON:
    """The value as the server turns it; `PromptError` where it cannot."""
    try:
        match spec.type:
            case "INT":
                value = int(value)
                if value.bit_length() > MAX_INTEGER_BITS:
                    raise OverflowError
            case "FLOAT":
                value = float(value)
                if not math.isfinite(value):
                    raise OverflowError
            case "STRING":
                value = str(value)
            case "BOOLEAN":
                value = bool(value)
    except (TypeError, ValueError, OverflowError):
        wanted = "a whole number" if spec.type == "INT" else "a number"
        raise PromptError(f"must be {wanted}, not {short(value)}", input_name=spec.name) from None
    return value


def _check_choice(spec: InputSpec, value: JSON) -> None:
    """Choices that depend on the machine's files are the engine's to judge; fixed ones are judged here."""
    if spec.choices is None or spec.open_choices:
        return
    several = value if isinstance(value, list) and spec.options.get("multiselect") else [value]
    for one in several:
        if one not in spec.choices:
            raise PromptError(f"{short(one)} is none of {_listed(spec.choices)}", input_name=spec.name)


def _listed(choices: Iterable[JSON]) -> str:
    texts = [short(choice, 40) for choice in choices]
    return ", ".join(texts[:12]) + (f" and {len(texts) - 12} more" if len(texts) > 12 else "")
