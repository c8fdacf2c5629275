"""`ManagedComfyUI` with a stand-in for ComfyUI's ``main.py``: starting, falling, starting again, leaving no orphan."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from comfy_atelier.engines import EngineUnavailable, Finished, ManagedComfyUI, Produced, WorkerLost
from comfy_atelier.engines.comfyui import install as install_module
from comfy_atelier.engines.comfyui import process as process_module
from comfy_atelier.engines.comfyui.install import Folders, child_environment, command, find_install, write_paths
from comfy_atelier.engines.comfyui.process import tidy
from comfy_atelier.graph import Prompt

# Enough of ComfyUI to be started, told a prompt, and killed by one (class "Die").
MAIN = """
import argparse, asyncio, json, os, sys
from pathlib import Path
from aiohttp import web

parser = argparse.ArgumentParser()
parser.add_argument("--listen")
parser.add_argument("--port")
parser.add_argument("--input-directory")
parser.add_argument("--output-directory")
parser.add_argument("--user-directory")
parser.add_argument("--cpu", action="store_true")
parser.add_argument("--fail")
args = parser.parse_args()
here = Path(__file__).parent
with (here / "starts").open("a") as file:
    file.write(json.dumps({"pid": os.getpid(), "args": sys.argv, "cwd": os.getcwd(), "env": dict(os.environ)}) + "\\n")
if args.fail == "import":
    import no_such_module
if args.fail == "cuda" and not args.cpu:
    raise AssertionError("Torch not compiled with CUDA enabled")
assert sys.stdin.read() == ""
sockets = {}

async def ws(request):
    socket = web.WebSocketResponse()
    await socket.prepare(request)
    sockets[request.query["clientId"]] = socket
    async for _ in socket:
        pass
    return socket

async def post(request):
    body = await request.json()
    if any(node["class_type"] == "Die" for node in body["prompt"].values()):
        print("the last words", flush=True)
        os._exit(7)
    async def say():
        name = {"prompt_id": body["prompt_id"]}
        executed = {"node": "1", "output": {"text": ["x"]}}
        for kind, data in [("execution_start", {}), ("executed", executed), ("execution_success", {})]:
            await sockets[body["client_id"]].send_json({"type": kind, "data": {**name, **data}})
    asyncio.ensure_future(say())
    return web.json_response({"prompt_id": body["prompt_id"], "node_errors": {}})

async def empty(request):
    return web.json_response({})

app = web.Application()
app.add_routes([web.get("/ws", ws), web.post("/prompt", post), web.get("/{path:.*}", empty)])
web.run_app(app, host=args.listen, port=int(args.port), print=None)
"""


@pytest.fixture
def folder(tmp_path):
    folder = tmp_path / "ComfyUI"
    (folder / "comfy").mkdir(parents=True)
    (folder / "main.py").write_text(MAIN)
    (folder / "execution.py").touch()
    (folder / "comfy" / "cli_args.py").write_text(MAIN)
    return folder


@pytest.fixture
def quick(monkeypatch):
    """No waiting between a fall and the next start."""
    monkeypatch.setattr(process_module, "_LONGEST_WAIT", 0.0)


def managed(comfyui, tmp_path, **more):
    return ManagedComfyUI(comfyui, python=sys.executable, device="cpu", log=tmp_path / "comfyui.log", **more)


def prompt(class_type="Text"):
    return Prompt.from_json({"1": {"class_type": class_type, "inputs": {}}})


def starts(folder):
    return [json.loads(line) for line in (folder / "starts").read_text().splitlines()]


async def collect(engine, class_type="Text"):
    return [event async for event in engine.run(prompt(class_type), files={})]


async def until(condition):
    async with asyncio.timeout(30):
        while not condition():
            await asyncio.sleep(0.01)


async def test_started_used_and_stopped(folder, tmp_path, monkeypatch):
    monkeypatch.setenv("ATELIER_API_KEYS", "secret")
    monkeypatch.setenv("PYTHONHOME", "")
    engine = managed(folder, tmp_path, arguments=("--fail", "no"))
    assert not await engine.healthy()
    await engine.start()
    await engine.start()
    (start,) = starts(folder)
    private = Path(start["args"][start["args"].index("--output-directory") + 1]).parent
    try:
        assert await engine.healthy()
        assert [type(event) for event in await collect(engine)] == [Produced, Finished]
        assert start["args"][0] == str(folder / "main.py")
        assert start["args"][-3:] == ["--cpu", "--fail", "no"]
        assert Path(start["cwd"]) == folder
        assert "ATELIER_API_KEYS" not in start["env"]
        assert "PYTHONHOME" not in start["env"]
        assert start["args"][start["args"].index("--listen") + 1] == "127.0.0.1"
        assert (private / "input").is_dir()
    finally:
        await engine.close()
    assert engine.pid is None
    assert not private.exists()
    with pytest.raises(EngineUnavailable, match="stopped"):
        await engine.start()


async def test_a_given_folder_stays(folder, tmp_path):
    engine = managed(folder, tmp_path, folder=tmp_path / "mine")
    await engine.start()
    await engine.close()
    assert (tmp_path / "mine" / "output").is_dir()


async def test_a_job_that_kills_it(folder, tmp_path, quick):
    engine = managed(folder, tmp_path)
    try:
        with pytest.raises(WorkerLost) as caught:
            await collect(engine, "Die")
        assert "ended with code 7 while the job ran" in str(caught.value)
        assert "the last words" in str(caught.value)
        assert str(tmp_path / "comfyui.log") in str(caught.value)
        assert (await collect(engine))[-1] == Finished()
        assert len(starts(folder)) == 2
    finally:
        await engine.close()


@pytest.mark.skipif(os.name != "posix", reason="signals are POSIX's")
async def test_it_is_started_again_by_itself(folder, tmp_path, quick):
    engine = managed(folder, tmp_path)
    try:
        await engine.start()
        os.kill(engine.pid, signal.SIGKILL)
        await until(lambda: len(starts(folder)) == 2)
        async with asyncio.timeout(30):
            while not await engine.healthy():
                await asyncio.sleep(0.01)
        assert (await collect(engine))[-1] == Finished()
    finally:
        await engine.close()


async def test_waits_grow(folder, tmp_path):
    engine = managed(folder, tmp_path)
    now = asyncio.get_running_loop().time()
    waits = []
    for _ in range(9):
        engine._fell(1.0)
        waits.append(round(engine._not_before - now))
    assert waits == [1, 2, 4, 8, 16, 32, 60, 60, 60]
    engine._fell(120.0)
    assert round(engine._not_before - now) == 1
    await engine.close()


async def test_a_start_that_fails(folder, tmp_path):
    engine = managed(folder, tmp_path, arguments=("--fail", "import"))
    with pytest.raises(EngineUnavailable) as caught:
        await engine.start()
    await engine.close()
    text = str(caught.value)
    assert "ended with code 1 while it started" in text
    assert "ModuleNotFoundError: No module named 'no_such_module'" in text
    assert "requirements" in text
    assert str(tmp_path / "comfyui.log") in text
    assert engine.pid is None


async def test_a_start_that_takes_too_long(folder, tmp_path):
    (folder / "main.py").write_text("import time; print('thinking', flush=True); time.sleep(60)")
    engine = managed(folder, tmp_path, start_timeout=0.5)
    with pytest.raises(EngineUnavailable, match="does not listen after"):
        await engine.start()
    await engine.close()
    assert engine.pid is None


async def test_without_a_device_the_cpu(folder, tmp_path, monkeypatch):
    monkeypatch.setattr(process_module, "has_accelerator", lambda environment: True)
    engine = ManagedComfyUI(folder, python=sys.executable, log=tmp_path / "comfyui.log", arguments=("--fail", "cuda"))
    await engine.start()
    await engine.close()
    assert ["--cpu" in start["args"] for start in starts(folder)] == [False, True]


@pytest.mark.skipif(os.name != "posix", reason="looks for a process the POSIX way")
async def test_no_orphan_after_kill_9(folder, tmp_path):
    code = f"""
import asyncio, sys
from pathlib import Path
from comfy_atelier.engines import ManagedComfyUI

async def main():
    folder, log = Path({str(folder)!r}), Path({str(tmp_path / "log")!r})
    engine = ManagedComfyUI(folder, python=sys.executable, device="cpu", log=log)
    await engine.start()
    print(engine.pid, engine._folders.root, flush=True)
    await asyncio.sleep(600)

asyncio.run(main())
"""
    parent = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    assert parent.stdout is not None
    pid, private = (await asyncio.to_thread(parent.stdout.readline)).split(maxsplit=1)
    assert is_alive(int(pid))
    parent.kill()
    parent.wait()
    parent.stdout.close()
    await until(lambda: not is_alive(int(pid)))
    await until(lambda: not Path(private.strip()).exists())


def is_alive(pid):
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    stat = Path(f"/proc/{pid}/stat")  # an orphan that ended may wait for its new parent
    return not stat.is_file() or stat.read_text().rsplit(")", 1)[1].split()[0] != "Z"


# Where things are ---------------------------------------------------------------------------------------------------


def test_only_options_that_this_version_has(folder, tmp_path):
    install = find_install(folder, sys.executable)
    line = command(install, Folders(root=tmp_path), port=5, cpu=False, remove=True)
    assert line[0] == sys.executable
    assert line[1].endswith("launch.py")
    assert line[2:4] == [str(tmp_path), str(folder / "main.py")]
    assert [word for word in line if word.startswith("--")] == [
        "--listen",
        "--port",
        "--input-directory",
        "--output-directory",
        "--user-directory",
    ]


def test_its_own_python_comes_first(folder):
    python = folder / ("venv/Scripts/python.exe" if os.name == "nt" else "venv/bin/python")
    python.parent.mkdir(parents=True)
    python.touch()
    assert find_install(folder).python == python


def test_no_python(folder, monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(EngineUnavailable, match="--comfyui-python"):
        find_install(folder)
    with pytest.raises(EngineUnavailable, match="no Python that can be started"):
        find_install(folder, "/no/such/python")


def test_model_folders_and_the_pack_are_told(folder, tmp_path, monkeypatch):
    package = tmp_path / "package"
    (package / "custom_nodes").mkdir(parents=True)
    (package / "custom_nodes" / "__init__.py").touch()
    monkeypatch.setattr(install_module, "_PACKAGE", package)
    models = tmp_path / "models"
    (models / "loras").mkdir(parents=True)
    (models / "vae").mkdir()
    folders = Folders(root=tmp_path / "private")
    folders.create()
    for _ in range(2):
        write_paths(folders, find_install(folder, sys.executable), [models, tmp_path / "none"])
    assert json.loads((folders.root / "paths.yaml").read_text()) == {
        "models_0": {"base_path": str(models), "loras": "loras", "vae": "vae"},
        "node_pack": {"custom_nodes": str(folders.root / "custom_nodes")},
    }
    assert (folders.root / "custom_nodes" / "comfy_atelier" / "custom_nodes" / "__init__.py").is_file()


def test_a_pack_that_is_there_is_not_added(folder, tmp_path, monkeypatch):
    package = tmp_path / "package"
    there = folder / "custom_nodes" / "ComfyAtelier"
    for place in (package, there):
        (place / "custom_nodes").mkdir(parents=True)
        (place / "custom_nodes" / "__init__.py").touch()
        (place / "graph").mkdir()
        (place / "graph" / "markers.py").touch()
    monkeypatch.setattr(install_module, "_PACKAGE", package)
    folders = Folders(root=tmp_path / "private")
    folders.create()
    write_paths(folders, find_install(folder, sys.executable), [])
    assert json.loads((folders.root / "paths.yaml").read_text()) == {"none": None}


def test_a_device_is_pinned():
    environment = {"PATH": "x", "ATELIER_X": "1", "VIRTUAL_ENV": "v", "CUDA_VISIBLE_DEVICES": "0,1"}
    pinned = child_environment(environment, "1")
    assert pinned["CUDA_VISIBLE_DEVICES"] == "1"
    assert {"ATELIER_X", "VIRTUAL_ENV"} & set(pinned) == set()
    assert child_environment(environment, "cpu")["CUDA_VISIBLE_DEVICES"] == "0,1"


def test_tidy_keeps_the_newest(tmp_path):
    (tmp_path / "sub").mkdir()
    for number in range(6):
        path = tmp_path / ("sub" if number % 2 else "") / f"{number}.png"
        path.write_bytes(b"12345")
        os.utime(path, ns=(number, number))
    tidy(tmp_path, files=4, size=100)
    assert sorted(path.name for path in tmp_path.rglob("*.png")) == ["2.png", "3.png", "4.png", "5.png"]
    tidy(tmp_path, files=4, size=10)
    assert sorted(path.name for path in tmp_path.rglob("*.png")) == ["4.png", "5.png"]
