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
from contextlib import aclosing
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from PIL import Image

from comfy_atelier.engines import (
    Cached,
    EmbeddedEngine,
    Engine,
    EngineUnavailable,
    Event,
    Finished,
    InvalidPrompt,
    NodeFailed,
    OutOfMemory,
    Produced,
    Started,
    UnknownNodes,
    WorkerLost,
)
from comfy_atelier.graph import InputRef, Prompt

pytest.importorskip("torch", reason="the embedded engine needs torch")
pytestmark = pytest.mark.asyncio(loop_scope="module")  # one worker serves most of these tests

PICTURES = Path(__file__).parents[1] / "data" / "parity" / "inputs"
Nodes = Mapping[str, tuple[str, Mapping[str, Any]]]


def prompt(**nodes: tuple[str, Mapping[str, Any]]) -> Prompt:
    return Prompt.from_json(
        {name: {"class_type": kind, "inputs": dict(given)} for name, (kind, given) in nodes.items()}
    )


def colour(value: int, size: int = 8, *, batch: int = 1) -> Prompt:
    empty = ("EmptyImage", {"width": size, "height": size, "batch_size": batch, "color": value})
    return prompt(empty=empty, save=("SaveImage", {"images": ["empty", 0], "filename_prefix": "colour"}))


def endless(color: int) -> Prompt:
    """Work of minutes, which looks up often: a picture blurred again and again; another `color` is in no cache."""
    nodes: dict[str, tuple[str, Mapping[str, Any]]] = {
        "0": ("EmptyImage", {"width": 2000, "height": 2000, "batch_size": 1, "color": color})
    }
    for number in range(1, 60):
        given = {"image": [str(number - 1), 0], "blur_radius": 31, "sigma": number / 10 + 0.1}
        nodes[str(number)] = ("ImageBlur", given)
    nodes["save"] = ("PreviewImage", {"images": ["59", 0]})
    return prompt(**nodes)


async def collect(engine: EmbeddedEngine, what: Prompt, files: Mapping[InputRef, Path] | None = None) -> list[Event]:
    return [event async for event in engine.run(what, files=files or {})]


def pictures(events: list[Event]) -> list[Image.Image]:
    found = []
    for event in events:
        if isinstance(event, Produced):
            assert isinstance(event.data, bytes)
            found.append(Image.open(io.BytesIO(event.data)))
    return found


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def engine(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[EmbeddedEngine]:
    made = EmbeddedEngine(input_dir=PICTURES, log_dir=tmp_path_factory.mktemp("logs"))
    yield made
    await made.close()


async def test_a_prompt_gives_its_picture(engine: EmbeddedEngine) -> None:
    assert isinstance(engine, Engine)
    events = await collect(engine, colour(0x336699))
    assert [type(event) for event in events] == [Started, Started, Produced, Finished]
    (shown,) = pictures(events)
    assert shown.size == (8, 8)
    assert shown.getpixel((3, 3)) == (0x33, 0x66, 0x99)
    assert '"EmptyImage"' in shown.info["prompt"]


async def test_the_same_prompt_again_is_answered_from_the_cache(engine: EmbeddedEngine) -> None:
    first = await collect(engine, colour(5, batch=3))
    second = await collect(engine, colour(5, batch=3))
    assert [type(event) for event in second] == [Cached, Produced, Produced, Produced, Finished]
    assert [e for e in second if isinstance(e, Produced)] == [e for e in first if isinstance(e, Produced)]
    names = [event.filename for event in second if isinstance(event, Produced)]
    assert names == ["colour_00001_.png", "colour_00002_.png", "colour_00003_.png"]


async def test_metadata_can_be_left_out(tmp_path: Path) -> None:
    engine = EmbeddedEngine(log_dir=tmp_path, metadata=False)
    try:
        (shown,) = pictures(await collect(engine, colour(1)))
        assert shown.info == {}
    finally:
        await engine.close()


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


async def test_schemas_are_those_of_its_classes(engine: EmbeddedEngine) -> None:
    schemas = await engine.schemas()
    assert "ImageBlur" in schemas
    assert "VideoHelper" not in schemas
    assert schemas.version == "0.33.0"


async def test_large_results_are_files_until_the_run_ends(engine: EmbeddedEngine) -> None:
    noise = ("ImageAddNoise", {"image": ["empty", 0], "seed": 1, "strength": 1.0})
    empty = ("EmptyImage", {"width": 900, "height": 900, "batch_size": 1, "color": 0x808080})
    what = prompt(empty=empty, noise=noise, save=("SaveImage", {"images": ["noise", 0], "filename_prefix": "x"}))
    path = None
    async for event in engine.run(what, files={}):
        if isinstance(event, Produced):
            assert isinstance(event.data, Path)
            path = event.data
            with Image.open(path) as shown:
                assert shown.size == (900, 900)
    assert path is not None
    assert not path.exists()


async def test_a_file_that_is_handed_in_takes_the_place_of_the_name(engine: EmbeddedEngine) -> None:
    what = prompt(load=("LoadImage", {"image": "mine.png"}), save=("SaveImage", {"images": ["load", 0]}))
    events = await collect(engine, what, {InputRef("load", "image"): PICTURES / "wide.png"})
    (shown,) = pictures(events)
    with Image.open(PICTURES / "wide.png") as given:
        assert shown.tobytes() == given.tobytes()
    assert str(PICTURES) not in shown.info["prompt"]


async def test_a_name_is_looked_up_in_the_input_folder_only(engine: EmbeddedEngine) -> None:
    def load(name: str) -> Prompt:
        return prompt(load=("LoadImage", {"image": name}), show=("PreviewImage", {"images": ["load", 0]}))

    assert len(pictures(await collect(engine, load("wide.png")))) == 1
    for name in ("gone.png", "../record.py", str(PICTURES / "wide.png"), "", "wide.png\0"):
        with pytest.raises(InvalidPrompt) as caught:
            await collect(engine, load(name))
        assert caught.value.errors[0].input_name == "image"
        assert "load" in str(caught.value)


async def test_changed_files_are_read_again(engine: EmbeddedEngine, tmp_path: Path) -> None:
    what = prompt(load=("LoadImage", {"image": "a.png"}), show=("PreviewImage", {"images": ["load", 0]}))
    seen = []
    for value in (10, 20):
        Image.new("RGB", (2, 2), (value, 0, 0)).save(tmp_path / "a.png")
        (shown,) = pictures(await collect(engine, what, {InputRef("load", "image"): tmp_path / "a.png"}))
        seen.append(shown.getpixel((0, 0)))
    assert seen == [(10, 0, 0), (20, 0, 0)]


async def test_unknown_classes_are_listed_with_the_way_out(engine: EmbeddedEngine) -> None:
    what = prompt(a=("NoSuchNode", {}), b=("AnotherOne", {}), c=("NoSuchNode", {}))
    with pytest.raises(UnknownNodes, match="--comfyui URL_OR_PATH") as caught:
        await collect(engine, what)
    assert caught.value.classes == ("AnotherOne", "NoSuchNode")


@pytest.mark.parametrize("size", [0, -1, 100_000])
async def test_sizes_out_of_bounds_name_node_and_input(engine: EmbeddedEngine, size: int) -> None:
    with pytest.raises(InvalidPrompt, match=r"node empty \(EmptyImage\): input 'width'"):
        await collect(engine, colour(1, size))


@pytest.mark.parametrize("size", [0, -1, 100_000])
async def test_sizes_that_only_a_run_shows_name_the_node(engine: EmbeddedEngine, size: int) -> None:
    number = ("PrimitiveInt", {"value": size})
    empty = ("EmptyImage", {"width": ["number", 0], "height": ["number", 0], "batch_size": 1, "color": 0})
    scale = (
        "ImageScale",
        {"image": ["empty", 0], "upscale_method": "area", "width": 4, "height": 4, "crop": "disabled"},
    )
    with pytest.raises(NodeFailed) as caught:
        await collect(
            engine, prompt(number=number, empty=empty, scale=scale, show=("PreviewImage", {"images": ["scale", 0]}))
        )
    assert caught.value.node_id in ("empty", "scale")
    assert "\n" not in str(caught.value)
    assert isinstance((await collect(engine, colour(3)))[-1], Finished)


async def test_a_batch_beyond_all_memory_is_an_error(engine: EmbeddedEngine) -> None:
    with pytest.raises(OutOfMemory, match="make size or batch smaller") as caught:
        await collect(engine, colour(1, 16384, batch=4096))
    assert caught.value.node_id == "empty"
    assert await engine.healthy()


async def test_a_node_that_fails_names_itself_and_keeps_its_traceback(engine: EmbeddedEngine) -> None:
    empty = ("EmptyImage", {"width": 4, "height": 4, "batch_size": 1, "color": 0})
    what = prompt(
        empty=empty, truth=("ComfyNotNode", {"value": ["empty", 0]}), show=("PreviewAny", {"source": ["truth", 0]})
    )
    with pytest.raises(NodeFailed, match="ambiguous") as caught:
        await collect(engine, what)
    assert (caught.value.node_id, caught.value.class_type) == ("truth", "ComfyNotNode")
    assert caught.value.exception_type == "RuntimeError"
    assert "Traceback" in caught.value.traceback


async def test_closing_the_iterator_cancels(engine: EmbeddedEngine) -> None:
    await collect(engine, colour(1))
    async with aclosing(engine.run(endless(1), files={})) as events:
        async for event in events:
            if isinstance(event, Started) and event.node == "2":
                break
    process = engine._process
    assert isinstance((await collect(engine, colour(2)))[-1], Finished)
    assert engine._process is process, "the worker let go by itself"


async def test_a_run_waits_for_the_one_before_it(engine: EmbeddedEngine) -> None:
    results = await asyncio.gather(*(collect(engine, colour(value)) for value in range(6)))
    assert [pictures(events)[0].getpixel((0, 0)) for events in results] == [(0, 0, value) for value in range(6)]


async def test_it_answers_while_a_node_runs(engine: EmbeddedEngine) -> None:
    await engine.start()
    async with aclosing(engine.run(endless(2), files={})) as events:
        async for event in events:
            if isinstance(event, Started) and event.node == "1":
                assert await engine.healthy()
                break


@pytest.mark.skipif(sys.platform == "win32", reason="kills by signal")
async def test_a_killed_worker_is_lost_and_the_next_job_works(engine: EmbeddedEngine) -> None:
    await engine.start()
    process = engine._process
    assert process is not None
    os.kill(process.pid, signal.SIGSTOP)  # so that the job is there and not done when the process dies
    running = engine.run(colour(1), files={})
    task = asyncio.ensure_future(running.__anext__())
    await asyncio.sleep(0)
    os.kill(process.pid, signal.SIGKILL)
    with pytest.raises(WorkerLost, match="its log is"):
        await task
    assert isinstance((await collect(engine, colour(2)))[-1], Finished)
    assert engine._process is not process
    assert await engine.healthy()


@pytest.mark.skipif(sys.platform == "win32", reason="kills by signal")
async def test_no_process_stays_when_the_caller_is_killed(tmp_path: Path) -> None:
    psutil = pytest.importorskip("psutil")
    script = textwrap.dedent(
        """
        import asyncio, sys
        from pathlib import Path
        from comfy_atelier.engines import EmbeddedEngine

        async def main():
            engine = EmbeddedEngine(log_dir=Path(sys.argv[1]))
            await engine.start()
            print(engine._process.pid, engine._folder, flush=True)
            await asyncio.sleep(600)

        asyncio.run(main())
        """
    )
    caller = subprocess.Popen([sys.executable, "-c", script, tmp_path], stdout=subprocess.PIPE, text=True)
    assert caller.stdout is not None
    with caller.stdout:
        worker, folder = caller.stdout.readline().split()
    assert Path(folder).is_dir()
    left = psutil.Process(int(worker))
    caller.kill()
    caller.wait()
    psutil.wait_procs([left], timeout=20)
    assert not left.is_running()
    assert not Path(folder).exists()


async def test_a_wrong_setting_is_an_error_at_the_start(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("ATELIER_CACHE_BYTES", "1 GB")
    with pytest.raises(EngineUnavailable, match="ATELIER_CACHE_BYTES"):
        await EmbeddedEngine(log_dir=tmp_path).start()


async def test_what_a_worker_prints_does_not_harm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "sitecustomize.py").write_text("print('hello from elsewhere')\n")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    monkeypatch.setenv("PYTHONUNBUFFERED", "1")
    engine = EmbeddedEngine(log_dir=tmp_path / "logs")
    # what is printed before our code runs is in the pipe already: that must be an error that says so, and no hanging
    with pytest.raises(EngineUnavailable, match="did not start"):
        await engine.start()
    await engine.close()


async def test_a_thousand_runs_do_not_leak(tmp_path: Path) -> None:
    psutil = pytest.importorskip("psutil")
    engine = EmbeddedEngine(log_dir=tmp_path, cache_bytes=4 * 1024 * 1024)
    try:
        for value in range(200):
            await collect(engine, colour(value, 64))
        assert engine._process is not None
        process = psutil.Process(engine._process.pid)
        before = process.memory_info().rss
        for value in range(1000):
            await collect(engine, colour(1000 + value, 64))
        assert process.memory_info().rss - before < 32 * 1024 * 1024
        assert engine._runs == {}
    finally:
        await engine.close()


async def test_hostile_files_are_errors_and_the_worker_lives(engine: EmbeddedEngine, shared: Path) -> None:
    await engine.start()
    process = engine._process
    what = prompt(load=("LoadImage", {"image": "x"}), show=("PreviewImage", {"images": ["load", 0]}))
    refused: dict[str, NodeFailed] = {}
    for path in sorted((shared / "hostile" / "uploads").iterdir()):
        if path.name.endswith(".expect.json"):
            continue
        try:
            events = await collect(engine, what, {InputRef("load", "image"): path})
        except NodeFailed as error:
            refused[path.name] = error
        else:
            assert pictures(events)
    assert {error.exception_type for error in refused.values()} <= {"NodeProblem", "OutOfMemory"}
    assert {error.node_id for error in refused.values()} == {"load"}
    assert "ffconcat-relative-read.png" in refused
    assert engine._process is process
