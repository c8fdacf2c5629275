"""Conversion: small workflows with the prompts that the editor sends for them, and those that must be refused."""

from __future__ import annotations

import functools
import json
from pathlib import Path
from typing import Any

import pytest

from comfy_atelier.graph import ConversionError, GraphError, NodeSchemas, Workflow, WorkflowError, convert
from comfy_atelier.graph.validation import check_prompt

CASES = sorted((Path(__file__).parent.parent / "data" / "workflows").glob("*.json"))
RIGHT = [path for path in CASES if not path.name.startswith("error_")]
WRONG = [path for path in CASES if path.name.startswith("error_")]


@functools.cache
def schemas_of(version: str) -> NodeSchemas:
    return NodeSchemas.builtin(version)


def read(path: Path) -> dict[str, Any]:
    return json.loads(path.read_text(encoding="utf-8"))


def plain(prompt: Any) -> dict[str, Any]:
    return {
        node_id: {"inputs": node["inputs"], "class_type": node["class_type"]}
        for node_id, node in prompt.to_json().items()
    }


@pytest.mark.parametrize("path", RIGHT, ids=lambda p: p.stem)
def test_workflow_gives_its_prompt(path: Path) -> None:
    case = read(path)
    prompt = convert(Workflow.from_json(case["workflow"]), schemas_of(case["schemas"]))
    assert plain(prompt) == case["prompt"], case["about"]


@pytest.mark.parametrize("path", WRONG, ids=lambda p: p.stem)
def test_workflow_is_refused_by_name_and_place(path: Path) -> None:
    case = read(path)
    with pytest.raises((ConversionError, WorkflowError)) as caught:
        convert(Workflow.from_json(case["workflow"]), schemas_of(case["schemas"]))
    for words in case["error"]:
        assert words in str(caught.value), case["about"]
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("path", RIGHT, ids=lambda p: p.stem)
def test_conversion_leaves_the_workflow_as_it_was(path: Path) -> None:
    case = read(path)
    workflow = Workflow.from_json(case["workflow"])
    first = convert(workflow, schemas_of(case["schemas"]))
    assert workflow.to_json() == read(path)["workflow"]
    assert convert(workflow, schemas_of(case["schemas"])).to_json() == first.to_json()


def test_choices_are_resolved_only_where_asked_and_by_the_seed() -> None:
    case = read(CASES[0].parent / "prompt_choices_kept.json")
    workflow, schemas = Workflow.from_json(case["workflow"]), NodeSchemas.builtin()

    def text(choice: bool | int) -> Any:
        return convert(workflow, schemas, resolve_dynamic_prompts=choice).nodes["1"].inputs["text"]

    assert text(False) == "a {red|blue} cat // x"
    assert text(7) == text(7)
    assert {text(seed) for seed in range(40)} == {"a red cat ", "a blue cat "}
    assert text(0) in {"a red cat ", "a blue cat "}
    assert text(True) in {"a red cat ", "a blue cat "}


def test_titles_are_the_users_or_the_schemas() -> None:
    case = read(CASES[0].parent / "plain.json")
    case["workflow"]["nodes"][1]["title"] = "My result"
    prompt = convert(Workflow.from_json(case["workflow"]), NodeSchemas.builtin())
    assert (prompt.nodes["1"].title, prompt.nodes["2"].title) == ("Empty Image", "My result")


def test_server_schemas_and_their_table_convert_alike(tmp_path: Path) -> None:
    info = read(Path(__file__).parent.parent / "data" / "object_info_small.json")
    server = NodeSchemas.from_object_info(info)
    server.save_table(tmp_path / "table.json", version="9.9.9")
    table = NodeSchemas.from_file(tmp_path / "table.json")
    workflow = Workflow.from_json(
        {
            "version": 0.4,
            "nodes": [
                {
                    "id": 1,
                    "type": "Make",
                    "outputs": [{"name": "IMAGE", "type": "IMAGE", "links": [1]}],
                    "widgets_values": [3, "fixed", "b", 0.5],
                },
                {
                    "id": 2,
                    "type": "Keep",
                    "inputs": [{"name": "images", "type": "IMAGE", "link": 1}],
                    "widgets_values": [],
                },
            ],
            "links": [[1, 1, 0, 2, 0, "IMAGE"]],
        }
    )
    expected = {
        "1": {"class_type": "Make", "inputs": {"seed": 3, "kind": "b", "kind.amount": 0.5}},
        "2": {"class_type": "Keep", "inputs": {"prefix": "x", "images": ["1", 0]}},
    }
    assert plain(convert(workflow, server)) == plain(convert(workflow, table)) == expected


def test_shared_templates_are_the_same_as_the_front_ends(shared: Path) -> None:
    """The given third of the official templates, judged by ``compare.py``'s own function."""
    import importlib.util

    spec = importlib.util.spec_from_file_location("compare", shared / "parity" / "compare.py")
    assert spec is not None
    assert spec.loader is not None
    compare = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(compare)
    for version in ("0.3.64", "0.33.0"):
        info = compare.load(f"object_info-{version}.json.xz")
        schemas = NodeSchemas.from_object_info(info)
        wrong = {}
        for name, case in compare.load(f"truth-{version}.json.xz").items():
            got = convert(Workflow.from_json(case["workflow"]), schemas).to_json()
            if differences := compare.differences(got, case["prompt"], info):
                wrong[name] = differences[:3]
        assert not wrong, version


def test_hostile_workflows_are_refused_or_run(shared: Path) -> None:
    from comfy_atelier.graph import read_document

    schemas = NodeSchemas.builtin()
    wrong = []
    for expect in sorted((shared / "hostile" / "workflows" / "ui").glob("*.expect.json")):
        path = Path(str(expect).removesuffix(".expect.json"))
        wanted = read(expect)["expect"]
        try:
            check_prompt(read_document(path).to_prompt(schemas), schemas)
        except GraphError as error:
            if wanted == "accept" or not error.where:
                wrong.append((path.name, str(error)))
        else:
            if wanted == "reject":
                wrong.append((path.name, "accepted"))
    assert not wrong
