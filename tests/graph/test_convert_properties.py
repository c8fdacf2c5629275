"""Conversion of what nobody would draw: random graphs, and workflows built to cost too much."""

from __future__ import annotations

import functools
import json
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from comfy_atelier.graph import ConversionError, GraphError, Link, NodeSchemas, Workflow, convert, parse_workflow
from comfy_atelier.graph.prompt import Prompt
from comfy_atelier.graph.replacements import dynamic_prompt
from comfy_atelier.graph.validation import check_prompt

INPUTS = {
    "EmptyImage": [],
    "ImageInvert": ["image"],
    "ImageBlend": ["image1", "image2"],
    "SaveImage": ["images"],
    "Reroute": [""],
    "Note": [],
}
VALUES: dict[str, list[Any]] = {"EmptyImage": [64, 32, 1, 255], "ImageBlend": [0.5, "normal"], "SaveImage": ["out"]}


@functools.cache
def schemas() -> NodeSchemas:
    return NodeSchemas.builtin()


def wire(nodes: list[dict[str, Any]], wanted: list[list[int]]) -> list[list[Any]]:
    """Links for each pair (source, target input), told to both ends."""
    links: list[list[Any]] = []
    for target, inputs in enumerate(wanted):
        for place, source in enumerate(inputs):
            if source < 0:
                continue
            link = len(links) + 1
            links.append([link, nodes[source]["id"], 0, nodes[target]["id"], place, "IMAGE"])
            nodes[target]["inputs"][place]["link"] = link
            nodes[source]["outputs"][0]["links"].append(link)
    return links


@st.composite
def acyclic(draw: st.DrawFn, modes: tuple[int, ...] = (0, 0, 2, 4)) -> dict[str, Any]:
    """A graph whose every input is wired to an earlier node that makes images, so that it can run."""
    nodes: list[dict[str, Any]] = []
    wanted: list[list[int]] = []
    for number in range(draw(st.integers(1, 8))):
        kind = "EmptyImage" if number == 0 else draw(st.sampled_from(sorted(INPUTS)))
        makers = [i for i, node in enumerate(nodes) if node["type"] not in {"SaveImage", "Note"}]
        nodes.append(
            {
                "id": number + 1,
                "type": kind,
                "mode": draw(st.sampled_from(modes)) if INPUTS[kind] else 0,
                "inputs": [{"name": name, "type": "*" if not name else "IMAGE", "link": None} for name in INPUTS[kind]],
                "outputs": [{"name": "IMAGE", "type": "IMAGE", "links": []}],
                "widgets_values": list(VALUES.get(kind, [])),
            }
        )
        wanted.append([draw(st.sampled_from(makers)) for _ in INPUTS[kind]])
    return {"version": 0.4, "nodes": nodes, "links": wire(nodes, wanted)}


def folded(graph: dict[str, Any]) -> dict[str, Any]:
    """The same graph as a subgraph, with two instances of it."""
    links = [
        dict(zip(("id", "origin_id", "origin_slot", "target_id", "target_slot", "type"), x, strict=True))
        for x in graph["links"]
    ]
    definition = {"id": "f" * 8, "name": "all", "nodes": graph["nodes"], "links": links, "inputs": [], "outputs": []}
    instances = [{"id": number, "type": "f" * 8, "mode": 0} for number in (900, 901)]
    return {"version": 0.4, "nodes": instances, "links": [], "definitions": {"subgraphs": [definition]}}


def dangling(prompt: Prompt) -> list[Link]:
    return [
        v
        for node in prompt.nodes.values()
        for v in node.inputs.values()
        if isinstance(v, Link) and v.node not in prompt.nodes
    ]


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(acyclic(modes=(0, 0, 4)), st.booleans())
def test_what_convert_gives_passes_prompt_validation(graph: dict[str, Any], fold: bool) -> None:
    prompt = convert(Workflow.from_json(folded(graph) if fold else graph), schemas())
    assert not dangling(prompt)
    if any(node.class_type == "SaveImage" for node in prompt.nodes.values()):
        check_prompt(prompt, schemas())
    assert Prompt.from_json(json.loads(json.dumps(prompt.to_json()))) == prompt


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.data())
def test_links_never_lead_to_a_node_that_is_not_there(data: st.DataObject) -> None:
    """Any wiring at all, circles and muted nodes included: a prompt without dangling links, or an error."""
    graph = data.draw(acyclic())
    count = len(graph["nodes"])
    for node in graph["nodes"]:
        for output in node["outputs"]:
            output["links"] = []
    wanted = [[data.draw(st.integers(-1, count - 1)) for _ in node["inputs"]] for node in graph["nodes"]]
    graph["links"] = wire(graph["nodes"], wanted)
    if data.draw(st.booleans()) and graph["links"]:
        graph["links"].pop(data.draw(st.integers(0, len(graph["links"]) - 1)))
    try:
        prompt = convert(Workflow.from_json(graph), schemas())
    except ConversionError as error:
        if not error.where:
            raise
        return
    assert not dangling(prompt)


@given(st.text(alphabet="ab{}|\\/* \n", max_size=40), st.integers(0, 3))
def test_dynamic_prompts_never_fail(text: str, seed: int) -> None:
    import random

    assert isinstance(dynamic_prompt(text, random.Random(seed)), str)
    assert isinstance(dynamic_prompt(text, None), str)


# ----------------------------------------------------------------------------------------------- built to cost too much

UUID = "00000000-0000-4000-8000-{:012d}"


def nested(levels: int, copies: int) -> dict[str, Any]:
    definitions = []
    for level in range(levels):
        inner = UUID.format(level + 1) if level + 1 < levels else "EmptyImage"
        nodes = [{"id": number, "type": inner, "outputs": []} for number in range(copies)]
        definitions.append(
            {"id": UUID.format(level), "name": "s", "nodes": nodes, "links": [], "inputs": [], "outputs": []}
        )
    return {
        "version": 0.4,
        "nodes": [{"id": 1, "type": UUID.format(0)}],
        "links": [],
        "definitions": {"subgraphs": definitions},
    }


def chain(length: int) -> dict[str, Any]:
    """Reroutes in a row, each with a consumer of its own."""
    nodes: list[dict[str, Any]] = []
    links = []
    for number in range(length):
        kind = "EmptyImage" if number == 0 else "Reroute"
        nodes.append(
            {
                "id": number,
                "type": kind,
                "inputs": [{"name": "", "type": "*", "link": number}] if number else [],
                "outputs": [{"name": "", "type": "*", "links": [number + 1, 100_000 + number]}],
            }
        )
        nodes.append(
            {
                "id": 50_000 + number,
                "type": "PreviewImage",
                "inputs": [{"name": "images", "type": "IMAGE", "link": 100_000 + number}],
            }
        )
        if number:
            links.append([number, number - 1, 0, number, 0, "*"])
        links.append([100_000 + number, number, 0, 50_000 + number, 0, "*"])
    return {"version": 0.4, "nodes": nodes, "links": links}


def primitives(value: Any) -> dict[str, Any]:
    nodes = [
        {
            "id": 1,
            "type": "PrimitiveNode",
            "outputs": [{"name": "FLOAT", "type": "FLOAT", "links": [1]}],
            "widgets_values": [value],
        },
        {
            "id": 2,
            "type": "KSampler",
            "inputs": [{"name": "cfg", "type": "FLOAT", "widget": {"name": "cfg"}, "link": 1}],
        },
    ]
    return {"version": 0.4, "nodes": nodes, "links": [[1, 1, 0, 2, 0, "FLOAT"]]}


def instance(**more: Any) -> dict[str, Any]:
    graph = nested(1, 1)
    graph["nodes"][0].update(more)
    return graph


GROUPS = [
    3,
    [],
    {"g": 3},
    {"g": {"nodes": 3}},
    {"g": {"nodes": [3, {"type": "EmptyImage"}], "links": 3, "external": [[{}, 1]], "config": 7}},
]
GARBAGE = {
    "million links": {"nodes": [], "links": [[n, 1, 0, 2, 0, "*"] for n in range(1_000_000)]},
    "many links": {"nodes": [], "links": [[n, 1, 0, 2, 0, "*"] for n in range(150_000)]},
    "exponential subgraphs": nested(30, 2),
    "wide subgraphs": nested(4, 60),
    "deep subgraphs": nested(400, 1),
    "deep chain": chain(20_000),
    "many proxies": instance(properties={"proxyWidgets": [["0", "width"]] * 100_000}),
    "odd proxies": instance(properties={"proxyWidgets": [["0", "1: " * 5000 + "width"], ["0", "width", "9"]]}),
    "proxies of another form": instance(properties={"proxyWidgets": [["0", 3], None]}),
    "odd quarantine": instance(properties={"proxyWidgetErrorQuarantine": [3, {"originalEntry": ["-1", 3]}]}),
    "huge primitive": primitives(2**1000),
    "tiny primitive": primitives(1e-320),
    "text primitive": primitives("x" * 100_000),
    "odd primitive": primitives([1, {"a": 2}]),
    "long number text": {
        "nodes": [
            {
                "id": 1,
                "type": "EmptyImage",
                "widgets_values": ["1" * 1_000_000 + "x"],
                "inputs": [{"name": "width", "type": "INT", "widget": {"name": "width"}}],
            }
        ],
        "links": [],
    },
    "open comments": {"nodes": [{"id": 1, "type": "CLIPTextEncode", "widgets_values": ["/*" * 400_000]}], "links": []},
    "open braces": {"nodes": [{"id": 1, "type": "CLIPTextEncode", "widgets_values": ["{" * 400_000]}], "links": []},
    "many names": {"nodes": [{"id": 1, "type": "SaveImage", "widgets_values": ["%a.b%" * 100_000]}], "links": []},
    "long growing names": {
        "nodes": [
            {
                "id": 1,
                "type": "BatchImagesNode",
                "inputs": [{"name": "images." + "1" * 500_000 + "x", "type": "IMAGE", "link": None}],
            }
        ],
        "links": [],
    },
    "many options": {"nodes": [{"id": 1, "type": "CustomCombo", "widgets_values": ["a"] * 20_000}], "links": []},
    "odd values": {
        "nodes": [{"id": 1, "type": "ResizeImageMaskNode", "widgets_values": [{"a": 1}, [2], None]}],
        "links": [],
    },
    **{
        f"groups {n}": {"nodes": [{"id": 1, "type": "workflow>g"}], "links": [], "extra": {"groupNodes": g}}
        for n, g in enumerate(GROUPS)
    },
}


@pytest.mark.parametrize("name", GARBAGE)
def test_garbage_ends_soon_with_a_prompt_or_an_error(name: str) -> None:
    """What takes long here would take hours with the quadratic ways of doing it; pytest's own patience is the limit."""
    try:
        workflow = parse_workflow(json.dumps(GARBAGE[name]))
        prompt = convert(workflow, schemas())
    except GraphError as error:
        if "\n" in str(error):
            raise
        return
    assert not dangling(prompt)
