"""Write what ComfyUI's own transformer of HiDream gives with seeded weights, for a small layout.

Run it with ComfyUI's Python:

    cd COMFYUI && PYTHON .../tests/data/parity/record_hidream.py --cpu

Writes ``hidream.json.xz`` beside itself: names and shapes of the tensors, and the outputs.
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
from comfy.ldm.hidream.model import HiDreamImageTransformer2DModel  # noqa: E402

HERE = Path(__file__).parent
LAYOUT: dict[str, Any] = {
    "attention_head_dim": 128,
    "axes_dims_rope": [64, 32, 32],
    "caption_channels": [20, 24],
    "max_resolution": [128, 128],
    "in_channels": 16,
    "out_channels": 16,
    "llama_layers": [0, 1, 2],
    "num_attention_heads": 1,
    "num_routed_experts": 4,
    "num_activated_experts": 2,
    "num_layers": 2,
    "num_single_layers": 1,
    "patch_size": 2,
    "text_emb_dim": 12,
    "dtype": torch.float32,
    "operations": comfy.ops.disable_weight_init,
}
SIZES = (
    {"rows": 6, "columns": 6},
    {"rows": 4, "columns": 8},
    {"rows": 5, "columns": 6},
    {"rows": 4, "columns": 6, "beside": True},
)


def fill(name: str, shape: tuple[int, ...]) -> torch.Tensor:
    """A tensor that depends on its name alone, so that no weights need be kept; the tests have the same."""
    rng = np.random.default_rng(zlib.crc32(name.encode()))
    values = rng.standard_normal(shape) / max(1.0, float(np.prod(shape[1:]))) ** 0.5
    if len(shape) == 1 and name.endswith("weight"):
        values = 1 + 0.1 * values
    return torch.from_numpy(values.astype(np.float32))


def main() -> None:
    model = HiDreamImageTransformer2DModel(**LAYOUT).eval()
    shapes = {name: list(tensor.shape) for name, tensor in model.state_dict().items()}
    model.load_state_dict({name: fill(name, tuple(shape)) for name, shape in shapes.items()})
    outputs = []
    for size in SIZES:
        rows, columns = size["rows"], size["columns"]
        with torch.no_grad():
            out = model(
                fill("x", (2, 16, rows, columns)),
                torch.tensor([800.0, 120.0]),
                y=fill("pooled", (2, 12)),
                context=fill("t5", (2, 5, 20)),
                encoder_hidden_states_llama3=fill("llama", (2, 3, 4, 24)),
                image_cond=fill("beside", (2, 16, rows, columns)) if "beside" in size else None,
            )
        outputs.append({**size, "values": [float(f"{value:.7g}") for value in out.flatten().tolist()]})
    recorded = {"shapes": shapes, "outputs": outputs}
    (HERE / "hidream.json.xz").write_bytes(lzma.compress(json.dumps(recorded).encode(), preset=9))


main()
