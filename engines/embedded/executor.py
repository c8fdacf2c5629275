"""The executor: runs a prompt with ComfyUI's semantics.

Only what output nodes need is computed, ancestors first, each result once; results are kept by signature across runs;
lazy inputs are computed when their node asks; values travel as lists, and a node runs once for each (save with
`NodeClass.input_is_list`), the last value standing in where a list is shorter. Behaviour as of ComfyUI 0.33.0
``execution.py``.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from ...graph.prompt import Link, Prompt
from ..errors import Cancelled
from ..events import Cached, Finished, Started
from .cache import NodeCache, Result
from .context import Context, Run
from .inputs import grouped
from .planning import Plan, Planner
from .problems import NodeProblem, RunCancelled, blaming
from .registry import NodeClass


@dataclass(frozen=True, kw_only=True, slots=True)
class Blocked:
    """A value that stops what depends on it, without an error (ComfyUI's ``ExecutionBlocker``)."""

    message: str | None = None


@dataclass(kw_only=True)
class _State:
    """A run under way."""

    plan: Plan
    run: Run
    results: dict[str, Result] = field(default_factory=dict)
    wanted: dict[str, set[str]] = field(default_factory=dict)  # lazy inputs that nodes have asked for
    uses: dict[str, int] = field(default_factory=dict)  # how many inputs still wait for a node's result


class Executor:
    """Runs prompts one after another; keeps their results in `cache`."""

    def __init__(self, planner: Planner, cache: NodeCache) -> None:
        self.planner = planner
        self.cache = cache

    def run(self, prompt: Prompt, run: Run) -> None:
        """Execute `prompt`, telling `run.emit` what happens; `Finished` is the last event.

        Raises:
            EngineError: `UnknownNodes`, `InvalidPrompt`, `NodeFailed`, `OutOfMemory` or `Cancelled`.
        """
        try:
            run.check_cancelled()
            plan = self.planner.plan(prompt, run)
            cached = tuple(name for name, signature in plan.signatures.items() if signature in self.cache)
            if cached:
                run.emit(Cached(nodes=cached))
            state = _State(plan=plan, run=run, uses=plan.uses())
            with _inference(plan.needs_torch):
                for output in plan.outputs:
                    self._compute(output, state)
            run.emit(Finished())
        except RunCancelled as error:
            raise Cancelled("the job was cancelled") from error

    def _compute(self, target: str, state: _State) -> None:
        """Compute `target` and what it needs that is not computed yet. No recursion: prompts may be long chains."""
        stack = [target]
        while stack:
            name = stack[-1]
            if name in state.results:
                stack.pop()
                continue
            state.run.check_cancelled()
            kept = self.cache.get(state.plan.signatures[name])
            if kept is not None:
                self._replay(name, kept, state)
                stack.pop()
                continue
            missing = [link.node for link in _needed(name, state) if link.node not in state.results]
            if missing:
                stack.extend(reversed(missing))
                continue
            if self._attempt(name, state):
                stack.pop()

    def _replay(self, name: str, kept: Result, state: _State) -> None:
        """Hand out a result from the cache as if it were new: files get names of this run."""
        context = Context(state.run, name, state.plan.nodes[name].class_type)
        for artifact in kept.artifacts:
            context.produce(artifact, batch=len(context.artifacts))
        state.results[name] = kept

    def _attempt(self, name: str, state: _State) -> bool:
        """Run a node whose inputs are there; False where it asks for lazy inputs first."""
        node = state.plan.classes[name]
        class_type = state.plan.nodes[name].class_type
        with blaming(name, class_type, make_room=self.cache.clear):
            inputs = _gather(name, state)
            asked = _ask(name, node, inputs, state)
            if asked:
                state.wanted.setdefault(name, set()).update(asked)
                return False
            state.run.emit(Started(node=name))
            result = _execute(node, inputs, state.plan.groups[name], Context(state.run, name, class_type))
        state.results[name] = result
        self.cache.put(state.plan.signatures[name], result)
        _release(name, state)
        return True


def _needed(name: str, state: _State) -> Iterator[Link]:
    lazy = state.plan.classes[name].lazy
    wanted = state.wanted.get(name, ())
    for input_name, link in state.plan.nodes[name].links:
        if input_name not in lazy or input_name in wanted:
            yield link


def _release(name: str, state: _State) -> None:
    """Let go of results that nobody waits for any more; the cache may keep them."""
    for _, link in state.plan.nodes[name].links:
        state.uses[link.node] -= 1
        if state.uses[link.node] == 0 and link.node in state.results:
            state.results[link.node] = Result(outputs=())


def _gather(name: str, state: _State) -> dict[str, list[Any]]:
    """Each input as the list of its values; a lazy one that was not computed is [None]."""
    inputs: dict[str, list[Any]] = {}
    for input_name, value in state.plan.nodes[name].inputs.items():
        if not isinstance(value, Link):
            inputs[input_name] = [value]
        elif value.node in state.results:
            inputs[input_name] = state.results[value.node].outputs[value.slot]
        else:
            inputs[input_name] = [None]
    return inputs


def _ask(name: str, node: NodeClass, inputs: Mapping[str, list[Any]], state: _State) -> set[str]:
    """The lazy inputs that the node needs and does not have yet."""
    if node.needs is None:
        return set()
    asked: set[str] = set()
    for arguments in _calls(node, inputs):
        asked.update(node.needs(**arguments))
    return {input_name for input_name, link in state.plan.nodes[name].links if input_name in asked} & {
        input_name for input_name, link in state.plan.nodes[name].links if link.node not in state.results
    }


def _calls(node: NodeClass, inputs: Mapping[str, list[Any]]) -> Iterator[dict[str, Any]]:
    """The arguments of each call: one with the lists themselves, or one for each value, the last repeated."""
    if node.input_is_list or not inputs:
        yield dict(inputs)
        return
    for index in range(max(len(values) for values in inputs.values())):
        # an empty list has no last value to repeat: ComfyUI fails there, and so does the look-up
        yield {name: values[index if index < len(values) else -1] for name, values in inputs.items()}


def _execute(
    node: NodeClass, inputs: Mapping[str, list[Any]], groups: Mapping[str, tuple[str, ...]], context: Context
) -> Result:
    rows: list[tuple[Any, ...]] = []
    for arguments in _calls(node, inputs):
        context.check_cancelled()
        blocked = _blocked(node, arguments)
        if blocked is not None:
            if blocked.message is not None:
                raise NodeProblem(f"stopped by an earlier node: {blocked.message}")
            rows.append((blocked,))
            continue
        named = grouped(arguments, groups)
        value = node.function(**named, context=context) if node.uses_context else node.function(**named)
        rows.append(value if isinstance(value, tuple) else (value,))
    return Result(outputs=_merged(rows, node.list_outputs), artifacts=tuple(context.artifacts))


def _merged(rows: list[tuple[Any, ...]], lists: frozenset[int]) -> tuple[list[Any], ...]:
    """The outputs of all calls, slot by slot; a blocked call blocks each of its slots."""
    width = max((len(row) for row in rows), default=0)
    outputs: list[list[Any]] = [[] for _ in range(width)]
    for row in rows:
        whole = row * width if len(row) == 1 and isinstance(row[0], Blocked) else row
        for slot, value in enumerate(whole):
            if slot in lists and not isinstance(value, Blocked):
                outputs[slot].extend(value)
            else:
                outputs[slot].append(value)
    return tuple(outputs)


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
