"""ComfyUI's own nodes and folders, called as they are: what our nodes give is what stock nodes wired by hand give.

The only module of the pack that reaches into ComfyUI besides ``comfy_api``; everything is looked up when it is
needed, so that one code base fits the V1 and V3 forms that the same node has in different versions.
"""

# mypy: disable-error-code="import-not-found, misc, no-any-return"
# Type checkers have no ComfyUI at hand: neither its modules nor its base classes are known to them.

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ..catalogue import Detection, HeaderError, detect
from .errors import NodeInputError


class _Stock:
    """ComfyUI's own nodes, for `catalogue.wiring`."""

    def __call__(self, class_type: str, **inputs: Any) -> tuple[Any, ...]:
        """Run one of ComfyUI's nodes and return its outputs; required inputs that only newer versions have take their
        defaults.
        """
        import nodes

        node = nodes.NODE_CLASS_MAPPINGS.get(class_type)
        if node is None:
            raise NodeInputError(f"this ComfyUI has no node '{class_type}'; update ComfyUI (0.3.64 or later)")
        for name, spec in node.INPUT_TYPES().get("required", {}).items():
            if name not in inputs:
                options = spec[1] if len(spec) > 1 else {}
                if "default" not in options:
                    raise NodeInputError(
                        f"'{class_type}' wants an input '{name}' in this version of ComfyUI; update the pack"
                    )
                inputs[name] = options["default"]
        if hasattr(node, "define_schema"):
            return tuple(node.execute(**inputs).result or ())
        result = getattr(node(), node.FUNCTION)(**inputs)
        return tuple(result["result"] if isinstance(result, dict) else result)

    def has_guidance(self, conditioning: Any) -> bool:
        """Whether FluxGuidance has been here: it leaves its value in the conditioning's options."""
        return any("guidance" in options for _, options in conditioning)

    def encodes_map(self, control_net: Any) -> bool:
        """Whether the map goes through the VAE: such a ControlNet names its latent's format."""
        return getattr(control_net, "latent_format", None) is not None


stock = _Stock()


def has_stock(class_type: str) -> bool:
    """Whether this ComfyUI has a node of that name."""
    import nodes

    return class_type in nodes.NODE_CLASS_MAPPINGS


def choices(class_type: str, name: str) -> list[str]:
    """The choices of a stock node's drop-down, as this version of ComfyUI has them."""
    import nodes

    spec = nodes.NODE_CLASS_MAPPINGS[class_type].INPUT_TYPES()["required"][name]
    return list(spec[0]) if isinstance(spec[0], list | tuple) else list(spec[1].get("options", []))


def starting() -> bool:
    """Whether ComfyUI is still starting: it asks every node for its id then, and no list of files is needed yet."""
    from server import PromptServer

    server = getattr(PromptServer, "instance", None)
    return server is not None and not hasattr(server, "port")


def model_path(folder: str, name: str) -> Path:
    """Where a model file lies; NodeInputError says in which folder it was looked for."""
    import folder_paths

    full = folder_paths.get_full_path(folder, name)
    if full is None:
        raise NodeInputError(f"model '{name}' is not in models/{folder}; put it there, or choose another")
    return Path(full)


def detected(folders: Iterable[str]) -> dict[str, tuple[str, Detection]]:
    """Every safetensors file of some folders that has a readable header: name -> (folder, what it is)."""
    import folder_paths

    if starting():
        return {}
    found: dict[str, tuple[str, Detection]] = {}
    for folder in folders:
        if folder not in folder_paths.folder_names_and_paths:
            continue
        for name in folder_paths.get_filename_list(folder):
            full = folder_paths.get_full_path(folder, name)
            if name in found or full is None or not name.endswith((".safetensors", ".sft")):
                continue
            try:
                found[name] = (folder, detect(full))
            except HeaderError:
                continue  # damaged or still downloading: not offered; forced by a prompt it is named
    return found


FAMILY_OF_CONFIG = {
    "SDXLRefiner": ("sdxl", "sdxl-refiner"),
    "SDXL": ("sdxl", "sdxl"),
    "SVD_img2vid": ("svd", "svd"),
    "SD20": ("sd2", "sd2"),
    "SD15": ("sd1", "sd1"),
    "SD3": ("sd3.5", None),
    "Flux": ("flux1", "flux1"),
    "HiDream": ("hidream", "hidream"),
    "QwenImage": ("qwen-image", "qwen-image"),
    "HunyuanImage21": ("hunyuan-image", "hunyuan-image-2.1"),
}
"""ComfyUI's classes in supported_models.py -> family and architecture of the catalogue."""

_RELATIVES = ("Flux2", "Chroma", "LongCatImage", "SV3D_u", "SV3D_p", "KOALA_700M", "KOALA_1B", "SD_X4Upscaler")


def family_of(model: Any) -> tuple[str, str | None] | None:
    """Family and architecture of a wired MODEL, by the class that ComfyUI detected; None where we do not know it."""
    names = [cls.__name__ for cls in type(model.model.model_config).__mro__]
    if any(name in _RELATIVES for name in names):
        return None
    found = next((FAMILY_OF_CONFIG[name] for name in names if name in FAMILY_OF_CONFIG), None)
    if found == ("sd3.5", None):
        width = model.model.model_config.unet_config.get("depth", 0) * 64
        return "sd3.5", {2432: "sd3.5-large", 1536: "sd3.5-medium"}.get(width)
    return found


def lora_modules(model: Any, clip: Any, path: Path) -> tuple[list[str], set[str]]:
    """The modules that a LoRA file changes, and those that this model and these encoders have, in the file's own
    names.
    """
    import comfy.lora

    from ..catalogue import read_header
    from ..catalogue.signatures_lora import module_names

    keys = comfy.lora.model_lora_keys_unet(model.model, {})
    if clip is not None:
        keys = comfy.lora.model_lora_keys_clip(clip.cond_stage_model, keys)
    return module_names(read_header(path)), set(keys)


def cancelled() -> bool:
    """Whether the user has asked ComfyUI to stop."""
    import comfy.model_management

    return bool(comfy.model_management.processing_interrupted())


def raise_cancelled() -> None:
    """End the node as ComfyUI ends one that the user cancelled."""
    import comfy.model_management

    comfy.model_management.throw_exception_if_processing_interrupted()
    raise comfy.model_management.InterruptProcessingException


def show_progress(text: str, share: float | None) -> None:
    """Show a line on the running node, and how much is done (0..1) where that is known."""
    import comfy.utils
    from comfy_execution.utils import get_executing_context
    from server import PromptServer

    context = get_executing_context()
    server = getattr(PromptServer, "instance", None)
    if context is None or server is None:
        return
    server.send_progress_text(text, context.node_id)
    if share is not None:
        comfy.utils.ProgressBar(100, node_id=context.node_id).update_absolute(round(100 * min(1.0, max(0.0, share))))


def folder_roots(folder: str) -> list[Path]:
    """The places of one of ComfyUI's model folders; none while ComfyUI starts."""
    import folder_paths

    if starting() or folder not in folder_paths.folder_names_and_paths:
        return []
    return [Path(path) for path in folder_paths.get_folder_paths(folder)]


def free_models() -> None:
    """Take ComfyUI's own models off the card: something larger is coming."""
    import comfy.model_management

    comfy.model_management.unload_all_models()
    comfy.model_management.soft_empty_cache()


@contextmanager
def with_room(size: int) -> Iterator[Any]:
    """ComfyUI's device with room for a model of ``size`` bytes and as much for its work; given back afterwards."""
    import comfy.model_management

    device = comfy.model_management.get_torch_device()
    comfy.model_management.free_memory(2 * size, device)
    try:
        yield device
    finally:
        comfy.model_management.soft_empty_cache()


def add_folders(names: Iterable[str]) -> None:
    """Tell ComfyUI of folders below ``models/`` that it has no name for."""
    import folder_paths

    for name in names:
        if name not in folder_paths.folder_names_and_paths:
            path = str(Path(folder_paths.models_dir) / name)
            folder_paths.folder_names_and_paths[name] = ([path], set(folder_paths.supported_pt_extensions))
