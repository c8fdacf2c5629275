"""Where ComfyUI looks for model files: its folders by key, with the user's extra paths.

Source of the rules: ComfyUI ``folder_paths.py`` and ``utils/extra_config.py`` (0.3.64 and 0.33.0).
"""

from __future__ import annotations

import os
import posixpath
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from .errors import PackerError

EXTENSIONS = frozenset({".ckpt", ".pt", ".pt2", ".bin", ".pth", ".safetensors", ".pkl", ".sft"})
"""What ComfyUI lists in most folders."""

MORE_EXTENSIONS = EXTENSIONS | {".gguf", ".onnx", ".engine", ".task", ".ggml", ".npz"}
"""What node packs list besides."""

# Keys whose folder below models/ is not just their own name; the first is where new files go.
_SEVERAL: Mapping[str, tuple[str, ...]] = {
    "text_encoders": ("text_encoders", "clip"),
    "diffusion_models": ("unet", "diffusion_models"),
    "controlnet": ("controlnet", "t2i_adapter"),
}
_ALIASES: Mapping[str, str] = {"unet": "diffusion_models", "clip": "text_encoders"}
_KEYS = (  # noqa: SIM905 - thirty names read better so
    "checkpoints configs loras vae text_encoders diffusion_models clip_vision style_models embeddings diffusers "
    "vae_approx controlnet gligen upscale_models latent_upscale_models hypernetworks photomaker classifiers "
    "model_patches audio_encoders background_removal frame_interpolation geometry_estimation optical_flow detection"
).split()


def canonical(key: str) -> str:
    """A folder's key as ComfyUI resolves it: its old names "unet" and "clip" are other keys' aliases."""
    return _ALIASES.get(key, key)


@dataclass(frozen=True, kw_only=True, slots=True)
class FoundModel:
    """A model file on the disk. ``filename`` is what a snapshot calls it ("models/checkpoints/x.safetensors")."""

    path: Path
    filename: str


@dataclass(frozen=True, kw_only=True, slots=True)
class ModelFolders:
    """The folders to search, by key, in ComfyUI's order; ``roots`` are the ``models`` folders themselves."""

    paths: Mapping[str, tuple[Path, ...]]
    roots: tuple[Path, ...]

    @classmethod
    def of(
        cls,
        *,
        comfyui_dir: Path | None = None,
        base_directory: Path | None = None,
        models_dirs: Iterable[Path] = (),
        extra_model_paths: Iterable[Path] = (),
    ) -> Self:
        """The folders of a ComfyUI.

        Args:
            comfyui_dir: its checkout; ``extra_model_paths.yaml`` in it is read, as ComfyUI does.
            base_directory: what ComfyUI was started with as ``--base-directory``; its ``models`` then takes the
                place of the checkout's.
            models_dirs: further ``models`` folders, searched after that.
            extra_model_paths: further files like ``extra_model_paths.yaml``.

        Raises:
            PackerError: a folder or file that was named is not there, or a YAML file is none.
        """
        roots = []
        base = base_directory or comfyui_dir
        if base is not None:
            roots.append(_existing(base, "ComfyUI") / "models")
        roots += [_existing(folder, "models") for folder in models_dirs]
        paths: dict[str, list[Path]] = {}
        for root in roots:
            for key in [*_KEYS, *_own_keys(root)]:
                for name in _SEVERAL.get(key, (key,)):
                    _add(paths, key, root / name)
        configs = list(extra_model_paths)
        if comfyui_dir is not None and (comfyui_dir / "extra_model_paths.yaml").is_file():
            configs.insert(0, comfyui_dir / "extra_model_paths.yaml")
        for config in configs:
            for key, path, first in _extra_paths(config):
                _add(paths, key, path, first=first)
        return cls(paths={key: tuple(found) for key, found in paths.items()}, roots=tuple(roots))

    def find(self, key: str, name: str) -> FoundModel | None:
        """The file that ComfyUI loads for ``name`` from the folder ``key``; None where it has none.

        As in ComfyUI, ``..`` never leads above the folder. A name from Windows is tried with its backslashes turned.
        """
        for relative in dict.fromkeys((_inside(name), _inside(name.replace("\\", "/")))):
            if relative == ".":
                continue
            for folder in self.paths.get(canonical(key), ()):
                path = folder / relative
                if path.is_file():
                    return FoundModel(path=path, filename=self._filename(path, canonical(key), relative))
        return None

    def find_anywhere(self, name: str) -> tuple[tuple[str, FoundModel], ...]:
        """Every folder that has ``name``, with its key: for inputs of node packs that do not say which they mean."""
        found: dict[Path, tuple[str, FoundModel]] = {}
        for key in self.paths:
            model = self.find(key, name)
            if model is not None:
                found.setdefault(model.path, (key, model))
        return tuple(found.values())

    def searched(self, key: str) -> tuple[Path, ...]:
        """The folders that `find` looks into, for messages."""
        return self.paths.get(canonical(key), ())

    def list(self, key: str) -> Iterator[str]:
        """Names below the folder ``key`` (links followed, as ComfyUI does), sorted within each path."""
        for folder in self.paths.get(canonical(key), ()):
            for parent, folders, files in os.walk(folder, followlinks=True):
                folders[:] = sorted(name for name in folders if name != ".git")
                for file in sorted(files):
                    yield (Path(parent) / file).relative_to(folder).as_posix()

    def _filename(self, path: Path, key: str, relative: str) -> str:
        for root in self.roots:
            if path.is_relative_to(root):
                return "models/" + path.relative_to(root).as_posix()
        # From an extra path: where a fresh ComfyUI looks for it.
        return filename_of(key, relative)


def filename_of(key: str, name: str) -> str:
    """Where a model of the folder ``key`` goes below a fresh ComfyUI: ``models/checkpoints/x.safetensors``."""
    return f"models/{canonical(key)}/{_inside(name.replace(chr(92), '/'))}"


def _inside(name: str) -> str:
    """``name`` relative to its folder, whatever dots and slashes it has."""
    return posixpath.relpath(posixpath.join("/", name), "/")


def _existing(folder: Path, what: str) -> Path:
    if not folder.is_dir():
        raise PackerError(f"the {what} folder is not there", file=str(folder), remedy="check the path")
    return folder


def _own_keys(root: Path) -> list[str]:
    """Folders that node packs made below ``models/``: their key is usually their name."""
    try:
        names = sorted(entry.name for entry in root.iterdir() if entry.is_dir())
    except OSError:
        return []
    known = {name for key in _KEYS for name in _SEVERAL.get(key, (key,))}
    return [name for name in names if name not in known and not name.startswith(".")]


def _add(paths: dict[str, list[Path]], key: str, path: Path, *, first: bool = False) -> None:
    found = paths.setdefault(canonical(key), [])
    if path in found:
        if not first:
            return
        found.remove(path)
    if first:
        found.insert(0, path)
    else:
        found.append(path)


def _extra_paths(config: Path) -> Iterator[tuple[str, Path, bool]]:
    """(key, folder, whether it comes first) of an ``extra_model_paths.yaml``."""
    import yaml

    try:
        value = yaml.safe_load(config.read_text(encoding="utf-8"))
    except OSError as error:
        raise PackerError(
            f"cannot be read: {(error.strerror or str(error)).lower()}", file=str(config), remedy="check the path"
        ) from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise PackerError("is not YAML", file=str(config), remedy="see extra_model_paths.yaml.example") from error
    if not isinstance(value, dict):
        if value is None:
            return
        raise PackerError("must map names to folders", file=str(config), remedy="see extra_model_paths.yaml.example")
    here = config.absolute().parent
    for section in value.values():
        if not isinstance(section, dict):
            continue
        given = section.get("base_path")
        base = here / os.path.expandvars(Path(str(given)).expanduser()) if given else here
        first = bool(section.get("is_default"))
        for key, lines in section.items():
            if key in ("base_path", "is_default") or not isinstance(lines, str):
                continue
            for line in lines.split("\n"):
                if line.strip():
                    yield str(key), Path(os.path.normpath(base / line)), first
