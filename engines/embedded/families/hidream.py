"""HiDream-I1 (full, dev, fast) and the edit models HiDream-E1 and E1.1.

Source: ComfyUI 0.33.0 ``comfy/supported_models.py``, ``comfy/model_base.py`` (`HiDream`). All of them have one layout;
a picture to edit is told as ``concat_latent_image``.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch

from ..diffusion.latent_format import FLUX
from ..diffusion.prediction import Straight
from ..diffusion.told import Each, Shaped
from ..diffusion.values import Asked, Condition, Network, Step
from ..diffusion.weights import State, Weights
from ..problems import NodeProblem
from ..sigmas import Flow
from . import Family, hidream_text, hidream_transformer


class HiDream(Network):
    """The denoiser: told T5's text, every layer of Llama's, CLIP's pooled texts, and perhaps a picture to edit."""

    family = "hidream"
    variant = "hidream"
    latent = FLUX
    dtypes = (torch.bfloat16, torch.float32)

    def __init__(self, weights: Weights) -> None:
        self.levels = Flow(shift=1.0)
        self.prediction = Straight()
        last = max(
            int(name.split(".")[1])
            for name in weights
            if name.startswith("caption_projection.") and name.endswith(".linear.weight")
        )
        self.text_width = weights.shape(f"caption_projection.{last}.linear.weight")[1]
        self._source = weights.source

    def build(self, state: State) -> Any:
        """See `Network.build`."""
        return hidream_transformer.build(state, source=self._source)

    def told(self, condition: Condition, asked: Asked) -> dict[str, Each]:
        """See `Network.told`: "text" (T5's), "llama", "pooled", "beside" (the picture to edit)."""
        pooled, llama = condition.get("pooled_output"), condition.get("conditioning_llama3")
        if pooled is None or llama is None:
            raise NodeProblem(
                "the conditioning lacks what HiDream's own text encoders give",
                remedy="encode the text with encoders loaded for 'hidream'",
            )
        facts: dict[str, Each] = {"text": Each(condition.text), "llama": Each(llama), "pooled": Each(pooled)}
        picture = condition.get("concat_latent_image")
        if picture is not None:
            facts["beside"] = Shaped(self.latent.enter(picture))
        return facts

    def predict(
        self, module: Any, x: torch.Tensor, timestep: torch.Tensor, told: Mapping[str, Any], step: Step
    ) -> torch.Tensor:
        """See `Network.predict`."""
        return hidream_transformer.predict(
            module,
            x,
            timestep,
            t5=told["text"],
            llama=told["llama"],
            pooled=told["pooled"],
            beside=told.get("beside"),
        )


def _denoiser(weights: Weights) -> Network | None:
    return HiDream(weights) if hidream_transformer.is_hidream(weights) else None


FAMILY = Family(name="hidream", denoiser=_denoiser, texts={"hidream": hidream_text.clip_of})
