"""ControlNets that know their family: load with the right type, apply with the VAE where it is needed; an edge map."""

# mypy: disable-error-code="import-not-found, misc, no-any-return"
# Type checkers have no ComfyUI at hand: neither its modules nor its base classes are known to them.

from __future__ import annotations

from typing import Any

from comfy_api.latest import io

from ..catalogue import Detection, HeaderError, detect, wiring_images
from ..catalogue.control import KINDS, is_control
from ..catalogue.settings import Settings
from .errors import NodeInputError
from .schema import SettingsType, node_schema
from .stock import detected, model_path, stock

GROUP = "control"
FOLDER = "controlnet"
CONTROL_FOLDERS = ("controlnet", "model_patches", "loras")
ITSELF = "none"


def _known(name: str) -> Detection:
    try:
        return detect(model_path(FOLDER, name))
    except HeaderError as error:
        raise NodeInputError(f"ControlNet '{name}' cannot be used: {error}") from error


class AtelierLoadControlNet(io.ComfyNode):
    """A ControlNet of the model's family, its union type set."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        names = [name for name, (_, found) in detected((FOLDER,)).items() if found.kind == "controlnet"]
        return node_schema(
            node_id="AtelierLoadControlNet",
            display_name="Load ControlNet",
            group=GROUP,
            description="Loads a ControlNet, refuses one made for another family, sets the type of unions.",
            aliases=("controlnet", "canny", "depth", "openpose", "union"),
            inputs=[
                SettingsType.Input("settings", tooltip="Of the model that it will control."),
                io.Combo.Input("controlnet", options=names, tooltip="ControlNet files, by their headers."),
                io.Combo.Input(
                    "kind", options=list(KINDS), default="auto", tooltip="What the map shows; unions need it."
                ),
            ],
            outputs=[io.ControlNet.Output(tooltip="For Apply ControlNet.")],
        )

    @classmethod
    def validate_inputs(cls, controlnet: str | None = None) -> bool | str:
        try:
            if controlnet is not None:  # a wired name is not known yet
                _known(controlnet)
        except NodeInputError as error:
            return str(error)
        return True

    @classmethod
    def execute(cls, settings: Settings, controlnet: str, kind: str) -> io.NodeOutput:
        return io.NodeOutput(wiring_images.load_controlnet(stock, settings, controlnet, _known(controlnet), kind))


class AtelierApplyControlNet(io.ComfyNode):
    """ControlNetApplyAdvanced, with the VAE where the family encodes the map."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        share = {"min": 0.0, "max": 1.0, "step": 0.001}
        return node_schema(
            node_id="AtelierApplyControlNet",
            display_name="Apply ControlNet",
            group=GROUP,
            description="Lets a map (edges, depth, a pose) steer the picture; uses the VAE where the family needs it.",
            aliases=("controlnet", "control image"),
            inputs=[
                io.Conditioning.Input("positive", tooltip="The prompt."),
                io.Conditioning.Input("negative", tooltip="The negative prompt."),
                io.ControlNet.Input("control_net", tooltip="From Load ControlNet."),
                io.Vae.Input("vae", tooltip="The model's VAE."),
                io.Image.Input("image", tooltip="The map: white edges, a depth map, a drawn pose."),
                io.Float.Input(
                    "strength", default=1.0, min=0.0, max=10.0, step=0.01, tooltip="How strictly it is followed."
                ),
                io.Float.Input("start_percent", default=0.0, **share, tooltip="From which share of the steps."),
                io.Float.Input("end_percent", default=1.0, **share, tooltip="To which share of the steps."),
            ],
            outputs=[
                io.Conditioning.Output(display_name="positive", tooltip="The prompt with the map."),
                io.Conditioning.Output(display_name="negative", tooltip="The negative prompt with the map."),
            ],
        )

    @classmethod
    def execute(cls, control_net: Any, vae: Any, **wires: Any) -> io.NodeOutput:
        return io.NodeOutput(*wiring_images.apply_controlnet(stock, control_net, vae, **wires))


class AtelierControl(io.ComfyNode):
    """Every way of control behind one node."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        files = [name for name, (_, found) in detected(CONTROL_FOLDERS).items() if is_control(found, name)]
        share = {"min": 0.0, "max": 1.0, "step": 0.001}
        return node_schema(
            node_id="AtelierControl",
            display_name="Control by a Map",
            group=GROUP,
            description="Lets a map steer the picture the family's way: ControlNet, patch, control LoRA, FLUX tools.",
            aliases=("controlnet", "control lora", "model patch", "canny", "depth", "pose"),
            inputs=[
                io.Model.Input("model", tooltip="The model that will draw."),
                SettingsType.Input("settings", tooltip="Of that model."),
                io.Conditioning.Input("positive", tooltip="The prompt."),
                io.Conditioning.Input("negative", tooltip="The negative prompt."),
                io.Vae.Input("vae", tooltip="The model's VAE."),
                io.Image.Input("image", tooltip="The map: white edges, a depth map, a drawn pose."),
                io.Latent.Input(
                    "latent", tooltip="The latent to draw on; FLUX tools replace it by one of the map's size."
                ),
                io.Combo.Input(
                    "control",
                    options=[ITSELF, *files],
                    tooltip="The file; none where the model itself reads the map (FLUX Canny, Depth).",
                ),
                io.Combo.Input(
                    "kind", options=list(KINDS), default="auto", tooltip="What the map shows; unions need it."
                ),
                io.Float.Input(
                    "strength", default=1.0, min=0.0, max=10.0, step=0.01, tooltip="How strictly it is followed."
                ),
                io.Float.Input(
                    "start_percent", default=0.0, **share, tooltip="From which share of the steps (ControlNet)."
                ),
                io.Float.Input(
                    "end_percent", default=1.0, **share, tooltip="To which share of the steps (ControlNet)."
                ),
            ],
            outputs=[
                io.Model.Output(tooltip="The model, patched where the way of control asks for it."),
                io.Conditioning.Output(display_name="positive", tooltip="The prompt with the map."),
                io.Conditioning.Output(display_name="negative", tooltip="The negative prompt with the map."),
                io.Latent.Output(tooltip="The latent to sample."),
            ],
        )

    @classmethod
    def validate_inputs(cls, control: str = ITSELF) -> bool | str:
        try:
            if control != ITSELF:
                _control_file(control)
        except NodeInputError as error:
            return str(error)
        return True

    @classmethod
    def execute(cls, control: str, **wires: Any) -> io.NodeOutput:
        file = None if control == ITSELF else (control, _control_file(control))
        return io.NodeOutput(*wiring_images.control(stock, file=file, **wires))


def _control_file(name: str) -> Detection:
    files = detected(CONTROL_FOLDERS)
    if name not in files:
        where = ", ".join(f"models/{folder}" for folder in CONTROL_FOLDERS)
        raise NodeInputError(f"'{name}' is not a readable file in {where}; put it there, or choose another")
    return files[name][1]


class AtelierCannyMap(io.ComfyNode):
    """Edges of a picture, at the size of the picture to be."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        def threshold(name: str, default: float, what: str) -> io.Float.Input:
            return io.Float.Input(name, default=default, min=0.01, max=0.99, step=0.01, tooltip=what)

        return node_schema(
            node_id="AtelierCannyMap",
            display_name="Canny Edge Map",
            group=GROUP,
            description="Finds a picture's edges for a canny ControlNet, scaled to the size of the picture to be.",
            aliases=("canny", "edges", "preprocessor", "lineart"),
            inputs=[
                io.Image.Input("image", tooltip="The picture to take edges from."),
                threshold("low_threshold", 0.4, "Weaker edges are kept where they touch a strong one."),
                threshold("high_threshold", 0.8, "What counts as a strong edge."),
                io.Int.Input(
                    "width", default=0, min=0, max=16384, step=8, tooltip="Width of the map; 0 keeps the picture's."
                ),
                io.Int.Input(
                    "height", default=0, min=0, max=16384, step=8, tooltip="Height of the map; 0 keeps the picture's."
                ),
            ],
            outputs=[io.Image.Output(tooltip="White edges on black.")],
        )

    @classmethod
    def execute(cls, image: Any, low_threshold: float, high_threshold: float, width: int, height: int) -> io.NodeOutput:
        return io.NodeOutput(wiring_images.canny_map(stock, image, low_threshold, high_threshold, width, height))


CONTROL_NODES: list[type[io.ComfyNode]] = [
    AtelierLoadControlNet,
    AtelierApplyControlNet,
    AtelierControl,
    AtelierCannyMap,
]
