"""What a node sees of the run it belongs to: its files, whether it is cancelled, whom to tell."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ...graph.prompt import InputRef
from ..events import Event, Preview, Produced, Progress
from . import naming
from .cache import Artifact
from .problems import NodeProblem, RunCancelled


@dataclass(kw_only=True)
class Run:
    """One run of a prompt: what was handed in, and where events go.

    Attributes:
        metadata: what saved pictures carry, JSON by name: ``prompt`` as `POST /prompt` takes it, ``workflow``.
        files: local files by the input that names them.
        input_folder: where other input files are looked up by name; None where there is none.
        model_folders: roots with ComfyUI's model folders.
        comfyui_folder: a ComfyUI checkout whose tokenizer files may be read; None where none is configured.
        emit: takes each event as it happens.
        cancelled: set when the caller takes the run back.
    """

    emit: Callable[[Event], None]
    cancelled: threading.Event
    files: Mapping[InputRef, Path] = field(default_factory=dict)
    input_folder: Path | None = None
    model_folders: Sequence[Path] = ()
    comfyui_folder: Path | None = None
    metadata: Mapping[str, Any] = field(default_factory=dict)
    names: naming.Names = field(default_factory=naming.Names)
    now: time.struct_time = field(default_factory=time.localtime)

    def check_cancelled(self) -> None:
        """Raises `RunCancelled` once the caller has taken the run back."""
        if self.cancelled.is_set():
            raise RunCancelled


class Context:
    """What the function of one node sees. `artifacts` gathers what it produced."""

    def __init__(self, run: Run, node: str, class_type: str) -> None:
        self.run = run
        self.node = node
        self.class_type = class_type
        self.artifacts: list[Artifact] = []
        self._indices: dict[str, int] = {}

    def check_cancelled(self) -> None:
        """Raises `RunCancelled` once the caller has taken the run back; long work calls it between steps."""
        self.run.check_cancelled()

    def progress(self, value: float, maximum: float) -> None:
        """Tell that `value` of `maximum` steps are done; raises `RunCancelled` where the run was taken back."""
        self.run.check_cancelled()
        self.run.emit(Progress(node=self.node, value=value, maximum=maximum))

    def preview(self, data: bytes, media_type: str = "image/jpeg") -> None:
        """Show a picture of the work so far, as encoded bytes."""
        self.run.emit(Preview(node=self.node, data=data, media_type=media_type))

    def produce(self, artifact: Artifact, *, batch: int = 0) -> None:
        """Hand out a result; it gets its file name here, so that one from the cache is counted like a new one."""
        self.artifacts.append(artifact)
        index = self._indices.get(artifact.kind, 0)
        self._indices[artifact.kind] = index + 1
        filename = None
        if artifact.prefix is not None:
            filename = self.run.names.next(artifact.prefix, artifact.suffix, temporary=artifact.temporary, batch=batch)
        self.run.emit(
            Produced(
                node=self.node,
                output=artifact.kind,
                index=index,
                media_type=artifact.media_type,
                data=artifact.data,
                filename=filename,
                temporary=artifact.temporary,
            )
        )

    def file(self, input_name: str, value: str) -> Path:
        """The file that an input names: the one handed in with the run, else the one of that name in the input folder.

        Raises:
            NodeProblem: there is none, or the name leads out of the input folder.
        """
        given = self.run.files.get(InputRef(self.node, input_name))
        if given is not None:
            if not given.is_file():
                raise NodeProblem(f"the file for input {input_name!r} is gone", remedy="send the job again")
            return given
        name = value.removesuffix(" [input]")
        folder = self.run.input_folder
        if folder is not None and _is_relative(name):
            path = folder / name
            # the folder itself may be reached by links; what is in it may not lead out
            if path.is_file() and path.resolve().is_relative_to(folder.resolve()):
                return path
        raise NodeProblem(
            f"input file {value!r} is not there", remedy=f"hand in a file for input {input_name!r} of node {self.node}"
        )


def _is_relative(name: str) -> bool:
    if not name or "\0" in name or name.startswith(("/", "\\")) or (len(name) > 1 and name[1] == ":"):
        return False
    return ".." not in name.replace("\\", "/").split("/")
