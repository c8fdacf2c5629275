"""No accepted job is lost and no finished job runs again, though the service is killed at any moment."""

from __future__ import annotations

import contextlib
import http.client
import json
import random
import sqlite3
import subprocess
import sys
import threading
import time
import urllib.request
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from comfy_atelier.api import free_port

HERE = Path(__file__).parent
JOBS = 20


class Server:
    """The kill server as a process of its own."""

    def __init__(self, prompt: Path, data: Path, log: Path, *extra: str) -> None:
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        arguments = [str(prompt), str(self.port), str(data), str(log), *extra]
        self.process = subprocess.Popen(
            [sys.executable, str(HERE / "kill_server.py"), *arguments],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline:
            with contextlib.suppress(OSError):
                urllib.request.urlopen(f"{self.url}/health/ready", timeout=5).close()
                return
            time.sleep(0.02)
        raise AssertionError("the server did not start")

    def post(self, color: int) -> str | None:
        """The id of a job that was answered 202; None where the server was gone before."""
        body = json.dumps({"color": color}).encode()
        request = urllib.request.Request(f"{self.url}/jobs", body, {"Content-Type": "application/json"})
        try:
            with urllib.request.urlopen(request, timeout=10) as answer:
                assert answer.status == 202
                return json.load(answer)["id"]
        except (OSError, http.client.HTTPException, json.JSONDecodeError):
            return None

    def get(self, job_id: str) -> dict:
        with urllib.request.urlopen(f"{self.url}/jobs/{job_id}", timeout=10) as answer:
            return json.load(answer)

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()


def once(folder: Path, prompt: Path, chance: random.Random, *extra: str, wait: float) -> None:
    data, log = folder / "data", folder / "log"
    log.touch()
    server = Server(prompt, data, log, *extra)
    accepted: dict[int, str] = {}
    try:
        killer = threading.Timer(chance.uniform(0.01, 0.6), server.kill)
        killer.start()
        with ThreadPoolExecutor(8) as pool:
            for color, job_id in zip(range(JOBS), pool.map(server.post, range(JOBS)), strict=True):
                if job_id is not None:
                    accepted[color] = job_id
        killer.join()
    finally:
        server.kill()
    with contextlib.closing(sqlite3.connect(data / "jobs.sqlite")) as database:
        recorded = dict(database.execute("SELECT id, status FROM jobs"))
        assert database.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    assert set(accepted.values()) <= set(recorded), "answered 202 and not in the store"
    runs_before = Counter(log.read_text().split("\n"))

    server = Server(prompt, data, log, *extra)
    try:
        deadline = time.monotonic() + wait
        while True:
            states = {color: server.get(job_id) for color, job_id in accepted.items()}
            if all(job["status"] in {"succeeded", "failed", "cancelled"} for job in states.values()):
                break
            assert time.monotonic() < deadline, Counter(job["status"] for job in states.values())
            time.sleep(0.05)
    finally:
        server.kill()
    assert Counter(job["status"] for job in states.values()) in ({"succeeded": len(accepted)}, {}), states
    runs_after = Counter(log.read_text().split("\n"))
    for color, job_id in accepted.items():
        starts = runs_after[f"start {color}"]
        if recorded[job_id] == "succeeded":
            assert starts == runs_before[f"start {color}"], "ran again after it had finished"
        if not extra:
            assert 1 <= starts <= 3
            assert starts <= states[color]["attempts"] + 1
        assert states[color]["attempts"] <= 3


@pytest.fixture
def prompt(tmp_path, empty_prompt):
    path = tmp_path / "flow.json"
    path.write_text(json.dumps(empty_prompt))
    return path


@pytest.mark.slow
def test_killed_at_random_moments(tmp_path, prompt):
    chance = random.Random(1)
    for number in range(20):
        folder = tmp_path / str(number)
        folder.mkdir()
        once(folder, prompt, chance, wait=60)


@pytest.mark.slow
def test_killed_with_the_embedded_engine(tmp_path, prompt):
    pytest.importorskip("torch")
    chance = random.Random(2)
    for number in range(3):
        folder = tmp_path / str(number)
        folder.mkdir()
        once(folder, prompt, chance, "embedded", wait=120)
