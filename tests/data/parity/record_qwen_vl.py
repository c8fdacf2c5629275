"""Write what ComfyUI's own Qwen 2.5 VL gives with seeded weights, for a small one: text, padding, pictures.

Run it with ComfyUI's Python:

    cd COMFYUI && PYTHON .../tests/data/parity/record_qwen_vl.py --cpu

Writes ``qwen_vl.json.xz`` beside itself: names and shapes of the tensors, and the outputs.
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
from comfy import sd1_clip  # noqa: E402
from comfy.text_encoders import llama, qwen_vl  # noqa: E402

HERE = Path(__file__).parent
PAD = 399  # of the small vocabulary
WIDTH, VISION = 256, 160
CASES: list[dict[str, Any]] = [
    {"tokens": [11, 27, 300, 5]},
    {"tokens": [11, 27, 300, 5], "layer": -2},
    {"tokens": [11, 27, PAD, 5]},
    {"tokens": [11, {"picture": [60, 100]}, 27]},
    {"tokens": [11, {"picture": [150, 130]}, 27, 4, {"picture": [30, 40]}, 9, 8]},
    {"tokens": [11, {"picture": [60, 60]}, 27, PAD, 4]},
]


class SmallTower(qwen_vl.Qwen2VLVisionTransformer):
    """As the real one, but small: two heads of 80, eight blocks, so that one looks beyond its window."""

    def __init__(self, hidden_size: int, **options: Any) -> None:
        super().__init__(hidden_size=VISION, intermediate_size=96, num_heads=2, num_layers=8, **options)


def fill(name: str, shape: tuple[int, ...]) -> torch.Tensor:
    """A tensor that depends on its name alone, so that no weights need be kept; the tests have the same."""
    rng = np.random.default_rng(zlib.crc32(name.encode()))
    values = rng.standard_normal(shape) / max(1.0, float(np.prod(shape[1:]))) ** 0.5
    if len(shape) == 1 and name.endswith("weight"):
        values = 1 + 0.1 * values
    return torch.from_numpy(values.astype(np.float32))


def picture(rows: int, columns: int) -> torch.Tensor:
    rng = np.random.default_rng(rows * 1000 + columns)
    return torch.from_numpy(rng.random((1, rows, columns, 3), dtype=np.float32))


def numbers(tensor: torch.Tensor, step: int) -> list[float]:
    return [float(f"{value:.7g}") for value in tensor.flatten()[::step]]


def main() -> None:
    qwen_vl.Qwen2VLVisionTransformer = SmallTower
    sizes = {
        "vocab_size": 400,
        "hidden_size": WIDTH,
        "intermediate_size": 64,
        "num_hidden_layers": 3,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
    }
    recorded: dict[str, Any] = {"outputs": []}
    for case in CASES:
        where = {"layer": "hidden", "layer_idx": case["layer"]} if "layer" in case else {}
        model = sd1_clip.SDClipModel(
            textmodel_json_config=sizes,
            dtype=torch.float32,
            special_tokens={"pad": PAD},
            layer_norm_hidden_state=False,
            model_class=llama.Qwen25_7BVLI,
            enable_attention_masks=True,
            return_attention_masks=True,
            **where,
        )
        shapes = {name: list(tensor.shape) for name, tensor in model.transformer.state_dict().items()}
        model.transformer.load_state_dict({name: fill(name, tuple(shape)) for name, shape in shapes.items()})
        recorded["shapes"] = shapes
        tokens: list[Any] = [
            {"type": "image", "data": picture(*token["picture"])} if isinstance(token, dict) else token
            for token in case["tokens"]
        ]
        with torch.no_grad():
            out, pooled, extra = model([tokens])
        assert pooled is None
        recorded["outputs"].append(
            {**case, "count": out.shape[1], "mask": extra["attention_mask"][0].tolist(), "values": numbers(out, 7)}
        )
    images = []
    for rows, columns in ((60, 100), (20, 20), (300, 500)):
        patches, grid = qwen_vl.process_qwen2vl_images(picture(rows, columns))
        images.append({"size": [rows, columns], "grid": grid[0].tolist(), "values": numbers(patches, 9973)})
    recorded["pictures"] = images
    (HERE / "qwen_vl.json.xz").write_bytes(lzma.compress(json.dumps(recorded).encode(), preset=9))


main()
