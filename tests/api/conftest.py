"""A small workflow, the fake engine, and a running service for the tests of `api`."""

from __future__ import annotations

import contextlib
import importlib.util
import json
import sys
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import httpx
import pytest

from comfy_atelier.api import Service, Settings
from comfy_atelier.api.store_memory import MemoryStore
from comfy_atelier.packer import Bundle

HERE = Path(__file__).parent


def _load(name: str) -> Any:
    spec = importlib.util.spec_from_file_location(name, HERE / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


fake = _load("fake_engine")

EMPTY = {
    "1": {
        "class_type": "EmptyImage",
        "inputs": {
            "width": ["10", 0],
            "height": 64,
            "batch_size": ["11", 0],
            "color": ["12", 0],
        },
    },
    "2": {"class_type": "SaveImage", "inputs": {"images": ["1", 0], "filename_prefix": "x"}},
    "10": {
        "class_type": "AtelierInputInteger",
        "inputs": {
            "name": "width",
            "value": 64,
            "minimum": 1,
            "maximum": 1024,
            "step": 1,
            "description": "How wide it is.",
        },
    },
    "11": {
        "class_type": "AtelierInputInteger",
        "inputs": {"name": "count", "value": 1, "minimum": 1, "maximum": 8, "step": 1, "description": ""},
    },
    "12": {
        "class_type": "AtelierInputInteger",
        "inputs": {"name": "color", "value": 0, "minimum": 0, "maximum": 0xFFFFFF, "step": 1, "description": ""},
    },
}

PHOTO = {
    "1": {
        "class_type": "AtelierInputImage",
        "inputs": {"name": "photo", "image": "", "required": True, "description": "What to work on."},
    },
    "2": {"class_type": "AtelierOutputImage", "inputs": {"images": ["1", 0], "name": "picture", "description": ""}},
    "3": {
        "class_type": "AtelierInputText",
        "inputs": {"name": "title", "value": "hello", "multiline": False, "description": ""},
    },
    "4": {"class_type": "AtelierOutputText", "inputs": {"text": ["3", 0], "name": "words", "description": ""}},
}


@pytest.fixture
def engine() -> Any:
    return fake.FakeEngine()


@pytest.fixture
def draw() -> Callable[[int, int, int], bytes]:
    return fake.png


@pytest.fixture
def make_bundle(tmp_path: Path) -> Callable[[dict[str, Any]], Bundle]:
    def make(prompt: dict[str, Any]) -> Bundle:
        path = tmp_path / "flow.json"
        path.write_text(json.dumps(prompt))
        return Bundle.open(path)

    return make


@pytest.fixture
def make_service(
    make_bundle: Callable[[dict[str, Any]], Bundle], tmp_path: Path, engine: Any, monkeypatch: pytest.MonkeyPatch
) -> Callable[..., Service]:
    """A service on the fake engine; keyword arguments are settings, but for prompt, engine and store."""
    monkeypatch.setattr("comfy_atelier.api.settings.config_file", lambda: tmp_path / "no-config.toml")

    def make(
        prompt: dict[str, Any] = EMPTY, *, engine: Any = engine, store: Any = "memory", **settings: Any
    ) -> Service:
        values = {"data_dir": tmp_path / "data", "shutdown_seconds": 0.0, **settings}
        kept = MemoryStore() if store == "memory" else store
        return Service(make_bundle(prompt), settings=Settings(**values), engine=engine, store=kept)

    return make


@contextlib.asynccontextmanager
async def running(service: Service, **options: Any) -> AsyncIterator[httpx.AsyncClient]:
    """A client of a started service, its engine ready; without a socket in between."""
    async with service.app.router.lifespan_context(service.app):
        worker = service.dispatcher.workers[0]
        for _ in range(200):
            if worker.ready or worker.engine.start_error is not None:
                break
            import asyncio

            await asyncio.sleep(0)
        transport = httpx.ASGITransport(app=service.app, raise_app_exceptions=False)
        async with httpx.AsyncClient(transport=transport, base_url="http://localhost", **options) as client:
            yield client


@pytest.fixture
def run_service() -> Callable[..., Any]:
    return running


@pytest.fixture
def empty_prompt() -> dict[str, Any]:
    return EMPTY


@pytest.fixture
def photo_prompt() -> dict[str, Any]:
    return PHOTO
