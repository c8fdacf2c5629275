"""What tests share: where ``../shared`` and a real ComfyUI are."""

from __future__ import annotations

import os
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent


@dataclass(frozen=True)
class ComfyUIInstall:
    """A ComfyUI checkout and the Python that runs it."""

    path: Path
    python: Path

    @property
    def version(self) -> str:
        """As ``comfyui_version.py`` states it."""
        for line in (self.path / "comfyui_version.py").read_text().splitlines():
            if line.startswith("__version__"):
                return line.split("=")[1].strip().strip("\"'")
        return "unknown"


def _configured() -> str:
    value = os.environ.get("ATELIER_TEST_COMFYUI", "")
    if value:
        return value
    import platformdirs

    config = platformdirs.user_config_path("comfy-atelier", appauthor=False) / "config.toml"
    if not config.is_file():
        return ""
    return str(tomllib.loads(config.read_text(encoding="utf-8")).get("test", {}).get("comfyui", ""))


def _installs() -> list[ComfyUIInstall]:
    pairs = [pair for pair in _configured().split(os.pathsep) if "=" in pair]
    return [ComfyUIInstall(Path(path), Path(python)) for path, python in (pair.split("=", 1) for pair in pairs)]


@pytest.fixture(scope="session")
def comfyui_installs() -> list[ComfyUIInstall]:
    """Every real ComfyUI of this machine; skips where there is none."""
    installs = _installs()
    if not installs:
        pytest.skip("no ComfyUI: set ATELIER_TEST_COMFYUI to path=python pairs")
    return installs


@pytest.fixture(scope="session")
def tiny_comfyui(comfyui_install: ComfyUIInstall, tmp_path_factory: pytest.TempPathFactory) -> Iterator[object]:
    """A server with this pack, the tiny models and the shim, one for each version (``benchmarks/real_comfyui.py``);
    ATELIER_TEST_TINY names a folder that keeps the models.
    """
    import real_comfyui
    import run_workflows
    import tiny_models

    kept = os.environ.get("ATELIER_TEST_TINY")
    models = Path(kept) if kept else tmp_path_factory.getbasetemp() / "tiny-models"
    tiny_models.write_all(models)
    install = real_comfyui.Install(path=comfyui_install.path, python=comfyui_install.python)
    with real_comfyui.running(install, tmp_path_factory.mktemp("tiny"), models, packs=(run_workflows.SHIM,)) as server:
        yield server


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder ``shared`` beside the checkout; skips where there is none."""
    folder = ROOT.parent / "shared"
    if not folder.is_dir():
        pytest.skip("no ../shared beside this checkout")
    return folder


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """A test that takes `comfyui_install` runs once for each configured ComfyUI."""
    if "comfyui_install" in metafunc.fixturenames:
        installs = _installs()
        if installs:
            metafunc.parametrize("comfyui_install", installs, ids=[i.version for i in installs], scope="session")
        else:
            skip = pytest.mark.skip(reason="no ComfyUI: set ATELIER_TEST_COMFYUI to path=python pairs")
            metafunc.parametrize("comfyui_install", [pytest.param(None, marks=skip)])
