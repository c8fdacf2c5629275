"""The house as DESIGN draws it: which room may import which, and that every room is in the wheel."""

from __future__ import annotations

import ast
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent

MAY_IMPORT = {
    "catalogue": set(),
    "graph": {"catalogue"},
    "custom_nodes": {"catalogue"},
    "packer": {"graph", "catalogue"},
    "engines": {"graph", "catalogue"},
    "api": {"engines", "packer", "graph"},
    "cli": {"api", "engines", "packer", "graph", "catalogue"},
}
# Rooms that run inside ComfyUI's own process: the standard library and what ComfyUI installs.
COMFYUI_HAS = {"pydantic", "safetensors", "aiohttp", "numpy", "PIL", "sqlalchemy", "yaml"}
# What the packer needs beyond that is imported inside functions.
INSIDE_FUNCTIONS = {"packer": {"platformdirs"}, "catalogue": {"torch", "transformers"}}
# Who may import more than its room: the editor's Pack button.
EXCEPTIONS = {"custom_nodes/routes.py": {"packer", "graph"}}


def room_files() -> list[Path]:
    return sorted(path for room in MAY_IMPORT for path in (ROOT / room).rglob("*.py"))


def imports(path: Path) -> list[tuple[str, int, bool]]:
    """(absolute dotted module, line, at the module's top level) for every import of a file."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    package = ["comfy_atelier", *path.relative_to(ROOT).parent.parts]
    found: list[tuple[str, int, bool]] = []

    def visit(node: ast.AST, top: bool) -> None:
        for child in ast.iter_child_nodes(node):
            if isinstance(child, ast.Import):
                found.extend((alias.name, child.lineno, top) for alias in child.names)
            elif isinstance(child, ast.ImportFrom):
                base = package[: len(package) - child.level + 1] if child.level else []
                module = ".".join([*base, *([child.module] if child.module else [])])
                names = [f"{module}.{alias.name}" for alias in child.names] if child.level else [module]
                found.extend((name, child.lineno, top) for name in names)
            typing_only = isinstance(child, ast.If) and "TYPE_CHECKING" in ast.unparse(child.test)
            if not typing_only:
                inner = top and not isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
                visit(child, inner)

    visit(tree, True)
    return found


def room_of(module: str) -> str | None:
    parts = module.split(".")
    return parts[1] if parts[0] == "comfy_atelier" and len(parts) > 1 and parts[1] in MAY_IMPORT else None


@pytest.mark.parametrize("path", room_files(), ids=lambda path: str(path.relative_to(ROOT)))
def test_arrows(path: Path) -> None:
    name = path.relative_to(ROOT).as_posix()
    room = name.split("/")[0]
    allowed = {room} | EXCEPTIONS.get(name, MAY_IMPORT[room])
    for module, line, _ in imports(path):
        target = room_of(module)
        assert target is None or target in allowed, f"{name}:{line} imports {module}: no arrow {room} -> {target}"


@pytest.mark.parametrize("room", ["catalogue", "graph", "packer"])
def test_rooms_inside_comfyui_import_only_what_it_has(room: str) -> None:
    allowed = COMFYUI_HAS | set(sys.stdlib_module_names) | {"comfy_atelier"}
    for path in sorted((ROOT / room).rglob("*.py")):
        for module, line, top in imports(path):
            package = module.split(".")[0]
            fine = package in allowed or (not top and package in INSIDE_FUNCTIONS.get(room, set()))
            assert fine, f"{path.relative_to(ROOT)}:{line} imports {package}, which ComfyUI does not install"


def test_the_arrow_test_sees_a_forbidden_arrow(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bad = tmp_path / "graph" / "bad.py"
    bad.parent.mkdir()
    bad.write_text("def f():\n    from ..packer import pack\n")
    monkeypatch.setattr(sys.modules[__name__], "ROOT", tmp_path)
    with pytest.raises(AssertionError, match="no arrow graph -> packer"):
        test_arrows(bad)


@pytest.mark.parametrize("module", ["graph", "catalogue", "packer", "engines", "cli.main"])
def test_importing_a_room_is_light(module: str) -> None:
    """None of torch, fastapi or aiohttp comes with a room or with the command line."""
    code = f"import sys, comfy_atelier.{module}; print([m for m in ('torch','fastapi','aiohttp') if m in sys.modules])"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT.parent)
    assert result.stdout.strip() == "[]"


def test_every_package_is_listed() -> None:
    listed = set(tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["packages"])
    present = {
        ".".join(["comfy_atelier", *path.parent.relative_to(ROOT).parts])
        for room in MAY_IMPORT
        for path in (ROOT / room).rglob("__init__.py")
    }
    assert present <= listed, "add these to [tool.setuptools] packages: " + ", ".join(sorted(present - listed))


@pytest.mark.slow
def test_the_wheel_holds_the_tree(tmp_path: Path) -> None:
    """An editable install hides a forgotten package or data file; a wheel from a clean copy does not."""
    tracked = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, check=False)
    if tracked.returncode:
        pytest.skip("not a git checkout")
    copy = tmp_path / "copy"
    files = [name for name in tracked.stdout.decode().split("\0") if name and (ROOT / name).is_file()]
    for name in files:
        (copy / name).parent.mkdir(parents=True, exist_ok=True)
        (copy / name).write_bytes((ROOT / name).read_bytes())
    subprocess.run(
        [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(tmp_path / "dist"), str(copy)],
        check=True,
        capture_output=True,
    )
    (wheel,) = (tmp_path / "dist").glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        members = set(archive.namelist())
    tops = {member.split("/")[0] for member in members if ".dist-info/" not in member}
    assert tops == {"comfy_atelier"}, f"more than comfy_atelier lands in site-packages: {tops}"
    rooms = {*MAY_IMPORT, "workflows"}
    wanted = {f"comfy_atelier/{name}" for name in files if name.split("/")[0] in rooms}
    assert wanted <= members, "not in the wheel: " + ", ".join(sorted(wanted - members))
