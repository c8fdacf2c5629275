"""Input files: those that a prompt reads from ComfyUI's input folder, found on the disk or inside a bundle."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

from ..graph import InputRef, Link, NodeSchemas, Prompt, PromptError
from ..graph.files import FileKind, InputFileRef, check_files, file_name_fault, input_files, plain_file_name
from ..graph.interface import ParameterType
from ..graph.markers import INPUT_MARKERS, marker_value_input
from .archive import CHUNK, Archive
from .errors import MissingFile
from .names import complaint, shown
from .staging import new_file, write_error


@dataclass(frozen=True, kw_only=True)
class InputFile:
    """One input file: a member of a bundle, or a file on the disk. ``name`` is its path below ``input/``."""

    name: str
    path: Path | None = None
    archive: Archive | None = field(default=None, repr=False)
    member: str = ""

    @cached_property
    def size(self) -> int:
        """Bytes."""
        if self.archive is not None:
            return self.archive.files[self.member].size
        return self._file.stat().st_size

    @cached_property
    def sha256(self) -> str:
        """Hexadecimal."""
        digest = hashlib.sha256()
        for chunk in self.chunks():
            digest.update(chunk)
        return digest.hexdigest()

    def read(self) -> bytes:
        """The whole content."""
        return b"".join(self.chunks())

    def chunks(self) -> Iterator[bytes]:
        """The content in pieces; `PackerError` where it is damaged or gone."""
        if self.archive is not None:
            yield from self.archive.chunks(self.member)
            return
        try:
            with self._file.open("rb") as file:
                while chunk := file.read(CHUNK):
                    yield chunk
        except OSError as error:
            raise MissingFile(
                f"cannot be read: {(error.strerror or str(error)).lower()}", file=str(self.path)
            ) from error

    @property
    def _file(self) -> Path:
        if self.path is None:
            raise MissingFile(f"the input file {shown(self.name)} is nowhere")
        return self.path


def prompt_files(prompt: Prompt, schemas: NodeSchemas) -> tuple[InputFileRef, ...]:
    """Every input file that the prompt reads by name, those that its interface markers hold included.

    Raises:
        PromptError: a name leads out of the input folder, with node and input.
    """
    return (*input_files(prompt, schemas), *_marker_files(prompt))


def checked_files(prompt: Prompt, schemas: NodeSchemas) -> None:
    """Raise `PromptError` where the prompt, markers included, reads or writes outside ComfyUI's folders."""
    check_files(prompt, schemas)
    _marker_files(prompt)


_KINDS: Mapping[ParameterType | None, FileKind] = {
    ParameterType.IMAGE: "image",
    ParameterType.MASK: "mask",
    ParameterType.VIDEO: "video",
    ParameterType.AUDIO: "audio",
    ParameterType.FILE: "file",
}


def _marker_files(prompt: Prompt) -> tuple[InputFileRef, ...]:
    found = []
    for node_id, node in prompt.nodes.items():
        marker = INPUT_MARKERS.get(node.class_type)
        kind = _KINDS.get(marker.type) if marker else None
        if kind is None:
            continue
        name = marker_value_input(node)
        value = node.inputs.get(name)
        # An empty value: callers must send the file. An address: ComfyUI-Deploy's markers fetch it themselves.
        if value in (None, "") or isinstance(value, Link | list):
            continue
        if isinstance(value, str) and value.startswith(("https://", "http://")):
            continue
        reason = file_name_fault(value)
        if reason is not None:
            what, _, remedy = reason.partition("; ")
            raise PromptError(what, node_id=node_id, class_type=node.class_type, input_name=name, remedy=remedy or None)
        found.append(InputFileRef(ref=InputRef(node_id, name), name=plain_file_name(str(value)), kind=kind))
    return tuple(found)


def find_inputs(
    prompt: Prompt,
    schemas: NodeSchemas,
    folders: Iterable[Path],
    *,
    have: Mapping[str, InputFile] | None = None,
) -> tuple[dict[str, InputFile], tuple[InputFileRef, ...]]:
    """The files that ``prompt`` reads, by name, from ``have`` or the first of ``folders`` that has each; and the rest.

    Raises:
        PromptError: a name leads out of the input folder (nothing outside ``folders`` is ever read).
    """
    folders = list(folders)
    found: dict[str, InputFile] = {}
    missing: list[InputFileRef] = []
    for file in prompt_files(prompt, schemas):
        if file.name in found:
            continue
        if have and file.name in have:
            found[file.name] = have[file.name]
            continue
        path = next((folder / file.name for folder in folders if (folder / file.name).is_file()), None)
        if path is None:
            missing.append(file)
        else:
            found[file.name] = InputFile(name=file.name, path=path)
    return found, tuple(missing)


def extract(inputs: Mapping[str, InputFile], folder: Path) -> dict[str, Path]:
    """Write each input file below ``folder`` and say where it is; a file with the same content already there stays.

    Raises:
        PackerError: the folder cannot be written to, or a file in the bundle is damaged.
    """
    paths = {}
    for name, file in inputs.items():
        why = complaint(name)
        if why:
            raise MissingFile(f"the input file {shown(name)} has a name that is not allowed: {why}")
        target = folder / name
        paths[name] = target
        if _same(file, target):
            continue
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise write_error(error, target.parent) from error
        with new_file(target) as out:
            for chunk in file.chunks():
                out.write(chunk)
    return paths


def _same(file: InputFile, target: Path) -> bool:
    if not target.is_file() or target.is_symlink() or target.stat().st_size != file.size:
        return False
    return InputFile(name=file.name, path=target).sha256 == file.sha256
