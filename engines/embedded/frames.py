"""Frames: what the engine and its worker say to each other over a pair of pipes.

A frame is two unsigned 32-bit big-endian lengths, a JSON object of the first length in UTF-8, and a payload of the
second length (the bytes of a small picture, most often none).
"""

from __future__ import annotations

import asyncio
import json
import struct
from typing import Any, BinaryIO

HEADER = struct.Struct(">II")
MAXIMUM_JSON = 256 * 1024 * 1024  # bytes; more is a broken pipe that is read as lengths, not a prompt
MAXIMUM_PAYLOAD = 256 * 1024 * 1024  # bytes; larger results travel as files


class FrameError(Exception):
    """The stream does not hold frames: something else wrote into the pipe, or it ended within a frame."""


def pack(message: dict[str, Any], payload: bytes = b"") -> bytes:
    """One frame as bytes. Raises `FrameError` where a part is too large, `TypeError` where `message` is not JSON."""
    text = json.dumps(message, separators=(",", ":"), ensure_ascii=False).encode("utf-8", "surrogatepass")
    if len(text) > MAXIMUM_JSON or len(payload) > MAXIMUM_PAYLOAD:
        raise FrameError(f"a frame of {len(text)} + {len(payload)} bytes is too large")
    return b"".join((HEADER.pack(len(text), len(payload)), text, payload))


def unpack(text: bytes) -> dict[str, Any]:
    """The message of a frame. Raises `FrameError`."""
    try:
        message = json.loads(text.decode("utf-8", "surrogatepass"))
    except ValueError as error:
        raise FrameError("a frame holds no JSON") from error
    if not isinstance(message, dict):
        raise FrameError("a frame holds no JSON object")
    return message


def _lengths(header: bytes) -> tuple[int, int]:
    text, payload = HEADER.unpack(header)
    if text > MAXIMUM_JSON or payload > MAXIMUM_PAYLOAD:
        raise FrameError("the lengths of a frame are out of range")
    return text, payload


def read(stream: BinaryIO) -> tuple[dict[str, Any], bytes] | None:
    """The next frame of a blocking stream; None at its end. Raises `FrameError`."""
    header = stream.read(HEADER.size)
    if not header:
        return None
    if len(header) < HEADER.size:
        raise FrameError("the stream ended within a frame")
    text_length, payload_length = _lengths(header)
    text, payload = stream.read(text_length), stream.read(payload_length)
    if len(text) < text_length or len(payload) < payload_length:
        raise FrameError("the stream ended within a frame")
    return unpack(text), payload


async def read_async(stream: asyncio.StreamReader) -> tuple[dict[str, Any], bytes] | None:
    """The next frame of an asynchronous stream; None at its end. Raises `FrameError`."""
    try:
        header = await stream.readexactly(HEADER.size)
    except asyncio.IncompleteReadError as error:
        if error.partial:
            raise FrameError("the stream ended within a frame") from error
        return None
    text_length, payload_length = _lengths(header)
    try:
        text = await stream.readexactly(text_length)
        payload = await stream.readexactly(payload_length) if payload_length else b""
    except asyncio.IncompleteReadError as error:
        raise FrameError("the stream ended within a frame") from error
    return unpack(text), payload
