"""Write what ComfyUI's own MMDiT (Stable Diffusion 3) gives with seeded weights, for small layouts.

Run it with ComfyUI's Python:

    cd COMFYUI && PYTHON .../tests/data/parity/record_mmdit.py --cpu

Writes ``mmdit.json.xz`` beside itself: names and shapes of the tensors, and the outputs.
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
from comfy.cldm.dit_embedder import ControlNetEmbedder  # noqa: E402
from comfy.cldm.mmdit import ControlNet  # noqa: E402
from comfy.ldm.modules.diffusionmodules.mmdit import OpenAISignatureMMDITWrapper  # noqa: E402

HERE = Path(__file__).parent
OPS = comfy.ops.disable_weight_init
TEXT, POOLED, POSITIONS = 24, 40, 8
SHARED: dict[str, Any] = {
    "in_channels": 16,
    "adm_in_channels": POOLED,
    "num_patches": POSITIONS**2,
    "pos_embed_max_size": POSITIONS,
    "operations": OPS,
    "device": "cpu",
    "dtype": torch.float32,
}
LAYOUTS: dict[str, dict[str, Any]] = {
    "large": {"depth": 2, "qk_norm": "rms"},
    "medium": {"depth": 3, "qk_norm": "rms", "x_block_self_attn_layers": [0, 1]},
    "3.0": {"depth": 1},
}
SIZES = ((8, 10), (7, 5), (16, 16))


def fill(name: str, shape: tuple[int, ...]) -> torch.Tensor:
    """A tensor that depends on its name alone, so that no weights need be kept; the tests have the same."""
    rng = np.random.default_rng(zlib.crc32(name.encode()))
    values = rng.standard_normal(shape) / max(1.0, float(np.prod(shape[1:]))) ** 0.5
    if len(shape) == 1 and name.endswith("weight"):
        values = 1 + 0.1 * values
    return torch.from_numpy(values.astype(np.float32))


def filled(model: torch.nn.Module) -> dict[str, list[int]]:
    shapes = {name: list(tensor.shape) for name, tensor in model.state_dict().items()}
    model.load_state_dict({name: fill(name, tuple(shape)) for name, shape in shapes.items()})
    model.eval()
    return shapes


def embedder(depth: int) -> dict[str, Any]:
    return {"target": "torch.nn.Linear", "params": {"in_features": TEXT, "out_features": depth * 64}}


def numbers(tensor: torch.Tensor, step: int = 1) -> list[float]:
    return [float(f"{value:.7g}") for value in tensor.flatten()[::step]]


def inputs(rows: int, columns: int) -> dict[str, torch.Tensor]:
    return {
        "x": fill("x", (2, 16, rows, columns)),
        "timesteps": torch.tensor([999.0, 13.5]),
        "context": fill("context", (2, 7, TEXT)),
        "y": fill("pooled", (2, POOLED)),
    }


def main() -> None:
    recorded: dict[str, Any] = {"transformers": {}, "controls": {}}
    for layout, settings in LAYOUTS.items():
        depth = settings["depth"]
        model = OpenAISignatureMMDITWrapper(context_embedder_config=embedder(depth), **SHARED, **settings)
        entry: dict[str, Any] = {"shapes": filled(model), "outputs": []}
        for rows, columns in SIZES:
            patches = -(-rows // 2) * -(-columns // 2)
            control = [fill(f"control {block}", (2, patches, depth * 64)) for block in range(depth)]
            for added in (None, {"output": control}):
                with torch.no_grad():
                    # the wrapper adds in place
                    copies = None if added is None else {"output": [one.clone() for one in control]}
                    out = model(**inputs(rows, columns), control=copies)
                entry["outputs"].append(
                    {"rows": rows, "columns": columns, "control": added is not None, "values": numbers(out, 3)}
                )
        recorded["transformers"][layout] = entry
    # Stability's own: blocks without text, with the base model's embedder of pictures or of pooled texts
    for name, double in (("single blocks", False), ("single blocks, two embedders", True)):
        model = ControlNetEmbedder(
            img_size=None,
            patch_size=2,
            in_chans=16,
            attention_head_dim=64,
            num_attention_heads=3,
            adm_in_channels=POOLED,
            num_layers=2,
            main_model_double=3,
            double_y_emb=double,
            device="cpu",
            dtype=torch.float32,
            operations=OPS,
        )
        entry = {"shapes": filled(model), "outputs": []}
        for rows, columns in SIZES[:2]:
            with torch.no_grad():
                out = model(**inputs(rows, columns), hint=fill("hint", (2, 16, rows, columns)))["output"]
            entry["outputs"].append({"rows": rows, "columns": columns, "values": [numbers(one, 11) for one in out]})
        recorded["controls"][name] = entry
    # InstantX's: joint blocks, diffusers' names in the file, ComfyUI's after its conversion
    for name, channels in (("joint blocks", 16), ("joint blocks, inpainting", 17)):
        model = ControlNet(
            num_blocks=2,
            control_latent_channels=channels,
            context_embedder_config=embedder(4),
            depth=4,
            **SHARED,
        )
        entry = {"shapes": filled(model), "outputs": []}
        for rows, columns in SIZES[:2]:
            with torch.no_grad():
                out = model(**inputs(rows, columns), hint=fill("hint", (2, channels, rows, columns)))["output"]
            entry["outputs"].append({"rows": rows, "columns": columns, "values": [numbers(one, 11) for one in out]})
        recorded["controls"][name] = entry
    (HERE / "mmdit.json.xz").write_bytes(lzma.compress(json.dumps(recorded).encode(), preset=9))


main()
