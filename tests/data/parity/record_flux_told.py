"""Write what ComfyUI's own FLUX.1 is told besides the text: joined channels and attention masks.

Run it with ComfyUI's Python:

    cd COMFYUI && PYTHON .../tests/data/parity/record_flux_told.py --cpu

Writes ``flux_told.json.xz`` beside itself: what was asked and some numbers of the answers.
"""

from __future__ import annotations

import json
import lzma
import sys
import zlib
from pathlib import Path
from types import SimpleNamespace
from typing import Any

sys.path.insert(0, str(Path.cwd()))  # ComfyUI's folder: its modules are not installed

import comfy.options

comfy.options.enable_args_parsing()

import comfy.latent_formats  # noqa: E402
import comfy.model_base  # noqa: E402
import nodes  # noqa: E402
import numpy as np  # noqa: E402
import torch  # noqa: E402

HERE = Path(__file__).parent
# channels of the network's latent, the run's latent, what the condition says: sizes of picture and mask
JOINED: list[dict[str, Any]] = [
    {"channels": 32, "noise": [1, 16, 6, 8], "image": [1, 16, 6, 8]},
    {"channels": 32, "noise": [2, 16, 5, 7], "image": [1, 16, 9, 8]},
    {"channels": 32, "noise": [1, 16, 6, 8]},
    {"channels": 96, "noise": [1, 16, 6, 8], "image": [1, 16, 6, 8], "mask": [1, 1, 48, 64]},
    {"channels": 96, "noise": [3, 16, 5, 7], "image": [2, 16, 4, 9], "mask": [2, 1, 30, 70]},
    {"channels": 96, "noise": [1, 16, 6, 8], "image": [1, 16, 6, 8]},
    {"channels": 96, "noise": [1, 16, 6, 8], "run_mask": [1, 1, 6, 8]},
    {"channels": 16, "noise": [1, 16, 6, 8], "image": [1, 16, 6, 8]},
]
# strengths of the style models that are put behind a text, and the picture's rows and columns
MASKS: list[dict[str, Any]] = [
    {"strengths": [["attn_bias", 0.5]], "noise": [1, 16, 6, 8]},
    {"strengths": [["attn_bias", 0.5], ["attn_bias", 2.0]], "noise": [1, 16, 5, 7]},
    {"strengths": [["attn_bias", 0.5], ["multiply", 0.3]], "noise": [1, 16, 4, 4]},
    {"strengths": [["multiply", 0.3]], "noise": [1, 16, 4, 4]},
    {"strengths": [["attn_bias", 0.5]], "noise": [1, 16, 6, 8], "old": [2, 2]},
]


def fill(name: str, shape: list[int]) -> torch.Tensor:
    """A tensor that depends on its name alone; the tests have the same."""
    rng = np.random.default_rng(zlib.crc32(name.encode()))
    return torch.from_numpy(rng.standard_normal(shape).astype(np.float32))


def some(tensor: torch.Tensor | None) -> Any:
    if tensor is None:
        return None
    flat = tensor.float().flatten()
    return {"shape": list(tensor.shape), "some": [float(f"{value:.7g}") for value in flat[:: max(1, len(flat) // 150)]]}


def network(channels: int) -> Any:
    """As much of ComfyUI's network as the functions look at."""
    made = SimpleNamespace(
        diffusion_model=SimpleNamespace(img_in=SimpleNamespace(weight=torch.empty(1, channels * 4)), patch_size=2),
        model_config=SimpleNamespace(unet_config={"in_channels": channels, "out_channels": 16}),
    )
    made.process_latent_in = comfy.latent_formats.Flux().process_in
    return made


def joined(asked: dict[str, Any]) -> torch.Tensor | None:
    told: dict[str, Any] = {"noise": fill("noise", asked["noise"]), "device": "cpu"}
    if "image" in asked:
        told["concat_latent_image"] = fill("image", asked["image"])
    if "mask" in asked:
        told["concat_mask"] = fill("mask", asked["mask"]).sigmoid()
    if "run_mask" in asked:
        told["denoise_mask"] = fill("run mask", asked["run_mask"]).sigmoid()
    return comfy.model_base.Flux.concat_cond(network(asked["channels"]), **told)


def masked(asked: dict[str, Any]) -> tuple[torch.Tensor, torch.Tensor | None]:
    """The text with styles behind it, and the mask for a run."""
    conditioning: Any = [[fill("text", [1, 4, 8]), {}]]
    if "old" in asked:
        size = 4 + asked["old"][0] * asked["old"][1]
        conditioning[0][1].update(
            attention_mask=fill("own", [1, size, size]).half(), attention_mask_img_shape=tuple(asked["old"])
        )
    for number, (kind, strength) in enumerate(asked["strengths"]):
        words = fill(f"style {number}", [1, 3, 8])
        style = SimpleNamespace(get_cond=lambda seen, words=words: words.clone())
        conditioning = nodes.StyleModelApply().apply_stylemodel(conditioning, style, None, strength, kind)[0]
    text, options = conditioning[0]
    mask, size = options.get("attention_mask"), options.get("attention_mask_img_shape")
    if mask is not None:
        rows, columns = (-(-side // 2) for side in asked["noise"][-2:])
        mask = comfy.utils.upscale_dit_mask(mask, size, (rows, columns))
    return text, mask


def main() -> None:
    recorded = {
        "joined": [{**asked, "answer": some(joined(asked))} for asked in JOINED],
        "masks": [{**asked, "text": some(masked(asked)[0]), "answer": some(masked(asked)[1])} for asked in MASKS],
    }
    (HERE / "flux_told.json.xz").write_bytes(lzma.compress(json.dumps(recorded).encode(), preset=9))


main()
