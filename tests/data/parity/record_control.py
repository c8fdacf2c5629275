"""Write what ComfyUI's own ControlNets of U-Nets hand on with seeded weights, for small layouts.

Run it with ComfyUI's Python:

    cd COMFYUI && PYTHON .../tests/data/parity/record_control.py --cpu

Writes ``control.json.xz`` beside itself: names and shapes of the tensors, and of each output a fingerprint.
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
from comfy.cldm.cldm import ControlNet  # noqa: E402

HERE = Path(__file__).parent
SHARED: dict[str, Any] = {
    "image_size": 32,
    "in_channels": 4,
    "hint_channels": 3,
    "use_spatial_transformer": True,
    "dtype": torch.float32,
    "operations": comfy.ops.disable_weight_init,
}
LAYOUTS: dict[str, dict[str, Any]] = {
    "SD 1.x": {
        "model_channels": 32,
        "num_res_blocks": [1, 1],
        "channel_mult": [1, 2],
        "transformer_depth": [1, 0],
        "transformer_depth_middle": 1,
        "context_dim": 24,
        "num_heads": 8,
    },
    "SDXL": {
        "model_channels": 32,
        "num_res_blocks": [1, 1],
        "channel_mult": [1, 2],
        "transformer_depth": [0, 2],
        "transformer_depth_middle": 1,
        "context_dim": 24,
        "num_head_channels": 32,
        "use_linear_in_transformer": True,
        "num_classes": "sequential",
        "adm_in_channels": 20,
    },
    "union": {
        "model_channels": 320,
        "num_res_blocks": [1],
        "channel_mult": [1],
        "transformer_depth": [0],
        "transformer_depth_middle": -1,
        "context_dim": 24,
        "num_head_channels": 64,
        "union_controlnet_num_control_type": 6,
    },
}
TYPES = ([], [0], [3])


def fill(name: str, shape: tuple[int, ...]) -> torch.Tensor:
    """A tensor that depends on its name alone, so that no weights need be kept; the tests have the same."""
    rng = np.random.default_rng(zlib.crc32(name.encode()))
    values = rng.standard_normal(shape) / max(1.0, float(np.prod(shape[1:]))) ** 0.5
    if name.endswith("norm.weight") or (len(shape) == 1 and name.endswith("weight")):
        values = 1 + 0.1 * values
    return torch.from_numpy(np.asarray(values, dtype=np.float32))


def fingerprint(name: str, tensor: torch.Tensor) -> list[float]:
    probes = (fill(f"{name}:{number}", tuple(tensor.shape)).double() for number in range(3))
    numbers = [float((tensor.double() * probe).sum()) for probe in probes] + tensor.flatten()[:5].tolist()
    return [float(f"{number:.8g}") for number in numbers]


def main() -> None:
    recorded: dict[str, Any] = {}
    for layout, settings in LAYOUTS.items():
        model = ControlNet(**SHARED, **settings).eval()
        shapes = {name: list(tensor.shape) for name, tensor in model.state_dict().items()}
        model.load_state_dict({name: fill(name, tuple(shape)) for name, shape in shapes.items()})
        answers = []
        for types in TYPES if layout == "union" else TYPES[:1]:
            x, context = fill("x", (2, 4, 6, 8)), fill("context", (2, 7, 24))
            hint = fill("hint", (2, 3, 48, 64)).clamp(0, 1)
            label = fill("label", (2, 20)) if "adm_in_channels" in settings else None
            with torch.no_grad():
                out = model(x, hint, torch.tensor([999.0, 13.5]), context, y=label, control_type=types)
            told = {
                place: [
                    {"shape": list(t.shape), "numbers": fingerprint(f"{place}{n}", t)} for n, t in enumerate(tensors)
                ]
                for place, tensors in out.items()
            }
            answers.append({"types": types, "out": told})
        options = {"heads": settings.get("num_heads"), "head_size": settings.get("num_head_channels")}
        recorded[layout] = {"shapes": shapes, "options": options, "answers": answers}
    (HERE / "control.json.xz").write_bytes(lzma.compress(json.dumps(recorded).encode(), preset=9))


main()
