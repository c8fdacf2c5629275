"""An engine without ComfyUI and torch: draws plain pictures, and does as a test tells it. Used by conftest.py and as a
script by the kill test's server."""

from __future__ import annotations

import asyncio
import struct
import zlib
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from pathlib import Path

from comfy_atelier.engines import Finished, Preview, Produced, Progress, Started
from comfy_atelier.engines.events import Event
from comfy_atelier.graph import InputRef, NodeSchemas, Prompt


def png(width: int, height: int, color: int) -> bytes:
    """A picture of one colour (0xRRGGBB)."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    row = b"\0" + color.to_bytes(3, "big") * width
    head = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    pixels = zlib.compress(row * height, 1)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", pixels) + chunk(b"IEND", b"")


class FakeEngine:
    """Runs EmptyImage/LoadImage -> SaveImage and PreviewAny prompts.

    Attributes:
        before: awaited at the start of each run; raises, waits or counts as a test likes.
        steps: progress events of a run.
    """

    name = "fake"

    def __init__(self, *, concurrency: int = 1) -> None:
        self.concurrency = concurrency
        self.before: Callable[[Prompt], Awaitable[None]] | None = None
        self.steps = 0
        self.previews = 0
        self.starts = 0
        self.runs: list[Prompt] = []
        self.files: list[Mapping[InputRef, Path]] = []
        self.cancelled = 0
        self.alive = True
        self.start_error: Exception | None = None
        self.closed = False

    async def start(self) -> None:
        self.starts += 1
        if self.start_error is not None:
            raise self.start_error

    async def schemas(self) -> NodeSchemas:
        return NodeSchemas.builtin()

    async def healthy(self) -> bool:
        return self.alive

    async def run(self, prompt: Prompt, *, files: Mapping[InputRef, Path]) -> AsyncIterator[Event]:
        self.runs.append(prompt)
        self.files.append(files)
        try:
            if self.before is not None:
                await self.before(prompt)
            first = next(iter(prompt.nodes))
            yield Started(node=first)
            for step in range(self.steps):
                yield Progress(node=first, value=step + 1, maximum=self.steps)
                if step < self.previews:
                    yield Preview(node=first, data=b"\xff\xd8preview" + bytes([step]))
                await asyncio.sleep(0)
            for node_id, node in prompt.nodes.items():
                if node.class_type == "SaveImage":
                    for index, data in enumerate(self._pictures(prompt, node.inputs["images"], files)):
                        yield Produced(
                            node=node_id,
                            output="images",
                            index=index,
                            media_type="image/png",
                            data=data,
                            filename=f"out_{index:05}_.png",
                        )
                elif node.class_type == "PreviewAny":
                    text = str(node.inputs["source"]).encode()
                    yield Produced(
                        node=node_id, output="text", index=0, media_type="text/plain; charset=utf-8", data=text
                    )
            yield Finished()
        except (asyncio.CancelledError, GeneratorExit):
            self.cancelled += 1
            raise

    def _pictures(self, prompt: Prompt, link: object, files: Mapping[InputRef, Path]) -> list[bytes]:
        node_id = link.node  # type: ignore[attr-defined]
        source = prompt.nodes[node_id]
        if source.class_type == "LoadImage":
            return [files[InputRef(node_id, "image")].read_bytes()]
        values = source.inputs
        return [png(values["width"], values["height"], values["color"])] * values["batch_size"]

    async def close(self) -> None:
        self.closed = True
