"""Which of the catalogue's files are here, told by size, header and sha256; never by the name alone."""

from __future__ import annotations

import hashlib
import json
import struct
from pathlib import Path
from typing import Any

import pytest

from comfy_atelier.catalogue import ModelFile, load
from comfy_atelier.packer import hashes
from comfy_atelier.packer.folders import ModelFolders
from comfy_atelier.packer.holdings import holdings


def weights(size: int, fill: bytes = b"\0") -> bytes:
    """A safetensors file that no signature fits."""
    body = fill * (size - 108)
    header = {"x": {"dtype": "U8", "shape": [len(body)], "data_offsets": [0, len(body)]}}
    return struct.pack("<Q", 100) + json.dumps(header).encode().ljust(100) + body


RIGHT = weights(1000)


def entry(**changes: Any) -> ModelFile:
    values: dict[str, Any] = {
        "id": "x",
        "role": "vae",
        "name": "x.safetensors",
        "folder": "vae",
        "url": None,
        "sha256": hashlib.sha256(RIGHT).hexdigest(),
        "size": len(RIGHT),
        "licence": load().licences["mit"],
        "family": None,
    }
    return ModelFile(**values | changes)


@pytest.fixture
def models(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty models folder, and no remembered hash of the machine."""
    monkeypatch.setattr(hashes, "default_cache", lambda: tmp_path / "cache" / "hashes.sqlite3")
    (tmp_path / "models" / "vae" / "old").mkdir(parents=True)
    return tmp_path / "models"


def look(models: Path, file: ModelFile, *, check: bool = False) -> tuple[str, str, bool]:
    [found] = holdings([file, file], ModelFolders.of(models_dirs=[models]), check=check)
    return found.state, found.reason, found.checked


def test_nothing_is_missing_and_no_error(models: Path) -> None:
    assert look(models, entry()) == ("missing", "", False)
    assert look(models, entry(folder="no_such_folder")) == ("missing", "", False)


def test_the_right_file_in_any_folder_below_counts(models: Path) -> None:
    (models / "vae" / "x.safetensors").write_bytes(weights(900))
    assert look(models, entry()) == ("wrong", "900 bytes instead of 1,000", False)
    (models / "vae" / "old" / "x.safetensors").write_bytes(RIGHT)
    assert look(models, entry()) == ("here", "", False)
    assert look(models, entry(), check=True) == ("here", "", True)


def test_only_the_hash_tells_equal_sizes_apart(models: Path) -> None:
    (models / "vae" / "x.safetensors").write_bytes(weights(1000, b"\1"))
    assert look(models, entry()) == ("here", "", False)
    state, reason, checked = look(models, entry(), check=True)
    assert (state, checked) == ("wrong", True)
    assert reason.startswith("its sha256 is ")


def test_what_nothing_can_tell_is_unsure(models: Path) -> None:
    (models / "vae" / "x.safetensors").write_bytes(RIGHT)
    unproven = entry(sha256=None, unverified={"size": "rounded"})
    assert look(models, unproven, check=True) == ("unsure", "neither its exact size nor a sha256 is known", False)
    far = entry(sha256=None, size=5000, unverified={"size": "rounded"})
    assert look(models, far) == ("unsure", "1,000 bytes, about 5,000 were expected", False)
    assert look(models, entry(sha256=None), check=True) == ("here", "", False)


def test_a_damaged_file_is_wrong(models: Path) -> None:
    (models / "vae" / "x.safetensors").write_bytes(RIGHT[:-1])
    state, reason, _ = look(models, entry(sha256=None, size=None))
    assert (state, "cut short" in reason) == ("wrong", True)
