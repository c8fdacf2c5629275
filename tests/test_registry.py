"""What the Comfy registry, `comfy-cli` and ComfyUI-Manager read of the pack is valid and true."""

from __future__ import annotations

import ast
import os
import re
import shutil
import subprocess
import tomllib
import xml.etree.ElementTree as ET
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parent.parent
OLDEST = "0.3.64"
# comfy_config/types.py and comfy-cli know no other keys; a misspelt one would be lost in silence.
KEYS = {"PublisherId", "DisplayName", "Icon", "Banner", "includes", "requires-comfyui", "web", "Models", "version"}
SYSTEMS = ("Microsoft", "POSIX", "MacOS", "OS Independent")
ACCELERATORS = {
    "GPU :: NVIDIA CUDA",
    "GPU :: AMD ROCm",
    "GPU :: Intel Arc",
    "NPU :: Huawei Ascend",
    "GPU :: Apple Metal",
}
NEEDED = (
    "__init__.py",
    "LICENSE",
    "README.md",
    "pyproject.toml",
    "custom_nodes/",
    "catalogue/",
    "graph/",
    "workflows/",
)


@pytest.fixture(scope="module")
def settings() -> dict[str, Any]:
    return tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))


def test_the_project(settings: dict[str, Any]) -> None:
    """docs.comfy.org/registry/specifications, "[project] Section"."""
    project = settings["project"]
    assert re.fullmatch(r"[A-Za-z](?:[A-Za-z0-9]|[-_.](?![-_.])){1,98}", project["name"])
    assert "comfyui" not in project["name"].lower()
    assert re.fullmatch(r"\d+\.\d+\.\d+", project["version"])
    assert project["description"]
    assert project["license"] == "Apache-2.0"
    assert "Apache License" in (ROOT / "LICENSE").read_text(encoding="utf-8")
    assert {"Repository", "Documentation", "Issues"} <= set(project["urls"])
    assert all(url.startswith("https://") for url in project["urls"].values())
    assert not any(line.startswith("comfyui-frontend-package") for line in project["dependencies"])
    values = [line.split(" :: ", 1) for line in project["classifiers"]]
    systems = [value for head, value in values if head == "Operating System"]
    assert systems
    assert all(value.startswith(SYSTEMS) for value in systems)
    assert all(value in ACCELERATORS for head, value in values if head == "Environment")


def test_the_pack(settings: dict[str, Any]) -> None:
    """docs.comfy.org/registry/specifications, "[tool.comfy] Section"."""
    comfy = settings["tool"]["comfy"]
    assert set(comfy) <= KEYS
    assert re.fullmatch(r"[a-z0-9](?:[a-z0-9-]*[a-z0-9])?", comfy["PublisherId"])
    assert comfy["DisplayName"]
    versions = comfy["requires-comfyui"].split(",")
    assert all(re.fullmatch(r"(==|>=|<=|!=|~=|>|<)\d+\.\d+\.\d+", part) for part in versions)
    assert f">={OLDEST}" in versions
    assert comfy["includes"] == []  # all that it needs is tracked by git
    assert "web" not in comfy  # __init__.py names the folder; twice would serve it twice


def test_the_icon_is_the_one_in_this_repository(settings: dict[str, Any]) -> None:
    project, comfy = settings["project"], settings["tool"]["comfy"]
    raw = project["urls"]["Repository"].replace("github.com", "raw.githubusercontent.com") + "/main/"
    assert comfy["Icon"].startswith(raw)
    icon = ROOT / comfy["Icon"].removeprefix(raw)
    root = ET.fromstring(icon.read_text(encoding="utf-8"))
    assert root.tag.endswith("svg")
    assert int(root.attrib["width"]) <= 800
    assert int(root.attrib["height"]) <= 400


def test_the_archive_has_what_runs_and_no_more() -> None:
    lines = (ROOT / ".comfyignore").read_text(encoding="utf-8").splitlines()
    patterns = [line for line in lines if line and not line.startswith("#")]
    assert all(pattern.startswith("/") for pattern in patterns)
    kept = [
        need for need in NEEDED if any(f"/{need}".startswith(p.removesuffix("*.py")) and "*" not in p for p in patterns)
    ]
    assert kept == []
    assert "/tests/" in patterns
    for pattern in patterns:
        assert list(ROOT.glob(pattern.removeprefix("/").removesuffix("/"))), f"{pattern} leaves nothing out"


def test_nothing_is_run_from_text() -> None:
    """The registry's standards forbid `eval` and `exec`."""
    for path in sorted(ROOT.glob("*/**/*.py")):
        room = path.relative_to(ROOT).parts[0]
        if room in ("tests", "benchmarks", "build", "dist") or room.startswith("."):
            continue
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            name = node.func.id if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) else ""
            assert name not in ("eval", "exec"), f"{path}:{node.lineno}"


def test_comfy_cli_agrees(tmp_path: Path) -> None:
    """`comfy node validate` and `comfy node pack`, where ATELIER_TEST_COMFY_CLI names the command."""
    command = os.environ.get("ATELIER_TEST_COMFY_CLI")
    if not command:
        pytest.skip("ATELIER_TEST_COMFY_CLI names no `comfy` command")
    git = shutil.which("git")
    assert git
    subprocess.run([git, "clone", "-q", str(ROOT), str(tmp_path / "pack")], check=True)
    for name in ("pyproject.toml", ".comfyignore"):
        shutil.copy(ROOT / name, tmp_path / "pack" / name)
    environ = os.environ | {"HOME": str(tmp_path), "NO_COLOR": "1"}

    def comfy(*words: str) -> str:
        done = subprocess.run(
            [command, "--skip-prompt", *words], cwd=tmp_path / "pack", env=environ, capture_output=True, text=True
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout + done.stderr

    said = comfy("node", "validate")
    assert "All validation checks passed" in said
    assert "Warning" not in said
    comfy("node", "pack")
    assert (tmp_path / "pack" / "node.zip").stat().st_size < 5_000_000
