"""The autoencoder against what ComfyUI 0.33.0's own gave with the same seeded weights, for small layouts.

Recorded by ``tests/data/parity/record_autoencoder.py``.
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
    importlib.import_module("diffusers.models.autoencoders.autoencoder_kl")
except (ImportError, RuntimeError) as error:  # it is not there, or what it loads does not fit together
    pytest.skip(f"models need diffusers: {error}".splitlines()[0], allow_module_level=True)

from comfy_atelier.engines.embedded.autoencoder import Autoencoder  # noqa: E402 # needs torch
from comfy_atelier.engines.embedded.problems import NodeProblem  # noqa: E402

RECORD = Path(__file__).parents[1] / "data" / "parity" / "autoencoder.json.xz"
RECORDED: dict[str, Any] = json.loads(lzma.decompress(RECORD.read_bytes()))


def fill(name: str, shape: tuple[int, ...]) -> Any:
    rng = np.random.default_rng(zlib.crc32(name.encode()))
    values = rng.standard_normal(shape) / max(1.0, float(np.prod(shape[1:]))) ** 0.5
    if len(shape) == 1 and name.endswith("weight"):
        values = 1 + 0.1 * values
    return torch.from_numpy(values.astype(np.float32))


def made(layout: str) -> Autoencoder:
    return Autoencoder({name: fill(name, tuple(shape)) for name, shape in RECORDED[layout]["shapes"].items()})


def near(found: Any, expected: list[float]) -> bool:
    wanted = torch.tensor(expected).reshape(found.shape)
    return bool((found - wanted).abs().max() <= 1e-5 * max(1.0, float(wanted.abs().max())))


@pytest.mark.parametrize("layout", RECORDED)
def test_it_encodes_as_comfyui_does(layout: str) -> None:
    pixels = fill("pixels", (2, 3, 16, 24))
    with torch.no_grad():
        assert near(made(layout).encode((pixels.movedim(1, -1) + 1) / 2), RECORDED[layout]["latent"])


@pytest.mark.parametrize("layout", RECORDED)
def test_it_decodes_as_comfyui_does(layout: str) -> None:
    model = made(layout)
    latent = fill("latent", (2, model.channels, 4, 5))
    raw = torch.tensor(RECORDED[layout]["pixels"]).reshape(2, 3, 4 * model.factor, 5 * model.factor)
    expected = ((raw + 1) / 2).clamp(0, 1).movedim(1, -1)
    with torch.no_grad():
        assert near(model.decode(latent), expected.flatten().tolist())


def test_sides_are_cut_to_multiples_from_the_middle() -> None:
    model = made("16 channels")
    image = torch.rand(1, 9, 13, 3)
    with torch.no_grad():
        assert torch.equal(model.encode(image), model.encode(image[:, 0:8, 0:12]))
        with pytest.raises(NodeProblem, match="too small"):
            model.encode(torch.rand(1, 1, 9, 3))


def test_a_latent_of_another_kind_is_refused() -> None:
    with pytest.raises(NodeProblem, match="has 4 channels, the autoencoder takes 16"):
        made("16 channels").decode(torch.zeros(1, 4, 8, 8))


def test_other_files_are_refused() -> None:
    with pytest.raises(NodeProblem, match="no autoencoder"):
        Autoencoder({"x": torch.zeros(1)})
