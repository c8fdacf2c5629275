"""Curated workflows on the embedded engine with tiny random models: pictures come back, and follow what was asked.

Every family: ``benchmarks/run_embedded.py``.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("torch", reason="the embedded engine needs torch")
for needed in ("diffusers", "transformers"):
    pytest.importorskip(needed)

ROOT = Path(__file__).parents[2]
NAMES = ("sd15-controlnet-canny", "sd15-hires-fix", "sd15-lora")
WORKFLOWS = [ROOT / "workflows" / f"{name}.json" for name in NAMES]


@pytest.fixture(scope="module")
def bench() -> Iterator[Any]:
    """benchmarks/run_embedded.py."""
    sys.path.insert(0, str(ROOT / "benchmarks"))
    try:
        yield importlib.import_module("run_embedded")
    finally:
        sys.path.remove(str(ROOT / "benchmarks"))


@pytest.fixture(scope="module")
def results(bench: Any, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """What became of each workflow: its problem, empty where there is none."""
    import asyncio

    models = tmp_path_factory.mktemp("models")
    bench.tiny_models.write_all(models, ["sd1"])
    found = asyncio.run(bench.run_all(models, WORKFLOWS, None))
    return {result.name: result.problem for result in found}


@pytest.mark.parametrize("name", NAMES)
def test_a_curated_workflow_gives_pictures(results: dict[str, str], name: str) -> None:
    """One that is not of one colour; another prompt and another picture change it."""
    assert not results[name], results[name]
