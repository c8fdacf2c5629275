"""Textual inversions: words whose vectors lie in files of ``models/embeddings``.

Source: ComfyUI ``comfy/sd1_clip.py`` (`load_embed`).
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from ..context import Context
from ..problems import NodeProblem
from .encoders import Embeddings
from .safetensors_file import read_weights

FOLDER = "embeddings"
_SUFFIXES = ("", ".safetensors", ".pt", ".bin")

_logger = logging.getLogger(__name__)


def embeddings(context: Context) -> Embeddings:
    """Finds textual inversions for a run; one that is not there is left out of the prompt, as in ComfyUI."""
    roots = [root / FOLDER for root in context.run.model_folders]

    def find(name: str) -> Mapping[str, torch.Tensor] | None:
        path = _path(roots, name)
        if path is None:
            _logger.warning("embedding %r is not there and is left out", name)
            return None
        return _vectors(path)

    return find


def _path(roots: Sequence[Path], name: str) -> Path | None:
    parts = name.replace("\\", "/").split("/")
    if not name or ".." in parts or name.startswith(("/", "\\")) or ":" in parts[0] or "\0" in name:
        return None
    for root in roots:
        if not root.is_dir():
            continue
        for folder in (root, *sorted(path for path in root.rglob("*") if path.is_dir())):
            for suffix in _SUFFIXES:
                path = folder / f"{name}{suffix}"
                if path.is_file():
                    return path
    return None


def _vectors(path: Path) -> Mapping[str, torch.Tensor]:
    """Vectors [tokens, width] by encoder ("" for any)."""
    tensors: Any
    if path.suffix.lower() == ".safetensors":
        tensors = dict(read_weights(path))
    else:
        try:
            tensors = torch.load(path, weights_only=True, map_location="cpu")
        except Exception as error:  # a pickle may fail in any way
            raise NodeProblem(
                f"embedding {path.name!r} cannot be read without running what is in it", remedy="use a safetensors file"
            ) from error
    if isinstance(tensors, Mapping) and isinstance(tensors.get("string_to_param"), Mapping):
        return {"": next(iter(tensors["string_to_param"].values())).detach().float()}
    if not isinstance(tensors, Mapping) or not tensors:
        raise NodeProblem(f"embedding {path.name!r} holds no vectors", remedy="use another file")
    bundled = [
        value for name, value in tensors.items() if name.startswith("bundle_emb.") and ".string_to_param" in name
    ]
    if bundled:
        return {"": torch.cat(bundled).float()}
    found = {name: value.float() for name, value in tensors.items() if isinstance(value, torch.Tensor)}
    if any(name in found for name in ("clip_l", "clip_g", "clip_h")):
        return found
    return {"": next(iter(found.values()))}
