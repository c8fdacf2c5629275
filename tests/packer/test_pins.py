"""Versions that an exported service is pinned to."""

from importlib.metadata import version

from comfy_atelier.packer.pins import pins


def test_pins_are_the_installed_versions_of_what_is_reached():
    found = dict(line.split("==") for line in pins("comfy-atelier", frozenset()))
    assert found["fastapi"] == version("fastapi")
    assert found["starlette"] == version("starlette"), "what fastapi needs"
    assert "comfy-atelier" not in found
    assert "pytest" not in found, "an extra that was not asked for"
    assert "torch" not in found


def test_a_build_suffix_is_left_out(monkeypatch):
    class Installed:
        version = "2.13.0+cpu"
        requires = None

    monkeypatch.setattr("comfy_atelier.packer.pins.distribution", lambda name: Installed())
    assert pins("torch-user", frozenset()) == ()
    Installed.requires = ["torch>=2.4 ; extra == 'embedded'"]
    assert pins("torch-user", frozenset({"embedded"})) == ("torch==2.13.0",)
