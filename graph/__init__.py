"""Workflows and prompts: parse, validate, convert, find the interface, bind values. Imports catalogue only (for lint).

Plain imports, because functions share their names with modules (`convert`, `bind`): a lazy export would give the module
to whoever asks second. All of it is standard library and loads in a few hundredths of a second. Only `lint` waits until
it is asked for: it brings the catalogue.
"""

from typing import TYPE_CHECKING, Any

from .bind import Bound, bind
from .convert import convert
from .diff import Change, Difference, diff
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
from .findings import RULES, Finding, Rule, Severity
from .interface import Interface, Output, OutputType, Parameter, ParameterType, Source
from .interface_markers import with_widget_options
from .interface_overrides import apply_overrides
from .interface_search import find_interface
from .prompt import JSON, InputRef, Link, Prompt, PromptNode, consumers, parse_prompt, topological_order
from .sarif import sarif
from .schemas import InputSpec, NodeSchema, NodeSchemas, OutputSpec
from .validation import check_prompt
from .values import checked_value, parse_value
from .workflow import Workflow, parse_workflow

if TYPE_CHECKING:
    from .linting import lint

__all__ = [
    "JSON",
    "RULES",
    "BindError",
    "Bound",
    "Change",
    "ConversionError",
    "Difference",
    "Document",
    "Finding",
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
    "Rule",
    "SchemaError",
    "Severity",
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
    "diff",
    "find_interface",
    "input_files",
    "lint",
    "parse_prompt",
    "parse_value",
    "parse_workflow",
    "read_document",
    "sarif",
    "topological_order",
    "with_widget_options",
]


def __getattr__(name: str) -> Any:
    if name == "lint":
        from .linting import lint

        return lint
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
