"""`atelier lint` and `atelier diff`."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from comfy_atelier.cli.main import main

WORKFLOW = Path(__file__).parent.parent.parent / "workflows" / "contact-sheet.json"
EMPTY = {"class_type": "EmptyImage", "inputs": {"width": 64, "height": 64, "batch_size": 1, "color": 0}}
SAVE = {"class_type": "SaveImage", "inputs": {"images": ["1", 0], "filename_prefix": "x"}}


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    Path("good.json").write_text(json.dumps({"1": EMPTY, "2": SAVE}))
    Path("unknown.json").write_text(json.dumps({"1": {"class_type": "Nowhere", "inputs": {}}, "2": SAVE}))
    Path("mute.json").write_text(json.dumps({"1": EMPTY}))
    Path("wide.json").write_text(json.dumps({"1": {**EMPTY, "inputs": {**EMPTY["inputs"], "width": 128}}, "2": SAVE}))
    return tmp_path


def test_nothing_found(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["lint", "good.json", str(WORKFLOW)]) == 0
    assert "good.json: fine" in capsys.readouterr().out


def test_errors_fail_and_name_the_node(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["lint", "good.json", "unknown.json", "mute.json"]) == 1
    shown = capsys.readouterr().out
    assert "A501: node 1 (Nowhere)" in shown
    assert "A502" in shown


def test_an_unreadable_file_fails_and_the_others_are_judged(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Path("text.json").write_text("hello")
    assert main(["lint", "text.json", "good.json", "--json"]) == 1
    report = json.loads(capsys.readouterr().out)
    assert [one["file"] for one in report["files"]] == ["good.json"]
    assert report["unreadable"][0]["file"] == "text.json"


def test_sarif_names_rule_and_file(place: Path) -> None:
    assert main(["lint", "unknown.json", "--sarif", "log.sarif", "-q"]) == 1
    (run,) = json.loads(Path("log.sarif").read_text(encoding="utf-8"))["runs"]
    assert {result["ruleId"] for result in run["results"]} == {"A501"}


def test_fail_on_a_lower_severity(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Path("old.json").write_text(
        json.dumps(
            {
                "1": EMPTY,
                "3": {"class_type": "ImageBatch", "inputs": {"image1": ["1", 0], "image2": ["1", 0]}},
                "2": {**SAVE, "inputs": {**SAVE["inputs"], "images": ["3", 0]}},
            }
        )
    )
    assert main(["lint", "old.json"]) == 0
    assert "A503" in capsys.readouterr().out
    assert main(["lint", "old.json", "--fail-on", "note"]) == 1


def test_models_folder_must_be_one(place: Path) -> None:
    assert main(["lint", "good.json", "--models", "nowhere"]) == 2


def test_diff_shows_a_value_and_no_difference(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["diff", "good.json", "wide.json"]) == 0
    assert "1 (EmptyImage).width: 64 -> 128" in capsys.readouterr().out
    assert main(["diff", "good.json", "good.json"]) == 0
    assert "no difference" in capsys.readouterr().out


def test_diff_fails_where_callers_break(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Path("example.png").write_bytes(b"")
    arguments = ["pack", str(WORKFLOW), "-o", "less.cpack.zip", "--input-dir", ".", "--hide", "blur_radius", "-q"]
    assert main(arguments) == 0
    assert main(["diff", str(WORKFLOW), "less.cpack.zip", "--exit-code", "--json"]) == 1
    report = json.loads(capsys.readouterr().out)
    assert report["breaking"]
    assert any(change["kind"] == "parameter" and change["action"] == "removed" for change in report["changes"])
