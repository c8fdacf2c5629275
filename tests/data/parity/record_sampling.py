"""Write what ComfyUI's own functions give for noise levels and schedules; run it with ComfyUI's Python.

    cd COMFYUI && PYTHON .../tests/data/parity/record_sampling.py --cpu

Writes ``sampling.json.xz`` beside itself: float32 values, as text that reads back exactly.
"""

from __future__ import annotations

import json
import lzma
import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path.cwd()))  # ComfyUI's folder: its modules are not installed

import comfy.options

comfy.options.enable_args_parsing()

import torch  # noqa: E402
from comfy import model_sampling, samplers  # noqa: E402

HERE = Path(__file__).parent
STEPS = (1, 2, 3, 4, 7, 10, 20, 30, 50)


class Config:
    """What ComfyUI's classes read of a model's configuration."""

    def __init__(self, **settings: Any) -> None:
        self.sampling_settings = settings


LEVELS = {
    "discrete": (model_sampling.ModelSamplingDiscrete, {}),
    "discrete zero snr": (model_sampling.ModelSamplingDiscrete, {"zsnr": True}),
    "flow 1": (model_sampling.ModelSamplingDiscreteFlow, {"shift": 1.0}),
    "flow 3": (model_sampling.ModelSamplingDiscreteFlow, {"shift": 3.0}),
    "flow 3 of 1": (model_sampling.ModelSamplingDiscreteFlow, {"shift": 3.0, "multiplier": 1.0}),
    "flux": (model_sampling.ModelSamplingFlux, {"shift": 1.15}),
}


def main() -> None:
    recorded: dict[str, Any] = {}
    for name, (kind, settings) in LEVELS.items():
        levels = kind(Config(**settings))
        entry: dict[str, Any] = {"settings": settings, "schedules": {}}
        for scheduler in samplers.SCHEDULER_NAMES:
            for steps in STEPS:
                if scheduler == "kl_optimal" and steps == 1:
                    continue  # not a number there
                values = samplers.calculate_sigmas(levels, scheduler, steps)
                entry["schedules"][f"{scheduler} {steps}"] = values.tolist()
        some = levels.sigmas[torch.tensor([0, 1, 10, 333, 998, 999])]
        entry["timesteps"] = [[float(s), float(levels.timestep(s))] for s in some]
        entry["percents"] = [[p, float(levels.percent_to_sigma(p))] for p in (0.0, 0.1, 0.25, 0.5, 0.73, 0.999, 1.0)]
        entry["sigmas"] = [float(s) for s in levels.sigmas[:: max(1, len(levels.sigmas) // 50)]]
        recorded[name] = entry
    (HERE / "sampling.json.xz").write_bytes(lzma.compress(json.dumps(recorded).encode(), preset=9))


main()
