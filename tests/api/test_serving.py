"""Listening: addresses that are taken, starts that fail, the address that is announced."""

from __future__ import annotations

import json
import os
import signal
import socket
import threading
import urllib.request

import pytest

from comfy_atelier.api import Settings, free_port, serve
from comfy_atelier.api import serving as serving_module
from comfy_atelier.api.errors import PortInUse, StoreError
from comfy_atelier.engines import EngineUnavailable, InvalidPrompt


@pytest.fixture
def prompt(tmp_path, empty_prompt, monkeypatch):
    monkeypatch.setattr("comfy_atelier.api.settings.config_file", lambda: tmp_path / "none.toml")
    path = tmp_path / "flow.json"
    path.write_text(json.dumps(empty_prompt))
    return path


def test_a_taken_port_is_one_clear_error(prompt):
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        with pytest.raises(PortInUse, match=f"port {port}.*--port"):
            serve(prompt, port=port)


def test_what_the_engine_lacks_is_said_at_the_start(prompt, tmp_path, monkeypatch, engine):
    asked = []

    async def check(prompt, *, given=()):
        asked.append((prompt, given))
        raise InvalidPrompt("it lacks: everything")

    engine.check = check
    monkeypatch.setattr(serving_module, "_factory", lambda config, workers: engine)
    with pytest.raises(InvalidPrompt, match="everything"):
        serve(prompt, port=free_port(), settings=Settings(data_dir=tmp_path / "data"))
    assert engine.closed
    assert "1" in asked[0][0].nodes


def test_a_data_folder_that_cannot_be_is_one_clear_error(prompt, tmp_path, monkeypatch, engine):
    monkeypatch.setattr(serving_module, "_factory", lambda config, workers: engine)
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreError, match="data folder"):
        serve(prompt, port=free_port(), settings=Settings(data_dir=tmp_path / "file" / "data"))


@pytest.mark.skipif(os.name != "posix", reason="sends itself SIGINT")
def test_serves_until_a_signal(prompt, tmp_path, monkeypatch, engine):
    monkeypatch.setattr(serving_module, "_factory", lambda config, workers: engine)

    async def check(prompt, *, given=()):
        raise EngineUnavailable("it cannot look yet")  # that is its worker's to try again

    engine.check = check
    answers = []

    def call(url: str) -> None:
        def work() -> None:
            try:
                request = urllib.request.Request(f"{url}/generate", b"{}", {"Content-Type": "application/json"})
                with urllib.request.urlopen(request, timeout=30) as answer:
                    answers.append((answer.status, answer.headers["Content-Type"]))
            finally:
                os.kill(os.getpid(), signal.SIGINT)

        threading.Thread(target=work).start()

    serve(prompt, port=0, settings=Settings(data_dir=tmp_path / "data", shutdown_seconds=0.0), announce=call)
    assert answers == [(200, "image/png")]
    assert engine.closed
