"""What a prompt needs around it: ComfyUI's version, the node packs of its classes, Python, pip packages.

Read from the files of a ComfyUI checkout and its Python environment; nothing is imported from them, and nothing is run
but ``git status``.
"""

from __future__ import annotations

import re
import sys
import tomllib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from ..graph import NodeSchemas, Prompt, Workflow
from ..graph.markers import is_marker
from .addresses import git_url_complaint, https_of, is_commit
from .errors import PackerError
from .gitfolder import read_checkout
from .manifest import REGISTRY_ID, REGISTRY_VERSION, FileNodePack, GitNodePack, RegistryNodePack
from .names import shown
from .requirements import Requirement, normalised, read_requirement

MANAGER_FOLDERS = ("ComfyUI-Manager", "comfyui-manager")
_VERSION = re.compile(r"""^__version__\s*=\s*["']([0-9A-Za-z.+-]+)["']""", re.MULTILINE)
_NAME = re.compile(r"\s*([A-Za-z0-9][A-Za-z0-9._-]*)")
_MAX_SOURCE = 4 << 20


@dataclass(frozen=True, kw_only=True, slots=True)
class Environment:
    """What a prompt needs around it. ``notes`` say in words what could not be recorded, for the packer's user."""

    comfyui_version: str | None = None
    comfyui_commit: str | None = None
    git_node_packs: tuple[GitNodePack, ...] = ()
    registry_node_packs: tuple[RegistryNodePack, ...] = ()
    file_node_packs: tuple[FileNodePack, ...] = ()
    python: str | None = None
    pips: tuple[Requirement, ...] = ()
    notes: tuple[str, ...] = ()


def read_environment(
    prompt: Prompt,
    schemas: NodeSchemas,
    *,
    workflow: Workflow | None = None,
    comfyui_dir: Path | None = None,
    comfyui_python: Path | None = None,
    base_directory: Path | None = None,
    everything: bool = False,
) -> Environment:
    """What ``prompt`` needs.

    Args:
        workflow: what the editor noted of each node's pack is used where no ComfyUI is at hand.
        comfyui_dir: ComfyUI's checkout; without it, the version is that of ``schemas``.
        comfyui_python: the Python that runs it; else the checkout's ``.venv`` or ``venv``.
        base_directory: ComfyUI's ``--base-directory``, where that holds ``custom_nodes``.
        everything: all node packs and pip packages there are, not only those that the prompt reaches.

    Raises:
        PackerError: ``comfyui_dir`` is no ComfyUI.
    """
    classes = {node.class_type for node in prompt.nodes.values()}
    if comfyui_dir is None:
        return _from_workflow(classes, schemas, workflow)
    version = comfyui_version(comfyui_dir)
    checkout = read_checkout(comfyui_dir)
    notes = []
    if checkout is None or checkout.commit is None:
        notes.append(f"ComfyUI {version} is no git checkout: its commit is not recorded")
    elif checkout.dirty:
        notes.append(f"ComfyUI {version} has local changes, which a bundle cannot carry")
    packs_dirs = [folder / "custom_nodes" for folder in dict.fromkeys([base_directory or comfyui_dir, comfyui_dir])]
    needed, unknown = _needed_packs(classes, schemas, packs_dirs)
    if everything:
        needed = {folder.name.casefold(): folder for folder in _packs(packs_dirs)}
    notes += [f"no node pack with the class {shown(name)} was found: it is not recorded" for name in unknown]
    # comfy-pack installs nothing without ComfyUI-Manager in the snapshot; it is recorded where it is there.
    manager = next((d / name for d in packs_dirs for name in MANAGER_FOLDERS if (d / name).is_dir()), None)
    if manager is not None:
        needed.setdefault(manager.name.casefold(), manager)
    found = [_describe(folder, notes) for _, folder in sorted(needed.items())]
    site, python = _python_of(comfyui_dir, comfyui_python)
    if site is None:
        notes.append("ComfyUI's Python environment was not found: its pip packages are not recorded (--comfyui-python)")
    requirements = [comfyui_dir / "requirements.txt", *(f / "requirements.txt" for f in needed.values() if f.is_dir())]
    return Environment(
        comfyui_version=version,
        comfyui_commit=checkout.commit if checkout else None,
        git_node_packs=tuple(pack for pack in found if isinstance(pack, GitNodePack)),
        registry_node_packs=tuple(pack for pack in found if isinstance(pack, RegistryNodePack)),
        file_node_packs=tuple(pack for pack in found if isinstance(pack, FileNodePack)),
        python=python or f"{sys.version_info.major}.{sys.version_info.minor}",
        pips=_pips(site, None if everything else _required_names(requirements)) if site else (),
        notes=tuple(notes),
    )


def comfyui_version(folder: Path) -> str:
    """The version that ``comfyui_version.py`` states; `PackerError` where ``folder`` is no ComfyUI."""
    try:
        stated = folder / "comfyui_version.py"
        match = _VERSION.search(stated.read_text(encoding="utf-8")) if stated.is_file() else None
        if match:
            return match[1]
        # Before 0.3.10 there was only the project file.
        project = tomllib.loads((folder / "pyproject.toml").read_text(encoding="utf-8"))["project"]
        if project["name"] == "ComfyUI":
            return str(project["version"])
    except (OSError, KeyError, TypeError, tomllib.TOMLDecodeError, UnicodeDecodeError):
        pass
    raise PackerError(
        "is no ComfyUI: comfyui_version.py is not there", file=str(folder), remedy="give the folder with main.py"
    )


def _packs(folders: Iterable[Path]) -> Iterator[Path]:
    seen: set[str] = set()
    for folder in folders:
        for entry in sorted(folder.iterdir()) if folder.is_dir() else []:
            name = entry.name
            if name.startswith((".", "__")) or name.endswith((".disabled", ".example")) or name.casefold() in seen:
                continue
            if entry.is_dir() or entry.suffix == ".py":
                seen.add(name.casefold())
                yield entry


def _needed_packs(
    classes: Iterable[str], schemas: NodeSchemas, folders: list[Path]
) -> tuple[dict[str, Path], tuple[str, ...]]:
    """The packs that define ``classes``, by folded name, and the classes that none does."""
    packs = list(_packs(folders))
    by_name = {pack.name.removesuffix(".py").casefold(): pack for pack in packs}
    needed: dict[str, Path] = {}
    unknown = []
    for name in sorted(classes):
        schema = schemas.get(name)
        if schema is not None and not schema.python_module.startswith("custom_nodes."):
            continue  # the core's own
        pack = by_name.get(schema.python_module.removeprefix("custom_nodes.").casefold()) if schema else None
        pack = pack or _mentioning(name, packs)
        if pack is not None:
            needed[pack.name.casefold()] = pack
        elif not is_marker(name):
            unknown.append(name)
    return needed, tuple(unknown)


def _mentioning(class_type: str, packs: list[Path]) -> Path | None:
    """The one pack whose source has the class's name as a quoted text, as every node mapping has."""
    quoted = (f'"{class_type}"'.encode(), f"'{class_type}'".encode())
    found = []
    for pack in packs:
        sources = [pack] if pack.is_file() else pack.rglob("*.py")
        for source in sources:
            try:
                data = source.read_bytes() if source.stat().st_size <= _MAX_SOURCE else b""
            except OSError:
                continue
            if any(text in data for text in quoted):
                found.append(pack)
                break
    # A pack that only mentions another's class (to patch it, to test for it) makes it two: then nobody knows.
    return found[0] if len(found) == 1 else None


def _describe(folder: Path, notes: list[str]) -> GitNodePack | RegistryNodePack | FileNodePack | None:
    if folder.is_file():
        notes.append(f"the node pack {shown(folder.name)} is a single file: a bundle names it, but does not carry it")
        return FileNodePack(filename=folder.name)
    registry = _registry_pack(folder)
    if registry is not None:
        return registry
    checkout = read_checkout(folder)
    url = https_of(checkout.url) if checkout and checkout.url else None
    if checkout is None or checkout.commit is None or url is None:
        reason = "has no public https address" if checkout and checkout.commit else "is no git checkout"
        notes.append(f"the node pack {shown(folder.name)} {reason}: it is not recorded")
        return None
    if checkout.dirty:
        notes.append(f"the node pack {shown(folder.name)} has local changes, which a bundle cannot carry")
    return GitNodePack(url=url, commit=checkout.commit)


def _registry_pack(folder: Path) -> RegistryNodePack | None:
    """The registry's id and version: ComfyUI-Manager marks what it got there with a file ``.tracking``."""
    if not (folder / ".tracking").is_file() or (folder / ".git").exists():
        return None
    try:
        project = tomllib.loads((folder / "pyproject.toml").read_text(encoding="utf-8"))["project"]
        pack_id, version = str(project["name"]), str(project["version"])
    except (OSError, KeyError, TypeError, tomllib.TOMLDecodeError, UnicodeDecodeError):
        return None
    if not REGISTRY_ID.match(pack_id) or not REGISTRY_VERSION.match(version):
        return None
    return RegistryNodePack(id=pack_id, version=version)


def _python_of(comfyui_dir: Path, python: Path | None) -> tuple[Path | None, str | None]:
    """(site-packages, version like "3.12") of the Python that runs ComfyUI."""
    homes = [python.absolute().parent.parent] if python else [comfyui_dir / name for name in (".venv", "venv")]
    for home in homes:
        for site in [*sorted(home.glob("lib/python3.*/site-packages")), home / "Lib" / "site-packages"]:
            if site.is_dir():
                version = site.parent.name.removeprefix("python") if site.parent.name.startswith("python3") else None
                return site, version or _configured_version(home)
    return None, None


def _configured_version(home: Path) -> str | None:
    try:
        text = (home / "pyvenv.cfg").read_text(encoding="utf-8")
    except OSError:
        return None
    match = re.search(r"^version(?:_info)?\s*=\s*(3\.\d+)", text, re.MULTILINE)
    return match[1] if match else None


def _required_names(files: Iterable[Path]) -> frozenset[str]:
    names = set()
    for file in files:
        try:
            lines = file.read_text(encoding="utf-8", errors="replace").splitlines()
        except OSError:
            continue
        for line in lines:
            match = _NAME.match(line.split("#", 1)[0])
            if match and not line.lstrip().startswith("-"):
                names.add(normalised(match[1]))
    return frozenset(names)


def _pips(site: Path, wanted: frozenset[str] | None) -> tuple[Requirement, ...]:
    from importlib.metadata import distributions

    found: dict[str, Requirement] = {}
    for one in distributions(path=[str(site)]):
        name, version = one.metadata["Name"], one.version
        if not name or (wanted is not None and normalised(name) not in wanted):
            continue
        requirement = read_requirement(f"{name}=={version}")
        if isinstance(requirement, Requirement):
            found[normalised(name)] = requirement
    return tuple(found[name] for name in sorted(found))


def _from_workflow(classes: set[str], schemas: NodeSchemas, workflow: Workflow | None) -> Environment:
    """Without a ComfyUI: what the editor noted on each node (``cnr_id``, ``aux_id``, ``ver``)."""
    git: dict[str, GitNodePack] = {}
    registry: dict[str, RegistryNodePack] = {}
    told: set[str] = set()
    for class_type, properties in _node_properties(workflow):
        if class_type not in classes:
            continue
        pack_id, repository, version = (properties.get(key) for key in ("cnr_id", "aux_id", "ver"))
        if pack_id == "comfy-core":
            told.add(class_type)
            continue
        if not isinstance(version, str):
            continue
        url = f"https://github.com/{repository}" if isinstance(repository, str) else ""
        if is_commit(version) and url and git_url_complaint(url) is None:
            git[url] = GitNodePack(url=url, commit=version)
            told.add(class_type)
        elif isinstance(pack_id, str) and REGISTRY_ID.match(pack_id) and _is_release(version):
            registry[pack_id] = RegistryNodePack(id=pack_id, version=version)
            told.add(class_type)
    core = {name for name in classes if (s := schemas.get(name)) and not s.python_module.startswith("custom_nodes.")}
    unknown = sorted(name for name in classes - core - told if not is_marker(name))
    return Environment(
        comfyui_version=schemas.version,
        git_node_packs=tuple(git[url] for url in sorted(git)),
        registry_node_packs=tuple(registry[pack_id] for pack_id in sorted(registry)),
        python=f"{sys.version_info.major}.{sys.version_info.minor}",
        notes=tuple(f"the node pack of the class {shown(name)} is not known (--comfyui)" for name in unknown),
    )


def _is_release(version: str) -> bool:
    return REGISTRY_VERSION.match(version) is not None and not is_commit(version)


def _node_properties(workflow: Workflow | None) -> Iterator[tuple[str, Mapping[str, object]]]:
    if workflow is None:
        return
    for node in workflow.nodes:
        yield node.type, node.properties
    for subgraph in workflow.subgraphs.values():
        for node in subgraph.nodes:
            yield node.type, node.properties
