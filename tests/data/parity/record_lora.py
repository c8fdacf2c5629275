"""Write which weights ComfyUI's own code says that LoRA files change, and to what, for small seeded models.

Run it with ComfyUI's Python:

    cd COMFYUI && PYTHON .../tests/data/parity/record_lora.py --cpu

Writes ``lora.json.xz`` beside itself: the models' tensors and the files' (names and shapes; values follow from the
names, see `fill`), and of each changed weight a fingerprint.
"""

from __future__ import annotations

import json
import lzma
import sys
import types
import zlib
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path.cwd()))  # ComfyUI's folder: its modules are not installed

import comfy.options

comfy.options.enable_args_parsing()

import comfy.lora  # noqa: E402
import comfy.lora_convert  # noqa: E402
import comfy.model_base  # noqa: E402
import comfy.ops  # noqa: E402
import numpy as np  # noqa: E402
import torch  # noqa: E402
from comfy.ldm.modules.diffusionmodules.openaimodel import UNetModel  # noqa: E402

HERE = Path(__file__).parent
CONFIG: dict[str, Any] = {
    "image_size": 32,
    "in_channels": 4,
    "out_channels": 4,
    "model_channels": 32,
    "num_res_blocks": [1, 1],
    "channel_mult": [1, 2],
    "transformer_depth": [1, 1],
    "transformer_depth_output": [1, 1, 1, 1],
    "transformer_depth_middle": 1,
    "context_dim": 24,
    "num_heads": 8,
    "use_spatial_transformer": True,
}
RANK = 4
Q = "input_blocks.1.1.transformer_blocks.0.attn1.to_q"  # [32, 32]
K2 = "input_blocks.1.1.transformer_blocks.0.attn2.to_k"  # [32, 24]
OUT = "input_blocks.1.1.transformer_blocks.0.attn1.to_out.0"  # [32, 32]
FF = "input_blocks.1.1.transformer_blocks.0.ff.net.0.proj"  # [256, 32]
CONV = "input_blocks.1.0.in_layers.2"  # [32, 32, 3, 3]
NORM = "input_blocks.1.1.norm"
UP = "output_blocks.1.2.conv"  # an upsampler [64, 64, 3, 3]
TE = "text_model.encoder.layers.1.self_attn.q_proj"  # [24, 24]
FC = "text_model.encoder.layers.0.mlp.fc1"  # [48, 24]


def fill(name: str, shape: tuple[int, ...]) -> torch.Tensor:
    """A tensor that depends on its name alone, so that no weights need be kept; the tests have the same."""
    rng = np.random.default_rng(zlib.crc32(name.encode()))
    values = rng.standard_normal(shape) / max(1.0, float(np.prod(shape[1:]))) ** 0.5
    if name.endswith("norm.weight") or (len(shape) == 1 and name.endswith("weight")):
        values = 1 + 0.1 * values
    return torch.from_numpy(np.asarray(values, dtype=np.float32))


def flat(name: str) -> str:
    return name.replace(".", "_")


Spec = dict[str, list[int] | float]


def pair(module: str, out: int, into: int, up: str = ".lora_up.weight", down: str = ".lora_down.weight") -> Spec:
    return {f"{module}{up}": [out, RANK], f"{module}{down}": [RANK, into]}


def kohya(module: str, out: int, into: int, alpha: float | None = 2.0) -> Spec:
    spec = pair(f"lora_unet_{flat(module)}", out, into)
    return spec if alpha is None else {**spec, f"lora_unet_{flat(module)}.alpha": alpha}


def named(module: str, **parts: list[int] | float) -> Spec:
    return {f"lora_unet_{flat(module)}.{part.replace('__', '.')}": value for part, value in parts.items()}


D = "down_blocks.0.attentions.0.transformer_blocks.0.attn1"
FILES: dict[str, Spec] = {
    "kohya": {**kohya(Q, 32, 32), **kohya(K2, 32, 24, None), **kohya(FF, 256, 32)},
    "kohya, text": {
        **pair(f"lora_te_{flat(TE)}", 24, 24),
        **pair(f"lora_te1_{flat(FC)}", 48, 24),
        **pair(f"lora_te2_{flat(FC)}", 48, 24),
        "lora_te2_text_projection.lora_up.weight": [24, RANK],
        "lora_te2_text_projection.lora_down.weight": [RANK, 24],
    },
    "kohya, diffusers' names": {
        **pair(f"lora_unet_{flat(D)}_to_q", 32, 32),
        **pair("lora_unet_mid_block_resnets_1_time_emb_proj", 64, 128),
        **named("up_blocks.0.upsamplers.0.conv", lora_up__weight=[64, RANK, 1, 1], lora_down__weight=[RANK, 64, 3, 3]),
        **named("down_blocks.0.downsamplers.0.conv", lora_up__weight=[32, 4, 1, 1], lora_down__weight=[4, 32, 3, 3]),
    },
    "diffusers": {
        **pair(f"unet.{D}.processor.to_q", 32, 32, "_lora.up.weight", "_lora.down.weight"),
        **pair(f"{D}.processor.to_out", 32, 32, "_lora.up.weight", "_lora.down.weight"),
        **pair(f"unet.{D}.processor.to_v", 32, 32, ".lora.up.weight", ".lora.down.weight"),
        **pair(f"text_encoder.{TE}", 24, 24, ".lora_linear_layer.up.weight", ".lora_linear_layer.down.weight"),
        **pair(f"text_encoder_2.{TE}", 24, 24, ".lora_linear_layer.up.weight", ".lora_linear_layer.down.weight"),
    },
    "ComfyUI's": {
        **pair(f"diffusion_model.{Q}", 32, 32, ".lora_B.weight", ".lora_A.weight"),
        **pair(f"diffusion_model.{K2}", 32, 24, ".lora_B.default.weight", ".lora_A.default.weight"),
        **pair(f"diffusion_model.{OUT}", 32, 32, ".lora_B", ".lora_A"),
        **pair(f"text_encoders.clip_l.transformer.{FC}", 48, 24),
        f"diffusion_model.{OUT}.alpha": 3.0,
    },
    "LoCon": {
        **named(CONV, lora_up__weight=[32, 4, 1, 1], lora_down__weight=[4, 32, 3, 3], alpha=1.0),
        **named(UP, lora_up__weight=[64, 4, 1, 1], lora_down__weight=[4, 64, 1, 1], lora_mid__weight=[4, 4, 3, 3]),
    },
    "LoHa": {
        **named(Q, hada_w1_a=[32, 4], hada_w1_b=[4, 32], hada_w2_a=[32, 4], hada_w2_b=[4, 32], alpha=2.0),
        **named(
            CONV,
            hada_w1_a=[4, 32],
            hada_w1_b=[4, 32],
            hada_w2_a=[4, 32],
            hada_w2_b=[4, 32],
            hada_t1=[4, 4, 3, 3],
            hada_t2=[4, 4, 3, 3],
        ),
    },
    "LoKr": {
        **named(Q, lokr_w1=[4, 4], lokr_w2=[8, 8], alpha=5.0),
        **named(FF, lokr_w1_a=[16, 2], lokr_w1_b=[2, 4], lokr_w2_a=[16, 3], lokr_w2_b=[3, 8], alpha=2.0),
        **named(UP, lokr_w1=[4, 4], lokr_w2=[16, 16, 3, 3]),
    },
    "GLoRA": {
        **named(K2, a1__weight=[24, 4], a2__weight=[4, 24], b1__weight=[32, 4], b2__weight=[4, 24], alpha=2.0),
        **named(FF, a1__weight=[4, 32], a2__weight=[32, 4], b1__weight=[4, 32], b2__weight=[256, 4]),
        **named(Q, a1__weight=[4, 32], a2__weight=[32, 4], b1__weight=[4, 32], b2__weight=[32, 4]),
    },
    "OFT and BOFT": {
        **named(Q, oft_blocks=[4, 8, 8], alpha=0.5),
        **named(CONV, oft_blocks=[8, 4, 4], rescale=[32, 1, 1, 1]),
        **named(K2, oft_blocks=[2, 4, 8, 8], alpha=0.001),
        **named(OUT, oft_blocks=[3, 4, 8, 8], rescale=[32, 1], alpha=0.0),
    },
    "DoRA": {
        **kohya(Q, 32, 32),
        **named(Q, dora_scale=[32, 1]),
        **kohya(FF, 256, 32, None),
        **named(FF, dora_scale=[1, 32]),
        **named(CONV, lora_up__weight=[32, 4, 1, 1], lora_down__weight=[4, 32, 3, 3], dora_scale=[1, 32, 1, 1]),
        **named(OUT, lokr_w1=[4, 4], lokr_w2=[8, 8], dora_scale=[32, 1]),
        **named(K2, oft_blocks=[4, 8, 8], alpha=0.5, dora_scale=[32, 1]),
    },
    "whole": {
        **named(Q, diff=[32, 32]),
        **named(OUT, diff=[32, 32], diff_b=[32]),
        **named(NORM, w_norm=[32], b_norm=[32]),
        **named(K2, set_weight=[32, 24]),
        "diffusion_model.out.2.bias.set_weight": [4],
    },
    "wider": {
        **named("input_blocks.0.0", lora_up__weight=[32, 4, 1, 1], lora_down__weight=[4, 6, 3, 3]),
        "lora_unet_input_blocks_0_0.reshape_weight": [-32, -6, -3, -3],
    },
    "misfits": {  # LoKr with a convolution's core fails in 0.33.0 itself (torch.kron of a turned tensor): left out
        **kohya(Q, 48, 32),
        **kohya("double_blocks.0.img_attn.proj", 32, 32),
        **named(K2, diff=[32, 32]),
        **kohya(OUT, 32, 32),
    },
}
STRENGTHS = (1.0, -0.7)
STACKS = (("kohya", "DoRA", "LoHa"),)


def tensors(spec: Spec) -> dict[str, torch.Tensor]:
    made: dict[str, torch.Tensor] = {}
    for name, value in spec.items():
        if isinstance(value, list):
            sides = [-side for side in value]
            made[name] = torch.tensor(sides) if name.endswith("reshape_weight") else fill(name, tuple(value)) * 0.5
        else:
            made[name] = torch.tensor(value)
    return made


def fingerprint(key: str, weight: torch.Tensor) -> dict[str, Any]:
    probe = fill(f"probe:{key}", tuple(weight.shape)).double()
    numbers = [float((weight.double() * probe).sum()), *(float(v) for v in weight.flatten()[:3])]
    return {"shape": list(weight.shape), "numbers": [float(f"{number:.8g}") for number in numbers]}


class Model:
    """What comfy.lora asks of a model."""

    model_config = types.SimpleNamespace(unet_config=CONFIG)

    def __init__(self, state: dict[str, torch.Tensor]) -> None:
        self.state = state

    def state_dict(self) -> dict[str, torch.Tensor]:
        return self.state


def merged(files: tuple[str, ...], strength: float, model: Model, clip: Model) -> dict[str, Any]:
    places = comfy.lora.model_lora_keys_clip(clip, comfy.lora.model_lora_keys_unet(model, {}))
    patches: dict[str, list[Any]] = {}
    for name in files:
        for key, change in comfy.lora.load_lora(comfy.lora_convert.convert_lora(tensors(FILES[name])), places).items():
            if key in model.state or key in clip.state:
                patches.setdefault(key, []).append((strength, change, 1.0, None, None))
    told: dict[str, Any] = {}
    for key, changes in patches.items():
        weight = (model.state if key in model.state else clip.state)[key]
        told[key] = fingerprint(key, comfy.lora.calculate_weight(changes, weight.clone(), key))
    return told


def main() -> None:
    network = UNetModel(**CONFIG, dtype=torch.float32, operations=comfy.ops.disable_weight_init)
    shapes = {f"diffusion_model.{name}": list(value.shape) for name, value in network.state_dict().items()}
    text = {
        f"{encoder}.transformer.{module}.weight": shape
        for encoder in ("clip_l", "clip_g")
        for module, shape in ((TE, [24, 24]), (FC, [48, 24]), ("text_projection", [24, 24]))
    }
    model = Model({name: fill(name, tuple(shape)) for name, shape in shapes.items()})
    clip = Model({name: fill(name, tuple(shape)) for name, shape in text.items()})
    recorded: dict[str, Any] = {"network": shapes, "text": text, "files": FILES, "merged": []}
    for files in [*((name,) for name in FILES), *STACKS]:
        for strength in STRENGTHS:
            told = merged(files, strength, model, clip)
            recorded["merged"].append({"files": files, "strength": strength, "weights": told})
            print(files, strength, len(told))
    (HERE / "lora.json.xz").write_bytes(lzma.compress(json.dumps(recorded).encode(), preset=9))


main()
