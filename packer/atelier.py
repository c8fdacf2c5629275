"""``atelier.json``: what we add to comfy-pack's format: interface, licence report, a sha256 of every other member.

The format's version is a whole number. A reader takes its own version and older ones; fields that it does not know are
kept, so a new field needs no new version; a changed meaning does.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Self

from ..graph.errors import GraphError
from ..graph.interface import Interface
from .addresses import is_sha256, url_complaint
from .errors import ManifestError, UnknownVersion
from .fields import JSON, Node, rest, strict_json
from .names import complaint

MEMBER = "atelier.json"
FORMAT = 1

_CLASS = re.compile(r"[^\x00-\x1f\x7f]{1,200}\Z")


@dataclass(frozen=True, kw_only=True, slots=True)
class ModelLicence:
    """The licence of one model file, as the catalogue knows it. ``commercial`` is "yes", "conditional" or "no"."""

    filename: str
    licence: str
    name: str
    url: str | None = None
    commercial: str = ""
    conditions: str = ""

    def to_json(self) -> dict[str, JSON]:
        """The entry of ``licences``."""
        return {
            "filename": self.filename,
            "licence": self.licence,
            "name": self.name,
            "url": self.url,
            "commercial": self.commercial,
            "conditions": self.conditions,
        }


@dataclass(frozen=True, kw_only=True, slots=True)
class UnresolvedModel:
    """A model that the prompt names and that was packed without its sha256, since the file was not at hand."""

    filename: str
    node: str
    input: str
    url: str | None = None

    def to_json(self) -> dict[str, JSON]:
        """The entry of ``unresolved_models``."""
        return {"filename": self.filename, "node": self.node, "input": self.input, "url": self.url}


@dataclass(frozen=True, kw_only=True, slots=True)
class AtelierManifest:
    """``atelier.json``.

    Attributes:
        members: sha256 of every other member, by name.
        classes: node classes that the prompt uses, sorted.
        comfyui_version: the version whose node schemas the prompt was checked against ("0.33.0"), where known.
        notes: what people should know before they use the bundle (a node pack with local changes), in words.
    """

    members: Mapping[str, str]
    interface: Interface | None = None
    classes: tuple[str, ...] = ()
    licences: tuple[ModelLicence, ...] = ()
    unresolved_models: tuple[UnresolvedModel, ...] = ()
    comfyui_version: str | None = None
    notes: tuple[str, ...] = ()
    tool: str = ""
    format: int = FORMAT
    extra: Mapping[str, JSON] = field(default_factory=dict)

    @classmethod
    def parse(cls, data: bytes) -> Self:
        """Read the bytes of ``atelier.json``.

        Raises:
            UnknownVersion: a newer tool wrote it.
            ManifestError: what is wrong, with its JSON path.
        """
        try:
            return cls.from_json(strict_json(data))
        except ManifestError as error:
            raise error.at(member=MEMBER) from error.__cause__

    @classmethod
    def from_json(cls, value: JSON) -> Self:
        """Read the manifest from its JSON value; see `parse`."""
        top = Node(value)
        top.items()
        version = top.child("format").count()
        if version < 1 or version > FORMAT:
            raise UnknownVersion(
                f"the format's version is {version}; this tool reads 1 to {FORMAT}",
                path="format",
                remedy="update comfy-atelier",
            )
        return cls(
            format=version,
            tool=top.child("tool").optional(Node.text) or "",
            interface=top.child("interface").optional(_interface),
            members={name: _member(name, node) for name, node in top.child("members").items()},
            classes=tuple(_class(node) for node in _elements(top, "classes")),
            licences=tuple(_licence(node) for node in _elements(top, "licences")),
            unresolved_models=tuple(_unresolved(node) for node in _elements(top, "unresolved_models")),
            comfyui_version=top.child("comfyui_version").optional(Node.text),
            notes=tuple(node.text() for node in _elements(top, "notes")),
            extra=rest(
                value,
                "format",
                "tool",
                "interface",
                "members",
                "classes",
                "licences",
                "unresolved_models",
                "comfyui_version",
                "notes",
            ),
        )

    def to_json(self) -> dict[str, JSON]:
        """The manifest as JSON, in a fixed order."""
        return {
            "format": self.format,
            "tool": self.tool,
            "comfyui_version": self.comfyui_version,
            "interface": self.interface.to_json() if self.interface else None,
            "classes": sorted(self.classes),
            "licences": [licence.to_json() for licence in sorted(self.licences, key=lambda one: one.filename)],
            "unresolved_models": [
                model.to_json()
                for model in sorted(self.unresolved_models, key=lambda one: (one.filename, one.node, one.input))
            ],
            "notes": list(self.notes),
            "members": dict(sorted(self.members.items())),
            **self.extra,
        }


def tool_name() -> str:
    """This tool and its version, as ``atelier.json`` names it: "comfy-atelier 0.1.0"."""
    import tomllib
    from importlib.metadata import PackageNotFoundError, version
    from pathlib import Path

    try:
        return f"comfy-atelier {version('comfy-atelier')}"
    except PackageNotFoundError:
        # Inside ComfyUI the checkout is not installed, but its project file lies beside the rooms.
        project = Path(__file__).parent.parent / "pyproject.toml"
        try:
            found = tomllib.loads(project.read_text(encoding="utf-8"))["project"]["version"]
        except (OSError, KeyError, tomllib.TOMLDecodeError):
            return "comfy-atelier"
        return f"comfy-atelier {found}"


def _elements(top: Node, key: str) -> list[Node]:
    return top.child(key).elements() if top.value.get(key) is not None else []


def _interface(node: Node) -> Interface:
    try:
        return Interface.from_json(node.value)
    except GraphError as error:
        raise ManifestError(
            error.message, path=f"{node.path}.{error.path}" if error.path else node.path, remedy=error.remedy
        ) from error


def _member(name: str, node: Node) -> str:
    why = complaint(name)
    if why:
        raise node.fail(why)
    return node.matching(is_sha256, "a sha256 (64 hexadecimal digits)")


def _class(node: Node) -> str:
    return node.matching(lambda text: _CLASS.match(text) is not None, "a node class")


def _url(node: Node) -> str:
    text = node.text()
    why = url_complaint(text)
    if why:
        raise node.fail(why)
    return text


def _filename(node: Node) -> str:
    text = node.text()
    why = complaint(text)
    if why or not text.startswith("models/"):
        raise node.fail(why or "must lie below models/")
    return text


def _licence(node: Node) -> ModelLicence:
    node.items()
    return ModelLicence(
        filename=_filename(node.child("filename")),
        licence=node.child("licence").text(),
        name=node.child("name").text(),
        url=node.child("url").optional(_url),
        commercial=node.child("commercial").optional(Node.text) or "",
        conditions=node.child("conditions").optional(Node.text) or "",
    )


def _unresolved(node: Node) -> UnresolvedModel:
    node.items()
    return UnresolvedModel(
        filename=_filename(node.child("filename")),
        node=node.child("node").text(),
        input=node.child("input").text(),
        url=node.child("url").optional(_url),
    )
