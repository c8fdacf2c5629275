"""The server of the kill test, run as a script: the fake engine, slowed down, writing down each start and end of a run.

    kill_server.py PROMPT PORT DATA_DIR LOG [embedded]

A line ``start COLOR`` or ``end COLOR`` in LOG tells that a run of that colour began or was about to be handed over.
"""

from __future__ import annotations

import asyncio
import os
import sys

import fake_engine

import comfy_atelier.api.serving as serving
from comfy_atelier.api import Settings


def main() -> None:
    prompt, port, data_dir, log = sys.argv[1:5]
    file = os.open(log, os.O_CREAT | os.O_WRONLY | os.O_APPEND)
    if len(sys.argv) > 5:
        from comfy_atelier.engines import EmbeddedEngine

        engine = EmbeddedEngine()
    else:
        engine = fake_engine.FakeEngine(concurrency=4)

    async def before(bound: fake_engine.Prompt) -> None:
        os.write(file, f"start {bound.nodes['1'].inputs['color']}\n".encode())
        await asyncio.sleep(0.05)

    engine.before = before
    serving._factory = lambda config, workers: engine
    serving.serve(prompt, port=int(port), settings=Settings(data_dir=data_dir, shutdown_seconds=0.0))


if __name__ == "__main__":
    main()
