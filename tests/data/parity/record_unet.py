"""Write what ComfyUI's own U-Net predicts with seeded weights, for small layouts of SD 1.x, 2.x and SDXL.

Run it with ComfyUI's Python:

    cd COMFYUI && PYTHON .../tests/data/parity/record_unet.py --cpu

Writes ``unet.json.xz`` beside itself: names and shapes of the tensors, inputs' shapes, and the outputs.
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

import comfy.ops  # noqa: E402
import numpy as np  # noqa: E402
import torch  # noqa: E402
from comfy.ldm.modules.diffusionmodules.openaimodel import UNetModel  # noqa: E402

HERE = Path(__file__).parent
SHARED = {
    "image_size": 32,
    "in_channels": 4,
    "out_channels": 4,
    "dtype": torch.float32,
    "operations": comfy.ops.disable_weight_init,
}
LAYOUTS: dict[str, dict[str, Any]] = {
    "SD 1.x": {
        "model_channels": 32,
        "num_res_blocks": [2, 2],
        "channel_mult": [1, 2],
        "transformer_depth": [1, 1, 0, 0],
        "transformer_depth_output": [1, 1, 1, 0, 0, 0],
        "transformer_depth_middle": 1,
        "context_dim": 24,
        "num_heads": 8,
        "use_spatial_transformer": True,
    },
    "SD 2.x": {
        "model_channels": 64,
        "num_res_blocks": [1, 1],
        "channel_mult": [1, 2],
        "transformer_depth": [1, 1],
        "transformer_depth_output": [1, 1, 1, 1],
        "transformer_depth_middle": 1,
        "context_dim": 40,
        "num_head_channels": 32,
        "use_linear_in_transformer": True,
        "use_spatial_transformer": True,
    },
    "SDXL": {
        "model_channels": 32,
        "num_res_blocks": [1, 1, 1],
        "channel_mult": [1, 2, 4],
        "transformer_depth": [0, 1, 2],
        "transformer_depth_output": [0, 0, 1, 1, 2, 2],
        "transformer_depth_middle": 2,
        "context_dim": 48,
        "num_head_channels": 32,
        "use_linear_in_transformer": True,
        "use_spatial_transformer": True,
        "num_classes": "sequential",
        "adm_in_channels": 20,
    },
    "SD 1.x, one level, no attention in the middle": {
        "model_channels": 32,
        "num_res_blocks": [1],
        "channel_mult": [1],
        "transformer_depth": [1],
        "transformer_depth_output": [1, 1],
        "transformer_depth_middle": -1,
        "context_dim": 24,
        "num_heads": 8,
        "use_spatial_transformer": True,
    },
}


def fill(name: str, shape: tuple[int, ...]) -> torch.Tensor:
    """A tensor that depends on its name alone, so that no weights need be kept; the tests have the same."""
    rng = np.random.default_rng(zlib.crc32(name.encode()))
    values = rng.standard_normal(shape) / max(1.0, float(np.prod(shape[1:]))) ** 0.5
    if name.endswith("norm.weight") or (len(shape) == 1 and name.endswith("weight")):
        values = 1 + 0.1 * values
    return torch.from_numpy(values.astype(np.float32))


def main() -> None:
    recorded: dict[str, Any] = {}
    for layout, settings in LAYOUTS.items():
        model = UNetModel(**SHARED, **settings).eval()
        shapes = {name: list(tensor.shape) for name, tensor in model.state_dict().items()}
        model.load_state_dict({name: fill(name, tuple(shape)) for name, shape in shapes.items()})
        outputs = []
        for rows, columns in ((8, 8), (9, 14)):
            x, context = fill("x", (2, 4, rows, columns)), fill("context", (2, 7, settings["context_dim"]))
            label = fill("label", (2, 20)) if "adm_in_channels" in settings else None
            with torch.no_grad():
                out = model(x, torch.tensor([999.0, 13.5]), context, y=label)
            outputs.append({"rows": rows, "columns": columns, "values": [float(f"{v:.7g}") for v in out.flatten()]})
        options = {"heads": settings.get("num_heads"), "head_size": settings.get("num_head_channels")}
        recorded[layout] = {"shapes": shapes, "options": options, "outputs": outputs}
    (HERE / "unet.json.xz").write_bytes(lzma.compress(json.dumps(recorded).encode(), preset=9))


main()
