"""Write what ComfyUI's own functions give for noise levels, schedules, samplers and weights.

Run it with ComfyUI's Python:

    cd COMFYUI && PYTHON .../tests/data/parity/record_sampling.py --cpu

Writes ``sampling.json.xz`` beside itself: float32 values, as text that reads back exactly.
"""

from __future__ import annotations

import json
import lzma
import random
import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path.cwd()))  # ComfyUI's folder: its modules are not installed

import comfy.options

comfy.options.enable_args_parsing()

import torch  # noqa: E402
from comfy import model_sampling, sample, samplers, sd1_clip  # noqa: E402
from comfy.k_diffusion import sampling  # noqa: E402

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


SAMPLERS = (
    *("euler", "euler_ancestral", "heun", "dpm_2", "dpm_2_ancestral", "lms", "dpmpp_2s_ancestral", "dpmpp_sde"),
    *("dpmpp_2m", "dpmpp_2m_sde", "dpmpp_2m_sde_heun", "dpmpp_3m_sde", "ddpm", "lcm"),
)
SHAPE = (2, 4, 3, 5)


class Flow(model_sampling.ModelSamplingDiscreteFlow, model_sampling.CONST):
    pass


class Added(model_sampling.ModelSamplingDiscrete, model_sampling.EPS):
    pass


class Model:
    """A stand-in for a model: the same made-up picture in any noise, nonlinear in both; the tests have it too."""

    def __init__(self, levels: Any) -> None:
        self.inner_model = self
        self.model_patcher = self
        self.model_sampling = levels

    def get_model_object(self, name: str) -> Any:
        return self.model_sampling

    def __call__(self, x: torch.Tensor, sigma: torch.Tensor, **_: Any) -> torch.Tensor:
        s = sigma.reshape(-1, 1, 1, 1)
        return torch.sin(x * 1.3) * torch.exp(-s) + 0.3 * x / (1 + s * s) + 0.1


def sampled() -> dict[str, Any]:
    """Final latents: sampler, levels, schedule, steps -> values, from the noise of seed 7."""
    found: dict[str, Any] = {}
    for flow in (False, True):
        levels = Flow(Config(shift=3.0)) if flow else Added(Config())
        for name in SAMPLERS:
            for scheduler, steps in (("karras", 5), ("normal", 8), ("simple", 1), ("sgm_uniform", 3)):
                if flow and scheduler == "karras":
                    continue  # not meant for flows
                sigmas = samplers.calculate_sigmas(levels, scheduler, steps)
                noise = sample.prepare_noise(torch.zeros(SHAPE), 7)
                x = noise * sigmas[0]
                result = getattr(sampling, f"sample_{name}")(
                    Model(levels), x, sigmas, extra_args={"seed": 7}, disable=True
                )
                found[f"{name} {'flow' if flow else 'discrete'} {scheduler} {steps}"] = result.flatten().tolist()
    some = sample.prepare_noise(torch.zeros(3, *SHAPE[1:]), 11, [2, 0, 2])
    found["noise 11 of 2 0 2"] = some.flatten().tolist()
    return found


def weighted() -> list[Any]:
    """Prompts and their parts with weights."""
    rng = random.Random(3)
    words = [
        "a cat",
        " on",
        "(",
        ")",
        "((",
        "))",
        ":1.2)",
        ":0.5)",
        ":",
        "\\(",
        "\\)",
        ",",
        ":x)",
        "()",
        ":-1)",
        " :2",
        "ü",
    ]
    prompts = [
        "",
        "a (red:1.3) cat",
        "((x))",
        "(a (b:2) c)",
        "(:1.5)",
        "(a:1.2:1.3)",
        "(a:inf)",
        "(a: 1.1 )",
        "a) b (c",
    ]
    prompts += ["".join(rng.choices(words, k=rng.randint(1, 12))) for _ in range(400)]
    found = []
    for prompt in prompts:
        parts = sd1_clip.token_weights(sd1_clip.escape_important(prompt), 1.0)
        found.append([prompt, [[sd1_clip.unescape_important(text), weight] for text, weight in parts]])
    return found


def main() -> None:
    recorded: dict[str, Any] = {"samplers": sampled(), "weights": weighted()}
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
