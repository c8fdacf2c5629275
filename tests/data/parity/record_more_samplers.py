"""Records what ComfyUI 0.33.0's further samplers give for a made-up model under guidance; run with its Python, in its
folder.

    cd COMFYUI && PYTHON record_more_samplers.py --cpu > more_samplers.json

The result is packed with ``xz``. What is recorded of each: the first 16 numbers of the final latent.
"""

import json
import sys
from pathlib import Path
from typing import Any

import torch

sys.path.insert(0, str(Path.cwd()))
import comfy.options  # ComfyUI is in the working folder

comfy.options.enable_args_parsing()
from comfy import model_sampling, samplers  # noqa: E402

DONE = {  # in record_sampling.py
    *("euler", "euler_ancestral", "heun", "dpm_2", "dpm_2_ancestral", "lms", "dpmpp_2s_ancestral", "dpmpp_sde"),
    *("dpmpp_2m", "dpmpp_2m_sde", "dpmpp_2m_sde_heun", "dpmpp_3m_sde", "ddpm", "lcm", "ddim"),
}


class Added(model_sampling.ModelSamplingDiscrete, model_sampling.EPS):
    """As SD 1.5."""


class Flow(model_sampling.ModelSamplingDiscreteFlow, model_sampling.CONST):
    """As SD 3.5."""


class Model:
    """A stand-in for a model with guidance; the tests have it too."""

    def __init__(self, levels: Any) -> None:
        self.inner_model = self
        self.model_patcher = self
        self.model_sampling = levels

    def get_model_object(self, name: str) -> Any:
        return self.model_sampling

    def __call__(self, x: torch.Tensor, sigma: torch.Tensor, model_options: Any = None, **_: Any) -> torch.Tensor:
        s = sigma.reshape(-1, 1, 1, 1)
        positive = torch.tanh(x / (s + 1.0)) * 0.8 + 0.1 * torch.sin(s)
        negative = torch.tanh(x / (s + 1.0)) * 0.5 - 0.05
        seen = negative + (positive - negative) * 3.0
        for function in (model_options or {}).get("sampler_post_cfg_function", []):
            seen = function({"denoised": seen, "uncond_denoised": negative})
        return seen


def main() -> None:
    """Print the record."""
    found: dict[str, list[float]] = {}
    for kind, levels in (("discrete", Added(None)), ("flow", Flow(None))):
        if kind == "flow":
            levels.set_parameters(shift=3.0)
        for name in samplers.SAMPLER_NAMES:
            for steps in (1, 2, 6):
                if name in DONE:
                    continue
                sigmas = samplers.calculate_sigmas(levels, "simple" if kind == "flow" else "karras", steps)
                x = torch.randn(1, 4, 6, 6, generator=torch.Generator().manual_seed(3)) * sigmas[0]
                sampler = samplers.sampler_object(name)
                made = sampler.sampler_function(
                    Model(levels), x, sigmas.clone(), extra_args={"seed": 7}, callback=None, disable=True
                )
                found[f"{name} {kind} {steps}"] = made.flatten()[:16].tolist()
    print(json.dumps(found))


if __name__ == "__main__":
    main()
