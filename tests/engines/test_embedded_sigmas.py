"""Noise levels and schedules against what ComfyUI 0.33.0's own functions gave.

Recorded by ``tests/data/parity/record_sampling.py``.
"""

from __future__ import annotations

import json
import lzma
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch", reason="the embedded engine needs torch")

from comfy_atelier.engines.embedded import sigmas  # noqa: E402 # needs torch
from comfy_atelier.engines.embedded.problems import NodeProblem  # noqa: E402

RECORD = Path(__file__).parents[1] / "data" / "parity" / "sampling.json.xz"
RECORDED: dict[str, Any] = json.loads(lzma.decompress(RECORD.read_bytes()))
for other in ("samplers", "weights"):  # which have tests of their own
    RECORDED.pop(other)


def levels(name: str) -> sigmas.NoiseLevels:
    settings = RECORDED[name]["settings"]
    if name.startswith("discrete"):
        return sigmas.Discrete(zero_snr=settings.get("zsnr", False))
    if name == "flux":
        return sigmas.FluxFlow(shift=settings["shift"])
    return sigmas.Flow(**settings)


def near(found: list[float], expected: list[float]) -> bool:
    return found == pytest.approx(expected, rel=1e-6, abs=1e-7, nan_ok=True)


@pytest.mark.parametrize("name", RECORDED)
def test_levels(name: str) -> None:
    made, record = levels(name), RECORDED[name]
    assert near(made.sigmas[:: max(1, len(made.sigmas) // 50)].tolist(), record["sigmas"])
    for sigma, timestep in record["timesteps"]:
        assert float(made.timestep(torch.tensor(sigma))) == pytest.approx(timestep, rel=1e-6)
    for percent, sigma in record["percents"]:
        assert made.at_percent(percent) == pytest.approx(sigma, rel=1e-6)


@pytest.mark.parametrize("scheduler", sigmas.SCHEDULERS)
@pytest.mark.parametrize("name", RECORDED)
def test_schedules(name: str, scheduler: str) -> None:
    made = levels(name)
    cases = {key: values for key, values in RECORDED[name]["schedules"].items() if key.split()[0] == scheduler}
    assert len(cases) >= 8
    for key, expected in cases.items():
        assert near(sigmas.schedule(made, scheduler, int(key.split()[1])).tolist(), expected), key


def test_an_unknown_scheduler_is_refused() -> None:
    with pytest.raises(NodeProblem, match="'magic'") as caught:
        sigmas.schedule(sigmas.Flow(), "magic", 3)
    assert "use one of simple, sgm_uniform" in caught.value.remedy


def test_levels_without_a_logarithm_are_refused() -> None:
    with pytest.raises(NodeProblem, match="logarithm"):
        sigmas.exponential(4, 0.0, 14.6)
