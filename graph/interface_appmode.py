"""The interface that App Mode declares: ``extra.linearData``, exactly its inputs and outputs, in its order.

Source of the format: the front end's linear mode (``extra.linearData = {"inputs": [[node id, widget, {...}?], ...],
"outputs": [node id, ...]}``).
"""

from __future__ import annotations

from .interface import Interface
from .prompt import Prompt
from .schemas import NodeSchemas
from .workflow import Workflow


def app_mode_interface(prompt: Prompt, schemas: NodeSchemas, workflow: Workflow) -> Interface | None:
    """The interface of the workflow's App Mode; None where it has none (no data, or neither inputs nor outputs)."""
    return None
