"""Lint: what is wrong with a prompt before anything runs, from the catalogue and the node schemas.

Rules are in `findings.RULES`; each says only what it knows. A file that the catalogue does not have raises nothing.
"""

from __future__ import annotations

from collections.abc import Iterator

from ..catalogue import Catalogue, load
from .errors import PromptError
from .findings import RULES, Finding
from .jsontext import short
from .lint_chain import Chains, Detect
from .lint_parts import licence_findings, part_findings
from .lint_sampling import finding, sampling_findings
from .markers import is_marker
from .prompt import Prompt
from .schemas import NodeSchemas
from .tracing import Trace
from .validation import check_prompt


def lint(
    prompt: Prompt,
    schemas: NodeSchemas,
    *,
    commercial: bool = False,
    catalogue: Catalogue | None = None,
    detect: Detect | None = None,
) -> tuple[Finding, ...]:
    """What is wrong with the prompt, the worst first, in the order of the file.

    Args:
        schemas: of the engine that is to run it: classes that are not in them are errors.
        commercial: licences that forbid commercial use are errors, conditions warnings.
        catalogue: the shipped one where None.
        detect: what a model file's header says, for those who have the files; see `lint_chain.Detect`.
    """
    trace = Trace(prompt, schemas)
    chains = Chains(trace, catalogue or load(), detect)
    found = dict.fromkeys(
        [
            *_structure(trace),
            *part_findings(chains),
            *sampling_findings(chains),
            *licence_findings(chains, commercial=commercial),
        ]
    )
    order = {node_id: index for index, node_id in enumerate(prompt.nodes)}
    return tuple(sorted(found, key=lambda f: (f.severity.rank, order.get(f.node_id or "", -1), f.rule)))


def _structure(trace: Trace) -> Iterator[Finding]:
    unknown = [n for n, node in trace.prompt.nodes.items() if node.class_type not in trace.schemas]
    for node_id in unknown:
        message = f"the engine has no node class {short(trace.prompt.nodes[node_id].class_type)}"
        remedy = "install the node pack it comes from, or give the schemas of a server that has it"
        yield finding(trace, "A501", node_id, message, remedy)
    for node_id in trace.live:
        schema = trace.schema(node_id)
        if schema is not None and schema.deprecated:
            yield finding(trace, "A503", node_id, f"{schema.class_type} is deprecated", "use the node that replaces it")
    if unknown:
        return
    outputs = [n for n in trace.prompt.nodes if (schema := trace.schema(n)) is not None and schema.output_node]
    if not outputs:
        yield Finding(
            rule="A502",
            severity=RULES["A502"].severity,
            message="nothing is saved or shown",
            remedy="add an output node, such as SaveImage",
        )
        return
    yield from _refusal(trace)


def _refusal(trace: Trace) -> Iterator[Finding]:
    try:
        check_prompt(trace.prompt, trace.schemas, only_input=False)
    except PromptError as error:
        node_id = error.node_id
        if node_id is not None and node_id in trace.prompt.nodes and is_marker(trace.prompt.nodes[node_id].class_type):
            return  # what a marker holds is judged when the prompt is bound
        yield Finding(
            rule="A504",
            severity=RULES["A504"].severity,
            message=error.message,
            remedy=error.remedy or "correct it",
            node_id=node_id,
            class_type=error.class_type,
            input_name=error.input_name,
        )
