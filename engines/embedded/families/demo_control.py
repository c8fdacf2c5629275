"""The demonstration model's ControlNet for edges: diffusers' class with the settings in the file's header."""

from __future__ import annotations

from typing import Any

import torch

from ..demo import networks
from ..diffusion.control import ControlInputs, ControlKind, ControlNet
from ..diffusion.values import Residuals
from ..diffusion.weights import Component, State, Weights, fill
from ..problems import NodeProblem
from .demo import is_demo, setting


class DemoControl(ControlKind):
    """The ControlNet."""

    factor = networks.SCALE

    def __init__(self, found: Weights) -> None:
        self.settings = setting(found, "control")
        self.source = found.source

    def build(self, state: State) -> Any:
        """See `ControlKind.build`."""
        with torch.device("meta"):
            module = networks.control(self.settings)
        fill(module, state, what="the demonstration model's ControlNet", source=self.source)
        return module

    def residuals(self, module: Any, inputs: ControlInputs) -> Residuals:
        """See `ControlKind.residuals`."""
        if inputs.model.network.family != "demo":
            raise NodeProblem(
                f"the ControlNet {self.source!r} is the demonstration model's, the model is of another family",
                remedy="choose a ControlNet of the model's family",
            )
        down, middle = module(
            inputs.x, inputs.timestep, inputs.told["text"], controlnet_cond=inputs.hint, return_dict=False
        )
        return {"output": list(down), "middle": [middle]}


def control(weights: Weights) -> ControlNet | None:
    """The demonstration model's ControlNet in a file; None where it is another."""
    if not is_demo(weights, "control"):
        return None
    kind = DemoControl(weights)
    return ControlNet(kind=kind, component=Component(weights=weights, build=kind.build, role="control"))
