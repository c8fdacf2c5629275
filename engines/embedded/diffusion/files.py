"""Model files by name, in ComfyUI's folders below each of the run's model roots.

A loader node declares its inputs once: ``@NODES.node("VAELoader", **model_inputs(vae_name="vae"))`` checks them before
the run and notices when a file changes. Source of the rules: ComfyUI ``folder_paths.py``.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, TypedDict

from ....catalogue import find_by_name, load
from ..context import Context
from ..problems import NodeProblem
from ..registry import Fault

EXTENSIONS = frozenset({".safetensors", ".sft", ".ckpt", ".pt", ".pt2", ".bin", ".pth", ".pkl"})
SHOWN = 6  # names in a message

# Folders that go by several names; "unet" and "clip" are the old ones.
_NAMES: dict[str, tuple[str, ...]] = {
    "text_encoders": ("text_encoders", "clip"),
    "diffusion_models": ("unet", "diffusion_models"),
    "controlnet": ("controlnet", "t2i_adapter"),
}


def _folders(roots: Sequence[Path], folder: str) -> Iterator[Path]:
    for root in roots:
        for name in _NAMES.get(folder, (folder,)):
            yield root / name


def model_names(roots: Sequence[Path], folder: str) -> list[str]:
    """The files in a model folder as ComfyUI lists them: below it, "/" between parts, sorted."""
    found: set[str] = set()
    for place in _folders(roots, folder):
        if not place.is_dir():
            continue
        for parent, folders, files in os.walk(place, followlinks=True):
            folders[:] = sorted(name for name in folders if name != ".git")
            for file in files:
                if Path(file).suffix.lower() in EXTENSIONS:
                    found.add((Path(parent) / file).relative_to(place).as_posix())
    return sorted(found)


def find_model(roots: Sequence[Path], folder: str, name: str) -> Path | None:
    """The file of that name in a model folder; None where there is none. A name cannot lead out of the folder."""
    relative = name.replace("\\", "/")
    parts = relative.split("/")
    if not name or "\0" in name or ".." in parts or relative.startswith("/") or ":" in parts[0]:
        return None
    for place in _folders(roots, folder):
        path = place / relative
        if path.is_file():
            return path
    return None


def model_file(context: Context, folder: str, name: str) -> Path:
    """The file of that name.

    Raises:
        NodeProblem: there is none; the message lists those that are there.
    """
    path = find_model(context.run.model_folders, folder, name)
    if path is None:
        raise _absent(context.run.model_folders, folder, name)
    return path


def _absent(roots: Sequence[Path], folder: str, name: str) -> NodeProblem:
    if not roots:
        return NodeProblem(
            f"model {name!r} is not there: the engine has no models folder",
            remedy="name one with --models, or the setting ATELIER_MODELS",
        )
    there = model_names(roots, folder)
    listed = ", ".join(there[:SHOWN]) + (f" and {len(there) - SHOWN} more" if len(there) > SHOWN else "")
    entry = next((use.id for file in find_by_name(name) for use in load().uses(file)), None)
    get = f"run `atelier models get {entry}`" if entry else "put it there"
    return NodeProblem(
        f"model {name!r} is not in models/{folder}; " + (f"there are: {listed}" if there else "there is none"),
        remedy=f"{get}, or choose one that is there" if there else get,
    )


class NodeOptions(TypedDict):
    """What `model_inputs` gives to ``NODES.node``."""

    fingerprint: Callable[..., Any]
    validate: Callable[..., Iterator[Fault]]


def model_inputs(**folders: str) -> NodeOptions:
    """Options of a node class whose inputs (by name) are files in these model folders.

    A name that begins with "#" is no file (a built-in choice), and neither is what the node itself understands: give
    those to `model_inputs` not at all and check them in the node.
    """

    def fingerprint(*, context: Context, **values: Any) -> list[Any]:
        seen: list[Any] = []
        for name, folder in folders.items():
            value = values.get(name)
            if not isinstance(value, str):
                continue
            path = find_model(context.run.model_folders, folder, value)
            if path is not None:
                status = path.stat()
                seen.append([str(path), status.st_size, status.st_mtime_ns])
        return seen

    def validate(*, context: Context, **values: Any) -> Iterator[Fault]:
        for name, folder in folders.items():
            value = values.get(name)
            if isinstance(value, str) and find_model(context.run.model_folders, folder, value) is None:
                problem = _absent(context.run.model_folders, folder, value)
                yield Fault(input_name=name, message=problem.message, remedy=problem.remedy)

    return {"fingerprint": fingerprint, "validate": validate}
