"""`ComfyUIEngine` against a fake server: every order of events, faults, cancelling, other clients."""

from __future__ import annotations

import asyncio

import pytest

from comfy_atelier.engines import (
    Cached,
    Cancelled,
    ComfyUIEngine,
    EngineUnavailable,
    Finished,
    InvalidPrompt,
    NodeFailed,
    OutOfMemory,
    Preview,
    Produced,
    Progress,
    Started,
    UnknownNodes,
    WorkerLost,
)
from comfy_atelier.engines.comfyui import client as client_module
from comfy_atelier.engines.comfyui import connection as connection_module
from comfy_atelier.graph import InputRef, Prompt

PNG = b"\x89PNG\r\n\x1a\n"


def picture_prompt(**more):
    return Prompt.from_json(
        {
            "1": {"class_type": "EmptyImage", "inputs": {"width": 64, "height": 64, "batch_size": 1, "color": 7}},
            "2": {"class_type": "SaveImage", "inputs": {"images": ["1", 0], "filename_prefix": "x"}},
            **more,
        }
    )


@pytest.fixture
async def engine(fake_comfyui):
    engine = ComfyUIEngine(fake_comfyui.url)
    yield engine
    await engine.close()


async def collect(engine, prompt=None, files=None):
    return [event async for event in engine.run(prompt or picture_prompt(), files=files or {})]


def produced(events):
    return [event for event in events if isinstance(event, Produced)]


async def step(condition):
    """Let the loop turn until something holds."""
    async with asyncio.timeout(20):
        while not condition():
            await asyncio.sleep(0.001)


def all_posted(engine, count):
    executions = engine._connection._executions.values()
    return len(executions) == count and all(execution.posted for execution in executions)


def all_ended(engine):
    return all(execution.ended for execution in engine._connection._executions.values())


# The ordinary run ---------------------------------------------------------------------------------------------------


async def test_a_picture_by_view(fake_comfyui, engine):
    events = await collect(engine)
    assert events == [
        Started(node="1"),
        Started(node="2"),
        Produced(
            node="2",
            output="images",
            index=0,
            media_type="image/png",
            data=PNG + b"2",
            filename="out_00000_.png",
        ),
        Finished(),
    ]
    assert fake_comfyui.asked == ["GET /ws", "GET /object_info/SaveImageWebsocket", "POST /prompt", "GET /view"]
    (body,) = fake_comfyui.posted
    assert body["prompt"] == picture_prompt().to_json()


@pytest.mark.parametrize("labels", [True, False])
async def test_a_picture_over_the_socket(fake_comfyui, engine, labels):
    fake_comfyui.classes["SaveImageWebsocket"] = {}
    fake_comfyui.labels = labels
    (picture,) = produced(await collect(engine))
    assert (picture.node, picture.data, picture.media_type, picture.filename) == ("2", PNG + b"2", "image/png", None)
    assert fake_comfyui.asked == ["GET /ws", "GET /object_info/SaveImageWebsocket", "POST /prompt"]
    (body,) = fake_comfyui.posted
    assert body["prompt"]["2"] == {"class_type": "SaveImageWebsocket", "inputs": {"images": ["1", 0]}}


async def test_metadata_wants_the_file(fake_comfyui):
    fake_comfyui.classes["SaveImageWebsocket"] = {}
    engine = ComfyUIEngine(fake_comfyui.url, metadata=True)
    (picture,) = produced(await collect(engine))
    await engine.close()
    assert picture.filename == "out_00000_.png"
    assert fake_comfyui.posted[0]["prompt"]["2"]["class_type"] == "SaveImage"


async def test_a_save_that_passes_its_picture_on_stays(fake_comfyui, engine):
    fake_comfyui.classes["SaveImageWebsocket"] = {}
    await collect(engine, picture_prompt(**{"3": {"class_type": "SaveImage", "inputs": {"images": ["2", 0]}}}))
    nodes = fake_comfyui.posted[0]["prompt"]
    assert (nodes["2"]["class_type"], nodes["3"]["class_type"]) == ("SaveImage", "SaveImageWebsocket")


async def test_a_batch_over_the_socket_keeps_its_order(fake_comfyui, engine):
    fake_comfyui.classes["SaveImageWebsocket"] = {}

    async def script(run):
        await run.begin()
        await run.executing("2")
        for number in range(5):
            await run.send("progress", value=number, max=5, node="2")
            await run.picture(PNG + bytes([number]), labelled="2")
        await run.success()

    fake_comfyui.script = script
    events = await collect(engine)
    assert [(p.index, p.data[-1]) for p in produced(events)] == [(n, n) for n in range(5)]
    assert not [event for event in events if isinstance(event, Progress)]


async def test_a_socket_that_brings_no_picture_is_given_up(fake_comfyui, engine):
    fake_comfyui.classes["SaveImageWebsocket"] = {}
    usual = fake_comfyui.script

    async def mute(run):
        if run.nodes["2"]["class_type"] == "SaveImage":
            await usual(run)
            return
        await run.begin()
        await run.executing("2")
        await run.success()

    fake_comfyui.script = mute
    events = await collect(engine)
    (picture,) = produced(events)
    assert picture.data == PNG + b"2"
    assert events.count(Finished()) == 1
    await collect(engine)
    assert [body["prompt"]["2"]["class_type"] for body in fake_comfyui.posted] == [
        "SaveImageWebsocket",
        "SaveImage",
        "SaveImage",
    ]


async def test_text_video_and_temporary_outputs(fake_comfyui, engine):
    async def script(run):
        await run.begin()
        await run.executed("2", {"images": [run.save("p.png", b"p", type_="temp"), run.save("v.mp4", b"v")]})
        await run.executed("1", {"text": ["grüß dich"], "audio": [run.save("s.flac", b"s", subfolder="a b/ü")]})
        await run.success()

    fake_comfyui.script = script
    found = [(p.node, p.output, p.index, p.media_type, p.data, p.temporary) for p in produced(await collect(engine))]
    assert found == [
        ("2", "images", 0, "image/png", b"p", True),
        ("2", "video", 0, "video/mp4", b"v", False),
        ("1", "text", 0, "text/plain; charset=utf-8", "grüß dich".encode(), False),
        ("1", "audio", 0, "audio/flac", b"s", False),
    ]


async def test_progress_and_previews(fake_comfyui, engine):
    async def script(run):
        await run.begin()
        await run.executing("1")
        running = {"node_id": "1", "state": "running", "value": 1.0, "max": 4.0}
        await run.send("progress_state", nodes={"1": {**running, "value": 0.0, "max": 1.0}})
        await run.send("progress_state", nodes={"1": running})
        await run.send("progress", node="1", value=1, max=4)
        await run.picture(b"bare", png=False)
        await run.picture(b"labelled", labelled="1", png=False)
        await run.send("progress", node="1", value=2, max=4)
        await run.send("progress", node="1", value="odd", max=4)
        await run.success()

    fake_comfyui.script = script
    assert await collect(engine) == [
        Started(node="1"),
        Progress(node="1", value=1, maximum=4),
        Preview(node="1", data=b"bare"),
        Preview(node="1", data=b"labelled"),
        Progress(node="1", value=2, maximum=4),
        Finished(),
    ]


async def test_what_a_node_made_counts_as_the_node(fake_comfyui, engine):
    async def script(run):
        await run.begin()
        await run.executing("1")
        await run.send("executing", node="1.0.0.4", display_node="1")
        await run.executed("1.0.0.4", {"images": [run.save("a.png", b"a")]}, display_node="1")
        await run.executed("1.0.0.5", {"images": [run.save("b.png", b"b")]}, display_node="1")
        await run.executed("elsewhere", {"images": [run.save("c.png", b"c")]})
        await run.success()

    fake_comfyui.script = script
    found = [(p.node, p.index, p.data) for p in produced(await collect(engine))]
    assert found == [("1", 0, b"a"), ("1", 1, b"b")]


async def test_a_large_output_is_a_file_until_the_iterator_goes_on(fake_comfyui, engine, monkeypatch):
    monkeypatch.setattr(client_module, "_IN_MEMORY", 10)

    async def script(run):
        await run.begin()
        await run.executed("2", {"gifs": [run.save("v.mp4", b"v" * 100_000)]})
        await run.success()

    fake_comfyui.script = script
    paths = []
    async for event in engine.run(picture_prompt(), files={}):
        if isinstance(event, Produced):
            paths.append(event.data)
            assert event.data.read_bytes() == b"v" * 100_000
    assert not paths[0].exists()
    folder = paths[0].parent
    await engine.close()
    assert not folder.exists()


async def test_a_frame_of_twenty_megabytes(fake_comfyui, engine):
    fake_comfyui.classes["SaveImageWebsocket"] = {}
    large = PNG + bytes(20_000_000)

    async def script(run):
        await run.begin()
        await run.executing("2")
        await run.picture(large, labelled="2")
        await run.success()

    fake_comfyui.script = script
    (picture,) = produced(await collect(engine))
    assert picture.data == large


# Cached nodes -------------------------------------------------------------------------------------------------------


async def test_cached_outputs_that_executed_tells(fake_comfyui, engine):
    async def script(run):
        await run.begin(cached=["1", "2", "9"])
        image = run.save("old.png", b"old")
        await run.executed("2", {"images": [image]})
        await run.executed("2", {"images": [image]})  # 0.33.0 tells it again at the end
        await run.success()

    fake_comfyui.script = script
    events = await collect(engine)
    assert events[0] == Cached(nodes=("1", "2"))
    assert [p.data for p in produced(events)] == [b"old"]
    assert "GET /history" not in fake_comfyui.asked


async def test_cached_outputs_that_only_the_history_has(fake_comfyui, engine):
    async def script(run):
        await run.begin(cached=["1", "2"])
        run.outputs["2"] = {"images": [run.save("old.png", b"old")]}
        await run.success()

    fake_comfyui.script = script
    events = await collect(engine)
    assert [p.data for p in produced(events)] == [b"old"]
    assert fake_comfyui.asked.count("GET /history") == 1


async def test_a_history_that_forgot(fake_comfyui, engine, monkeypatch):
    monkeypatch.setattr(connection_module, "_RECALL", 0.01)
    release = asyncio.Event()

    async def script(run):
        await run.begin(cached=["2"])
        await run.success()
        await release.wait()

    fake_comfyui.script = script
    assert await collect(engine) == [Cached(nodes=("2",)), Finished()]
    release.set()


async def test_a_cached_file_that_was_deleted_is_made_again(fake_comfyui, engine):
    usual = fake_comfyui.script

    async def script(run):
        if len(fake_comfyui.posted) > 1:
            await usual(run)
            return
        await run.begin(cached=["1", "2"])
        await run.executed("2", {"images": [{"filename": "gone.png", "subfolder": "", "type": "output"}]})
        await run.success()

    fake_comfyui.script = script
    events = await collect(engine)
    assert [p.data for p in produced(events)] == [PNG + b"2"]
    first, second = (body["prompt"]["2"]["inputs"] for body in fake_comfyui.posted)
    assert set(second) - set(first) == {"atelier_fresh"}
    assert fake_comfyui.posted[0]["prompt"]["1"] == fake_comfyui.posted[1]["prompt"]["1"]


async def test_a_file_that_was_just_saved_and_is_not_there(fake_comfyui, engine):
    async def script(run):
        await run.begin()
        await run.executed("2", {"images": [{"filename": "no.png", "subfolder": "", "type": "output"}]})
        await run.success()

    fake_comfyui.script = script
    with pytest.raises(NodeFailed, match=r"node 2 \(SaveImage\): ComfyUI says that it saved a file, but does not give"):
        await collect(engine)


# Uploads ------------------------------------------------------------------------------------------------------------


def loading_prompt():
    return Prompt.from_json(
        {
            "1": {"class_type": "LoadImage", "inputs": {"image": "example.png", "upload": "image"}},
            "2": {"class_type": "SaveImage", "inputs": {"images": ["1", 0], "filename_prefix": "example.png"}},
        }
    )


async def test_a_file_is_sent_once_and_only_its_input_rewritten(fake_comfyui, engine, tmp_path):
    first, second = tmp_path / "a.png", tmp_path / "content-addressed"
    first.write_bytes(PNG + b"same")
    second.write_bytes(PNG + b"same")
    for path in (first, second, first):
        await collect(engine, loading_prompt(), {InputRef("1", "image"): path})
    assert len(fake_comfyui.uploads) == 1
    name, data = fake_comfyui.uploads[0]
    assert data == PNG + b"same"
    assert name.endswith(".png")
    for body in fake_comfyui.posted:
        assert body["prompt"]["1"]["inputs"] == {"image": name, "upload": "image"}
        assert body["prompt"]["2"]["inputs"]["filename_prefix"] == "example.png"


async def test_two_runs_at_once_send_a_file_once(fake_comfyui, engine, tmp_path):
    path = tmp_path / "a.png"
    path.write_bytes(PNG)
    files = {InputRef("1", "image"): path}
    await asyncio.gather(*(collect(engine, loading_prompt(), files) for _ in range(4)))
    assert len(fake_comfyui.uploads) == 1


async def test_a_changed_file_is_sent_anew(fake_comfyui, engine, tmp_path):
    path = tmp_path / "a.png"
    for content in (b"one", b"other"):
        path.write_bytes(content)
        await collect(engine, loading_prompt(), {InputRef("1", "image"): path})
    assert [data for _, data in fake_comfyui.uploads] == [b"one", b"other"]


async def test_a_large_file_that_the_server_has_is_not_sent(fake_comfyui, engine, tmp_path):
    path = tmp_path / "a.png"
    path.write_bytes(PNG + bytes(300_000))
    files = {InputRef("1", "image"): path}
    await collect(engine, loading_prompt(), files)
    again = ComfyUIEngine(fake_comfyui.url)
    await collect(again, loading_prompt(), files)
    await again.close()
    assert len(fake_comfyui.uploads) == 1


async def test_a_file_that_vanished_from_the_server_is_sent_again(fake_comfyui, engine, tmp_path):
    path = tmp_path / "a.png"
    path.write_bytes(PNG)
    files = {InputRef("1", "image"): path}
    await collect(engine, loading_prompt(), files)
    reason = {
        "type": "custom_validation_failed",
        "message": "Custom validation failed for node",
        "details": "image - Invalid image file",
        "extra_info": {"input_name": "image"},
    }
    fake_comfyui.answer = (
        400,
        {"error": {"type": "x"}, "node_errors": {"1": {"errors": [reason], "class_type": "LoadImage"}}},
    )
    with pytest.raises(InvalidPrompt, match=r"node 1 \(LoadImage\): Custom validation failed"):
        await collect(engine, loading_prompt(), files)
    assert len(fake_comfyui.uploads) == 2
    assert fake_comfyui.asked.count("POST /prompt") == 3


async def test_a_file_that_cannot_be_read(engine, tmp_path):
    with pytest.raises(InvalidPrompt, match=r"input file none\.png cannot be read \(No such file"):
        await collect(engine, loading_prompt(), {InputRef("1", "image"): tmp_path / "none.png"})


async def test_a_file_for_a_node_that_is_not_there(engine, tmp_path):
    with pytest.raises(InvalidPrompt, match="node 77"):
        await collect(engine, loading_prompt(), {InputRef("77", "image"): tmp_path})


# Faults of the prompt -----------------------------------------------------------------------------------------------


def fault(message, details, name, type_="value_not_in_list"):
    return {"type": type_, "message": message, "details": details, "extra_info": {"input_name": name}}


async def test_an_invalid_prompt_tells_every_node(fake_comfyui, engine):
    fake_comfyui.answer = (
        400,
        {
            "error": {"type": "prompt_outputs_failed_validation", "message": "no", "details": "", "extra_info": {}},
            "node_errors": {
                "2": {"errors": [fault("Value not in list", "a: 'b'", "a")], "class_type": "SaveImage"},
                "1": {
                    "errors": [fault("Value too big", "width", "width"), fault("Value too small", "height", "height")],
                    "class_type": "EmptyImage",
                },
            },
        },
    )
    with pytest.raises(InvalidPrompt) as caught:
        await collect(engine)
    assert str(caught.value) == "node 1 (EmptyImage): Value too big: width (and 2 more)"
    assert [(e.node_id, e.input_name, e.message) for e in caught.value.errors] == [
        ("1", "width", "Value too big"),
        ("1", "height", "Value too small"),
        ("2", "a", "Value not in list"),
    ]
    assert not caught.value.retryable


@pytest.mark.parametrize(
    "error",
    [
        {
            "type": "invalid_prompt",
            "message": "Cannot execute because node Foo does not exist.",
            "details": "",
        },  # 0.3.64
        {"type": "missing_node_type", "message": "gone", "extra_info": {"node_id": "3", "class_type": "Foo"}},  # 0.33.0
    ],
)
async def test_every_unknown_class_is_named(fake_comfyui, engine, error):
    fake_comfyui.answer = (400, {"error": error, "node_errors": []})
    prompt = picture_prompt(
        **{"3": {"class_type": "Foo", "inputs": {}}, "4": {"class_type": "AtelierLoadFlux", "inputs": {}}}
    )
    with pytest.raises(UnknownNodes) as caught:
        await collect(engine, prompt)
    assert caught.value.classes == ("AtelierLoadFlux", "Foo")
    assert [e.node_id for e in caught.value.errors] == ["3", "4"]
    assert "this package's" in str(caught.value)


@pytest.mark.parametrize(
    ("status", "answer", "text"),
    [
        (400, {"error": {"type": "prompt_no_outputs", "message": "x"}, "node_errors": []}, "has no output node"),
        (400, {"error": "plain words"}, "plain words"),
        (400, {"error": {"type": "t", "message": "M", "details": "D"}, "node_errors": {}}, "M: D"),
        (400, ["odd"], "answered 400"),
        (500, {}, "answered 500"),
    ],
)
async def test_other_refusals(fake_comfyui, engine, status, answer, text):
    fake_comfyui.answer = (status, answer)
    with pytest.raises(InvalidPrompt, match=text):
        await collect(engine)


@pytest.mark.parametrize("status", [401, 403, 429, 502, 503])
async def test_a_proxys_refusal_is_not_the_prompts_fault(fake_comfyui, engine, status):
    fake_comfyui.answer = (status, {})
    with pytest.raises(EngineUnavailable, match=f"answered {status}"):
        await collect(engine)


async def test_half_a_prompt_is_not_run(fake_comfyui, engine):
    # The server takes a prompt when one output of several is valid.
    fake_comfyui.node_errors = {"2": {"errors": [fault("Bad", "a", "a")], "class_type": "SaveImage"}}
    started = asyncio.Event()

    async def script(run):
        started.set()
        await run.interrupted.wait()

    fake_comfyui.script = script
    with pytest.raises(InvalidPrompt, match=r"node 2 \(SaveImage\): Bad: a"):
        await collect(engine)
    assert "cancel" in fake_comfyui.asked


# Faults while it runs -----------------------------------------------------------------------------------------------


def failing(**data):
    async def script(run):
        await run.begin()
        await run.executing("1")
        await run.send(
            "execution_error",
            **{
                "node_id": "1",
                "node_type": "EmptyImage",
                "exception_message": "it\nbroke",
                "exception_type": "ValueError",
                "traceback": ["  File a\n", "  File b\n"],
                **data,
            },
        )

    return script


async def test_a_node_that_fails(fake_comfyui, engine):
    fake_comfyui.script = failing()
    with pytest.raises(NodeFailed) as caught:
        await collect(engine)
    error = caught.value
    assert str(error) == "node 1 (EmptyImage): it broke"
    assert (error.exception_type, error.traceback) == ("ValueError", "  File a\n  File b\n")
    assert not isinstance(error, OutOfMemory)


@pytest.mark.parametrize(
    "data",
    [
        {"exception_type": "torch.OutOfMemoryError"},
        {"exception_type": "torch.cuda.OutOfMemoryError"},
        {"exception_type": "MemoryError"},
        {"exception_type": "RuntimeError", "exception_message": "MPS backend out of memory (MPS allocated: 9 GB)"},
        {"exception_message": "[enforce fail at alloc_cpu.cpp:119] DefaultCPUAllocator: can't allocate memory"},
    ],
)
async def test_out_of_memory(fake_comfyui, engine, data):
    fake_comfyui.script = failing(**data)
    with pytest.raises(OutOfMemory, match="smaller"):
        await collect(engine)


async def test_a_node_inside_a_node_fails(fake_comfyui, engine):
    fake_comfyui.script = failing(node_id="1.0.0.3", real_node_id="1", node_type="Inner", exception_message="")
    with pytest.raises(NodeFailed) as caught:
        await collect(engine)
    assert (caught.value.node_id, caught.value.class_type, caught.value.message) == ("1", "Inner", "ValueError")


async def test_a_blocked_node_fails_at_the_end(fake_comfyui, engine):
    async def script(run):
        await run.begin()
        await run.send(
            "execution_error",
            node_id="1",
            node_type="EmptyImage",
            exception_message="Execution Blocked: no mask",
            exception_type="ExecutionBlocked",
            traceback=[],
        )
        await run.executed("2", {"images": [run.save("a.png", b"a")]})
        await run.success()

    fake_comfyui.script = script
    events = engine.run(picture_prompt(), files={})
    assert isinstance(await anext(events), Produced)
    with pytest.raises(NodeFailed, match="no mask"):
        await anext(events)


async def test_the_engine_goes_on_after_a_failure(fake_comfyui, engine):
    usual = fake_comfyui.script
    fake_comfyui.script = failing()
    with pytest.raises(NodeFailed):
        await collect(engine)
    fake_comfyui.script = usual
    assert produced(await collect(engine))
    assert fake_comfyui.asked.count("GET /ws") == 1


async def test_interrupted_by_somebody_else(fake_comfyui, engine):
    async def script(run):
        await run.begin()
        await run.send("execution_interrupted", node_id="1", node_type="EmptyImage", executed=[])

    fake_comfyui.script = script
    with pytest.raises(Cancelled, match="node 1"):
        await collect(engine)


async def test_removed_from_the_queue_by_somebody_else(fake_comfyui, engine, monkeypatch):
    monkeypatch.setattr(connection_module, "_SUSPECT", 0)
    hold = asyncio.Event()

    async def script(run):
        await run.begin()
        await hold.wait()
        await run.success()

    fake_comfyui.script = script
    first = asyncio.create_task(collect(engine))
    await step(lambda: fake_comfyui.running)
    second = asyncio.create_task(collect(engine))
    await step(lambda: fake_comfyui.pending)
    await step(lambda: all_posted(engine, 2))
    fake_comfyui.pending.clear()
    await fake_comfyui.status()
    with pytest.raises(Cancelled, match="another client removed it"):
        await second
    hold.set()
    assert (await first)[-1] == Finished()


async def test_an_end_that_nobody_told_is_found_in_the_history(fake_comfyui, engine, monkeypatch):
    monkeypatch.setattr(connection_module, "_SUSPECT", 0)
    fake_comfyui.accept.clear()

    async def script(run):  # the socket says nothing at all
        run.outputs["2"] = {"images": [run.save("a.png", b"a")]}

    fake_comfyui.script = script
    run = asyncio.create_task(collect(engine))
    await step(lambda: fake_comfyui.posted)
    fake_comfyui.accept.set()
    await step(lambda: fake_comfyui.history and all_posted(engine, 1))
    await fake_comfyui.status()
    events = await run
    assert [p.data for p in produced(events)] == [b"a"]


# Other clients and old servers --------------------------------------------------------------------------------------


async def test_messages_about_others_are_not_ours(fake_comfyui, engine):
    usual = fake_comfyui.script

    async def script(run):
        foreign = {"prompt_id": "somebody-elses", "node": "1", "display_node": "1"}
        everyone = None
        await fake_comfyui.send("execution_start", foreign, everyone)
        await fake_comfyui.send("executing", foreign, everyone)
        await fake_comfyui.send("progress", {**foreign, "value": 1, "max": 9}, everyone)
        await fake_comfyui.send_bytes(b"\0\0\0\1\0\0\0\1theirs", everyone)
        await fake_comfyui.send("executed", {**foreign, "output": {"text": ["theirs"]}}, everyone)
        await fake_comfyui.send("execution_error", {**foreign, "exception_message": "theirs"}, everyone)
        await fake_comfyui.send("execution_interrupted", foreign, everyone)
        await fake_comfyui.send("crystools.monitor", {"cpu": 1}, everyone)
        await usual(run)
        await fake_comfyui.send_bytes(b"\0\0\0\1\0\0\0\1theirs", everyone)

    fake_comfyui.script = script
    for _ in range(2):
        events = await collect(engine)
        assert [type(event) for event in events] == [Started, Started, Produced, Finished]


async def test_runs_at_once_are_told_apart(fake_comfyui, engine):
    async def script(run):
        mark = run.nodes["1"]["inputs"]["color"]
        await run.begin()
        await run.executing("1")
        await run.executed("2", {"images": [run.save(f"{mark}.png", str(mark).encode())]})
        await run.success()

    fake_comfyui.script = script

    async def one(mark):
        prompt = picture_prompt().to_json()
        prompt["1"]["inputs"]["color"] = mark
        return produced(await collect(engine, Prompt.from_json(prompt)))

    results = await asyncio.gather(*(one(mark) for mark in range(20)))
    assert [[p.data for p in found] for found in results] == [[str(mark).encode()] for mark in range(20)]
    assert fake_comfyui.asked.count("GET /ws") == 1


async def test_a_server_that_chooses_the_id(fake_comfyui, engine):
    fake_comfyui.own_ids = True
    fake_comfyui.classes["SaveImageWebsocket"] = {}
    fake_comfyui.labels = False
    for _ in range(3):
        events = await collect(engine)
        assert [type(event) for event in events] == [Started, Started, Produced, Finished]


async def test_concurrency_follows_how_long_prompts_take(fake_comfyui):
    engine = ComfyUIEngine(fake_comfyui.url, depth=4)
    assert engine.concurrency == 1
    await collect(engine)
    assert engine.concurrency > 1
    expected = {0.0: 4, 0.01: 4, 0.2: 2, 0.4: 1, 30.0: 1}
    for typical, concurrency in expected.items():
        engine._typical = typical
        assert engine.concurrency == concurrency
    await engine.close()


# Cancelling ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("jobs_api", [True, False])
async def test_closing_the_iterator_interrupts(fake_comfyui, engine, jobs_api):
    fake_comfyui.jobs_api = jobs_api
    ended = asyncio.Event()

    async def script(run):
        await run.begin()
        await run.executing("1")
        await run.interrupted.wait()
        ended.set()
        await run.send("execution_interrupted", node_id="1")

    fake_comfyui.script = script
    events = engine.run(picture_prompt(), files={})
    assert await anext(events) == Started(node="1")
    await events.aclose()
    await ended.wait()
    assert ("cancel" in fake_comfyui.asked) is jobs_api
    assert ("interrupt" in fake_comfyui.asked) is not jobs_api


@pytest.mark.parametrize("jobs_api", [True, False])
async def test_cancelling_a_waiting_prompt_leaves_the_running_one(fake_comfyui, engine, jobs_api):
    fake_comfyui.jobs_api = jobs_api
    hold = asyncio.Event()
    usual = fake_comfyui.script

    async def script(run):
        await hold.wait()
        await usual(run)

    fake_comfyui.script = script
    first = asyncio.create_task(collect(engine))
    await step(lambda: fake_comfyui.running)
    second = asyncio.create_task(collect(engine))
    await step(lambda: fake_comfyui.pending)
    second.cancel()
    with pytest.raises(asyncio.CancelledError):
        await second
    assert fake_comfyui.pending == []
    assert not fake_comfyui.running.interrupted.is_set()
    assert "interrupt" not in fake_comfyui.asked
    hold.set()
    assert produced(await first)


async def test_cancelling_while_the_prompt_is_posted(fake_comfyui, engine):
    fake_comfyui.accept.clear()
    interrupted = asyncio.Event()

    async def script(run):
        await run.begin()
        await run.interrupted.wait()
        interrupted.set()

    fake_comfyui.script = script
    run = asyncio.create_task(collect(engine))
    await step(lambda: fake_comfyui.posted)
    run.cancel()
    await asyncio.sleep(0)
    fake_comfyui.accept.set()
    with pytest.raises(asyncio.CancelledError):
        await run
    await step(lambda: interrupted.is_set() or not (fake_comfyui.pending or fake_comfyui.running))


async def test_closing_after_the_end_cancels_nothing(fake_comfyui, engine):
    events = engine.run(picture_prompt(), files={})
    async for event in events:
        if isinstance(event, Produced):
            break
    await step(lambda: all_ended(engine))
    await events.aclose()
    assert "cancel" not in fake_comfyui.asked
    assert produced(await collect(engine))


async def test_late_messages_of_a_cancelled_prompt_are_dropped(fake_comfyui, engine):
    usual = fake_comfyui.script

    async def script(run):
        await run.begin()
        await run.executing("1")
        await run.interrupted.wait()
        await run.picture(b"late", png=False)
        await run.executed("2", {"text": ["late"]})
        await run.send("execution_interrupted", node_id="1")
        fake_comfyui.script = usual

    fake_comfyui.script = script
    events = engine.run(picture_prompt(), files={})
    await anext(events)
    await events.aclose()
    assert [type(event) for event in await collect(engine)] == [Started, Started, Produced, Finished]


# Losing the server --------------------------------------------------------------------------------------------------


async def test_a_server_that_dies_in_a_job(fake_comfyui, engine):
    reached = asyncio.Event()

    async def script(run):
        await run.begin()
        reached.set()
        await asyncio.Event().wait()

    fake_comfyui.script = script
    runs = [asyncio.create_task(collect(engine)) for _ in range(2)]
    await reached.wait()
    await step(lambda: len(fake_comfyui.posted) == 2)
    await fake_comfyui.stop()
    for run in runs:
        with pytest.raises(WorkerLost) as caught:
            await run
        assert caught.value.retryable


async def test_closing_the_engine_ends_its_runs_as_lost(fake_comfyui, engine):
    await engine.start()
    fake_comfyui.accept.clear()
    posting = asyncio.create_task(collect(engine))
    await step(lambda: fake_comfyui.posted)
    await engine.close()
    with pytest.raises(WorkerLost):
        await posting
    fake_comfyui.accept.set()


async def test_a_server_that_is_started_again(fake_comfyui, engine, tmp_path):
    path = tmp_path / "a.png"
    path.write_bytes(PNG)
    files = {InputRef("1", "image"): path}
    await collect(engine, loading_prompt(), files)
    schemas = await engine.schemas()
    await fake_comfyui.stop()
    fake_comfyui.files.clear()
    fake_comfyui.classes["New"] = {"input": {"required": {}}, "output": [], "name": "New"}
    await step(lambda: not engine._connection.alive)
    assert not await engine.healthy()
    with pytest.raises(EngineUnavailable):
        await collect(engine, loading_prompt(), files)
    await fake_comfyui.start()
    assert await engine.healthy()
    assert produced(await collect(engine, loading_prompt(), files))
    assert len(fake_comfyui.uploads) == 2  # its input folder may be another
    assert "New" in await engine.schemas()
    assert "New" not in schemas


async def test_schemas_are_asked_for_once(fake_comfyui, engine):
    first, second = await engine.schemas(), await engine.schemas()
    assert first is second
    assert set(first) == set(fake_comfyui.classes)
    assert fake_comfyui.asked.count("GET /object_info") == 1


async def test_nobody_there(unused_tcp_port):
    engine = ComfyUIEngine(f"http://user:secret@127.0.0.1:{unused_tcp_port}")
    with pytest.raises(EngineUnavailable) as caught:
        await engine.start()
    await engine.close()
    assert f"no ComfyUI can be reached at http://127.0.0.1:{unused_tcp_port} (" in str(caught.value)
    assert "--comfyui" in str(caught.value)
    assert "secret" not in str(caught.value)
    assert not await engine.healthy()


@pytest.mark.parametrize(
    ("status", "text"), [(404, "is no ComfyUI"), (401, "wants credentials"), (502, "can be reached")]
)
async def test_something_else_there(status, text):
    from aiohttp import web
    from aiohttp.test_utils import TestServer

    async def answer(request):
        return web.Response(status=status)

    app = web.Application()
    app.add_routes([web.get("/{path:.*}", answer)])
    async with TestServer(app) as server:
        engine = ComfyUIEngine(f"127.0.0.1:{server.port}")
        with pytest.raises(EngineUnavailable, match=text):
            await engine.start()
        await engine.close()


@pytest.mark.parametrize("url", ["", "ftp://x", "http://", "http://[::1"])
def test_what_is_no_address(url):
    with pytest.raises(EngineUnavailable, match="no address") as caught:
        ComfyUIEngine(url)
    assert not caught.value.retryable


async def test_closed_is_closed(fake_comfyui, engine):
    await engine.start()
    await engine.close()
    with pytest.raises(EngineUnavailable, match="closed"):
        await collect(engine)
    assert not await engine.healthy()


async def test_the_first_message_asks_for_labels(fake_comfyui, engine):
    await engine.start()
    await engine.start()
    await step(lambda: fake_comfyui.features)
    assert fake_comfyui.features[0]["data"] == {"supports_preview_metadata": True}
    assert fake_comfyui.asked.count("GET /ws") == 1


async def test_many_start_at_once_with_one_socket(fake_comfyui, engine):
    await asyncio.gather(*(engine.start() for _ in range(10)))
    assert fake_comfyui.asked.count("GET /ws") == 1


async def test_a_slow_reader_loses_only_previews(fake_comfyui, engine):
    async def script(run):
        await run.begin()
        await run.executing("1")
        for number in range(2000):
            await run.send("progress", node="1", value=number, max=2000)
            await run.picture(b"x", labelled="1", png=False)
        await run.executed("2", {"text": ["kept"]})
        await run.success()

    fake_comfyui.script = script
    events = engine.run(picture_prompt(), files={})
    first = await anext(events)
    await step(lambda: all_ended(engine))
    rest = [event async for event in events]
    assert first == Started(node="1")
    assert len(rest) < 600
    assert [p.data for p in produced(rest)] == [b"kept"]
    assert rest[-1] == Finished()
