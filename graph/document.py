"""Documents: a workflow or a prompt in a JSON file, in a picture's metadata, or on standard input.

Where ComfyUI puts them: its ``SaveImage`` writes PNG text chunks "workflow" and "prompt"; ``SaveAnimatedPNG`` a private
chunk ``comf``; ``SaveAnimatedWEBP`` EXIF texts ``workflow:{…}`` and ``prompt:{…}``; ``SaveLatent`` and the model savers
the metadata of a safetensors file. Pixels are never decoded; every length a file states is bounded before its use.
"""

from __future__ import annotations

import re
import struct
import sys
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from .errors import GraphError, PromptError, WorkflowError
from .jsontext import JSON, parse_json
from .prompt import Prompt, looks_like_prompt
from .schemas import NodeSchemas
from .workflow import Workflow, looks_like_workflow

MAX_TEXT = 64 * 1024 * 1024  # bytes of one JSON document; the largest official template has 0.4 MB
_NAMES = ("workflow", "prompt")
_REMEDY = "give a workflow or prompt as JSON, or a picture that ComfyUI saved with its metadata"
_NAN = re.compile(rb"(?<![\w\"])NaN(?![\w\"])")


@dataclass(frozen=True, kw_only=True, slots=True)
class Document:
    """What a file held: a workflow, a prompt, or (as in ComfyUI's pictures) both of one run. `path` is for messages."""

    workflow: Workflow | None = None
    prompt: Prompt | None = None
    path: str = "-"

    def to_prompt(self, schemas: NodeSchemas, *, resolve_dynamic_prompts: bool | int = False) -> Prompt:
        """The prompt: the file's own where it has one (a picture's is what ran), else the workflow converted.

        Raises:
            GraphError: see `convert.convert`; the error names the file.
        """
        if self.prompt is not None:
            return self.prompt
        if self.workflow is None:
            raise WorkflowError("holds neither a workflow nor a prompt", file=self.path, remedy=_REMEDY)
        from .convert import convert

        try:
            return convert(self.workflow, schemas, resolve_dynamic_prompts=resolve_dynamic_prompts)
        except GraphError as error:
            raise error.at(file=self.path) from error.__cause__


def local_path(path: str | Path) -> str | Path:
    """``path`` as it is, or the local path that a ``file:`` URL means, as browsers and editors copy it ("%20" and all).

    Raises:
        WorkflowError: it is a web address, or a file of another machine.
    """
    text = str(path)
    if text.lower().startswith(("http://", "https://")):
        raise WorkflowError("is a web address, and none is fetched", file=text, remedy="download it and give the file")
    if not text.lower().startswith("file:"):
        return path
    from urllib.parse import urlsplit
    from urllib.request import url2pathname

    parts = urlsplit(text)
    if parts.netloc not in ("", "localhost"):
        raise WorkflowError("is a file of another machine", file=text, remedy="copy it here and give its path")
    return Path(url2pathname(parts.path))


def read_document(path: str | Path) -> Document:
    """The workflow or prompt in a file (its path, or its ``file:`` URL), or on standard input for ``"-"``.

    JSON in either format (or with both under "workflow" and "prompt", as ``/history`` and bug reports carry them), and
    PNG, WebP, JPEG, safetensors and latent files with ComfyUI's metadata.

    Raises:
        GraphError: the file cannot be read, holds neither, or is wrong; the error names the file and the place in it.
    """
    path = local_path(path)
    name = str(path)
    try:
        if name == "-":
            data = sys.stdin.buffer.read(MAX_TEXT + 1)
            return _document(data, "-")
        with Path(path).open("rb") as file:
            return _read(file, name)
    except OSError as error:
        raise WorkflowError(f"cannot be read: {error.strerror or error}", file=name) from error
    except GraphError as error:
        raise error.at(file=name) from error.__cause__


def _document(data: bytes, name: str) -> Document:
    import io

    return _read(io.BytesIO(data), name)


def _read(file: BinaryIO, name: str) -> Document:
    start = file.read(16)
    file.seek(0)
    if start.startswith(b"\x89PNG\r\n\x1a\n"):
        return _from_metadata(_png(file), name, "PNG")
    if start[:4] == b"RIFF" and start[8:12] == b"WEBP":
        return _from_metadata(_webp(file), name, "WebP")
    if start.startswith(b"\xff\xd8\xff"):
        return _from_metadata(_jpeg(file), name, "JPEG")
    if len(start) > 8 and start[8:9] == b"{" and int.from_bytes(start[:8], "little") <= MAX_TEXT:
        return _from_metadata(_safetensors(file), name, "safetensors file")
    if start[4:8] == b"ftyp" or start[:4] in (b"fLaC", b"OggS", b"GIF8", b"\x1aE\xdf\xa3", b"PK\x03\x04"):
        raise WorkflowError("is not a file that a workflow is read from", remedy=_REMEDY)
    data = file.read(MAX_TEXT + 1)
    if len(data) > MAX_TEXT:
        raise WorkflowError(f"is larger than {MAX_TEXT >> 20} MB")
    return _from_json(parse_json(data, error=WorkflowError), name)


def _from_json(value: JSON, name: str) -> Document:
    if looks_like_workflow(value):
        return Document(workflow=Workflow.from_json(value), path=name)
    if isinstance(value, dict) and looks_like_workflow(value.get("workflow")):
        prompt = value.get("prompt")
        return Document(
            workflow=Workflow.from_json(value["workflow"]),
            prompt=Prompt.from_json(prompt) if looks_like_prompt(prompt) else None,
            path=name,
        )
    if looks_like_prompt(value):
        return Document(prompt=Prompt.from_json(value), path=name)
    if isinstance(value, dict):
        raise WorkflowError("is JSON, but neither a workflow nor a prompt", remedy=_REMEDY)
    raise WorkflowError("a workflow or prompt is a JSON object, this is not one", remedy=_REMEDY)


def _from_metadata(found: Iterator[tuple[str, bytes]], name: str, kind: str) -> Document:
    texts: dict[str, bytes] = {}
    for key, text in found:
        texts.setdefault(key.lower(), text)
        if len(texts) == len(_NAMES):
            break
    if not texts:
        raise WorkflowError(
            f"is a {kind} without a workflow in its metadata", remedy="save it from ComfyUI with metadata switched on"
        )
    workflow = prompt = None
    if "workflow" in texts:
        value = parse_json(texts["workflow"], error=WorkflowError)
        # Some servers write an empty object where the prompt came without a workflow.
        workflow = Workflow.from_json(value) if value else None
    if "prompt" in texts:
        # ComfyUI writes Python's NaN into `is_changed`; the editor reads it as null, and so do we.
        value = parse_json(_NAN.sub(b"null", texts["prompt"]), error=PromptError)
        prompt = Prompt.from_json(value) if value else None
    if workflow is None and prompt is None:
        raise WorkflowError(f"is a {kind} whose workflow and prompt are empty", remedy=_REMEDY)
    return Document(workflow=workflow, prompt=prompt, path=name)


def _exactly(file: BinaryIO, size: int) -> bytes:
    data = file.read(size)
    if len(data) != size:
        raise WorkflowError("is cut off: it ends inside its metadata")
    return data


def _png(file: BinaryIO) -> Iterator[tuple[str, bytes]]:
    """The texts named in `_NAMES`, from chunks tEXt, zTXt, iTXt and ComfyUI's own comf (PNG specification, 11.3.3)."""
    file.seek(8)
    while True:
        head = file.read(8)
        if len(head) < 8:
            return
        size, kind = int.from_bytes(head[:4], "big"), head[4:]
        if kind not in (b"tEXt", b"zTXt", b"iTXt", b"comf") or size > MAX_TEXT:
            file.seek(size + 4, 1)
            if kind == b"IEND":
                return
            continue
        key, _, body = _exactly(file, size).partition(b"\0")
        file.seek(4, 1)
        name = key.decode("latin-1")
        if name.lower() not in _NAMES:
            continue
        if kind == b"zTXt":
            body = _inflated(body[1:])
        elif kind == b"iTXt" and len(body) >= 2:
            compressed, rest = body[0] == 1, body[2:]
            text = rest.split(b"\0", 2)[-1]  # after language tag and translated keyword
            body = _inflated(text) if compressed else text
        if kind == b"iTXt":
            yield name, body
        else:
            yield name, _utf8(body)


def _utf8(text: bytes) -> bytes:
    """PNG says Latin-1, ComfyUI writes ASCII, other tools UTF-8."""
    try:
        text.decode("utf-8")
    except UnicodeDecodeError:
        return text.decode("latin-1").encode("utf-8")
    return text


def _inflated(data: bytes) -> bytes:
    unpack = zlib.decompressobj()
    try:
        text = unpack.decompress(data, MAX_TEXT)
    except zlib.error as error:
        raise WorkflowError(f"has damaged metadata: {error}") from error
    if unpack.unconsumed_tail:
        raise WorkflowError(f"has metadata larger than {MAX_TEXT >> 20} MB")
    return text


def _webp(file: BinaryIO) -> Iterator[tuple[str, bytes]]:
    """The texts in the EXIF chunk (WebP container specification, "Metadata")."""
    file.seek(12)
    while len(head := file.read(8)) == 8:
        size = int.from_bytes(head[4:], "little")
        if head[:4] == b"EXIF" and size <= MAX_TEXT:
            yield from _exif(_exactly(file, size))
            return
        file.seek(size + (size & 1), 1)


def _jpeg(file: BinaryIO) -> Iterator[tuple[str, bytes]]:
    """The texts in the EXIF segments (APP1)."""
    file.seek(2)
    while len(head := file.read(4)) == 4 and head[0] == 0xFF:
        if head[1] in (0xD9, 0xDA):  # end of image, start of the pixels
            return
        size = int.from_bytes(head[2:], "big") - 2
        if size < 0:
            return
        if head[1] == 0xE1:
            data = _exactly(file, size)
            if data.startswith(b"Exif\0\0"):
                yield from _exif(data)
        else:
            file.seek(size, 1)


def _exif(data: bytes) -> Iterator[tuple[str, bytes]]:
    """ASCII texts ``name:JSON`` of the first directory (TIFF 6.0, section 2), whatever their tag.

    ComfyUI puts the prompt under Model (0x0110) and the rest under Make (0x010F) and downwards.
    """
    data = data.removeprefix(b"Exif\0\0")
    order = {b"II": "<", b"MM": ">"}.get(data[:2])
    if order is None or len(data) < 8:
        return
    (offset,) = struct.unpack_from(order + "I", data, 4)
    if offset + 2 > len(data):
        return
    (count,) = struct.unpack_from(order + "H", data, offset)
    for index in range(count):
        at = offset + 2 + 12 * index
        if at + 12 > len(data):
            return
        _, kind, size = struct.unpack_from(order + "HHI", data, at)
        if kind != 2 or size <= 4:
            continue
        (place,) = struct.unpack_from(order + "I", data, at + 8)
        name, colon, text = data[place : place + size].rstrip(b"\0").partition(b":")
        if colon and name.lower().decode("latin-1") in _NAMES:
            yield name.decode("latin-1"), _utf8(text)


def _safetensors(file: BinaryIO) -> Iterator[tuple[str, bytes]]:
    """The texts in ``__metadata__`` of a safetensors header."""
    size = int.from_bytes(_exactly(file, 8), "little")
    header = parse_json(_exactly(file, size).rstrip(b" "), error=WorkflowError)
    metadata = header.get("__metadata__") if isinstance(header, dict) else None
    for name, text in metadata.items() if isinstance(metadata, dict) else ():
        if name.lower() in _NAMES and isinstance(text, str):
            yield name, text.encode("utf-8")
