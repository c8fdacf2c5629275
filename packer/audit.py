"""`verify`: whether a bundle is whole and says the same thing everywhere, without writing anything."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TypeVar

from ..graph import ConversionError, Document, GraphError, NodeSchemas, Prompt, Workflow
from . import atelier, manifest
from .archive import Archive
from .atelier import AtelierManifest
from .bundle import INPUT, PROMPT, WORKFLOW, Bundle, read_graph, read_manifest, read_snapshot
from .errors import PackerError
from .fields import JSON
from .inputs import prompt_files
from .manifest import Snapshot
from .names import shown
from .restore import left_out_notes, left_out_of

Severity = Literal["error", "warning"]
T = TypeVar("T")


@dataclass(frozen=True, kw_only=True, slots=True)
class Finding:
    """One thing that is wrong (an error) or worth knowing (a warning), with the member it is in."""

    severity: Severity
    message: str
    member: str | None = None

    def __str__(self) -> str:
        return f"{self.severity}: {self.member}: {self.message}" if self.member else f"{self.severity}: {self.message}"


@dataclass(frozen=True, kw_only=True, slots=True)
class Check:
    """One line of a report: what was looked at, and "fine" or what is wrong."""

    name: str
    result: str


@dataclass(frozen=True, kw_only=True, slots=True)
class VerifyReport:
    """What `verify` found. `ok` means no errors; ``checked`` counts the members whose every byte was read."""

    path: Path
    checked: int
    findings: tuple[Finding, ...]
    looked_at: tuple[str, ...] = ()

    @property
    def checks(self) -> tuple[Check, ...]:
        """A line for each finding, and one for each thing looked at that has none."""
        named = {finding.member or "archive" for finding in self.findings}
        fine = [Check(name=name, result="fine") for name in self.looked_at if name not in named]
        return (*fine, *(Check(name=f.member or "archive", result=f"{f.severity}: {f.message}") for f in self.findings))

    @property
    def ok(self) -> bool:
        """Whether nothing is wrong."""
        return all(finding.severity != "error" for finding in self.findings)

    def to_json(self) -> dict[str, JSON]:
        """For ``--json``."""
        return {
            "path": str(self.path),
            "ok": self.ok,
            "checked": self.checked,
            "findings": [
                {"severity": one.severity, "member": one.member, "message": one.message} for one in self.findings
            ],
        }


class _Auditor:
    def __init__(self) -> None:
        self.findings: list[Finding] = []

    def error(self, message: str, member: str | None = None) -> None:
        self.findings.append(Finding(severity="error", message=message, member=member))

    def warn(self, message: str, member: str | None = None) -> None:
        self.findings.append(Finding(severity="warning", message=message, member=member))


def verify(path: str | Path, *, schemas: NodeSchemas | None = None) -> VerifyReport:
    """Read every byte of the bundle at ``path`` and compare what its parts say of each other.

    A damaged or hostile bundle is a report with errors, no exception. Compared are: every header and checksum of the
    zip, both manifests' formats, the sha256 of every member, the interface, classes and licences of ``atelier.json``
    with the prompt and the snapshot, the workflow with the prompt, and the prompt's input files with those enclosed.
    """
    path = Path(path)
    auditor = _Auditor()
    schemas = schemas if schemas is not None else NodeSchemas.builtin()
    try:
        archive = Archive.open(path)
    except PackerError as error:
        auditor.error(str(error))
        return VerifyReport(path=path, checked=0, findings=tuple(auditor.findings))
    hashes = _read_members(archive, auditor)
    snapshot = _tried(auditor, manifest.MEMBER, lambda: read_snapshot(archive))
    stated = _tried(auditor, atelier.MEMBER, lambda: read_manifest(archive))
    graph = _tried(auditor, PROMPT, lambda: read_graph(archive, schemas))
    for note in left_out_notes(left_out_of(archive.files)):
        auditor.warn(note)
    if snapshot is not None:
        _check_snapshot(snapshot, auditor)
    if stated is not None:
        _check_hashes(stated, hashes, auditor)
    elif atelier.MEMBER not in archive.files:
        auditor.warn(f"has no {atelier.MEMBER}: the content of its members is stated nowhere")
    if graph is not None:
        _check_graph(archive, graph, stated, snapshot, schemas, auditor)
    looked_at = ("archive", *archive.files)
    return VerifyReport(path=path, checked=len(hashes), findings=tuple(auditor.findings), looked_at=looked_at)


def _tried(auditor: _Auditor, member: str, read: Callable[[], T]) -> T | None:
    try:
        return read()
    except (PackerError, GraphError) as error:
        auditor.error(str(error), member)
        return None


def _read_members(archive: Archive, auditor: _Auditor) -> dict[str, str]:
    hashes = {}
    for name in archive.files:
        try:
            hashes[name] = archive.sha256(name)
        except PackerError as error:
            auditor.error(error.message, name)
    return hashes


def _check_snapshot(snapshot: Snapshot, auditor: _Auditor) -> None:
    for text in snapshot.left_out:
        auditor.warn(f"cannot be used: {text}", manifest.MEMBER)
    if snapshot.age == "older":
        auditor.warn("is of comfy-pack before 0.4; pack it again for newer tools", manifest.MEMBER)
    for model in snapshot.models:
        if model.source is None or model.source.download_url is None:
            auditor.warn(f"says of no source for {shown(model.filename)}", manifest.MEMBER)


def _check_hashes(stated: AtelierManifest, hashes: dict[str, str], auditor: _Auditor) -> None:
    for name, digest in hashes.items():
        if name != atelier.MEMBER and name not in stated.members:
            auditor.error(f"is not listed in {atelier.MEMBER}", name)
        elif name != atelier.MEMBER and stated.members[name] != digest:
            auditor.error(f"is not the file that {atelier.MEMBER} lists (another sha256)", name)
    for name in stated.members:
        if name not in hashes:
            auditor.error(f"is listed in {atelier.MEMBER}, but not readable in the bundle", name)


def _check_graph(
    archive: Archive,
    graph: tuple[Prompt, Workflow | None],
    stated: AtelierManifest | None,
    snapshot: Snapshot | None,
    schemas: NodeSchemas,
    auditor: _Auditor,
) -> None:
    prompt, workflow = graph
    for file in prompt_files(prompt, schemas):
        if INPUT + file.name not in archive.files:
            auditor.warn(f"node {file.ref.node} reads the input file {shown(file.name)}, which is not enclosed", PROMPT)
    if workflow is not None and PROMPT in archive.files:
        try:
            converted = Document(workflow=workflow).to_prompt(schemas)
            if _signature(converted) != _signature(prompt):
                auditor.warn(f"converted, it is another prompt than {PROMPT}", WORKFLOW)
        except ConversionError as error:
            auditor.warn(f"cannot be compared with {PROMPT}: {error}", WORKFLOW)
        except GraphError as error:
            auditor.error(str(error), WORKFLOW)
    if stated is None:
        return
    if stated.interface is not None:
        bundle = Bundle(prompt=prompt, workflow=workflow, atelier=stated, schemas=schemas)
        if not bundle.fits(stated.interface):
            auditor.error("its interface names nodes or inputs that the prompt does not have", atelier.MEMBER)
    if stated.classes and set(stated.classes) != {node.class_type for node in prompt.nodes.values()}:
        auditor.error("its node classes are not those of the prompt", atelier.MEMBER)
    models = {model.filename for model in snapshot.models} if snapshot else set()
    for licence in stated.licences:
        if licence.filename not in models:
            auditor.warn(
                f"states the licence of {shown(licence.filename)}, which is no model of the snapshot", atelier.MEMBER
            )


def _signature(prompt: Prompt) -> dict[str, JSON]:
    """What runs: classes and inputs, without titles and notes."""
    return {node_id: (node.class_type, dict(node.inputs)) for node_id, node in prompt.nodes.items()}
