"""A ComfyUI in a folder: whether it is one, which Python runs it, how to start it in folders of our own."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from ..errors import EngineUnavailable

_LAUNCH = Path(__file__).with_name("launch.py")
_PACKAGE = Path(__file__).resolve().parent.parent.parent
_OPTION = re.compile(r"add_argument\(\s*[\"'](--[\w-]+)")
# What the node pack needs of this package, where it cannot be linked.
_PACK = ("__init__.py", "custom_nodes", "catalogue")
# Not for another interpreter: the launcher variable, say, makes macOS start ours.
_NOT_INHERITED = frozenset({"PYTHONHOME", "PYTHONPATH", "PYTHONSTARTUP", "VIRTUAL_ENV", "__PYVENV_LAUNCHER__"})


@dataclass(frozen=True, kw_only=True, slots=True)
class Install:
    """A ComfyUI checkout, the Python that runs it and the options that its version has."""

    path: Path
    python: Path
    options: frozenset[str]


@dataclass(frozen=True, kw_only=True, slots=True)
class Folders:
    """Where a started ComfyUI reads and writes, so that it leaves the checkout as it was."""

    root: Path

    @property
    def output(self) -> Path:
        """Where SaveImage and its like write."""
        return self.root / "output"

    def create(self) -> None:
        """Make them. Raises `OSError`."""
        for name in ("input", "output", "temp", "user", "custom_nodes"):
            (self.root / name).mkdir(parents=True, exist_ok=True)


def find_install(path: Path, python: str | Path | None = None) -> Install:
    """The ComfyUI at `path`.

    Args:
        path: the folder with ``main.py``.
        python: the Python that runs it; else its own environment's (``.venv``, ``venv``, the portable build's
            ``python_embeded``), else ours where that has torch.

    Raises:
        EngineUnavailable: there is none, or no Python for it.
    """
    path = path.absolute()
    if not (path / "main.py").is_file() or not (path / "execution.py").is_file():
        what = "is no folder" if not path.is_dir() else "holds no ComfyUI (no main.py and execution.py)"
        raise _permanent(f"{path} {what}", "give ComfyUI's own folder, or a server's address, with --comfyui")
    options = path / "comfy" / "cli_args.py"
    text = options.read_text(encoding="utf-8", errors="replace") if options.is_file() else ""
    return Install(path=path, python=_find_python(path, python), options=frozenset(_OPTION.findall(text)))


def _find_python(path: Path, python: str | Path | None) -> Path:
    if python is not None:
        given = shutil.which(str(python)) or shutil.which(str(Path(python).expanduser()))
        if given is None:
            raise _permanent(f"{python} is no Python that can be started", "give ComfyUI's own with --comfyui-python")
        return Path(given).absolute()
    executable = "Scripts/python.exe" if os.name == "nt" else "bin/python"
    beside = [
        path / ".venv" / executable,
        path / "venv" / executable,
        path.parent / "python_embeded" / "python.exe",
        path.parent / ".venv" / executable,
        path.parent / "venv" / executable,
    ]
    for candidate in beside:
        if candidate.is_file():
            return candidate
    from importlib.util import find_spec

    if find_spec("torch") is not None and find_spec("torchsde") is not None:
        return Path(sys.executable)
    raise _permanent(f"no Python for the ComfyUI in {path} was found", "give it with --comfyui-python")


def has_accelerator(environment: Mapping[str, str]) -> bool:
    """Whether this machine seems to have a device that ComfyUI finds by itself; asked of the system, not of torch."""
    if environment.get("CUDA_VISIBLE_DEVICES", "all") in {"", "-1"}:
        return False
    if sys.platform == "darwin":
        return True
    signs = (
        "/proc/driver/nvidia/version",
        "/dev/kfd",
        "/dev/dxg",
        "/dev/dri/renderD128",
        "C:/Windows/System32/nvcuda.dll",
    )
    return any(Path(sign).exists() for sign in signs) or shutil.which("nvidia-smi") is not None


def cuda_devices(environment: Mapping[str, str]) -> tuple[str, ...]:
    """The CUDA devices that processes of ours may use, as ``CUDA_VISIBLE_DEVICES`` names them."""
    visible = environment.get("CUDA_VISIBLE_DEVICES")
    if visible is not None:
        return tuple(name.strip() for name in visible.split(",") if name.strip() not in {"", "-1"})
    program = shutil.which("nvidia-smi")
    if program is None:
        return ()
    try:
        told = subprocess.run([program, "-L"], capture_output=True, text=True, timeout=20, check=True).stdout
    except (OSError, subprocess.SubprocessError):
        return ()
    return tuple(str(number) for number in range(len(re.findall(r"^GPU \d+:", told, re.MULTILINE))))


def command(
    install: Install,
    folders: Folders,
    *,
    port: int,
    cpu: bool,
    arguments: Sequence[str] = (),
    remove: bool,
) -> list[str]:
    """The command line that starts it; `remove` lets it clear `folders` away when it ends because we did."""
    root = folders.root
    wanted = [
        ("--input-directory", str(root / "input")),
        ("--output-directory", str(folders.output)),
        ("--temp-directory", str(root / "temp")),
        ("--user-directory", str(root / "user")),
        ("--database-url", f"sqlite:///{(root / 'user' / 'comfyui.db').as_posix()}"),
        ("--extra-model-paths-config", str(root / "paths.yaml")),
        ("--disable-auto-launch", None),
        ("--cpu", None) if cpu else ("", None),
    ]
    line = [str(install.python), str(_LAUNCH), str(root) if remove else "-", str(install.path / "main.py")]
    line += ["--listen", "127.0.0.1", "--port", str(port)]
    for option, value in wanted:
        if option in install.options:
            line += [option] if value is None else [option, value]
    return [*line, *arguments]


def write_paths(folders: Folders, install: Install, models_dirs: Sequence[Path]) -> None:
    """Tell ComfyUI of more model folders and of our node pack, in its ``extra_model_paths.yaml`` (JSON is YAML)."""
    groups: dict[str, dict[str, str]] = {}
    for number, folder in enumerate(models_dirs):
        kinds = sorted(entry.name for entry in folder.iterdir() if entry.is_dir()) if folder.is_dir() else []
        if kinds:
            groups[f"models_{number}"] = {"base_path": str(folder.absolute()), **{kind: kind for kind in kinds}}
    if _offer_pack(folders, install):
        groups["node_pack"] = {"custom_nodes": str(folders.root / "custom_nodes")}
    text = json.dumps(groups or {"none": None}, indent=1, ensure_ascii=False)
    (folders.root / "paths.yaml").write_text(text + "\n", encoding="utf-8")


def _offer_pack(folders: Folders, install: Install) -> bool:
    """Put our node pack where ComfyUI finds it: linked, or copied where links are not allowed (Windows)."""
    if not (_PACKAGE / "custom_nodes" / "__init__.py").is_file():
        return False
    theirs = install.path / "custom_nodes"
    if theirs.is_dir() and any(_is_pack(entry) for entry in theirs.iterdir()):
        return False
    place = folders.root / "custom_nodes" / "comfy_atelier"
    if place.exists():
        return True
    try:
        place.symlink_to(_PACKAGE, target_is_directory=True)
    except OSError:
        place.mkdir()
        for name in _PACK:
            source = _PACKAGE / name
            if source.is_dir():
                shutil.copytree(source, place / name, ignore=shutil.ignore_patterns("__pycache__"))
            else:
                shutil.copy2(source, place / name)
    return True


def _is_pack(folder: Path) -> bool:
    return (folder / "custom_nodes" / "__init__.py").is_file() and (folder / "graph" / "markers.py").is_file()


def child_environment(environment: Mapping[str, str], device: str | None) -> dict[str, str]:
    """The environment of the process: ours without our settings and our Python's, pinned to a device."""
    kept = {
        name: value
        for name, value in environment.items()
        if name not in _NOT_INHERITED and not name.startswith("ATELIER_")
    }
    kept["PYTHONUNBUFFERED"] = "1"
    kept["PYTHONUTF8"] = "1"
    if device is not None and device != "cpu":
        kept["CUDA_VISIBLE_DEVICES"] = device
        kept["CUDA_DEVICE_ORDER"] = "PCI_BUS_ID"
    return kept


def _permanent(message: str, remedy: str) -> EngineUnavailable:
    error = EngineUnavailable(message, remedy=remedy)
    error.retryable = False
    return error
