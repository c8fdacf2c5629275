"""Run with a ComfyUI's Python, in its folder: which model class ComfyUI itself finds in a header fixture.

Usage: python own_detection.py CHECKOUT FIXTURE... ; prints a JSON object, fixture name -> class name or null. No
weights: the tensors are on the meta device.
"""

from __future__ import annotations

import json
import lzma
import sys
from pathlib import Path


def main(checkout: str, *fixtures: str) -> None:
    sys.path.insert(0, checkout)
    import comfy.options

    comfy.options.enable_args_parsing(False)
    from comfy.cli_args import args

    args.cpu = True
    import comfy.model_detection
    import torch

    found = {}
    for fixture in map(Path, fixtures):
        shapes = json.loads(lzma.decompress(fixture.read_bytes()))["shapes"]
        state = {name: torch.empty(shape, device="meta") for name, shape in shapes.items()}
        # Stable Diffusion 2 is told from its v-prediction sibling by a value: give it one.
        for name in state:
            if name.endswith("output_blocks.11.1.transformer_blocks.0.norm1.bias"):
                state[name] = torch.zeros(state[name].shape)
        prefix = comfy.model_detection.unet_prefix_from_state_dict(state)
        if not any(name.startswith(prefix) for name in state):
            prefix = ""
        config = comfy.model_detection.model_config_from_unet(state, prefix)
        found[fixture.name.removesuffix(".json.xz")] = type(config).__name__ if config else None
    sys.stdout.write(json.dumps(found))


if __name__ == "__main__":
    main(*sys.argv[1:])
