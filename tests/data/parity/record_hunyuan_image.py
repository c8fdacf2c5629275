"""Write what ComfyUI's own transformer and autoencoder of HunyuanImage 2.1 give with seeded weights, for small layouts.

Run it with ComfyUI's Python:

    cd COMFYUI && PYTHON .../tests/data/parity/record_hunyuan_image.py --cpu

Writes ``hunyuan_image.json.xz`` beside itself: names and shapes of the tensors, and the outputs.
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

import comfy.ldm.hunyuan_video.vae as vae  # noqa: E402
import comfy.model_detection  # noqa: E402
import comfy.ops  # noqa: E402
import numpy as np  # noqa: E402
import torch  # noqa: E402
from comfy.ldm.hunyuan_video.model import HunyuanVideo  # noqa: E402

HERE = Path(__file__).parent
SHARED: dict[str, Any] = {
    "in_channels": 8,
    "out_channels": 8,
    "patch_size": [1, 1],
    "vec_in_dim": None,
    "context_in_dim": 24,
    "hidden_size": 128,
    "mlp_ratio": 4.0,
    "num_heads": 1,
    "depth": 1,
    "depth_single_blocks": 1,
    "axes_dim": [64, 64],
    "theta": 256,
    "qkv_bias": True,
    "use_cond_type_embedding": False,
    "vision_in_dim": None,
    "meanflow_sum": False,
    "dtype": torch.float32,
    "operations": comfy.ops.disable_weight_init,
}
LAYOUTS = {
    "base": {"byt5": False, "guidance_embed": False, "meanflow": False},
    "distilled": {"byt5": True, "guidance_embed": True, "meanflow": True},
}
AUTOENCODER: dict[str, Any] = {
    "in_channels": 3,
    "out_channels": 3,
    "z_channels": 16,
    "block_out_channels": [32, 64, 64],
    "num_res_blocks": 1,
    "ffactor_spatial": 4,
}


def fill(name: str, shape: tuple[int, ...]) -> torch.Tensor:
    """A tensor that depends on its name alone, so that no weights need be kept; the tests have the same."""
    rng = np.random.default_rng(zlib.crc32(name.encode()))
    values = rng.standard_normal(shape) / max(1.0, float(np.prod(shape[1:]))) ** 0.5
    if len(shape) == 1 and name.endswith("weight"):
        values = 1 + 0.1 * values
    return torch.from_numpy(values.astype(np.float32))


def filled(model: torch.nn.Module) -> dict[str, list[int]]:
    shapes = {name: list(tensor.shape) for name, tensor in model.state_dict().items()}
    model.load_state_dict({name: fill(name, tuple(shape)) for name, shape in shapes.items()})
    return shapes


def numbers(tensor: torch.Tensor) -> list[float]:
    return [float(f"{value:.7g}") for value in tensor.flatten().tolist()]


def transformer(options: dict[str, bool]) -> dict[str, Any]:
    model = HunyuanVideo(**SHARED, **options).eval()
    shapes = filled(model)
    sigma, end = torch.tensor([0.8, 0.8]), 0.55
    told = {"sigmas": sigma, "sample_sigmas": torch.tensor([1.0, 0.8, end, 0.0])}
    outputs = []
    for glyphs in (0, 3) if options["byt5"] else (0,):
        with torch.no_grad():
            out = model(
                fill("x", (2, 8, 4, 5)),
                sigma * 1000,
                fill("text", (2, 7, 24)),
                txt_byt5=fill("glyphs", (2, glyphs, 1472)) if glyphs else None,
                guidance=torch.tensor([3.5]),
                transformer_options=told,
            )
        outputs.append({"glyphs": glyphs, "values": numbers(out)})
    return {"shapes": shapes, "outputs": outputs}


def autoencoder() -> dict[str, Any]:
    model = torch.nn.ModuleDict({"encoder": vae.Encoder(**AUTOENCODER), "decoder": vae.Decoder(**AUTOENCODER)}).eval()
    shapes = filled(model)
    with torch.no_grad():
        latent = model["encoder"](fill("pixels", (2, 3, 8, 12))).chunk(2, dim=1)[0]
        pixels = model["decoder"](fill("latent", (2, 16, 2, 3)))
    return {"shapes": shapes, "latent": numbers(latent), "pixels": numbers(pixels)}


def main() -> None:
    recorded = {name: transformer(options) for name, options in LAYOUTS.items()}
    recorded["autoencoder"] = autoencoder()
    (HERE / "hunyuan_image.json.xz").write_bytes(lzma.compress(json.dumps(recorded).encode(), preset=9))


main()
