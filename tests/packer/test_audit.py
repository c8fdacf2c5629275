import json

import pytest

from comfy_atelier.graph import NodeSchemas
from comfy_atelier.packer import pack, verify
from comfy_atelier.packer.archive import Archive, write_archive


@pytest.fixture
def packed(tmp_path, craft):
    (tmp_path / "flow.json").write_bytes(craft.text(craft.prompt))
    (tmp_path / "example.png").write_bytes(b"picture")
    pack(tmp_path / "flow.json", tmp_path / "x.cpack.zip")
    return tmp_path / "x.cpack.zip"


def changed(path, **changes):
    """The bundle with members replaced (None: left out), its atelier.json as it was unless replaced too."""
    archive = Archive.open(path)
    members = {name: archive.read(name) for name in archive.files} | changes
    write_archive(path, {name: data for name, data in members.items() if data is not None})
    return path


def findings(report, severity):
    return [f"{one.member}: {one.message}" for one in report.findings if one.severity == severity]


def test_a_right_bundle(packed):
    report = verify(packed)
    assert report.ok
    assert report.findings == ()
    assert report.checked == 4
    assert {check.result for check in report.checks} == {"fine"}
    assert report.to_json()["ok"] is True


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"input/example.png": b"other"}, "input/example.png: is not the file that atelier.json lists"),
        ({"input/more.png": b"more"}, "input/more.png: is not listed in atelier.json"),
        ({"input/example.png": None}, "input/example.png: is listed in atelier.json, but not readable"),
        ({"snapshot.json": b"{}"}, "snapshot.json: "),
        ({"workflow_api.json": b'{"1": {"class_type": "A", "inputs": {}}}'}, "its node classes are not those"),
        ({"workflow_api.json": b'{"9": {"class_type": "A", "inputs": {}}}'}, "its interface names nodes or inputs"),
        ({"workflow_api.json": b"{"}, "workflow_api.json: "),
        ({"workflow.json": b"{"}, "not JSON"),
        ({"atelier.json": b'{"format": 7}'}, "the format's version is 7"),
    ],
)
def test_what_contradicts_is_an_error(packed, changes, words):
    report = verify(changed(packed, **changes))
    assert not report.ok
    assert any(words in finding for finding in findings(report, "error")), report.findings
    assert any(check.result.startswith("error: ") for check in report.checks)


def test_what_is_worth_knowing_is_a_warning(make_bundle):
    report = verify(make_bundle(replace={"input/example.png": None, "service.py": b"x"}))
    assert report.ok
    warnings = "\n".join(findings(report, "warning"))
    assert "node 1 reads the input file 'example.png', which is not enclosed" in warnings
    assert "left out: 'service.py': code in a bundle is never unpacked or run" in warnings
    assert "has no atelier.json" in warnings


def test_a_workflow_that_says_another_thing(packed):
    node = {
        "id": 1, "type": "EmptyImage", "pos": [0, 0], "size": [1, 1], "flags": {}, "order": 0, "mode": 0,
        "inputs": [], "outputs": [], "properties": {}, "widgets_values": [64, 64, 1, 0],
    }  # fmt: skip
    workflow = {"nodes": [node], "links": [], "version": 0.4, "last_node_id": 1, "last_link_id": 0}
    report = verify(changed(packed, **{"workflow.json": json.dumps(workflow).encode()}))
    assert any("workflow.json: " in warning for warning in findings(report, "warning"))


def test_hostile_and_damaged_bundles_are_reports_too(make_bundle, craft, tmp_path):
    for path in (
        make_bundle(craft.Lie("../x"), name="a"),
        make_bundle(craft.Lie("input/x", crc=1), name="b"),
        tmp_path / "none",
    ):
        report = verify(path)
        assert not report.ok
        assert all("\n" not in finding for finding in findings(report, "error"))


def test_every_damaged_byte_of_a_bundle_is_noticed_or_harmless(packed):
    """Whatever byte changes: an error, or a time or version field that no member's content depends on."""
    right = packed.read_bytes()
    archive = Archive.open(packed)
    members = {name: archive.read(name) for name in archive.files}
    schemas = NodeSchemas.builtin()
    for at in range(0, len(right), 11):
        packed.write_bytes(right[:at] + bytes([right[at] ^ 0x20]) + right[at + 1 :])
        if verify(packed, schemas=schemas).ok:
            archive = Archive.open(packed)
            assert {name: archive.read(name) for name in archive.files} == members
