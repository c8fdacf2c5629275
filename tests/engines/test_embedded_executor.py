"""ComfyUI's execution semantics in the embedded executor: what runs, how often, in which order, with which values."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping
from typing import Any

import pytest

from comfy_atelier.engines import Cached, Cancelled, Event, InvalidPrompt, NodeFailed, Produced, Started
from comfy_atelier.engines.embedded import registry
from comfy_atelier.engines.embedded.cache import NodeCache
from comfy_atelier.engines.embedded.context import Context, Run
from comfy_atelier.engines.embedded.executor import Blocked, Executor
from comfy_atelier.engines.embedded.planning import Planner
from comfy_atelier.engines.embedded.problems import NodeProblem
from comfy_atelier.engines.embedded.registry import NEVER_CACHED, NodeGroup
from comfy_atelier.graph import InputSpec, NodeSchema, NodeSchemas, OutputSpec, Prompt

NODES = NodeGroup()
CALLS: list[str] = []


@NODES.node("Number")
def number(value: int) -> int:
    CALLS.append(f"number {value}")
    return value


@NODES.node("Numbers", list_outputs=frozenset({0}))
def numbers(count: int) -> tuple[list[int]]:
    return (list(range(count)),)


@NODES.node("Add")
def add(a: int, b: int) -> int:
    CALLS.append(f"{a} + {b}")
    return a + b


@NODES.node("Total", input_is_list=True)
def total(values: list[int]) -> int:
    return sum(values)


def _chosen(use: int, first: Any = None, second: Any = None) -> Iterator[str]:
    if (second if use else first) is None:
        yield "second" if use else "first"


@NODES.node("Choose", lazy=frozenset({"first", "second"}), needs=_chosen)
def choose(use: int, first: Any = None, second: Any = None) -> tuple[Any]:
    return (second if use else first,)


@NODES.node("Stop")
def stop(value: int) -> Blocked | int:
    return Blocked() if value < 2 else value


@NODES.node("Clock", fingerprint=lambda **_: NEVER_CACHED)
def clock(value: int) -> int:
    CALLS.append("clock")
    return value


@NODES.node("Fail")
def fail(value: int) -> int:
    raise NodeProblem("it will not", remedy="ask nicely")


@NODES.node("Show", output_node=True)
def show(value: Any, *, context: Context) -> tuple[()]:
    from comfy_atelier.engines.embedded.cache import Artifact

    context.produce(Artifact(kind="text", media_type="text/plain", data=str(value).encode()))
    return ()


def _schema(name: str, inputs: Mapping[str, str], output: str | None = "INT", **more: Any) -> NodeSchema:
    specs = tuple(
        InputSpec(name=key, type=kind.removesuffix("?"), required=not kind.endswith("?"), is_widget=kind == "INT")
        for key, kind in inputs.items()
    )
    outputs = (OutputSpec(name="out", type=output, is_list=name == "Numbers"),) if output else ()
    return NodeSchema(class_type=name, inputs=specs, outputs=outputs, **more)


SCHEMAS = {
    schema.class_type: schema
    for schema in (
        _schema("Number", {"value": "INT"}),
        _schema("Numbers", {"count": "INT"}),
        _schema("Add", {"a": "INT", "b": "INT"}),
        _schema("Total", {"values": "INT"}, is_input_list=True),
        _schema("Choose", {"use": "INT", "first": "*", "second": "*"}, "*"),
        _schema("Stop", {"value": "INT"}),
        _schema("Clock", {"value": "INT"}),
        _schema("Fail", {"value": "INT"}),
        _schema("Show", {"value": "*"}, None, output_node=True),
    )
}


@pytest.fixture
def executor(monkeypatch: pytest.MonkeyPatch) -> Executor:
    CALLS.clear()
    monkeypatch.setattr(registry, "CLASSES", dict.fromkeys(NODES, "nodes_text"))
    monkeypatch.setattr(registry, "load", NODES.__getitem__)
    return Executor(Planner(NodeSchemas(SCHEMAS)), NodeCache())


def execute(executor: Executor, **nodes: tuple[str, Mapping[str, Any]]) -> list[Event]:
    told: list[Event] = []
    prompt = Prompt.from_json(
        {name: {"class_type": kind, "inputs": dict(given)} for name, (kind, given) in nodes.items()}
    )
    executor.run(prompt, Run(emit=told.append, cancelled=threading.Event()))
    return told


def shown(told: list[Event]) -> list[str]:
    return [event.data.decode() for event in told if isinstance(event, Produced) and isinstance(event.data, bytes)]


def started(told: list[Event]) -> list[str]:
    return [event.node for event in told if isinstance(event, Started)]


def test_only_what_an_output_needs_runs(executor: Executor) -> None:
    told = execute(
        executor, a=("Number", {"value": 1}), unused=("Number", {"value": 2}), show=("Show", {"value": ["a", 0]})
    )
    assert started(told) == ["a", "show"]


def test_equal_nodes_run_once(executor: Executor) -> None:
    told = execute(
        executor,
        a=("Number", {"value": 3}),
        b=("Number", {"value": 3}),
        sum=("Add", {"a": ["a", 0], "b": ["b", 0]}),
        show=("Show", {"value": ["sum", 0]}),
    )
    assert shown(told) == ["6"]
    assert CALLS == ["number 3", "3 + 3"]


def test_a_change_runs_only_what_depends_on_it(executor: Executor) -> None:
    def run(value: int) -> list[Event]:
        return execute(
            executor,
            a=("Number", {"value": 1}),
            b=("Number", {"value": value}),
            sum=("Add", {"a": ["a", 0], "b": ["b", 0]}),
            show=("Show", {"value": ["sum", 0]}),
        )

    run(1)
    CALLS.clear()
    told = run(5)
    assert CALLS == ["number 5", "1 + 5"]
    assert [event.nodes for event in told if isinstance(event, Cached)] == [("a",)]
    assert shown(told) == ["6"]


def test_a_finished_prompt_is_answered_from_the_cache(executor: Executor) -> None:
    nodes: dict[str, Any] = {"a": ("Number", {"value": 1}), "show": ("Show", {"value": ["a", 0]})}
    first, second = execute(executor, **nodes), execute(executor, **nodes)
    assert shown(first) == shown(second) == ["1"]
    assert started(second) == []


def test_what_must_not_be_cached_runs_again_and_so_does_what_follows(executor: Executor) -> None:
    nodes: dict[str, Any] = {
        "time": ("Clock", {"value": 1}),
        "sum": ("Add", {"a": ["time", 0], "b": 1}),
        "show": ("Show", {"value": ["sum", 0]}),
    }
    execute(executor, **nodes)
    execute(executor, **nodes)
    assert CALLS == ["clock", "1 + 1"] * 2


def test_a_list_runs_a_node_for_each_value_and_repeats_the_last_of_shorter_ones(executor: Executor) -> None:
    told = execute(
        executor,
        many=("Numbers", {"count": 4}),
        few=("Numbers", {"count": 2}),
        sum=("Add", {"a": ["many", 0], "b": ["few", 0]}),
        show=("Show", {"value": ["sum", 0]}),
    )
    assert shown(told) == ["0", "2", "3", "4"]
    assert CALLS == ["0 + 0", "1 + 1", "2 + 1", "3 + 1"]


def test_a_node_that_takes_lists_gets_them_whole(executor: Executor) -> None:
    told = execute(
        executor,
        many=("Numbers", {"count": 5}),
        sum=("Total", {"values": ["many", 0]}),
        show=("Show", {"value": ["sum", 0]}),
    )
    assert shown(told) == ["10"]


def test_an_unused_lazy_input_is_not_computed(executor: Executor) -> None:
    told = execute(
        executor,
        a=("Number", {"value": 1}),
        b=("Fail", {"value": 2}),
        choice=("Choose", {"use": 0, "first": ["a", 0], "second": ["b", 0]}),
        show=("Show", {"value": ["choice", 0]}),
    )
    assert shown(told) == ["1"]
    assert started(told) == ["a", "choice", "show"]


def test_a_blocked_value_stops_what_depends_on_it_and_nothing_else(executor: Executor) -> None:
    told = execute(
        executor,
        many=("Numbers", {"count": 4}),
        gate=("Stop", {"value": ["many", 0]}),
        sum=("Add", {"a": ["gate", 0], "b": 10}),
        show=("Show", {"value": ["sum", 0]}),
    )
    assert shown(told) == ["12", "13"]


def test_a_failing_node_names_itself(executor: Executor) -> None:
    with pytest.raises(NodeFailed) as caught:
        execute(executor, a=("Fail", {"value": 1}), show=("Show", {"value": ["a", 0]}))
    assert str(caught.value) == "node a (Fail): it will not; ask nicely"


@pytest.mark.parametrize(
    "nodes",
    [
        {"a": ("Number", {"value": 1})},
        {"a": ("Number", {}), "show": ("Show", {"value": ["a", 0]})},
        {"a": ("Number", {"value": "many"}), "show": ("Show", {"value": ["a", 0]})},
        {
            "a": ("Add", {"a": ["b", 0], "b": 1}),
            "b": ("Add", {"a": ["a", 0], "b": 1}),
            "c": ("Show", {"value": ["a", 0]}),
        },
        {"a": ("Number", {"value": 1}), "show": ("Show", {"value": ["a", 1]})},
        {"show": ("Show", {"value": ["gone", 0]})},
    ],
)
def test_wrong_prompts_are_refused_before_anything_runs(executor: Executor, nodes: dict[str, Any]) -> None:
    with pytest.raises(InvalidPrompt):
        execute(executor, **nodes)
    assert CALLS == []


def test_long_chains_need_no_stack(executor: Executor) -> None:
    nodes: dict[str, Any] = {"0": ("Number", {"value": 0})}
    for place in range(1, 3000):
        nodes[str(place)] = ("Add", {"a": [str(place - 1), 0], "b": 1})
    told = execute(executor, **nodes, show=("Show", {"value": ["2999", 0]}))
    assert shown(told) == ["2999"]


def test_a_cancelled_run_stops_between_nodes(executor: Executor) -> None:
    cancelled = threading.Event()
    told: list[Event] = []

    def emit(event: Event) -> None:
        told.append(event)
        if isinstance(event, Started) and event.node == "a":
            cancelled.set()

    nodes = {"a": ("Number", {"value": 1}), "show": ("Show", {"value": ["a", 0]})}
    prompt = Prompt.from_json({name: {"class_type": kind, "inputs": given} for name, (kind, given) in nodes.items()})
    with pytest.raises(Cancelled):
        executor.run(prompt, Run(emit=emit, cancelled=cancelled))
    assert started(told) == ["a"]


def test_results_that_nobody_waits_for_are_let_go(executor: Executor, monkeypatch: pytest.MonkeyPatch) -> None:
    executor.cache.limit = 0
    released: list[str] = []

    class Big:
        def __init__(self, name: str) -> None:
            self.name = name

        def __del__(self) -> None:
            released.append(self.name)

    group = NodeGroup()
    group.node("Number")(lambda value: Big(f"big {value}"))
    group.node("Add")(lambda a, b: list(released))
    group.node("Show", output_node=True)(show)
    monkeypatch.setattr(registry, "load", group.__getitem__)
    told = execute(
        executor,
        a=("Number", {"value": 1}),
        b=("Add", {"a": ["a", 0], "b": 1}),
        c=("Add", {"a": ["b", 0], "b": 2}),
        show=("Show", {"value": ["c", 0]}),
    )
    assert shown(told) == ["['big 1']"]
