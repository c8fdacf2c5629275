"""Which engine a configuration asks for. Takes values; who reads flags, environment and config file hands them in."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from .engine import Engine
from .errors import EngineError

_ADDRESS = re.compile(r"^(https?://.+|(localhost|[\w-]+(\.[\w-]+)*|\[[0-9a-fA-F:]+\]):\d{1,5}/?)$")


@dataclass(frozen=True, kw_only=True, slots=True)
class EngineConfig:
    """What to run prompts on.

    Attributes:
        kind: "comfyui", "embedded", or None: a ComfyUI where `comfyui` names one, else embedded.
        comfyui: address of a running ComfyUI, or the folder of one that we start. With `kind` "embedded" nothing of it
            runs: a folder lends the embedded engine its models and tokenizers.
        comfyui_python: the Python that runs the ComfyUI in that folder; found beside it where None.
        comfyui_args: more arguments for its ``main.py``.
        device: "cpu", the number of a CUDA device ("0"), or None for what there is.
        metadata: whether saved pictures carry the prompt, as ComfyUI's own do (see `ComfyUIEngine`).
        headers: sent with every request to a ComfyUI.
        input_dir, models_dirs, cache_bytes: of the embedded engine; `models_dirs` are added to a started ComfyUI's too.
    """

    kind: Literal["comfyui", "embedded"] | None = None
    comfyui: str | None = None
    comfyui_python: str | Path | None = None
    comfyui_args: tuple[str, ...] = ()
    device: str | None = None
    metadata: bool = False
    headers: Mapping[str, str] = field(default_factory=dict)
    input_dir: Path | None = None
    models_dirs: tuple[Path, ...] = ()
    cache_bytes: int | None = None


def is_address(comfyui: str) -> bool:
    """Whether ``comfyui`` is a server's address (``http://…``, ``host:port``) rather than a folder."""
    return _ADDRESS.match(comfyui) is not None


def engine_kind(config: EngineConfig) -> Literal["remote", "managed", "embedded"]:
    """Which engine `create_engine` makes. Raises `EngineError` where ComfyUI is wanted and none is named."""
    if config.kind == "embedded" or (config.kind is None and not config.comfyui):
        return "embedded"
    if not config.comfyui:
        raise EngineError(
            "the engine 'comfyui' needs to know which ComfyUI",
            remedy="give --comfyui URL_OR_PATH, set ATELIER_COMFYUI, or use --engine embedded",
        )
    return "remote" if is_address(config.comfyui) else "managed"


def create_engine(config: EngineConfig, *, worker: int = 0, workers: int = 1) -> Engine:
    """The engine that the configuration asks for, not started yet.

    Args:
        worker, workers: which of how many workers it is for. Of several that start a ComfyUI each, every one gets a
            CUDA device of its own as far as there are enough (where `device` names none).

    Raises:
        EngineError: the configuration asks for what cannot be (no such folder, no ComfyUI named).
    """
    kind = engine_kind(config)
    if kind == "embedded":
        from .embedded.engine import EmbeddedEngine

        return EmbeddedEngine(
            input_dir=config.input_dir,
            models_dirs=config.models_dirs,
            comfyui_dir=_checkout(config.comfyui),
            cache_bytes=config.cache_bytes,
            metadata=config.metadata,
            device=_device(config, worker, workers),
        )
    comfyui = config.comfyui or ""
    if kind == "remote":
        from .comfyui.client import ComfyUIEngine

        return ComfyUIEngine(comfyui, metadata=config.metadata, headers=config.headers)
    from .comfyui.process import ManagedComfyUI

    return ManagedComfyUI(
        Path(comfyui).expanduser(),
        python=config.comfyui_python,
        device=_device(config, worker, workers),
        models_dirs=config.models_dirs,
        arguments=config.comfyui_args,
        metadata=config.metadata,
    )


def _checkout(comfyui: str | None) -> Path | None:
    if not comfyui or is_address(comfyui):
        return None
    folder = Path(comfyui).expanduser()
    if not folder.is_dir():
        raise EngineError(f"there is no ComfyUI at {folder}", remedy="give the folder that holds its main.py")
    return folder


def _device(config: EngineConfig, worker: int, workers: int) -> str | None:
    if config.device is not None or workers < 2:
        return config.device
    from .comfyui.install import cuda_devices

    devices = cuda_devices(os.environ)
    return devices[worker % len(devices)] if devices else None
