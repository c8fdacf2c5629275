"""Write what ComfyUI's own U-Net and autoencoder of Stable Video Diffusion give with seeded weights, for small layouts.

Run it with ComfyUI's Python:

    cd COMFYUI && PYTHON .../tests/data/parity/record_svd.py --cpu

Writes ``svd.json.xz`` beside itself: names and shapes of the tensors, and the outputs.
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

import comfy.ldm.modules.attention  # noqa: E402
import comfy.model_base  # noqa: E402
import comfy.model_sampling  # noqa: E402
import comfy.ops  # noqa: E402
import numpy as np  # noqa: E402
import torch  # noqa: E402
from comfy.ldm.models.autoencoder import AutoencodingEngine  # noqa: E402
from comfy.ldm.modules.diffusionmodules.openaimodel import UNetModel  # noqa: E402

HERE = Path(__file__).parent
UNET: dict[str, Any] = {
    "image_size": 32,
    "in_channels": 8,
    "out_channels": 4,
    "model_channels": 32,
    "num_res_blocks": [1, 1],
    "channel_mult": [1, 2],
    "transformer_depth": [1, 0],
    "transformer_depth_output": [1, 1, 0, 0],
    "transformer_depth_middle": 1,
    "context_dim": 24,
    "num_head_channels": 16,
    "use_linear_in_transformer": True,
    "use_spatial_transformer": True,
    "num_classes": "sequential",
    "adm_in_channels": 768,
    "extra_ff_mix_layer": True,
    "use_spatial_context": True,
    "merge_strategy": "learned_with_images",
    "merge_factor": 0.0,
    "video_kernel_size": [3, 1, 1],
    "use_temporal_resblock": True,
    "use_temporal_attention": True,
    "dtype": torch.float32,
    "operations": comfy.ops.disable_weight_init,
}
ENCODER: dict[str, Any] = {
    "double_z": True,
    "z_channels": 4,
    "resolution": 64,
    "in_channels": 3,
    "out_ch": 3,
    "ch": 32,
    "ch_mult": [1, 2],
    "num_res_blocks": 2,
    "attn_resolutions": [],
    "dropout": 0.0,
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


def unet() -> dict[str, Any]:
    model = UNetModel(**UNET).eval()
    shapes = filled(model)
    outputs = []
    for videos, frames, rows, columns in ((1, 3, 8, 8), (2, 2, 5, 6)):
        count = videos * frames
        x, context = fill("x", (count, 8, rows, columns)), fill("context", (videos, 1, 24)).repeat_interleave(frames, 0)
        label = fill("label", (videos, 768)).repeat_interleave(frames, 0)
        steps = torch.tensor([1.6, -0.7][:videos]).repeat_interleave(frames)
        with torch.no_grad():
            out = model(x, steps, context, y=label, num_video_frames=frames)
        outputs.append({"videos": videos, "frames": frames, "rows": rows, "columns": columns, "values": numbers(out)})
    return {"shapes": shapes, "outputs": outputs}


def autoencoder() -> dict[str, Any]:
    model = AutoencodingEngine(
        regularizer_config={"target": "comfy.ldm.models.autoencoder.DiagonalGaussianRegularizer"},
        encoder_config={"target": "comfy.ldm.modules.diffusionmodules.model.Encoder", "params": ENCODER},
        decoder_config={
            "target": "comfy.ldm.modules.temporal_ae.VideoDecoder",
            "params": {**ENCODER, "video_kernel_size": [3, 1, 1], "alpha": 0.0},
        },
    ).eval()
    shapes = filled(model)
    with torch.no_grad():
        latent = model.encode(fill("pixels", (2, 3, 8, 12)))
        pixels = model.decode(fill("latent", (3, 4, 4, 5)))
    return {"shapes": shapes, "latent": numbers(latent), "pixels": numbers(pixels)}


def levels() -> dict[str, Any]:
    class Settings:
        sampling_settings = {"sigma_max": 700.0, "sigma_min": 0.002}  # noqa: RUF012 # as ComfyUI's own classes have it

    made = comfy.model_base.model_sampling(Settings(), comfy.model_base.ModelType.V_PREDICTION_EDM)
    sigma, x, out = torch.tensor([0.5, 80.0]), fill("x", (2, 1, 2, 2)), fill("out", (2, 1, 2, 2))
    percents = [0.0, 0.1, 0.5, 0.9, 1.0]
    return {
        "sigmas": numbers(made.sigmas[::111]),
        "timesteps": numbers(made.timestep(sigma)),
        "back": numbers(made.sigma(made.timestep(sigma))),
        "percents": [[percent, float(made.percent_to_sigma(percent))] for percent in percents],
        "input": numbers(made.calculate_input(sigma, x)),
        "denoised": numbers(made.calculate_denoised(sigma, out, x)),
    }


def label() -> list[float]:
    embed = comfy.model_base.Timestep(256)
    told = [5.0, 127.0, 0.25]  # frame rate less one, motion, augmentation
    return numbers(torch.cat([embed(torch.tensor([value])) for value in told]).flatten())


def main() -> None:
    recorded = {"unet": unet(), "autoencoder": autoencoder(), "levels": levels(), "label": label()}
    (HERE / "svd.json.xz").write_bytes(lzma.compress(json.dumps(recorded).encode(), preset=9))


main()
