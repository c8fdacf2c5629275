"""The hostile bundles of ``../shared/hostile``: refused or harmless, and the controls accepted. The harness beside them
judges processes; this runs the same files in one."""

import json
from pathlib import Path

import pytest

from comfy_atelier.graph import GraphError
from comfy_atelier.packer import PackerError, UnpackReport, unpack

CORPUS = Path(__file__).parents[2].resolve().parent / "shared" / "hostile" / "cpack"
CASES = sorted(CORPUS.glob("*.cpack.zip")) if CORPUS.is_dir() else []


def judged(path, target):
    """What `unpack` reports, or its error in words."""
    try:
        return unpack(path, target)
    except (PackerError, GraphError) as error:
        return str(error)


@pytest.mark.skipif(not CASES, reason="no ../shared beside this checkout")
@pytest.mark.parametrize("path", CASES, ids=lambda path: path.name.removesuffix(".cpack.zip"))
def test_a_hostile_bundle(path, tmp_path):
    expected = json.loads(path.with_name(path.name + ".expect.json").read_text(encoding="utf-8"))["expect"]
    target = tmp_path / "deep" / "target"
    target.mkdir(parents=True)
    (tmp_path / "canary").write_text("canary")
    outcome = judged(path, target)
    if isinstance(outcome, UnpackReport):
        assert expected != "reject"
        assert all((target / name).is_file() and not (target / name).is_symlink() for name in outcome.files)
    else:
        assert expected != "accept", outcome
        assert "\n" not in outcome
        assert not list(target.iterdir())
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["canary", "deep"]
    assert [entry.name for entry in (tmp_path / "deep").iterdir()] == ["target"]
