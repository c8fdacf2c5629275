"""Run a prompt and stream events: a real ComfyUI, or this package's own executor. Imports graph and catalogue.

Names are loaded when first used, so that importing this room loads neither torch nor aiohttp.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .comfyui.client import ComfyUIEngine
    from .comfyui.process import ManagedComfyUI
    from .embedded.engine import EmbeddedEngine
    from .engine import Checking, Engine
    from .errors import (
        Cancelled,
        EngineError,
        EngineUnavailable,
        InvalidPrompt,
        NodeError,
        NodeFailed,
        OutOfMemory,
        UnknownNodes,
        WorkerLost,
    )
    from .events import Cached, Event, Finished, Preview, Produced, Progress, Started
    from .select import EngineConfig, create_engine

__all__ = [
    "Cached",
    "Cancelled",
    "Checking",
    "ComfyUIEngine",
    "EmbeddedEngine",
    "Engine",
    "EngineConfig",
    "EngineError",
    "EngineUnavailable",
    "Event",
    "Finished",
    "InvalidPrompt",
    "ManagedComfyUI",
    "NodeError",
    "NodeFailed",
    "OutOfMemory",
    "Preview",
    "Produced",
    "Progress",
    "Started",
    "UnknownNodes",
    "WorkerLost",
    "create_engine",
]

_HOMES = {
    "Checking": ".engine",
    "ComfyUIEngine": ".comfyui.client",
    "ManagedComfyUI": ".comfyui.process",
    "EmbeddedEngine": ".embedded.engine",
    "Engine": ".engine",
    "EngineConfig": ".select",
    "create_engine": ".select",
    **dict.fromkeys(("Cached", "Event", "Finished", "Preview", "Produced", "Progress", "Started"), ".events"),
    **dict.fromkeys(
        (
            "Cancelled",
            "EngineError",
            "EngineUnavailable",
            "InvalidPrompt",
            "NodeError",
            "NodeFailed",
            "OutOfMemory",
            "UnknownNodes",
            "WorkerLost",
        ),
        ".errors",
    ),
}


def __getattr__(name: str) -> Any:
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(home, __name__), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
