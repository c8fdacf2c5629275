"""The engine's own nodes as our nodes call them (`catalogue.wiring.Stock`): what ours give is what these give."""

from __future__ import annotations

from functools import cache
from typing import Any

from ...graph.schemas import NodeSchemas
from . import registry
from .context import Context
from .inputs import missing_values
from .problems import NodeProblem


class EngineStock:
    """Runs nodes of the engine within the node of `context`, whose progress they tell."""

    def __init__(self, context: Context) -> None:
        self._context = context

    def __call__(self, class_type: str, **inputs: Any) -> tuple[Any, ...]:
        """Run a node: its outputs. Inputs that are missing take the schema's defaults."""
        if registry.lacking([class_type]):
            raise NodeProblem(
                f"the embedded engine lacks the node class {class_type}, which this node needs",
                remedy="run it on a ComfyUI",
            )
        node = registry.load(class_type)
        arguments = {**missing_values(_schemas()[class_type].inputs, inputs), **inputs}
        if node.uses_context:
            arguments["context"] = self._context
        result = node.function(**arguments)
        return result if isinstance(result, tuple) else (result,)

    def has_guidance(self, conditioning: Any) -> bool:
        """Whether FluxGuidance has been here: it leaves its value in the options."""
        return any("guidance" in condition.options for condition in conditioning)

    def encodes_map(self, control_net: Any) -> bool:
        """Whether the map goes through the VAE."""
        return control_net.kind.latent is not None


@cache
def _schemas() -> NodeSchemas:
    return NodeSchemas.builtin(registry.SCHEMAS_OF)
