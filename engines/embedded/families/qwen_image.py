"""Qwen-Image, its edit models and its ControlNets."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch

from ..diffusion.control import ControlInputs, ControlKind, ControlNet
from ..diffusion.latent_format import LatentFormat
from ..diffusion.prediction import Straight
from ..diffusion.told import Each, Same, Several
from ..diffusion.values import Asked, Condition, Network, Residuals, Step
from ..diffusion.weights import Component, State, Weights
from ..problems import NodeProblem
from ..sigmas import FluxFlow
from . import Family, qwen_text, qwen_transformer
from .wan_autoencoder import wan_coder

SHIFT = 1.15
WAN_LATENT = LatentFormat(
    channels=16,
    dimensions=3,
    frames=4,
    mean=(
        *(-0.7571, -0.7089, -0.9113, 0.1075, -0.1745, 0.9653, -0.1517, 1.5508),
        *(0.4134, -0.0715, 0.5517, -0.3632, -0.1922, -0.9497, 0.2503, -0.2921),
    ),
    deviation=(
        *(2.8184, 1.4541, 2.3275, 2.6558, 1.2196, 1.7708, 2.6052, 2.0743),
        *(3.2687, 2.1526, 2.8652, 1.5579, 1.6382, 1.1253, 2.8251, 1.9160),
    ),
    colours=(
        (-0.1299, -0.1692, 0.2932),
        (0.0671, 0.0406, 0.0442),
        (0.3568, 0.2548, 0.1747),
        (0.0372, 0.2344, 0.1420),
        (0.0313, 0.0189, -0.0328),
        (0.0296, -0.0956, -0.0665),
        (-0.3477, -0.4059, -0.2925),
        (0.0166, 0.1902, 0.1975),
        (-0.0412, 0.0267, -0.1364),
        (-0.1293, 0.0740, 0.1636),
        (0.0680, 0.3019, 0.1128),
        (0.0032, 0.0581, 0.0639),
        (-0.1251, 0.0927, 0.1699),
        (0.0060, -0.0633, 0.0005),
        (0.3477, 0.2275, 0.2950),
        (0.1984, 0.0913, 0.1861),
    ),
    colour_bias=(-0.1835, -0.0868, -0.3360),
)
AFTER_BLOCK = "after_block"  # the place of a Model's `BlockPatch`es


class QwenImage(Network):
    """The denoiser of Qwen-Image: text and pictures side by side, reference pictures among them."""

    family = "qwen_image"
    latent = WAN_LATENT
    dtypes = (torch.bfloat16, torch.float32)  # half precision overflows

    def __init__(self, variant: str, text_width: int) -> None:
        self.variant = variant
        self.text_width = text_width
        self.levels = FluxFlow(shift=SHIFT)
        self.prediction = Straight()

    def build(self, state: State) -> qwen_transformer.Transformer:
        """See `Network.build`."""
        return qwen_transformer.Transformer(state)

    def told(self, condition: Condition, asked: Asked) -> dict[str, Each]:
        """The text, which of its tokens count, reference pictures and how they are shown."""
        told: dict[str, Each] = {"text": Each(condition.text.to(asked.device))}
        mask = condition.get("attention_mask")
        if mask is not None:
            told["mask"] = Each(mask.to(asked.device))
        references = condition.get("reference_latents")
        if references:
            wide = [one if one.ndim == 5 else one.unsqueeze(2) for one in references]
            told["references"] = Several([self.latent.enter(one).to(asked.device) for one in wide])
            method = condition.get("reference_latents_method")
            if method is not None:
                told["method"] = Same(method)
        return told

    def predict(
        self, module: Any, x: torch.Tensor, timestep: torch.Tensor, told: Mapping[str, Any], step: Step
    ) -> torch.Tensor:
        """See `Network.predict`."""
        velocity: torch.Tensor = module(
            x,
            timestep,
            told["text"],
            mask=told.get("mask"),
            references=told.get("references", ()),
            method=told.get("method"),
            control=(step.control or {}).get("input", ()),
            patches=step.patches.get(AFTER_BLOCK, ()),
        )
        return velocity


class QwenControl(ControlKind):
    """InstantX' ControlNets of Qwen-Image: union, and inpainting."""

    factor = 1
    latent = WAN_LATENT

    def __init__(self, *, with_mask: bool) -> None:
        self.with_mask = with_mask

    def build(self, state: State) -> qwen_transformer.ControlNet:
        """See `ControlKind.build`."""
        return qwen_transformer.ControlNet(state)

    def residuals(self, module: Any, inputs: ControlInputs) -> Residuals:
        """See `ControlKind.residuals`."""
        if inputs.model.network.family != QwenImage.family:
            raise NodeProblem(
                "a ControlNet of Qwen-Image was put on a model of another family",
                remedy="choose one for the model's family",
            )
        return {"input": module(inputs.x, inputs.timestep, inputs.hint, inputs.told["text"])}


def _denoiser(weights: Weights) -> Network | None:
    if not qwen_transformer.recognised(weights):
        return None
    method = qwen_transformer.reference_method(weights)
    variant = {"index_timestep_zero": "qwen-image-edit-2511", "negative_index": "qwen-image-layered"}
    text = weights.shape("txt_in.weight")[1] if "txt_in.weight" in weights else weights.shape("txt_norm.weight")[0]
    return QwenImage(variant.get(method, "qwen-image"), text)


def control(weights: Weights) -> ControlNet | None:
    """The ControlNet in a file; None where it is none of this kind."""
    if "controlnet_x_embedder.weight" not in weights or "txt_norm.weight" not in weights:
        return None
    extra = weights.shape("controlnet_x_embedder.weight")[1] - weights.shape("img_in.weight")[1]
    kind = QwenControl(with_mask=extra > 0)
    return ControlNet(
        kind=kind, component=Component(weights=weights, build=kind.build, role="control", dtypes=QwenImage.dtypes)
    )


FAMILY = Family(
    name="qwen_image",
    denoiser=_denoiser,
    checkpoint_text=lambda weights, network: qwen_text.in_checkpoint(weights),
    texts={"qwen_image": qwen_text.text},
    autoencoder=wan_coder,
)
