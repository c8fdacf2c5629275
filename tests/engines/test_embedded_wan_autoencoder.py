"""Wan 2.1's (and Qwen-Image's) autoencoder against what ComfyUI 0.33.0's own gave with the same seeded weights.

Recorded by ``tests/data/parity/record_wan_autoencoder.py``.
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
    importlib.import_module("diffusers.models.autoencoders.autoencoder_kl_qwenimage")
except (ImportError, RuntimeError) as error:  # it is not there, or what it loads does not fit together
    pytest.skip(f"models need diffusers: {error}".splitlines()[0], allow_module_level=True)

from comfy_atelier.engines.embedded.diffusion.weights import Weights  # noqa: E402 # needs torch
from comfy_atelier.engines.embedded.families.wan_autoencoder import WanCoder, wan_coder  # noqa: E402
from comfy_atelier.engines.embedded.problems import NodeProblem  # noqa: E402

RECORD = Path(__file__).parents[1] / "data" / "parity" / "wan_autoencoder.json.xz"
RECORDED: dict[str, Any] = json.loads(lzma.decompress(RECORD.read_bytes()))


def fill(name: str, shape: tuple[int, ...]) -> Any:
    rng = np.random.default_rng(zlib.crc32(name.encode()))
    values = rng.standard_normal(shape) / max(1.0, float(np.prod(shape[1:]))) ** 0.5
    if name.endswith("gamma"):
        values = 1 + 0.1 * values
    return torch.from_numpy(values.astype(np.float32))


def weights(**more: Any) -> Weights:
    tensors = {name: fill(name, tuple(shape)) for name, shape in RECORDED["shapes"].items()}
    return Weights({**tensors, **more}, source="wan.safetensors")


def assert_near(found: Any, expected: list[float]) -> None:
    wanted = torch.tensor(expected)
    assert float((found - wanted).abs().max()) <= 2e-5 * float(wanted.abs().max())


@pytest.mark.parametrize("output", RECORDED["outputs"], ids=lambda output: str(output["size"]))
def test_it_encodes_and_decodes_as_comfyui_does(output: dict[str, Any]) -> None:
    coder = wan_coder(weights())
    assert coder is not None
    module = coder.build(weights())
    pixels = fill("pixels", (1, 3, *output["size"]))[0].movedim(0, -1)
    with torch.no_grad():
        latent = coder.encode(module, (pixels + 1.0) / 2.0)
        back = coder.decode(module, fill("latent", tuple(output["latent"])))
    assert list(latent.shape) == output["latent"]
    assert_near(latent.flatten()[::3], output["encoded"])
    recorded = (back * 2.0 - 1.0).movedim(-1, 1)
    assert list(recorded.shape) == output["pixels"]
    expected = torch.tensor(output["decoded"])
    if output["latent"][2] > 1:  # diffusers cuts a video's values off, the engine does so anyway
        expected = expected.clamp(-1.0, 1.0)
    assert_near(recorded.flatten()[::31], expected.tolist())


def test_each_tensor_is_used() -> None:
    module = WanCoder().build(weights())
    assert sum(p.numel() for p in module.parameters()) == sum(tensor.numel() for tensor in weights().values())


def test_other_autoencoders_are_not_its_own() -> None:
    assert wan_coder(Weights({"decoder.conv_in.weight": torch.zeros(1)})) is None
    assert wan_coder(weights(**{"decoder.upsamples.0.upsamples.0.residual.2.weight": torch.zeros(1)})) is None


def test_a_missing_tensor_is_named() -> None:
    less = weights().without(["decoder.middle.1.proj.bias"])
    with pytest.raises(NodeProblem, match=r"tensor 'decoder\.mid_block\.attentions\.0\.proj\.bias' is missing"):
        WanCoder(source="wan.safetensors").build(less)
