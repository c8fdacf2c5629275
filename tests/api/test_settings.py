"""Settings: where they come from, and that the documentation lists every one."""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest

from comfy_atelier.api import Settings
from comfy_atelier.api.errors import SettingsError

DOCS = Path(__file__).parents[2] / "docs" / "deployment.md"


@pytest.fixture(autouse=True)
def config(tmp_path, monkeypatch):
    path = tmp_path / "config.toml"
    monkeypatch.setattr("comfy_atelier.api.settings.config_file", lambda: path)
    return path


def test_the_documentation_lists_every_setting_as_it_is():
    table = DOCS.read_text(encoding="utf-8").partition("<!-- settings:")[2].partition("<!-- end of settings -->")[0]
    rows = re.findall(r"^\| `ATELIER_(\w+)` \| (.*?) \| (.*) \|$", table, re.MULTILINE)
    expected = []
    for name, field in Settings.model_fields.items():
        default = "" if field.default is None or field.default == () else str(field.default)
        expected.append((name.upper(), default, field.description))
    assert [(name, default.strip(), meaning) for name, default, meaning in rows] == expected


def test_argument_over_environment_over_file_over_default(config, monkeypatch):
    assert Settings().workers == 1
    config.write_text('workers = 2\ncomfyui = "/srv/ComfyUI"\n[test]\ncomfyui = "x"\n')
    assert (Settings().workers, Settings().comfyui) == (2, "/srv/ComfyUI")
    monkeypatch.setenv("ATELIER_WORKERS", "3")
    assert Settings().workers == 3
    assert Settings(workers=4).workers == 4


def test_lists_are_separated_by_commas(monkeypatch):
    monkeypatch.setenv("ATELIER_API_KEYS", "one, two,")
    assert Settings().api_keys == ("one", "two")


def test_a_wrong_value_is_named(config, monkeypatch):
    monkeypatch.setenv("ATELIER_WORKERS", "many")
    with pytest.raises(SettingsError, match="ATELIER_WORKERS"):
        Settings()
    monkeypatch.delenv("ATELIER_WORKERS")
    config.write_text("workers = \n")
    with pytest.raises(SettingsError, match=re.escape(str(config))):
        Settings()


def test_models_folders_are_separated_as_in_path(config, monkeypatch, tmp_path):
    monkeypatch.setenv("ATELIER_MODELS", os.pathsep.join((str(tmp_path / "a"), str(tmp_path / "b"))))
    assert Settings().models == (tmp_path / "a", tmp_path / "b")
    monkeypatch.delenv("ATELIER_MODELS")
    config.write_text('models = ["/srv/models"]\n')
    assert Settings().models == (Path("/srv/models"),)
