"""Write what ComfyUI's own Wan 2.1 autoencoder gives with seeded weights, for a narrow one: a picture, and a video.

Run it with ComfyUI's Python:

    cd COMFYUI && PYTHON .../tests/data/parity/record_wan_autoencoder.py --cpu

Writes ``wan_autoencoder.json.xz`` beside itself: names and shapes of the tensors, and the outputs.
"""

from __future__ import annotations

import json
import lzma
import sys
import zlib
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path.cwd()))  # ComfyUI's folder: its modules are not installed

import comfy.options

comfy.options.enable_args_parsing()

import numpy as np  # noqa: E402
import torch  # noqa: E402
from comfy.ldm.wan.vae import WanVAE  # noqa: E402

HERE = Path(__file__).parent
SETTINGS = {
    "dim": 8,
    "z_dim": 16,
    "dim_mult": [1, 2, 4, 4],
    "num_res_blocks": 2,
    "attn_scales": [],
    "temperal_downsample": [False, True, True],
}


def fill(name: str, shape: tuple[int, ...]) -> torch.Tensor:
    """A tensor that depends on its name alone, so that no weights need be kept; the tests have the same."""
    rng = np.random.default_rng(zlib.crc32(name.encode()))
    values = rng.standard_normal(shape) / max(1.0, float(np.prod(shape[1:]))) ** 0.5
    if name.endswith("gamma"):
        values = 1 + 0.1 * values
    return torch.from_numpy(values.astype(np.float32))


def numbers(tensor: torch.Tensor, step: int) -> list[float]:
    return [float(f"{value:.7g}") for value in tensor.flatten()[::step]]


def main() -> None:
    model = WanVAE(**SETTINGS).eval()
    shapes = {name: list(tensor.shape) for name, tensor in model.state_dict().items()}
    model.load_state_dict({name: fill(name, tuple(shape)) for name, shape in shapes.items()})
    outputs: list[dict[str, Any]] = []
    for frames, rows, columns in ((1, 24, 40), (2, 16, 16), (9, 16, 16)):
        with torch.no_grad():
            pixels = fill("pixels", (1, 3, frames, rows, columns))
            latent = model.encode(pixels)
            back = model.decode(fill("latent", tuple(latent.shape)))
        outputs.append(
            {
                "size": [frames, rows, columns],
                "latent": list(latent.shape),
                "encoded": numbers(latent, 3),
                "pixels": list(back.shape),
                "decoded": numbers(back, 31),
            }
        )
    recorded = {"shapes": shapes, "outputs": outputs}
    (HERE / "wan_autoencoder.json.xz").write_bytes(lzma.compress(json.dumps(recorded).encode(), preset=9))


main()
