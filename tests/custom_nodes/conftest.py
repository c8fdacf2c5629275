"""A real ComfyUI with this checkout linked in as a node pack, one for each configured version."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parent.parent.parent
START_SECONDS = 300
RUN_SECONDS = 300


@dataclass
class RunningComfyUI:
    """A started server: its address, its base folder and its log."""

    url: str
    base: Path
    log: Path
    version: str

    def get(self, path: str) -> Any:
        with urllib.request.urlopen(f"{self.url}{path}", timeout=60) as answer:
            return json.load(answer)

    def bytes(self, path: str) -> bytes:
        with urllib.request.urlopen(f"{self.url}{path}", timeout=60) as answer:
            return answer.read()

    def post(self, prompt: dict[str, Any]) -> dict[str, Any]:
        """The answer to ``POST /prompt``, of status 200 or 400."""
        body = json.dumps({"prompt": prompt}).encode()
        request = urllib.request.Request(f"{self.url}/prompt", body, {"Content-Type": "application/json"})
        try:
            with urllib.request.urlopen(request, timeout=120) as answer:
                return json.load(answer)
        except urllib.error.HTTPError as error:
            with error:
                return json.load(error)

    def run(self, prompt: dict[str, Any]) -> dict[str, Any]:
        """The history entry of a prompt that ran to its end, well or badly."""
        answer = self.post(prompt)
        assert "prompt_id" in answer, answer
        deadline = time.monotonic() + RUN_SECONDS
        while time.monotonic() < deadline:
            history = self.get(f"/history/{answer['prompt_id']}")
            if history:
                return history[answer["prompt_id"]]
            time.sleep(0.1)
        raise AssertionError(f"the prompt did not end within {RUN_SECONDS} s; see {self.log}")

    def images(self, entry: dict[str, Any]) -> list[bytes]:
        """The files of the saved or previewed pictures of a history entry, in the order of the nodes' ids."""
        assert entry["status"]["status_str"] == "success", entry["status"]
        files = [image for _, output in sorted(entry["outputs"].items()) for image in output.get("images", [])]
        query = "/view?filename={filename}&subfolder={subfolder}&type={type}"
        return [self.bytes(query.format(**file)) for file in files]


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.fixture(scope="session")
def comfyui(comfyui_install: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningComfyUI]:
    """A running server of one version; ``models``, ``input`` and ``custom_nodes`` are its own."""
    base = tmp_path_factory.mktemp("comfyui")
    for name in ("custom_nodes", "input", "models"):
        (base / name).mkdir()
    (base / "custom_nodes" / "comfy_atelier").symlink_to(ROOT, target_is_directory=True)
    models = os.environ.get("ATELIER_TEST_MODELS")  # a folder as ../shared/tiny/make_tiny_models.py writes it
    if models:
        for folder in Path(models).resolve().iterdir():  # one by one: tests add folders of their own
            (base / "models" / folder.name).symlink_to(folder, target_is_directory=folder.is_dir())
    port, log = _free_port(), base / "server.log"
    command = [comfyui_install.python, "main.py", "--cpu", "--base-directory", base, "--port", port]
    with log.open("wb") as stream:
        process = subprocess.Popen(
            [*map(str, command), "--disable-api-nodes"],
            cwd=comfyui_install.path,
            stdout=stream,
            stderr=stream,
            env=os.environ | {"XDG_CONFIG_HOME": str(base / "config")},  # tests write config.toml there
        )
    server = RunningComfyUI(f"http://127.0.0.1:{port}", base, log, comfyui_install.version)
    try:
        deadline = time.monotonic() + START_SECONDS
        while True:
            try:
                server.get("/system_stats")
                break
            except OSError:
                assert process.poll() is None, log.read_text(errors="replace")[-3000:]
                assert time.monotonic() < deadline, "the server did not start"
                time.sleep(0.2)
        yield server
    finally:
        process.terminate()
        process.wait(30)
