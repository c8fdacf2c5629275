"""Resizing of latents against ComfyUI 0.33.0's own ``bislerp`` (the other methods are in the parity prompts)."""

from __future__ import annotations

import pytest

torch = pytest.importorskip("torch", reason="the embedded engine needs torch")
np = pytest.importorskip("numpy")

from comfy_atelier.engines.embedded.resize import resize  # noqa: E402 # needs torch

# Width and height -> sum, sum of sizes, and mean by place, which ComfyUI gave for the latent below.
RECORDED = {
    (14, 18): (-338.9813, 1482.777, -187.9649),
    (5, 4): (-22.45906, 115.8621, -13.45252),
    (20, 3): (-44.88888, 330.7289, -34.5914),
}


@pytest.mark.parametrize("size", RECORDED)
def test_directions_turn_and_lengths_grow(size: tuple[int, int]) -> None:
    latent = torch.from_numpy(np.random.default_rng(7).standard_normal((2, 4, 9, 7)).astype(np.float32))
    latent[0, :, 0, 0] = 0  # no direction
    latent[0, :, 1, 1] = latent[0, :, 1, 2]  # the same one
    latent[0, :, 3, 3] = -latent[0, :, 3, 4]  # opposite ones
    found = resize(latent, *size, "bislerp").double()
    assert found.shape == (2, 4, size[1], size[0])
    places = torch.arange(found.numel()).reshape(found.shape)
    numbers = [float(found.sum()), float(found.abs().sum()), float((found * places).mean())]
    assert numbers == pytest.approx(RECORDED[size], rel=1e-5)
