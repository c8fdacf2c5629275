"""Write what ComfyUI's own autoencoder gives with seeded weights, for small layouts with and without quant_conv.

Run it with ComfyUI's Python:

    cd COMFYUI && PYTHON .../tests/data/parity/record_autoencoder.py --cpu

Writes ``autoencoder.json.xz`` beside itself: names and shapes of the tensors, and the outputs.
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
from comfy.ldm.models.autoencoder import AutoencoderKL, AutoencodingEngine  # noqa: E402

HERE = Path(__file__).parent
SHARED = {"double_z": True, "resolution": 64, "in_channels": 3, "out_ch": 3, "attn_resolutions": [], "dropout": 0.0}
LAYOUTS: dict[str, dict[str, Any]] = {
    "4 channels, quant_conv": {"z_channels": 4, "ch": 32, "ch_mult": [1, 2, 2], "num_res_blocks": 2},
    "16 channels": {"z_channels": 16, "ch": 32, "ch_mult": [1, 2], "num_res_blocks": 1},
}


def fill(name: str, shape: tuple[int, ...]) -> torch.Tensor:
    """A tensor that depends on its name alone, so that no weights need be kept; the tests have the same."""
    rng = np.random.default_rng(zlib.crc32(name.encode()))
    values = rng.standard_normal(shape) / max(1.0, float(np.prod(shape[1:]))) ** 0.5
    if len(shape) == 1 and name.endswith("weight"):
        values = 1 + 0.1 * values
    return torch.from_numpy(values.astype(np.float32))


def make(layout: str) -> torch.nn.Module:
    settings = {**SHARED, **LAYOUTS[layout]}
    if "quant_conv" in layout:
        return AutoencoderKL(ddconfig=settings, embed_dim=settings["z_channels"])
    place = "comfy.ldm.modules.diffusionmodules.model."
    return AutoencodingEngine(
        regularizer_config={"target": "comfy.ldm.models.autoencoder.DiagonalGaussianRegularizer"},
        encoder_config={"target": f"{place}Encoder", "params": settings},
        decoder_config={"target": f"{place}Decoder", "params": settings},
    )


def main() -> None:
    recorded: dict[str, Any] = {}
    for layout, settings in LAYOUTS.items():
        model = make(layout).eval()
        shapes = {name: list(tensor.shape) for name, tensor in model.state_dict().items()}
        model.load_state_dict({name: fill(name, tuple(shape)) for name, shape in shapes.items()})
        with torch.no_grad():
            latent = model.encode(fill("pixels", (2, 3, 16, 24)))
            pixels = model.decode(fill("latent", (2, settings["z_channels"], 4, 5)))
        recorded[layout] = {
            "shapes": shapes,
            "latent": [float(f"{value:.7g}") for value in latent.flatten()],
            "pixels": [float(f"{value:.7g}") for value in pixels.flatten()],
        }
    (HERE / "autoencoder.json.xz").write_bytes(lzma.compress(json.dumps(recorded).encode(), preset=9))


main()
