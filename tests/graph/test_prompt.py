"""Prompts: read strictly, written back without loss, put in order."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from comfy_atelier.graph import InputRef, Link, Prompt, PromptError, consumers, parse_prompt, topological_order

GOOD = {
    "1": {"class_type": "EmptyImage", "inputs": {"width": 64}, "_meta": {"title": "Empty", "x": [1]}},
    "5:2": {
        "class_type": "SaveImage",
        "inputs": {"images": ["1", 0], "prefix": {"__value__": ["a", 0]}},
        "is_changed": 1,
    },
}


def test_reads_links_values_titles_and_keeps_the_rest() -> None:
    prompt = Prompt.from_json(GOOD)
    assert list(prompt.nodes) == ["1", "5:2"]
    save = prompt.nodes["5:2"]
    assert save.inputs["images"] == Link("1", 0)
    assert save.inputs["prefix"] == {"__value__": ["a", 0]}
    assert save.extra == {"is_changed": 1}
    assert prompt.nodes["1"].title == "Empty"
    assert prompt.nodes["1"].meta == {"x": [1]}
    assert prompt.to_json() == GOOD
    assert consumers(prompt) == {"1": ((InputRef("5:2", "images"), 0),)}


@pytest.mark.parametrize(
    "envelope",
    [
        {"prompt": GOOD},
        {"prompt": GOOD, "client_id": "x", "extra_data": {"extra_pnginfo": {}}, "number": 1},
        {"prompt": GOOD, "somebody's": "key"},
    ],
)
def test_takes_the_nodes_out_of_a_request_body(envelope: dict) -> None:
    assert Prompt.from_json(envelope) == Prompt.from_json(GOOD)


def test_a_node_may_be_called_prompt() -> None:
    assert list(Prompt.from_json({"prompt": GOOD["1"]}).nodes) == ["prompt"]


@pytest.mark.parametrize(
    ("value", "says"),
    [
        ([], "a prompt is a JSON object of nodes, not a list"),
        ("x", "not text"),
        (None, "not null"),
        ({}, "no nodes"),
        ({"prompt": {}}, "no nodes"),
        ({"1": None}, 'node 1, ["1"]: a node is an object'),
        ({"1": "class_type inputs"}, "not text"),
        ({"1": {"inputs": {}}}, "has no class_type"),
        ({"1": {"class_type": None, "inputs": {}}}, "class_type must be text, not null"),
        ({"1": {"class_type": {"a": 1}, "inputs": {}}}, "not an object"),
        ({"1": {"class_type": "", "inputs": {}}}, "class_type"),
        ({"1": {"class_type": "A"}}, 'node 1 (A), ["1"].inputs: has no inputs'),
        ({"1": {"class_type": "A", "inputs": []}}, "inputs must be an object, not a list"),
        ({"": {"class_type": "A", "inputs": {}}}, "readable"),
        ({"a\nb": {"class_type": "A", "inputs": {}}}, "readable"),
        ({"1": {"class_type": "A", "inputs": {"x": float("inf")}}}, '["1"].inputs.x'),
        ({"nodes": [], "links": []}, "editor's format"),
        ({"last_node_id": 3, "nodes": [{"id": 1}]}, "editor's format"),
    ],
)
def test_refusals_name_node_and_path(value: object, says: str) -> None:
    with pytest.raises(PromptError) as caught:
        Prompt.from_json(value)
    assert says in str(caught.value)


def chain(length: int) -> dict:
    nodes = {"0": {"class_type": "EmptyImage", "inputs": {}}}
    for i in range(1, length):
        nodes[str(i)] = {"class_type": "ImageInvert", "inputs": {"image": [str(i - 1), 0]}}
    return nodes


def test_order_of_a_long_chain_needs_no_recursion() -> None:
    nodes = dict(reversed(chain(20_000).items()))
    assert topological_order(Prompt.from_json(nodes)) == tuple(str(i) for i in range(20_000))


def test_order_of_what_a_root_needs() -> None:
    prompt = Prompt.from_json(chain(5) | {"x": {"class_type": "A", "inputs": {"a": ["4", 0]}}})
    assert topological_order(prompt, ["2"]) == ("0", "1", "2")


@pytest.mark.parametrize(
    ("wires", "says"),
    [
        ({"1": ["1"]}, "1 <- 1"),
        ({"1": ["2"], "2": ["3"], "3": ["1"]}, "1 <- 2 <- 3 <- 1"),
        ({"1": ["9"]}, 'wired to node "9"'),
    ],
)
def test_cycles_and_dangling_wires(wires: dict, says: str) -> None:
    nodes = {
        node: {"class_type": "A", "inputs": {f"i{n}": [source, 0] for n, source in enumerate(sources)}}
        for node, sources in wires.items()
    }
    with pytest.raises(PromptError, match="node 1") as caught:
        topological_order(Prompt.from_json(nodes))
    assert says in str(caught.value)


def test_a_long_cycle_gives_a_short_message() -> None:
    nodes = chain(3000)
    nodes["0"]["inputs"]["image"] = ["2999", 0]
    with pytest.raises(PromptError) as caught:
        topological_order(Prompt.from_json(nodes))
    assert len(str(caught.value)) < 200


VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**64), 2**64)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda c: st.lists(c, max_size=3) | st.dictionaries(st.text(), c, max_size=3),
    max_leaves=6,
)
LINKS = st.tuples(st.text(min_size=1, max_size=4), st.integers(0, 9)).map(list)
IDS = st.text(min_size=1, max_size=6).filter(
    lambda s: s.strip() and all(ord(c) >= 32 and ord(c) != 127 for c in s) and s not in {"nodes", "links", "prompt"}
)
NODES = st.fixed_dictionaries(
    {"class_type": st.text(min_size=1, max_size=8), "inputs": st.dictionaries(st.text(), VALUES | LINKS, max_size=4)},
    optional={"_meta": st.dictionaries(st.sampled_from(["title", "x"]), VALUES, max_size=2) | VALUES, "extra": VALUES},
)


@given(st.dictionaries(IDS, NODES, min_size=1, max_size=5))
def test_reading_and_writing_loses_nothing(value: dict) -> None:
    prompt = Prompt.from_json(value)
    assert prompt.to_json() == value
    assert parse_prompt(json.dumps(value)) == prompt
