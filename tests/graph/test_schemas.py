"""Node schemas: from a server's answer, from files, from tables, and the ones that ship."""

from __future__ import annotations

import json
import lzma
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from comfy_atelier.graph import NodeSchemas, SchemaError
from comfy_atelier.graph.schemas import builtin_versions, parse_input

INFO = Path(__file__).parent.parent / "data" / "object_info_small.json"


@pytest.fixture
def info() -> dict[str, Any]:
    return json.loads(INFO.read_text(encoding="utf-8"))


def test_a_servers_answer(info: dict[str, Any]) -> None:
    schemas = NodeSchemas.from_object_info(info)
    assert list(schemas) == ["Make", "Keep"]
    make, keep = schemas["Make"], schemas["Keep"]
    seed = make.input("seed")
    assert seed is not None
    assert (seed.type, seed.default, seed.has_default, seed.minimum, seed.maximum) == ("INT", 0, True, 0, 99)
    assert seed.is_widget
    assert [kind.choices for kind in make.inputs if kind.name == "kind"] == [("a", "b")]
    assert [(output.name, output.type, output.is_list) for output in make.outputs] == [("IMAGE", "IMAGE", False)]
    assert (keep.output_node, keep.display_name, keep.hidden) == (True, "Keep it", ("prompt",))
    assert [(spec.name, spec.required, spec.is_widget) for spec in keep.inputs] == [
        ("images", True, False),
        ("prefix", False, True),
    ]
    assert make.input("nothing") is None
    assert "Nobody" not in schemas
    with pytest.raises(KeyError):
        schemas["Nobody"]


@pytest.mark.parametrize(
    ("raw", "kind", "choices", "is_open", "upload", "widget"),
    [
        ([["a", "b"]], "COMBO", ("a", "b"), False, None, True),
        (["COMBO", {"options": ["a"]}], "COMBO", ("a",), False, None, True),
        (["COMBO", {"options": []}], "COMBO", (), True, None, True),
        ([["x.safetensors", "none"]], "COMBO", ("x.safetensors", "none"), True, None, True),
        ([["a.png"], {"image_upload": True}], "COMBO", ("a.png",), True, "image", True),
        (["COMBO", {"options": ["v"], "video_upload": True}], "COMBO", ("v",), True, "video", True),
        (["COMBO", {"options": ["a"], "remote": {"route": "/x"}}], "COMBO", ("a",), True, None, True),
        (["STRING", {"forceInput": True}], "STRING", None, False, None, False),
        (["IMAGE"], "IMAGE", None, False, None, False),
        (["FLOAT,INT", {"widgetType": "FLOAT"}], "FLOAT,INT", None, False, None, True),
        ("nonsense", "UNKNOWN", None, False, None, False),
        ([], "UNKNOWN", None, False, None, False),
        ([7, 8], "UNKNOWN", None, False, None, False),
    ],
)
def test_one_input(raw: Any, kind: str, choices: Any, is_open: bool, upload: str | None, widget: bool) -> None:
    spec = parse_input("x", raw)
    assert (spec.type, spec.choices, spec.open_choices, spec.upload, spec.is_widget) == (
        kind,
        choices,
        is_open,
        upload,
        widget,
    )


def test_a_loader_that_gives_masks_takes_a_mask() -> None:
    image = ["COMBO", {"options": [], "image_upload": True}]
    info = {
        "A": {"input": {"required": {"image": image}}, "output": ["MASK"]},
        "B": {"input": {"required": {"image": image}}, "output": ["IMAGE", "MASK"]},
    }
    schemas = NodeSchemas.from_object_info(info)
    assert [schemas[name].inputs[0].upload for name in "AB"] == ["mask", "image"]


def test_types_of_an_input() -> None:
    assert parse_input("x", ["FLOAT,INT"]).types == {"FLOAT", "INT"}


def test_inputs_are_in_the_servers_order() -> None:
    info = {
        "A": {
            "input": {"required": {"b": ["INT"], "a": ["INT"]}, "optional": {"c": ["INT"]}},
            "input_order": {"required": ["a", "b", "gone"]},
            "output": [],
        }
    }
    assert [spec.name for spec in NodeSchemas.from_object_info(info)["A"].inputs] == ["a", "b", "c"]


def test_tables_are_deterministic_small_and_say_the_same(info: dict[str, Any], tmp_path: Path) -> None:
    server = NodeSchemas.from_object_info(info)
    for name in ("one.json", "two.json"):
        server.save_table(tmp_path / name, version="1.2.3")
    text = (tmp_path / "one.json").read_bytes()
    assert text == (tmp_path / "two.json").read_bytes()
    assert b"prose" not in text
    assert text.endswith(b"\n")
    table = NodeSchemas.from_file(tmp_path / "one.json")
    assert (table.version, table.modern) == ("1.2.3", server.modern)
    for name in server:
        assert table[name].outputs == server[name].outputs
        for ours, theirs in zip(table[name].inputs, server[name].inputs, strict=True):
            assert (ours.name, ours.type, ours.required, ours.default, ours.choices, ours.is_widget) == (
                theirs.name,
                theirs.type,
                theirs.required,
                theirs.default,
                theirs.choices,
                theirs.is_widget,
            )
    assert table.table_text() == server.table_text(version="1.2.3")


def test_lists_of_files_are_left_out_of_tables(tmp_path: Path) -> None:
    info = {"A": {"input": {"required": {"model": [["mine.safetensors"]], "kind": [["x", "y"]]}}, "output": []}}
    NodeSchemas.from_object_info(info).save_table(tmp_path / "t.json")
    assert "mine" not in (tmp_path / "t.json").read_text()
    model, kind = NodeSchemas.from_file(tmp_path / "t.json")["A"].inputs
    assert (model.choices, model.open_choices) == (None, True)
    assert (kind.choices, kind.open_choices) == (("x", "y"), False)


def test_merging_prefers_the_other(info: dict[str, Any]) -> None:
    first = NodeSchemas.from_object_info(info, version="1")
    second = NodeSchemas.from_object_info({"Keep": {"input": {}, "output": [], "display_name": "Other"}})
    both = first.merged(second)
    assert (both["Keep"].display_name, both["Make"].display_name) == ("Other", "Make it")
    assert sorted(both) == ["Keep", "Make"]
    assert len(both) == 2
    assert both.version == "1"


@pytest.mark.parametrize("version", ["0.3.64", "0.33.0"])
def test_what_ships(version: str) -> None:
    assert version in builtin_versions()
    schemas = NodeSchemas.builtin(version)
    assert schemas.modern is (version == "0.33.0")
    sampler = schemas["KSampler"]
    assert [spec.name for spec in sampler.inputs] == (
        [
            "model",
            "seed",
            "steps",
            "cfg",
            "sampler_name",
            "scheduler",
            "positive",
            "negative",
            "latent_image",
            "denoise",
        ]
    )
    names = sampler.input("sampler_name")
    assert names is not None
    assert "euler" in (names.choices or ())
    loader = schemas["CheckpointLoaderSimple"].input("ckpt_name")
    assert loader is not None
    assert loader.open_choices
    assert loader.choices is None
    for name in schemas:
        assert schemas[name].class_type == name
        assert not any("tooltip" in spec.options for spec in schemas[name].inputs)


def test_the_newest_is_the_default_and_others_are_an_error() -> None:
    assert NodeSchemas.builtin().version == builtin_versions()[-1]
    with pytest.raises(SchemaError, match="only of"):
        NodeSchemas.builtin("0.1.2")


def test_packed_files(info: dict[str, Any], tmp_path: Path) -> None:
    (tmp_path / "info.json.xz").write_bytes(lzma.compress(json.dumps(info).encode()))
    assert len(NodeSchemas.from_file(tmp_path / "info.json.xz")) == 2


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"{",
        b"[]",
        b'{"a": 1}',
        b'{"1": {"class_type": "A", "inputs": {}}}',
        b"\xfd7zXZ\x00garbage",
        b"\xff\xff",
        b"[" * 100_000,
        b'{"format": "comfy-atelier node schemas", "version": 99}',
        b'{"format": "comfy-atelier node schemas", "version": 1, "classes": [], "choices": []}',
    ],
)
def test_files_that_hold_no_schemas(tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "wrong.json"
    path.write_bytes(data)
    with pytest.raises(SchemaError) as caught:
        NodeSchemas.from_file(path)
    assert caught.value.file == str(path)


def test_a_damaged_line_in_a_table_is_found_when_it_is_asked_for(tmp_path: Path) -> None:
    table = {"format": "comfy-atelier node schemas", "version": 1, "comfyui": None, "choices": [], "classes": {"A": {}}}
    (tmp_path / "t.json").write_text(json.dumps(table))
    schemas = NodeSchemas.from_file(tmp_path / "t.json")
    with pytest.raises(SchemaError, match="class A"):
        schemas["A"]


def test_a_missing_file_and_a_folder_that_is_none(tmp_path: Path, info: dict[str, Any]) -> None:
    with pytest.raises(SchemaError, match="cannot be read"):
        NodeSchemas.from_file(tmp_path / "none.json")
    with pytest.raises(SchemaError, match="cannot be written"):
        NodeSchemas.from_object_info(info).save_table(tmp_path / "none" / "t.json")
    assert not list(tmp_path.iterdir())


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="this system has no named pipes")
def test_a_table_is_written_through_what_is_no_file(tmp_path):
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    reader = subprocess.Popen([sys.executable, "-c", f"print(len(open({str(pipe)!r}).read()))"], stdout=subprocess.PIPE)
    NodeSchemas.builtin("0.3.64").save_table(pipe)
    assert int(reader.communicate(timeout=30)[0]) > 1000
    assert [path.name for path in tmp_path.iterdir()] == ["pipe"]
