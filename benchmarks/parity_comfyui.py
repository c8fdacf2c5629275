"""ComfyUI's side of `parity.py`: runs prompts in its own process, and records what happens inside.

Started by `parity.py` with ComfyUI's Python, its checkout as the working folder; it imports ComfyUI from there. It
reads JSON lines {"name", "prompt", "out"} from standard input and writes for each an .npz to "out" and a JSON line to
standard
output: {"name", "seconds"} or {"name", "error"}.
"""

from __future__ import annotations

import asyncio
import gc
import json
import os
import sys
import time
from pathlib import Path
from typing import Any

import numpy

FIRST = 1  # model calls that are recorded


class Server:
    """What the executor tells; nobody listens."""

    client_id = None
    last_node_id = None
    last_prompt_id = None

    def __init__(self) -> None:
        self.errors: list[str] = []

    def send_sync(self, event: str, data: Any, sid: Any = None) -> None:
        """Keep errors."""
        if event == "execution_error":
            self.errors.append(f"node {data['node_id']} ({data['node_type']}): {data['exception_message'].strip()}")

    def queue_updated(self) -> None:
        """Nothing waits."""


class Recorder:
    """What a run went through, by name."""

    def __init__(self) -> None:
        self.kept: dict[str, Any] = {}
        self._counts: dict[str, int] = {}

    def keep(self, name: str, tensor: Any, most: int = 100) -> None:
        """One tensor more of that name."""
        number = self._counts.get(name, 0)
        self._counts[name] = number + 1
        if number < most and tensor is not None:
            self.kept[f"{name}.{number}"] = tensor.detach().float().cpu().numpy().copy()


def listen(recorder: list[Recorder]) -> None:
    """Put the recorder between ComfyUI's parts."""
    import comfy.model_base
    import comfy.samplers
    import nodes

    def around(owner: Any, name: str, after: Any) -> None:
        original = getattr(owner, name)

        def wrapped(*args: Any, **kwargs: Any) -> Any:
            result = original(*args, **kwargs)
            after(result, *args, **kwargs)
            return result

        setattr(owner, name, wrapped)

    def conditions(result: Any, *args: Any, **kwargs: Any) -> None:
        for name, conds in result.items():
            for cond in conds:
                for fact, value in sorted(cond["model_conds"].items()):
                    if hasattr(value.cond, "detach"):
                        recorder[0].keep(f"told.{name}.{fact}", value.cond)

    def output(result: Any, model: Any, x: Any, t: Any, *args: Any, **kwargs: Any) -> None:
        recorder[0].keep("model.input", x, FIRST)
        recorder[0].keep("model.denoised", result, FIRST)

    def run(
        result: Any, guider: Any, noise: Any, latent: Any, sampler: Any, sigmas: Any, *args: Any, **kw: Any
    ) -> None:
        recorder[0].keep("sigmas", sigmas)
        recorder[0].keep("noise", noise)
        recorder[0].keep("latent", result)

    def picture(result: Any, self: Any, images: Any, *args: Any, **kwargs: Any) -> None:
        if isinstance(self, nodes.PreviewImage):  # it saves by the same method
            return
        for image in images:
            recorder[0].keep("picture", image)

    around(comfy.samplers, "process_conds", conditions)
    around(comfy.model_base.BaseModel, "_apply_model", output)
    around(comfy.samplers.CFGGuider, "sample", run)
    around(nodes.SaveImage, "save_images", picture)


def main() -> None:
    """Serve prompts until standard input ends."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    sys.path.insert(0, str(Path.cwd()))
    import comfy.options

    comfy.options.enable_args_parsing()
    import comfy.model_management
    import execution
    import nodes
    import server

    recorder = [Recorder()]
    instance = Server()
    server.PromptServer.instance = type("Stub", (), {"__getattr__": lambda self, name: lambda *a, **k: None})()
    started = time.perf_counter()
    asyncio.run(nodes.init_extra_nodes(init_custom_nodes=True, init_api_nodes=False))
    import torch

    listen(recorder)
    executor = execution.PromptExecutor(
        instance, cache_type=execution.CacheType.CLASSIC, cache_args={"lru": 0, "ram": 0, "ram_inactive": 0}
    )
    print(json.dumps({"ready": time.perf_counter() - started}), file=answers, flush=True)
    for line in sys.stdin:
        case = json.loads(line)
        recorder[0], instance.errors = Recorder(), []
        if case.get("fresh"):
            executor.reset()
            comfy.model_management.unload_all_models()  # two engines' models do not fit a small machine
            gc.collect()
        outputs = [key for key, node in case["prompt"].items() if node["class_type"] in ("SaveImage", "PreviewImage")]
        begin = time.perf_counter()
        with torch.inference_mode():
            executor.execute(case["prompt"], case["name"], {}, outputs)
        seconds = time.perf_counter() - begin
        errors = [
            f"node {data['node_id']} ({data['node_type']}): {data['exception_message'].strip()}"
            for event, data in executor.status_messages
            if event == "execution_error"
        ]
        if case.get("out"):
            numpy.savez(case["out"], **recorder[0].kept)
        answer = {"name": case["name"], "error": errors[0]} if errors else {"name": case["name"], "seconds": seconds}
        print(json.dumps(answer), file=answers, flush=True)


if __name__ == "__main__":
    main()
