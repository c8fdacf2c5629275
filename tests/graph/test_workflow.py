"""Reading workflows: nothing is lost, and what is no workflow says where."""

from __future__ import annotations

import copy
import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from comfy_atelier.graph import Workflow, WorkflowError, parse_workflow

scalars = (
    st.none()
    | st.booleans()
    | st.integers(-(2**60), 2**60)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=8)
)
anything = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)
extras = st.dictionaries(st.text(min_size=1, max_size=6).map(lambda key: "x_" + key), anything, max_size=3)


@st.composite
def graphs(draw: st.DrawFn) -> dict[str, Any]:
    count = draw(st.integers(0, 5))
    nodes = []
    for number in range(count):
        node: dict[str, Any] = {
            "id": draw(st.sampled_from([number + 1, f"n{number}"])),
            "type": draw(st.sampled_from(["A", "Reroute", "EmptyImage"])),
        }
        if draw(st.booleans()):
            node["inputs"] = [
                {
                    "name": draw(st.text(max_size=4)),
                    "type": "*",
                    "link": draw(st.none() | st.integers(0, 9)),
                    **draw(extras),
                }
            ]
        if draw(st.booleans()):
            node["outputs"] = [
                {
                    "name": "o",
                    "type": draw(st.sampled_from(["*", -1, ["A", "B"]])),
                    "links": draw(st.none() | st.lists(st.integers(0, 9), max_size=3)),
                }
            ]
        node["widgets_values"] = draw(
            st.lists(anything, max_size=3) | st.dictionaries(st.text(max_size=3), anything, max_size=3)
        )
        node["properties"] = draw(extras)
        nodes.append({**node, **draw(extras)})
    links = []
    for number in range(draw(st.integers(0, 4))):
        ends = [draw(st.integers(0, 6)), draw(st.integers(0, 3)), draw(st.integers(0, 6)), draw(st.integers(0, 3)), "*"]
        keys = ("origin_id", "origin_slot", "target_id", "target_slot", "type")
        links.append(draw(st.sampled_from([[number, *ends], {"id": number, **dict(zip(keys, ends, strict=True))}])))
    return {"nodes": nodes, "links": links, "extra": draw(extras), **draw(extras)}


@st.composite
def workflows(draw: st.DrawFn) -> dict[str, Any]:
    workflow = draw(graphs())
    workflow["version"] = draw(st.sampled_from([0.4, 1, 99]))
    subgraphs = [
        {**draw(graphs()), "id": f"{number}", "name": "s", "inputs": [], "outputs": []}
        for number in range(draw(st.integers(0, 2)))
    ]
    if subgraphs:
        workflow["definitions"] = {"subgraphs": subgraphs, **draw(extras)}
    return workflow


@settings(deadline=None)
@given(workflows())
def test_reading_and_writing_again_loses_nothing(value: dict[str, Any]) -> None:
    before = copy.deepcopy(value)
    workflow = Workflow.from_json(value)
    written = workflow.to_json()
    assert written == before
    assert parse_workflow(json.dumps(written)).to_json() == before


def test_what_is_written_is_the_callers_own() -> None:
    workflow = Workflow.from_json({"nodes": [{"id": 1, "type": "A"}], "links": []})
    workflow.to_json()["nodes"].clear()
    assert len(workflow.to_json()["nodes"]) == 1


def test_a_node_is_found_by_its_id() -> None:
    workflow = Workflow.from_json({"nodes": [{"id": 1, "type": "A"}], "links": []})
    assert workflow.node("1") is workflow.nodes[0]
    assert workflow.node("2") is None


NODE = {"id": 1, "type": "A"}


@pytest.mark.parametrize(
    ("value", "place"),
    [
        ([], "JSON object"),
        ({"links": []}, "'nodes'"),
        ({"nodes": {}}, "nodes"),
        ({"nodes": [None]}, "nodes[0]"),
        ({"nodes": [{"id": 1}]}, "nodes[0].type"),
        ({"nodes": [{"id": True, "type": "A"}]}, "nodes[0].id"),
        ({"nodes": [{"id": "a\nb", "type": "A"}]}, "nodes[0].id"),
        ({"nodes": [NODE, NODE]}, "nodes[1].id"),
        ({"nodes": [{**NODE, "inputs": 3}]}, "nodes[0].inputs"),
        ({"nodes": [{**NODE, "inputs": [3]}]}, "nodes[0].inputs[0]"),
        ({"nodes": [{**NODE, "inputs": [{"name": "x", "link": "abc"}]}]}, "nodes[0].inputs[0].link"),
        ({"nodes": [{**NODE, "outputs": [{"name": "x", "links": 4}]}]}, "nodes[0].outputs[0].links"),
        ({"nodes": [{**NODE, "widgets_values": "x"}]}, "nodes[0].widgets_values"),
        ({"nodes": [{**NODE, "properties": [1]}]}, "nodes[0].properties"),
        ({"nodes": [{**NODE, "inputs": [{"name": "x"}] * 5001}]}, "nodes[0].inputs"),
        ({"nodes": [], "links": 3}, "links"),
        ({"nodes": [], "links": [[1, 2]]}, "links[0]"),
        ({"nodes": [], "links": [[1.5, 1, 0, 2, 0, "A"]]}, "links[0]"),
        ({"nodes": [], "links": [[1, 1, -1, 2, 0, "A"]]}, "links[0]"),
        ({"nodes": [], "links": [[1, None, 0, 2, 0, "A"]]}, "links[0]"),
        ({"nodes": [], "links": [[1, 1, 0, 2, 0, "A"], [1, 3, 0, 2, 0, "A"]]}, "links[1]"),
        ({"nodes": [], "extra": 3}, "extra"),
        ({"nodes": [], "definitions": {"subgraphs": {}}}, "definitions.subgraphs"),
        ({"nodes": [], "definitions": {"subgraphs": [{"nodes": []}]}}, "definitions.subgraphs[0].id"),
        ({"nodes": [], "definitions": {"subgraphs": [{"id": "s", "nodes": [], "inputs": 1}]}}, "subgraphs[0].inputs"),
        (
            {"nodes": [], "definitions": {"subgraphs": [{"id": "s", "nodes": []}, {"id": "s", "nodes": [NODE]}]}},
            "subgraphs[1]",
        ),
        ({"nodes": [NODE] * 50_001}, "nodes"),
        ({"nodes": [], "links": [None] * 200_001}, "links"),
    ],
)
def test_what_is_no_workflow_says_where(value: Any, place: str) -> None:
    with pytest.raises(WorkflowError) as caught:
        Workflow.from_json(value)
    assert place in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"{",
        b"\xff\xfe\x00",
        b'{"nodes": NaN}',
        b'{"nodes": [], "nodes": []}',
        b"[" * 100_000,
        b'{"a":' * 100_000,
        b'{"nodes": [' + b"9" * 5000 + b"]}",
    ],
)
def test_what_is_no_json_says_so(text: bytes) -> None:
    with pytest.raises(WorkflowError):
        parse_workflow(text)


def test_byte_order_marks_and_utf16_are_read() -> None:
    text = json.dumps({"nodes": [{"id": 1, "type": "Ä"}], "links": []}, ensure_ascii=False)
    for data in (text.encode("utf-8-sig"), text.encode("utf-16")):
        assert parse_workflow(data).nodes[0].type == "Ä"


def test_too_deep_to_be_written_again_is_an_error_not_a_crash() -> None:
    deep: dict[str, Any] = {}
    for _ in range(100_000):
        deep = {"a": deep}
    workflow = Workflow.from_json({"nodes": [], "links": [], "extra": deep})
    with pytest.raises(WorkflowError, match="deeply"):
        workflow.to_json()
