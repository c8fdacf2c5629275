"""The model files that a prompt reaches: which inputs name one, of which of ComfyUI's folders, and where it can be had.

ComfyUI's schemas say that an input is a list of files, not of which folder; that is known here for the core's classes
(from their source, 0.3.64 and 0.33.0), told by the input's name for node packs that follow the core's habits, and found
by looking into all folders for the rest.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import PurePosixPath

from ..graph import GraphError, InputRef, Link, NodeSchemas, Prompt, PromptNode
from ..graph.markers import INPUT_MARKERS, OUTPUT_MARKERS, marker_value_input
from ..graph.prompt import topological_order
from .errors import MissingFile
from .fields import JSON
from .folders import MORE_EXTENSIONS, FoundModel, ModelFolders, canonical, filename_of
from .names import shown

# Inputs of the core whose name alone does not tell the folder.
_CORE: Mapping[tuple[str, str], str] = {
    ("AudioEncoderLoader", "audio_encoder_name"): "audio_encoders",
    ("CLIPVisionLoader", "clip_name"): "clip_vision",
    ("DiffusersLoader", "model_path"): "diffusers",
    ("FrameInterpolationModelLoader", "model_name"): "frame_interpolation",
    ("LTXAVTextEncoderLoader", "text_encoder"): "text_encoders",
    ("LatentUpscaleModelLoader", "model_name"): "latent_upscale_models",
    ("LoadBackgroundRemovalModel", "bg_removal_name"): "background_removal",
    ("LoadDA3Model", "model_name"): "geometry_estimation",
    ("LoadMediaPipeFaceLandmarker", "model_name"): "detection",
    ("LoadMoGeModel", "model_name"): "geometry_estimation",
    ("ModelPatchLoader", "name"): "model_patches",
    ("OpticalFlowLoader", "model_name"): "optical_flow",
    ("PhotoMakerLoader", "photomaker_model_name"): "photomaker",
    ("TrainLoraNode", "existing_lora"): "loras",
    ("UpscaleModelLoader", "model_name"): "upscale_models",
}
# Our own loaders list whole checkpoints and split models together, and name an encoder by its kind.
_OWN: Mapping[str, tuple[str, ...]] = {
    "model": ("diffusion_models", "checkpoints"),
    "control": ("controlnet", "model_patches", "loras"),
    "depth_model": ("depth_anything",),
    "pose_model": ("pose",),
    "detector": ("pose",),
    **dict.fromkeys(("clip_l", "clip_g", "clip_h", "t5xxl", "llama", "qwen_vl", "byt5"), ("text_encoders",)),
}
# Names of inputs that the core and nearly all node packs use for one folder only.
_HABITS: tuple[tuple[re.Pattern[str], str], ...] = tuple(
    (re.compile(pattern), key)
    for pattern, key in (
        (r"(base_|refiner_)?ckpt(_name)?(_?\d+)?|checkpoint(_name)?", "checkpoints"),
        (r"lora(_name)?(_?\d+)?|(lora|hook_lora)_name_?\d*", "loras"),
        (r"vae(_name)?(_?\d+)?", "vae"),
        (r"unet(_name)?(_?\d+)?|diffusion_model(_name)?", "diffusion_models"),
        (r"clip(_l|_g)?_name_?\d*|text_encoder(_name)?_?\d*|t5(_name)?", "text_encoders"),
        (r"clip_vision(_name)?(_?\d+)?", "clip_vision"),
        (r"(control_?net|cnet)(_name)?(_?\d+)?|control_net_name(_?\d+)?", "controlnet"),
        (r"style_model(_name)?", "style_models"),
        (r"gligen_name", "gligen"),
        (r"upscale_model(_name)?|upscaler(_name)?", "upscale_models"),
        (r"hypernetwork(_name)?", "hypernetworks"),
        (r"config_name", "configs"),
        (r"embedding(_name)?", "embeddings"),
    )
)
# Checkpoint configurations that are part of ComfyUI's own repository: no bundle needs to name them.
_SHIPPED_CONFIG = re.compile(
    r"(anything_v3|v1-inference.*|v1-inpainting-inference|v2-inference.*|v2-inpainting-inference)\.yaml"
)
_NO_MODEL = frozenset({"", "none", "[none]", "null", "disabled", "off", "auto", "automatic", "default", "baked vae"})
_BUILT_IN_VAES = frozenset({"pixel_space"})
_IMAGE_TAES = frozenset({"taesd", "taesdxl", "taesd3", "taef1", "taef2"})
_VIDEO_TAES = frozenset({"taehv", "lighttaew2_2", "lighttaew2_1", "lighttaehy1_5", "taeltx_2", "taeh3"})
_EMBEDDING = re.compile(r"(?:(?<=\s)|(?<=\()|^)embedding:([^\s<\[]+)", re.IGNORECASE)
_EMBEDDING_ENDINGS = ("", ".safetensors", ".pt", ".bin")
# Values that stand where a wire comes from, known before anything runs.
_LITERALS: Mapping[str, str] = {
    "PrimitiveString": "value",
    "PrimitiveStringMultiline": "value",
    "PrimitiveNode": "value",
    "CustomCombo": "choice",
}


@dataclass(frozen=True, kw_only=True, slots=True)
class ModelRef:
    """An input that names a model. ``folders`` are the keys it may mean, empty where nobody knows.

    ``required`` is false where ComfyUI goes on without the file (an embedding named in a text).
    """

    ref: InputRef
    class_type: str
    name: str
    folders: tuple[str, ...]
    required: bool = True


@dataclass(frozen=True, kw_only=True, slots=True)
class LocatedModel:
    """A model that a prompt reaches; ``found`` is None where no folder has it. ``filename`` is the snapshot's name."""

    refs: tuple[ModelRef, ...]
    filename: str
    found: FoundModel | None


def model_refs(prompt: Prompt, schemas: NodeSchemas) -> tuple[ModelRef, ...]:
    """Every input that names a model file, of the nodes that the prompt's outputs need, in the order of the file."""
    found: list[ModelRef] = []
    for node_id in reached_nodes(prompt, schemas):
        found.extend(_node_refs(prompt, node_id, prompt.nodes[node_id], schemas))
    return tuple(found)


def reached_nodes(prompt: Prompt, schemas: NodeSchemas) -> tuple[str, ...]:
    """The nodes that the prompt's outputs need, in the order of the file."""

    def is_root(node: PromptNode) -> bool:
        schema = schemas.get(node.class_type)
        # A class that no schema tells of may well be an output.
        return node.class_type in OUTPUT_MARKERS or (
            schema.output_node if schema else node.class_type not in INPUT_MARKERS
        )

    roots = [node_id for node_id, node in prompt.nodes.items() if is_root(node)]
    needed = frozenset(topological_order(prompt, roots or None))
    return tuple(node_id for node_id in prompt.nodes if node_id in needed)


def _node_refs(prompt: Prompt, node_id: str, node: PromptNode, schemas: NodeSchemas) -> Iterator[ModelRef]:
    schema = schemas.get(node.class_type)
    core = schema is not None and not schema.python_module.startswith("custom_nodes")
    for name, given in node.inputs.items():
        value = literal(prompt, given)
        spec = schema.input(name) if schema else None
        # A file to upload, and a list of constants, name no model.
        if spec is not None and (spec.upload or (spec.type == "COMBO" and not spec.open_choices)):
            continue
        folders = _folders_of(node.class_type, name) if spec is None or spec.type == "COMBO" else ()
        if node.class_type in INPUT_MARKERS:
            continue  # what they hold is judged where it is wired to
        for text in _texts(value):
            if folders and isinstance(value, str):
                if _is_model_name(text, folders, core=core):
                    yield _ref(node_id, name, node.class_type, text, folders)
            elif not core and _has_ending(text):
                # A node pack's own list, or a stack of LoRAs in one value.
                inner = ("loras",) if "lora" in name.lower() else folders
                yield _ref(node_id, name, node.class_type, text, inner)
            elif spec is None or spec.type == "STRING":
                for match in _EMBEDDING.finditer(text):
                    yield ModelRef(
                        ref=InputRef(node_id, name),
                        class_type=node.class_type,
                        name=match[1].rstrip(",.;:)").strip(","),
                        folders=("embeddings",),
                        required=False,
                    )


def _ref(node_id: str, name: str, class_type: str, text: str, folders: tuple[str, ...]) -> ModelRef:
    return ModelRef(ref=InputRef(node_id, name), class_type=class_type, name=text, folders=folders)


def literal(prompt: Prompt, value: Link | JSON) -> JSON:
    """The value, or what the marker or text primitive wired to it holds; None where only running it can tell."""
    for _ in range(len(prompt.nodes)):
        if not isinstance(value, Link):
            return value["__value__"] if isinstance(value, dict) and "__value__" in value else value
        source = prompt.nodes.get(value.node)
        if source is None:
            return None
        if source.class_type in INPUT_MARKERS:
            held = marker_value_input(source)
        else:
            held = _LITERALS.get(source.class_type, "")
        value = source.inputs.get(held)
    return None


def _folders_of(class_type: str, name: str) -> tuple[str, ...]:
    known = _CORE.get((class_type, name))
    if known:
        return (known,)
    if class_type.startswith("Atelier") and name in _OWN:
        return _OWN[name]
    # Dynamic inputs are written "group.name".
    plain = name.rsplit(".", 1)[-1].lower()
    found = next((key for pattern, key in _HABITS if pattern.fullmatch(plain)), None)
    if found is None:
        return ()
    return ("vae", "vae_approx") if found == "vae" else (found,)


def _is_model_name(text: str, folders: tuple[str, ...], *, core: bool) -> bool:
    if text.strip().lower() in _NO_MODEL or "\n" in text or len(text) > 1024:
        return False
    if folders[0] == "configs":
        return _SHIPPED_CONFIG.fullmatch(text) is None and text.lower().endswith((".yaml", ".yml"))
    if folders[0] == "vae" and text in _BUILT_IN_VAES:
        return False
    if core:
        return True
    return _has_ending(text) or (folders[0] == "vae" and text in _IMAGE_TAES)


def _has_ending(text: str) -> bool:
    return (
        len(text) <= 1024
        and "\n" not in text
        and PurePosixPath(text.replace("\\", "/")).suffix.lower() in MORE_EXTENSIONS
    )


def _texts(value: JSON) -> Iterator[str]:
    stack = [value]
    while stack:
        item = stack.pop()
        if isinstance(item, str):
            yield item
        elif isinstance(item, dict):
            # rgthree's and others' stacks mark an entry that is switched off.
            if item.get("on") is not False:
                stack.extend(reversed(list(item.values())))
        elif isinstance(item, list | tuple) and not isinstance(item, Link):
            stack.extend(reversed(list(item)))


def locate_models(
    refs: Iterable[ModelRef], folders: ModelFolders, hints: Mapping[str, str] | None = None
) -> tuple[LocatedModel, ...]:
    """Find each named model on the disk, by ComfyUI's rules, one entry for each file, sorted by filename.

    Args:
        hints: folder keys by model name, as the workflow's own ``properties.models`` states them.
    """
    found: dict[str, tuple[list[ModelRef], FoundModel | None]] = {}
    for ref in refs:
        located = _locate(ref, folders, (hints or {}).get(ref.name))
        if not located and not ref.required:
            continue
        for model in located:
            found.setdefault(model.filename, ([], model))[0].append(ref)
        if not located:
            found.setdefault(_expected(ref, (hints or {}).get(ref.name)), ([], None))[0].append(ref)
    return tuple(
        LocatedModel(refs=tuple(users), filename=name, found=model) for name, (users, model) in sorted(found.items())
    )


def _locate(ref: ModelRef, folders: ModelFolders, hint: str | None) -> list[FoundModel]:
    keys = [*([hint] if hint else []), *ref.folders]
    if "embeddings" in ref.folders:
        tries = [folders.find("embeddings", ref.name + ending) for ending in _EMBEDDING_ENDINGS]
        return [model for model in tries if model][:1]
    if "diffusers" in ref.folders:
        below = [name for name in folders.list("diffusers") if name.startswith(ref.name.strip("/") + "/")]
        return [model for name in below if (model := folders.find("diffusers", name))]
    if "vae" in ref.folders and ref.name in _IMAGE_TAES:
        parts = (f"{ref.name}_encoder.", f"{ref.name}_decoder.")
        names = [next((n for n in sorted(folders.list("vae_approx")) if n.startswith(part)), None) for part in parts]
        halves = [folders.find("vae_approx", name) for name in names if name]
        return [half for half in halves if half] if all(names) else []
    if "vae" in ref.folders and PurePosixPath(ref.name).stem in _VIDEO_TAES:
        keys.insert(0, "vae_approx")
    for key in keys:
        model = folders.find(key, ref.name)
        if model is not None:
            return [model]
    if ref.folders:
        return []
    anywhere = folders.find_anywhere(ref.name)
    return [model for _, model in anywhere[:1]]


def _expected(ref: ModelRef, hint: str | None) -> str:
    return filename_of(hint or (ref.folders[0] if ref.folders else "unknown"), ref.name)


def missing_model(model: LocatedModel, folders: ModelFolders, url: str | None = None) -> MissingFile:
    """The error that no folder has ``model``: names it, who wants it, where it was looked for and what to do."""
    ref = model.refs[0]
    searched = [path for key in ref.folders for path in folders.searched(key)]
    where = ", ".join(dict.fromkeys(str(path) for path in searched)) or "any folder of models"
    place = f"node {ref.ref.node} ({ref.class_type}), input '{ref.ref.input}'"
    if not folders.paths:
        where = "any folder, since none was named"
    put = f"put it into {model.filename.rsplit('/', 1)[0]}" + (f" (from {url})" if url else "")
    return MissingFile(
        f"{place}: the model {shown(ref.name)} is not in {where}",
        remedy=f"{put}, name its folder with --models or --comfyui, or pass --allow-missing-models",
    )


@dataclass(frozen=True, kw_only=True, slots=True)
class StatedModel:
    """What a workflow's node says of a model in its ``properties.models``: where to get it, its hash, its folder."""

    name: str
    url: str | None = None
    sha256: str | None = None
    directory: str | None = None


def stated_models(nodes: Iterable[Mapping[str, JSON]]) -> tuple[StatedModel, ...]:
    """Read ``properties.models`` of a workflow's nodes (JSON objects). What is malformed is passed over."""
    from .addresses import is_sha256, url_complaint

    found: dict[tuple[str, str | None], StatedModel] = {}
    for node in nodes:
        properties = node.get("properties")
        entries = properties.get("models") if isinstance(properties, dict) else None
        for entry in entries if isinstance(entries, list) else []:
            if not isinstance(entry, dict) or not isinstance(entry.get("name"), str):
                continue
            url, digest, directory = entry.get("url"), entry.get("hash"), entry.get("directory")
            kind = entry.get("hash_type", "SHA256")
            digest = digest.lower() if isinstance(digest, str) and str(kind).upper() == "SHA256" else None
            model = StatedModel(
                name=entry["name"],
                url=url if isinstance(url, str) and url_complaint(url) is None else None,
                sha256=digest if digest and is_sha256(digest) else None,
                directory=canonical(directory) if isinstance(directory, str) and directory.isidentifier() else None,
            )
            found.setdefault((model.name, model.directory), model)
    return tuple(found.values())


def checked_refs(prompt: Prompt, schemas: NodeSchemas, file: str | None = None) -> tuple[ModelRef, ...]:
    """`model_refs`, its errors naming ``file``."""
    try:
        return model_refs(prompt, schemas)
    except GraphError as error:
        raise error.at(file=file) from error.__cause__
