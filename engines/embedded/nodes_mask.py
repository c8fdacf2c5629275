"""Masks: made, changed, joined with images. MASK is float32 [batch, height, width] in 0..1.

Sources: ComfyUI ``nodes_mask.py``, ``nodes_compositing.py``.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch.nn.functional import interpolate, max_pool2d, pad

from .memory import check_room
from .nodes_filter import same_channels
from .problems import NodeProblem
from .registry import NodeGroup
from .resize import repeat_to_batch, resize, resize_mask

NODES = NodeGroup()

_CHANNELS = ("red", "green", "blue", "alpha")


@NODES.node("ImageCompositeMasked")
def composite(
    destination: torch.Tensor,
    source: torch.Tensor,
    x: int,
    y: int,
    resize_source: bool,
    mask: torch.Tensor | None = None,
) -> torch.Tensor:
    """`source` pasted into `destination` at (x, y), as far as `mask` lets it through."""
    under = destination.movedim(-1, 1).clone()
    over = same_channels(destination, source).movedim(-1, 1)
    if resize_source:
        over = interpolate(over, size=under.shape[-2:], mode="bilinear")
    over = repeat_to_batch(over, under.shape[0])
    rows, columns = over.shape[-2:]
    left, top = min(x, under.shape[-1]), min(y, under.shape[-2])
    through = torch.ones_like(over) if mask is None else resize_mask(mask, rows, columns).unsqueeze(1)
    through = repeat_to_batch(through, over.shape[0])
    wide, high = under.shape[-1] - left, under.shape[-2] - top
    part = under[..., top : top + rows, left : left + columns]
    through, over = through[..., :high, :wide], over[..., :high, :wide]
    under[..., top : top + rows, left : left + columns] = through * over + (1.0 - through) * part
    return under.movedim(1, -1)


@NODES.node("MaskToImage")
def mask_to_image(mask: torch.Tensor) -> torch.Tensor:
    """The mask as a grey picture."""
    return _stack(mask).unsqueeze(-1).expand(-1, -1, -1, 3)


@NODES.node("ImageToMask")
def image_to_mask(image: torch.Tensor, channel: str) -> torch.Tensor:
    """One channel of the picture."""
    index = _CHANNELS.index(channel)
    if index >= image.shape[-1]:
        raise NodeProblem(f"the image has no channel {channel!r}", remedy="choose red, green or blue")
    return image[..., index]


@NODES.node("ImageColorToMask")
def colour_to_mask(image: torch.Tensor, color: int) -> torch.Tensor:
    """1 where the picture has exactly that colour, 0xRRGGBB, in 8 bits."""
    values = (image.clamp(0, 1) * 255.0).round().to(torch.int)
    return ((values[..., 0] << 16) + (values[..., 1] << 8) + values[..., 2] == color).float()


@NODES.node("SolidMask")
def solid(value: float, width: int, height: int) -> torch.Tensor:
    """One value everywhere."""
    check_room((1, height, width))
    return torch.full((1, height, width), value, dtype=torch.float32)


@NODES.node("InvertMask")
def invert(mask: torch.Tensor) -> torch.Tensor:
    """1 - mask."""
    return 1.0 - mask


@NODES.node("CropMask")
def crop(mask: torch.Tensor, x: int, y: int, width: int, height: int) -> torch.Tensor:
    """A part of the mask; what would lie outside is left out."""
    return _stack(mask)[:, y : y + height, x : x + width]


@NODES.node("MaskComposite")
def combine(destination: torch.Tensor, source: torch.Tensor, x: int, y: int, operation: str) -> torch.Tensor:
    """`source` combined into `destination` at (x, y), within 0..1."""
    under, over = _stack(destination).clone(), _stack(source)
    right, bottom = min(x + over.shape[-1], under.shape[-1]), min(y + over.shape[-2], under.shape[-2])
    part = under[:, y:bottom, x:right]
    # beyond the edge the width is negative: ComfyUI slices with it all the same, and so may we
    over = over[:, : bottom - y, : right - x]
    under[:, y:bottom, x:right] = _combined(part, over, operation)
    return under.clamp(0.0, 1.0)


def _combined(under: torch.Tensor, over: torch.Tensor, operation: str) -> torch.Tensor:
    match operation:
        case "multiply":
            return under * over
        case "add":
            return under + over
        case "subtract":
            return under - over
    a, b = under.round().bool(), over.round().bool()
    both: Mapping[str, torch.Tensor] = {"and": a & b, "or": a | b, "xor": a ^ b}
    return both[operation].float()


@NODES.node("FeatherMask")
def feather(mask: torch.Tensor, left: int, top: int, right: int, bottom: int) -> torch.Tensor:
    """The mask falling off to its edges, over so many pixels at each side."""
    out = _stack(mask).clone()
    rows, columns = out.shape[-2:]
    out *= _ramp(columns, left, right)[None, None, :]
    out *= _ramp(rows, top, bottom)[None, :, None]
    return out


def _ramp(length: int, before: int, after: int) -> torch.Tensor:
    ramp = torch.ones(length)
    before, after = min(before, length), min(after, length)
    ramp[:before] *= torch.arange(1, before + 1) / max(1, before)
    if after:
        ramp[length - after :] *= torch.arange(after, 0, -1) / after
    return ramp


@NODES.node("GrowMask")
def grow(mask: torch.Tensor, expand: int, tapered_corners: bool) -> torch.Tensor:
    """Bright areas grown by `expand` pixels, shrunk where it is negative; tapered ones grow along the axes only."""
    out = _stack(mask).unsqueeze(1)
    sign = -1.0 if expand < 0 else 1.0
    out = out * sign
    for _ in range(min(abs(expand), sum(out.shape[-2:]))):  # more changes nothing
        edged = pad(out, (1, 1, 1, 1), "replicate")
        if tapered_corners:
            across = max_pool2d(edged[..., 1:-1, :], (1, 3), stride=1)
            down = max_pool2d(edged[..., :, 1:-1], (3, 1), stride=1)
            out = torch.maximum(across, down)
        else:
            out = max_pool2d(edged, 3, stride=1)
    return (out * sign).squeeze(1)


@NODES.node("ThresholdMask")
def threshold(mask: torch.Tensor, value: float) -> torch.Tensor:
    """1 where the mask is above `value`, else 0."""
    return (mask > value).float()


@NODES.node("SplitImageWithAlpha")
def split_alpha(image: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """The colours, and 1 - alpha as a mask (zeros where there is none)."""
    alpha = image[..., 3] if image.shape[-1] > 3 else torch.ones_like(image[..., 0])
    return image[..., :3], 1.0 - alpha


@NODES.node("JoinImageWithAlpha")
def join_alpha(image: torch.Tensor, alpha: torch.Tensor) -> torch.Tensor:
    """The colours with 1 - mask as their alpha, the mask stretched to the picture."""
    count = max(image.shape[0], alpha.shape[0])
    opaque = 1.0 - resize_mask(alpha, image.shape[1], image.shape[2])
    opaque, colours = repeat_to_batch(opaque, count), repeat_to_batch(image[..., :3], count)
    return torch.cat((colours, opaque.unsqueeze(-1)), dim=-1)


@NODES.node("BatchMasksNode")
def batch_masks(masks: Mapping[str, torch.Tensor]) -> torch.Tensor:
    """Any number of batches as one, all scaled to the size of the first."""
    listed = list(masks.values())
    rows, columns = listed[0].shape[1:3]
    return torch.cat(
        [
            mask
            if mask.shape[1:3] == (rows, columns)
            else resize(mask.unsqueeze(1), columns, rows, "bilinear", "center").squeeze(1)
            for mask in listed
        ]
    )


def _stack(mask: torch.Tensor) -> torch.Tensor:
    return mask.reshape((-1, mask.shape[-2], mask.shape[-1]))
