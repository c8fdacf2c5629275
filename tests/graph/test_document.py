"""Documents: JSON, pictures and other files with a workflow or prompt in them, and files that lie about themselves."""

from __future__ import annotations

import io
import json
import struct
import sys
import zlib
from pathlib import Path
from typing import Any

import pytest
from PIL import Image, PngImagePlugin

from comfy_atelier.graph import GraphError, NodeSchemas, PromptError, WorkflowError, read_document

WORKFLOW: dict[str, Any] = {
    "version": 0.4,
    "nodes": [
        {
            "id": 1,
            "type": "EmptyImage",
            "outputs": [{"name": "IMAGE", "type": "IMAGE", "links": [1]}],
            "widgets_values": [64, 64, 1, 255],
        },
        {
            "id": 2,
            "type": "SaveImage",
            "inputs": [{"name": "images", "type": "IMAGE", "link": 1}],
            "widgets_values": ["ä"],
        },
    ],
    "links": [[1, 1, 0, 2, 0, "IMAGE"]],
}
PROMPT: dict[str, Any] = {
    "1": {"class_type": "EmptyImage", "inputs": {"width": 8, "height": 8, "batch_size": 1, "color": 1}},
    "2": {"class_type": "SaveImage", "inputs": {"images": ["1", 0], "filename_prefix": "p"}},
}
PIXEL = Image.new("RGB", (2, 2), "red")


def png(**texts: str) -> bytes:
    info = PngImagePlugin.PngInfo()
    for key, text in texts.items():
        info.add_text(key, text)
    buffer = io.BytesIO()
    PIXEL.save(buffer, "PNG", pnginfo=info)
    return buffer.getvalue()


def chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def with_chunk(kind: bytes, body: bytes) -> bytes:
    plain = png()
    return plain[:33] + chunk(kind, body) + plain[33:]  # after the header chunk


def exif(kind: str, **texts: str) -> bytes:
    """As ComfyUI's SaveAnimatedWEBP writes them: the prompt under Model, the rest under Make and downwards."""
    data = Image.Exif()
    tag = 0x010F
    for key, text in texts.items():
        if key == "prompt":
            data[0x0110] = f"prompt:{text}"
        else:
            data[tag] = f"{key}:{text}"
            tag -= 1
    buffer = io.BytesIO()
    PIXEL.save(buffer, kind, exif=data)
    return buffer.getvalue()


W, P = json.dumps(WORKFLOW), json.dumps(PROMPT)


def two_chunks(first: bytes, body: bytes, second: bytes) -> bytes:
    """A PNG with one chunk before the pixels and a text chunk for the prompt behind them."""
    return with_chunk(first, body)[:-12] + chunk(second, b"prompt\0" + P.encode()) + chunk(b"IEND", b"")


def safetensors(header: dict[str, Any]) -> bytes:
    text = json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text


BOTH = {
    "png": png(workflow=W, prompt=P),
    "png, other case": png(Workflow=W, Prompt=P),
    "iTXt": two_chunks(b"iTXt", b"workflow\0\0\0\0\0" + W.encode(), b"tEXt"),
    "iTXt, compressed": two_chunks(b"iTXt", b"workflow\0\1\0\0\0" + zlib.compress(W.encode()), b"tEXt"),
    "zTXt and comf": two_chunks(b"zTXt", b"workflow\0\0" + zlib.compress(W.encode()), b"comf"),
    "webp": exif("WEBP", workflow=W, prompt=P),
    "jpeg": exif("JPEG", workflow=W, prompt=P),
    "latent": safetensors({"__metadata__": {"workflow": W, "prompt": P}}),
    "json": json.dumps({"workflow": WORKFLOW, "prompt": PROMPT}).encode(),
}


@pytest.mark.parametrize("kind", BOTH)
def test_both_are_found(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "file"
    path.write_bytes(BOTH[kind])
    document = read_document(path)
    assert document.workflow is not None
    assert document.workflow.to_json() == WORKFLOW
    assert document.prompt is not None
    assert document.prompt.to_json() == PROMPT
    assert document.to_prompt(NodeSchemas.builtin()) is document.prompt
    assert document.path == str(path)


@pytest.mark.parametrize("data", [W.encode(), ("\ufeff" + W).encode(), png(workflow=W), exif("WEBP", workflow=W)])
def test_a_workflow_alone_is_converted(tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "file"
    path.write_bytes(data)
    document = read_document(str(path))
    assert document.prompt is None
    assert document.to_prompt(NodeSchemas.builtin()).nodes["2"].inputs["filename_prefix"] == "ä"


def test_pythons_nan_in_a_pictures_prompt_is_null(tmp_path: Path) -> None:
    inputs = {**PROMPT["1"]["inputs"], "t": "NaN here"}
    prompt = {**PROMPT, "1": {**PROMPT["1"], "is_changed": [float("nan")], "inputs": inputs}}
    (tmp_path / "a.png").write_bytes(png(prompt=json.dumps(prompt)))
    document = read_document(tmp_path / "a.png")
    assert document.prompt is not None
    assert document.prompt.nodes["1"].inputs["t"] == "NaN here"


def test_standard_input(monkeypatch: pytest.MonkeyPatch) -> None:
    for data in (W.encode(), png(workflow=W)):
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(data)))
        document = read_document("-")
        assert document.workflow is not None


def test_a_conversion_error_names_the_file(tmp_path: Path) -> None:
    broken = {**WORKFLOW, "links": []}
    (tmp_path / "a.json").write_text(json.dumps(broken))
    with pytest.raises(GraphError) as caught:
        read_document(tmp_path / "a.json").to_prompt(NodeSchemas.builtin())
    assert str(caught.value).startswith(f"{tmp_path / 'a.json'}: node 2 (SaveImage)")


LYING_EXIF = b"II*\0" + struct.pack("<IH", 8, 65535) + struct.pack("<HHII", 0x010F, 2, 2**31, 2**31) * 4
WRONG = {
    "empty": b"",
    "text": b"hello",
    "list": b"[1]",
    "neither": b'{"a": 1}',
    "half json": W.encode()[:50],
    "png without": png(),
    "png cut": png(workflow=W)[:80],
    "png not json": png(workflow="{"),
    "png empty": png(workflow="{}", prompt="{}"),
    "png wrong": png(workflow='{"nodes": 3}'),
    "png zlib": with_chunk(b"zTXt", b"workflow\0\0garbage"),
    "png bomb": with_chunk(b"zTXt", b"workflow\0\0" + zlib.compress(b" " * (65 << 20))),
    "png length": png()[:33] + struct.pack(">I", 2**32 - 1) + b"tEXt",
    "webp without": exif("WEBP"),
    "webp lies": b"RIFF\0\0\0\0WEBPEXIF" + struct.pack("<I", len(LYING_EXIF)) + LYING_EXIF,
    "webp length": b"RIFF\0\0\0\0WEBPEXIF" + struct.pack("<I", 100_000_000) + b"II*\0",
    "webp cut": b"RIFF\0\0\0\0WEBP",
    "jpeg without": exif("JPEG"),
    "jpeg cut": b"\xff\xd8\xff\xe1\xff\xff",
    "safetensors lies": struct.pack("<Q", 2**20) + b"{",
    "safetensors list": struct.pack("<Q", 10) + b"[1,2,3,4,5",
    "gif": b"GIF89a" + bytes(20),
    "zip": b"PK\x03\x04" + bytes(20),
    "mp4": bytes(4) + b"ftypisom" + bytes(20),
    "zeros": bytes(5000),
}


@pytest.mark.parametrize("name", WRONG)
def test_what_holds_neither_is_an_error_that_names_the_file(tmp_path: Path, name: str) -> None:
    path = tmp_path / "wrong"
    path.write_bytes(WRONG[name])
    with pytest.raises((WorkflowError, PromptError)) as caught:
        read_document(path)
    assert caught.value.file == str(path)
    assert "\n" not in str(caught.value)


def test_a_missing_file_and_a_folder(tmp_path: Path) -> None:
    for path in (tmp_path / "none.json", tmp_path):
        with pytest.raises(WorkflowError, match="cannot be read"):
            read_document(path)


def test_a_file_url_is_its_path(tmp_path):
    path = tmp_path / "a flow, 100% mine.json"
    path.write_text('{"1": {"class_type": "EmptyImage", "inputs": {}}}')
    assert "%20" in path.as_uri()
    assert list(read_document(path.as_uri()).prompt.nodes) == ["1"]


@pytest.mark.parametrize("address", ["https://example.com/flow.json", "file://server/flow.json"])
def test_an_address_elsewhere_is_not_fetched(address):
    with pytest.raises(WorkflowError, match=r"web address|another machine"):
        read_document(address)
