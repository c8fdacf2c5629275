import json

import pytest

from comfy_atelier.packer import AtelierManifest, ManifestError, UnknownVersion
from comfy_atelier.packer.atelier import FORMAT, ModelLicence, UnresolvedModel, tool_name
from comfy_atelier.packer.fields import stable_json

MANIFEST = {"format": 1, "members": {"snapshot.json": "ab" * 32}}


def parse(**changes):
    return AtelierManifest.parse(json.dumps(MANIFEST | changes).encode())


def test_it_is_read_and_written_again():
    manifest = AtelierManifest(
        members={"snapshot.json": "ab" * 32, "input/ü.png": "cd" * 32},
        classes=("SaveImage", "LoadImage"),
        licences=(ModelLicence(filename="models/vae/x.pt", licence="mit", name="MIT", url="https://example.org/l"),),
        unresolved_models=(UnresolvedModel(filename="models/vae/y.pt", node="3", input="vae_name"),),
        comfyui_version="0.33.0",
        notes=("something",),
        tool=tool_name(),
        extra={"later": [1]},
    )
    again = AtelierManifest.parse(stable_json(manifest.to_json()))
    assert stable_json(again.to_json()) == stable_json(manifest.to_json())
    assert again.extra == {"later": [1]}
    assert again.format == FORMAT


@pytest.mark.parametrize("version", [0, 2, 99])
def test_an_unknown_version_is_its_own_error(version):
    with pytest.raises(UnknownVersion) as caught:
        parse(format=version, members="whatever a later format holds")
    assert caught.value.path == "format"
    assert caught.value.remedy == "update comfy-atelier"


@pytest.mark.parametrize(
    ("changes", "path"),
    [
        ({"format": "1"}, "format"),
        ({"format": True}, "format"),
        ({"format": None}, "format"),
        ({"members": None}, "members"),
        ({"members": {"../x": "ab" * 32}}, "members['../x']"),
        ({"members": {"x": "ab"}}, "members.x"),
        ({"classes": ["a", 5]}, "classes[1]"),
        ({"classes": ["a\nb"]}, "classes[0]"),
        ({"interface": {"parameters": 5}}, "interface.parameters"),
        ({"licences": [{"filename": "main.py"}]}, "licences[0].filename"),
        (
            {"licences": [{"filename": "models/x", "licence": "a", "name": "b", "url": "javascript:x"}]},
            "licences[0].url",
        ),
        ({"unresolved_models": [{"filename": "models/../x"}]}, "unresolved_models[0].filename"),
        ({"notes": [{}]}, "notes[0]"),
        ({"tool": []}, "tool"),
    ],
)
def test_wrong_values_are_named_by_their_path(changes, path):
    with pytest.raises(ManifestError) as caught:
        parse(**changes)
    assert caught.value.path == path
    assert caught.value.member == "atelier.json"


def test_the_tools_name_has_a_version():
    assert tool_name().startswith("comfy-atelier ")
