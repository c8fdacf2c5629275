"""Our nodes for maps, edit pictures, inpainting and outpainting."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch

from ...catalogue import Detection, wiring_images
from ...catalogue.settings import Settings
from .context import Context
from .diffusion.control import ControlNet
from .diffusion.encoders import Vae
from .diffusion.files import find_model, model_inputs
from .holdings import choosing, holdings, known
from .problems import NodeProblem
from .registry import Fault, NodeGroup
from .stock import EngineStock

NODES = NodeGroup()
CONTROL_FOLDERS = ("controlnet", "model_patches", "loras")
ITSELF = "none"


@NODES.node("AtelierLoadControlNet", **model_inputs(controlnet="controlnet"))
def load_controlnet(settings: Settings, controlnet: str, kind: str, *, context: Context) -> ControlNet:
    """A ControlNet of the model's family, its union type set."""
    found = known(context.run.model_folders, "controlnet", controlnet)
    with choosing():
        net: ControlNet = wiring_images.load_controlnet(EngineStock(context), settings, controlnet, found, kind)
    return net


@NODES.node("AtelierApplyControlNet")
def apply_controlnet(control_net: ControlNet, vae: Vae, *, context: Context, **wires: Any) -> tuple[Any, ...]:
    """Both conditionings with the map; the VAE goes along where the ControlNet encodes it."""
    with choosing():
        return wiring_images.apply_controlnet(EngineStock(context), control_net, vae, **wires)


def _control_file(context: Context, name: str) -> Detection:
    files = holdings(context.run.model_folders)(CONTROL_FOLDERS)
    if name not in files:
        where = ", ".join(f"models/{folder}" for folder in CONTROL_FOLDERS)
        raise NodeProblem(f"{name!r} is not a readable file in {where}", remedy="put it there, or choose another")
    return files[name][1]


def _control_seen(*, context: Context, control: str = ITSELF, **_: Any) -> list[Any]:
    for folder in CONTROL_FOLDERS:
        path = find_model(context.run.model_folders, folder, control) if control != ITSELF else None
        if path is not None:
            status = path.stat()
            return [str(path), status.st_size, status.st_mtime_ns]
    return []


def _control_faults(*, context: Context, control: str = ITSELF, **_: Any) -> Iterator[Fault]:
    if control == ITSELF:
        return
    try:
        _control_file(context, control)
    except NodeProblem as problem:
        yield Fault(input_name="control", message=problem.message, remedy=problem.remedy)


@NODES.node("AtelierControl", fingerprint=_control_seen, validate=_control_faults)
def control(control: str, *, context: Context, **wires: Any) -> tuple[Any, ...]:
    """Model, conditionings and latent, steered by a map in the family's own way."""
    file = None if control == ITSELF else (control, _control_file(context, control))
    with choosing():
        return wiring_images.control(EngineStock(context), file=file, **wires)


@NODES.node("AtelierCannyMap")
def canny_map(
    image: torch.Tensor, low_threshold: float, high_threshold: float, width: int, height: int, *, context: Context
) -> torch.Tensor:
    """White edges on black."""
    stock = EngineStock(context)
    edges: torch.Tensor = wiring_images.canny_map(stock, image, low_threshold, high_threshold, width, height)
    return edges


@NODES.node("AtelierEditImage")
def edit_image(settings: Settings, image: torch.Tensor, *, context: Context) -> tuple[torch.Tensor, int, int]:
    """The picture at the model's scale, and the width and height it had."""
    with choosing():
        return wiring_images.edit_image(EngineStock(context), settings, image)


@NODES.node("AtelierRestoreSize")
def restore_size(image: torch.Tensor, width: int, height: int, *, context: Context) -> torch.Tensor:
    """The picture at a size in pixels."""
    picture: torch.Tensor = wiring_images.restore_size(EngineStock(context), image, width, height)
    return picture


@NODES.node("AtelierInpaint")
def inpaint(*, context: Context, **wires: Any) -> tuple[Any, ...]:
    """Model, conditionings and latent for drawing inside a mask."""
    with choosing():
        return wiring_images.inpaint(EngineStock(context), **wires)


@NODES.node("AtelierOutpaint")
def outpaint(*, context: Context, **wires: Any) -> tuple[Any, ...]:
    """The same for the parts added at the sides."""
    with choosing():
        return wiring_images.outpaint(EngineStock(context), **wires)
