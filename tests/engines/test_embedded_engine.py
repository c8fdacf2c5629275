"""The caller's side of the embedded engine: its process, its events, its errors."""

from __future__ import annotations

import asyncio
import io
import os
import signal
import subprocess
import sys
import textwrap
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from comfy_atelier.engines import (
    EmbeddedEngine,
    Event,
    Finished,
    Produced,
    Started,
    UnknownNodes,
    WorkerLost,
)
from comfy_atelier.graph import InputRef, Prompt

torch = pytest.importorskip("torch", reason="the embedded engine needs torch")


def prompt(**nodes: tuple[str, Mapping[str, Any]]) -> Prompt:
    return Prompt.from_json(
        {name: {"class_type": kind, "inputs": dict(inputs)} for name, (kind, inputs) in nodes.items()}
    )


def colour(value: int, size: int = 8) -> Prompt:
    empty = ("EmptyImage", {"width": size, "height": size, "batch_size": 1, "color": value})
    return prompt(empty=empty, save=("SaveImage", {"images": ["empty", 0], "filename_prefix": "colour"}))


async def collect(engine: EmbeddedEngine, what: Prompt, files: Mapping[InputRef, Path] | None = None) -> list[Event]:
    return [event async for event in engine.run(what, files=files or {})]


def picture(events: list[Event]) -> Image.Image:
    produced = next(event for event in events if isinstance(event, Produced))
    assert isinstance(produced.data, bytes)
    return Image.open(io.BytesIO(produced.data))


@pytest.fixture
async def engine(tmp_path: Path) -> AsyncIterator[EmbeddedEngine]:
    made = EmbeddedEngine(log_dir=tmp_path / "logs")
    yield made
    await made.close()


async def test_a_prompt_gives_its_picture(engine: EmbeddedEngine) -> None:
    events = await collect(engine, colour(0x336699))
    assert [type(event) for event in events] == [Started, Started, Produced, Finished]
    shown = picture(events)
    assert shown.size == (8, 8)
    assert shown.getpixel((3, 3)) == (0x33, 0x66, 0x99)
    assert '"EmptyImage"' in shown.info["prompt"]


async def test_the_caller_never_imports_torch(tmp_path: Path) -> None:
    script = textwrap.dedent(
        """
        import asyncio, sys
        from pathlib import Path
        from comfy_atelier.engines import EmbeddedEngine
        from comfy_atelier.graph import Prompt

        async def main():
            engine = EmbeddedEngine(log_dir=Path(sys.argv[1]))
            empty = {"class_type": "EmptyImage", "inputs": {"width": 4, "height": 4, "batch_size": 1, "color": 1}}
            nodes = {"1": empty, "2": {"class_type": "PreviewImage", "inputs": {"images": ["1", 0]}}}
            events = [event async for event in engine.run(Prompt.from_json(nodes), files={})]
            await engine.schemas()
            await engine.close()
            print(type(events[-1]).__name__, "torch" in sys.modules, "numpy" in sys.modules)

        asyncio.run(main())
        """
    )
    done = subprocess.run([sys.executable, "-c", script, tmp_path], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["Finished", "False", "False"]


async def test_unknown_classes_are_listed_with_the_way_out(engine: EmbeddedEngine) -> None:
    what = prompt(a=("NoSuchNode", {}), b=("AnotherOne", {}), c=("NoSuchNode", {}))
    with pytest.raises(UnknownNodes, match="--comfyui URL_OR_PATH") as caught:
        await collect(engine, what)
    assert caught.value.classes == ("AnotherOne", "NoSuchNode")


@pytest.mark.skipif(sys.platform == "win32", reason="kills by signal")
async def test_a_killed_worker_is_lost_and_the_next_job_works(engine: EmbeddedEngine) -> None:
    await engine.start()
    process = engine._process
    assert process is not None
    os.kill(process.pid, signal.SIGSTOP)  # so that the job is there and not done when the process dies
    running = engine.run(colour(1), files={})
    task = asyncio.ensure_future(running.__anext__())
    os.kill(process.pid, signal.SIGKILL)
    with pytest.raises(WorkerLost, match="its log is"):
        await task
    assert not await engine.healthy()
    assert isinstance((await collect(engine, colour(2)))[-1], Finished)
    assert await engine.healthy()
