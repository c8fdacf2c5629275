"""Remote models in a real ComfyUI, against servers on this machine: pictures come, cost is told, no key is anywhere."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.comfyui

KEYS = ("bfl-test-key-0123456789", "images-test-key-777", "chat-test-key-888")
COMMON = {"prompt": "a fox", "seed": 1, "prompt_upsampling": False, "safety_tolerance": 2, "region": "global",
          "timeout": 60}  # fmt: skip


def node(class_type: str, **inputs: Any) -> dict[str, Any]:
    return {"class_type": class_type, "inputs": inputs}


class Fake:
    """The fake services, in a process of their own."""

    def __init__(self, url: str) -> None:
        self.url = url

    def change(self, **fields: Any) -> None:
        body = json.dumps(fields).encode()
        request = urllib.request.Request(f"{self.url}/change", body, {"Content-Type": "application/json"})
        urllib.request.urlopen(request, timeout=10).close()

    def seen(self) -> list[dict[str, Any]]:
        with urllib.request.urlopen(f"{self.url}/seen", timeout=10) as answer:
            return list(json.load(answer))


@pytest.fixture
def fake(comfyui: Any) -> Iterator[Fake]:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    script = Path(__file__).parent / "remote_services.py"
    process = subprocess.Popen([sys.executable, str(script), str(port)])
    service = Fake(f"http://127.0.0.1:{port}")
    config = Path(comfyui.base) / "config" / "comfy-atelier" / "config.toml"
    config.parent.mkdir(parents=True, exist_ok=True)
    keys = dict(zip(("bfl", "images", "chat"), KEYS, strict=True))
    tables = [f'[{name}]\nurl = "{service.url}"\nkey = "{key}"\nmodel = "m"\n' for name, key in keys.items()]
    config.write_text("\n".join(tables), encoding="utf-8")
    try:
        deadline = time.monotonic() + 30
        while True:
            try:
                service.seen()
                break
            except OSError:
                assert time.monotonic() < deadline
                time.sleep(0.1)
        yield service
    finally:
        config.unlink()
        process.terminate()
        process.wait(10)


def assert_no_key(comfyui: Any, *texts: str) -> None:
    log = Path(comfyui.log).read_text(encoding="utf-8", errors="replace")
    for key in KEYS:
        assert key not in log
        assert all(key not in text for text in texts)


def test_a_picture_comes_and_no_key_with_it(comfyui: Any, fake: Fake) -> None:
    image = node("EmptyImage", width=64, height=48, batch_size=1, color=0x3366CC)
    mask = node("SolidMask", value=1.0, width=64, height=48)
    nodes = {
        "1": node("AtelierFluxPro", model="flux-pro-1.1", aspect_ratio="16:9 wide", raw=False, **COMMON),
        "2": node("AtelierFluxProEdit", model="flux-kontext-pro", aspect_ratio="as the picture", image=["20", 0],
                  **COMMON),
        "3": node("AtelierFluxProFill", image=["20", 0], mask=["21", 0], steps=50, guidance=60.0, **COMMON),
        "4": node("AtelierFluxProControl", kind="depth", image=["20", 0], is_map=False, low_threshold=50,
                  high_threshold=200, steps=50, guidance=30.0, **COMMON),
        "5": node("AtelierHunyuanImage3", prompt="a fox", negative_prompt="", aspect_ratio="16:9 wide", megapixels=1.0,
                  steps=0, guidance=0.0, batch_size=1, seed=1, timeout=60, images=["20", 0]),
    }  # fmt: skip
    prompt = {**nodes, "20": image, "21": mask}
    for name in nodes:
        prompt[f"1{name}"] = node("SaveImage", images=[name, 0], filename_prefix="remote")
        prompt[f"3{name}"] = node("PreviewAny", source=[name, 1])
    entry = comfyui.run(prompt)
    pictures = comfyui.images(entry)
    assert len(pictures) == 5
    told = [entry["outputs"][f"3{name}"]["text"][0] for name in nodes]
    assert told == ["4 credits (0.04 USD), seed 7, request task-1"] * 4 + ["321 tokens"]
    sent = [request["path"] for request in fake.seen() if request["path"].startswith("/v1/") and "json" in request]
    assert {"/v1/flux-pro-1.1", "/v1/flux-kontext-pro", "/v1/flux-pro-1.0-fill", "/v1/flux-pro-1.0-depth"} <= set(sent)
    assert_no_key(comfyui, json.dumps(entry), *(data.decode("latin-1") for data in pictures))


def test_a_failure_is_told_in_words(comfyui: Any, fake: Fake) -> None:
    fake.change(plan=[[402, {"detail": f"no credits for {KEYS[0]}"}]])
    prompt = {
        "1": node("AtelierFluxPro", model="flux-pro-1.1", aspect_ratio="1:1 square", raw=False, **COMMON),
        "2": node("PreviewImage", images=["1", 0]),
    }
    status = json.dumps(comfyui.run(prompt)["status"])
    assert "the account has no credits left; add some [HTTP 402] (no credits for ***)" in status
    assert_no_key(comfyui, status)


def test_the_user_can_cancel(comfyui: Any, fake: Fake) -> None:
    fake.change(polls=[{"status": "Pending"}] * 10000)
    prompt = {
        "1": node("AtelierFluxPro", model="flux-pro-1.1", aspect_ratio="1:1 square", raw=False,
                  **(COMMON | {"timeout": 3600, "seed": 2})),
        "2": node("PreviewImage", images=["1", 0]),
    }  # fmt: skip
    answer = comfyui.post(prompt)
    deadline = time.monotonic() + 60
    while not any(request["path"] == "/v1/get_result" for request in fake.seen()):
        assert time.monotonic() < deadline
        time.sleep(0.2)
    urllib.request.urlopen(urllib.request.Request(f"{comfyui.url}/interrupt", b"{}", method="POST"), timeout=10).close()
    while not (history := comfyui.get(f"/history/{answer['prompt_id']}")):
        assert time.monotonic() < deadline, "it went on"
        time.sleep(0.2)
    kinds = [kind for kind, _ in history[answer["prompt_id"]]["status"]["messages"]]
    assert "execution_interrupted" in kinds


def test_prompts_are_rewritten_where_that_is_configured(comfyui: Any, fake: Fake) -> None:
    prompt = {
        "1": node("AtelierRewritePrompt", prompt="fox", kind="text to image", temperature=0.0, seed=0, max_tokens=256,
                  on_error="stop", timeout=30),
        "2": node("PreviewAny", source=["1", 0]),
        "3": node("PreviewAny", source=["1", 1]),
    }  # fmt: skip
    outputs = comfyui.run(prompt)["outputs"]
    assert [outputs[name]["text"][0] for name in ("2", "3")] == ["A rewritten prompt.", "rewritten by m (99 tokens)"]


def test_prompts_go_through_where_it_is_not(comfyui: Any) -> None:
    prompt = {
        "1": node("AtelierRewritePrompt", prompt="a hare", kind="text to image", temperature=0.0, seed=5,
                  max_tokens=256, on_error="stop", timeout=30),
        "2": node("PreviewAny", source=["1", 0]),
        "3": node("PreviewAny", source=["1", 1]),
    }  # fmt: skip
    outputs = comfyui.run(prompt)["outputs"]
    assert outputs["2"]["text"][0] == "a hare"
    assert "not rewritten: no server is configured; set ATELIER_CHAT_URL" in outputs["3"]["text"][0]
