import json
import os
import subprocess
import sys
import zipfile

import pytest

from comfy_atelier.graph import GraphError
from comfy_atelier.packer import Bundle, MissingFile, PackerError, pack, unpack, verify
from comfy_atelier.packer.hashes import HashCache

NODES = {
    "1": {"class_type": "LoadImage", "inputs": {"image": "photo.png"}, "_meta": {"title": "Photo"}},
    "2": {"class_type": "UpscaleModelLoader", "inputs": {"model_name": "tiny.pth"}},
    "3": {"class_type": "ImageUpscaleWithModel", "inputs": {"upscale_model": ["2", 0], "image": ["1", 0]}},
    "4": {"class_type": "SaveImage", "inputs": {"images": ["3", 0], "filename_prefix": "out"}},
}
SHA = "4bf5122f344554c53bde2ebb8cd2b7e3d1600ad631c385a5d7cce23c7785459a"  # of the byte 1


@pytest.fixture
def place(tmp_path, monkeypatch):
    """A prompt, its input file, a folder of models; the user's cache is not touched."""
    (tmp_path / "flow").mkdir()
    (tmp_path / "flow" / "upscale.json").write_text(json.dumps(NODES), encoding="utf-8")
    (tmp_path / "flow" / "photo.png").write_bytes(b"a picture " * 100)
    (tmp_path / "models" / "upscale_models").mkdir(parents=True)
    (tmp_path / "models" / "upscale_models" / "tiny.pth").write_bytes(b"\x01")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path


def make(place, name="x.cpack.zip", source=None, **options):
    options = {"models_dirs": [place / "models"], "cache": HashCache(place / "hashes.sqlite3")} | options
    return pack(source or place / "flow" / "upscale.json", place / name, **options)


def test_a_bundle_holds_what_the_format_says(place):
    report = make(place)
    assert report.members == ("atelier.json", "input/photo.png", "snapshot.json", "workflow_api.json")
    assert (report.inputs, report.nodes, report.size) == (("photo.png",), 4, (place / "x.cpack.zip").stat().st_size)
    (model,) = report.models
    assert (model.filename, model.sha256, model.size) == ("models/upscale_models/tiny.pth", SHA, 1)
    with zipfile.ZipFile(place / "x.cpack.zip") as archive:
        assert json.loads(archive.read("workflow_api.json")) == NODES
        snapshot = json.loads(archive.read("snapshot.json"))
        stated = json.loads(archive.read("atelier.json"))
    assert list(snapshot) == [
        "comfyui", "git_custom_nodes", "cnr_custom_nodes", "file_custom_nodes", "pips", "python", "models",
    ]  # fmt: skip
    assert snapshot["models"] == [
        {"filename": "models/upscale_models/tiny.pth", "sha256": SHA, "disabled": False, "size": 1, "source": {}}
    ]
    assert stated["format"] == 1
    assert stated["classes"] == sorted({node["class_type"] for node in NODES.values()})
    assert set(stated["members"]) == {"input/photo.png", "snapshot.json", "workflow_api.json"}
    assert stated["interface"]["parameters"]
    assert str(place) not in str(snapshot) + str(stated)
    assert json.loads(json.dumps(report.to_json()))["sha256"] == report.sha256
    checked = verify(place / "x.cpack.zip")
    assert checked.ok
    assert [finding.message for finding in checked.findings] == [
        "says of no source for 'models/upscale_models/tiny.pth'"
    ]


SCRIPT = """
import sys
from pathlib import Path
from comfy_atelier.packer import pack
from comfy_atelier.packer.hashes import HashCache
place = Path(sys.argv[1])
pack(place / "flow" / "upscale.json", sys.argv[2], models_dirs=[place / "models"], cache=HashCache(place / "h"))
"""


def test_packing_twice_gives_the_same_bytes(place):
    first = make(place)
    os.utime(place / "flow" / "photo.png", (1, 1))
    assert make(place, "y.cpack.zip").sha256 == first.sha256
    for index, environment in enumerate(({"TZ": "Asia/Tokyo", "PYTHONHASHSEED": "7"}, {"LC_ALL": "C", "TZ": "UTC"})):
        out = place / f"z{index}.cpack.zip"
        subprocess.run(
            [sys.executable, "-c", SCRIPT, str(place), str(out)], check=True, env={**os.environ, **environment}
        )
        assert out.read_bytes() == (place / "x.cpack.zip").read_bytes()


def test_packing_a_bundle_again_gives_the_same_bytes(place):
    """Without the models at hand: what the bundle says of them stays."""
    first = make(place)
    again = make(place, "y.cpack.zip", source=place / "x.cpack.zip", models_dirs=[])
    assert again.sha256 == first.sha256
    assert make(place, "z.cpack.zip", source=Bundle.open(place / "x.cpack.zip")).sha256 == first.sha256


def test_unpacking_gives_the_files_back(place):
    make(place)
    report = unpack(place / "x.cpack.zip", place / "out")
    assert (place / "out" / "input" / "photo.png").read_bytes() == b"a picture " * 100
    assert json.loads((place / "out" / "workflow_api.json").read_text()) == NODES
    assert report.files == ("atelier.json", "input/photo.png", "snapshot.json", "workflow_api.json")
    assert report.left_out == ()


def test_a_missing_input_is_named_with_the_folders_and_the_remedy(place):
    (place / "flow" / "photo.png").unlink()
    with pytest.raises(MissingFile) as caught:
        make(place, input_dirs=[place / "more"])
    flow = place / "flow"
    assert str(caught.value) == (
        f"{flow / 'upscale.json'}: node 1 (LoadImage), input 'image': the input file 'photo.png' is not in {flow}, "
        f"{flow / 'input'}, {place / 'more'}; put it beside the workflow, or name its folder with --input-dir"
    )
    assert not (place / "x.cpack.zip").exists()


def test_a_missing_model_is_named_with_the_folders_and_the_remedy(place):
    (place / "models" / "upscale_models" / "tiny.pth").unlink()
    with pytest.raises(MissingFile) as caught:
        make(place)
    assert str(caught.value).startswith(
        f"{place / 'flow' / 'upscale.json'}: node 2 (UpscaleModelLoader), input 'model_name': the model 'tiny.pth' is "
        f"not in {place / 'models' / 'upscale_models'}; put it into models/upscale_models"
    )
    assert "--allow-missing-models" in str(caught.value)


WORKFLOW = {
    "nodes": [
        {"id": 1, "type": "UpscaleModelLoader", "pos": [0, 0], "size": [1, 1], "flags": {}, "order": 0, "mode": 0,
         "inputs": [], "outputs": [{"name": "UPSCALE_MODEL", "type": "UPSCALE_MODEL", "links": [1]}],
         "properties": {}, "widgets_values": ["tiny.pth"]},
        {"id": 2, "type": "EmptyImage", "pos": [0, 0], "size": [1, 1], "flags": {}, "order": 1, "mode": 0,
         "inputs": [], "outputs": [{"name": "IMAGE", "type": "IMAGE", "links": [2]}],
         "properties": {}, "widgets_values": [64, 64, 1, 0]},
        {"id": 3, "type": "ImageUpscaleWithModel", "pos": [0, 0], "size": [1, 1], "flags": {}, "order": 2, "mode": 0,
         "inputs": [{"name": "upscale_model", "type": "UPSCALE_MODEL", "link": 1},
                    {"name": "image", "type": "IMAGE", "link": 2}],
         "outputs": [{"name": "IMAGE", "type": "IMAGE", "links": [3]}], "properties": {}},
        {"id": 4, "type": "SaveImage", "pos": [0, 0], "size": [1, 1], "flags": {}, "order": 3, "mode": 0,
         "inputs": [{"name": "images", "type": "IMAGE", "link": 3}], "outputs": [], "properties": {},
         "widgets_values": ["x"]},
    ],
    "links": [[1, 1, 0, 3, 0, "UPSCALE_MODEL"], [2, 2, 0, 3, 1, "IMAGE"], [3, 3, 0, 4, 0, "IMAGE"]],
    "version": 0.4, "last_node_id": 4, "last_link_id": 3,
}  # fmt: skip


def with_models(place, **entry):
    value = json.loads(json.dumps(WORKFLOW))
    value["nodes"][0]["properties"]["models"] = [{"name": "tiny.pth", "directory": "upscale_models"} | entry]
    path = place / "flow" / "w.json"
    path.write_text(json.dumps(value))
    return path


def test_a_missing_model_is_recorded_where_that_is_allowed(place):
    (place / "models" / "upscale_models" / "tiny.pth").unlink()
    url = "https://models.example.org/tiny.pth"
    report = make(place, source=with_models(place, url=url, hash=SHA, hash_type="SHA256"), allow_missing_models=True)
    (model,) = report.models
    assert (model.sha256, model.size, model.source.download_url) == (SHA, None, url)
    assert report.notes == ("the model 'models/upscale_models/tiny.pth' was not there when this was packed",)
    report = make(place, source=with_models(place, url=url), allow_missing_models=True)
    assert report.models == ()
    (unresolved,) = report.manifest.unresolved_models
    assert (unresolved.filename, unresolved.node, unresolved.input, unresolved.url) == (
        "models/upscale_models/tiny.pth", "1", "model_name", url,
    )  # fmt: skip
    assert Bundle.open(report.path).atelier.unresolved_models == (unresolved,)
    assert verify(report.path).ok


def test_the_workflows_own_source_is_recorded(place):
    url = "https://models.example.org/tiny.pth"
    report = make(place, source=with_models(place, url=url, hash=SHA, hash_type="SHA256"))
    assert report.members[-2:] == ("workflow.json", "workflow_api.json")
    assert report.models[0].source.download_url == url
    wrong = make(place, source=with_models(place, url=url, hash="ab" * 32, hash_type="SHA256"))
    assert wrong.models[0].source is None
    evil = make(place, source=with_models(place, url="file:///etc/passwd"))
    assert evil.models[0].source is None


def test_interface_changes_are_written(place):
    report = make(place, params=["prefix=4.filename_prefix"], hide=["image"])
    names = [parameter.name for parameter in Bundle.open(report.path).interface.parameters]
    assert "prefix" in names
    assert "image" not in names
    with pytest.raises(GraphError):
        make(place, hide=["no such"])


def test_the_folder_and_the_disk(place, monkeypatch):
    with pytest.raises(PackerError, match="create the folder first"):
        make(place, "no/such/folder.cpack.zip")

    def full(descriptor):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(PackerError, match="no space left on device"):
        make(place)
    monkeypatch.undo()
    assert not [path for path in place.iterdir() if "cpack" in path.name]


def test_progress_comes_to_its_end(place):
    seen = []
    make(place, progress=lambda done, total, what: seen.append((done, total, what)), cache=HashCache(place / "new"))
    hashing = [state for state in seen if state[2].startswith("hashing")]
    writing = [state for state in seen if state[2].startswith("writing")]
    assert hashing[-1] == (1, 1, "hashing tiny.pth")
    assert writing[-1][0] == writing[-1][1]
    assert seen == [*hashing, *writing]


def test_a_prompt_that_reads_elsewhere_is_not_packed(place):
    (place / "secret.png").write_bytes(b"secret")
    value = {**NODES, "1": {"class_type": "LoadImage", "inputs": {"image": "../secret.png"}}}
    (place / "flow" / "upscale.json").write_text(json.dumps(value))
    with pytest.raises(GraphError, match="leads out of the folder"):
        make(place)


COMFY_PACK = """
import json, shutil, sys, zipfile
from pathlib import Path
from comfy_pack.package import required_files
from comfy_pack.utils import generate_input_model
shutil.unpack_archive(sys.argv[1], sys.argv[2])
folder = Path(sys.argv[2])
assert all((folder / name).exists() for name in required_files)
snapshot = json.loads((folder / "snapshot.json").read_text())
assert "pips" in snapshot
for model in snapshot["models"]:
    model["sha256"], model["filename"], (model.get("source") or {"download_url": 1})["download_url"]
schema = generate_input_model(json.loads((folder / "workflow_api.json").read_text())).model_json_schema()
print(json.dumps(schema["properties"]))
"""


def test_comfy_pack_reads_ours(place):
    """The real comfy-pack 0.4.4, where ATELIER_TEST_COMFY_PACK names a Python that has it."""
    python = os.environ.get("ATELIER_TEST_COMFY_PACK")
    if not python:
        pytest.skip("ATELIER_TEST_COMFY_PACK names no Python with comfy-pack")
    nodes = {
        **NODES,
        "1": {"class_type": "CPackInputImage", "inputs": {"image": "photo.png"}, "_meta": {"title": "photo"}},
        "5": {
            "class_type": "CPackInputInt",
            "inputs": {"value": 5, "min": 1, "max": 9},
            "_meta": {"title": "count"},
        },
    }
    (place / "flow" / "upscale.json").write_text(json.dumps(nodes))
    report = make(place)
    done = subprocess.run(
        [python, "-c", COMFY_PACK, str(report.path), str(place / "theirs")], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    fields = json.loads(done.stdout)
    ours = {parameter.name: parameter for parameter in Bundle.open(report.path).interface.parameters}
    assert set(fields) == set(ours) == {"photo", "count"}
    count = ours["count"]
    assert (fields["count"]["default"], fields["count"]["minimum"], fields["count"]["maximum"]) == (
        count.default, count.minimum, count.maximum,
    )  # fmt: skip
