"""How fast the command answers and the service is ready, beside what Python itself takes for the same.

`atelier --help` is set beside a bare interpreter; `atelier serve` on a remote ComfyUI (a stand-in of a few lines here)
beside importing the libraries that serving needs. Medians of alternating runs.

    python benchmarks/startup.py [--runs 7]
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import aiohttp
from aiohttp import web

from comfy_atelier.api.serving import free_port

HEAVY = ("torch", "fastapi", "aiohttp", "sqlalchemy", "numpy", "PIL", "rich")
# What serving cannot do without: the HTTP side, the job store, the way to ComfyUI.
LIBRARIES = "import typer, fastapi, uvicorn, pydantic_settings, sqlalchemy, python_multipart, aiohttp"
COMMAND = [sys.executable, "-m", "comfy_atelier.cli.main"]
HELP_LIMIT = 0.3  # s
READY_LIMIT = 2.0  # x the libraries
MEMORY_LIMIT = 150.0  # MB

PROMPT = {
    "1": {"class_type": "EmptyImage", "inputs": {"width": 64, "height": 64, "batch_size": 1, "color": 0}},
    "2": {"class_type": "SaveImage", "inputs": {"images": ["1", 0], "filename_prefix": "x"}},
}


def timed(command: list[str]) -> float:
    """Seconds that a command takes."""
    began = time.perf_counter()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - began


def loaded_by_help() -> list[str]:
    """Which heavy libraries `atelier --help` imports."""
    code = (
        "import contextlib, io, sys\nfrom comfy_atelier.cli.main import main\n"
        "sys.argv = ['atelier', '--help']\n"
        "with contextlib.redirect_stdout(io.StringIO()), contextlib.suppress(SystemExit):\n    main()\n"
        f"print(' '.join(name for name in {HEAVY!r} if name in sys.modules))"
    )
    return subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout.split()


async def stand_in() -> tuple[web.AppRunner, str]:
    """As much of a ComfyUI as a service needs to be ready."""

    async def ws(request: web.Request) -> web.WebSocketResponse:
        socket = web.WebSocketResponse()
        await socket.prepare(request)
        async for _ in socket:
            pass
        return socket

    async def empty(request: web.Request) -> web.Response:
        return web.json_response({})

    app = web.Application()
    app.add_routes([web.get("/ws", ws), web.get("/{path:.*}", empty)])
    runner = web.AppRunner(app)
    await runner.setup()
    port = free_port()
    await web.TCPSite(runner, "127.0.0.1", port, shutdown_timeout=0.1).start()
    return runner, f"http://127.0.0.1:{port}"


async def serve(folder: Path, comfyui: str) -> tuple[float, float | None]:
    """Seconds until `atelier serve` is ready, and its memory then in MB (None where this system does not tell)."""
    workflow = folder / "prompt.json"
    workflow.write_text(json.dumps(PROMPT))
    port = free_port()
    command = [*COMMAND, "serve", str(workflow), "--comfyui", comfyui, "--port", str(port)]
    began = time.perf_counter()
    process = await asyncio.create_subprocess_exec(
        *command, "--data-dir", str(folder / f"data-{port}"), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        async with aiohttp.ClientSession() as session:
            while time.perf_counter() - began < 60:
                if process.returncode is not None:
                    raise SystemExit(f"atelier serve ended with code {process.returncode}")
                with contextlib.suppress(aiohttp.ClientError, OSError):
                    async with session.get(f"http://127.0.0.1:{port}/health/ready") as response:
                        if response.status == 200:
                            return time.perf_counter() - began, resident(process.pid)
                await asyncio.sleep(0.005)
        raise SystemExit("atelier serve is not ready after 60 s")
    finally:
        process.terminate()
        await process.wait()


def resident(pid: int) -> float | None:
    """A process's resident memory in MB."""
    status = Path(f"/proc/{pid}/status")
    if status.is_file():
        line = next(line for line in status.read_text().splitlines() if line.startswith("VmRSS"))
        return int(line.split()[1]) / 1000
    if os.name == "posix":
        told = subprocess.run(["ps", "-o", "rss=", "-p", str(pid)], capture_output=True, text=True, check=True)
        return int(told.stdout) / 1000
    return None


async def main(runs: int) -> None:
    bare: list[float] = []
    help_: list[float] = []
    libraries: list[float] = []
    ready: list[float] = []
    memory: list[float] = []
    runner, comfyui = await stand_in()
    with tempfile.TemporaryDirectory(prefix="atelier-startup-") as folder:
        for number in range(runs + 1):  # the first fills the file cache and is not counted
            results = (
                await asyncio.to_thread(timed, [sys.executable, "-c", "pass"]),
                await asyncio.to_thread(timed, [*COMMAND, "--help"]),
                await asyncio.to_thread(timed, [sys.executable, "-c", LIBRARIES]),
                await serve(Path(folder), comfyui),
            )
            if number == 0:
                continue
            bare.append(results[0])
            help_.append(results[1])
            libraries.append(results[2])
            ready.append(results[3][0])
            if results[3][1] is not None:
                memory.append(results[3][1])
    await runner.cleanup()
    heavy = loaded_by_help()
    ratio = statistics.median(one / other for one, other in zip(ready, libraries, strict=True))
    print(f"medians of {runs} alternating runs")
    print(f"{'python -c pass':32}{statistics.median(bare):8.3f} s")
    print(f"{'atelier --help':32}{statistics.median(help_):8.3f} s   wanted: at most {HELP_LIMIT} s")
    print(
        f"{'  heavy libraries it imports':32}{', '.join(heavy) or 'none':>10}   wanted: none of {', '.join(HEAVY[:3])}"
    )
    print(f"{'importing the libraries':32}{statistics.median(libraries):8.3f} s")
    print(f"{'atelier serve until ready':32}{statistics.median(ready):8.3f} s   {ratio:.2f} x; wanted: {READY_LIMIT} x")
    if memory:
        print(f"{'  its memory':32}{statistics.median(memory):8.1f} MB  wanted: below {MEMORY_LIMIT:.0f} MB")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--runs", type=int, default=7)
    asyncio.run(main(parser.parse_args().runs))
