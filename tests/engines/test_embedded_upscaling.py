"""Upscale models: tiles against ComfyUI 0.33.0's ``tiled_scale``, spandrel where torchvision is missing, errors."""

from __future__ import annotations

import importlib.util
import subprocess
import sys

import pytest

torch = pytest.importorskip("torch", reason="the embedded engine needs torch")
np = pytest.importorskip("numpy")

from comfy_atelier.engines.embedded.diffusion import upscaling  # noqa: E402 # needs torch
from comfy_atelier.engines.embedded.diffusion.weights import Weights  # noqa: E402
from comfy_atelier.engines.embedded.problems import NodeProblem, RunCancelled  # noqa: E402

# Shape -> the sum and the mean by place that ComfyUI gave for it.
RECORDED = {
    (2, 3, 70, 90): (113366.37, 56806.906),
    (1, 3, 20, 90): (16105.846, 8061.7787),
    (1, 3, 30, 31): (8236.3312, 4097.441),
}
needs_spandrel = pytest.mark.skipif(importlib.util.find_spec("spandrel") is None, reason="needs spandrel")


def twice(part: torch.Tensor) -> torch.Tensor:
    """Not local: a tile's mean shows where tiles were."""
    return torch.nn.functional.interpolate(part, scale_factor=2, mode="nearest") + part.mean() * 0.5


@pytest.mark.parametrize("shape", RECORDED)
def test_tiles_are_blended_as_comfyui_blends_them(shape: tuple[int, ...]) -> None:
    pixels = torch.from_numpy(np.random.default_rng(3).random(shape).astype(np.float32))
    steps: list[tuple[int, int]] = []
    found = upscaling.tiled(pixels, twice, 32, 8, 2, lambda done, total: steps.append((done, total))).double()
    assert found.shape == (shape[0], 3, 2 * shape[2], 2 * shape[3])
    places = torch.arange(found.numel()).reshape(found.shape)
    assert [float(found.sum()), float((found * places).mean())] == pytest.approx(RECORDED[shape], rel=1e-6)
    assert steps[0][0] == 0
    assert steps[-1][0] == steps[-1][1]


def test_a_cancelled_job_stops_between_tiles() -> None:
    def told(done: int, total: int) -> None:
        if done == 2:
            raise RunCancelled

    with pytest.raises(RunCancelled):
        upscaling.tiled(torch.rand(1, 3, 70, 90), twice, 32, 8, 2, told)


def real_esrgan(width: int = 8, growth: int = 32) -> dict[str, torch.Tensor]:
    """The layout of Real-ESRGAN x4, with one block."""
    torch.manual_seed(0)
    state: dict[str, torch.Tensor] = {}

    def conv(name: str, into: int, out: int) -> None:
        state[f"{name}.weight"] = torch.randn(out, into, 3, 3) * 0.05
        state[f"{name}.bias"] = torch.zeros(out)

    conv("conv_first", 3, width)
    for part in (1, 2, 3):
        for layer in range(5):
            out = width if layer == 4 else growth
            conv(f"body.0.rdb{part}.conv{layer + 1}", width + layer * growth, out)
    for name in ("conv_body", "conv_up1", "conv_up2", "conv_hr"):
        conv(name, width, width)
    conv("conv_last", width, 3)
    return state


@needs_spandrel
def test_a_picture_becomes_larger() -> None:
    model = upscaling.upscale_model(Weights(real_esrgan(), source="x4.safetensors"))
    found = upscaling.upscaled(model, torch.rand(2, 10, 12, 3), told=lambda done, total: None)
    assert found.shape == (2, 40, 48, 3)
    assert 0.0 <= float(found.min()) <= float(found.max()) <= 1.0


@needs_spandrel
def test_a_file_of_wrong_shapes_is_named() -> None:
    model = upscaling.upscale_model(Weights(real_esrgan(growth=8), source="x4.safetensors"))
    with pytest.raises(NodeProblem, match=r"'x4\.safetensors' is not whole"):
        model.component.module()


@needs_spandrel
def test_another_file_is_named() -> None:
    model = upscaling.upscale_model(Weights({"lora.alpha": torch.ones(1)}, source="lora.safetensors"))
    with pytest.raises(NodeProblem, match=r"'lora\.safetensors' is no upscale model"):
        model.component.module()


@needs_spandrel
def test_spandrel_is_loaded_without_torchvision_and_nothing_stays_in_its_place() -> None:
    script = (
        "import sys; sys.modules['torchvision'] = None\n"  # as if it were not installed
        "from comfy_atelier.engines.embedded.diffusion import upscaling\n"
        "print(hasattr(upscaling.spandrel(), 'ModelLoader'), sys.modules.get('torchvision'))"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["True", "None"]


def test_where_it_is_missing_the_remedy_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "spandrel", raising=False)
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(NodeProblem, match="not installed") as caught:
        upscaling.upscale_model(Weights(real_esrgan()))
    assert "pip install --no-deps spandrel" in caught.value.remedy
