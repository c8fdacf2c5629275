import json
import tracemalloc

import pytest

from comfy_atelier.graph import GraphError, InputRef, NodeSchemas, Prompt
from comfy_atelier.packer import Bundle, MissingFile, PackerError, pack
from comfy_atelier.packer.archive import write_archive


@pytest.fixture
def prompt_file(tmp_path, craft):
    path = tmp_path / "portrait.json"
    path.write_bytes(craft.text(craft.prompt))
    return path


def test_a_prompt_a_bundle_and_standard_input_alike(prompt_file, make_bundle, tmp_path, monkeypatch):
    import io

    (tmp_path / "example.png").write_bytes(b"a picture")
    opened = Bundle.open(prompt_file)
    assert (opened.name, opened.snapshot, opened.atelier) == ("portrait", None, None)
    assert opened.inputs["example.png"].read() == b"a picture"
    bundle = Bundle.open(make_bundle())
    assert (bundle.name, bundle.prompt) == ("x", opened.prompt)
    assert bundle.inputs["example.png"].read() == b"not really a picture"
    assert bundle.models[0].filename == "models/checkpoints/tiny.safetensors"
    assert bundle.sha256 != opened.sha256
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(prompt_file.read_bytes())))
    piped = Bundle.open("-")
    assert (piped.name, piped.prompt, dict(piped.inputs)) == ("workflow", opened.prompt, {})


@pytest.mark.parametrize("place", ["beside", "input", "given"])
def test_input_files_of_a_workflow_are_found(prompt_file, tmp_path, place):
    folder = {"beside": tmp_path, "input": tmp_path / "input", "given": tmp_path / "elsewhere"}[place]
    folder.mkdir(exist_ok=True)
    (folder / "example.png").write_bytes(b"1")
    assert Bundle.open(prompt_file, input_dirs=[str(tmp_path / "elsewhere")]).inputs["example.png"].size == 1


def test_a_missing_input_is_no_error_yet(prompt_file):
    assert Bundle.open(prompt_file).inputs == {}


def test_the_interface_is_the_stated_one_where_it_fits(tmp_path, prompt_file):
    (tmp_path / "example.png").write_bytes(b"a picture")
    pack(prompt_file, tmp_path / "p.cpack.zip", params=["photo=1.image"])
    bundle = Bundle.open(tmp_path / "p.cpack.zip")
    assert "photo" in [parameter.name for parameter in bundle.interface.parameters]
    assert bundle.with_interface(Bundle.open(prompt_file).interface).interface == Bundle.open(prompt_file).interface
    stated = json.loads(bundle.archive.read("atelier.json"))
    stated["interface"]["parameters"][0]["node"] = "77"
    members = {name: bundle.archive.read(name) for name in bundle.archive.files}
    write_archive(tmp_path / "q.cpack.zip", members | {"atelier.json": json.dumps(stated).encode()})
    found = Bundle.open(tmp_path / "q.cpack.zip").interface
    assert "photo" not in [parameter.name for parameter in found.parameters]


def test_files_for_an_engine(make_bundle, tmp_path):
    bundle = Bundle.open(make_bundle(replace={"input/unused.png": b"u"}))
    files = bundle.files(bundle.prompt, tmp_path / "scratch")
    assert files == {InputRef("1", "image"): tmp_path / "scratch" / "example.png"}
    assert files[InputRef("1", "image")].read_bytes() == b"not really a picture"
    other = Prompt.from_json({"5": {"class_type": "LoadImage", "inputs": {"image": "not enclosed.png"}}})
    assert bundle.files(other, tmp_path / "scratch") == {}


def test_extracting_keeps_what_is_the_same_and_replaces_what_is_not(make_bundle, tmp_path):
    bundle = Bundle.open(make_bundle(replace={"input/sub/ü.png": b"u"}))
    paths = bundle.extract_inputs(tmp_path / "out")
    assert {name: path.read_bytes() for name, path in paths.items()} == {
        "example.png": b"not really a picture",
        "sub/ü.png": b"u",
    }
    kept = paths["example.png"].stat().st_ino
    paths["sub/ü.png"].write_bytes(b"x")
    bundle.extract_inputs(tmp_path / "out")
    assert paths["example.png"].stat().st_ino == kept
    assert paths["sub/ü.png"].read_bytes() == b"u"


def test_opening_does_not_load_large_members(tmp_path, craft):
    path = tmp_path / "large.cpack.zip"
    members = {
        "snapshot.json": craft.text(craft.snapshot()),
        "workflow_api.json": craft.text(craft.prompt),
        "input/example.png": (b"0123456789abcdef" * 64 + bytes(range(256))) * 20_000,
    }
    write_archive(path, members)
    schemas = NodeSchemas.builtin()
    Bundle.open(path, schemas=schemas)  # what the first call imports and caches is not meant
    tracemalloc.start()
    bundle = Bundle.open(path, schemas=schemas)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert bundle.inputs["example.png"].size == 25_600_000
    assert peak < 5_000_000


def test_a_workflow_in_the_prompts_place_is_converted(make_bundle, craft):
    workflow = {
        "nodes": [
            {
                "id": 1, "type": "EmptyImage", "pos": [0, 0], "size": [1, 1], "flags": {}, "order": 0, "mode": 0,
                "inputs": [], "outputs": [{"name": "IMAGE", "type": "IMAGE", "links": [1]}], "properties": {},
                "widgets_values": [64, 64, 1, 0],
            },
            {
                "id": 2, "type": "SaveImage", "pos": [0, 0], "size": [1, 1], "flags": {}, "order": 1, "mode": 0,
                "inputs": [{"name": "images", "type": "IMAGE", "link": 1}], "outputs": [], "properties": {},
                "widgets_values": ["x"],
            },
        ],
        "links": [[1, 1, 0, 2, 0, "IMAGE"]], "version": 0.4, "last_node_id": 2, "last_link_id": 1,
    }  # fmt: skip
    bundle = Bundle.open(make_bundle(replace={"workflow_api.json": craft.text(workflow)}))
    assert {node.class_type for node in bundle.prompt.nodes.values()} == {"EmptyImage", "SaveImage"}
    only = make_bundle(replace={"workflow_api.json": None, "workflow.json": craft.text(workflow)}, name="y.cpack.zip")
    assert Bundle.open(only).prompt == bundle.prompt


@pytest.mark.parametrize(
    ("replace", "words"),
    [
        ({"snapshot.json": None}, "has no snapshot.json"),
        ({"snapshot.json": b"[]"}, "snapshot.json: must be an object"),
        ({"workflow_api.json": None}, "neither workflow_api.json nor workflow.json"),
        ({"workflow_api.json": b"{"}, "workflow_api.json: not JSON"),
        ({"workflow_api.json": b'{"1": {"class_type": 5, "inputs": {}}}'}, "workflow_api.json: "),
        ({"workflow.json": b"{"}, "workflow.json: not JSON"),
        ({"atelier.json": b'{"format": 9}'}, "atelier.json: format: the format's version is 9"),
        ({"atelier.json": b'{"format": 1}'}, "atelier.json: members: must be an object"),
    ],
)
def test_errors_name_bundle_member_and_place(make_bundle, replace, words):
    path = make_bundle(replace=replace)
    with pytest.raises((PackerError, GraphError)) as caught:
        Bundle.open(path)
    assert str(caught.value).startswith(str(path))
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


ESCAPES = [
    {"class_type": "LoadImage", "inputs": {"image": "../secret.png"}},
    {"class_type": "LoadImage", "inputs": {"image": "../secret.png [output]"}},
    {"class_type": "LoadImage", "inputs": {"image": "/etc/passwd"}},
    {"class_type": "LoadImageMask", "inputs": {"image": "C:\\x.png", "channel": "red"}},
    {"class_type": "LoadAudio", "inputs": {"audio": "a/../../x"}},
    {"class_type": "CPackInputImage", "inputs": {"image": "../secret.png"}},
    {"class_type": "CPackInputFile", "inputs": {"path": "/etc/passwd"}},
    {"class_type": "AtelierInputFile", "inputs": {"name": "x", "path": "..\\x"}},
    {"class_type": "AtelierInputImage", "inputs": {"name": "x", "image": "../x"}},
    {"class_type": "SaveImage", "inputs": {"filename_prefix": "/tmp/x"}},
    {"class_type": "SaveImage", "inputs": {"filename_prefix": "..\\..\\x"}},
    {"class_type": "CPackOutputImage", "inputs": {"filename_prefix": "../x"}},
]


@pytest.mark.parametrize("node", ESCAPES, ids=lambda node: node["class_type"])
def test_a_prompt_that_reads_or_writes_elsewhere_is_refused(make_bundle, craft, node):
    path = make_bundle(replace={"workflow_api.json": craft.text({"7": node})})
    with pytest.raises(GraphError, match="node 7"):
        Bundle.open(path)


def test_no_such_file(tmp_path):
    with pytest.raises(MissingFile, match="no such file"):
        Bundle.open(tmp_path / "none.cpack.zip")
    with pytest.raises(GraphError, match=r"none\.json"):
        Bundle.open(tmp_path / "none.json")


def test_the_bundle_from_the_wild(shared):
    """A comfy-pack 0.2 bundle: interface, the model with its source, node packs."""
    bundle = Bundle.open(shared / "facts" / "simple-pixel-art-generation.cpack.zip")
    assert [parameter.name for parameter in bundle.interface.parameters] == ["prompt", "height", "width", "seed"]
    assert [pack.folder for pack in bundle.snapshot.node_packs] == ["ComfyUI-Manager", "comfy-pack"]
    (model,) = bundle.models
    assert (model.name, model.size) == ("pixelArtDiffusionXL_spriteShaper.safetensors", 6938040682)
    assert model.source.repo == "IronBullXD/AI_Mooodeeels"
    assert len(bundle.snapshot.pips) == 122
    assert list(bundle.inputs) == ["example.png"]
