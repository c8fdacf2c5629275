"""Stable Video Diffusion's U-Net and autoencoder against what ComfyUI 0.33.0's own gave with the same seeded weights.

Recorded by ``tests/data/parity/record_svd.py``.
"""

from __future__ import annotations

import importlib
import json
import lzma
import zlib
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch", reason="the embedded engine needs torch")
np = pytest.importorskip("numpy")
try:
    importlib.import_module("diffusers.models.transformers.transformer_temporal")
except (ImportError, RuntimeError) as error:  # it is not there, or what it loads does not fit together
    pytest.skip(f"models need diffusers: {error}".splitlines()[0], allow_module_level=True)

from comfy_atelier.engines.embedded.diffusion.levels import Continuous  # noqa: E402
from comfy_atelier.engines.embedded.diffusion.prediction import Velocity  # noqa: E402 # needs torch
from comfy_atelier.engines.embedded.diffusion.weights import Weights  # noqa: E402
from comfy_atelier.engines.embedded.families.video_autoencoder import video_coder  # noqa: E402 # needs torch
from comfy_atelier.engines.embedded.families.video_unet import VideoUNet  # noqa: E402
from comfy_atelier.engines.embedded.problems import NodeProblem  # noqa: E402

RECORD = Path(__file__).parents[1] / "data" / "parity" / "svd.json.xz"
RECORDED: dict[str, Any] = json.loads(lzma.decompress(RECORD.read_bytes()))


def fill(name: str, shape: tuple[int, ...]) -> Any:
    rng = np.random.default_rng(zlib.crc32(name.encode()))
    values = rng.standard_normal(shape) / max(1.0, float(np.prod(shape[1:]))) ** 0.5
    if len(shape) == 1 and name.endswith("weight"):
        values = 1 + 0.1 * values
    return torch.from_numpy(values.astype(np.float32))


def state(part: str) -> dict[str, Any]:
    return {name: fill(name, tuple(shape)) for name, shape in RECORDED[part]["shapes"].items()}


def error_of(found: Any, expected: list[float]) -> float:
    """The largest difference as a part of the largest value."""
    wanted = torch.tensor(expected).reshape(found.shape)
    return float((found - wanted).abs().max() / wanted.abs().max())


@pytest.mark.parametrize("output", RECORDED["unet"]["outputs"], ids=lambda output: f"{output['videos']} videos")
def test_it_predicts_what_comfyui_predicts(output: dict[str, Any]) -> None:
    videos, frames = output["videos"], output["frames"]
    model = VideoUNet(state("unet"), head_size=16).eval()
    with torch.no_grad():
        found = model.forward_frames(
            fill("x", (videos * frames, 8, output["rows"], output["columns"])),
            torch.tensor([1.6, -0.7][:videos]).repeat_interleave(frames),
            fill("context", (videos, 1, 24)).repeat_interleave(frames, 0),
            fill("label", (videos, 768)).repeat_interleave(frames, 0),
            frames=frames,
        )
    assert error_of(found, output["values"]) <= 1e-5


def test_frames_are_seen_together() -> None:
    model, x = VideoUNet(state("unet"), head_size=16).eval(), fill("x", (3, 8, 8, 8))
    rest = (fill("t", (3,)), fill("context", (1, 1, 24)).repeat(3, 1, 1), fill("label", (1, 768)).repeat(3, 1))
    other = x.clone()
    other[2] += 1
    with torch.no_grad():
        first, second = (model.forward_frames(value, *rest, frames=3) for value in (x, other))
    assert not torch.allclose(first[0], second[0])  # the first frame knows of the third


def test_each_tensor_of_the_unet_is_used() -> None:
    weights = state("unet")
    model = VideoUNet(weights, head_size=16)
    assert sum(p.numel() for p in model.parameters()) == sum(tensor.numel() for tensor in weights.values())


def autoencoder_of(weights: dict[str, Any]) -> tuple[Any, Any]:
    coder = video_coder(Weights(weights))
    assert coder is not None
    return coder, coder.build(weights)


def autoencoder() -> tuple[Any, Any]:
    return autoencoder_of(state("autoencoder"))


def test_it_encodes_as_comfyui_does() -> None:
    coder, module = autoencoder()
    with torch.no_grad():
        found = coder.encode(module, (fill("pixels", (2, 3, 8, 12)).movedim(1, -1) + 1) / 2)
    assert error_of(found, RECORDED["autoencoder"]["latent"]) <= 1e-5


def test_it_decodes_as_comfyui_does() -> None:
    coder, module = autoencoder()
    with torch.no_grad():
        found = coder.decode(module, fill("latent", (3, 4, 4, 5)))
    raw = torch.tensor(RECORDED["autoencoder"]["pixels"]).reshape(3, 3, 8, 10)
    assert (found - ((raw + 1) / 2).movedim(1, -1)).abs().max() <= 1e-5 * raw.abs().max()
    assert (coder.channels, coder.factor) == (4, 2)


def test_each_tensor_of_the_autoencoder_is_used() -> None:
    _, module = autoencoder()
    assert sum(p.numel() for p in module.parameters()) == sum(
        tensor.numel() for tensor in state("autoencoder").values()
    )


def test_a_model_for_pictures_is_refused() -> None:
    with pytest.raises(NodeProblem, match="no U-Net for video"):
        VideoUNet({"input_blocks.0.0.weight": torch.zeros(4, 4, 3, 3), "out.2.weight": torch.zeros(4, 4, 3, 3)})
    assert video_coder(Weights({"decoder.conv_in.weight": torch.zeros(4, 4, 3, 3)})) is None


def test_missing_tensors_are_named() -> None:
    weights = state("unet")
    del weights["middle_block.1.time_stack.0.ff_in.net.2.bias"]
    with pytest.raises(NodeProblem, match=r"'middle_block\.1' is not whole"):
        VideoUNet(weights, head_size=16)
    weights = state("autoencoder")
    del weights["decoder.up.1.block.0.time_stack.out_layers.3.bias"]
    with pytest.raises(NodeProblem, match=r"temporal_res_block\.conv2\.bias' is missing"):
        autoencoder_of(weights)


def test_its_noise_levels_are_comfyuis() -> None:
    recorded, levels, velocity = RECORDED["levels"], Continuous(high=700.0), Velocity()
    sigma = torch.tensor([0.5, 80.0])
    x, out = fill("x", (2, 1, 2, 2)), fill("out", (2, 1, 2, 2))
    assert levels.sigmas[::111].tolist() == pytest.approx(recorded["sigmas"], rel=1e-6)
    assert levels.timestep(sigma).tolist() == pytest.approx(recorded["timesteps"], rel=1e-6)
    assert levels.sigma(levels.timestep(sigma)).tolist() == pytest.approx(recorded["back"], rel=1e-6)
    assert [levels.at_percent(percent) for percent, _ in recorded["percents"]] == pytest.approx(
        [level for _, level in recorded["percents"]], rel=1e-6
    )
    assert velocity.entering(sigma, x).flatten().tolist() == pytest.approx(recorded["input"], rel=1e-6)
    assert velocity.denoised(sigma, out, x).flatten().tolist() == pytest.approx(recorded["denoised"], rel=1e-5)
