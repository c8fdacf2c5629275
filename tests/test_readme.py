"""The README's commands, word for word: every `atelier` and `curl` line of it is run here in one folder, in order."""

from __future__ import annotations

import json
import os
import re
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest
from PIL import Image

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")
SCRIPTS = Path(sys.executable).parent


def console_lines() -> list[str]:
    """Every command of the README's console blocks; a comment after two blanks and a # is no part of it."""
    lines = []
    for block in re.findall(r"^```console\n(.*?)^```", README, flags=re.MULTILINE | re.DOTALL):
        for line in block.splitlines():
            command = re.split(r"\s{2,}#", line)[0].strip()
            if command and not command.startswith("#"):
                lines.append(command)
    return lines


def test_readme_starts_with_the_two_commands() -> None:
    lines = console_lines()
    assert lines[:2] == ["python install.py demo", "python install.py test"]
    assert "![" in README[: README.index("python install.py demo")], "a picture comes first"


def test_every_linked_file_is_there() -> None:
    for target in re.findall(r"\]\((?!https?:)([^)#]+)", README):
        assert (ROOT / target).is_file(), f"README links to {target}"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Where a reader stands after `python install.py demo`."""
    pytest.importorskip("torch", reason="the embedded engine is not installed")
    if shutil.which("curl") is None or os.name == "nt":
        pytest.skip("needs curl and a POSIX shell")
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", 8000))
        except OSError:
            pytest.skip("port 8000, which the README uses, is taken")
    place = tmp_path_factory.mktemp("reader")
    shutil.copytree(ROOT / "workflows", place / "workflows")
    subprocess.run([sys.executable, "-m", "comfy_atelier.cli.main", "demo"], cwd=place, check=True, capture_output=True)
    return place


def shell(line: str, folder: Path) -> str:
    """What a reader's shell prints for a line of the README."""
    environment = {
        **os.environ,
        "PATH": f"{SCRIPTS}{os.pathsep}{os.environ['PATH']}",
        "XDG_DATA_HOME": str(folder / "data"),
        "XDG_CONFIG_HOME": str(folder / "config"),
    }
    result = subprocess.run(
        ["/bin/sh", "-c", line], cwd=folder, env=environment, capture_output=True, text=True, check=False
    )
    assert result.returncode == 0, f"{line}\n{result.stdout}\n{result.stderr}"
    return result.stdout


@pytest.mark.slow
def test_the_atelier_commands_work(folder: Path) -> None:
    commands = [
        line for line in console_lines() if line.startswith("atelier ") and not line.startswith("atelier serve")
    ]
    assert len(commands) >= 7
    shown = {line: shell(line, folder) for line in commands}
    assert "blur_radius" in next(text for line, text in shown.items() if line.startswith("atelier inspect workflows"))
    saved = next(text for line, text in shown.items() if line.startswith("atelier run")).strip()
    with Image.open(folder / saved) as picture:
        assert picture.size == (1248, 584)
    assert (folder / "my-service" / "app.py").is_file()


@pytest.mark.slow
def test_the_curl_calls_work(folder: Path) -> None:
    (serve,) = [line for line in console_lines() if line.startswith("atelier serve")]
    arguments = serve.split()[1:]
    environment = {**os.environ, "XDG_DATA_HOME": str(folder / "data"), "XDG_CONFIG_HOME": str(folder / "config")}
    service = subprocess.Popen(
        [sys.executable, "-m", "comfy_atelier.cli.main", *arguments], cwd=folder, env=environment
    )
    try:
        deadline = time.monotonic() + 120
        while time.monotonic() < deadline and service.poll() is None:
            try:
                urllib.request.urlopen("http://127.0.0.1:8000/health/ready", timeout=5).close()
                break
            except OSError:
                time.sleep(0.1)
        calls = [line for line in console_lines() if line.startswith("curl ")]
        assert len(calls) >= 5
        shown = [shell(line, folder) for line in calls]
    finally:
        service.terminate()
        service.wait(30)
    for name in ("sheet.png", "sheet-2.png"):
        with Image.open(folder / name) as picture:
            assert (picture.format, picture.size) == ("PNG", (1248, 584)), name
    assert (folder / "sheet.png").read_bytes() != (folder / "sheet-2.png").read_bytes()
    events = shown[-2]
    assert events.count("event: status") >= 2
    assert '"status":"succeeded"' in events
    job = json.loads(shown[-1])
    assert job["status"] == "succeeded"
    assert job["outputs"][0]["media_type"] == "image/png"
