"""HunyuanImage 2.1: base and distilled, its autoencoder, its text encoders (Qwen 2.5 VL, ByT5 for text in the picture).

Source: ComfyUI 0.33.0 ``comfy/supported_models.py``, ``comfy/model_base.py`` (`HunyuanImage21`).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch

from ..diffusion.latent_format import LatentFormat
from ..diffusion.prediction import Straight
from ..diffusion.told import Each
from ..diffusion.values import Alias, Asked, Condition, Network, Step
from ..diffusion.weights import State, Weights
from ..sigmas import Flow
from . import Family, hunyuan_text, hunyuan_transformer
from .hunyuan_autoencoder import hunyuan_coder

SHIFT = 5.0
GUIDANCE = 6.0  # where no node sets it
LATENT = LatentFormat(
    channels=64,
    scale=0.75289,
    factor=32,
    colours=(
        *((-0.0154, -0.0397, -0.0521), (0.0005, 0.0093, 0.0006), (-0.0805, -0.0773, -0.0586)),
        *((-0.0494, -0.0487, -0.0498), (-0.0212, -0.0076, -0.0261), (-0.0179, -0.0417, -0.0505)),
        *((0.0158, 0.0310, 0.0239), (0.0409, 0.0516, 0.0201), (0.0350, 0.0553, 0.0036)),
        *((-0.0447, -0.0327, -0.0479), (-0.0038, -0.0221, -0.0365), (-0.0423, -0.0718, -0.0654)),
        *((0.0039, 0.0368, 0.0104), (0.0655, 0.0217, 0.0122), (0.0490, 0.1638, 0.2053)),
        *((0.0932, 0.0829, 0.0650), (-0.0186, -0.0209, -0.0135), (-0.0080, -0.0076, -0.0148)),
        *((-0.0284, -0.0201, 0.0011), (-0.0642, -0.0294, -0.0777), (-0.0035, 0.0076, -0.0140)),
        *((0.0519, 0.0731, 0.0887), (-0.0102, 0.0095, 0.0704), (0.0068, 0.0218, -0.0023)),
        *((-0.0726, -0.0486, -0.0519), (0.0260, 0.0295, 0.0263), (0.0250, 0.0333, 0.0341)),
        *((0.0168, -0.0120, -0.0174), (0.0226, 0.1037, 0.0114), (0.2577, 0.1906, 0.1604)),
        *((-0.0646, -0.0137, -0.0018), (-0.0112, 0.0309, 0.0358), (-0.0347, 0.0146, -0.0481)),
        *((0.0234, 0.0179, 0.0201), (0.0157, 0.0313, 0.0225), (0.0423, 0.0675, 0.0524)),
        *((-0.0031, 0.0027, -0.0255), (0.0447, 0.0555, 0.0330), (-0.0152, 0.0103, 0.0299)),
        *((-0.0755, -0.0489, -0.0635), (0.0853, 0.0788, 0.1017), (-0.0272, -0.0294, -0.0471)),
        *((0.0440, 0.0400, -0.0137), (0.0335, 0.0317, -0.0036), (-0.0344, -0.0621, -0.0984)),
        *((-0.0127, -0.0630, -0.0620), (-0.0648, 0.0360, 0.0924), (-0.0781, -0.0801, -0.0409)),
        *((0.0363, 0.0613, 0.0499), (0.0238, 0.0034, 0.0041), (-0.0135, 0.0258, 0.0310)),
        *((0.0614, 0.1086, 0.0589), (0.0428, 0.0350, 0.0205), (0.0153, 0.0173, -0.0018)),
        *((-0.0288, -0.0455, -0.0091), (0.0344, 0.0109, -0.0157), (-0.0205, -0.0247, -0.0187)),
        *((0.0487, 0.0126, 0.0064), (-0.0220, -0.0013, 0.0074), (-0.0203, -0.0094, -0.0048)),
        *((-0.0719, 0.0429, -0.0442), (0.1042, 0.0497, 0.0356), (-0.0659, -0.0578, -0.0280)),
        (-0.0060, -0.0322, -0.0234),
    ),
    colour_bias=(0.0007, -0.0256, -0.0206),
)


class HunyuanImage(Network):
    """The denoiser: told the text, the text that the picture shows, guidance, and (distilled) where the step ends."""

    family = "hunyuan_image"
    latent = LATENT
    dtypes = (torch.bfloat16, torch.float32)

    def __init__(self, weights: Weights) -> None:
        self.levels = Flow(shift=SHIFT)
        self.prediction = Straight()
        self.variant = "hunyuan-image-2.1"
        if any(name.startswith("time_r_in.") for name in weights):
            self.variant = "hunyuan-image-2.1-distilled"
        self.text_width = weights.shape("txt_in.input_embedder.weight")[1]
        self._source = weights.source

    def build(self, state: State) -> Any:
        """See `Network.build`."""
        return hunyuan_transformer.build(state, source=self._source)

    def told(self, condition: Condition, asked: Asked) -> dict[str, Each]:
        """See `Network.told`: "text", "glyphs", "guidance"."""
        facts: dict[str, Each] = {"text": Each(condition.text)}
        glyphs = condition.get("conditioning_byt5small")
        if glyphs is not None:
            facts["glyphs"] = Each(glyphs)
        guidance = condition.get("guidance", GUIDANCE)
        if guidance is not None:
            facts["guidance"] = Each(torch.tensor([float(guidance)]))
        return facts

    def predict(
        self, module: Any, x: torch.Tensor, timestep: torch.Tensor, told: Mapping[str, Any], step: Step
    ) -> torch.Tensor:
        """See `Network.predict`."""
        return hunyuan_transformer.predict(
            module,
            x,
            timestep,
            told["text"],
            glyphs=told.get("glyphs"),
            guidance=told.get("guidance"),
            end=_end(step, timestep),
        )

    def aliases(self, weights: Weights) -> Mapping[str, Alias]:
        """diffusers' names, and ComfyUI's for files in Tencent's; what is one matrix there is several here."""
        found: dict[str, Alias] = {}
        for name in weights:
            if not name.endswith(".weight"):
                continue
            layer = hunyuan_transformer.comfyui_name(name).removesuffix(".weight")
            rows = weights.shape(name)[0]
            for own, start, length in hunyuan_transformer.parts(layer, rows):
                found[own] = Alias(name=name, start=start, length=None if length == rows else length)
            if layer != name.removesuffix(".weight"):
                found[layer] = Alias(name=name)
        return found


def _end(step: Step, timestep: torch.Tensor) -> torch.Tensor | None:
    """The level at which the step ends, times 1000 [batch]; None between the levels of the run (second looks)."""
    places = torch.where(step.sigmas == step.sigma[0].to(step.sigmas))[0]
    if not len(places) or int(places[0]) + 1 >= len(step.sigmas):
        return None
    end = step.sigmas[int(places[0]) + 1] * hunyuan_transformer.TIMES
    return end.to(timestep).expand(timestep.shape[0])


def _denoiser(weights: Weights) -> Network | None:
    named = weights.renamed(hunyuan_transformer.comfyui_name)
    return HunyuanImage(named) if hunyuan_transformer.is_hunyuan_image(named) else None


FAMILY = Family(
    name="hunyuan_image",
    denoiser=_denoiser,
    autoencoder=hunyuan_coder,
    texts={"hunyuan_image": hunyuan_text.clip_of},
)
