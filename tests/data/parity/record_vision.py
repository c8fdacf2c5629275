"""Write what ComfyUI's own vision encoders give with seeded weights, for small ones.

Run it with ComfyUI's Python:

    cd COMFYUI && PYTHON .../tests/data/parity/record_vision.py --cpu

Writes ``vision.json.xz`` beside itself: names and shapes of the tensors and some numbers of the outputs.
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
from comfy.clip_vision import ClipVisionModel, convert_to_transformers  # noqa: E402

HERE = Path(__file__).parent
SHARED = {"num_channels": 3, "num_hidden_layers": 3, "intermediate_size": 96, "patch_size": 4}
SIGLIP = {"model_type": "siglip_vision_model", "image_mean": [0.5] * 3, "image_std": [0.5] * 3}
CLIP = {"model_type": "clip_vision_model"}
ENCODERS: dict[str, dict[str, Any]] = {
    "clip": {**CLIP, "hidden_act": "quick_gelu", "hidden_size": 64, "num_attention_heads": 1, "image_size": 20},
    "siglip": {
        **SIGLIP,
        "hidden_act": "gelu_pytorch_tanh",
        "hidden_size": 128,
        "num_attention_heads": 2,
        "image_size": 16,
    },
    "siglip_384": {
        **SIGLIP,
        "hidden_act": "gelu_pytorch_tanh",
        "hidden_size": 64,
        "num_attention_heads": 1,
        "image_size": 384,
        "patch_size": 14,
    },
    "open_clip": {**CLIP, "hidden_act": "gelu", "hidden_size": 1280, "num_attention_heads": 16, "image_size": 12},
}
PROJECTED = {"clip": 32, "open_clip": 24}
PICTURES = [(1, 20, 20), (2, 31, 17), (1, 9, 40)]


def fill(name: str, shape: tuple[int, ...]) -> torch.Tensor:
    """A tensor that depends on its name alone, so that no weights need be kept; the tests have the same."""
    rng = np.random.default_rng(zlib.crc32(name.encode()))
    values = rng.standard_normal(shape) / max(1.0, float(np.prod(shape[1:]))) ** 0.5
    if len(shape) == 1 and name.endswith("weight"):
        values = 1 + 0.1 * values
    return torch.from_numpy(values.astype(np.float32))


def opened(shapes: dict[str, list[int]]) -> dict[str, list[int]]:
    """The names and shapes that OpenCLIP has for these."""
    top = {
        "embeddings.class_embedding": "class_embedding",
        "embeddings.patch_embedding.weight": "conv1.weight",
        "embeddings.position_embedding.weight": "positional_embedding",
        "post_layernorm": "ln_post",
        "pre_layrnorm": "ln_pre",
    }
    inner = {"layer_norm": "ln_", "mlp.fc1": "mlp.c_fc", "mlp.fc2": "mlp.c_proj", "self_attn.out": "attn.out"}
    found: dict[str, list[int]] = {}
    for name, shape in shapes.items():
        if name == "visual_projection.weight":
            found["visual.proj"] = shape[::-1]
            continue
        new = name.removeprefix("vision_model.")
        for old, other in top.items():
            new = new.replace(old, other)
        new = new.replace("encoder.layers.", "transformer.resblocks.")
        if ".self_attn.q_proj." in new:
            kind = new.rpartition(".")[2]
            new = new.replace(f"self_attn.q_proj.{kind}", f"attn.in_proj_{kind}")
            shape = [3 * shape[0], *shape[1:]]
        elif ".self_attn.k_proj." in new or ".self_attn.v_proj." in new:
            continue
        for old, other in inner.items():
            new = new.replace(old, other)
        found[f"visual.{new}"] = shape
    return found


def main() -> None:
    recorded: dict[str, Any] = {"pictures": PICTURES, "encoders": {}}
    for name, sizes in ENCODERS.items():
        config = {**SHARED, **sizes}
        if name in PROJECTED:
            config["projection_dim"] = PROJECTED[name]
        vision = ClipVisionModel(config)
        vision.model = vision.model.float()
        shapes = {key: list(tensor.shape) for key, tensor in vision.model.state_dict().items()}
        if name == "open_clip":
            shapes = opened(shapes)
        state = {key: fill(key, tuple(shape)) for key, shape in shapes.items()}
        if name == "open_clip":
            state = convert_to_transformers(dict(state), "visual.")
        vision.model.load_state_dict(state)
        outputs = []
        for picture in PICTURES:
            image = fill("picture", (*picture, 3)).mul(4).sigmoid()
            for crop in (True, False):
                with torch.no_grad():
                    out = vision.encode_image(image, crop=crop)
                record = {"crop": crop}
                for place in ("last_hidden_state", "penultimate_hidden_states", "image_embeds"):
                    tensor = out[place].float()
                    some = [float(f"{value:.7g}") for value in tensor.flatten()[:: max(173, tensor.numel() // 60)]]
                    record[place] = {"shape": list(tensor.shape), "some": some}
                outputs.append(record)
        recorded["encoders"][name] = {"shapes": shapes, "outputs": outputs}
    (HERE / "vision.json.xz").write_bytes(lzma.compress(json.dumps(recorded).encode(), preset=9))


main()
