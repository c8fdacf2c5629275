"""Bundles for the tests: honest ones by `make_bundle`, every kind of lying one by `craft`."""

from __future__ import annotations

import json
import struct
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

COMMIT = "0123456789abcdef0123456789abcdef01234567"
SHA256 = "9bbcbf73561f6bc5d0a17ea6a2081feed2d1304e87602d8c502d9a5c4bd85576"


def snapshot_json(**changes: Any) -> dict[str, Any]:
    """A snapshot that is right; `changes` replace keys, None removes one."""
    value = {
        "comfyui": COMMIT,
        "git_custom_nodes": {"https://github.com/example/ComfyUI-Thing": {"hash": COMMIT, "disabled": False}},
        "cnr_custom_nodes": {"comfyui-other": "1.2.3"},
        "file_custom_nodes": [],
        "pips": {"packaging==24.2": ""},
        "python": "3.12",
        "models": [
            {
                "filename": "models/checkpoints/tiny.safetensors",
                "size": 16,
                "disabled": False,
                "sha256": SHA256,
                "source": {"source": "url", "download_url": "https://models.example.org/tiny.safetensors"},
            }
        ],
    } | changes
    return {key: item for key, item in value.items() if item is not None}


PROMPT = {
    "1": {"class_type": "LoadImage", "inputs": {"image": "example.png"}},
    "2": {"class_type": "SaveImage", "inputs": {"images": ["1", 0], "filename_prefix": "ok"}},
}


def text(value: Any) -> bytes:
    return json.dumps(value).encode()


@dataclass
class Lie:
    """One member of a crafted zip; each None takes the honest value."""

    name: bytes | str
    data: bytes = b"x"
    method: int = 8
    flags: int | None = None
    mode: int = 0o100644
    dos: int = 0
    crc: int | None = None
    size: int | None = None
    packed: bytes | None = None
    local_name: bytes | None = None
    local_crc: int | None = None
    local_size: int | None = None
    local_packed: int | None = None
    local_method: int | None = None
    local_flags: int | None = None
    extra: bytes = b""
    local_extra: bytes = b""
    descriptor: bytes = b""
    offset: int | None = None
    disk: int = 0
    gap: bytes = b""
    hidden: bool = False  # in the file, not in the directory


def craft_zip(
    members: list[Lie],
    *,
    prefix: bytes = b"",
    before_directory: bytes = b"",
    after_directory: bytes = b"",
    comment: bytes = b"",
    trailing: bytes = b"",
    count: int | None = None,
    directory_size: int | None = None,
    directory_start: int | None = None,
    directory_extra: bytes = b"",
    disk: int = 0,
) -> bytes:
    """A zip as bytes, honest except where it is told to lie."""
    body, directory, listed = prefix, b"", 0
    for member in members:
        name = member.name if isinstance(member.name, bytes) else member.name.encode()
        flags = member.flags if member.flags is not None else (0 if name.isascii() else 0x800)
        packer = zlib.compressobj(6, zlib.DEFLATED, -15)
        packed = member.packed
        if packed is None:
            packed = member.data if member.method != 8 else packer.compress(member.data) + packer.flush()
        crc = zlib.crc32(member.data) if member.crc is None else member.crc
        size = len(member.data) if member.size is None else member.size
        body += member.gap
        offset = len(body) if member.offset is None else member.offset
        local_name = name if member.local_name is None else member.local_name
        body += struct.pack(
            "<4s5H3L2H",
            b"PK\3\4",
            20,
            flags if member.local_flags is None else member.local_flags,
            member.method if member.local_method is None else member.local_method,
            0,
            0x21,
            crc if member.local_crc is None else member.local_crc,
            len(packed) if member.local_packed is None else member.local_packed,
            size if member.local_size is None else member.local_size,
            len(local_name),
            len(member.local_extra),
        )
        body += local_name + member.local_extra + packed + member.descriptor
        if member.hidden:
            continue
        listed += 1
        directory += struct.pack(
            "<4s6H3L5H2L",
            b"PK\1\2",
            0x314,
            20,
            flags,
            member.method,
            0,
            0x21,
            crc,
            len(packed),
            size,
            len(name),
            len(member.extra),
            0,
            member.disk,
            0,
            member.mode << 16 | member.dos,
            offset,
        )
        directory += name + member.extra
    body += before_directory
    start = len(body) if directory_start is None else directory_start
    directory += directory_extra
    return (
        body
        + directory
        + after_directory
        + struct.pack(
            "<4s4H2LH",
            b"PK\5\6",
            disk,
            disk,
            listed if count is None else count,
            listed if count is None else count,
            len(directory) if directory_size is None else directory_size,
            start,
            len(comment),
        )
        + comment
        + trailing
    )


Make = Callable[..., Path]


@pytest.fixture
def make_bundle(tmp_path: Path) -> Make:
    """Writes a crafted bundle and gives its path: right members (or `replace`), then `extra`."""

    def make(
        *extra: Lie, replace: dict[str, bytes | None] | None = None, name: str = "x.cpack.zip", **lies: Any
    ) -> Path:
        members: dict[str, bytes | None] = {
            "snapshot.json": text(snapshot_json()),
            "workflow_api.json": text(PROMPT),
            "input/example.png": b"not really a picture",
        } | (replace or {})
        honest = [Lie(key, data) for key, data in members.items() if data is not None]
        path = tmp_path / name
        path.write_bytes(craft_zip([*honest, *extra], **lies))
        return path

    return make


@pytest.fixture
def craft() -> SimpleNamespace:
    """The makings of crafted bundles, since test files cannot import this one."""
    return SimpleNamespace(
        Lie=Lie, zip=craft_zip, text=text, snapshot=snapshot_json, prompt=PROMPT, commit=COMMIT, sha256=SHA256
    )
