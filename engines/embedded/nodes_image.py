"""Images made, cut, turned, joined. IMAGE is float32 [batch, height, width, channels] in 0..1, channels 3 or 4.

Sources: ComfyUI ``nodes.py``, ``nodes_images.py``, ``nodes_post_processing.py``.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch.nn.functional import pad

from .memory import check_room
from .registry import NodeGroup
from .resize import repeat_to_batch, resize_image

NODES = NodeGroup()

_COLOURS: Mapping[str, tuple[float, float, float]] = {
    "white": (1.0, 1.0, 1.0),
    "black": (0.0, 0.0, 0.0),
    "red": (1.0, 0.0, 0.0),
    "green": (0.0, 1.0, 0.0),
    "blue": (0.0, 0.0, 1.0),
}


@NODES.node("EmptyImage")
def empty_image(width: int, height: int, batch_size: int = 1, color: int = 0) -> torch.Tensor:
    """`batch_size` pictures of one colour, 0xRRGGBB."""
    check_room((batch_size, height, width, 3))
    image = torch.empty((batch_size, height, width, 3), dtype=torch.float32)
    for channel, shift in enumerate((16, 8, 0)):
        image[..., channel] = ((color >> shift) & 0xFF) / 0xFF
    return image


@NODES.node("ImageCrop")
def crop(image: torch.Tensor, width: int, height: int, x: int, y: int) -> torch.Tensor:
    """A part of the image; what would lie outside is left out, and at least one pixel stays."""
    left, top = min(x, image.shape[2] - 1), min(y, image.shape[1] - 1)
    return image[:, top : top + height, left : left + width]


@NODES.node("ImagePadForOutpaint")
def pad_for_outpaint(
    image: torch.Tensor, left: int, top: int, right: int, bottom: int, feathering: int
) -> tuple[torch.Tensor, torch.Tensor]:
    """The image with a grey border, and a mask that is 1 there and falls off over `feathering` pixels inside it."""
    batch, rows, columns, channels = image.shape
    shape = (batch, rows + top + bottom, columns + left + right, channels)
    check_room(shape)
    canvas = torch.full(shape, 0.5, dtype=torch.float32)
    canvas[:, top : top + rows, left : left + columns] = image
    mask = torch.ones(shape[1:3], dtype=torch.float32)
    mask[top : top + rows, left : left + columns] = _feathered(rows, columns, (left, top, right, bottom), feathering)
    return canvas, mask.unsqueeze(0)


def _feathered(rows: int, columns: int, border: tuple[int, int, int, int], feathering: int) -> torch.Tensor:
    """0 inside, rising to 1 (with the square) at those edges that have a border."""
    if not 0 < feathering * 2 < min(rows, columns):
        return torch.zeros((rows, columns), dtype=torch.float32)
    left, top, right, bottom = border
    down = torch.arange(rows, dtype=torch.float64)
    across = torch.arange(columns, dtype=torch.float64)
    far = float(max(rows, columns))
    vertical = torch.minimum(
        down if top else torch.full_like(down, far), rows - down if bottom else torch.full_like(down, far)
    )
    horizontal = torch.minimum(
        across if left else torch.full_like(across, far), columns - across if right else torch.full_like(across, far)
    )
    distance = torch.minimum(vertical[:, None], horizontal[None, :])
    return (((feathering - distance) / feathering).clamp(min=0) ** 2).to(torch.float32)


@NODES.node("ImageBatch")
def batch(image1: torch.Tensor, image2: torch.Tensor) -> torch.Tensor:
    """Two batches as one, the second scaled to the size of the first; a missing alpha is 1."""
    return _batched([image1, image2])


@NODES.node("BatchImagesNode")
def batch_images(images: Mapping[str, torch.Tensor]) -> torch.Tensor:
    """Any number of batches as one, all scaled to the size of the first; a missing alpha is 1."""
    return _batched(list(images.values()))


def _batched(images: list[torch.Tensor]) -> torch.Tensor:
    channels = max(image.shape[-1] for image in images)
    images = [image if image.shape[-1] == channels else pad(image, (0, 1), value=1.0) for image in images]
    rows, columns = images[0].shape[1:3]
    check_room((sum(image.shape[0] for image in images), rows, columns, channels))
    return torch.cat(
        [
            image if image.shape[1:3] == (rows, columns) else resize_image(image, columns, rows, "bilinear", "center")
            for image in images
        ]
    )


@NODES.node("RepeatImageBatch")
def repeat(image: torch.Tensor, amount: int) -> torch.Tensor:
    """The batch `amount` times."""
    check_room((image.shape[0] * amount, *image.shape[1:]))
    return image.repeat((amount, 1, 1, 1))


@NODES.node("ImageFromBatch")
def from_batch(image: torch.Tensor, batch_index: int, length: int) -> torch.Tensor:
    """`length` pictures of the batch from `batch_index` on; a negative one counts from the end."""
    count = image.shape[0]
    first = max(0, min(count - 1, batch_index + count if batch_index < 0 else batch_index))
    return image[first : first + length].clone()


@NODES.node("GetImageSize")
def size(image: torch.Tensor) -> tuple[int, int, int]:
    """Width, height and number of pictures."""
    return image.shape[2], image.shape[1], image.shape[0]


@NODES.node("ImageRotate")
def rotate(image: torch.Tensor, rotation: str) -> torch.Tensor:
    """Turned clockwise by quarters."""
    quarters = {"90": 1, "18": 2, "27": 3}.get(rotation[:2], 0)
    return torch.rot90(image, k=quarters, dims=(2, 1))


@NODES.node("ImageFlip")
def flip(image: torch.Tensor, flip_method: str) -> torch.Tensor:
    """Mirrored along one axis."""
    return torch.flip(image, dims=[1 if flip_method.startswith("x") else 2])


@NODES.node("ImageStitch")
def stitch(
    image1: torch.Tensor,
    direction: str,
    match_image_size: bool,
    spacing_width: int,
    spacing_color: str,
    image2: torch.Tensor | None = None,
) -> torch.Tensor:
    """The second image beside the first, scaled to match or padded, with a bar of colour between them."""
    if image2 is None:
        return image1
    across = direction in ("left", "right")
    count = max(image1.shape[0], image2.shape[0])
    first, second = _last_repeated(image1, count), _last_repeated(image2, count)
    if match_image_size:
        second = _matched(second, first, across)
    else:
        # ComfyUI pads with one value: that of white and black, 0 for the colours
        value = 1.0 if spacing_color == "white" else 0.0
        side = 1 if across else 2
        longest = max(first.shape[side], second.shape[side])
        first, second = _padded(first, side, longest, value), _padded(second, side, longest, value)
    channels = max(first.shape[-1], second.shape[-1])
    first, second = (pad(image, (0, channels - image.shape[-1]), value=1.0) for image in (first, second))
    parts = [second, first] if direction in ("left", "up") else [first, second]
    if spacing_width > 0:
        parts.insert(1, _bar(first, second, spacing_width + spacing_width % 2, _COLOURS[spacing_color], across))
    check_room((count, sum(part.shape[1] for part in parts), sum(part.shape[2] for part in parts), channels), copies=1)
    return torch.cat(parts, dim=2 if across else 1)


def _last_repeated(image: torch.Tensor, count: int) -> torch.Tensor:
    missing = count - image.shape[0]
    return image if not missing else torch.cat([image, repeat_to_batch(image[-1:], missing)])


def _matched(image: torch.Tensor, to: torch.Tensor, across: bool) -> torch.Tensor:
    ratio = image.shape[2] / image.shape[1]
    rows, columns = to.shape[1:3]
    width, height = (int(rows * ratio), rows) if across else (columns, int(columns / ratio))
    return resize_image(image, width, height, "lanczos")


def _padded(image: torch.Tensor, side: int, length: int, value: float) -> torch.Tensor:
    missing = length - image.shape[side]
    before, after = missing // 2, missing - missing // 2
    sides = (0, 0, 0, 0, before, after) if side == 1 else (0, 0, before, after)
    return pad(image, sides, value=value) if missing else image


def _bar(
    first: torch.Tensor, second: torch.Tensor, width: int, colour: tuple[float, float, float], across: bool
) -> torch.Tensor:
    rows = max(first.shape[1], second.shape[1]) if across else width
    columns = width if across else max(first.shape[2], second.shape[2])
    bar = first.new_ones((first.shape[0], rows, columns, first.shape[-1]))
    for channel, value in enumerate(colour):
        bar[..., channel] = value
    return bar
