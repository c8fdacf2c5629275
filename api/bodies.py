"""Request bodies, read with limits: size, time, parts. Every way to send too much ends in a problem, not in memory."""

from __future__ import annotations

import asyncio
from collections.abc import MutableMapping
from dataclasses import dataclass, field
from typing import Any

from starlette.datastructures import UploadFile
from starlette.exceptions import HTTPException
from starlette.formparsers import MultiPartException
from starlette.requests import ClientDisconnect, Request

from .problems import Problem

SLOWEST_BYTES_A_SECOND = 64 * 1024


@dataclass(frozen=True, kw_only=True, slots=True)
class BodyLimits:
    """How much of a body is taken."""

    size: int
    seconds: float
    parts: int


@dataclass(slots=True)
class FormParts:
    """A multipart body: texts and files by name."""

    texts: dict[str, str] = field(default_factory=dict)
    files: dict[str, tuple[str, bytes]] = field(default_factory=dict)  # name -> (file name, content)


def media_type(request: Request) -> str:
    """The request's content type without parameters, in lower case."""
    return request.headers.get("content-type", "").partition(";")[0].strip().lower()


def _too_large(limit: int) -> Problem:
    return Problem(
        413,
        "too-large",
        f"the body is larger than {limit} bytes; send less, or raise ATELIER_MAX_BODY_BYTES",
        headers={"Connection": "close"},
    )


class _Limited:
    """A receive channel that counts and has a clock."""

    def __init__(self, request: Request, limits: BodyLimits) -> None:
        length = request.headers.get("content-length", "")
        if length.isascii() and length.isdigit() and int(length) > limits.size:
            raise _too_large(limits.size)
        self._receive = request.receive
        self._limits = limits
        self._size = 0
        self._began = asyncio.get_running_loop().time()

    async def __call__(self) -> MutableMapping[str, Any]:
        allowed = self._limits.seconds + self._size / SLOWEST_BYTES_A_SECOND
        try:
            async with asyncio.timeout_at(self._began + allowed):
                message = await self._receive()
        except TimeoutError:
            raise Problem(
                408, "timeout", "the body took too long to arrive; send it again", headers={"Connection": "close"}
            ) from None
        self._size += len(message.get("body", b""))
        if self._size > self._limits.size:
            raise _too_large(self._limits.size)
        return message


async def read_body(request: Request, limits: BodyLimits) -> bytes:
    """The whole body.

    Raises:
        Problem: 413 too large, 408 too slow.
        ClientDisconnect: the caller has gone.
    """
    receive = _Limited(request, limits)
    chunks: list[bytes] = []
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise ClientDisconnect
        chunks.append(message.get("body", b""))
        if not message.get("more_body", False):
            return chunks[0] if len(chunks) == 1 else b"".join(chunks)


async def read_form(request: Request, limits: BodyLimits) -> FormParts:
    """A multipart (or urlencoded) body; a name that comes twice is refused, since a parameter has one value.

    Raises:
        Problem: 400 damaged or too many parts, 413 too large, 408 too slow.
        ClientDisconnect: the caller has gone.
    """
    limited = Request(request.scope, _Limited(request, limits))
    parts = FormParts()
    try:
        async with limited.form(max_files=limits.parts, max_fields=limits.parts, max_part_size=limits.size) as form:
            for name, value in form.multi_items():
                if name in parts.texts or name in parts.files:
                    raise Problem(400, "bad-multipart", f"the part {name[:64]!a} comes twice; send each once")
                if isinstance(value, UploadFile):
                    parts.files[name] = (value.filename or "", await value.read())
                else:
                    parts.texts[name] = value
    except (Problem, ClientDisconnect):
        raise
    except (MultiPartException, HTTPException) as error:
        reason = getattr(error, "message", None) or getattr(error, "detail", None) or "damaged"
        raise Problem(400, "bad-multipart", f"the multipart body cannot be read: {reason}") from error
    except (ValueError, UnicodeError, KeyError, AssertionError) as error:  # what parsers let through on garbage
        raise Problem(400, "bad-multipart", "the multipart body cannot be read; check boundary and encoding") from error
    return parts
