"""Samplers against what ComfyUI 0.33.0's own functions gave for a made-up model.

Recorded by ``tests/data/parity/record_sampling.py`` and ``record_more_samplers.py``.
"""

from __future__ import annotations

import json
import lzma
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch", reason="the embedded engine needs torch")
pytest.importorskip("torchsde", reason="some samplers need torchsde")

from comfy_atelier.engines.embedded import noise, samplers, sigmas  # noqa: E402 # need torch
from comfy_atelier.engines.embedded.problems import NodeProblem, RunCancelled  # noqa: E402

RECORD = Path(__file__).parents[1] / "data" / "parity" / "sampling.json.xz"
RECORDED: dict[str, list[float]] = json.loads(lzma.decompress(RECORD.read_bytes()))["samplers"]
MORE: dict[str, list[float]] = json.loads(lzma.decompress(RECORD.with_name("more_samplers.json.xz").read_bytes()))
SHAPE = (2, 4, 3, 5)

# torchsde says so of a path whose ends are not round numbers; ComfyUI lives with it too
pytestmark = pytest.mark.filterwarnings("ignore:Should have t:UserWarning")


def made_up_model(x: Any, sigma: Any) -> Any:
    s = sigma.reshape(-1, 1, 1, 1)
    return torch.sin(x * 1.3) * torch.exp(-s) + 0.3 * x / (1 + s * s) + 0.1


def levels(kind: str) -> sigmas.NoiseLevels:
    return sigmas.Flow(shift=3.0) if kind == "flow" else sigmas.Discrete()


@pytest.mark.parametrize("case", [case for case in RECORDED if not case.startswith("noise")])
def test_a_sampler_walks_as_comfyui_does(case: str) -> None:
    name, kind, scheduler, steps = case.split()
    told: list[int] = []
    walk = samplers.Walk(
        denoise=made_up_model, levels=levels(kind), seed=7, told=lambda step, x, denoised: told.append(step)
    )
    visited = sigmas.schedule(walk.levels, scheduler, int(steps))
    start = noise.first_noise(SHAPE, 7) * visited[0]
    found = samplers.sampler(name)(walk, start, visited).flatten()
    expected = torch.tensor(RECORDED[case])
    assert torch.isfinite(found).all() == torch.isfinite(expected).all()
    scale = float(expected.abs().max())
    assert float((found - expected).abs().max()) <= 1e-5 * scale
    assert told == list(range(int(steps)))


def test_each_sampler_is_recorded() -> None:
    recorded = {case.split()[0] for case in (*RECORDED, *MORE)} - {"noise"}
    assert recorded == set(samplers.SAMPLERS) - {"ddim"}


def _positive(x: Any, sigma: Any) -> Any:
    s = sigma.reshape(-1, 1, 1, 1)
    return torch.tanh(x / (s + 1.0)) * 0.8 + 0.1 * torch.sin(s)


def _negative(x: Any, sigma: Any) -> Any:
    return torch.tanh(x / (sigma.reshape(-1, 1, 1, 1) + 1.0)) * 0.5 - 0.05


def _guided(x: Any, sigma: Any) -> Any:
    negative = _negative(x, sigma)
    return negative + (_positive(x, sigma) - negative) * 3.0


@pytest.mark.parametrize("case", MORE)
def test_a_further_sampler_walks_as_comfyui_does(case: str) -> None:
    name, kind, steps = case.split()
    walk = samplers.Walk(
        denoise=_guided,
        levels=levels(kind),
        seed=7,
        unguided=lambda x, sigma: (_guided(x, sigma), _negative(x, sigma)),
    )
    visited = sigmas.schedule(walk.levels, "simple" if kind == "flow" else "karras", int(steps))
    start = torch.randn(1, 4, 6, 6, generator=torch.Generator().manual_seed(3)) * visited[0]
    found = samplers.sampler(name)(walk, start, visited).flatten()[:16]
    expected = torch.tensor(MORE[case])
    assert torch.isfinite(found).all() == torch.isfinite(expected).all()
    if torch.isfinite(expected).all():
        assert float((found - expected).abs().max()) <= 1e-5 * float(expected.abs().max())


def test_a_picture_of_a_batch_gets_its_own_noise() -> None:
    expected = torch.tensor(RECORDED["noise 11 of 2 0 2"])
    assert torch.equal(noise.first_noise((3, *SHAPE[1:]), 11, [2, 0, 2]).flatten(), expected)


def test_an_unknown_sampler_is_refused() -> None:
    with pytest.raises(NodeProblem, match="lacks the sampler 'magic'"):
        samplers.sampler("magic")


@pytest.mark.parametrize("name", samplers.SAMPLERS)
def test_whoever_listens_can_stop_it(name: str) -> None:
    def told(step: int, x: Any, denoised: Any) -> None:
        if step == 1:
            raise RunCancelled

    walk = samplers.Walk(denoise=made_up_model, levels=levels("discrete"), seed=1, told=told)
    visited = sigmas.schedule(walk.levels, "karras", 6)
    with pytest.raises(RunCancelled):
        samplers.sampler(name)(walk, noise.first_noise(SHAPE, 1) * visited[0], visited)


@pytest.mark.parametrize("name", samplers.SAMPLERS)
def test_no_step_changes_nothing(name: str) -> None:
    walk = samplers.Walk(denoise=made_up_model, levels=levels("discrete"), seed=1)
    start = noise.first_noise(SHAPE, 1)
    assert torch.equal(samplers.sampler(name)(walk, start, torch.tensor([14.6])), start)
