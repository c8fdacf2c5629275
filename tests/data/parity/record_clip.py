"""Write what ComfyUI's own CLIP text encoders give with seeded weights, for small ones.

Run it with ComfyUI's Python:

    cd COMFYUI && PYTHON .../tests/data/parity/record_clip.py --cpu

Writes ``clip.json.xz`` beside itself: names and shapes of the tensors, sections of tokens with weights, the outputs.
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
from comfy.sd1_clip import SDClipModel  # noqa: E402

HERE = Path(__file__).parent
SIZES = {"num_hidden_layers": 3, "max_position_embeddings": 77, "eos_token_id": 49407}
ENCODERS: dict[str, dict[str, Any]] = {
    "quick_gelu": {"hidden_size": 64, "num_attention_heads": 1, "intermediate_size": 96, "hidden_act": "quick_gelu"},
    "gelu": {"hidden_size": 128, "num_attention_heads": 2, "intermediate_size": 64, "hidden_act": "gelu"},
}
TEXTS: list[list[list[tuple[int, float]]]] = [
    [[(320, 1.0), (1125, 1.0), (539, 1.0)]],
    [[(320, 1.0), (1125, 1.3), (539, 0.5), (2368, -1.0)]],
    [[(token, 1.0) for token in range(1000, 1075)], [(7, 1.1), (8, 1.0)]],
    [[]],
]


def fill(name: str, shape: tuple[int, ...]) -> torch.Tensor:
    """A tensor that depends on its name alone, so that no weights need be kept; the tests have the same."""
    rng = np.random.default_rng(zlib.crc32(name.encode()))
    values = rng.standard_normal(shape) / max(1.0, float(np.prod(shape[1:]))) ** 0.5
    if len(shape) == 1 and name.endswith("weight"):
        values = 1 + 0.1 * values
    return torch.from_numpy(values.astype(np.float32))


def sections(text: list[list[tuple[int, float]]], pad: int) -> list[list[tuple[int, float]]]:
    return [[(49406, 1.0), *section, (49407, 1.0), *([(pad, 1.0)] * (75 - len(section)))] for section in text]


def main() -> None:
    recorded: dict[str, Any] = {}
    for activation, sizes in ENCODERS.items():
        pad = 49407 if activation == "quick_gelu" else 0
        special = {"start": 49406, "end": 49407, "pad": pad}
        entry: dict[str, Any] = {"padding": pad, "outputs": []}
        for layer, normalised in ((-1, True), (-2, True), (-2, False)):
            where = {"layer": "last"} if layer == -1 else {"layer": "hidden", "layer_idx": layer}
            model = SDClipModel(
                textmodel_json_config={**SIZES, **sizes},
                special_tokens=special,
                layer_norm_hidden_state=normalised,
                **where,
            ).eval()
            shapes = {name: list(tensor.shape) for name, tensor in model.transformer.state_dict().items()}
            model.transformer.load_state_dict({name: fill(name, tuple(shape)) for name, shape in shapes.items()})
            entry["shapes"] = shapes
            for text in TEXTS:
                with torch.no_grad():
                    out, pooled = model.encode_token_weights(sections(text, pad))[:2]
                entry["outputs"].append(
                    {
                        "layer": layer,
                        "normalised": normalised,
                        "sections": sections(text, pad),
                        "some": [float(f"{value:.7g}") for value in out.flatten()[::37]],
                        "pooled": [float(f"{value:.7g}") for value in pooled.flatten()],
                    }
                )
        recorded[activation] = entry
    (HERE / "clip.json.xz").write_bytes(lzma.compress(json.dumps(recorded).encode(), preset=9))


main()
