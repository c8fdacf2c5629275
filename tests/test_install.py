"""install.py: what each form does, without installing anything."""

from __future__ import annotations

import ast
import importlib.util
import json
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).parent.parent


@pytest.fixture
def install() -> ModuleType:
    spec = importlib.util.spec_from_file_location("atelier_install", ROOT / "install.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_imports_only_the_standard_library() -> None:
    tree = ast.parse((ROOT / "install.py").read_text(encoding="utf-8"))
    names = {
        (alias.name if isinstance(node, ast.Import) else node.module or "").split(".")[0]
        for node in ast.walk(tree)
        if isinstance(node, ast.Import | ast.ImportFrom)
        for alias in node.names
    }
    assert names <= set(sys.stdlib_module_names)


def test_plain_form_is_quiet_where_nothing_is_missing() -> None:
    result = subprocess.run([sys.executable, str(ROOT / "install.py")], capture_output=True, text=True, check=False)
    assert (result.returncode, result.stdout, result.stderr) == (0, "", "")


def test_plain_form_holds_the_installed_torch(install: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[tuple[str, ...]] = []
    held: list[str] = []

    def fake_pip(python: object, *arguments: str) -> None:
        calls.append(arguments)
        held.extend(Path(arguments[arguments.index("--constraint") + 1]).read_text().split())

    monkeypatch.setattr(install, "pip", fake_pip)
    monkeypatch.setattr(install.importlib.util, "find_spec", lambda name: None if name == "yaml" else object())
    monkeypatch.setattr(install.importlib.metadata, "version", lambda name: "9.9.9")
    assert install.main([]) == 0
    assert len(calls) == 1
    assert calls[0][-1] == install.NODE_PACK_NEEDS["yaml"]
    assert "torch==9.9.9" in held
    assert not any(need.startswith("torch") for need in install.NODE_PACK_NEEDS.values())


def test_set_up_does_nothing_the_second_time(
    install: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(install, "VENV", tmp_path)
    monkeypatch.setattr(install, "pip", lambda *arguments: pytest.fail("pip was called"))
    python = install.venv_python()
    python.parent.mkdir(parents=True)
    python.touch()
    stamp = {"fingerprint": install.fingerprint(), "extras": ["embedded", "dev"]}
    (tmp_path / "atelier-setup.json").write_text(json.dumps(stamp))
    install.set_up(("embedded",))
    install.set_up(install.EXTRAS["test"])


def test_set_up_adds_what_the_other_form_lacks(
    install: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[tuple[str, ...]] = []
    monkeypatch.setattr(install, "VENV", tmp_path)
    monkeypatch.setattr(install, "pip", lambda python, *arguments: calls.append(arguments))
    python = install.venv_python()
    python.parent.mkdir(parents=True)
    python.touch()
    (tmp_path / "atelier-setup.json").write_text(
        json.dumps({"fingerprint": install.fingerprint(), "extras": ["embedded"]})
    )
    install.set_up(install.EXTRAS["test"])
    installed = [arguments[-1] for arguments in calls]
    assert installed == ["torch", f"{install.ROOT}[dev,embedded]", install.ALONE[-1]]
    assert calls[-1][-len(install.ALONE) :] == install.ALONE
    assert "--no-deps" in calls[-1]  # what it asks for would bring a torchvision that does not fit
    assert json.loads((tmp_path / "atelier-setup.json").read_text())["extras"] == ["dev", "embedded"]


@pytest.mark.parametrize("arguments", [["deploy"], ["demo2"]])
def test_an_unknown_form_says_which_there_are(arguments: list[str]) -> None:
    result = subprocess.run(
        [sys.executable, str(ROOT / "install.py"), *arguments], capture_output=True, text=True, check=False
    )
    assert result.returncode == 2
    assert "python install.py demo" in result.stderr
    assert "Traceback" not in result.stderr
