"""`ManagedComfyUI` and `ComfyUIEngine` with real ComfyUIs: what the fake server was written after."""

from __future__ import annotations

import asyncio
import io
import json
import os
import subprocess
import sys
from pathlib import Path

import aiohttp
import pytest
import pytest_asyncio
from PIL import Image

from comfy_atelier.engines import (
    Cached,
    Cancelled,
    ComfyUIEngine,
    Finished,
    InvalidPrompt,
    ManagedComfyUI,
    NodeFailed,
    OutOfMemory,
    Produced,
    Progress,
    Started,
    UnknownNodes,
    WorkerLost,
)
from comfy_atelier.graph import InputRef, Prompt

pytestmark = [pytest.mark.comfyui, pytest.mark.slow, pytest.mark.asyncio(loop_scope="module")]

# Nodes that these tests need and no ComfyUI has; the last as a server offers pictures over the socket.
NODES = """
import time
import torch
import comfy.model_management
import comfy.utils
from PIL import Image

class Slow:
    RETURN_TYPES = ("IMAGE",)
    FUNCTION = "run"
    CATEGORY = "test"
    @classmethod
    def INPUT_TYPES(cls):
        steps = ("INT", {"default": 3, "max": 100000})
        return {"required": {"image": ("IMAGE",), "steps": steps, "preview": ("BOOLEAN",)}}
    def run(self, image, steps, preview):
        bar = comfy.utils.ProgressBar(steps)
        for step in range(steps):
            comfy.model_management.throw_exception_if_processing_interrupted()
            time.sleep(0.02)
            bar.update_absolute(step + 1, steps, ("JPEG", Image.new("RGB", (8, 8)), 8) if preview else None)
        return (image,)

class Fails:
    RETURN_TYPES = ("IMAGE",)
    FUNCTION = "run"
    CATEGORY = "test"
    @classmethod
    def INPUT_TYPES(cls):
        return {"required": {"image": ("IMAGE",), "how": ("STRING",)}}
    def run(self, image, how):
        if how == "memory":
            raise torch.cuda.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")
        if how == "die":
            import os
            os._exit(9)
        raise ValueError("a test " + how)

class SaveImageWebsocket:
    RETURN_TYPES = ()
    FUNCTION = "run"
    OUTPUT_NODE = True
    CATEGORY = "test"
    @classmethod
    def INPUT_TYPES(cls):
        return {"required": {"images": ("IMAGE",)}}
    @classmethod
    def IS_CHANGED(cls, images):
        return float("nan")
    def run(self, images):
        bar = comfy.utils.ProgressBar(len(images))
        for number, image in enumerate(images):
            picture = Image.fromarray((image * 255.0).clamp(0, 255).byte().cpu().numpy())
            bar.update_absolute(number, len(images), ("PNG", picture, None))
        return {}

NODE_CLASS_MAPPINGS = {"TestSlow": Slow, "TestFails": Fails, "SaveImageWebsocket": SaveImageWebsocket}
"""

EMPTY = {"class_type": "EmptyImage", "inputs": {"width": 64, "height": 48, "batch_size": 1, "color": 0x123456}}
SAVE = {"class_type": "SaveImage", "inputs": {"images": ["1", 0], "filename_prefix": "real"}}


def prompt(**nodes):
    return Prompt.from_json({"1": EMPTY, **{name.strip("n"): node for name, node in nodes.items()}})


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def comfyui(comfyui_install, tmp_path_factory):
    """A running ComfyUI with the nodes above; its folder is `comfyui.folder`."""
    folder = tmp_path_factory.mktemp("comfyui")
    (folder / "custom_nodes").mkdir()
    (folder / "custom_nodes" / "test_nodes.py").write_text(NODES)
    engine = ManagedComfyUI(
        comfyui_install.path,
        python=comfyui_install.python,
        device="cpu",
        folder=folder,
        log=folder / "comfyui.log",
        arguments=("--extra-model-paths-config", str(folder / "nodes.yaml")),
    )
    (folder / "nodes.yaml").write_text(json.dumps({"test": {"custom_nodes": str(folder / "custom_nodes")}}))
    await engine.start()
    yield engine
    await engine.close()


@pytest.fixture(params=["view", "socket"])
def way(request):
    return request.param


@pytest_asyncio.fixture(loop_scope="module")
async def client(comfyui, way):
    engine = ComfyUIEngine(comfyui.url, metadata=way == "view")
    yield engine
    await engine.close()


async def collect(engine, prompt, files=None):
    return [event async for event in engine.run(prompt, files=files or {})]


def pictures(events):
    found = [event for event in events if isinstance(event, Produced) and event.output == "images"]
    return [Image.open(io.BytesIO(event.data)) for event in found]


async def test_both_ways_give_the_picture(client, way):
    events = await collect(client, prompt(n2=SAVE))
    (picture,) = pictures(events)
    assert (picture.size, picture.mode, picture.getpixel((3, 3))) == ((64, 48), "RGB", (0x12, 0x34, 0x56))
    assert ("prompt" in picture.info) is (way == "view")
    assert events[-1] == Finished()


async def test_a_batch(client):
    empty = {"class_type": "EmptyImage", "inputs": {**EMPTY["inputs"], "batch_size": 5}}
    events = await collect(client, Prompt.from_json({"1": empty, "2": SAVE}))
    assert len(pictures(events)) == 5
    assert [event.index for event in events if isinstance(event, Produced)] == list(range(5))


async def test_nothing_but_cached(client):
    nodes = prompt(n2=SAVE, n3={"class_type": "PreviewAny", "inputs": {"source": "cached, too"}})
    first = await collect(client, nodes)
    second = await collect(client, nodes)
    assert [event for event in second if isinstance(event, Cached)]
    for events in (first, second):
        (picture,) = pictures(events)
        assert picture.getpixel((0, 0)) == (0x12, 0x34, 0x56)
        assert [e.data for e in events if isinstance(e, Produced) and e.output == "text"] == [b"cached, too"]


async def test_a_deleted_output_is_made_again(comfyui):
    engine = ComfyUIEngine(comfyui.url, metadata=True)
    save = {"class_type": "SaveImage", "inputs": {"images": ["1", 0], "filename_prefix": "sub/deleted"}}
    await collect(engine, prompt(n2=save))
    for path in (comfyui._folders.output / "sub").glob("deleted*.png"):
        path.unlink()
    events = await collect(engine, prompt(n2=save))
    await engine.close()
    assert len(pictures(events)) == 1


async def test_temporary_pictures(client):
    preview = {"class_type": "PreviewImage", "inputs": {"images": ["1", 0]}}
    (event,) = [e for e in await collect(client, prompt(n2=preview)) if isinstance(e, Produced)]
    assert event.temporary


async def test_progress_and_previews_are_the_nodes(client, way):
    empty = {
        "class_type": "EmptyImage",
        "inputs": {**EMPTY["inputs"], "color": len(way)},
    }  # not cached by the other way
    slow = {"class_type": "TestSlow", "inputs": {"image": ["1", 0], "steps": 4, "preview": True}}
    save = {**SAVE, "inputs": {**SAVE["inputs"], "images": ["2", 0]}}
    events = await collect(client, Prompt.from_json({"1": empty, "2": slow, "3": save}))
    steps = [
        event.value for event in events if isinstance(event, Progress) and event.node == "2" and event.maximum == 4
    ]
    assert steps == [1, 2, 3, 4]
    assert len([e for e in events if type(e).__name__ == "Preview" and e.node == "2"]) == 4
    assert Started(node="2") in events
    assert len(pictures(events)) == 1


async def test_an_upload(client, tmp_path):
    path = tmp_path / "no suffix"
    Image.new("RGB", (32, 32), (9, 8, 7)).save(path, format="PNG")
    nodes = Prompt.from_json({"1": {"class_type": "LoadImage", "inputs": {"image": "x.png"}}, "2": SAVE})
    for _ in range(2):
        (picture,) = pictures(await collect(client, nodes, {InputRef("1", "image"): path}))
        assert picture.getpixel((0, 0)) == (9, 8, 7)


async def test_an_upload_that_was_deleted(comfyui, client, tmp_path):
    path = tmp_path / "a.png"
    Image.new("RGB", (32, 32), (1, 2, 3)).save(path)
    nodes = Prompt.from_json({"1": {"class_type": "LoadImage", "inputs": {"image": "x.png"}}, "2": SAVE})
    await collect(client, nodes, {InputRef("1", "image"): path})
    for uploaded in (comfyui._folders.root / "input").glob("*.png"):
        uploaded.unlink()
    (picture,) = pictures(await collect(client, nodes, {InputRef("1", "image"): path}))
    assert picture.getpixel((0, 0)) == (1, 2, 3)


async def test_what_is_wrong_with_a_prompt(client):
    wide = {"class_type": "EmptyImage", "inputs": {**EMPTY["inputs"], "width": 10**9}}
    with pytest.raises(InvalidPrompt) as caught:
        await collect(client, Prompt.from_json({"1": wide, "2": SAVE}))
    (error,) = caught.value.errors
    assert (error.node_id, error.class_type, error.input_name) == ("1", "EmptyImage", "width")
    with pytest.raises(UnknownNodes) as unknown:
        await collect(
            client, prompt(n2=SAVE, n3={"class_type": "NoSuch", "inputs": {}}, n4={"class_type": "Nor", "inputs": {}})
        )
    assert unknown.value.classes == ("NoSuch", "Nor")
    with pytest.raises(InvalidPrompt, match="no output node"):
        await collect(client, prompt())


async def test_half_a_prompt_is_not_run(comfyui, client):
    bad = {"class_type": "SaveImage", "inputs": {"images": ["1", 0]}}  # lacks filename_prefix
    good = {"class_type": "PreviewAny", "inputs": {"source": "x"}}
    client._metadata = True
    with pytest.raises(InvalidPrompt, match="Required input is missing"):
        await collect(client, prompt(n2=bad, n3=good))
    assert (await collect(client, prompt(n2=SAVE)))[-1] == Finished()


async def test_nodes_that_fail(client):
    def fails(how):
        return prompt(
            n2={"class_type": "TestFails", "inputs": {"image": ["1", 0], "how": how}},
            n3={**SAVE, "inputs": {"images": ["2", 0], "filename_prefix": "x"}},
        )

    with pytest.raises(NodeFailed, match=r"node 2 \(TestFails\): a test failure") as caught:
        await collect(client, fails("failure"))
    assert caught.value.exception_type == "ValueError"
    assert "test_nodes.py" in caught.value.traceback
    with pytest.raises(OutOfMemory):
        await collect(client, fails("memory"))


def slow_prompt(color, steps):
    empty = {"class_type": "EmptyImage", "inputs": {**EMPTY["inputs"], "color": color}}
    slow = {"class_type": "TestSlow", "inputs": {"image": ["1", 0], "steps": steps, "preview": False}}
    save = {"class_type": "SaveImage", "inputs": {"images": ["2", 0], "filename_prefix": "slow"}}
    return Prompt.from_json({"1": empty, "2": slow, "3": save})


async def until_begun(events):
    async for event in events:
        if isinstance(event, Progress):
            return


async def test_cancelling_stops_this_prompt_and_no_other(client):
    running = client.run(slow_prompt(1, 100_000), files={})
    await until_begun(running)
    waiting = asyncio.create_task(collect(client, slow_prompt(2, 100_000)))
    other = asyncio.create_task(collect(client, slow_prompt(3, 3)))
    connection = client._connection
    async with asyncio.timeout(20):
        while sum(execution.posted for execution in connection._executions.values()) < 3:
            await asyncio.sleep(0.01)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    await running.aclose()
    async with asyncio.timeout(60):
        events = await other
    assert pictures(events)[0].getpixel((0, 0)) == (0, 0, 3)


async def test_interrupted_from_elsewhere(client):
    running = client.run(slow_prompt(4, 100_000), files={})
    await until_begun(running)
    async with aiohttp.ClientSession() as session, session.post(client.url + "/interrupt", json={}) as response:
        assert response.status == 200
    with pytest.raises(Cancelled):
        await until_end(running)


async def test_removed_from_elsewhere(client):
    running = client.run(slow_prompt(5, 100_000), files={})
    await until_begun(running)
    waiting = asyncio.create_task(collect(client, slow_prompt(6, 3)))
    async with asyncio.timeout(20):
        while sum(execution.posted for execution in client._connection._executions.values()) < 2:
            await asyncio.sleep(0.01)
    async with (
        aiohttp.ClientSession() as session,
        session.post(client.url + "/queue", json={"clear": True}) as response,
    ):
        assert response.status == 200
    async with asyncio.timeout(20):
        with pytest.raises(Cancelled, match="another client removed it"):
            await waiting
    await running.aclose()


async def until_end(events):
    async for _ in events:
        pass


async def test_other_clients_prompts_are_not_ours(client):
    async def foreign():
        async with aiohttp.ClientSession() as session:
            for color in range(20):  # without a client id: its messages go to everybody
                empty = {"class_type": "EmptyImage", "inputs": {**EMPTY["inputs"], "color": color}}
                nodes = {"1": empty, "2": SAVE}
                async with session.post(client.url + "/prompt", json={"prompt": nodes}) as response:
                    assert response.status == 200

    async def ours(color):
        nodes = prompt(n2=SAVE).to_json()
        nodes["1"] = {"class_type": "EmptyImage", "inputs": {**EMPTY["inputs"], "color": color}}
        (picture,) = pictures(await collect(client, Prompt.from_json(nodes)))
        return picture.getpixel((0, 0))

    results = await asyncio.gather(foreign(), *(ours(color << 8) for color in range(20)))
    assert results[1:] == [(0, color, 0) for color in range(20)]


async def test_schemas(client):
    schemas = await client.schemas()
    assert {"EmptyImage", "SaveImage", "KSampler", "TestSlow"} <= set(schemas)
    assert schemas["EmptyImage"].input("width").type == "INT"


async def test_a_job_that_kills_the_server(comfyui):
    dies = {"class_type": "TestFails", "inputs": {"image": ["1", 0], "how": "die"}}
    nodes = prompt(n2=dies, n3={**SAVE, "inputs": {"images": ["2", 0], "filename_prefix": "x"}})
    with pytest.raises(WorkerLost, match=r"ended with code 9 while the job ran.*comfyui\.log"):
        await collect(comfyui, nodes)
    events = await collect(comfyui, prompt(n2=SAVE))
    assert len(pictures(events)) == 1


async def test_no_orphan_after_kill_9(comfyui_install, tmp_path):
    code = f"""
import asyncio
from pathlib import Path
from comfy_atelier.engines import ManagedComfyUI

async def main():
    engine = ManagedComfyUI(
        Path({str(comfyui_install.path)!r}), python={str(comfyui_install.python)!r}, device="cpu",
        log=Path({str(tmp_path / "log")!r}), arguments=("--disable-api-nodes",),
    )
    await engine.start()
    print(engine.pid, flush=True)
    await asyncio.sleep(600)

asyncio.run(main())
"""
    parent = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    assert parent.stdout is not None
    pid = int(await asyncio.to_thread(parent.stdout.readline))
    os.kill(pid, 0)
    parent.kill()
    parent.wait()
    parent.stdout.close()
    async with asyncio.timeout(30):
        while _alive(pid):
            await asyncio.sleep(0.05)


def _alive(pid):
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    stat = Path(f"/proc/{pid}/stat")
    return not stat.is_file() or stat.read_text().rsplit(")", 1)[1].split()[0] != "Z"
