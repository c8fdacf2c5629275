"""The `atelier` command as a person calls it: what it prints, where, and with which exit code."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

from comfy_atelier.cli.main import main

ROOT = Path(__file__).parent.parent.parent
WORKFLOW = ROOT / "workflows" / "contact-sheet.json"
LOAD_AND_SAVE = {
    "1": {"class_type": "LoadImage", "inputs": {"image": "photo.png"}},
    "2": {"class_type": "ImageInvert", "inputs": {"image": ["1", 0]}},
    "3": {"class_type": "SaveImage", "inputs": {"images": ["2", 0], "filename_prefix": "negative"}},
}


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of a person: a picture, a prompt that reads it, nothing configured."""
    monkeypatch.chdir(tmp_path)
    for name in ("ATELIER_COMFYUI", "ATELIER_COMFYUI_PYTHON"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    Image.new("RGB", (20, 10), (10, 20, 30)).save(tmp_path / "photo.png")
    Image.new("RGB", (20, 10), (0, 0, 0)).save(tmp_path / "example.png")
    (tmp_path / "prompt.json").write_text(json.dumps(LOAD_AND_SAVE))
    return tmp_path


def test_help_names_every_command(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--help"]) == 0
    shown = capsys.readouterr().out
    commands = "convert inspect lint diff schemas pack unpack verify export run serve models demo"
    for name in commands.split():
        assert f"\n  {name} " in shown


def test_convert_forms_agree(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["convert", str(WORKFLOW), "--stdout"]) == 0
    shown = json.loads(capsys.readouterr().out)
    assert main(["convert", str(WORKFLOW), "-o", "out.json"]) == 0
    assert json.loads(Path("out.json").read_text(encoding="utf-8")) == shown
    piped = subprocess.run(
        [sys.executable, "-m", "comfy_atelier", "convert", "-"],
        input=WORKFLOW.read_bytes(),
        capture_output=True,
        check=True,
    )
    assert json.loads(piped.stdout) == shown
    assert shown["19"]["inputs"] == {"images": ["16", 0], "filename_prefix": ["18", 0]}


def test_convert_takes_an_object_info(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    info = {
        "Mine": {
            "input": {"required": {"images": ["IMAGE"], "strength": ["FLOAT", {"default": 0.5}]}},
            "output": [],
            "output_name": [],
            "name": "Mine",
            "output_node": True,
        }
    }
    workflow = {
        "nodes": [
            {"id": 4, "type": "Mine", "mode": 0, "inputs": [], "outputs": [], "widgets_values": [0.25], "order": 0}
        ],
        "links": [],
        "version": 0.4,
    }
    Path("info.json").write_text(json.dumps(info))
    Path("mine.json").write_text(json.dumps(workflow))
    assert main(["convert", "mine.json", "info.json", "--stdout"]) == 0
    assert json.loads(capsys.readouterr().out)["4"]["inputs"] == {"strength": 0.25}


def test_pack_verify_unpack(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["pack", str(WORKFLOW), "-o", "a.cpack.zip", "--input-dir", "."]) == 0
    assert main(["pack", str(WORKFLOW), "-o", "b.cpack.zip", "--input-dir", ".", "-q"]) == 0
    assert Path("a.cpack.zip").read_bytes() == Path("b.cpack.zip").read_bytes()
    assert main(["verify", "a.cpack.zip"]) == 0
    assert main(["unpack", "a.cpack.zip", "-d", "out"]) == 0
    assert Path("out/input/example.png").read_bytes() == Path("example.png").read_bytes()
    capsys.readouterr()
    assert main(["inspect", "a.cpack.zip", "--json"]) == 0
    described = json.loads(capsys.readouterr().out)
    names = [parameter["name"] for parameter in described["interface"]["parameters"]]
    assert names[:3] == ["image", "title", "blur_radius"]
    assert [file["name"] for file in described["inputs"]] == ["example.png"]


def test_run_saves_what_is_produced(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("torch", reason="the embedded engine is not installed")
    assert main(["run", "prompt.json", "--input", "image=photo.png", "-o", "results", "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    (file,) = report["files"]
    with Image.open(file["path"]) as picture:
        assert picture.size == (20, 10)
        assert picture.getpixel((3, 3)) == (245, 235, 225)


def test_interface_overrides_reach_the_bundle(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    options = ["--hide", "color", "--rename", "title=caption", "--param", "sharpness=7.alpha"]
    assert main(["pack", str(WORKFLOW), "-o", "c.cpack.zip", "--input-dir", ".", *options]) == 0
    capsys.readouterr()
    assert main(["inspect", "c.cpack.zip", "--json"]) == 0
    names = {p["name"] for p in json.loads(capsys.readouterr().out)["interface"]["parameters"]}
    assert {"caption", "sharpness"} <= names
    assert not {"color", "title"} & names


def test_schemas(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    info = {"Only": {"input": {"required": {"n": ["INT", {"default": 3, "min": 0, "max": 9}]}}, "output": ["INT"]}}
    Path("info.json").write_text(json.dumps(info))
    assert main(["schemas", "save", "table.json", "--object-info", "info.json"]) == 0
    first = Path("table.json").read_bytes()
    assert main(["schemas", "save", "table.json", "--object-info", "info.json"]) == 0
    assert Path("table.json").read_bytes() == first
    assert main(["schemas", "show", "Only", "--schemas", "table.json"]) == 0
    assert "0..9" in capsys.readouterr().out


BAD_CALLS = {
    "not JSON": (["inspect", "text.json"], 1, "text.json: not JSON"),
    "neither format": (["inspect", "other.json"], 1, "neither a workflow nor a prompt"),
    "no such file": (["inspect", "nowhere.json"], 1, "nowhere.json"),
    "input file missing": (["pack", "prompt-missing.json", "-o", "m.cpack.zip"], 1, "'nope.png'"),
    "value out of bounds": (["run", str(WORKFLOW), "-i", "image=photo.png", "-i", "blur_radius=99"], 1, "at most 31"),
    "no number": (["run", str(WORKFLOW), "-i", "blur_radius=soft"], 1, "must be a number"),
    "unknown parameter": (["run", str(WORKFLOW), "-i", "nope=1"], 2, "this one has: image, title"),
    "not name=value": (["run", str(WORKFLOW), "-i", "nope"], 2, "name=value"),
    "no such picture": (["run", str(WORKFLOW), "-i", "image=gone.png"], 2, "no file 'gone.png'"),
    "no such engine": (["run", str(WORKFLOW), "--engine", "fast"], 2, "use embedded or comfyui"),
    "engine without address": (["run", "prompt.json", "--engine", "comfyui"], 1, "--comfyui"),
    "contradiction": (["run", "prompt.json", "--engine", "embedded", "--comfyui", "http://x"], 2, "contradict"),
    "folder that is none": (["run", "prompt.json", "--comfyui", "nowhere", "-i", "image=photo.png"], 1, "nowhere"),
    "unreadable bundle": (["verify", "broken.cpack.zip"], 1, "broken.cpack.zip"),
    "unpack over files": (["unpack", "broken.cpack.zip", "-d", "."], 1, ""),
    "unknown class": (["schemas", "show", "KSampleer"], 2, "KSampler"),
    "schemas twice": (["convert", str(WORKFLOW), "a.json", "--schemas", "b.json"], 2, "given twice"),
    "no such command": (["fly"], 2, "fly"),
}


@pytest.mark.parametrize("name", BAD_CALLS)
def test_bad_calls_end_in_one_clear_error(name: str, place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments, code, words = BAD_CALLS[name]
    Path("text.json").write_text("hello")
    Path("other.json").write_text('{"a": 1}')
    missing = json.loads(json.dumps(LOAD_AND_SAVE).replace("photo.png", "nope.png"))
    Path("prompt-missing.json").write_text(json.dumps(missing))
    Path("broken.cpack.zip").write_bytes(b"PK\x03\x04 no zip")
    before = {path: path.stat().st_size for path in place.rglob("*") if path.is_file()}
    assert main(arguments) == code
    shown = capsys.readouterr()
    assert words in shown.err + shown.out
    assert "Traceback" not in shown.err + shown.out
    assert len(shown.err.strip().splitlines()) <= 4
    left = {path: path.stat().st_size for path in place.rglob("*") if path.is_file()}
    assert left == before, "a failed call left files behind"


def test_an_engine_that_is_not_there(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        address = f"http://127.0.0.1:{probe.getsockname()[1]}"  # bound, but nobody listens
        assert main(["run", "prompt.json", "--comfyui", address, "-i", "image=photo.png"]) == 1
    shown = capsys.readouterr().err
    assert address in shown
    assert "Traceback" not in shown


def test_a_port_in_use(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        assert main(["serve", "prompt.json", "--port", str(port), "--data-dir", "data"]) == 1
    assert str(port) in capsys.readouterr().err


def test_verbose_shows_the_traceback(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Path("text.json").write_text("hello")
    assert main(["inspect", "text.json", "-v"]) == 1
    assert "Traceback" in capsys.readouterr().err


def test_control_characters_in_errors_are_visible(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["inspect", "a\x1b[31mred.json"]) == 1
    assert "\x1b" not in capsys.readouterr().err


def test_schemas_of_some_classes_only(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    info = {"AtelierA": {"input": {}, "output": ["INT"]}, "Other": {"input": {}, "output": ["INT"]}}
    Path("info.json").write_text(json.dumps(info))
    arguments = ["schemas", "save", "ours.json", "--object-info", "info.json", "--only", "Atelier", "--json"]
    assert main(arguments) == 0
    assert json.loads(capsys.readouterr().out)["classes"] == 1
