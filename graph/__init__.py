"""Workflows and prompts: parse, validate, convert, find the interface, bind values. Imports catalogue only (for lint).

Plain imports, because functions share their names with modules (`convert`, `bind`): a lazy export would give the module
to whoever asks second. All of it is standard library and loads in a few hundredths of a second.
"""

from .convert import convert
from .document import Document, read_document
from .errors import (
    BindError,
    ConversionError,
    GraphError,
    InterfaceError,
    PromptError,
    SchemaError,
    WorkflowError,
)
from .prompt import InputRef, Link, Prompt, PromptNode
from .schemas import InputSpec, NodeSchema, NodeSchemas, OutputSpec
from .workflow import Workflow, parse_workflow

__all__ = [
    "BindError",
    "ConversionError",
    "Document",
    "GraphError",
    "InputRef",
    "InputSpec",
    "InterfaceError",
    "Link",
    "NodeSchema",
    "NodeSchemas",
    "OutputSpec",
    "Prompt",
    "PromptError",
    "PromptNode",
    "SchemaError",
    "Workflow",
    "WorkflowError",
    "convert",
    "parse_workflow",
    "read_document",
]
