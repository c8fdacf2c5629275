"""``snapshot.json``: what a bundle says of ComfyUI, node packs, Python packages and models.

comfy-pack's format, both ages (see docs/bundle-format.md): since 0.4 a ComfyUI-Manager snapshot with ``python`` and
``models`` added, before that ``custom_nodes`` and a ``requirements.txt``. Everything that could later become an
argument of a tool or a path on a disk is checked here, once, and nothing that fails is used: a `Snapshot` holds only
what is safe to show, to fetch and to write.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Literal, Self

from .addresses import folder_of, git_url_complaint, is_commit, is_sha256, url_complaint
from .errors import ManifestError
from .fields import JSON, Node, rest, strict_json
from .names import clashes, complaint, component_complaint, folded, shown
from .requirements import Requirement, normalised, read_requirement

MEMBER = "snapshot.json"

MAX_BYTES = 16 << 20
"""Bytes of a manifest: a thousand times a usual one."""

_PYTHON = re.compile(r"3\.\d{1,2}(\.\d{1,3})?\Z")
REGISTRY_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}\Z")
REGISTRY_VERSION = re.compile(r"[A-Za-z0-9][A-Za-z0-9.+_-]{0,63}\Z")
_REPOSITORY = re.compile(
    r"(?:(?:datasets|spaces)/)?[A-Za-z0-9][A-Za-z0-9._-]{0,95}(?:/[A-Za-z0-9][A-Za-z0-9._-]{0,95})?\Z"
)

Age = Literal["0.4", "older"]


@dataclass(frozen=True, kw_only=True, slots=True)
class ModelSource:
    """Where a model file can be had. ``kind`` is "huggingface", "civitai", "url" or what another tool wrote."""

    kind: str
    download_url: str | None = None
    url: str | None = None  # the page for people
    repo: str | None = None
    commit: str | None = None
    path: str | None = None
    extra: Mapping[str, JSON] = field(default_factory=dict)

    @classmethod
    def from_node(cls, node: Node) -> Self | None:
        """Read one ``source``; None where it is empty, as comfy-pack writes an unknown one."""
        if not node.items():
            return None
        return cls(
            kind=node.child("source").optional(_word) or "url",
            download_url=node.child("download_url").optional(_url),
            url=node.child("url").optional(_url),
            repo=node.child("repo").optional(
                lambda n: n.matching(lambda t: bool(_REPOSITORY.match(t)), "a repository")
            ),
            commit=node.child("commit").optional(_revision),
            path=node.child("path").optional(_inner_path),
            extra=rest(node.value, "source", "download_url", "url", "repo", "commit", "path"),
        )

    def to_json(self) -> dict[str, JSON]:
        """As comfy-pack writes it."""
        known = {
            "download_url": self.download_url,
            "url": self.url,
            "repo": self.repo,
            "commit": self.commit,
            "path": self.path,
        }
        return {**{key: value for key, value in known.items() if value is not None}, "source": self.kind, **self.extra}


@dataclass(frozen=True, kw_only=True, slots=True)
class Model:
    """One model file. ``filename`` is "models/checkpoints/x.safetensors" or the like; ``size`` is in bytes."""

    filename: str
    sha256: str
    size: int | None = None
    disabled: bool = False
    source: ModelSource | None = None
    extra: Mapping[str, JSON] = field(default_factory=dict)

    @classmethod
    def from_node(cls, node: Node) -> Self:
        """Read one entry of ``models``."""
        node.items()
        return cls(
            filename=_model_filename(node.child("filename")),
            sha256=_sha256(node.child("sha256")),
            size=node.child("size").optional(Node.count),
            disabled=node.child("disabled").flag(),
            source=node.child("source").optional(ModelSource.from_node),
            extra=rest(node.value, "filename", "sha256", "size", "disabled", "source"),
        )

    def to_json(self) -> dict[str, JSON]:
        """As comfy-pack writes it."""
        value: dict[str, JSON] = {"filename": self.filename, "sha256": self.sha256, "disabled": self.disabled}
        if self.size is not None:
            value["size"] = self.size
        return {**value, "source": self.source.to_json() if self.source else {}, **self.extra}

    @property
    def folder(self) -> str:
        """The folder below ``models/`` ("checkpoints"); empty where the file lies in ``models/`` itself."""
        parts = self.filename.split("/")
        return parts[1] if len(parts) > 2 else ""

    @property
    def name(self) -> str:
        """The name as a prompt writes it: what follows the folder."""
        return self.filename.split("/", 2)[-1]


@dataclass(frozen=True, kw_only=True, slots=True)
class GitNodePack:
    """A node pack from a git repository."""

    url: str
    commit: str
    disabled: bool = False

    @property
    def folder(self) -> str:
        """Its folder below ``custom_nodes/``."""
        return folder_of(self.url)

    def to_json(self) -> dict[str, JSON]:
        """For reports; a snapshot writes it otherwise."""
        return {"name": self.folder, "url": self.url, "commit": self.commit, "disabled": self.disabled}


@dataclass(frozen=True, kw_only=True, slots=True)
class RegistryNodePack:
    """A node pack from the Comfy registry."""

    id: str
    version: str

    def to_json(self) -> dict[str, JSON]:
        """For reports; a snapshot writes it otherwise."""
        return {"name": self.id, "registry": self.id, "version": self.version}


@dataclass(frozen=True, kw_only=True, slots=True)
class FileNodePack:
    """A single-file node pack below ``custom_nodes/``; a bundle carries its name only."""

    filename: str
    disabled: bool = False

    def to_json(self) -> dict[str, JSON]:
        """For reports; a snapshot writes it otherwise."""
        return {"name": self.filename, "file": self.filename, "disabled": self.disabled}


@dataclass(frozen=True, kw_only=True, slots=True)
class Snapshot:
    """What a bundle needs around it.

    ``age`` tells the two forms of the format apart ("older": comfy-pack before 0.4, whose packages come from its
    ``requirements.txt``). ``left_out`` says what an older bundle names that cannot be used, in words.
    """

    comfyui: str | None = None
    git_node_packs: tuple[GitNodePack, ...] = ()
    registry_node_packs: tuple[RegistryNodePack, ...] = ()
    file_node_packs: tuple[FileNodePack, ...] = ()
    pips: tuple[Requirement, ...] = ()
    python: str | None = None
    models: tuple[Model, ...] = ()
    age: Age = "0.4"
    left_out: tuple[str, ...] = ()
    extra: Mapping[str, JSON] = field(default_factory=dict)

    @property
    def node_packs(self) -> tuple[GitNodePack | RegistryNodePack | FileNodePack, ...]:
        """All node packs, those from git first."""
        return (*self.git_node_packs, *self.registry_node_packs, *self.file_node_packs)

    @classmethod
    def from_json(cls, value: JSON) -> Self:
        """Read a snapshot.

        Raises:
            ManifestError: what is wrong, with its JSON path.
        """
        top = Node(value)
        top.items()
        if "pips" not in value and "custom_nodes" not in value:
            raise top.fail("has neither pips nor custom_nodes: it is no snapshot of a bundle")
        older = "pips" not in value
        left_out: list[str] = []
        packs = [_git_pack(node) for node in _entries(top, "git_custom_nodes")]
        for node in _elements(top, "custom_nodes"):
            pack = _older_pack(node, skip_nameless=older)
            if pack is None:
                left_out.append(f"{node.path}: a node pack without an address")
            elif pack not in packs:
                packs.append(pack)
        _check_folders(packs, top)
        models = tuple(Model.from_node(node) for node in _elements(top, "models"))
        pair = clashes([model.filename for model in models])
        if pair and folded(pair[0]) != folded(pair[1]):
            raise top.child("models").fail(f"has {shown(pair[0])} as a file and as a folder")
        if pair and not _same_file(models, folded(pair[0])):
            raise top.child("models").fail(f"names {shown(pair[1])} twice, with different contents")
        return cls(
            comfyui=top.child("comfyui").optional(_commit),
            git_node_packs=tuple(packs),
            registry_node_packs=tuple(_registry_pack(node) for node in _entries(top, "cnr_custom_nodes")),
            file_node_packs=tuple(_file_pack(node) for node in _elements(top, "file_custom_nodes")),
            pips=() if older else tuple(_requirement(key, node) for key, node in top.child("pips").items()),
            python=_python(top.child("python")) if "python" in value else None,
            models=models,
            age="older" if older else "0.4",
            left_out=tuple(left_out),
            extra=rest(
                value,
                "comfyui",
                "git_custom_nodes",
                "cnr_custom_nodes",
                "file_custom_nodes",
                "custom_nodes",
                "pips",
                "python",
                "models",
            ),
        )

    @classmethod
    def parse(cls, data: bytes) -> Self:
        """Read the bytes of ``snapshot.json``; errors name the member."""
        try:
            return cls.from_json(strict_json(data))
        except ManifestError as error:
            raise error.at(member=MEMBER) from error.__cause__

    def to_json(self) -> dict[str, JSON]:
        """As comfy-pack writes it since 0.4, in a fixed order."""
        return {
            "comfyui": self.comfyui,
            "git_custom_nodes": {
                pack.url: {"hash": pack.commit, "disabled": pack.disabled}
                for pack in sorted(self.git_node_packs, key=lambda pack: pack.url)
            },
            "cnr_custom_nodes": {
                pack.id: pack.version for pack in sorted(self.registry_node_packs, key=lambda pack: pack.id)
            },
            "file_custom_nodes": [
                {"filename": pack.filename, "disabled": pack.disabled}
                for pack in sorted(self.file_node_packs, key=lambda pack: pack.filename)
            ],
            "pips": {
                pip.spec: pip.url or "" for pip in sorted(self.pips, key=lambda pip: (normalised(pip.name), pip.spec))
            },
            **({"python": self.python} if self.python is not None else {}),
            "models": [model.to_json() for model in sorted(self.models, key=lambda model: model.filename)],
            **self.extra,
        }


def older_requirements(text: str) -> tuple[tuple[Requirement, ...], tuple[str, ...]]:
    """The requirements of an older bundle's ``requirements.txt``, and the lines that are none (never to be used)."""
    found, left_out = [], []
    for number, line in enumerate(text.splitlines(), 1):
        stripped = line.strip()
        if not stripped or stripped.startswith("#"):
            continue
        name, at, url = stripped.partition(" @ ")
        # comfy-pack before 0.4 adds its own few tools without a version.
        requirement = read_requirement(name, url.strip()) if at else read_requirement(stripped, bare=True)
        if isinstance(requirement, str):
            left_out.append(f"requirements.txt line {number}: {shown(stripped)} {requirement}")
        else:
            found.append(requirement)
    return tuple(found), tuple(left_out)


def _entries(top: Node, key: str) -> Iterator[tuple[str, Node]]:
    yield from top.child(key).items() if top.value.get(key) is not None else []


def _elements(top: Node, key: str) -> list[Node]:
    return top.child(key).elements() if top.value.get(key) is not None else []


def _word(node: Node) -> str:
    return node.matching(lambda text: re.fullmatch(r"[A-Za-z0-9_.-]{1,64}", text) is not None, "a word")


def _url(node: Node) -> str | None:
    text = node.text()
    if text == "":
        return None
    why = url_complaint(text)
    if why:
        raise node.fail(why)
    return text


def _commit(node: Node) -> str:
    return node.matching(is_commit, "a full commit (40 or 64 hexadecimal digits)")


def _revision(node: Node) -> str:
    def allowed(text: str) -> bool:
        return re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._/-]{0,127}", text) is not None and ".." not in text

    return node.matching(allowed, "a commit, a tag or a branch")


def _inner_path(node: Node) -> str:
    text = node.text()
    why = complaint(text)
    if why:
        raise node.fail(why)
    return text


def _sha256(node: Node) -> str:
    return node.matching(lambda text: is_sha256(text.lower()), "a sha256 (64 hexadecimal digits)").lower()


def _python(node: Node) -> str:
    return node.matching(lambda text: _PYTHON.match(text) is not None, 'a Python version like "3.12"')


def _model_filename(node: Node) -> str:
    # comfy-pack on Windows writes backslashes.
    text = node.text().replace("\\", "/")
    why = complaint(text)
    if why:
        raise node.fail(why)
    if not text.startswith("models/"):
        raise node.fail(f"must lie below models/, not {shown(text)}")
    return text


def _same_file(models: tuple[Model, ...], key: str) -> bool:
    return len({model.sha256 for model in models if folded(model.filename) == key}) == 1


def _check_url(node: Node, url: str) -> None:
    why = git_url_complaint(url)
    if why:
        raise node.fail(f"the address {why}", remedy="node packs come from https addresses that end in a name")


def _git_pack(entry: tuple[str, Node]) -> GitNodePack:
    url, node = entry
    _check_url(node, url)
    node.items()
    return GitNodePack(url=url, commit=_commit(node.child("hash")), disabled=node.child("disabled").flag())


def _older_pack(node: Node, *, skip_nameless: bool) -> GitNodePack | None:
    node.items()
    url = node.child("url").text()
    if skip_nameless and not url.strip():
        return None
    _check_url(node.child("url"), url)
    return GitNodePack(url=url, commit=_commit(node.child("commit_hash")), disabled=node.child("disabled").flag())


def _check_folders(packs: list[GitNodePack], top: Node) -> None:
    taken: dict[str, str] = {}
    for pack in packs:
        if pack.disabled:
            continue
        other = taken.setdefault(folded(pack.folder), pack.url)
        if other != pack.url:
            raise top.fail(f"two node packs want the folder {shown(pack.folder)}: {shown(other)} and {shown(pack.url)}")
    commits: dict[str, str] = {}
    for pack in packs:
        if commits.setdefault(pack.url, pack.commit) != pack.commit:
            raise top.fail(f"names two commits for the node pack {shown(pack.url)}")


def _registry_pack(entry: tuple[str, Node]) -> RegistryNodePack:
    pack_id, node = entry
    if not REGISTRY_ID.match(pack_id) or component_complaint(pack_id):
        raise node.fail("the key is no id of a registry node pack")
    version = node.matching(lambda text: REGISTRY_VERSION.match(text) is not None, "a version")
    return RegistryNodePack(id=pack_id, version=version)


def _file_pack(node: Node) -> FileNodePack:
    node.items()
    filename = node.child("filename")
    text = filename.text()
    why = component_complaint(text)
    if why or text.startswith((".", "-")):
        raise filename.fail(why or "must be a file's name")
    return FileNodePack(filename=text, disabled=node.child("disabled").flag())


def _requirement(spec: str, node: Node) -> Requirement:
    requirement = read_requirement(spec, node.value if node.value is None else node.text())
    if isinstance(requirement, str):
        raise node.fail(requirement, remedy="an option or a local file cannot be part of a bundle")
    return requirement
