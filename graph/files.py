"""Files by name in a prompt: which it reads, which it writes, and that none of them lies outside the server's folders.

One home for these rules: a served prompt must never read or write beyond the input and output folders, whatever the
engine's own checks are. Sources: ComfyUI ``folder_paths.py`` (``annotated_filepath``, ``get_save_image_path``).
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Literal

from .errors import PromptError
from .jsontext import JSON, short
from .markers import is_marker
from .prompt import InputRef, Link, Prompt, PromptNode
from .schemas import NodeSchemas

FileKind = Literal["image", "mask", "video", "audio", "file"]

MAX_NAME = 1000
"""Characters of a path below the input or output folder; file systems take 255 bytes for each part."""

MAX_PART_BYTES = 255
"""Bytes of one part of a path (ext4, APFS, NTFS)."""

MODEL_INPUTS: Mapping[str, str] = {
    "ckpt_name": "checkpoints",
    "unet_name": "diffusion_models",
    "model_name": "diffusion_models",
    "vae_name": "vae",
    "clip_name": "text_encoders",
    "clip_name1": "text_encoders",
    "clip_name2": "text_encoders",
    "clip_name3": "text_encoders",
    "clip_name4": "text_encoders",
    "lora_name": "loras",
    "control_net_name": "controlnet",
    "style_model_name": "style_models",
    "name": "model_patches",
}
"""Inputs of loaders that name a file of weights: input -> the folder below models/ that it is looked for in."""

# Inputs of the core that name a file although their schema has no upload flag.
_READERS: dict[tuple[str, str], FileKind] = {
    ("LoadImage", "image"): "image",
    ("LoadImageMask", "image"): "mask",
    ("LoadImageOutput", "image"): "image",
    ("LoadAudio", "audio"): "audio",
    ("LoadVideo", "file"): "video",
    ("Load3D", "model_file"): "file",
    ("Load3DAdvanced", "model_file"): "file",
    ("Load3DAnimation", "model_file"): "file",
    ("LoadLatent", "latent"): "file",
    ("GeminiInputFiles", "file"): "file",
    ("OpenAIInputFiles", "file"): "file",
}
# Inputs of the core that name a folder or the start of a file name to write, or a folder below input/ to read.
_FOLDERS = frozenset({"folder", "folder_name"})
_PREFIXES = frozenset({"filename_prefix", "folder_name"})
_MORE_PREFIXES = frozenset({("SaveLoRA", "prefix"), ("SaveLoRANode", "prefix")})
# Texts that pass through unchanged, so that a wired file name can be judged before it runs.
_LITERALS = {"PrimitiveString": "value", "PrimitiveStringMultiline": "value", "PrimitiveNode": "value"}

_RESERVED = re.compile(r"(con|prn|aux|nul|conin\$|conout\$|com[0-9¹²³]|lpt[0-9¹²³])(\..*)?", re.IGNORECASE)
_ANNOTATION = re.compile(r"\s*\[(input|output|temp)\]$", re.IGNORECASE)
_TOKEN = re.compile(r"%(?:date:[\w\- .]*|[^%/\\:]*)%")  # a colon only where the front end puts a date


@dataclass(frozen=True, kw_only=True, slots=True)
class InputFileRef:
    """A file that a prompt reads: ``name`` lies below the input folder, "/" between its parts."""

    ref: InputRef
    name: str
    kind: FileKind


def input_files(prompt: Prompt, schemas: NodeSchemas) -> tuple[InputFileRef, ...]:
    """Every file below the input folder that the prompt reads by name, in the order of the file.

    Raises:
        PromptError: a name that leads outside the input folder, with node and input.
    """
    found = []
    for node_id, node in prompt.nodes.items():
        for name, kind, value in _readers(node, schemas):
            if isinstance(value, Link) or value is None or value == "" or _elsewhere(value):
                continue
            reason = file_name_fault(value)
            if reason is not None:
                raise _fault(node_id, node, name, reason)
            found.append(InputFileRef(ref=InputRef(node_id, name), name=plain_file_name(value), kind=kind))
    return tuple(found)


def check_files(prompt: Prompt, schemas: NodeSchemas, *, only_input: bool = False) -> None:
    """Raise `PromptError`, naming node and input, where a prompt reads or writes outside the server's folders.

    Args:
        only_input: refuse ``x.png [output]`` and ``[temp]`` too. They lie in the server's folders, but a server that
            runs the prompts of several callers must not show one the results of another.
    """
    for node_id, node in prompt.nodes.items():
        for name, _, value in _readers(node, schemas):
            for literal in _literals(prompt, value):
                if literal in (None, "") and _may_be_absent(node, name, schemas):
                    continue
                reason = file_name_fault(literal, only_input=only_input)
                if reason is not None:
                    raise _fault(node_id, node, name, reason)
        for name, value in node.inputs.items():
            if name in _PREFIXES or name in _FOLDERS or (node.class_type, name) in _MORE_PREFIXES:
                for literal in _literals(prompt, value):
                    reason = prefix_fault(literal)
                    if reason is not None:
                        raise _fault(node_id, node, name, reason)


def file_name_fault(name: JSON, *, only_input: bool = True) -> str | None:
    """Why ``name`` is no file below the input folder; None where it is one.

    ``sub/x.png`` and ``x.png [input]`` are; ``../x``, ``/x``, ``C:x``, ``a\\b``, ``.`` and device names are not, and
    ``x [output]`` and ``x [temp]`` only where not ``only_input``. The same answer whether such a file exists or not.
    """
    if not isinstance(name, str):
        return f"must be a file name, not {short(name)}"
    annotation = _ANNOTATION.search(name)
    if annotation and annotation[1] != "input":
        if not only_input and annotation[1] in {"output", "temp"}:
            return file_name_fault(name[: annotation.start()])
        return f"{short(name)} is not in the input folder; copy the file there"
    plain = plain_file_name(name)
    if not plain.strip():
        return "names no file"
    fault = _path_fault(plain)
    if fault is None and plain.endswith("/"):
        fault = "names a folder"
    return None if fault is None else f"{short(name)} {fault}; name a file in the input folder"


def plain_file_name(name: str) -> str:
    """A file name without ComfyUI's ``[input]`` mark."""
    return name[: -len("[input]")].rstrip() if name.endswith("[input]") else name


def prefix_fault(prefix: JSON) -> str | None:
    """Why a ``filename_prefix`` may write outside the output folder; None where it cannot.

    ``%date%`` and the like are judged as some text without a slash; what is left must be a relative path that never
    climbs. The empty prefix is fine.
    """
    if not isinstance(prefix, str):
        return None  # a number becomes its digits; a list or object is a wrong type, which the schema tells
    if prefix == "":
        return None
    fault = _path_fault(_TOKEN.sub("x", prefix), prefix=True)
    return None if fault is None else f"{short(prefix)} {fault}; name a place in the output folder"


def _path_fault(path: str, *, prefix: bool = False) -> str | None:
    if len(path) > MAX_NAME:
        return "is too long for a file name"
    if any(ord(c) < 32 or ord(c) == 127 for c in path):
        return "has control characters"
    if "\\" in path:
        return "has a backslash"
    if path.startswith(("/", "~")):
        return "is an absolute path"
    if ":" in path:
        return "has a colon (a drive or a stream on Windows)"
    parts = path.split("/")
    if any(part.strip(" .") == "" and "." in part for part in parts):
        return "leads out of the folder" if any(part.strip() == ".." for part in parts) else "names a folder, no file"
    if not prefix and any(part == "" for part in parts[:-1]):
        return "has an empty part"
    if any(len(part.encode("utf-8", "replace")) > MAX_PART_BYTES for part in parts):
        return f"has a part of more than {MAX_PART_BYTES} bytes"
    if any(_RESERVED.fullmatch(part.strip()) for part in parts):
        return "names a device"
    return None


def file_kind(node: PromptNode, name: str, schemas: NodeSchemas) -> FileKind | None:
    """The kind of file that an input names; None where it names none.

    Interface markers name files for `bind`, which checks them: their inputs are none here.
    """
    if is_marker(node.class_type):
        return None
    schema = schemas.get(node.class_type)
    spec = schema.input(name) if schema else None
    return _READERS.get((node.class_type, name)) or (spec.upload if spec else None)


def _readers(node: PromptNode, schemas: NodeSchemas) -> Iterator[tuple[str, FileKind, Link | JSON]]:
    for name, value in node.inputs.items():
        kind = file_kind(node, name, schemas)
        if kind:
            yield name, kind, value


def _literals(prompt: Prompt, value: Link | JSON) -> Iterator[JSON]:
    """The value itself, or what a wired text primitive holds; nothing where only running it can tell."""
    for _ in range(len(prompt.nodes)):
        if not isinstance(value, Link):
            break
        source = prompt.nodes.get(value.node)
        held = _LITERALS.get(source.class_type) if source else None
        if source is None or held is None:
            return
        value = source.inputs.get(held)
    if isinstance(value, dict) and "__value__" in value:
        value = value["__value__"]
    if not isinstance(value, Link):
        yield value


def _may_be_absent(node: PromptNode, name: str, schemas: NodeSchemas) -> bool:
    schema = schemas.get(node.class_type)
    spec = schema.input(name) if schema else None
    return spec is not None and (not spec.required or spec.type == "STRING")  # Painter's empty text: nothing is painted


def _elsewhere(value: JSON) -> bool:
    """Whether a name points into the server's own output or temporary folder: no file that can come along."""
    annotation = _ANNOTATION.search(value) if isinstance(value, str) else None
    return (
        annotation is not None and annotation[1] in {"output", "temp"} and not file_name_fault(value, only_input=False)
    )


def _fault(node_id: str, node: PromptNode, name: str, reason: str) -> PromptError:
    what, _, remedy = reason.partition("; ")
    return PromptError(what, node_id=node_id, class_type=node.class_type, input_name=name, remedy=remedy or None)
