import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from comfy_atelier.packer import ManifestError, Snapshot
from comfy_atelier.packer.fields import MAX_ITEMS, stable_json
from comfy_atelier.packer.manifest import older_requirements


def refused(value, path, words=""):
    data = value if isinstance(value, bytes) else json.dumps(value).encode()
    with pytest.raises(ManifestError) as caught:
        Snapshot.parse(data)
    error = caught.value
    assert error.path == path
    assert error.member == "snapshot.json"
    assert words in error.message
    assert "\n" not in str(error)
    return error


def test_a_right_one_is_read_and_written_again(craft):
    value = craft.snapshot(
        note="kept", models=craft.snapshot()["models"] + [{"filename": "models/x.pt", "sha256": "ab" * 32}]
    )
    snapshot = Snapshot.parse(json.dumps(value).encode())
    assert snapshot.comfyui == craft.commit
    assert [pack.folder for pack in snapshot.git_node_packs] == ["ComfyUI-Thing"]
    assert [(pack.id, pack.version) for pack in snapshot.registry_node_packs] == [("comfyui-other", "1.2.3")]
    assert [pip.spec for pip in snapshot.pips] == ["packaging==24.2"]
    assert (snapshot.models[0].folder, snapshot.models[0].name) == ("checkpoints", "tiny.safetensors")
    assert snapshot.models[0].source.download_url == "https://models.example.org/tiny.safetensors"
    assert (snapshot.models[1].folder, snapshot.models[1].name) == ("", "x.pt")
    assert snapshot.extra == {"note": "kept"}
    assert len(snapshot.node_packs) == 2
    again = Snapshot.parse(stable_json(snapshot.to_json()))
    assert again == snapshot
    assert stable_json(again.to_json()) == stable_json(snapshot.to_json())


def test_nothing_is_needed_but_pips(craft):
    assert Snapshot.parse(b'{"pips": {}}') == Snapshot()
    snapshot = Snapshot.parse(json.dumps(craft.snapshot(comfyui=None)).encode())
    assert snapshot.comfyui is None


def test_the_older_form(craft):
    value = {
        "python": "3.11",
        "comfyui": craft.commit,
        "models": [],
        "custom_nodes": [
            {"url": "https://github.com/example/x.git", "commit_hash": craft.commit, "disabled": False},
            {"url": "", "commit_hash": craft.commit, "disabled": False},
        ],
    }
    snapshot = Snapshot.parse(json.dumps(value).encode())
    assert snapshot.age == "older"
    assert [pack.url for pack in snapshot.git_node_packs] == ["https://github.com/example/x.git"]
    assert snapshot.left_out == ("custom_nodes[1]: a node pack without an address",)


def test_the_older_forms_requirements():
    text = "# made by\n\ntorch==2.5.1\ncomfy-cli\nthing @ git+https://github.com/example/thing\n-r /etc/passwd\nx @ file:///y\n"
    found, left_out = older_requirements(text)
    assert [one.name for one in found] == ["torch", "comfy-cli", "thing"]
    assert len(left_out) == 2
    assert left_out[0].startswith("requirements.txt line 6: '-r /etc/passwd' is an option")


def test_hashes_are_read_in_any_case(craft):
    value = craft.snapshot(models=[{"filename": "models/vae/x.pt", "sha256": "AB" * 32}])
    assert Snapshot.parse(json.dumps(value).encode()).models[0].sha256 == "ab" * 32


def test_names_from_windows_are_read(craft):
    value = craft.snapshot(models=[{"filename": "models\\vae\\x.pt", "sha256": "ab" * 32}])
    assert Snapshot.parse(json.dumps(value).encode()).models[0].filename == "models/vae/x.pt"


BROKEN = {
    "not JSON": b"{",
    "empty": b"",
    "bad UTF-8": b'{"pips": {"\xff": ""}}',
    "UTF-8 mark": b'\xef\xbb\xbf{"pips": {}}',
    "UTF-16": '{"pips": {}}'.encode("utf-16"),
    "deep": b"[" * 100_000,
    "a list": b"[]",
    "a string": b'"x"',
    "null": b"null",
    "no snapshot": b"{}",
    "spaces": b" " * 100_000,
    "repeated key": b'{"pips": {}, "pips": {}}',
}


@pytest.mark.parametrize("kind", BROKEN)
def test_what_is_no_snapshot(kind):
    with pytest.raises(ManifestError) as caught:
        Snapshot.parse(BROKEN[kind])
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("data", "path"),
    [
        (b'{"pips": {}, "x": NaN}', "x"),
        (b'{"pips": {}, "x": {"y": [1, -Infinity]}}', "x.y[1]"),
        (b'{"pips": {}, "x": 1e999}', "x"),
        (b'{"pips": {}, "models": [{"a": 1, "a": 2}]}', "models[0]"),
        (b'{"pips": {}, "x": "\\ud800"}', "x"),
        (b'{"pips": {}, "x": ' + b"9" * 5000 + b"}", "x"),
    ],
)
def test_json_that_readers_disagree_about(data, path):
    refused(data, path)


WRONG = [
    ("comfyui", "", "comfyui"),
    ("comfyui", 5, "comfyui"),
    ("comfyui", "main", "comfyui"),
    ("comfyui", "--upload-pack=x", "comfyui"),
    ("comfyui", ["x"], "comfyui"),
    ("python", "", "python"),
    ("python", "2.7", "python"),
    ("python", "3", "python"),
    ("python", "3.12\n", "python"),
    ("python", "3.12; id", "python"),
    ("python", "--help", "python"),
    ("python", 3.12, "python"),
    ("python", "/usr/bin/python3", "python"),
    ("pips", [], "pips"),
    ("pips", {"-e .": ""}, "pips['-e .']"),
    ("pips", {"x==1": 5}, "pips['x==1']"),
    ("pips", {"x": "file:///y"}, "pips.x"),
    ("pips", {f"x{i}==1": "" for i in range(MAX_ITEMS + 1)}, "pips"),
    ("pips", {"x" * 5000: ""}, "pips"),
    ("git_custom_nodes", [], "git_custom_nodes"),
    ("git_custom_nodes", {"https://example.org/x": None}, "git_custom_nodes['https://example.org/x']"),
    ("git_custom_nodes", {"https://example.org/x": "hash"}, "git_custom_nodes['https://example.org/x']"),
    ("git_custom_nodes", {"https://example.org/x": {}}, "git_custom_nodes['https://example.org/x'].hash"),
    (
        "git_custom_nodes",
        {"https://example.org/x": {"hash": "main"}},
        "git_custom_nodes['https://example.org/x'].hash",
    ),
    ("custom_nodes", {}, "custom_nodes"),
    ("custom_nodes", [5], "custom_nodes[0]"),
    ("custom_nodes", [{"commit_hash": "x"}], "custom_nodes[0].url"),
    ("custom_nodes", [{"url": ""}], "custom_nodes[0].url"),
    ("cnr_custom_nodes", {"x": "--help"}, "cnr_custom_nodes.x"),
    ("cnr_custom_nodes", {"x": None}, "cnr_custom_nodes.x"),
    ("cnr_custom_nodes", {"../x": "1.0"}, "cnr_custom_nodes['../x']"),
    ("cnr_custom_nodes", {"-x": "1.0"}, "cnr_custom_nodes['-x']"),
    ("cnr_custom_nodes", {"": "1.0"}, "cnr_custom_nodes['']"),
    ("cnr_custom_nodes", {"nul": "1.0"}, "cnr_custom_nodes.nul"),
    ("cnr_custom_nodes", {"x": "1.0; id"}, "cnr_custom_nodes.x"),
    ("file_custom_nodes", [{"filename": "../x.py"}], "file_custom_nodes[0].filename"),
    ("file_custom_nodes", [{"filename": "a/x.py"}], "file_custom_nodes[0].filename"),
    ("file_custom_nodes", [{"filename": "/x.py"}], "file_custom_nodes[0].filename"),
    ("file_custom_nodes", [{"filename": "-x"}], "file_custom_nodes[0].filename"),
    ("file_custom_nodes", [{"filename": 1}], "file_custom_nodes[0].filename"),
    ("models", {}, "models"),
    ("models", [None], "models[0]"),
    ("models", [{}], "models[0].filename"),
    ("models", [{"filename": "models/x"}] * (MAX_ITEMS + 1), "models"),
]


@pytest.mark.parametrize(("key", "value", "path"), WRONG, ids=[f"{k}-{i}" for i, (k, _, _) in enumerate(WRONG)])
def test_wrong_values_are_named_by_their_path(craft, key, value, path):
    refused(craft.snapshot(**{key: value}), path)


def test_null_is_not_missing_for_python(craft):
    refused({**craft.snapshot(), "python": None}, "python")


MODEL = {"filename": "models/vae/x.pt", "sha256": "ab" * 32}


@pytest.mark.parametrize(
    ("changes", "place"),
    [
        ({"filename": ""}, "filename"),
        ({"filename": None}, "filename"),
        ({"filename": "main.py"}, "filename"),
        ({"filename": "models"}, "filename"),
        ({"filename": "models/"}, "filename"),
        ({"filename": "Models/x"}, "filename"),
        ({"filename": "custom_nodes/x/__init__.py"}, "filename"),
        ({"filename": ".venv/lib/x.pth"}, "filename"),
        ({"filename": "models/../main.py"}, "filename"),
        ({"filename": "models\\..\\main.py"}, "filename"),
        ({"filename": "/etc/passwd"}, "filename"),
        ({"filename": "C:\\models\\x"}, "filename"),
        ({"filename": "models/a\0b"}, "filename"),
        ({"filename": "models/.git/hooks/x"}, "filename"),
        ({"filename": "models/" + "a/" * 40 + "x"}, "filename"),
        ({"filename": "models/nul"}, "filename"),
        ({"sha256": None}, "sha256"),
        ({"sha256": ""}, "sha256"),
        ({"sha256": "ab" * 31}, "sha256"),
        ({"sha256": "../../x"}, "sha256"),
        ({"sha256": "zz" * 32}, "sha256"),
        ({"sha256": "ab" * 32 + "\n"}, "sha256"),
        ({"size": -1}, "size"),
        ({"size": "5"}, "size"),
        ({"size": 1.5}, "size"),
        ({"size": True}, "size"),
        ({"size": 2**70}, "size"),
        ({"disabled": "yes"}, "disabled"),
        ({"source": "https://example.org"}, "source"),
        ({"source": {"download_url": "http://example.org/x"}}, "source.download_url"),
        ({"source": {"download_url": "file:///etc/passwd"}}, "source.download_url"),
        ({"source": {"download_url": ["https://example.org/x"]}}, "source.download_url"),
        ({"source": {"url": "javascript:alert(1)"}}, "source.url"),
        ({"source": {"repo": "../x"}}, "source.repo"),
        ({"source": {"commit": "--x"}}, "source.commit"),
        ({"source": {"path": "../x"}}, "source.path"),
        ({"source": {"source": "a b"}}, "source.source"),
    ],
)
def test_wrong_models(craft, changes, place):
    refused(craft.snapshot(models=[MODEL, MODEL | changes]), f"models[1].{place}")


def test_two_models_for_one_place(craft):
    refused(
        craft.snapshot(models=[MODEL, MODEL | {"filename": "models/vae/X.pt", "sha256": "cd" * 32}]), "models", "twice"
    )
    refused(craft.snapshot(models=[MODEL, MODEL | {"filename": "models/vae/x.pt/y"}]), "models", "as a folder")
    Snapshot.parse(json.dumps(craft.snapshot(models=[MODEL, MODEL])).encode())


def test_two_node_packs_for_one_folder(craft):
    entry = {"hash": craft.commit, "disabled": False}
    urls = ["https://github.com/a/Thing", "https://example.org/b/thing.git"]
    refused(craft.snapshot(git_custom_nodes=dict.fromkeys(urls, entry)), None, "want the folder")
    both = craft.snapshot(custom_nodes=[{"url": "https://github.com/example/ComfyUI-Thing", "commit_hash": "ab" * 20}])
    refused(both, None, "two commits")
    entries = {urls[0]: entry, urls[1]: entry | {"disabled": True}}
    assert len(Snapshot.parse(json.dumps(craft.snapshot(git_custom_nodes=entries)).encode()).git_node_packs) == 2


def test_a_secret_in_an_address_is_not_repeated(craft):
    url = "https://user:ghp_secret@example.org/x.git"
    error = refused(
        craft.snapshot(git_custom_nodes={url: {"hash": craft.commit}}),
        "git_custom_nodes['https://***@example.org/x.git']",
    )
    assert "ghp_secret" not in str(error)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=10),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=10,
)
KEYS = st.sampled_from(
    ["comfyui", "python", "pips", "models", "custom_nodes", "git_custom_nodes", "cnr_custom_nodes", "file_custom_nodes"]
)


@settings(max_examples=300, deadline=None)
@given(st.dictionaries(KEYS, JSON, max_size=4))
def test_any_json_is_read_or_refused_with_its_place(value):
    try:
        snapshot = Snapshot.from_json({"pips": {}} | value)
    except ManifestError:
        return
    assert Snapshot.from_json(snapshot.to_json()) == snapshot
