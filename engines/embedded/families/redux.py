"""FLUX.1 Redux: what a vision encoder saw, as words for FLUX.1. Built from a file's tensors with diffusers' class.

Source: Black Forest Labs' ``flux1-redux-dev``; ComfyUI 0.33.0 ``comfy/ldm/flux/redux.py``.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch

from ..diffusion.encoders import VisionOutput
from ..diffusion.weights import Component, State, Weights, fill
from ..problems import NodeProblem

_UP, _DOWN = "redux_up.weight", "redux_down.weight"


def _build(state: State) -> Any:
    from diffusers.pipelines.flux.modeling_flux import ReduxImageEncoder

    with torch.device("meta"):
        module = ReduxImageEncoder(redux_dim=state[_UP].shape[1], txt_in_features=state[_DOWN].shape[0])
    fill(module, state, what="the style model")
    return module


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Redux:
    """What a STYLE_MODEL wire carries (a `values.StyleModel`).

    Attributes:
        width: of what it takes from a vision encoder.
    """

    component: Component
    width: int

    def tokens(self, seen: VisionOutput) -> torch.Tensor:
        """See `values.StyleModel.tokens`."""
        if seen.last_hidden.shape[-1] != self.width:
            raise NodeProblem(
                f"the style model takes what a vision encoder of width {self.width} saw, this one's is "
                f"{seen.last_hidden.shape[-1]} wide",
                remedy="choose sigclip_vision_patch14_384.safetensors for FLUX.1 Redux",
            )
        module = self.component.module()
        weight = next(module.parameters())
        with torch.inference_mode():
            words: torch.Tensor = module(seen.last_hidden.to(weight)).image_embeds
        return words.float().cpu()

    def resident_bytes(self) -> int:
        """See `Component.resident_bytes`."""
        return self.component.resident_bytes()


def style_model_of(weights: Weights) -> Redux:
    """The style model in a file. Raises `NodeProblem` where it holds none that the engine knows."""
    if _DOWN not in weights or _UP not in weights:
        raise NodeProblem(
            f"{weights.source!r} holds no style model that the embedded engine knows",
            remedy="choose flux1-redux-dev.safetensors, or run it on a ComfyUI",
        )
    component = Component(weights=weights, build=_build, role="vision")
    return Redux(component=component, width=weights.shape(_UP)[1])
