"""Write what ComfyUI's own ControlNets of FLUX.1 give with seeded weights, for small ones.

Run it with ComfyUI's Python:

    cd COMFYUI && PYTHON .../tests/data/parity/record_flux_control.py --cpu

Writes ``flux_control.json.xz`` beside itself: names and shapes of the files' tensors, what was asked, some numbers of
the answers.
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
from comfy.controlnet import load_controlnet_state_dict  # noqa: E402

HERE = Path(__file__).parent
WIDTH, TEXT, POOLED = 128, 48, 24


def linear(shapes: dict[str, list[int]], name: str, out: int, into: int) -> None:
    shapes[f"{name}.weight"] = [out, into]
    shapes[f"{name}.bias"] = [out]


def diffusers(
    *, doubles: int, singles: int, modes: int = 0, hint: int = 64, guidance: bool = True
) -> dict[str, list[int]]:
    """InstantX's and Shakker's files."""
    shapes: dict[str, list[int]] = {}
    linear(shapes, "x_embedder", WIDTH, 64)
    linear(shapes, "controlnet_x_embedder", WIDTH, hint)
    linear(shapes, "context_embedder", WIDTH, TEXT)
    embedders = {"timestep_embedder": 256, "text_embedder": POOLED, **({"guidance_embedder": 256} if guidance else {})}
    for name, into in embedders.items():
        linear(shapes, f"time_text_embed.{name}.linear_1", WIDTH, into)
        linear(shapes, f"time_text_embed.{name}.linear_2", WIDTH, WIDTH)
    for number in range(doubles):
        block = f"transformer_blocks.{number}."
        for name in ("norm1.linear", "norm1_context.linear"):
            linear(shapes, block + name, 6 * WIDTH, WIDTH)
        for name in ("to_q", "to_k", "to_v", "add_q_proj", "add_k_proj", "add_v_proj", "to_out.0", "to_add_out"):
            linear(shapes, f"{block}attn.{name}", WIDTH, WIDTH)
        for name in ("norm_q", "norm_k", "norm_added_q", "norm_added_k"):
            shapes[f"{block}attn.{name}.weight"] = [128]
        for name in ("ff", "ff_context"):
            linear(shapes, f"{block}{name}.net.0.proj", 4 * WIDTH, WIDTH)
            linear(shapes, f"{block}{name}.net.2", WIDTH, 4 * WIDTH)
        linear(shapes, f"controlnet_blocks.{number}", WIDTH, WIDTH)
    for number in range(singles):
        block = f"single_transformer_blocks.{number}."
        linear(shapes, f"{block}norm.linear", 3 * WIDTH, WIDTH)
        for name in ("to_q", "to_k", "to_v"):
            linear(shapes, f"{block}attn.{name}", WIDTH, WIDTH)
        for name in ("norm_q", "norm_k"):
            shapes[f"{block}attn.{name}.weight"] = [128]
        linear(shapes, f"{block}proj_mlp", 4 * WIDTH, WIDTH)
        linear(shapes, f"{block}proj_out", WIDTH, 5 * WIDTH)
        linear(shapes, f"controlnet_single_blocks.{number}", WIDTH, WIDTH)
    if modes:
        shapes["controlnet_mode_embedder.weight"] = [modes, WIDTH]
    return shapes


def xlabs(*, doubles: int) -> dict[str, list[int]]:
    """XLabs' files."""
    shapes: dict[str, list[int]] = {}
    linear(shapes, "img_in", WIDTH, 64)
    linear(shapes, "pos_embed_input", WIDTH, 64)
    linear(shapes, "txt_in", WIDTH, TEXT)
    for name, into in {"time_in": 256, "vector_in": POOLED, "guidance_in": 256}.items():
        linear(shapes, f"{name}.in_layer", WIDTH, into)
        linear(shapes, f"{name}.out_layer", WIDTH, WIDTH)
    for number in range(doubles):
        for stream in ("img", "txt"):
            part = f"double_blocks.{number}.{stream}_"
            linear(shapes, f"{part}mod.lin", 6 * WIDTH, WIDTH)
            linear(shapes, f"{part}attn.qkv", 3 * WIDTH, WIDTH)
            linear(shapes, f"{part}attn.proj", WIDTH, WIDTH)
            for name in ("query_norm", "key_norm"):
                shapes[f"{part}attn.norm.{name}.scale"] = [128]
            linear(shapes, f"{part}mlp.0", 4 * WIDTH, WIDTH)
            linear(shapes, f"{part}mlp.2", WIDTH, 4 * WIDTH)
        linear(shapes, f"controlnet_blocks.{number}", WIDTH, WIDTH)
    for number in range(0, 16, 2):
        shapes[f"input_hint_block.{number}.weight"] = [16, 3 if number == 0 else 16, 3, 3]
        shapes[f"input_hint_block.{number}.bias"] = [16]
    return shapes


NETS: dict[str, dict[str, list[int]]] = {
    "instantx": diffusers(doubles=2, singles=3),
    "union": diffusers(doubles=1, singles=1, modes=4),
    "shakker": diffusers(doubles=3, singles=0, guidance=False),
    "inpaint": diffusers(doubles=1, singles=0, hint=68),
    "xlabs": xlabs(doubles=2),
}
ASKED: list[dict[str, Any]] = [
    {"size": [4, 6]},
    {"size": [4, 4], "batch": 2, "types": [3]},
    {"size": [4, 6], "types": [1]},
]


def fill(name: str, shape: tuple[int, ...]) -> torch.Tensor:
    """A tensor that depends on its name alone, so that no weights need be kept; the tests have the same."""
    rng = np.random.default_rng(zlib.crc32(name.encode()))
    values = rng.standard_normal(shape) / max(1.0, float(np.prod(shape[1:]))) ** 0.5
    if len(shape) == 1 and name.endswith(("weight", "scale")):
        values = 1 + 0.1 * values
    return torch.from_numpy(values.astype(np.float32))


def inputs(name: str, asked: dict[str, Any]) -> dict[str, Any]:
    """What a ControlNet is given; the tests have the same."""
    batch, (rows, columns) = asked.get("batch", 1), asked["size"]
    if name == "xlabs":
        hint = fill("pixels", (batch, 3, rows * 8, columns * 8)).sigmoid()
    else:
        hint = fill("hint", (batch, 17 if name == "inpaint" else 16, rows, columns)) * 4
    return {
        "latent": fill("latent", (batch, 16, rows, columns)) * 4,
        "timesteps": torch.linspace(0.25, 0.75, batch),
        "hint": hint,
        "context": fill("context", (batch, 5, TEXT)) * 4,
        "pooled": fill("pooled", (batch, POOLED)) * 4,
        "guidance": torch.full((batch,), 3.5),
    }


def main() -> None:
    recorded: dict[str, Any] = {"asked": ASKED, "nets": {}}
    for name, shapes in NETS.items():
        state = {key: fill(key, tuple(shape)) for key, shape in shapes.items()}
        net = load_controlnet_state_dict(state).control_model.float().eval()
        outputs = []
        for asked in ASKED:
            given = inputs(name, asked)
            with torch.no_grad():
                found = net(
                    given["latent"],
                    given["timesteps"],
                    given["context"],
                    given["pooled"],
                    given["guidance"],
                    hint=given["hint"],
                    control_type=asked.get("types", []),
                )
            places = {}
            for place, tensors in found.items():
                some = [[float(f"{value:.7g}") for value in tensor.flatten()[::97]] for tensor in tensors]
                # many are the same: kept once, with the number of each block's
                kept: list[list[float]] = []
                for values in some:
                    if values not in kept:
                        kept.append(values)
                places[place] = {"which": [kept.index(values) for values in some], "some": kept}
            outputs.append(places)
        recorded["nets"][name] = {"shapes": shapes, "outputs": outputs}
    (HERE / "flux_control.json.xz").write_bytes(lzma.compress(json.dumps(recorded).encode(), preset=9))


main()
