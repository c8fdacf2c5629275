"""Write what ComfyUI's own text encoders of Stable Diffusion 3 give with seeded weights, for small ones and any subset.

Run it with ComfyUI's Python:

    cd COMFYUI && PYTHON .../tests/data/parity/record_sd3_text.py --cpu

Writes ``sd3_text.json.xz`` beside itself: names and shapes of the tensors, sections of tokens, the outputs.
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
from comfy.text_encoders.sd3_clip import SD3ClipModel  # noqa: E402

HERE = Path(__file__).parent
CLIP = {"num_hidden_layers": 3, "max_position_embeddings": 77, "eos_token_id": 49407, "vocab_size": 49408}
SIZES: dict[str, dict[str, Any]] = {
    "clip_l_model_config": {**CLIP, "hidden_size": 64, "num_attention_heads": 1, "intermediate_size": 32},
    "clip_g_model_config": {**CLIP, "hidden_size": 128, "num_attention_heads": 2, "intermediate_size": 32},
    "t5xxl_model_config": {"num_layers": 1, "num_heads": 1, "d_kv": 16, "d_ff": 8, "vocab_size": 64},
}
SUBSETS = ("l g t5xxl", "l g", "l", "g", "t5xxl", "l t5xxl", "g t5xxl", "")
START, END = 49406, 49407


def fill(name: str, shape: tuple[int, ...]) -> torch.Tensor:
    """A tensor that depends on its name alone, so that no weights need be kept; the tests have the same."""
    if len(shape) == 2 and shape[0] > 1000:  # a vocabulary: the same few rows again and again
        return fill(name, (64, shape[1])).repeat(-(-shape[0] // 64), 1)[: shape[0]]
    rng = np.random.default_rng(zlib.crc32(name.encode()))
    values = rng.standard_normal(shape) / max(1.0, float(np.prod(shape[1:]))) ** 0.5
    if len(shape) == 1 and name.endswith("weight"):
        values = 1 + 0.1 * values
    return torch.from_numpy(values.astype(np.float32))


def section(tokens: list[tuple[int, float]], pad: int) -> list[tuple[int, float]]:
    return [(START, 1.0), *tokens, (END, 1.0), *([(pad, 1.0)] * (75 - len(tokens)))]


def texts() -> dict[str, dict[str, Any]]:
    short, heavy = [(320, 1.0), (1125, 1.0)], [(320, 1.3), (1125, 0.5), (9, 1.0)]
    t5 = [(7, 1.0), (9, 1.2), (1, 1.0), *([(0, 1.0)] * 74)]
    return {
        "plain": {"l": [section(short, END)], "g": [section(short, 0)], "t5xxl": [[(7, 1.0), (1, 1.0), (0, 1.0)]]},
        "weights": {"l": [section(heavy, END)], "g": [section(heavy, 0)], "t5xxl": [t5]},
        "two sections of one": {
            "l": [section(short, END), section(heavy, END)],
            "g": [section(short, 0)],
            "t5xxl": [t5],
        },
        "nothing for T5": {"l": [section(short, END)], "g": [section(short, 0)], "t5xxl": []},
        "nothing for CLIP": {"l": [], "g": [], "t5xxl": [t5]},
    }


def numbers(tensor: torch.Tensor, step: int) -> list[float]:
    return [float(f"{value:.7g}") for value in tensor.flatten()[::step]]


def main() -> None:
    recorded: dict[str, Any] = {"texts": texts(), "outputs": []}
    for subset in SUBSETS:
        names = subset.split()
        model = SD3ClipModel(
            clip_l="l" in names,
            clip_g="g" in names,
            t5="t5xxl" in names,
            dtype=torch.float32,
            dtype_t5=torch.float32,
            model_options=SIZES,
        )
        shapes: dict[str, list[int]] = {}
        for name in names:
            encoder = name if name == "t5xxl" else f"clip_{name}"
            inner = getattr(model, encoder).transformer
            own = {key: list(tensor.shape) for key, tensor in inner.state_dict().items()}
            inner.load_state_dict({key: fill(f"{encoder}.{key}", tuple(shape)) for key, shape in own.items()})
            shapes |= {f"{encoder}.{key}": shape for key, shape in own.items()}
        if subset == SUBSETS[0]:
            recorded["shapes"] = shapes
        for text, tokens in texts().items():
            with torch.no_grad():
                out, pooled, _ = model.encode_token_weights(tokens)
            recorded["outputs"].append(
                {
                    "subset": names,
                    "text": text,
                    "shape": list(out.shape),
                    "some": numbers(out, 1709),
                    "pooled": numbers(pooled, 17),
                    "pooled_shape": list(pooled.shape),
                }
            )
    (HERE / "sd3_text.json.xz").write_bytes(lzma.compress(json.dumps(recorded).encode(), preset=9))


main()
