"""Write what ComfyUI's own Qwen-Image transformer and ControlNet give with seeded weights, for small layouts.

Run it with ComfyUI's Python:

    cd COMFYUI && PYTHON .../tests/data/parity/record_qwen_transformer.py --cpu

Writes ``qwen_transformer.json.xz`` beside itself: names and shapes of the tensors, and the outputs.
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
from comfy.ldm.qwen_image.controlnet import QwenImageControlNetModel  # noqa: E402
from comfy.ldm.qwen_image.model import QwenImageTransformer2DModel  # noqa: E402
from comfy_extras.nodes_model_patch import QwenImageBlockWiseControlNet  # noqa: E402

HERE = Path(__file__).parent
TEXT = 20
SHARED: dict[str, Any] = {
    "num_layers": 2,
    "num_attention_heads": 2,
    "attention_head_dim": 128,
    "joint_attention_dim": TEXT,
    "operations": comfy.ops.disable_weight_init,
    "device": "cpu",
    "dtype": torch.float32,
}
LAYOUTS: dict[str, dict[str, Any]] = {
    "first": {},
    "2511": {"default_ref_method": "index_timestep_zero"},
    "layered": {"default_ref_method": "negative_index", "use_additional_t_cond": True},
}
CASES: list[dict[str, Any]] = [
    {"size": [1, 8, 6]},
    {"size": [1, 7, 5], "mask": True},
    {"size": [1, 8, 6], "references": [[8, 6], [5, 10]]},
    {"size": [1, 8, 6], "references": [[8, 6], [5, 10], [4, 4]], "method": "offset"},
    {"size": [1, 6, 8], "references": [[4, 6]], "method": "negative_index"},
    {"size": [1, 6, 8], "references": [[4, 6]], "method": "index_timestep_zero", "mask": True},
    {"size": [2, 4, 6]},
    {"size": [1, 8, 6], "references": [[4, 4]], "control": True},
]


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


def numbers(tensor: torch.Tensor, step: int) -> list[float]:
    return [float(f"{value:.7g}") for value in tensor.flatten()[::step]]


def inputs(case: dict[str, Any]) -> dict[str, Any]:
    told: dict[str, Any] = {
        "x": fill("x", (2, 16, *case["size"])),
        "timesteps": torch.tensor([1.0, 0.135]),
        "context": fill("context", (2, 7, TEXT)),
    }
    if case.get("mask"):
        told["attention_mask"] = torch.tensor([[1, 1, 1, 1, 1, 1, 0], [1, 1, 1, 1, 0, 0, 0]])
    if "references" in case:
        told["ref_latents"] = [fill(f"reference {n}", (2, 16, 1, *size)) for n, size in enumerate(case["references"])]
    if "method" in case:
        told["ref_latents_method"] = case["method"]
    if case.get("control"):
        patches = -(-case["size"][1] // 2) * -(-case["size"][2] // 2)
        told["control"] = {"input": [fill("control", (2, patches, 256)), None]}
    return told


def main() -> None:
    recorded: dict[str, Any] = {"transformers": {}, "controls": {}}
    for layout, settings in LAYOUTS.items():
        model = QwenImageTransformer2DModel(**{**SHARED, **settings})
        entry: dict[str, Any] = {"shapes": filled(model), "outputs": []}
        for case in CASES if layout == "first" else CASES[2:3]:
            with torch.no_grad():
                told = inputs(case)
                out = model(told.pop("x"), told.pop("timesteps"), told.pop("context"), **told)
            entry["outputs"].append({**case, "values": numbers(out, 5)})
        recorded["transformers"][layout] = entry
    for name, extra in (("union", 0), ("inpainting", 4)):
        net = QwenImageControlNetModel(extra_condition_channels=extra, **SHARED)
        entry = {"shapes": filled(net), "outputs": []}
        # its mask is never told there: ComfyUI hands a ControlNet the text alone
        for case in ({"size": [1, 8, 6]}, {"size": [1, 7, 5]}):
            hint = fill("hint", (2, 16 + extra // 4, *case["size"]))
            with torch.no_grad():
                out = net(**inputs(case), hint=hint)["input"]
            entry["outputs"].append({**case, "count": len(out), "values": [numbers(out[0], 23), numbers(out[-1], 23)]})
        recorded["controls"][name] = entry
    # DiffSynth's patches: what a picture's latent adds after a block
    for name, extra in (("patch", 0), ("inpainting patch", 4)):
        patch = QwenImageBlockWiseControlNet(2, 64, extra, 256, operations=comfy.ops.disable_weight_init)
        entry = {"shapes": filled(patch), "outputs": []}
        latent = fill("hint", (1, 16 + extra // 4, 1, 7, 6))
        with torch.no_grad():
            shown = patch.process_input_latent_image(latent)
            added = [patch.control_block(fill("tokens", (2, 12, 256)), shown, block) for block in (0, 1)]
        entry["outputs"] = [numbers(one, 7) for one in added]
        recorded["controls"][name] = entry
    (HERE / "qwen_transformer.json.xz").write_bytes(lzma.compress(json.dumps(recorded).encode(), preset=9))


main()
