"""ControlNets: loaded, told what their map shows, put on conditionings. Source: ComfyUI ``nodes.py`` and
``comfy_extras/nodes_controlnet.py``.
"""

from __future__ import annotations

from dataclasses import replace

import torch

from .context import Context
from .diffusion.control import AppliedControl, ControlNet, controlnet_of
from .diffusion.encoders import Vae
from .diffusion.files import model_file, model_inputs
from .diffusion.loading import remembered, weights_at
from .diffusion.values import Condition, Conditioning, Control, Model
from .diffusion.weights import WeightPatch
from .registry import NodeGroup
from .resize import resize

NODES = NodeGroup()


@NODES.node("ControlNetLoader", **model_inputs(control_net_name="controlnet"))
def load_controlnet(control_net_name: str, *, context: Context) -> ControlNet:
    """The ControlNet in a file."""
    path = model_file(context, "controlnet", control_net_name)
    return remembered([path], "controlnet", lambda: controlnet_of(weights_at(path)))


@NODES.node("DiffControlNetLoader", **model_inputs(control_net_name="controlnet"))
def load_difference(model: Model, control_net_name: str, *, context: Context) -> ControlNet:
    """A ControlNet that is stored as its difference from a model; others as they are."""
    file = weights_at(model_file(context, "controlnet", control_net_name))
    net = controlnet_of(file)
    if "difference" not in file:
        return net
    base = model.component
    patches = [_plus(name, model) for name in net.component.weights if name in base.weights]
    return replace(net, component=net.component.patched(patches))


def _plus(name: str, model: Model) -> WeightPatch:
    def apply(difference: torch.Tensor) -> torch.Tensor:
        weight = model.component.weights[name].to(difference)
        for patch in model.component.patches:
            if patch.name == name:
                weight = patch.apply(weight)
        return difference + weight

    return WeightPatch(name=name, apply=apply)


@NODES.node("SetUnionControlNetType")
def set_union_type(control_net: ControlNet, type: str) -> ControlNet:
    """A union ControlNet told what its map shows."""
    from .families.unet_control import UNION_TYPES

    number = UNION_TYPES.get(type, -1)
    return control_net.with_options(control_type=(number,) if number >= 0 else ())


@NODES.node("ControlNetApply")
def apply_simple(
    conditioning: Conditioning, control_net: ControlNet, image: torch.Tensor, strength: float
) -> tuple[Conditioning]:
    """The conditioning with a map; what the negative lacks is taken over from here."""
    if strength == 0:
        return (conditioning,)
    controlled = tuple(
        condition.with_options(
            control=AppliedControl(net=control_net, image=image, strength=strength, previous=condition.get("control")),
            control_apply_to_uncond=True,
        )
        for condition in conditioning
    )
    return (controlled,)


@NODES.node("ControlNetApplyAdvanced")
def apply(
    positive: Conditioning,
    negative: Conditioning,
    control_net: ControlNet,
    image: torch.Tensor,
    strength: float,
    start_percent: float,
    end_percent: float,
    vae: Vae | None = None,
    masks: tuple[torch.Tensor, ...] = (),
) -> tuple[Conditioning, Conditioning]:
    """Both conditionings with a map, from one part of the steps to another."""
    if strength == 0:
        return positive, negative
    made: dict[int, AppliedControl] = {}  # conditions that had the same ControlNet before share the new one

    def controlled(condition: Condition) -> Condition:
        previous: Control | None = condition.get("control")
        if id(previous) not in made:
            made[id(previous)] = AppliedControl(
                net=control_net,
                image=image,
                strength=strength,
                start=start_percent,
                end=end_percent,
                vae=vae,
                masks=masks,
                previous=previous,
            )
        return condition.with_options(control=made[id(previous)], control_apply_to_uncond=False)

    return tuple(map(controlled, positive)), tuple(map(controlled, negative))


@NODES.node("ControlNetInpaintingAliMamaApply")
def apply_inpainting(
    positive: Conditioning,
    negative: Conditioning,
    control_net: ControlNet,
    vae: Vae,
    image: torch.Tensor,
    mask: torch.Tensor,
    strength: float,
    start_percent: float,
    end_percent: float,
) -> tuple[Conditioning, Conditioning]:
    """The same for ControlNets that read a mask: where it is white, the picture is blackened before they see it."""
    masks: tuple[torch.Tensor, ...] = ()
    if control_net.kind.with_mask:
        kept = 1.0 - mask.reshape((-1, 1, mask.shape[-2], mask.shape[-1]))
        shown = resize(kept, image.shape[2], image.shape[1], "bilinear", "center").round()
        image = image * shown.movedim(1, -1).repeat(1, 1, 1, image.shape[3])
        masks = (kept,)
    wires = (positive, negative, control_net, image, strength, start_percent, end_percent)
    both: tuple[Conditioning, Conditioning] = apply(*wires, vae=vae, masks=masks)
    return both
