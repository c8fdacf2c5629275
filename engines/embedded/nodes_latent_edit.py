"""Latents resized, joined, cut and mixed. Source: ComfyUI ``nodes.py``, ``comfy_extras/nodes_latent.py``."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch

from .diffusion.concat import resized
from .diffusion.values import Latent
from .memory import check_room
from .problems import NodeProblem
from .registry import NodeGroup
from .resize import repeat_to_batch, resize

NODES = NodeGroup()

PIXELS = 8  # of a side for one of the latent, as these nodes count
SMALLEST = 64  # pixels of a side


def _with(latent: Latent, samples: torch.Tensor, **more: Any) -> Latent:
    return {**latent, "samples": samples, **more}


def _scaled(samples: torch.Tensor, columns: int, rows: int, method: str, crop: str) -> torch.Tensor:
    if samples.ndim == 4:
        return resize(samples, columns, rows, method, crop)
    batch, channels, frames = samples.shape[:3]
    flat = samples.movedim(2, 1).reshape(batch * frames, channels, *samples.shape[3:])
    made = resize(flat, columns, rows, method, crop)
    return made.reshape(batch, frames, channels, rows, columns).movedim(1, 2)


@NODES.node("LatentUpscale")
def upscale(samples: Latent, upscale_method: str, width: int, height: int, crop: str) -> Latent:
    """At a size in pixels; a side of 0 follows from the other, two leave it as it is."""
    tensor: torch.Tensor = samples["samples"]
    if width == 0 and height == 0:
        return samples
    if width == 0:
        height = max(SMALLEST, height)
        width = max(SMALLEST, round(tensor.shape[-1] * height / tensor.shape[-2]))
    elif height == 0:
        width = max(SMALLEST, width)
        height = max(SMALLEST, round(tensor.shape[-2] * width / tensor.shape[-1]))
    width, height = max(SMALLEST, width), max(SMALLEST, height)
    return _with(samples, _scaled(tensor, width // PIXELS, height // PIXELS, upscale_method, crop))


@NODES.node("LatentUpscaleBy")
def upscale_by(samples: Latent, upscale_method: str, scale_by: float) -> Latent:
    """Both sides times a number."""
    tensor: torch.Tensor = samples["samples"]
    columns, rows = round(tensor.shape[-1] * scale_by), round(tensor.shape[-2] * scale_by)
    return _with(samples, _scaled(tensor, columns, rows, upscale_method, "disabled"))


@NODES.node("LatentRotate")
def rotate(samples: Latent, rotation: str) -> Latent:
    """By quarters, clockwise."""
    quarters = {"90": 1, "180": 2, "270": 3}.get(rotation.split()[0], 0)
    return _with(samples, torch.rot90(samples["samples"], k=quarters, dims=[3, 2]))


@NODES.node("LatentFlip")
def flip(samples: Latent, flip_method: str) -> Latent:
    """Upside down ("x-axis…") or left to right."""
    return _with(samples, torch.flip(samples["samples"], dims=[2 if flip_method.startswith("x") else 3]))


@NODES.node("LatentCrop")
def crop(samples: Latent, width: int, height: int, x: int, y: int) -> Latent:
    """A rectangle in pixels."""
    tensor: torch.Tensor = samples["samples"]
    left = min(x // PIXELS, tensor.shape[3] - PIXELS)
    top = min(y // PIXELS, tensor.shape[2] - PIXELS)
    return _with(samples, tensor[:, :, top : height // PIXELS + top, left : width // PIXELS + left])


@NODES.node("LatentComposite")
def composite(samples_to: Latent, samples_from: Latent, x: int, y: int, feather: int = 0) -> Latent:
    """One latent on another, at a place in pixels, its inner edges fading over `feather`."""
    base: torch.Tensor = samples_to["samples"]
    left, top, edge = x // PIXELS, y // PIXELS, feather // PIXELS
    piece = samples_from["samples"][:, :, : base.shape[2] - top, : base.shape[3] - left]
    made = base.clone()
    where = (..., slice(top, top + piece.shape[2]), slice(left, left + piece.shape[3]))
    mask = torch.ones_like(piece)
    for step in range(edge):
        part = (step + 1) / edge
        if top != 0:
            mask[:, :, step : step + 1, :] *= part
        if top + piece.shape[2] < base.shape[2]:
            mask[:, :, mask.shape[2] - 1 - step : mask.shape[2] - step, :] *= part
        if left != 0:
            mask[:, :, :, step : step + 1] *= part
        if left + piece.shape[3] < base.shape[3]:
            mask[:, :, :, mask.shape[3] - 1 - step : mask.shape[3] - step] *= part
    made[where] = piece * mask + made[where] * (1.0 - mask)
    return _with(samples_to, made)


@NODES.node("LatentBlend")
def blend(samples1: Latent, samples2: Latent, blend_factor: float) -> Latent:
    """`blend_factor` of the first and the rest of the second."""
    one, other = samples1["samples"], samples2["samples"]
    if one.shape != other.shape:
        other = _scaled(other, one.shape[3], one.shape[2], "bicubic", "center")
    return _with(samples1, one * blend_factor + other * (1 - blend_factor))


def _fitted(one: torch.Tensor, other: torch.Tensor, *, batch: bool = True) -> torch.Tensor:
    if other.shape[1] != one.shape[1]:
        raise NodeProblem(
            f"the latents have {one.shape[1]} and {other.shape[1]} channels", remedy="use latents of one family"
        )
    if other.shape[1:] != one.shape[1:]:
        other = resized(other, one.shape[-1], one.shape[-2])
    return repeat_to_batch(other, one.shape[0]) if batch else other


@NODES.node("LatentAdd")
def add(samples1: Latent, samples2: Latent) -> Latent:
    """The sum."""
    one = samples1["samples"]
    return _with(samples1, one + _fitted(one, samples2["samples"]))


@NODES.node("LatentSubtract")
def subtract(samples1: Latent, samples2: Latent) -> Latent:
    """The difference."""
    one = samples1["samples"]
    return _with(samples1, one - _fitted(one, samples2["samples"]))


@NODES.node("LatentMultiply")
def multiply(samples: Latent, multiplier: float) -> Latent:
    """Times a number."""
    return _with(samples, samples["samples"] * multiplier)


@NODES.node("LatentInterpolate")
def interpolate(samples1: Latent, samples2: Latent, ratio: float) -> Latent:
    """Between two latents, directions and lengths apart."""
    one = samples1["samples"]
    other = _fitted(one, samples2["samples"])
    lengths = [torch.linalg.vector_norm(tensor, dim=1) for tensor in (one, other)]
    ways = [torch.nan_to_num(tensor / length) for tensor, length in zip((one, other), lengths, strict=True)]
    between = ways[0] * ratio + ways[1] * (1.0 - ratio)
    way = torch.nan_to_num(between / torch.linalg.vector_norm(between, dim=1))
    return _with(samples1, way * (lengths[0] * ratio + lengths[1] * (1.0 - ratio)))


@NODES.node("LatentBatch")
def batch(samples1: Latent, samples2: Latent) -> Latent:
    """Both in one batch."""
    one, other = samples1["samples"], _fitted(samples1["samples"], samples2["samples"], batch=False)
    check_room((one.shape[0] + other.shape[0], *one.shape[1:]))
    indices = [*_indices(samples1), *_indices(samples2)]
    return _with(samples1, torch.cat((one, other)), batch_index=indices)


def _indices(latent: Latent) -> Sequence[int]:
    indices: Sequence[int] = latent.get("batch_index", range(latent["samples"].shape[0]))
    return indices


@NODES.node("LatentBatchSeedBehavior")
def batch_seed(samples: Latent, seed_behavior: str) -> Latent:
    """The same noise for every picture of a batch, or each its own."""
    if seed_behavior == "random":
        return {name: value for name, value in samples.items() if name != "batch_index"}
    first = samples.get("batch_index", [0])[0]
    return {**samples, "batch_index": [first] * samples["samples"].shape[0]}


@NODES.node("LatentFromBatch")
def from_batch(samples: Latent, batch_index: int, length: int) -> Latent:
    """Some pictures of a batch; their noise stays theirs."""
    tensor: torch.Tensor = samples["samples"]
    count = tensor.shape[0]
    start = max(0, min(count - 1, batch_index + count if batch_index < 0 else batch_index))
    end = start + min(count - start, length)
    made = dict(_with(samples, tensor[start:end]))
    masks = samples.get("noise_mask")
    if masks is not None and masks.shape[0] > 1:
        made["noise_mask"] = repeat_to_batch(masks, max(count, masks.shape[0]))[start:end]
    indices = samples.get("batch_index")
    made["batch_index"] = list(range(start, end)) if indices is None else list(indices[start:end])
    return made


@NODES.node("RepeatLatentBatch")
def repeat(samples: Latent, amount: int) -> Latent:
    """The batch several times."""
    tensor: torch.Tensor = samples["samples"]
    check_room((tensor.shape[0] * amount, *tensor.shape[1:]))
    made = dict(_with(samples, tensor.repeat(amount, *([1] * (tensor.ndim - 1)))))
    masks = samples.get("noise_mask")
    if masks is not None and masks.shape[0] > 1:
        made["noise_mask"] = masks.repeat(amount, *([1] * (masks.ndim - 1)))
    indices = samples.get("batch_index")
    if indices is not None:
        offset = max(indices) - min(indices) + 1
        made["batch_index"] = [index + number * offset for number in range(amount) for index in indices]
    return made


@NODES.node("LatentConcat")
def concat(samples1: Latent, samples2: Latent, dim: str) -> Latent:
    """Side by side along x, y or time; "-" puts the second first."""
    one = samples1["samples"]
    pair = (one, repeat_to_batch(samples2["samples"], one.shape[0]))
    axis = {"x": -1, "y": -2, "t": -3}[dim[-1]]
    try:
        return _with(samples1, torch.cat(pair[::-1] if dim.startswith("-") else pair, dim=axis))
    except RuntimeError as error:
        raise NodeProblem("the latents differ in the other sizes", remedy="bring them to one size first") from error


@NODES.node("LatentCut")
def cut(samples: Latent, dim: str, index: int, amount: int) -> Latent:
    """A slice along x, y or time."""
    tensor: torch.Tensor = samples["samples"]
    axis = tensor.ndim - {"x": 1, "y": 2, "t": 3}[dim]
    size = tensor.shape[axis]
    if index >= 0:
        index = min(index, size - 1)
        amount = min(size - index, amount)
    else:
        index = max(index, -size)
        amount = min(-index, amount)
    return _with(samples, torch.narrow(tensor, axis, index, amount))


@NODES.node("RebatchLatents", input_is_list=True, list_outputs=frozenset({0}))
def rebatch(latents: list[Latent], batch_size: list[int]) -> tuple[list[Latent]]:
    """The same pictures in batches of another size; sizes that differ are not mixed."""
    made: list[Latent] = []
    waiting: tuple[torch.Tensor, torch.Tensor, list[int]] | None = None
    seen = 0
    for latent in latents:
        following = _whole(latent, seen)
        seen += len(following[2])
        if waiting is None:
            waiting = following
        elif waiting[0].shape[1:] != following[0].shape[1:]:
            made.append(_one(waiting, 0, batch_size[0]))
            waiting = following
        else:
            joined = torch.cat((waiting[0], following[0])), torch.cat((waiting[1], following[1]))
            waiting = (*joined, waiting[2] + following[2])
        count = waiting[0].shape[0]
        if count > batch_size[0]:
            whole = count // batch_size[0]
            made += [_one(waiting, number * batch_size[0], batch_size[0]) for number in range(whole)]
            rest = whole * batch_size[0]
            waiting = (waiting[0][rest:], waiting[1][rest:], waiting[2][rest:]) if rest < count else None
    if waiting is not None:
        made.append(_one(waiting, 0, batch_size[0]))
    return (made,)


def _whole(latent: Latent, offset: int) -> tuple[torch.Tensor, torch.Tensor, list[int]]:
    samples: torch.Tensor = latent["samples"]
    count, _, rows, columns = samples.shape
    mask = latent.get("noise_mask")
    if mask is None:
        mask = torch.ones(count, 1, rows * PIXELS, columns * PIXELS)
    if mask.shape[0] < count:
        mask = mask.repeat(math.ceil(count / mask.shape[0]), 1, 1, 1)[:count]
    indices = latent.get("batch_index")
    return samples, mask, [number + offset for number in range(count)] if indices is None else list(indices)


def _one(parts: tuple[torch.Tensor, torch.Tensor, list[int]], start: int, size: int) -> Latent:
    part = slice(start, start + size)
    samples, mask, indices = parts[0][part], parts[1][part], parts[2][part]
    latent = {"samples": samples, "batch_index": indices}
    return latent if float(mask.mean()) == 1.0 else {**latent, "noise_mask": mask}
