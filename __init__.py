"""Comfy Atelier. Inside ComfyUI this file is the node pack's door; elsewhere it only names the package."""

from importlib.util import find_spec

__all__ = ["WEB_DIRECTORY", "comfy_entrypoint"]

WEB_DIRECTORY = "./custom_nodes/web"

if __package__ and find_spec("comfy_api") is not None:
    from .custom_nodes import comfy_entrypoint
else:
    comfy_entrypoint = None  # type: ignore[assignment]  # outside ComfyUI there is nothing to enter
