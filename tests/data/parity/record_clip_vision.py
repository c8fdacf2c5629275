"""Write what ComfyUI's own CLIP vision model gives with seeded weights, for small layouts in either's names.

Run it with ComfyUI's Python:

    cd COMFYUI && PYTHON .../tests/data/parity/record_clip_vision.py --cpu --fp32-text-enc

(without the last option ComfyUI rounds the weights to 16 bits.)

Writes ``clip_vision.json.xz`` beside itself: names and shapes of the tensors, and the outputs.
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

import comfy.clip_vision  # noqa: E402
import numpy as np  # noqa: E402
import torch  # noqa: E402

HERE = Path(__file__).parent
WIDTH, INNER, PATCH, SIDE, OUT = 32, 64, 14, 28, 8
LAYOUTS = {"transformers": (2, "quick_gelu"), "OpenCLIP": (26, "gelu")}


def fill(name: str, shape: tuple[int, ...]) -> torch.Tensor:
    """A tensor that depends on its name alone, so that no weights need be kept; the tests have the same."""
    rng = np.random.default_rng(zlib.crc32(name.encode()))
    values = rng.standard_normal(shape) / max(1.0, float(np.prod(shape[1:]))) ** 0.5
    if len(shape) == 1 and name.endswith("weight"):
        values = 1 + 0.1 * values
    return torch.from_numpy(values.astype(np.float32))


def open_clip(layers: int) -> dict[str, tuple[int, ...]]:
    names: dict[str, tuple[int, ...]] = {
        "conv1.weight": (WIDTH, 3, PATCH, PATCH),
        "class_embedding": (WIDTH,),
        "positional_embedding": ((SIDE // PATCH) ** 2 + 1, WIDTH),
        "proj": (WIDTH, OUT),
    }
    for norm in ("ln_pre", "ln_post"):
        names |= {f"{norm}.weight": (WIDTH,), f"{norm}.bias": (WIDTH,)}
    for layer in range(layers):
        block = f"transformer.resblocks.{layer}."
        for norm in ("ln_1", "ln_2"):
            names |= {f"{block}{norm}.weight": (WIDTH,), f"{block}{norm}.bias": (WIDTH,)}
        names |= {f"{block}attn.in_proj_weight": (3 * WIDTH, WIDTH), f"{block}attn.in_proj_bias": (3 * WIDTH,)}
        for name, rows, columns in (
            ("attn.out_proj", WIDTH, WIDTH),
            ("mlp.c_fc", INNER, WIDTH),
            ("mlp.c_proj", WIDTH, INNER),
        ):
            names |= {f"{block}{name}.weight": (rows, columns), f"{block}{name}.bias": (rows,)}
    return names


def numbers(tensor: torch.Tensor) -> list[float]:
    return [float(f"{value:.7g}") for value in tensor.flatten().tolist()]


def main() -> None:
    recorded: dict[str, Any] = {}
    for layout, (layers, activation) in LAYOUTS.items():
        eyes = comfy.clip_vision.ClipVisionModel(
            {
                "hidden_act": activation,
                "hidden_size": WIDTH,
                "image_size": SIDE,
                "intermediate_size": INNER,
                "model_type": "clip_vision_model",
                "num_attention_heads": 16,
                "num_channels": 3,
                "num_hidden_layers": layers,
                "patch_size": PATCH,
                "projection_dim": OUT,
            }
        )
        own = {name: tuple(tensor.shape) for name, tensor in eyes.model.state_dict().items()}
        shapes = open_clip(layers) if layout == "OpenCLIP" else own
        state = {name: fill(name, shape) for name, shape in shapes.items()}
        if layout == "OpenCLIP":
            below = {f"eyes.{name}": tensor for name, tensor in state.items()}
            state = comfy.clip_vision.convert_to_transformers(below, "eyes.")
        missing, unexpected = eyes.load_sd(state)
        if missing or unexpected:
            raise SystemExit(f"{layout}: {missing} {unexpected}")
        outputs = []
        for rows, columns, crop in ((28, 28, True), (40, 61, True), (17, 30, False)):
            image = fill("image", (2, rows, columns, 3)).sigmoid()
            seen = eyes.encode_image(image, crop=crop)
            names = ("last_hidden_state", "penultimate_hidden_states", "image_embeds")
            outputs.append(
                {"rows": rows, "columns": columns, "crop": crop, **{name: numbers(seen[name]) for name in names}}
            )
        recorded[layout] = {"shapes": {name: list(shape) for name, shape in shapes.items()}, "outputs": outputs}
    (HERE / "clip_vision.json.xz").write_bytes(lzma.compress(json.dumps(recorded).encode(), preset=9))


main()
