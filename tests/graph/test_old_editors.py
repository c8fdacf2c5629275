"""Workflows saved by the editors of 2023 to 2026 (tests/data/old_editors) become the prompts those editors sent."""

from __future__ import annotations

import functools
import json
from pathlib import Path
from typing import Any

import pytest

from comfy_atelier.graph import NodeSchemas, check_prompt, convert, parse_workflow

FOLDER = Path(__file__).parent.parent / "data" / "old_editors"
CASES = sorted(
    path.relative_to(FOLDER).as_posix().removesuffix(".workflow.json") for path in FOLDER.glob("*/*.workflow.json")
)

# A widget that was converted to an input and left without a wire: editors before 1.16 sent nothing, and the server
# refused the prompt. Since then the saved value is sent.
UNWIRED = {("2", "text"): "a lighthouse at dusk", ("5", "steps"): 17, ("5", "cfg"): 6.5}
SENT_SINCE = {f"{month}/converted-widgets": UNWIRED for month in ("2023-04", "2024-12")}

# The label of the upload button, which the editors of early 2023 sent as if it were an input.
BUTTON = "choose file to upload"

# What nothing reads: editors up to 1.36 sent the nodes inside a bypassed subgraph or group node all the same.
# The schemas of ComfyUI 0.3.64 stand for its editor, 1.27.
NOT_SENT_SINCE = {"2025-08/subgraph-bypassed": {"12:11"}}
ALSO_SENT_BY = {
    ("0.3.64", "2025-08/subgraph-bypassed"): {"12:11"},
    ("0.3.64", "2024-05/group-node-bypassed"): {"10:0", "10:1"},
}


@functools.cache
def schemas_of(version: str) -> NodeSchemas:
    return NodeSchemas.builtin(version)


def read(case: str, kind: str) -> str:
    return (FOLDER / f"{case}.{kind}.json").read_text(encoding="utf-8")


def plain(prompt: dict[str, Any]) -> dict[str, tuple[str, dict[str, Any]]]:
    return {node_id: (node["class_type"], node["inputs"]) for node_id, node in prompt.items()}


def expected(case: str, version: str) -> tuple[dict[str, tuple[str, dict[str, Any]]], set[str]]:
    """The recorded prompt, with the differences that are named above, and the ids of nodes that may come on top."""
    want = plain(json.loads(read(case, "prompt")))
    for (node_id, name), value in SENT_SINCE.get(case, {}).items():
        assert name not in want[node_id][1]
        want[node_id][1][name] = value
    for _, inputs in want.values():
        inputs.pop(BUTTON, None)
    for node_id in NOT_SENT_SINCE.get(case, set()):
        del want[node_id]
    return want, ALSO_SENT_BY.get((version, case), set())


def test_there_are_files_of_each_kind() -> None:
    assert {case.partition("/")[0][:4] for case in CASES} >= {"2023", "2024", "2025"}
    assert any("group-node" in case for case in CASES)
    assert any("subgraph" in case for case in CASES)
    assert '"groupNodes"' in read("2024-05/group-node", "workflow")
    assert '"subgraphs"' in read("2025-08/subgraph", "workflow")


@pytest.mark.parametrize("version", ["0.33.0", "0.3.64"])
@pytest.mark.parametrize("case", CASES)
def test_old_workflow_gives_the_prompt_of_its_time(case: str, version: str) -> None:
    prompt = convert(parse_workflow(read(case, "workflow")), schemas_of(version))
    want, extra = expected(case, version)
    got = plain(prompt.to_json())
    assert set(got) - set(want) == extra
    assert {node_id: node for node_id, node in got.items() if node_id not in extra} == want
    check_prompt(prompt, schemas_of(version))


@pytest.mark.parametrize("case", CASES)
def test_old_workflow_is_read_and_written_without_loss(case: str) -> None:
    text = read(case, "workflow")
    assert parse_workflow(text).to_json() == json.loads(text)
