"""Write what ComfyUI's own FLUX.1 transformer gives with seeded weights, for small ones.

Run it with ComfyUI's Python:

    cd COMFYUI && PYTHON .../tests/data/parity/record_flux.py --cpu

Writes ``flux.json.xz`` beside itself: names and shapes of the tensors, what was asked, some numbers of the answers.
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
from comfy.ldm.flux.model import Flux  # noqa: E402

HERE = Path(__file__).parent
SIZES: dict[str, Any] = {
    "image_model": "flux",
    "out_channels": 16,
    "context_in_dim": 48,
    "mlp_ratio": 4.0,
    "axes_dim": [16, 56, 56],
    "theta": 10000,
    "patch_size": 2,
    "qkv_bias": True,
    "txt_ids_dims": [],
}
MODELS: dict[str, dict[str, Any]] = {
    "dev": {"in_channels": 16, "vec_in_dim": 24, "guidance_embed": True, "depth": 2, "depth_single_blocks": 2},
    "schnell": {"in_channels": 16, "vec_in_dim": 24, "guidance_embed": False, "depth": 1, "depth_single_blocks": 1},
    "fill": {"in_channels": 96, "vec_in_dim": 24, "guidance_embed": True, "depth": 1, "depth_single_blocks": 1},
}
WIDTHS = {"dev": 256, "schnell": 128, "fill": 128}
# what is asked: the latent's size, sizes of reference latents, and options
ASKED: list[dict[str, Any]] = [
    {"size": [8, 6]},
    {"size": [5, 7], "batch": 2},
    {"size": [4, 4], "guidance": None},
    {"size": [4, 4], "pooled": False},
    {"size": [4, 4], "references": [[4, 6], [8, 4], [3, 5]]},
    {"size": [5, 4], "references": [[4, 6], [8, 4]], "method": "index"},
    {"size": [5, 4], "references": [[4, 6], [8, 4]], "method": "uxo"},
    {"size": [4, 4], "mask": True},
    {"size": [4, 6], "control": True, "references": [[4, 4]]},
]


def fill(name: str, shape: tuple[int, ...]) -> torch.Tensor:
    """A tensor that depends on its name alone, so that no weights need be kept; the tests have the same."""
    rng = np.random.default_rng(zlib.crc32(name.encode()))
    values = rng.standard_normal(shape) / max(1.0, float(np.prod(shape[1:]))) ** 0.5
    if len(shape) == 1 and name.endswith(("weight", "scale")):
        values = 1 + 0.1 * values
    return torch.from_numpy(values.astype(np.float32))


def inputs(sizes: dict[str, Any], width: int, asked: dict[str, Any]) -> dict[str, Any]:
    """What a model is given; the tests have the same."""
    batch, (rows, columns) = asked.get("batch", 1), asked["size"]
    tokens = 5
    given: dict[str, Any] = {
        "latent": fill("latent", (batch, sizes["in_channels"], rows, columns)) * 4,
        "timesteps": torch.linspace(0.25, 0.75, batch),
        "context": fill("context", (batch, tokens, 48)) * 4,
        "pooled": fill("pooled", (batch, 30)) * 4 if asked.get("pooled", True) else None,
        "guidance": torch.full((batch,), 3.5) if asked.get("guidance", True) else None,
        "references": [
            fill(f"reference {n}", (batch, 16, *size)) * 4 for n, size in enumerate(asked.get("references", []))
        ],
        "method": asked.get("method", "offset"),
        "mask": None,
        "control": None,
    }
    count = tokens + -(-rows // 2) * -(-columns // 2)
    if asked.get("mask"):
        given["mask"] = fill("mask", (1, count, count)) * 2
    if asked.get("control"):
        added = [fill(f"control {n}", (batch, count - tokens, width)) for n in range(3)]
        given["control"] = {"input": [added[0], None], "output": [added[1], added[2]]}
    return given


def main() -> None:
    recorded: dict[str, Any] = {"asked": ASKED, "widths": WIDTHS, "models": {}}
    for name, sizes in MODELS.items():
        width = WIDTHS[name]
        model = Flux(
            **SIZES,
            **sizes,
            hidden_size=width,
            num_heads=width // 128,
            dtype=torch.float32,
            operations=comfy.ops.disable_weight_init,
        ).eval()
        shapes = {key: list(tensor.shape) for key, tensor in model.state_dict().items()}
        model.load_state_dict({key: fill(key, tuple(shape)) for key, shape in shapes.items()})
        outputs = []
        for asked in ASKED:
            if name == "fill" and asked.get("references"):
                outputs.append(None)  # its references would have other channels than its latent
                continue
            given = inputs(sizes, width, asked)
            with torch.no_grad():
                out = model(
                    given["latent"],
                    given["timesteps"],
                    given["context"],
                    given["pooled"],
                    given["guidance"],
                    given["references"] or None,
                    given["control"],
                    attention_mask=given["mask"],
                    ref_latents_method=given["method"],
                )
            outputs.append({"shape": list(out.shape), "some": [float(f"{value:.7g}") for value in out.flatten()[::11]]})
        recorded["models"][name] = {"sizes": sizes, "shapes": shapes, "outputs": outputs}
    (HERE / "flux.json.xz").write_bytes(lzma.compress(json.dumps(recorded).encode(), preset=9))


main()
