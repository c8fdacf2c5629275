"""The list of nodes that ComfyUI gets, group by group."""

from __future__ import annotations

from comfy_api.latest import ComfyExtension, io

from .nodes_interface import INTERFACE_NODES


class AtelierExtension(ComfyExtension):
    """Our pack as ComfyUI's V3 API wants it."""

    async def get_node_list(self) -> list[type[io.ComfyNode]]:
        """Every node class of the pack."""
        return [*INTERFACE_NODES]
