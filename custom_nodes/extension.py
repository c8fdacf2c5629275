"""The list of nodes that ComfyUI gets, group by group."""

# mypy: disable-error-code="import-not-found, misc, no-any-return"
# Type checkers have no ComfyUI at hand: neither its modules nor its base classes are known to them.

from __future__ import annotations

from comfy_api.latest import ComfyExtension, io

from ..catalogue.annotators import FOLDERS
from .nodes_control import CONTROL_NODES
from .nodes_hunyuan3 import HUNYUAN3_NODES
from .nodes_image import IMAGE_NODES
from .nodes_interface import INTERFACE_NODES
from .nodes_load import LOADER_NODES
from .nodes_lora import LORA_NODES
from .nodes_maps import MAP_NODES
from .nodes_prompt import PROMPT_NODES
from .nodes_remote import REMOTE_NODES
from .nodes_sample import SAMPLE_NODES
from .nodes_settings import SETTINGS_NODES
from .stock import add_folders


class AtelierExtension(ComfyExtension):
    """Our pack as ComfyUI's V3 API wants it."""

    async def get_node_list(self) -> list[type[io.ComfyNode]]:
        """Every node class of the pack. The folders that the map nodes read from get their names first: 0.3.64 calls
        no ``on_load``.
        """
        add_folders(sorted(set(FOLDERS.values())))
        return [
            *LOADER_NODES,
            *REMOTE_NODES,
            *HUNYUAN3_NODES,
            *SETTINGS_NODES,
            *SAMPLE_NODES,
            *PROMPT_NODES,
            *CONTROL_NODES,
            *MAP_NODES,
            *LORA_NODES,
            *IMAGE_NODES,
            *INTERFACE_NODES,
        ]
