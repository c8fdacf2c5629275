"""Write what ComfyUI's own Llama text encoder gives with seeded weights, for a small layout.

Run it with ComfyUI's Python:

    cd COMFYUI && PYTHON .../tests/data/parity/record_llama.py --cpu

Writes ``llama.json.xz`` beside itself: names and shapes of the tensors, tokens with weights, and the outputs.
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
from comfy.text_encoders.hunyuan_video import LLAMAModel  # noqa: E402

HERE = Path(__file__).parent
START, PAD = 60, 61
CONFIG = {
    "hidden_size": 48,
    "intermediate_size": 64,
    "num_hidden_layers": 3,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
}
TOKENS = {
    "padded": [(START, 1.0), (5, 1.0), (17, 1.0), (42, 1.0), (PAD, 1.0), (PAD, 1.0)],
    "full": [(START, 1.0), (5, 1.0), (17, 1.0)],
    "weighted": [(START, 1.0), (5, 1.3), (17, 0.8), (42, 1.0), (PAD, 1.0)],
}


def fill(name: str, shape: tuple[int, ...]) -> torch.Tensor:
    """A tensor that depends on its name alone, so that no weights need be kept; the tests have the same."""
    rng = np.random.default_rng(zlib.crc32(name.encode()))
    values = rng.standard_normal(shape) / max(1.0, float(np.prod(shape[1:]))) ** 0.5
    if len(shape) == 1 and name.endswith("weight"):
        values = 1 + 0.1 * values
    return torch.from_numpy(values.astype(np.float32))


def main() -> None:
    encoder = LLAMAModel(
        dtype=torch.float32,
        layer="all",
        layer_idx=None,
        special_tokens={"start": START, "pad": PAD},
        model_options={"vocab_size": 64, "llama_model_config": CONFIG},
    )
    shapes = {name: list(tensor.shape) for name, tensor in encoder.transformer.state_dict().items()}
    encoder.load_sd({name: fill(name, tuple(shape)) for name, shape in shapes.items()})
    outputs: list[Any] = []
    for name, tokens in TOKENS.items():
        with torch.no_grad():
            states = encoder.encode_token_weights([tokens])[0]
        values = [float(f"{value:.7g}") for value in states[:, 1:].flatten().tolist()]
        outputs.append({"name": name, "tokens": tokens, "values": values})
    recorded = {"shapes": shapes, "start": START, "pad": PAD, "outputs": outputs}
    (HERE / "llama.json.xz").write_bytes(lzma.compress(json.dumps(recorded).encode(), preset=9))


main()
