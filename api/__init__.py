"""The HTTP service of a bundle: durable jobs, typed inputs, events, artifacts. Imports engines, packer, graph.

Names are loaded when first used: the command line imports this room for `Settings` alone.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .app import create_app
    from .calls import Call
    from .errors import ServiceError
    from .models import FileInput, Inputs
    from .service import Service
    from .serving import free_port, serve
    from .settings import Settings

__all__ = [
    "Call",
    "FileInput",
    "Inputs",
    "Service",
    "ServiceError",
    "Settings",
    "create_app",
    "free_port",
    "serve",
]

_HOMES = {
    "Call": ".calls",
    "FileInput": ".models",
    "Inputs": ".models",
    "Service": ".service",
    "ServiceError": ".errors",
    "Settings": ".settings",
    "create_app": ".app",
    "free_port": ".serving",
    "serve": ".serving",
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
