"""Pictures as each family wants them: edit inputs at its scale, inpainting and outpainting its way."""

# mypy: disable-error-code="import-not-found, misc, no-any-return"
# Type checkers have no ComfyUI at hand: neither its modules nor its base classes are known to them.

from __future__ import annotations

from typing import Any

from comfy_api.latest import io

from ..catalogue import wiring_images
from ..catalogue.settings import Settings
from .schema import SettingsType, node_schema
from .stock import stock

GROUP = "image"


class AtelierEditImage(io.ComfyNode):
    """A picture at the scale that an edit model wants."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return node_schema(
            node_id="AtelierEditImage",
            display_name="Edit Image: to the model's scale",
            group=GROUP,
            description="Scales a picture as its edit model wants it: HiDream-E1 768x768, others their own sizes.",
            aliases=("resize", "kontext scale", "edit input"),
            inputs=[
                SettingsType.Input("settings", tooltip="Of the edit model."),
                io.Image.Input("image", tooltip="The picture to edit."),
            ],
            outputs=[
                io.Image.Output(tooltip="The picture at the model's scale."),
                io.Int.Output(display_name="width", tooltip="The width it had before."),
                io.Int.Output(display_name="height", tooltip="The height it had before."),
            ],
        )

    @classmethod
    def execute(cls, settings: Settings, image: Any) -> io.NodeOutput:
        return io.NodeOutput(*wiring_images.edit_image(stock, settings, image))


class AtelierRestoreSize(io.ComfyNode):
    """An edited picture back at the size it had."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return node_schema(
            node_id="AtelierRestoreSize",
            display_name="Edit Image: back to its size",
            group=GROUP,
            description="Scales an edited picture back to the size that the original had.",
            aliases=("resize", "restore", "original size"),
            inputs=[
                io.Image.Input("image", tooltip="The edited picture."),
                io.Int.Input("width", default=1024, min=1, max=16384, tooltip="The original's width."),
                io.Int.Input("height", default=1024, min=1, max=16384, tooltip="The original's height."),
            ],
            outputs=[io.Image.Output(tooltip="The picture at its old size.")],
        )

    @classmethod
    def execute(cls, image: Any, width: int, height: int) -> io.NodeOutput:
        return io.NodeOutput(wiring_images.restore_size(stock, image, width, height))


def _inpaint_schema(node_id: str, name: str, description: str, more: list[Any], aliases: tuple[str, ...]) -> io.Schema:
    return node_schema(
        node_id=node_id,
        display_name=name,
        group=GROUP,
        description=description,
        aliases=aliases,
        inputs=[
            io.Model.Input("model", tooltip="The model that will draw."),
            SettingsType.Input("settings", tooltip="Of that model."),
            io.Vae.Input("vae", tooltip="The model's VAE."),
            io.Conditioning.Input("positive", tooltip="What to draw."),
            io.Conditioning.Input("negative", tooltip="What not to draw."),
            io.Image.Input("image", tooltip="The picture."),
            *more,
        ],
        outputs=[
            io.Model.Output(tooltip="The model, softened at the mask's edge where the family wants it."),
            io.Conditioning.Output(display_name="positive", tooltip="With the picture where the model reads it."),
            io.Conditioning.Output(display_name="negative", tooltip="With the picture where the model reads it."),
            io.Latent.Output(tooltip="The picture as a latent, with its mask."),
        ],
    )


class AtelierInpaint(io.ComfyNode):
    """Everything an inpainting sampler needs, by the model's family."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        mask = io.Mask.Input("mask", tooltip="White where to draw anew.")
        text = "Prepares inpainting as the model's family wants it: FLUX Fill, inpainting checkpoints, or a noise mask."
        size = io.Combo.Input(
            "size",
            options=list(wiring_images.INPAINT_SIZES),
            default=wiring_images.AS_THE_PICTURE,
            optional=True,
            tooltip="The picture's own size, or the area that the model was trained at, in the picture's proportions.",
        )
        return _inpaint_schema("AtelierInpaint", "Prepare Inpainting", text, [mask, size], ("inpaint", "mask", "fill"))

    @classmethod
    def execute(cls, **wires: Any) -> io.NodeOutput:
        return io.NodeOutput(*wiring_images.inpaint(stock, **wires))


class AtelierOutpaint(io.ComfyNode):
    """The same for drawing beyond a picture's edges."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        sides = [
            io.Int.Input(side, default=0, min=0, max=16384, step=8, tooltip=f"Pixels to add ({side}).")
            for side in ("left", "top", "right", "bottom")
        ]
        soft = io.Int.Input(
            "feathering", default=24, min=0, max=16384, tooltip="How far the seam is softened, in pixels."
        )
        text = "Enlarges a picture's canvas and prepares drawing the new parts, as the model's family wants it."
        return _inpaint_schema(
            "AtelierOutpaint", "Prepare Outpainting", text, [*sides, soft], ("outpaint", "extend", "uncrop")
        )

    @classmethod
    def execute(cls, **wires: Any) -> io.NodeOutput:
        return io.NodeOutput(*wiring_images.outpaint(stock, **wires))


IMAGE_NODES: list[type[io.ComfyNode]] = [AtelierEditImage, AtelierRestoreSize, AtelierInpaint, AtelierOutpaint]
