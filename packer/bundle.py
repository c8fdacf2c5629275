"""`Bundle`: a workflow ready to be used, from a bundle, a workflow, a picture or a prompt alike.

Opening reads headers and small JSON members; input files are read when asked for, models are never inside.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path

from ..graph import (
    Document,
    GraphError,
    InputRef,
    NodeSchemas,
    Prompt,
    Workflow,
    parse_workflow,
    read_document,
)
from ..graph.document import local_path
from ..graph.interface import Interface
from ..graph.jsontext import parse_json
from ..graph.workflow import looks_like_workflow
from . import atelier, manifest
from .archive import CHUNK, Archive
from .atelier import AtelierManifest
from .errors import ManifestError, MissingFile
from .inputs import InputFile, checked_files, extract, find_inputs, prompt_files
from .manifest import Model, Snapshot, older_requirements

PROMPT = "workflow_api.json"
WORKFLOW = "workflow.json"
INPUT = "input/"

MAX_WORKFLOW_BYTES = 64 << 20
"""Bytes of a workflow or a prompt: a hundred times the largest official template."""

MAX_REQUIREMENTS_BYTES = 4 << 20


def is_bundle(path: Path) -> bool:
    """Whether the file at ``path`` begins like a zip or is named like one."""
    try:
        with path.open("rb") as file:
            return file.read(4) in (b"PK\3\4", b"PK\5\6") or path.suffix.lower() == ".zip"
    except OSError:
        return path.suffix.lower() == ".zip"


@dataclass(frozen=True, kw_only=True)
class Bundle:
    """A workflow ready to be used.

    Attributes:
        path: the file it came from; None where a program made it.
        snapshot, atelier: the bundle's manifests; None where the file is no bundle (or no bundle of ours).
        inputs: the files that the prompt reads, by their name below ``input/``.
        schemas: the node schemas that it is read with.
        archive: the zip, where the file is a bundle.
    """

    path: Path | None = None
    prompt: Prompt
    workflow: Workflow | None = None
    snapshot: Snapshot | None = None
    atelier: AtelierManifest | None = None
    inputs: Mapping[str, InputFile] = field(default_factory=dict)
    schemas: NodeSchemas = field(repr=False)
    archive: Archive | None = field(default=None, repr=False)
    given_interface: Interface | None = field(default=None, repr=False)

    @classmethod
    def open(
        cls,
        path: str | Path,
        *,
        schemas: NodeSchemas | None = None,
        input_dirs: Iterable[str | Path] = (),
    ) -> Bundle:
        """Open a bundle, a workflow, a prompt or a picture that holds one ("-" is standard input).

        Args:
            schemas: node schemas; those of the newest known ComfyUI where not given.
            input_dirs: where input files of a workflow or prompt are looked for, besides its own folder and the
                folder ``input`` beside it. A missing one is no error here: engines and `pack` say so when they need it.

        Raises:
            PackerError: the bundle is damaged or not allowed.
            GraphError: the workflow or prompt is wrong.
        """
        schemas = schemas if schemas is not None else NodeSchemas.builtin()
        path = local_path(path)
        if str(path) != "-" and is_bundle(Path(path)):
            return _open_archive(Path(path), schemas)
        document = read_document(path)
        prompt = document.to_prompt(schemas)
        source = None if str(path) == "-" else Path(path)
        given = [Path(folder) for folder in input_dirs]
        folders = [source.parent, source.parent / "input", *given] if source else given
        try:
            found, _ = find_inputs(prompt, schemas, folders)
        except GraphError as error:
            raise error.at(file=str(path)) from error.__cause__
        return cls(path=source, prompt=prompt, workflow=document.workflow, inputs=found, schemas=schemas)

    @property
    def name(self) -> str:
        """The file's name without its endings: "portrait" of ``portrait.cpack.zip``."""
        if self.path is None:
            return "workflow"
        stem = self.path.name
        for ending in (".cpack.zip", ".zip", ".json", self.path.suffix):
            if ending and stem.lower().endswith(ending):
                return stem[: -len(ending)] or stem
        return stem

    @property
    def models(self) -> tuple[Model, ...]:
        """The models that the snapshot names; none where there is no snapshot."""
        return self.snapshot.models if self.snapshot else ()

    @property
    def notes(self) -> tuple[str, ...]:
        """What people should know before they use it, in words."""
        stated = self.atelier.notes if self.atelier else ()
        return (*stated, *(f"not used: {text}" for text in (self.snapshot.left_out if self.snapshot else ())))

    @cached_property
    def interface(self) -> Interface:
        """The interface that ``atelier.json`` states, where it fits the prompt, else the one found in the graph."""
        from ..graph.interface_search import find_interface

        if self.given_interface is not None:
            return self.given_interface
        stated = self.atelier.interface if self.atelier else None
        if stated is not None and self.fits(stated):
            return stated
        return find_interface(self.prompt, self.schemas, self.workflow, has_file=lambda name: name in self.inputs)

    def fits(self, interface: Interface) -> bool:
        """Whether every node and input that ``interface`` names is in the prompt."""
        nodes = self.prompt.nodes
        targets = all(
            p.target.node in nodes and (p.target.input in nodes[p.target.node].inputs or p.default is None)
            for p in interface.parameters
        )
        return targets and all(output.node in nodes for output in interface.outputs)

    @cached_property
    def sha256(self) -> str:
        """The sha256 of the file; of the prompt's JSON where there is no file."""
        digest = hashlib.sha256()
        if self.path is None:
            digest.update(json.dumps(self.prompt.to_json(), sort_keys=True).encode("utf-8"))
            return digest.hexdigest()
        with self.path.open("rb") as file:
            while chunk := file.read(CHUNK):
                digest.update(chunk)
        return digest.hexdigest()

    def with_interface(self, interface: Interface) -> Bundle:
        """The same with another interface (overridden by the user)."""
        return replace(self, given_interface=interface)

    def extract_inputs(self, folder: str | Path) -> dict[str, Path]:
        """Write every input file below ``folder`` (made where missing) and say where each is, by its name.

        A file that is there with the same content stays; one with other content is replaced.
        """
        return extract(self.inputs, Path(folder))

    def files(self, prompt: Prompt, folder: str | Path) -> dict[InputRef, Path]:
        """The files that ``prompt`` (this bundle's, bound or not) reads and this bundle has, written below ``folder``.

        An engine takes the result as its ``files``. Inputs whose file the bundle lacks are left out.
        """
        wanted = [file for file in prompt_files(prompt, self.schemas) if file.name in self.inputs]
        paths = self._extract_some({file.name for file in wanted}, Path(folder))
        return {file.ref: paths[file.name] for file in wanted}

    def _extract_some(self, names: set[str], folder: Path) -> dict[str, Path]:
        return extract({name: self.inputs[name] for name in sorted(names)}, folder)


def read_snapshot(archive: Archive) -> Snapshot:
    """The snapshot of an opened bundle, its older requirements included."""
    if manifest.MEMBER not in archive.files:
        raise ManifestError(
            f"it has no {manifest.MEMBER}",
            file=str(archive.path),
            remedy="is it a .cpack.zip? other zips are no bundles",
        )
    try:
        snapshot = Snapshot.parse(archive.read(manifest.MEMBER, manifest.MAX_BYTES))
    except ManifestError as error:
        raise error.at(file=str(archive.path)) from error.__cause__
    if snapshot.age == "older" and "requirements.txt" in archive.files:
        text = archive.read("requirements.txt", MAX_REQUIREMENTS_BYTES).decode("utf-8", "replace")
        pips, left_out = older_requirements(text)
        return replace(snapshot, pips=pips, left_out=(*snapshot.left_out, *left_out))
    return snapshot


def read_manifest(archive: Archive) -> AtelierManifest | None:
    """The ``atelier.json`` of an opened bundle; None where another tool made it."""
    if atelier.MEMBER not in archive.files:
        return None
    try:
        return AtelierManifest.parse(archive.read(atelier.MEMBER, manifest.MAX_BYTES))
    except ManifestError as error:
        raise error.at(file=str(archive.path)) from error.__cause__


def read_graph(archive: Archive, schemas: NodeSchemas) -> tuple[Prompt, Workflow | None]:
    """The prompt and the workflow of an opened bundle; the workflow is converted where the prompt is missing.

    The prompt is checked: nothing in it may read or write outside ComfyUI's folders.
    """
    workflow = None
    try:
        if WORKFLOW in archive.files:
            place = WORKFLOW
            workflow = parse_workflow(archive.read(WORKFLOW, MAX_WORKFLOW_BYTES))
        if PROMPT in archive.files:
            place = PROMPT
            value = parse_json(archive.read(PROMPT, MAX_WORKFLOW_BYTES))
            if looks_like_workflow(value):
                # Saved with the wrong menu entry: what it holds is plain, so it is used.
                prompt = Document(workflow=Workflow.from_json(value)).to_prompt(schemas)
            else:
                prompt = Prompt.from_json(value)
        elif workflow is not None:
            prompt = Document(workflow=workflow).to_prompt(schemas)
        else:
            raise MissingFile(f"it has neither {PROMPT} nor {WORKFLOW}", file=str(archive.path))
        checked_files(prompt, schemas)
    except GraphError as error:
        raise error.at(file=f"{archive.path}: {place}") from error.__cause__
    return prompt, workflow


def _open_archive(path: Path, schemas: NodeSchemas) -> Bundle:
    archive = Archive.open(path)
    snapshot = read_snapshot(archive)
    stated = read_manifest(archive)
    prompt, workflow = read_graph(archive, schemas)
    inputs = {
        name.removeprefix(INPUT): InputFile(name=name.removeprefix(INPUT), archive=archive, member=name)
        for name in archive.files
        if name.startswith(INPUT)
    }
    return Bundle(
        path=path,
        prompt=prompt,
        workflow=workflow,
        snapshot=snapshot,
        atelier=stated,
        inputs=inputs,
        schemas=schemas,
        archive=archive,
    )
