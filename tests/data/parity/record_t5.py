"""Write what ComfyUI's own T5 encoder gives with seeded weights, for small ones.

Run it with ComfyUI's Python:

    cd COMFYUI && PYTHON .../tests/data/parity/record_t5.py --cpu

Writes ``t5.json.xz`` beside itself: names and shapes of the tensors, sections of tokens with weights, the outputs. A
vector of an embedding is written as ``["vector", width, value]``.
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
from comfy.text_encoders.t5 import T5  # noqa: E402

HERE = Path(__file__).parent
KINDS: dict[str, dict[str, Any]] = {
    "gated": {"d_model": 24, "d_kv": 8, "d_ff": 40, "num_heads": 4, "is_gated_act": True},
    "plain": {"d_model": 32, "d_kv": 8, "d_ff": 24, "num_heads": 2, "is_gated_act": False},
}
SHARED = {"num_layers": 3, "vocab_size": 64, "model_type": "t5"}
SECTIONS: list[list[list[Any]]] = [
    [[[7, 1.0], [8, 1.0], [9, 1.0], [1, 1.0], *([[0, 1.0]] * 140)]],
    [[[7, 1.3], [8, 1.0], [9, -0.5], [1, 1.0], [0, 1.0], [0, 1.0]]],
    [[[1, 1.0], *([[0, 1.0]] * 5)]],
    [[[7, 1.0], [["vector", "own", 0.3], 1.2], [["vector", 5, 0.3], 1.0], [9, 1.0], [1, 1.0], [0, 1.0]]],
]


def fill(name: str, shape: tuple[int, ...]) -> torch.Tensor:
    """A tensor that depends on its name alone, so that no weights need be kept; the tests have the same."""
    rng = np.random.default_rng(zlib.crc32(name.encode()))
    values = rng.standard_normal(shape) / max(1.0, float(np.prod(shape[1:]))) ** 0.5
    if len(shape) == 1 and name.endswith("weight"):
        values = 1 + 0.1 * values
    return torch.from_numpy(values.astype(np.float32))


def main() -> None:
    recorded: dict[str, Any] = {"sections": SECTIONS, "kinds": {}}
    for kind, sizes in KINDS.items():
        act = "gelu_pytorch_tanh" if sizes["is_gated_act"] else "relu"
        entry: dict[str, Any] = {"outputs": []}
        for masked, layer in ((False, None), (True, None), (False, -2)):
            model = SDClipModel(
                textmodel_json_config={**SHARED, **sizes, "dense_act_fn": act},
                special_tokens={"end": 1, "pad": 0},
                model_class=T5,
                enable_attention_masks=masked,
                return_attention_masks=True,
            ).eval()
            model.set_clip_options({"layer": layer})
            shapes = {name: list(tensor.shape) for name, tensor in model.transformer.state_dict().items()}
            model.transformer.load_state_dict({name: fill(name, tuple(shape)) for name, shape in shapes.items()})
            entry["shapes"] = shapes
            for sections in SECTIONS:
                tokens = [
                    [
                        (
                            torch.full((sizes["d_model"] if token[1] == "own" else token[1],), token[2])
                            if isinstance(token, list)
                            else token,
                            weight,
                        )
                        for token, weight in section
                    ]
                    for section in sections
                ]
                with torch.no_grad():
                    out, _, extra = model.encode_token_weights(tokens)
                entry["outputs"].append(
                    {
                        "masked": masked,
                        "layer": layer,
                        "shape": list(out.shape),
                        "some": [float(f"{value:.7g}") for value in out.flatten()[::13]],
                        "mask": extra["attention_mask"].tolist(),
                    }
                )
        recorded["kinds"][kind] = entry
    (HERE / "t5.json.xz").write_bytes(lzma.compress(json.dumps(recorded).encode(), preset=9))


main()
