"""Stable Diffusion 3 and 3.5: large, large turbo, medium."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch

from ..diffusion.latent_format import LatentFormat
from ..diffusion.prediction import Straight
from ..diffusion.told import Each
from ..diffusion.values import Alias, Asked, Condition, Network, Step
from ..diffusion.weights import State, Weights
from ..problems import NodeProblem
from ..sigmas import Flow
from . import Family, mmdit, sd3_text
from .mmdit_layout import block_count, dual_attention, pieces

SHIFT = 3.0
LATENT = LatentFormat(
    channels=16,
    scale=1.5305,
    shift=0.0609,
    colours=(
        (-0.0922, -0.0175, 0.0749),
        (0.0311, 0.0633, 0.0954),
        (0.1994, 0.0927, 0.0458),
        (0.0856, 0.0339, 0.0902),
        (0.0587, 0.0272, -0.0496),
        (-0.0006, 0.1104, 0.0309),
        (0.0978, 0.0306, 0.0427),
        (-0.0042, 0.1038, 0.1358),
        (-0.0194, 0.0020, 0.0669),
        (-0.0488, 0.0130, -0.0268),
        (0.0922, 0.0988, 0.0951),
        (-0.0278, 0.0524, -0.0542),
        (0.0332, 0.0456, 0.0895),
        (-0.0069, -0.0030, -0.0810),
        (-0.0596, -0.0465, -0.0293),
        (-0.1448, -0.1463, -0.1189),
    ),
    colour_bias=(0.2394, 0.2135, 0.1925),
)
SKIP_LAYERS = "skip_layers"  # the place of a Model's patches that leave blocks out: numbers


class SD3(Network):
    """The denoiser of Stable Diffusion 3.x: text and picture side by side (MMDiT)."""

    family = "sd3"
    latent = LATENT

    def __init__(self, variant: str, text_width: int) -> None:
        self.variant = variant
        self.text_width = text_width
        self.levels = Flow(shift=SHIFT)
        self.prediction = Straight()

    def build(self, state: State) -> mmdit.Transformer:
        """See `Network.build`."""
        return mmdit.Transformer(state)

    def told(self, condition: Condition, asked: Asked) -> dict[str, Each]:
        """The text and the pooled text."""
        pooled = condition.get("pooled_output")
        if pooled is None:
            raise NodeProblem(
                "the conditioning has no pooled text, which Stable Diffusion 3 needs",
                remedy="encode the text with encoders loaded for 'sd3'",
            )
        return {"text": Each(condition.text.to(asked.device)), "pooled": Each(pooled.to(asked.device))}

    def predict(
        self, module: Any, x: torch.Tensor, timestep: torch.Tensor, told: Mapping[str, Any], step: Step
    ) -> torch.Tensor:
        """See `Network.predict`."""
        velocity: torch.Tensor = module(
            x,
            timestep,
            told["text"],
            told["pooled"],
            control=(step.control or {}).get("output", ()),
            skip=frozenset(number for numbers in step.patches.get(SKIP_LAYERS, ()) for number in numbers),
        )
        return velocity

    def aliases(self, weights: Weights) -> Mapping[str, Alias]:
        """diffusers' names; three matrices of theirs are one in the file."""
        found: dict[str, Alias] = {}
        for piece in pieces(block_count(weights)):
            if piece.place is not None or piece.source not in weights:
                continue
            rows = weights.shape(piece.source)[0] // piece.parts
            found[piece.target] = Alias(
                name=piece.source, start=piece.part * rows, length=rows if piece.parts > 1 else None
            )
        return found


def _denoiser(weights: Weights) -> Network | None:
    if not mmdit.recognised(weights):
        return None
    blocks, dual = block_count(weights), dual_attention(weights)
    variant = "sd3.5-medium" if dual else "sd3.5-large" if blocks >= 38 else "sd3"
    text = weights.shape("context_embedder.weight")[1] if "context_embedder.weight" in weights else 4096
    return SD3(variant, text)


FAMILY = Family(
    name="sd3",
    denoiser=_denoiser,
    checkpoint_text=lambda weights, network: sd3_text.in_checkpoint(weights),
    texts={"sd3": sd3_text.text},
)
