"""Files that callers send: told by their content, made safe, kept under their digest."""

from __future__ import annotations

import asyncio
import base64
import binascii
import hashlib
import re
import secrets
import urllib.parse
from collections import OrderedDict
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

from ..graph import Interface, Parameter, ParameterType
from .artifacts import ArtifactStore, clean_filename, extension
from .errors import ImageRefused
from .images import ImageGuard, media_kind, refused
from .jobs import StoredFile, now
from .problems import Fault, Problem, invalid_inputs
from .store import JobStore, Upload

UPLOAD_ID = re.compile(r"upload-[0-9a-f]{32}", re.ASCII)
CACHED = 512  # checked files whose result is remembered

PICTURES = {ParameterType.IMAGE, ParameterType.MASK}
KINDS_TAKEN = {
    ParameterType.IMAGE: {"image"},
    ParameterType.MASK: {"image"},
    ParameterType.VIDEO: {"video"},
    ParameterType.AUDIO: {"audio", "video"},
    ParameterType.FILE: {"image", "video", "audio", "file"},
}
"""What an upload may have been told to be, for each type of parameter (sound is taken from videos too)."""

WANTED = {
    ParameterType.VIDEO: "an MP4, MOV, WebM, Matroska or AVI video",
    ParameterType.AUDIO: "a WAV, FLAC, MP3, Ogg, AAC or M4A sound file",
}


class FileTaker:
    """Takes callers' files for one interface."""

    def __init__(
        self,
        *,
        interface: Interface,
        store: JobStore,
        artifacts: ArtifactStore,
        guard: ImageGuard,
        threads: ThreadPoolExecutor,
    ) -> None:
        self._store = store
        self._artifacts = artifacts
        self._guard = guard
        self._threads = threads
        self._parameters = {p.name: p for p in interface.parameters if p.type.is_file}
        self._any_file = any(p.type is ParameterType.FILE for p in self._parameters.values())
        self._checked: OrderedDict[tuple[str, bool], StoredFile] = OrderedDict()

    @property
    def names(self) -> tuple[str, ...]:
        """The file parameters' names."""
        return tuple(self._parameters)

    def parameter(self, name: str) -> Parameter | None:
        """The file parameter of that name."""
        return self._parameters.get(name)

    async def take(self, data: bytes, parameter: Parameter, *, filename: str = "") -> StoredFile:
        """Keep a file that came for a parameter.

        Raises:
            Problem: it is not what the parameter takes; names the parameter.
            StoreError: it cannot be kept.
        """
        try:
            _, file = await self._take(data, parameter.type, filename)
        except ImageRefused as error:
            raise self.unfit(parameter, error) from error
        return file

    async def upload(self, data: bytes, *, owner: str, filename: str, parameter: Parameter | None) -> Upload:
        """Keep a file for a later job.

        Raises:
            ImageRefused: it is nothing that the interface (or the given parameter) takes.
            StoreError: it cannot be kept.
        """
        wanted = parameter.type if parameter is not None else self._wanted(data)
        kind, file = await self._take(data, wanted, filename)
        upload = Upload(id=f"upload-{secrets.token_hex(16)}", owner=owner, kind=kind, file=file, created_at=now())
        await self._store.add_upload(upload)
        return upload

    async def from_text(self, text: str, parameter: Parameter, *, owner: str) -> StoredFile:
        """The file that a JSON value means: an upload's id, a ``data:`` URL, or the bare base64 of a known kind of
        file.

        Raises:
            Problem: none of these, an unknown upload, or not what the parameter takes.
        """
        if UPLOAD_ID.fullmatch(text):
            upload = await self._store.get_upload(text, owner=owner)
            if upload is None:
                raise _bad(parameter, "names an upload that is not there; send the file to POST /uploads again")
            if upload.kind not in KINDS_TAKEN[parameter.type]:
                raise _bad(parameter, f"takes {_article(parameter.type)}, and the upload is {_article(upload.kind)}")
            return upload.file
        lowered = text[:8].lower()
        if lowered.startswith("data:"):
            return await self.take(_data_url(text, parameter), parameter)
        if lowered.startswith(("http:", "https:")):
            raise _bad(
                parameter,
                "holds a web address, which this service does not fetch;"
                " send the file as a multipart part, an upload's id or a data: URL",
            )
        try:
            data = base64.b64decode(text, validate=True)
        except (binascii.Error, ValueError):
            data = b""
        if data and media_kind(data) is not None:
            return await self.take(data, parameter)
        raise _bad(parameter, "must be an upload's id (POST /uploads), a data: URL or a multipart part")

    def unfit(self, parameter: Parameter, error: ImageRefused) -> Problem:
        """The problem for a file that a parameter does not take."""
        status = {"unsupported": 415, "too-large": 413}.get(error.reason, 422)
        fault = Fault(
            detail=f"parameter {parameter.name!r}: {error}", parameter=parameter.name, pointer=f"/{parameter.name}"
        )
        return Problem(status, "invalid-file", fault.detail, faults=[fault])

    def _wanted(self, data: bytes) -> ParameterType:
        """What an upload without a named parameter is taken for."""
        found = media_kind(data)
        if found is not None:
            return ParameterType(found[0])
        if self._any_file:
            return ParameterType.FILE
        raise refused("unsupported", "the file is of no kind that this workflow takes")

    async def _take(self, data: bytes, wanted: ParameterType, filename: str) -> tuple[str, StoredFile]:
        if not data:
            raise refused("unsupported", "the file is empty")
        name = clean_filename(filename, fallback="")
        digest = hashlib.sha256(data).hexdigest()
        key = (digest, wanted is ParameterType.FILE)
        known = self._checked.get(key)
        if known is not None and self._artifacts.where(known).is_file():
            self._checked.move_to_end(key)
            kind = "file" if wanted is ParameterType.FILE else known.media_type.partition("/")[0]
            if wanted is ParameterType.FILE or kind in KINDS_TAKEN[wanted]:
                return kind, replace(known, filename=name or known.filename)
        found = media_kind(data)
        if wanted in PICTURES:
            picture = await self._guard.check(data)
            kind, media_type, data = "image", "image/png", picture.png
        elif wanted is ParameterType.FILE:
            kind, media_type = "file", found[1] if found is not None else "application/octet-stream"
        elif found is not None and found[0] in KINDS_TAKEN[wanted]:
            kind, media_type = found
        else:
            raise ImageRefused(
                f"not {_article(wanted)} of a supported kind", reason="unsupported", remedy=f"send {WANTED[wanted]}"
            )
        stem = name.rpartition(".")[0] or name or "file"
        shown = f"{stem}.{extension(media_type)}" if kind != "file" else name or "file.bin"
        file = await self._kept(data, media_type, shown, digest)
        self._checked[key] = file
        while len(self._checked) > CACHED:
            self._checked.popitem(last=False)
        return kind, file

    async def _kept(self, data: bytes, media_type: str, filename: str, source: str) -> StoredFile:
        keep: Callable[[], StoredFile] = lambda: self._artifacts.keep(  # noqa: E731
            data, media_type, filename=filename, source=source
        )
        return await asyncio.get_running_loop().run_in_executor(self._threads, keep)


def _article(kind: Any) -> str:
    word = {"image": "picture", "mask": "picture", "audio": "sound"}.get(str(kind), str(kind))
    return f"a {word}"


def _bad(parameter: Parameter, why: str) -> Problem:
    fault = Fault(detail=f"parameter {parameter.name!r} {why}", parameter=parameter.name, pointer=f"/{parameter.name}")
    return invalid_inputs([fault])


def _data_url(text: str, parameter: Parameter) -> bytes:
    """The bytes of a ``data:`` URL (RFC 2397); its media type is not believed."""
    head, comma, payload = text[5:].partition(",")
    if not comma:
        raise _bad(parameter, "holds a data: URL without a comma; write data:image/png;base64,...")
    try:
        raw = urllib.parse.unquote_to_bytes(payload) if "%" in payload else payload.encode("ascii")
        data = base64.b64decode(raw, validate=True) if head.lower().rstrip().endswith(";base64") else raw
    except (binascii.Error, ValueError):
        raise _bad(parameter, "holds a data: URL whose base64 is damaged; encode the file again") from None
    if not data:
        raise _bad(parameter, "holds an empty data: URL; send a file")
    return data
