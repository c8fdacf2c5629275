"""From pictures to latents and back: cut and checked, whole or in tiles.

Source: ComfyUI ``comfy/sd.py`` (`VAE`) and ``comfy/utils.py`` (`tiled_scale_multidim`).
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence

import torch

from ..memory import check_room
from ..problems import NodeProblem
from . import devices, memory
from .encoders import Vae
from .loading import check_whole
from .values import channels_fit

FALLBACK_TILE, FALLBACK_OVERLAP = 64, 16  # latent pixels, where memory runs out


def needed(vae: Vae | None) -> Vae:
    """The VAE. Raises `NodeProblem` where a checkpoint had none."""
    if vae is None:
        raise NodeProblem("the checkpoint holds no VAE", remedy="load one with VAELoader and wire that")
    return vae


def decode(vae: Vae | None, samples: torch.Tensor, check: Callable[[], None] = lambda: None) -> torch.Tensor:
    """The pictures [batch, height, width, 3] in 0..1 of latents; of frames, all of them in one batch.

    Raises:
        NodeProblem: the latents are another family's, or the file is damaged.
        NotEnoughMemory: not even tiles fit.
    """
    vae = needed(vae)
    coder = vae.coder
    if coder.dimensions == 2 and samples.ndim == 5:
        samples = samples[:, :, 0]
    channels_fit(samples, coder.channels, what=f"VAE {vae.component.source!r}")
    _check_size(vae, samples)
    store = memory.store()

    def whole() -> torch.Tensor:
        with store.using(vae.component):
            loaded = vae.component.loaded()
            made = []
            for few in _batches(vae, samples, loaded.device, loaded.dtype):
                check()
                made.append(coder.decode(loaded.module, few.to(loaded.device, loaded.dtype)).float().cpu())
            return torch.cat(made) if len(made) > 1 else made[0]

    def tiled() -> torch.Tensor:
        return _decode_tiles(vae, samples, FALLBACK_TILE, FALLBACK_OVERLAP, check)

    needs = coder.activation_bytes((1, *samples.shape[1:]), 4)
    free = devices.free_bytes(store.device)
    if coder.dimensions == 2 and free is not None and needs > free:
        return _finished(vae, tiled())
    pixels = store.attempt(whole, otherwise=tiled if coder.dimensions == 2 else None, needs=needs)
    return _finished(vae, pixels)


def decode_tiled(
    vae: Vae | None,
    samples: torch.Tensor,
    *,
    tile: int,
    overlap: int,
    check: Callable[[], None] = lambda: None,
) -> torch.Tensor:
    """As `decode`, in tiles of `tile` pixels a side that overlap."""
    vae = needed(vae)
    if samples.ndim == 5 or vae.coder.dimensions == 3:
        return decode(vae, samples, check)
    channels_fit(samples, vae.coder.channels, what=f"VAE {vae.component.source!r}")
    _check_size(vae, samples)
    if tile < overlap * 4:
        overlap = tile // 4
    factor = vae.coder.factor
    return _finished(vae, _decode_tiles(vae, samples, tile // factor, overlap // factor, check))


def _decode_tiles(vae: Vae, samples: torch.Tensor, tile: int, overlap: int, check: Callable[[], None]) -> torch.Tensor:
    """The mean of three tilings, whose seams lie apart."""
    loaded = vae.component.loaded()

    def work(piece: torch.Tensor) -> torch.Tensor:
        check()
        return vae.coder.decode(loaded.module, piece.to(loaded.device, loaded.dtype)).movedim(-1, 1).float().cpu()

    total: torch.Tensor | None = None
    for rows, columns in ((tile * 2, tile // 2), (tile // 2, tile * 2), (tile, tile)):
        made = tiled(samples, work, (rows, columns), overlap, vae.coder.factor, 3)
        total = made if total is None else total + made
    assert total is not None
    return (total / 3.0).movedim(1, -1)


def encode(vae: Vae | None, pixels: torch.Tensor, check: Callable[[], None] = lambda: None) -> torch.Tensor:
    """The latents [batch, channels, (frames,) rows, columns] of pictures [batch, height, width, 3 or more] in 0..1.

    Sides are cut to multiples of the coder's factor, from the middle.

    Raises:
        NodeProblem: the pictures are too small, or the file is damaged.
    """
    vae = needed(vae)
    coder = vae.coder
    pixels = cut(pixels, coder.factor)
    store = memory.store()

    def whole() -> torch.Tensor:
        with store.using(vae.component):
            loaded = vae.component.loaded()
            pieces = [pixels] if coder.dimensions == 3 else torch.split(pixels, 1)
            made = []
            for piece in pieces:
                check()
                made.append(coder.encode(loaded.module, piece.to(loaded.device, loaded.dtype)).float().cpu())
            return torch.cat(made) if len(made) > 1 else made[0]

    def in_tiles() -> torch.Tensor:
        return encode_tiled(vae, pixels, tile=512, overlap=64, check=check)

    latent = store.attempt(whole, otherwise=in_tiles if coder.dimensions == 2 else None)
    if not bool(torch.isfinite(latent).all()):
        check_whole(vae.component)
    return latent


def encode_tiled(
    vae: Vae | None,
    pixels: torch.Tensor,
    *,
    tile: int,
    overlap: int,
    check: Callable[[], None] = lambda: None,
) -> torch.Tensor:
    """As `encode`, in tiles of `tile` pixels a side that overlap."""
    vae = needed(vae)
    coder = vae.coder
    if coder.dimensions == 3:
        return encode(vae, pixels, check)
    if overlap >= tile // 2:
        raise NodeProblem(
            f"tiles of {tile} pixels cannot overlap by {overlap}", remedy=f"use an overlap below {tile // 2}"
        )
    pixels = cut(pixels, coder.factor)
    loaded = vae.component.loaded()

    def work(piece: torch.Tensor) -> torch.Tensor:
        check()
        return coder.encode(loaded.module, piece.movedim(1, -1).to(loaded.device, loaded.dtype)).float().cpu()

    planes = pixels.movedim(-1, 1)
    total: torch.Tensor | None = None
    for rows, columns in ((tile, tile), (tile // 2, tile * 2), (tile * 2, tile // 2)):
        made = tiled(planes, work, (rows, columns), overlap, 1 / coder.factor, coder.channels)
        total = made if total is None else total + made
    assert total is not None
    return total / 3.0


def cut(pixels: torch.Tensor, factor: int) -> torch.Tensor:
    """Pictures whose sides are multiples of `factor`, cut from the middle; three channels."""
    height, width = pixels.shape[1:3]
    rows, columns = height // factor * factor, width // factor * factor
    if not rows or not columns:
        raise NodeProblem(
            f"an image of {width} x {height} is too small to encode", remedy=f"use at least {factor} pixels a side"
        )
    top, left = height % factor // 2, width % factor // 2
    return pixels[:, top : top + rows, left : left + columns, :3]


def _check_size(vae: Vae, samples: torch.Tensor) -> None:
    frames = samples.shape[2] if samples.ndim == 5 else 1
    rows, columns = (side * vae.coder.factor for side in samples.shape[-2:])
    check_room((samples.shape[0] * frames * vae.coder.frames, rows, columns, 3), copies=3)


def _batches(vae: Vae, samples: torch.Tensor, device: torch.device, dtype: torch.dtype) -> Sequence[torch.Tensor]:
    """As many latents at once as memory has room for."""
    one = vae.coder.activation_bytes((1, *samples.shape[1:]), dtype.itemsize)
    free = devices.free_bytes(device)
    if device.type == "cpu" and not vae.coder.together:
        return torch.split(samples, 1)  # several at once take more memory there and no less time
    if free is None:
        return [samples] if vae.coder.together else torch.split(samples, 1)
    return torch.split(samples, max(1, int(free / one)))


def _finished(vae: Vae, pixels: torch.Tensor) -> torch.Tensor:
    if pixels.ndim == 5:
        pixels = pixels.reshape(-1, *pixels.shape[-3:])
    if not bool(torch.isfinite(pixels).all()):
        check_whole(vae.component)
    return pixels.clamp_(0.0, 1.0)


def tiled(
    samples: torch.Tensor,
    work: Callable[[torch.Tensor], torch.Tensor],
    tile: tuple[int, int],
    overlap: int,
    scale: float,
    channels: int,
) -> torch.Tensor:
    """What `work` makes of samples [batch, channels, rows, columns], tile by tile, joined where they overlap.

    Args:
        tile: rows and columns, of the samples; overlap: likewise.
        scale: size of the result for one of the samples.
        channels: of the result.
    """
    height, width = samples.shape[-2:]
    if height <= tile[0] and width <= tile[1]:
        return torch.cat([work(samples[place : place + 1]) for place in range(samples.shape[0])])
    results = []
    for place in range(samples.shape[0]):
        one = samples[place : place + 1]
        out = torch.zeros(1, channels, round(height * scale), round(width * scale))
        share = torch.zeros_like(out)
        rows, columns = _starts(height, tile[0], overlap), _starts(width, tile[1], overlap)
        for row, column in itertools.product(rows, columns):
            top, left = max(0, min(height - overlap, row)), max(0, min(width - overlap, column))
            piece = one[..., top : top + min(tile[0], height - top), left : left + min(tile[1], width - left)]
            made = work(piece)
            weight = _feathered(made, round(overlap * scale))
            at = (round(top * scale), round(left * scale))
            where = (..., slice(at[0], at[0] + made.shape[-2]), slice(at[1], at[1] + made.shape[-1]))
            out[where] += made * weight
            share[where] += weight
        results.append(out / share)
    return torch.cat(results)


def _starts(size: int, tile: int, overlap: int) -> list[int]:
    return list(range(0, size - overlap, tile - overlap)) if size > tile else [0]


def _feathered(made: torch.Tensor, width: int) -> torch.Tensor:
    """1 in the middle, falling towards each edge over `width`."""
    weight = torch.ones_like(made)
    for dimension in (2, 3):
        if width >= made.shape[dimension]:
            continue
        for step in range(width):
            part = (step + 1) / width
            weight.narrow(dimension, step, 1).mul_(part)
            weight.narrow(dimension, made.shape[dimension] - 1 - step, 1).mul_(part)
    return weight


def rows_and_columns(width: int, height: int, factor: int) -> tuple[int, int]:
    """The latent's rows and columns for a picture of that size."""
    return math.floor(height / factor), math.floor(width / factor)
