"""How a map, a picture or a mask gets into a model with ComfyUI's own nodes: what our control and image nodes do."""

from __future__ import annotations

from typing import Any

from .adapters import check_adapter, check_family
from .control import union_type, way_of
from .detection import Detection
from .editing import edit_scale, original_size
from .errors import ChoiceError
from .settings import Settings
from .wiring import Stock

AS_THE_PICTURE, AS_THE_MODEL = "the picture's", "the model's"
INPAINT_SIZES = (AS_THE_PICTURE, AS_THE_MODEL)
"""At which size a masked picture is drawn: its own, or the area that the model was trained at."""


def load_controlnet(stock: Stock, settings: Settings, name: str, found: Detection, kind: str) -> Any:
    """AtelierLoadControlNet: a ControlNet of the model's family, its union type set."""
    check_adapter(name, found, "controlnet", (settings.family, settings.variant.architecture))
    return _controlnet(stock, name, found, kind)


def _controlnet(stock: Stock, name: str, found: Detection, kind: str) -> Any:
    loaded = stock("ControlNetLoader", control_net_name=name)[0]
    if "union" not in found.traits:
        return loaded
    return stock("SetUnionControlNetType", control_net=loaded, type=union_type(kind))[0]


def apply_controlnet(stock: Stock, control_net: Any, vae: Any, **wires: Any) -> tuple[Any, ...]:
    """AtelierApplyControlNet: both conditionings with the map; the VAE goes along where the ControlNet encodes it.

    ``wires`` are ControlNetApplyAdvanced's: positive, negative, image, strength, start_percent, end_percent.
    """
    encoded = {"vae": vae} if stock.encodes_map(control_net) else {}
    return stock("ControlNetApplyAdvanced", control_net=control_net, **wires, **encoded)


def control(
    stock: Stock,
    *,
    model: Any,
    settings: Settings,
    positive: Any,
    negative: Any,
    vae: Any,
    image: Any,
    latent: Any,
    file: tuple[str, Detection] | None,
    kind: str,
    strength: float,
    start_percent: float,
    end_percent: float,
) -> tuple[Any, Any, Any, Any]:
    """AtelierControl: model, both conditionings and latent, steered by a map the way that fits ``file`` and model.

    ``file`` is None where the model itself reads the map (FLUX.1 Canny, Depth).
    """
    name, found = file or ("", None)
    way = way_of(settings.variant, name, found)
    if found is not None:
        check_family(name, found, (settings.family, settings.variant.architecture))
    conds = {"positive": positive, "negative": negative}
    if way == "controlnet" and found is not None:
        loaded = _controlnet(stock, name, found, kind)
        span = {"strength": strength, "start_percent": start_percent, "end_percent": end_percent}
        told = apply_controlnet(stock, loaded, vae, image=image, **conds, **span)
        return model, told[0], told[1], latent
    if way == "model_patch":
        patch = stock("ModelPatchLoader", name=name)[0]
        values = {"model_patch": patch, "vae": vae, "image": image, "strength": strength}
        return stock("QwenImageDiffsynthControlnet", model=model, **values)[0], positive, negative, latent
    if way == "reference_lora":
        model = stock("LoraLoaderModelOnly", model=model, lora_name=name, strength_model=strength)[0]
        seen = stock("VAEEncode", pixels=image, vae=vae)[0]
        told = tuple(stock("ReferenceLatent", conditioning=cond, latent=seen)[0] for cond in conds.values())
        return model, told[0], told[1], latent
    if way == "lora":
        model = stock("LoraLoaderModelOnly", model=model, lora_name=name, strength_model=strength)[0]
    read = stock("InstructPixToPixConditioning", vae=vae, pixels=image, **conds)
    return model, read[0], read[1], read[2]


def canny_map(stock: Stock, image: Any, low: float, high: float, width: int, height: int) -> Any:
    """AtelierCannyMap: white edges on black; a width or height of 0 follows from the other, both 0 keep the size."""
    if width or height:
        size = {"width": width, "height": height, "upscale_method": "lanczos", "crop": "center"}
        image = stock("ImageScale", image=image, **size)[0]
    return stock("Canny", image=image, low_threshold=low, high_threshold=high)[0]


def edit_image(stock: Stock, settings: Settings, image: Any) -> tuple[Any, int, int]:
    """AtelierEditImage: the picture at the model's scale, and the width and height it had."""
    node, values = edit_scale(settings.variant.id)
    return stock(node, image=image, **values)[0], *original_size(image.shape)


def restore_size(stock: Stock, image: Any, width: int, height: int) -> Any:
    """AtelierRestoreSize: the picture at a size in pixels."""
    size = {"width": width, "height": height, "upscale_method": "lanczos", "crop": "disabled"}
    return stock("ImageScale", image=image, **size)[0]


def inpaint(
    stock: Stock,
    *,
    model: Any,
    settings: Settings,
    vae: Any,
    positive: Any,
    negative: Any,
    image: Any,
    mask: Any,
    size: str = AS_THE_PICTURE,
    whole: bool = False,
) -> tuple[Any, ...]:
    """AtelierInpaint: model, conditionings and latent for drawing inside a mask, as the family's templates do it.

    ``size`` is one of INPAINT_SIZES. ``whole`` draws the parts outside the mask anew too (FLUX Fill's outpainting).
    """
    if size == AS_THE_MODEL:
        image, mask = to_the_models_size(stock, settings, image, mask)
    picture = {"vae": vae, "pixels": image}
    if settings.variant.id == "flux1-fill-dev":
        model = stock("DifferentialDiffusion", model=model)[0]
        conds = {"positive": positive, "negative": negative, "mask": mask, "noise_mask": not whole}
        return (model, *stock("InpaintModelConditioning", **conds, **picture))
    if settings.variant.id == "sd-2.0-inpainting":
        return model, positive, negative, stock("VAEEncodeForInpaint", mask=mask, grow_mask_by=6, **picture)[0]
    latent = stock("VAEEncode", **picture)[0]
    return model, positive, negative, stock("SetLatentNoiseMask", samples=latent, mask=mask)[0]


def to_the_models_size(stock: Stock, settings: Settings, image: Any, mask: Any) -> tuple[Any, Any]:
    """A picture [batch, height, width, 3] and its mask [batch, height, width], alike, of the model's own area and near
    their aspect ratio; what stands over is cut at both sides.
    """
    width, height = settings.size_near(*original_size(image.shape))
    fit = {"width": width, "height": height, "crop": "center"}
    image = stock("ImageScale", image=image, upscale_method="lanczos", **fit)[0]
    seen = stock("ImageScale", image=stock("MaskToImage", mask=mask)[0], upscale_method="bilinear", **fit)[0]
    return image, stock("ImageToMask", image=seen, channel="red")[0]


def outpaint(
    stock: Stock, *, image: Any, left: int, top: int, right: int, bottom: int, feathering: int, **wires: Any
) -> tuple[Any, ...]:
    """AtelierOutpaint: the same for the parts added at the sides, in pixels; ``wires`` are `inpaint`'s."""
    if not (left or top or right or bottom):
        raise ChoiceError("nothing to draw: set at least one of left, top, right, bottom above 0")
    sides = {"left": left, "top": top, "right": right, "bottom": bottom, "feathering": feathering}
    padded, mask = stock("ImagePadForOutpaint", image=image, **sides)
    return inpaint(stock, **wires, image=padded, mask=mask, whole=True)
