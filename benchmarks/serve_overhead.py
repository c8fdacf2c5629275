"""What our HTTP service costs on top of ComfyUI, beside a plain client of it and comfy-pack's service on it.

The workflow is EmptyImage 64x64 -> save. Every call has another colour, and every picture that comes back is checked
for it, so that no cache can answer. Rounds alternate between the sides; medians and their ratios are printed.

    python benchmarks/serve_overhead.py [--comfyui PATH=PYTHON | --url URL] [--comfy-pack PYTHON] [--rounds 5]

Without --comfyui or --url the first pair of ATELIER_TEST_COMFYUI is started. --comfy-pack names a Python with
comfy-pack 0.4.4 and bentoml; its nodes need not be there: the ComfyUI that is started gets stand-ins of them.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import io
import itertools
import json
import os
import random
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path

import aiohttp
from PIL import Image

from comfy_atelier.api.serving import free_port
from comfy_atelier.engines import ManagedComfyUI

# The workflow for both services: markers that comfy-pack reads and so do we.
WORKFLOW = {
    "1": {
        "class_type": "EmptyImage",
        "inputs": {"width": 64, "height": 64, "batch_size": 1, "color": ["3", 0]},
        "_meta": {"title": "Empty"},
    },
    "2": {
        "class_type": "CPackOutputImage",
        "inputs": {"images": ["1", 0], "filename_prefix": "bench"},
        "_meta": {"title": "picture"},
    },
    "3": {
        "class_type": "CPackInputInt",
        "inputs": {"value": 0, "min": 0, "max": 0xFFFFFF},
        "_meta": {"title": "color"},
    },
}

# What comfy-pack's two classes do, for a ComfyUI that lacks them.
STAND_INS = """
import numpy
from PIL import Image

class Integer:
    RETURN_TYPES, FUNCTION, CATEGORY = ("INT",), "run", "benchmark"
    @classmethod
    def INPUT_TYPES(cls):
        number = ("INT", {"default": 0, "min": -2**63, "max": 2**63})
        return {"required": {"value": number}, "optional": {"min": number, "max": number}}
    def run(self, value, min=0, max=0):
        return (value,)

class Picture:
    RETURN_TYPES, FUNCTION, CATEGORY, OUTPUT_NODE = (), "run", "benchmark", True
    @classmethod
    def INPUT_TYPES(cls):
        return {"required": {"images": ("IMAGE",), "filename_prefix": ("STRING", {"default": "x"})}}
    def run(self, images, filename_prefix):
        for number, image in enumerate(images):
            pixels = (image.cpu().numpy() * 255.0).clip(0, 255).astype(numpy.uint8)
            Image.fromarray(pixels).save(f"{filename_prefix}{number:05}_.png", compress_level=4)
        return {"ui": {"images": []}}

NODE_CLASS_MAPPINGS = {"CPackInputInt": Integer, "CPackOutputImage": Picture}
"""

Call = Callable[[int], Awaitable[bytes]]
Open = Callable[[], "contextlib.AbstractAsyncContextManager[Call]"]


@dataclass(kw_only=True)
class Side:
    """One way to get the picture; `open` gives a caller with its own connections. Figures by callers at once."""

    name: str
    open: Open
    share: float = 1.0  # of the calls: a side that takes seconds gets fewer
    latencies: dict[int, list[float]] = field(default_factory=dict)  # ms, the p50 of each round
    rates: dict[int, list[float]] = field(default_factory=dict)  # calls/s of each round


def plain(url: str) -> Open:
    """A client as ComfyUI's own example is one: post, socket, history, view."""

    @contextlib.asynccontextmanager
    async def open_() -> AsyncIterator[Call]:
        client_id = uuid.uuid4().hex
        async with aiohttp.ClientSession(url) as session, session.ws_connect(f"/ws?clientId={client_id}") as socket:

            async def call(color: int) -> bytes:
                nodes = {
                    "1": {
                        "class_type": "EmptyImage",
                        "inputs": {"width": 64, "height": 64, "batch_size": 1, "color": color},
                    },
                    "2": {"class_type": "SaveImage", "inputs": {"images": ["1", 0], "filename_prefix": "plain"}},
                }
                async with session.post("/prompt", json={"prompt": nodes, "client_id": client_id}) as response:
                    prompt_id = (await response.json())["prompt_id"]
                async for frame in socket:
                    if frame.type is not aiohttp.WSMsgType.TEXT:
                        continue
                    message = json.loads(frame.data)
                    data = message["data"]
                    if message["type"] == "executing" and data["node"] is None and data["prompt_id"] == prompt_id:
                        break
                async with session.get(f"/history/{prompt_id}") as response:
                    image = (await response.json())[prompt_id]["outputs"]["2"]["images"][0]
                async with session.get("/view", params=image) as response:
                    return await response.read()

            yield call

    return open_


def http(url: str) -> Open:
    """A caller of a service: one POST, the picture comes back."""

    @contextlib.asynccontextmanager
    async def open_() -> AsyncIterator[Call]:
        timeout = aiohttp.ClientTimeout(total=300)
        async with aiohttp.ClientSession(headers={"Accept": "image/png"}, timeout=timeout) as session:

            async def call(color: int) -> bytes:
                async with session.post(url, json={"color": color}) as response:
                    body = await response.read()
                    if response.status != 200:
                        raise SystemExit(f"{url} answers {response.status}: {body[:300]!r}")
                    return body

            yield call

    return open_


async def measure(side: Side, callers: int, calls: int) -> None:
    """One round: so many calls by so many callers at once; the pictures are checked when the clock has stopped."""
    colors = random.Random(time.monotonic_ns()).sample(range(1, 1 << 24), max(callers, round(calls * side.share)))
    queue = iter(colors)
    results: list[tuple[int, bytes, float]] = []

    async def caller(call: Call) -> None:
        for color in queue:
            began = time.perf_counter()
            body = await call(color)
            results.append((color, body, time.perf_counter() - began))

    async with contextlib.AsyncExitStack() as stack:
        opened = [await stack.enter_async_context(side.open()) for _ in range(callers)]
        began = time.perf_counter()
        await asyncio.gather(*(caller(call) for call in opened))
        took = time.perf_counter() - began
    for color, body, _ in results:
        pixel = Image.open(io.BytesIO(body)).convert("RGB").getpixel((31, 31))
        if pixel != (color >> 16, color >> 8 & 255, color & 255):
            raise SystemExit(f"{side.name}: asked for colour {color:06x}, got {pixel}")
    side.latencies.setdefault(callers, []).append(statistics.median(result[2] for result in results) * 1000)
    side.rates.setdefault(callers, []).append(len(results) / took)


@contextlib.contextmanager
def server(command: list[str], log: Path, **options: object):
    """A process of its own, ended with its children."""
    with log.open("wb") as out:
        process = subprocess.Popen(
            command, stdout=out, stderr=subprocess.STDOUT, start_new_session=os.name == "posix", **options
        )
    try:
        yield process
    finally:
        if os.name == "posix":
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGTERM)
        else:
            process.terminate()
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


async def ready(url: str, process: subprocess.Popen, log: Path, *, seconds: float = 180) -> None:
    """Wait until a service answers 200."""
    end = time.monotonic() + seconds
    async with aiohttp.ClientSession() as session:
        while time.monotonic() < end:
            if process.poll() is not None:
                raise RuntimeError(f"ended with code {process.returncode}: {log.read_text(errors='replace')[-800:]}")
            with contextlib.suppress(aiohttp.ClientError, OSError):
                async with session.get(url) as response:
                    if response.status == 200:
                        return
            await asyncio.sleep(0.1)
    raise RuntimeError(f"not ready after {seconds:.0f} s: {log.read_text(errors='replace')[-800:]}")


async def our_service(stack: contextlib.AsyncExitStack, folder: Path, name: str, engine: list[str]) -> Side:
    """Our service as a user starts it."""
    port = free_port()
    workflow = folder / "workflow_api.json"
    log = folder / f"{name}.log"
    command = [sys.executable, "-m", "comfy_atelier.cli.main", "serve", str(workflow), "--port", str(port)]
    command += ["--data-dir", str(folder / name), *engine]
    process = stack.enter_context(server(command, log, cwd=folder))
    await ready(f"http://127.0.0.1:{port}/health/ready", process, log)
    return Side(name=name, open=http(f"http://127.0.0.1:{port}/generate"))


def installed_comfy_pack(python: str) -> list[str]:
    """Where a Python has comfy-pack, and its version."""
    code = (
        "import comfy_pack; from importlib.metadata import version; "
        "print(comfy_pack.__file__); print(version('comfy-pack'))"
    )
    return subprocess.run([python, "-c", code], capture_output=True, text=True, check=True).stdout.split()


async def comfy_pack(stack: contextlib.AsyncExitStack, folder: Path, python: str, url: str) -> Side:
    """comfy-pack's own ``service.py``, attached to the same ComfyUI."""
    found = await asyncio.to_thread(installed_comfy_pack, python)
    place = folder / "comfy-pack"
    place.mkdir()
    shutil.copy(Path(found[0]).parent / "service.py", place / "service.py")
    shutil.copy(folder / "workflow_api.json", place)
    (place / "snapshot.json").write_text("{}")
    port = free_port()
    path = os.pathsep.join([str(Path(python).parent), os.environ.get("PATH", "")])
    environment = {
        **os.environ,
        "PATH": path,
        "COMFYUI_SERVER": url.removeprefix("http://"),
        "BENTOML_DO_NOT_TRACK": "true",
        "BENTOML_HOME": str(folder / "bentoml"),
        "HOME": str(folder),
        "CUDA_VISIBLE_DEVICES": "",
    }
    log = folder / "comfy-pack.log"
    command = [python, "-m", "bentoml", "serve", "service:ComfyService", "--port", str(port)]
    process = stack.enter_context(server(command, log, cwd=place, env=environment))
    await ready(f"http://127.0.0.1:{port}/readyz", process, log)
    return Side(name=f"comfy-pack {found[1]}", open=http(f"http://127.0.0.1:{port}/generate"), share=0.05)


def report(sides: list[Side], levels: list[int]) -> None:
    """The table: medians over the rounds, and what they are of the plain client's."""
    base = sides[0]
    print(f"{'':24}" + "".join(f"{f'by {n}: p50 ms':>18}{'x plain':>9}{'calls/s':>10}{'x plain':>9}" for n in levels))
    for side in sides:
        row = f"{side.name:24}"
        for level in levels:
            if level not in side.rates:
                row += f"{'-':>18}{'':>9}{'-':>10}{'':>9}"
                continue
            latency, rate = statistics.median(side.latencies[level]), statistics.median(side.rates[level])
            latency_ratio = latency / statistics.median(base.latencies[level])
            rate_ratio = rate / statistics.median(base.rates[level])
            row += f"{latency:>18.2f}{latency_ratio:>9.2f}{rate:>10.1f}{rate_ratio:>9.2f}"
        print(row)


async def main(options: argparse.Namespace) -> None:
    async with contextlib.AsyncExitStack() as stack:
        folder = Path(
            stack.enter_context(tempfile.TemporaryDirectory(prefix="atelier-bench-", ignore_cleanup_errors=True))
        )
        (folder / "workflow_api.json").write_text(json.dumps(WORKFLOW))
        url = options.url
        if url is None:
            pair = options.comfyui or os.environ.get("ATELIER_TEST_COMFYUI", "").split(os.pathsep)[0]
            if "=" not in pair:
                raise SystemExit("no ComfyUI: give --comfyui PATH=PYTHON or --url, or set ATELIER_TEST_COMFYUI")
            path, python = pair.split("=", 1)
            nodes = folder / "nodes"
            nodes.mkdir()
            (nodes / "stand_ins.py").write_text(STAND_INS)
            (folder / "nodes.yaml").write_text(json.dumps({"bench": {"custom_nodes": str(nodes)}}))
            engine = ManagedComfyUI(
                Path(path),
                python=python,
                folder=folder / "comfyui",
                log=folder / "comfyui.log",
                arguments=("--extra-model-paths-config", str(folder / "nodes.yaml")),
            )
            stack.push_async_callback(engine.close)
            print(f"starting ComfyUI in {path} …", flush=True)
            await engine.start()
            url = engine.url
        sides = [Side(name="plain client", open=plain(url))]
        sides.append(await our_service(stack, folder, "ours (comfyui)", ["--comfyui", url]))
        try:
            sides.append(await our_service(stack, folder, "ours (embedded)", ["--engine", "embedded"]))
        except RuntimeError as error:
            print(f"the embedded engine is left out: {error}")
        if options.comfy_pack is None:
            print("comfy-pack is left out: give --comfy-pack PYTHON")
        else:
            try:
                sides.append(await comfy_pack(stack, folder, options.comfy_pack, url))
            except (OSError, subprocess.CalledProcessError, RuntimeError) as error:
                print(f"comfy-pack is left out: {error}")
        for side in sides:  # first calls load what later ones have
            await measure(side, 1, 20)
            side.latencies.clear()
            side.rates.clear()
        for number, level in itertools.product(range(options.rounds), options.callers):
            order = sides if number % 2 == 0 else sides[::-1]
            for side in order:
                if side.share < 1 and (number or level > 4):
                    continue  # seconds a call: one round says enough
                await measure(side, level, options.calls)
        print(f"\nEmptyImage 64x64 -> save; medians of {options.rounds} rounds of {options.calls} calls")
        report(sides, options.callers)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--comfyui", metavar="PATH=PYTHON", help="the ComfyUI to start, and its Python")
    parser.add_argument("--url", help="a running ComfyUI instead (for comfy-pack it must have comfy-pack's nodes)")
    parser.add_argument("--comfy-pack", metavar="PYTHON", help="a Python with comfy-pack 0.4.4 and bentoml")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--calls", type=int, default=160)
    parser.add_argument("--callers", type=int, nargs="+", default=[1, 4, 8])
    asyncio.run(main(parser.parse_args()))
