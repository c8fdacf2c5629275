"""Workflows and prompts: parse, validate, convert, find the interface, bind values. Imports catalogue only (for lint).

Plain imports, because functions share their names with modules (`convert`, `bind`): a lazy export would give the module
to whoever asks second. All of it is standard library and loads in a few hundredths of a second.
"""

from .bind import Bound, bind
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
from .files import InputFileRef, check_files, input_files
from .interface import Interface, Output, OutputType, Parameter, ParameterType, Source
from .interface_markers import with_widget_options
from .interface_overrides import apply_overrides
from .interface_search import find_interface
from .prompt import JSON, InputRef, Link, Prompt, PromptNode, consumers, parse_prompt, topological_order
from .schemas import InputSpec, NodeSchema, NodeSchemas, OutputSpec
from .validation import check_prompt
from .values import checked_value, parse_value
from .workflow import Workflow, parse_workflow

__all__ = [
    "JSON",
    "BindError",
    "Bound",
    "ConversionError",
    "Document",
    "GraphError",
    "InputFileRef",
    "InputRef",
    "InputSpec",
    "Interface",
    "InterfaceError",
    "Link",
    "NodeSchema",
    "NodeSchemas",
    "Output",
    "OutputSpec",
    "OutputType",
    "Parameter",
    "ParameterType",
    "Prompt",
    "PromptError",
    "PromptNode",
    "SchemaError",
    "Source",
    "Workflow",
    "WorkflowError",
    "apply_overrides",
    "bind",
    "check_files",
    "check_prompt",
    "checked_value",
    "consumers",
    "convert",
    "find_interface",
    "input_files",
    "parse_prompt",
    "parse_value",
    "parse_workflow",
    "read_document",
    "topological_order",
    "with_widget_options",
]
