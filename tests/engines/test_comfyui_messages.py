"""What the socket carries, read without a server."""

from __future__ import annotations

import json
import struct

import pytest

from comfy_atelier.engines.comfyui.messages import FEATURES, read_binary, read_text
from comfy_atelier.engines.comfyui.outputs import RemoteFile, Text, media_type_of, read_outputs


def test_a_message_names_its_prompt():
    message = read_text('{"type": "executing", "data": {"node": "3", "prompt_id": "p"}}')
    assert message is not None
    assert (message.type, message.prompt_id, message.data["node"]) == ("executing", "p", "3")


@pytest.mark.parametrize("text", ["", "nonsense", "[1]", '"x"', '{"data": {}}', '{"type": 3}', "null"])
def test_what_is_no_message_is_none(text):
    assert read_text(text) is None


@pytest.mark.parametrize(
    ("states", "told"),
    [
        ([(0.0, 1.0, "running")], False),
        ([(1, 1, "finished"), (0, 1, "running")], False),
        ([(20, 20, "finished"), (0.0, 1.0, "running")], False),
        ([(3, 20, "running")], True),
        ([(3.0, 20.0, "running"), (1.0, 1.0, "finished")], True),
        ([(0.5, 10.5, "running")], True),
        ([(1, 1000, "running")], True),
    ],
)
def test_states_without_steps_are_not_read(states, told):
    nodes = {
        str(number): {"value": value, "max": maximum, "state": state, "node_id": str(number), "prompt_id": "p"}
        for number, (value, maximum, state) in enumerate(states)
    }
    text = json.dumps({"type": "progress_state", "data": {"prompt_id": "p", "nodes": nodes}})
    assert (read_text(text) is not None) is told


@pytest.mark.parametrize("data", ["null", "[]", '"x"', '{"prompt_id": 7}'])
def test_odd_data_names_no_prompt(data):
    message = read_text(f'{{"type": "crystools.monitor", "data": {data}}}')
    assert message is not None
    assert message.prompt_id is None


@pytest.mark.parametrize(("word", "media"), [(1, "image/jpeg"), (2, "image/png"), (9, "image/jpeg")])
def test_a_bare_picture(word, media):
    picture = read_binary(struct.pack(">II", 1, word) + b"abc")
    assert picture is not None
    assert (picture.data, picture.media_type, picture.prompt_id, picture.node) == (b"abc", media, None, None)


def test_a_labelled_picture():
    label = json.dumps({"node_id": "4.0", "display_node_id": "4", "prompt_id": "p", "image_type": "image/png"}).encode()
    picture = read_binary(struct.pack(">II", 4, len(label)) + label + b"abc")
    assert picture is not None
    assert (picture.data, picture.media_type, picture.prompt_id, picture.node) == (b"abc", "image/png", "p", "4")


@pytest.mark.parametrize(
    "frame",
    [
        b"",
        b"\0\0\0\1",
        struct.pack(">II", 3, 2) + b"12text",  # progress text
        struct.pack(">II", 99, 0) + b"abc",
        struct.pack(">II", 4, 1000) + b"{}",  # shorter than it says
        struct.pack(">II", 4, 4) + b"nope" + b"abc",
        struct.pack(">II", 4, 2) + b"[]" + b"abc",
    ],
)
def test_other_frames_are_none(frame):
    assert read_binary(frame) is None


def test_features_ask_for_labels():
    assert json.loads(FEATURES) == {"type": "feature_flags", "data": {"supports_preview_metadata": True}}


def test_outputs_of_every_kind():
    ui = {
        "images": [
            {"filename": "a.png", "subfolder": "s", "type": "output"},
            {"filename": "b.PNG", "subfolder": "", "type": "temp"},
            {"filename": "clip.mp4", "subfolder": "", "type": "output"},
        ],
        "animated": [True],
        "gifs": [{"filename": "v.webm", "type": "output", "format": "video/webm"}, {"filename": "g.gif"}],
        "audio": [{"filename": "s.flac", "subfolder": "", "type": "output"}],
        "3d": [{"filename": "m.glb", "subfolder": "", "type": "output"}],
        "latents": [{"filename": "l.latent", "subfolder": "", "type": "output"}],
        "text": ["eins", "zwei"],
        "width": [512],
        "result": [None, 3],
    }
    found = read_outputs(ui)
    files = [(f.kind, f.index, f.filename, f.media_type, f.temporary) for f in found if isinstance(f, RemoteFile)]
    assert files == [
        ("images", 0, "a.png", "image/png", False),
        ("images", 1, "b.PNG", "image/png", True),
        ("video", 0, "clip.mp4", "video/mp4", False),
        ("video", 1, "v.webm", "video/webm", False),
        ("images", 2, "g.gif", "image/gif", False),
        ("audio", 0, "s.flac", "audio/flac", False),
        ("files", 0, "m.glb", "model/gltf-binary", False),
        ("files", 1, "l.latent", "application/octet-stream", False),
    ]
    assert [(t.index, t.text) for t in found if isinstance(t, Text)] == [(0, "eins"), (1, "zwei")]


@pytest.mark.parametrize(
    "ui", [None, {}, {"images": None}, {"images": [{"filename": 3}, {"filename": ""}, {"filename": "a", "type": 1}]}]
)
def test_outputs_that_are_none(ui):
    assert read_outputs(ui) == ()


def test_a_text_may_come_alone():
    (text,) = read_outputs({"text": "alone"})
    assert isinstance(text, Text)
    assert text.text == "alone"


@pytest.mark.parametrize(
    ("filename", "shown"),
    [("a.png", "a.png"), ("../../etc/passwd", "passwd"), ("C:\\x\\y.png", "y.png"), ("a\r\nX: y.png", "aX: y.png")],
)
def test_a_servers_file_name_is_only_shown(filename, shown):
    (file,) = read_outputs({"images": [{"filename": filename}]})
    assert isinstance(file, RemoteFile)
    assert file.display_name == shown
    assert file.query["filename"] == filename


def test_media_types_do_not_depend_on_the_system():
    assert media_type_of("a.webp") == "image/webp"
    assert media_type_of("x/y.tar.nothing") == "application/octet-stream"
    assert media_type_of("noname") == "application/octet-stream"
