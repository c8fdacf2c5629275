"""Restore a bundle: its files into a new folder. Nothing from a bundle is ever run, imported or given to a tool here.

What is written is what the format names: the manifests, the workflow, the prompt and the input files. Code that older
bundles carry (``service.py``, ``comfy_pack/``), requirement files, models and anything else stays in the zip and is
named in the report.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from ..graph import ConversionError, NodeSchemas
from . import atelier, manifest
from .archive import Archive
from .atelier import AtelierManifest
from .bundle import INPUT, PROMPT, WORKFLOW, read_graph, read_manifest, read_snapshot
from .errors import ArchiveError
from .fields import JSON
from .manifest import Snapshot
from .names import shown
from .staging import new_folder

_KNOWN = frozenset({manifest.MEMBER, atelier.MEMBER, PROMPT, WORKFLOW})
_CODE = (".py", ".pyc", ".pyo", ".pyd", ".so", ".dll", ".dylib", ".sh", ".bat", ".cmd", ".ps1", ".exe", ".js", ".pth")


@dataclass(frozen=True, kw_only=True, slots=True)
class LeftOut:
    """A member that was not unpacked, and why."""

    name: str
    reason: str


@dataclass(frozen=True, kw_only=True, slots=True)
class UnpackReport:
    """What `unpack` did. ``files`` and ``left_out`` name members, sorted; ``size`` is the bytes of ``files``.

    ``folder`` is None after a dry run: nothing was written.
    """

    bundle: Path
    folder: Path | None
    files: tuple[str, ...]
    size: int
    left_out: tuple[LeftOut, ...]
    snapshot: Snapshot
    notes: tuple[str, ...] = ()

    def to_json(self) -> dict[str, JSON]:
        """For ``--json``."""
        return {
            "bundle": str(self.bundle),
            "folder": str(self.folder) if self.folder else None,
            "files": list(self.files),
            "size": self.size,
            "left_out": [{"name": one.name, "reason": one.reason} for one in self.left_out],
            "notes": list(self.notes),
        }


def unpack(
    path: str | Path, folder: str | Path, *, schemas: NodeSchemas | None = None, dry_run: bool = False
) -> UnpackReport:
    """Check the whole bundle at ``path``, then write its files to ``folder``, which must be missing or empty.

    Everything is judged before anything is written: the zip's structure and every member's bytes, the manifests, the
    workflow's paths, the stated sha256 of every member. Then the files are written aside and renamed, so that
    ``folder`` appears whole or not at all; a run that is killed leaves nothing that a second run does not remove.

    Args:
        dry_run: judge everything, write nothing.

    Raises:
        PackerError, GraphError: why not, in one sentence with the member and the place in it.
    """
    path, folder = Path(path), Path(folder)
    archive = Archive.open(path)
    snapshot = read_snapshot(archive)
    stated = read_manifest(archive)
    notes = [f"not used: {text}" for text in snapshot.left_out]
    try:
        read_graph(archive, schemas if schemas is not None else NodeSchemas.builtin())
    except ConversionError as error:
        # The files are as good without it: a bundle may hold a workflow only, of node packs that nobody here knows.
        notes.append(str(error))
    if stated is None:
        archive.check()
    else:
        check_members(archive, stated)
    files = [name for name in archive.files if is_unpacked(name)]
    left_out = left_out_of(archive.files)
    notes += left_out_notes(left_out)
    if not dry_run:
        with new_folder(folder) as stage:
            for name in files:
                target = stage.joinpath(*name.split("/"))
                target.parent.mkdir(parents=True, exist_ok=True)
                archive.copy(name, target)
    return UnpackReport(
        bundle=path,
        folder=None if dry_run else folder,
        files=tuple(files),
        size=sum(archive.files[name].size for name in files),
        left_out=tuple(left_out),
        snapshot=snapshot,
        notes=tuple(notes),
    )


def is_unpacked(name: str) -> bool:
    """Whether the member is part of the format, so that `unpack` writes it."""
    return name in _KNOWN or name.startswith(INPUT)


def left_out_notes(left_out: Iterable[LeftOut]) -> list[str]:
    """One sentence for each reason, naming the first members that it holds for."""
    by_reason: dict[str, list[str]] = {}
    for one in left_out:
        by_reason.setdefault(one.reason, []).append(one.name)
    notes = []
    for reason, names in by_reason.items():
        more = f" and {len(names) - 3} more" if len(names) > 3 else ""
        notes.append(f"left out: {', '.join(shown(name) for name in names[:3])}{more}: {reason}")
    return notes


def left_out_of(names: Iterable[str]) -> list[LeftOut]:
    """Those of ``names`` that `unpack` leaves out, with the reason."""
    return [LeftOut(name=name, reason=_reason(name)) for name in names if not is_unpacked(name)]


def _reason(name: str) -> str:
    if name.lower().endswith(_CODE):
        return "code in a bundle is never unpacked or run"
    if name.startswith("models/"):
        return "a bundle's format has no models inside; they are fetched by their sha256"
    if name.rsplit("/", 1)[-1].startswith("requirements"):
        return "requirements are taken from snapshot.json, or read and checked line by line"
    return "it is no part of the format"


def check_members(archive: Archive, stated: AtelierManifest) -> None:
    """Read every member and compare it with the sha256 that ``atelier.json`` states.

    Raises:
        ArchiveError: a member is damaged, differs, is missing, or is not listed.
    """
    for name in archive.files:
        if name == atelier.MEMBER:
            continue
        expected = stated.members.get(name)
        if archive.sha256(name) != expected:
            raise ArchiveError(
                f"{atelier.MEMBER} states another content for it" if expected else f"{atelier.MEMBER} does not list it",
                file=str(archive.path),
                member=shown(name),
                remedy="the bundle was changed after it was packed; pack it again",
            )
    for name in sorted(stated.members):
        if name not in archive.files:
            raise ArchiveError("is missing, though atelier.json lists it", file=str(archive.path), member=shown(name))
