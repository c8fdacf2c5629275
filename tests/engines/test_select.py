"""Which engine a configuration gives."""

from __future__ import annotations

import subprocess
import sys

import pytest

from comfy_atelier.engines import (
    ComfyUIEngine,
    EngineConfig,
    EngineError,
    EngineUnavailable,
    ManagedComfyUI,
    create_engine,
)
from comfy_atelier.engines.select import _device, engine_kind, is_address


@pytest.mark.parametrize(
    "text", ["http://h", "https://h/x", "localhost:8188", "127.0.0.1:8188", "gpu-1.lan:80/", "[::1]:8188", "host:1"]
)
def test_addresses(text):
    assert is_address(text)


@pytest.mark.parametrize(
    "text", ["ComfyUI", "./x", "/opt/x:8188", "C:\\ComfyUI", "C:/ComfyUI", "ftp://x", "localhost", "h:"]
)
def test_folders(text):
    assert not is_address(text)


@pytest.mark.parametrize(
    ("config", "kind"),
    [
        (EngineConfig(), "embedded"),
        (EngineConfig(comfyui=""), "embedded"),
        (EngineConfig(kind="embedded", comfyui="http://h"), "embedded"),
        (EngineConfig(comfyui="http://h"), "remote"),
        (EngineConfig(kind="comfyui", comfyui="h:8188"), "remote"),
        (EngineConfig(comfyui="ComfyUI"), "managed"),
    ],
)
def test_kinds(config, kind):
    assert engine_kind(config) == kind


def test_comfyui_without_one():
    with pytest.raises(EngineError, match="--comfyui URL_OR_PATH, set ATELIER_COMFYUI"):
        create_engine(EngineConfig(kind="comfyui"))


async def test_a_remote_engine():
    engine = create_engine(EngineConfig(comfyui="http://h:1/sub/"))
    assert isinstance(engine, ComfyUIEngine)
    assert engine.url == "http://h:1/sub"
    await engine.close()


def test_a_folder_without_comfyui(tmp_path):
    with pytest.raises(EngineUnavailable, match="holds no ComfyUI"):
        create_engine(EngineConfig(comfyui=str(tmp_path)))
    with pytest.raises(EngineUnavailable, match="is no folder"):
        create_engine(EngineConfig(comfyui=str(tmp_path / "none")))


def test_a_managed_engine(tmp_path):
    (tmp_path / "main.py").touch()
    (tmp_path / "execution.py").touch()
    engine = create_engine(EngineConfig(comfyui=str(tmp_path), comfyui_python=sys.executable))
    assert isinstance(engine, ManagedComfyUI)
    assert engine.pid is None


@pytest.mark.parametrize(
    ("visible", "device", "workers", "expected"),
    [
        ("0,1", None, 3, ["0", "1", "0"]),
        ("GPU-aa,GPU-bb", None, 2, ["GPU-aa", "GPU-bb"]),
        ("0,1", None, 1, [None]),
        ("", None, 2, [None, None]),
        ("0,1", "cpu", 2, ["cpu", "cpu"]),
    ],
)
def test_workers_get_devices_of_their_own(monkeypatch, visible, device, workers, expected):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    config = EngineConfig(comfyui="x", device=device)
    assert [_device(config, worker, workers) for worker in range(workers)] == expected


def test_devices_as_the_driver_lists_them(monkeypatch):
    from comfy_atelier.engines.comfyui import install

    class Told:
        stdout = "GPU 0: NVIDIA A (UUID: x)\nGPU 1: NVIDIA B (UUID: y)\n  MIG 1g: no\n"

    monkeypatch.setattr(install.shutil, "which", lambda name: name)
    monkeypatch.setattr(install.subprocess, "run", lambda *args, **options: Told)
    assert install.cuda_devices({}) == ("0", "1")


def test_importing_engines_is_light():
    code = (
        "import sys, comfy_atelier.engines as e, comfy_atelier.engines.select; dir(e); "
        "print(sorted({'torch', 'aiohttp', 'numpy', 'PIL', 'fastapi', 'diffusers'} & set(sys.modules)))"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "[]"


def test_every_export_is_there():
    import comfy_atelier.engines as engines

    for name in engines.__all__:
        assert name == "Event" or getattr(engines, name).__name__ == name
    with pytest.raises(AttributeError, match="nonsense"):
        engines.nonsense  # noqa: B018 (the access is the test)
