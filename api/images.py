"""The guard before the engine: what callers send as pictures is decoded and re-encoded by a limited child process.

An engine's own reader may open files by what they claim to be (ComfyUI 0.33 hands them to FFmpeg first, which follows
play lists to neighbouring files), may have no limit on pixels, and may take a picture that is cut short. So no byte
of a
stranger's file reaches it: it gets a fresh PNG that holds pixels and nothing else. Video and sound are told by their
first bytes and passed on unchanged.
"""

from __future__ import annotations

import asyncio
import contextlib
import subprocess
import sys
import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .errors import ImageRefused
from .image_child import known_magic, read_frame, write_frame

CHILD = Path(__file__).with_name("image_child.py")
PICTURES_PER_CHILD = 2000  # then a fresh one takes over, so that a decoder's leak stays small
START_SECONDS = 20.0  # a child may take so long to be ready; that is the machine's time, not the picture's

REMEDIES = {
    "unsupported": "send a PNG, JPEG, WebP, GIF, BMP, TIFF or AVIF picture",
    "damaged": "save it again, or send it again whole",
    "too-large": "make it smaller",
    "too-slow": "save it as a plain PNG or JPEG, or make it smaller",
}


@dataclass(frozen=True, kw_only=True, slots=True)
class Picture:
    """A picture that passed: the PNG an engine gets, and what it was made from."""

    png: bytes
    width: int
    height: int
    frames: int  # of the original; the PNG holds the first
    format: str


def refused(reason: str, message: str) -> ImageRefused:
    """The error for a picture that is not taken."""
    return ImageRefused(message, reason=reason, remedy=REMEDIES.get(reason))


class ImageGuard:
    """Checks pictures in child processes, which start when the first picture comes and then stay.

    Args:
        max_pixels, max_side: limits, told from the header before any pixel is decoded.
        seconds: time for one picture.
        processes: how many pictures are checked at once.
    """

    def __init__(
        self, *, max_pixels: int = 40_000_000, max_side: int = 16_384, seconds: float = 4.5, processes: int = 1
    ) -> None:
        self._limits = {"max_pixels": max_pixels, "max_side": max_side}
        self._seconds = seconds
        self._idle: list[_Child] = []
        self._lock = threading.Lock()
        self._threads = ThreadPoolExecutor(processes, thread_name_prefix="atelier-image")
        self._closed = False

    async def check(self, data: bytes) -> Picture:
        """The picture as a clean PNG.

        Raises:
            ImageRefused: not a supported picture, damaged, too large, or too slow to decode.
        """
        if not known_magic(data):  # most rubbish needs no child
            raise refused("unsupported", "not a picture of a supported kind")
        return await asyncio.get_running_loop().run_in_executor(self._threads, self._check, data)

    async def warm(self) -> None:
        """Start a child now, so that the first picture need not wait for it."""
        await asyncio.get_running_loop().run_in_executor(self._threads, lambda: self._give_back(self._take()))

    async def close(self) -> None:
        """End the children."""
        self._closed = True
        await asyncio.to_thread(self._threads.shutdown, wait=True)
        for child in self._idle:
            child.kill()
        self._idle.clear()

    def _check(self, data: bytes) -> Picture:
        child = self._take()
        try:
            answer = child.ask(self._limits, data, self._seconds)
        except _Gone as gone:
            child.kill()
            if gone.timed_out:
                raise refused("too-slow", f"the picture took more than {self._seconds:g} s to decode") from gone
            raise refused("damaged", "the picture cannot be decoded") from gone
        self._give_back(child)
        meta, png = answer
        if "reason" in meta:
            raise refused(str(meta["reason"]), str(meta["message"]))
        return Picture(
            png=png, width=meta["width"], height=meta["height"], frames=meta["frames"], format=meta["format"]
        )

    def _take(self) -> _Child:
        with self._lock:
            while self._idle:
                child = self._idle.pop()
                if child.alive:
                    return child
                child.kill()
        return _Child()

    def _give_back(self, child: _Child) -> None:
        with self._lock:
            if not self._closed and child.answered < PICTURES_PER_CHILD:
                self._idle.append(child)
                return
        child.kill()


class _Gone(Exception):
    """The child ended, or was ended because its time was up, before it answered."""

    def __init__(self, *, timed_out: bool) -> None:
        super().__init__()
        self.timed_out = timed_out


class _Child:
    """One child process; used by one thread at a time."""

    def __init__(self) -> None:
        self.answered = 0
        self._process = subprocess.Popen(
            [
                sys.executable,
                "-I",
                str(CHILD),
            ],  # -I: neither the environment nor the current folder changes what it imports
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            cwd=CHILD.parent,
        )

    @property
    def alive(self) -> bool:
        return self._process.poll() is None

    def ask(self, limits: dict[str, int], data: bytes, seconds: float) -> tuple[dict[str, Any], bytes]:
        """Send one picture and wait for its answer."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        late = threading.Event()

        def end() -> None:
            late.set()
            self._process.kill()

        clock = threading.Timer(seconds if self.answered else seconds + START_SECONDS, end)
        clock.daemon = True
        clock.start()
        try:
            write_frame(self._process.stdin, dict(limits), data)
            answer = read_frame(self._process.stdout)
        except (OSError, ValueError) as error:
            raise _Gone(timed_out=late.is_set()) from error
        finally:
            clock.cancel()
        if answer is None:
            raise _Gone(timed_out=late.is_set())
        self.answered += 1
        return answer

    def kill(self) -> None:
        """End it and let go of its pipes."""
        with contextlib.suppress(OSError):
            self._process.kill()
        self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                with contextlib.suppress(OSError):
                    pipe.close()


def media_kind(data: bytes) -> tuple[str, str] | None:
    """What the first bytes say a file is: (kind, media type), kind "image", "video" or "audio"; None for anything else.

    Play lists and manifests (HLS, DASH, SDP, concat scripts) are text and none of these, so a reader that would follow
    them is never handed one.
    """
    if known_magic(data):
        return "image", _picture_type(data)
    if data[4:8] == b"ftyp":
        return _iso_media(data[8:12])
    for magic, found in _MAGIC:
        if data.startswith(magic):
            return found
    if data[:4] == b"RIFF":
        return {b"WAVE": ("audio", "audio/wav"), b"AVI ": ("video", "video/x-msvideo")}.get(data[8:12])
    if len(data) > 2 and data[0] == 0xFF and data[1] & 0xF6 == 0xF0:
        return "audio", "audio/aac"
    if len(data) > 2 and data[0] == 0xFF and data[1] & 0xE0 == 0xE0 and data[1] & 0x06:
        return "audio", "audio/mpeg"
    return None


_MAGIC: Sequence[tuple[bytes, tuple[str, str]]] = (
    (b"\x1a\x45\xdf\xa3", ("video", "video/webm")),
    (b"fLaC", ("audio", "audio/flac")),
    (b"OggS", ("audio", "audio/ogg")),
    (b"ID3", ("audio", "audio/mpeg")),
)


def _iso_media(brand: bytes) -> tuple[str, str]:
    if brand.startswith(b"M4A"):
        return "audio", "audio/mp4"
    return ("video", "video/quicktime") if brand.startswith(b"qt") else ("video", "video/mp4")


def _picture_type(data: bytes) -> str:
    for magic, media_type in (
        (b"\x89PNG", "image/png"),
        (b"\xff\xd8\xff", "image/jpeg"),
        (b"GIF8", "image/gif"),
        (b"RIFF", "image/webp"),
        (b"BM", "image/bmp"),
        (b"II", "image/tiff"),
        (b"MM", "image/tiff"),
    ):
        if data.startswith(magic):
            return media_type
    return "image/avif"
