"""The demo, run as `install.py demo` runs it: the picture that comes out is the right one."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from comfy_atelier.cli.demo import SHEET_VALUES

CELLS = [(24 + column * 408, 24 + row * 280) for row in range(2) for column in range(3)]


def demo(folder: Path, *options: str) -> dict[str, Any]:
    command = [sys.executable, "-m", "comfy_atelier.cli.main", "demo", "-o", str(folder), "--json", *options]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    return json.loads(result.stdout)


def pixels(path: str | Path) -> np.ndarray[Any, np.dtype[np.float64]]:
    with Image.open(path) as image:
        return np.asarray(image.convert("RGB"), dtype=np.float64) / 255


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    pytest.importorskip("torch", reason="the embedded engine is not installed")
    return tmp_path_factory.mktemp("demo")


@pytest.fixture(scope="module")
def embedded(folder: Path) -> dict[str, Any]:
    return demo(folder)


@pytest.fixture(scope="module")
def sheet(folder: Path, embedded: dict[str, Any]) -> Path:
    """The contact sheet, of the bundle that the demo leaves for the README's commands."""
    values = [f"{name}={value}" for name, value in SHEET_VALUES.items()]
    command = [sys.executable, "-m", "comfy_atelier.cli.main", "run", str(folder / "contact-sheet.cpack.zip")]
    options = [word for value in values for word in ("--input", value)]
    result = subprocess.run(
        [*command, *options, "-o", str(folder / "out")], capture_output=True, text=True, check=False
    )
    assert result.returncode == 0, result.stderr
    return Path(result.stdout.strip().splitlines()[-1])


@pytest.mark.slow
def test_the_picture_is_of_the_prompt(embedded: dict[str, Any]) -> None:
    picture = pixels(embedded["picture"])
    assert picture.shape == (256, 256, 3)
    red, green, blue = (picture[..., channel] for channel in range(3))
    corners = picture[[4, 4, -5, -5], [4, -5, 4, -5]]
    assert (corners[:, :2].min(axis=1) > corners[:, 2] + 0.25).all(), "the background is yellow"
    heart = np.argwhere((red > green + 0.3) & (red > blue + 0.3))
    star = np.argwhere((blue > red + 0.2) & (blue > green + 0.1))
    assert len(heart) > 1500, "a large red thing"
    assert len(star) > 300, "a small blue thing"
    assert heart[:, 1].mean() < star[:, 1].mean(), "to the left of it"


@pytest.mark.slow
def test_the_contact_sheet_is_the_right_one(folder: Path, sheet: Path) -> None:
    picture = pixels(sheet)
    assert picture.shape == (584, 1248, 3)
    assert np.allclose(picture[:24] * 255, [242, 237, 228], atol=0.5), "the frame"
    photo, edges, soft, sharp, blend, negative = (picture[y : y + 256, x : x + 384] for x, y in CELLS)
    with Image.open(folder / "example.png") as original:
        small = np.asarray(original.convert("RGB").resize((384, 256), Image.Resampling.LANCZOS), np.float64) / 255
    assert np.abs(photo - small).max() < 2 / 255
    assert np.abs(negative - (1 - photo)).max() < 1.5 / 255
    assert set(np.unique(edges)) <= {0.0, 1.0}
    assert 0.01 < edges.mean() < 0.3, "some edges, not everywhere"
    detail = [np.abs(np.diff(tile, axis=1)).mean() for tile in (soft, photo, sharp)]
    assert detail[0] < detail[1] < detail[2], "soft is softer and sharp is sharper than the photograph"
    assert (blend >= soft - 1 / 255).all(), "a screen blend only lightens"
    assert "Harbour-at-dusk-from-the-demo" in sheet.name, "the title that the call gave"


@pytest.mark.comfyui
@pytest.mark.slow
def test_comfyui_gives_the_same_contact_sheet(sheet: Path, comfyui_install: Any, tmp_path: Path) -> None:
    report = demo(tmp_path, "--comfyui", str(comfyui_install.path), "--comfyui-python", str(comfyui_install.python))
    difference = np.abs(pixels(report["picture"]) - pixels(sheet)).max()
    assert difference <= 1.01 / 255
