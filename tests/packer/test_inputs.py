import pytest

from comfy_atelier.graph import NodeSchemas, Prompt, PromptError
from comfy_atelier.packer import MissingFile
from comfy_atelier.packer.inputs import InputFile, find_inputs, prompt_files

SCHEMAS = NodeSchemas.builtin()


def prompt(**nodes):
    return Prompt.from_json(
        {key: {"class_type": class_type, "inputs": inputs} for key, (class_type, inputs) in nodes.items()}
    )


def test_files_of_stock_nodes_and_of_markers():
    found = prompt_files(
        prompt(
            a=("LoadImage", {"image": "sub/a.png [input]"}),
            b=("LoadImageMask", {"image": "b.png", "channel": "red"}),
            c=("CPackInputImage", {"image": "c.png"}),
            d=("CPackInputFile", {"file_path": "d.txt"}),
            e=("AtelierInputMask", {"name": "m", "image": "e.png"}),
            f=("AtelierInputImage", {"name": "i", "image": ""}),
            g=("ComfyUIDeployExternalImage", {"input_id": "x", "default_value_url": "https://example.org/x.png"}),
            h=("CPackInputString", {"value": "../no file"}),
            i=("LoadImage", {"image": ["a", 0]}),
        ),
        SCHEMAS,
    )
    assert {(file.ref.node, file.name, file.kind) for file in found} == {
        ("a", "sub/a.png", "image"),
        ("b", "b.png", "mask"),
        ("c", "c.png", "image"),
        ("d", "d.txt", "file"),
        ("e", "e.png", "mask"),
    }


def test_the_first_folder_that_has_it_wins(tmp_path):
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
    (tmp_path / "two" / "a.png").write_bytes(b"two")
    (tmp_path / "one" / "b.png").mkdir()
    asked = prompt(a=("LoadImage", {"image": "a.png"}), b=("LoadImage", {"image": "b.png"}))
    folders = [tmp_path / "one", tmp_path / "two"]
    found, missing = find_inputs(asked, SCHEMAS, folders)
    assert found["a.png"].read() == b"two"
    assert [file.name for file in missing] == ["b.png"]
    mine = InputFile(name="b.png", path=tmp_path / "two" / "a.png")
    assert find_inputs(asked, SCHEMAS, folders, have={"b.png": mine})[1] == ()


def test_nothing_outside_is_read(tmp_path):
    (tmp_path / "secret").write_bytes(b"secret")
    (tmp_path / "input").mkdir()
    with pytest.raises(PromptError, match="leads out of the folder"):
        find_inputs(prompt(a=("LoadImage", {"image": "../secret"})), SCHEMAS, [tmp_path / "input"])
    with pytest.raises(PromptError):
        find_inputs(prompt(a=("CPackInputFile", {"path": str(tmp_path / "secret")})), SCHEMAS, [tmp_path / "input"])


def test_a_file_that_is_gone(tmp_path):
    with pytest.raises(MissingFile, match="cannot be read"):
        InputFile(name="x", path=tmp_path / "x").read()
    with pytest.raises(MissingFile, match="is nowhere"):
        InputFile(name="x").read()
