import hashlib
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from comfy_atelier.graph import GraphError
from comfy_atelier.packer import ArchiveError, ManifestError, PackerError, unpack
from comfy_atelier.packer.archive import write_archive

UNTRUSTED = {
    "service.py": b"raise SystemExit",
    "comfy_pack/__init__.py": b"raise SystemExit",
    "comfy_pack/x.cpython-311.pyc": b"\0",
    "custom_nodes/evil/install.py": b"raise SystemExit",
    "json.py": b"raise SystemExit",
    ".env": b"HF_TOKEN=x",
    "extra_model_paths.yaml": b"a: /",
    "user/default/ComfyUI-Manager/config.ini": b"[default]\nsecurity_level = weak\n",
    "requirements.txt": b"--index-url https://example.org/simple\n",
    "models/vae/x.safetensors": b"\xff" * 8,
    "atelier.json.bak": b"{}",
    "inputs/x.png": b"x",
}


def tree(folder):
    return {
        path.relative_to(folder).as_posix(): path.read_bytes() if path.is_file() else None
        for path in sorted(Path(folder).rglob("*"))
    }


def test_only_the_formats_members_are_written(make_bundle, tmp_path):
    report = unpack(make_bundle(replace=UNTRUSTED), tmp_path / "out")
    assert report.files == ("input/example.png", "snapshot.json", "workflow_api.json")
    assert sorted(path for path, data in tree(tmp_path / "out").items() if data is not None) == list(report.files)
    assert {one.name for one in report.left_out} == set(UNTRUSTED)
    reasons = {one.name: one.reason for one in report.left_out}
    assert reasons["service.py"] == "code in a bundle is never unpacked or run"
    assert reasons["custom_nodes/evil/install.py"] == reasons["service.py"]
    assert len(report.notes) == len(set(reasons.values()))
    assert report.size == sum((tmp_path / "out" / name).stat().st_size for name in report.files)
    assert report.to_json()["folder"] == str(tmp_path / "out")


@pytest.mark.skipif(os.name == "nt", reason="Windows has no modes")
def test_files_get_plain_modes(make_bundle, craft, tmp_path):
    before = os.umask(0o022)
    try:
        unpack(make_bundle(craft.Lie("input/run.sh", mode=0o100777)), tmp_path / "out")
    finally:
        os.umask(before)
    assert (tmp_path / "out" / "input" / "run.sh").stat().st_mode & 0o7777 == 0o644


def test_a_dry_run_judges_and_writes_nothing(make_bundle, tmp_path, craft):
    report = unpack(make_bundle(), tmp_path / "out", dry_run=True)
    assert (report.folder, report.files[0]) == (None, "input/example.png")
    assert not (tmp_path / "out").exists()
    with pytest.raises(ArchiveError):
        unpack(make_bundle(craft.Lie("input/x", crc=1), name="y.cpack.zip"), tmp_path / "out", dry_run=True)


def test_nothing_is_written_where_anything_is_wrong(make_bundle, craft, tmp_path):
    wrong = [
        make_bundle(craft.Lie("../evil"), name="1"),
        make_bundle(craft.Lie("input/last", crc=1), name="2"),
        make_bundle(replace={"snapshot.json": b"{}"}, name="3"),
        make_bundle(replace={"snapshot.json": None}, name="4"),
        make_bundle(replace={"atelier.json": b'{"format": 1, "members": {}}'}, name="5"),
        make_bundle(
            replace={"workflow_api.json": craft.text({"1": {"class_type": "LoadImage", "inputs": {"image": "/x"}}})},
            name="6",
        ),
    ]
    before = tree(tmp_path)
    for path in wrong:
        with pytest.raises((PackerError, GraphError)) as caught:
            unpack(path, tmp_path / "deep" / "out")
        assert str(caught.value).startswith(str(path))
        assert "\n" not in str(caught.value)
    assert tree(tmp_path) == before


def test_a_workflow_of_unknown_nodes_is_unpacked_all_the_same(make_bundle, craft, tmp_path):
    node = {
        "id": 1, "type": "NobodyKnowsThisNode", "pos": [0, 0], "size": [1, 1], "flags": {}, "order": 0, "mode": 0,
        "inputs": [], "outputs": [], "properties": {}, "widgets_values": [1],
    }  # fmt: skip
    workflow = {"nodes": [node], "links": [], "version": 0.4, "last_node_id": 1, "last_link_id": 0}
    path = make_bundle(replace={"workflow_api.json": None, "workflow.json": craft.text(workflow)})
    report = unpack(path, tmp_path / "out")
    assert "workflow.json" in report.files
    assert any("NobodyKnowsThisNode" in note for note in report.notes)


def test_members_are_held_to_what_was_stated(craft, tmp_path):
    members = {"snapshot.json": craft.text(craft.snapshot()), "workflow_api.json": craft.text(craft.prompt)}
    hashes = {name: hashlib.sha256(data).hexdigest() for name, data in members.items()}
    path = tmp_path / "x.cpack.zip"

    def bundle(hashes, **more):
        write_archive(path, members | more | {"atelier.json": craft.text({"format": 1, "members": hashes})})
        return path

    unpack(bundle(hashes), tmp_path / "right")
    for lie, words in (
        (hashes | {"snapshot.json": "00" * 32}, "states another content"),
        (hashes | {"gone": "00" * 32}, "is missing"),
        ({}, "does not list it"),
    ):
        with pytest.raises(ArchiveError, match=words):
            unpack(bundle(lie), tmp_path / "wrong")
    with pytest.raises(ArchiveError, match="does not list it"):
        unpack(bundle(hashes, **{"input/added.png": b"x"}), tmp_path / "wrong")
    with pytest.raises(ManifestError):
        unpack(bundle("x"), tmp_path / "wrong")
    assert not (tmp_path / "wrong").exists()


def test_an_occupied_folder_is_kept(make_bundle, tmp_path):
    (tmp_path / "out").mkdir()
    unpack(make_bundle(), tmp_path / "out")
    with pytest.raises(PackerError, match="not empty"):
        unpack(make_bundle(name="y.cpack.zip"), tmp_path / "out")
    assert len(tree(tmp_path / "out")) == 4


UNPACK = """
import sys
from comfy_atelier.packer import unpack
print("ready", flush=True)
sys.stdin.readline()
unpack(sys.argv[1], sys.argv[2])
"""


def test_killed_anywhere_a_second_run_gives_the_same_files(tmp_path, craft):
    """SIGKILL at growing delays, from before the first byte until after the last: never a half-written folder."""
    members = {"snapshot.json": craft.text(craft.snapshot()), "workflow_api.json": craft.text(craft.prompt)}
    members |= {f"input/{index}.bin": os.urandom(200_000) for index in range(30)}
    path = tmp_path / "x.cpack.zip"
    write_archive(path, members)
    unpack(path, tmp_path / "clean")
    clean = tree(tmp_path / "clean")
    outcomes = set()
    for index in range(8):
        target = tmp_path / "runs" / str(index)
        process = subprocess.Popen(
            [sys.executable, "-c", UNPACK, str(path), str(target)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )
        assert process.stdout.readline() == b"ready\n"
        process.stdin.write(b"\n")
        process.stdin.flush()
        try:
            process.wait(timeout=0.02 + 0.03 * index)
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGKILL if os.name != "nt" else signal.SIGTERM)
        process.communicate(timeout=60)
        outcomes.add(target.exists())
        if target.exists():
            assert tree(target) == clean
        else:
            unpack(path, target)
            assert tree(target) == clean
    left = [entry.name for entry in (tmp_path / "runs").iterdir()]
    assert sorted(left) == sorted(map(str, range(8)))
