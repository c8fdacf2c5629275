"""The executor: runs a prompt with ComfyUI's semantics.

Only what output nodes need is computed, ancestors first, each result once; results are kept by signature across runs; lazy
inputs are computed when their node asks; values travel as lists, and a node runs once for each (`NodeClass.input_is_list`
excepted), the last value standing in where a list is shorter. Behaviour as of ComfyUI 0.33.0 ``execution.py``.
"""

from __future__ import annotations

import contextlib
import traceback
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from ...graph.errors import PromptError
from ...graph.prompt import Link, Prompt, PromptNode, topological_order
from ..errors import Cancelled, EngineError, InvalidPrompt, NodeError, NodeFailed, OutOfMemory, UnknownNodes
from ..events import Cached, Finished, Started
from . import registry
from .cache import NodeCache, Result
from .context import Context, Run
from .problems import NodeProblem, NotEnoughMemory, RunCancelled
from .registry import NodeClass
from .signatures import sign

POINT_AT_COMFYUI = "run it on a ComfyUI that has them (`--comfyui URL_OR_PATH`, or the setting ATELIER_COMFYUI)"


@dataclass(frozen=True, kw_only=True, slots=True)
class Blocked:
    """A value that stops what depends on it, without an error (ComfyUI's ``ExecutionBlocker``)."""

    message: str | None = None


@dataclass(kw_only=True)
class _Plan:
    """What is known of a prompt before its first node runs."""

    nodes: Mapping[str, PromptNode]
    classes: Mapping[str, NodeClass]
    outputs: list[str]
    signatures: Mapping[str, str | None]
    wanted: dict[str, set[str]] = field(default_factory=dict)  # lazy inputs that nodes have asked for


class Executor:
    """Runs prompts one after another; keeps their results in `cache`."""

    def __init__(self, cache: NodeCache) -> None:
        self.cache = cache

    def needs_torch(self, prompt: Prompt) -> bool:
        """Whether a node of the prompt needs torch."""
        return any(registry.needs_torch(node.class_type) for node in prompt.nodes.values())

    def run(self, prompt: Prompt, run: Run) -> None:
        """Execute `prompt`, telling `run.emit` what happens; `Finished` is the last event.

        Raises:
            EngineError: `UnknownNodes`, `InvalidPrompt`, `NodeFailed`, `OutOfMemory` or `Cancelled`.
        """
        try:
            plan = self._plan(prompt, run)
            cached = tuple(name for name in plan.nodes if plan.signatures.get(name) in self.cache)
            if cached:
                run.emit(Cached(nodes=cached))
            results: dict[str, Result] = {}
            with _inference(self.needs_torch(prompt)):
                for output in plan.outputs:
                    self._compute(output, plan, results, run)
            run.emit(Finished())
        except RunCancelled as error:
            raise Cancelled("the job was cancelled") from error

    def _plan(self, prompt: Prompt, run: Run) -> _Plan:
        missing = registry.lacking(node.class_type for node in prompt.nodes.values())
        if missing:
            raise UnknownNodes(
                f"the embedded engine lacks the node {'class' if len(missing) == 1 else 'classes'} {', '.join(missing)}",
                classes=missing,
                remedy=POINT_AT_COMFYUI,
            )
        nodes = prompt.nodes
        classes = {name: registry.load(node.class_type) for name, node in nodes.items()}
        outputs = [name for name in nodes if classes[name].output_node]
        if not outputs:
            raise InvalidPrompt("the prompt has no output node", remedy="add a node that saves or shows something")
        try:
            order = topological_order(prompt, outputs)
        except PromptError as error:
            raise invalid(error) from error
        _validate(order, nodes, classes, run)
        return _Plan(nodes=nodes, classes=classes, outputs=outputs, signatures=_signatures(order, nodes, classes, run))

    def _compute(self, target: str, plan: _Plan, results: dict[str, Result], run: Run) -> None:
        """Compute `target` and what it needs that is not computed yet. No recursion: prompts may be long chains."""
        stack = [target]
        while stack:
            name = stack[-1]
            if name in results:
                stack.pop()
                continue
            run.check_cancelled()
            kept = self.cache.get(plan.signatures[name])
            if kept is not None:
                context = Context(run, name, plan.nodes[name].class_type)
                for artifact in kept.artifacts:
                    context.produce(artifact, batch=len(context.artifacts))
                results[name] = kept
                stack.pop()
                continue
            missing = [link.node for link in _needed(name, plan) if link.node not in results]
            if missing:
                stack.extend(reversed(missing))
                continue
            with _blame(name, plan, run):
                inputs = _gather(name, plan, results)
                asked = _ask(name, plan, inputs, results)
                if asked:
                    plan.wanted.setdefault(name, set()).update(asked)
                    continue
                run.emit(Started(node=name))
                result = _execute(plan.classes[name], inputs, Context(run, name, plan.nodes[name].class_type))
            results[name] = result
            self.cache.put(plan.signatures[name], result)
            stack.pop()


def invalid(error: PromptError) -> InvalidPrompt:
    """What `graph` says against a prompt, as an engine's error."""
    fault = NodeError(
        node_id=error.node_id,
        class_type=error.class_type,
        message=error.message,
        details=error.remedy or "",
        input_name=error.input_name,
    )
    message = f"input {error.input_name!r}: {error.message}" if error.input_name else error.message
    return InvalidPrompt(message, errors=[fault] if error.node_id else [], remedy=error.remedy)


def _values(node: PromptNode) -> dict[str, Any]:
    return {name: value for name, value in node.inputs.items() if not isinstance(value, Link)}


def _validate(
    order: Iterable[str], nodes: Mapping[str, PromptNode], classes: Mapping[str, NodeClass], run: Run
) -> None:
    errors: list[NodeError] = []
    for name in order:
        check = classes[name].validate
        if check is None:
            continue
        for fault in check(**_values(nodes[name]), context=Context(run, name, nodes[name].class_type)):
            errors.append(
                NodeError(
                    node_id=name,
                    class_type=nodes[name].class_type,
                    message=fault.message,
                    details=fault.remedy,
                    input_name=fault.input_name,
                )
            )
    if errors:
        raise InvalidPrompt(errors[0].message, errors=errors, remedy=errors[0].details or None)


def _signatures(
    order: Sequence[str], nodes: Mapping[str, PromptNode], classes: Mapping[str, NodeClass], run: Run
) -> dict[str, str | None]:
    fingerprints: dict[str, Any] = {}
    extra: dict[str, str] = {}
    for name in order:
        fingerprint = classes[name].fingerprint
        if fingerprint is not None:
            context = Context(run, name, nodes[name].class_type)
            fingerprints[name] = fingerprint(**_values(nodes[name]), context=context)
        if classes[name].uses_prompt:
            extra[name] = repr((run.prompt_json, run.extra_metadata))
    return sign(order, nodes, fingerprints, extra)


def _needed(name: str, plan: _Plan) -> Iterator[Link]:
    lazy = plan.classes[name].lazy
    wanted = plan.wanted.get(name, ())
    for input_name, value in plan.nodes[name].inputs.items():
        if isinstance(value, Link) and (input_name not in lazy or input_name in wanted):
            yield value


def _gather(name: str, plan: _Plan, results: Mapping[str, Result]) -> dict[str, list[Any]]:
    """Each input as the list of its values; a lazy one that was not computed is [None]."""
    inputs: dict[str, list[Any]] = {}
    for input_name, value in plan.nodes[name].inputs.items():
        if not isinstance(value, Link):
            inputs[input_name] = [value]
        elif value.node in results:
            inputs[input_name] = results[value.node].outputs[value.slot]
        else:
            inputs[input_name] = [None]
    return inputs


def _ask(name: str, plan: _Plan, inputs: Mapping[str, list[Any]], results: Mapping[str, Result]) -> set[str]:
    """The lazy inputs that the node needs and does not have yet."""
    needs = plan.classes[name].needs
    if needs is None:
        return set()
    asked: set[str] = set()
    for arguments in _calls(plan.classes[name], inputs):
        asked.update(needs(**arguments))
    links = {key: value for key, value in plan.nodes[name].inputs.items() if isinstance(value, Link)}
    return {key for key in asked if key in links and links[key].node not in results}


def _calls(node: NodeClass, inputs: Mapping[str, list[Any]]) -> Iterator[dict[str, Any]]:
    """The arguments of each call: one with the lists themselves, or one for each value, the last repeated."""
    if node.input_is_list:
        yield dict(inputs)
        return
    count = max((len(values) for values in inputs.values()), default=0)
    if not inputs:
        yield {}
    for index in range(count):
        yield {name: values[index if index < len(values) else -1] for name, values in inputs.items()}


def _execute(node: NodeClass, inputs: Mapping[str, list[Any]], context: Context) -> Result:
    rows: list[tuple[Any, ...]] = []
    for arguments in _calls(node, inputs):
        context.check_cancelled()
        blocked = _blocked(node, arguments)
        if blocked is not None:
            if blocked.message is not None:
                raise NodeProblem(f"stopped by an earlier node: {blocked.message}")
            rows.append((blocked,))
            continue
        value = node.function(**arguments, context=context) if node.uses_context else node.function(**arguments)
        rows.append(value if isinstance(value, tuple) else (value,))
    width = max((len(row) for row in rows), default=0)
    outputs: list[list[Any]] = [[] for _ in range(width)]
    for row in rows:
        whole = row * width if len(row) == 1 and isinstance(row[0], Blocked) else row
        for slot, value in enumerate(whole):
            if slot in node.list_outputs and not isinstance(value, Blocked):
                outputs[slot].extend(value)
            else:
                outputs[slot].append(value)
    return Result(outputs=tuple(outputs), artifacts=tuple(context.artifacts))


def _blocked(node: NodeClass, arguments: Mapping[str, Any]) -> Blocked | None:
    for value in arguments.values():
        for item in value if node.input_is_list else (value,):
            if isinstance(item, Blocked):
                return item
    return None


@contextlib.contextmanager
def _inference(torch_needed: bool) -> Iterator[None]:
    if not torch_needed:
        yield
        return
    import torch

    with torch.inference_mode():
        yield


@contextlib.contextmanager
def _blame(name: str, plan: _Plan, run: Run) -> Iterator[None]:
    """Turn what a node raises into an `EngineError` that names it."""
    place: dict[str, str] = {"node_id": name, "class_type": plan.nodes[name].class_type}
    try:
        yield
    except (RunCancelled, EngineError):
        raise
    except NotEnoughMemory as problem:
        raise OutOfMemory(problem.message, remedy=problem.remedy, exception_type="OutOfMemory", **place) from problem
    except NodeProblem as problem:
        raise NodeFailed(problem.message, remedy=problem.remedy, exception_type="NodeProblem", **place) from problem
    except Exception as error:
        kind = type(error)
        details: dict[str, str] = {
            "exception_type": kind.__qualname__
            if kind.__module__ == "builtins"
            else f"{kind.__module__}.{kind.__qualname__}",
            "traceback": "".join(traceback.format_exception(error)),
        }
        first_line = (str(error).strip() or kind.__name__).splitlines()[0]
        if _is_out_of_memory(error):
            raise OutOfMemory(
                f"memory ran out: {first_line}", remedy="make size or batch smaller", **place, **details
            ) from error
        raise NodeFailed(first_line, **place, **details) from error


def _is_out_of_memory(error: Exception) -> bool:
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":
        return True
    text = str(error)  # what torch's allocator for main memory says is a plain RuntimeError
    return isinstance(error, RuntimeError) and ("can't allocate memory" in text or "not enough memory" in text)
