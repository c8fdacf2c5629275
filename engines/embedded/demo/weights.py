"""The files of the demonstration model: what is in them, and what their headers say of how they were made.

The checkpoint is whole: the denoiser below ``model.diffusion_model.``, the autoencoder below ``first_stage_model.`` and
the text encoder below ``text_encoder.``, in diffusers' and transformers' own names. The header says
``atelier``: that it is this model, each part's settings, the latents' means and deviations, and what trained it.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch

CHECKPOINT = "atelier-demo.safetensors"
LORA = "atelier-demo-stripes.safetensors"
CONTROL = "atelier-demo-canny.safetensors"
READER = "atelier-demo-reader.safetensors"  # the classifier: only for scoring and tests
# A root with ComfyUI's model folders, as every other that the embedded engine is told of.
MODELS = Path(__file__).parent / "models"
WORKFLOW = Path(__file__).parent / "workflows" / "demo-text-to-image.json"
FILES = {"checkpoints": CHECKPOINT, "loras": LORA, "controlnet": CONTROL}

MARK = "atelier"
NAME = "demo"
PREFIXES = {"network": "model.diffusion_model.", "autoencoder": "first_stage_model.", "text": "text_encoder."}


def header(part: str, made: Mapping[str, Any], **more: Any) -> dict[str, str]:
    """A file's metadata: what it is, how it was made (``made``), and settings.

    One entry, for safetensors writes several in no order and the same training is to give the same file.
    """
    words = {"model": NAME, "part": part, "made": made, "licence": "Apache-2.0", **more}
    return {MARK: json.dumps(words, sort_keys=True)}


def save(path: Path, tensors: Mapping[str, torch.Tensor], metadata: Mapping[str, str]) -> None:
    """Write tensors as float16, in one order, so that the same training gives the same file."""
    import torch
    from safetensors.torch import save_file

    kept = {}
    for name in sorted(tensors):
        tensor = tensors[name].detach().cpu()
        kept[name] = (tensor.half() if tensor.is_floating_point() else tensor.to(torch.int32)).contiguous()
    save_file(kept, path, metadata=dict(metadata))


def load(path: Path) -> tuple[dict[str, torch.Tensor], dict[str, str]]:
    """A file's tensors (float32) and its metadata."""
    from safetensors import safe_open

    tensors = {}
    with safe_open(path, framework="pt") as file:
        metadata = dict(file.metadata() or {})
        for name in file.keys():  # noqa: SIM118 - it is no mapping
            tensor = file.get_tensor(name)
            tensors[name] = tensor.float() if tensor.is_floating_point() else tensor
    return tensors, metadata


def setting(metadata: Mapping[str, str], name: str) -> Any:
    """One of the settings in a header. Raises `KeyError` where the file has none of that name."""
    return json.loads(metadata[MARK])[name]


def is_demo(metadata: Mapping[str, str], part: str) -> bool:
    """Whether a file's header says that it is that part of the demonstration model."""
    try:
        return bool(setting(metadata, "model") == NAME and setting(metadata, "part") == part)
    except (KeyError, TypeError, ValueError):
        return False


def below(tensors: Mapping[str, torch.Tensor], prefix: str) -> dict[str, torch.Tensor]:
    """The tensors of one part, without its prefix."""
    return {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}
