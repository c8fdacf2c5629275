"""UI to API without a browser."""

from __future__ import annotations

from .errors import ConversionError
from .prompt import Prompt
from .schemas import NodeSchemas
from .workflow import Workflow


def convert(workflow: Workflow, schemas: NodeSchemas, *, resolve_dynamic_prompts: bool | int = False) -> Prompt:
    """The prompt that ComfyUI's front end sends for a workflow. Not built yet: every call is a `ConversionError`."""
    raise ConversionError(f"conversion is not built yet ({len(workflow.nodes)} nodes, {len(schemas)} classes)")
