"""A wheel of the running version of this package: an exported service installs it, since we are on no registry.

Made here rather than by a build tool: it needs neither network nor setuptools, and the same version gives the same
bytes. Format: the binary distribution format and core metadata specifications of the Python Packaging Authority.
"""

from __future__ import annotations

import base64
import hashlib
import tomllib
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.metadata import Distribution, PackageNotFoundError, distribution
from pathlib import Path
from typing import Any

from .errors import PackerError

NAME = "comfy-atelier"
ROOT = Path(__file__).resolve().parent.parent  # the checkout, or the installed package's folder
TIME = (2020, 1, 1, 0, 0, 0)  # of every member
TAG = "py3-none-any"


@dataclass(frozen=True, kw_only=True, slots=True)
class Wheel:
    """A wheel in memory: its file name, and its members without the record."""

    filename: str
    members: Mapping[str, bytes]

    def write(self, folder: Path) -> Path:
        """Write it below ``folder``."""
        info = self.filename.split("-")
        record_name = f"{info[0]}-{info[1]}.dist-info/RECORD"
        rows = [f"{name},{_record_hash(data)},{len(data)}" for name, data in sorted(self.members.items())]
        record = "\n".join([*rows, f"{record_name},,"]) + "\n"
        path = folder / self.filename
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=6) as archive:
            for name, data in [*sorted(self.members.items(), key=_members_first), (record_name, record.encode())]:
                member = zipfile.ZipInfo(name, TIME)
                member.external_attr = 0o644 << 16
                member.compress_type = zipfile.ZIP_DEFLATED
                member.create_system = 3  # the same bytes on every system
                archive.writestr(member, data)
        return path


def running_wheel() -> Wheel:
    """A wheel of what runs: the checkout's packages, or the installed distribution's files.

    Raises:
        PackerError: neither can be found.
    """
    if (ROOT / "pyproject.toml").is_file():
        return _from_checkout(ROOT)
    try:
        return _from_installed(distribution(NAME))
    except PackageNotFoundError:
        raise PackerError(
            f"{NAME} is neither installed nor a checkout", remedy="give a wheel of it (the argument `wheel`)"
        ) from None


def _from_checkout(root: Path) -> Wheel:
    declared = tomllib.loads((root / "pyproject.toml").read_text(encoding="utf-8"))
    project, tool = declared["project"], declared["tool"]["setuptools"]
    if project["name"] != NAME:
        raise PackerError(f"is the project {project['name']}", file=str(root / "pyproject.toml"), remedy="give a wheel")
    version = str(project["version"])
    members: dict[str, bytes] = {}
    for package in tool["packages"]:
        source = root / _folder(package, tool.get("package-dir", {}))
        place = package.replace(".", "/")
        patterns = ["*.py", *tool.get("package-data", {}).get(package, ())]
        for pattern in patterns:
            for path in source.glob(pattern):
                inside = path.relative_to(source)
                if path.is_file() and "__pycache__" not in inside.parts:
                    members[f"{place}/{inside.as_posix()}"] = path.read_bytes()
    info = f"{_normal(NAME)}-{version}.dist-info"
    members[f"{info}/METADATA"] = _metadata(project).encode("utf-8")
    members[f"{info}/WHEEL"] = _wheel_file()
    scripts = "".join(f"{name} = {target}\n" for name, target in sorted(project.get("scripts", {}).items()))
    if scripts:
        members[f"{info}/entry_points.txt"] = f"[console_scripts]\n{scripts}".encode()
    for pattern in project.get("license-files", ()):
        for path in sorted(root.glob(pattern)):
            members[f"{info}/licenses/{path.relative_to(root).as_posix()}"] = path.read_bytes()
    return Wheel(filename=f"{_normal(NAME)}-{version}-{TAG}.whl", members=members)


def _folder(package: str, mapped: Mapping[str, str]) -> str:
    """Where a package lies: as ``package-dir`` says of it, or below where that says of its parent."""
    parent, inner = package, ""
    while parent not in mapped and parent:
        parent, _, last = parent.rpartition(".")
        inner = f"{last}/{inner}"
    return f"{mapped.get(parent, '.')}/{inner}"


def _from_installed(installed: Distribution) -> Wheel:
    info = f"{_normal(NAME)}-{installed.version}.dist-info"
    kept = {"METADATA", "entry_points.txt", "top_level.txt"}
    members: dict[str, bytes] = {f"{info}/WHEEL": _wheel_file()}
    for file in installed.files or ():
        name = file.as_posix()
        in_info = name.startswith(f"{info}/")
        if in_info and not (name.removeprefix(f"{info}/") in kept or name.startswith(f"{info}/licenses/")):
            continue  # what an installer wrote about itself
        if not in_info and not name.startswith(f"{_normal(NAME)}/"):
            continue  # the command, which an installer makes anew
        if "__pycache__" not in name:
            members[name] = Path(str(file.locate())).read_bytes()
    if f"{_normal(NAME)}/__init__.py" not in members:
        raise PackerError(f"the installed {NAME} names none of its files", remedy="give a wheel (the argument `wheel`)")
    return Wheel(filename=f"{_normal(NAME)}-{installed.version}-{TAG}.whl", members=members)


def _metadata(project: Mapping[str, Any]) -> str:
    """Core metadata 2.4 from ``[project]``."""
    lines = [
        "Metadata-Version: 2.4",
        f"Name: {project['name']}",
        f"Version: {project['version']}",
        f"Summary: {project.get('description', '')}",
        f"License-Expression: {project['license']}",
        *(f"License-File: {name}" for name in project.get("license-files", ())),
        f"Requires-Python: {project['requires-python']}",
        *(f"Classifier: {classifier}" for classifier in project.get("classifiers", ())),
        *(f"Requires-Dist: {need}" for need in project.get("dependencies", ())),
    ]
    for extra, needs in project.get("optional-dependencies", {}).items():
        lines.append(f"Provides-Extra: {extra}")
        for need in needs:
            requirement, _, marker = (part.strip() for part in need.partition(";"))
            condition = f"({marker}) and extra == '{extra}'" if marker else f"extra == '{extra}'"
            lines.append(f"Requires-Dist: {requirement}; {condition}")
    return "\n".join(lines) + "\n"


def _wheel_file() -> bytes:
    return f"Wheel-Version: 1.0\nGenerator: {NAME}\nRoot-Is-Purelib: true\nTag: {TAG}\n".encode()


def _normal(name: str) -> str:
    return name.replace("-", "_")


def _record_hash(data: bytes) -> str:
    digest = base64.urlsafe_b64encode(hashlib.sha256(data).digest()).rstrip(b"=").decode()
    return f"sha256={digest}"


def _members_first(item: tuple[str, bytes]) -> tuple[bool, str]:
    """The specification asks for the metadata at the end of the archive."""
    return ".dist-info/" in item[0], item[0]
