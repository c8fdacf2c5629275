"""Upscale models (Real-ESRGAN, SwinIR, DAT…), read and run by spandrel; large pictures go through in tiles.

Source of the tiling: ComfyUI 0.33.0 ``comfy/utils.py`` (``tiled_scale``) and ``comfy_extras/nodes_upscale_model.py``.
"""

from __future__ import annotations

import importlib
import importlib.util
import itertools
import sys
import threading
import types
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch

from ..memory import check_room
from ..problems import NodeProblem
from .weights import Component, State, Weights

TILE, OVERLAP = 512, 32  # pixels
SMALLEST_TILE = 128

_MISSING = NodeProblem(
    "upscale models need spandrel, which is not installed", remedy="pip install --no-deps spandrel einops"
)
_IMPORTING = threading.Lock()


@dataclass(frozen=True, kw_only=True, slots=True, eq=False, weakref_slot=True)
class UpscaleModel:
    """What an UPSCALE_MODEL wire carries."""

    component: Component

    def resident_bytes(self) -> int:
        """See `Component.resident_bytes`."""
        return self.component.resident_bytes()


def upscale_model(weights: Weights) -> UpscaleModel:
    """The upscale model in a file. Raises `NodeProblem` where there is none, or spandrel is missing."""
    spandrel()
    if any(name.startswith("module.layers.0.") for name in weights):
        weights = weights.below("module.")
    component = Component(weights=weights, build=_builder(weights.source), role="upscale", dtypes=(torch.float32,))
    return UpscaleModel(component=component)


def _builder(source: str) -> Callable[[State], Any]:
    def build(state: State) -> Any:
        from .devices import out_of_memory

        tensors = {name: state[name] for name in state}
        library = spandrel()
        try:
            found = library.ModelLoader(device="cpu").load_from_state_dict(tensors)
        except library.UnsupportedModelError as error:
            raise NodeProblem(
                f"{source!r} is no upscale model that spandrel knows", remedy="choose another file"
            ) from error
        except (RuntimeError, KeyError, ValueError) as error:
            if out_of_memory(error):
                raise
            raise NodeProblem(
                f"the upscale model {source!r} is not whole", remedy="fetch it again, or choose another file"
            ) from error
        if not isinstance(found, library.ImageModelDescriptor):
            raise NodeProblem(f"{source!r} does not make one picture of one picture", remedy="choose an upscale model")
        device = next((tensor.device for tensor in tensors.values()), torch.device("cpu"))
        return found.to(device).eval()

    return build


def upscaled(model: UpscaleModel, image: torch.Tensor, *, told: Callable[[int, int], None]) -> torch.Tensor:
    """The image [batch, height, width, 3] in 0..1, as many times larger as the model makes it.

    Args:
        told: called with (tiles done, tiles) before each tile; may raise to stop.

    Raises:
        NotEnoughMemory: even small tiles do not fit, or the result does not.
    """
    from . import devices, memory

    loaded = model.component.loaded()
    scale: int = loaded.module.scale
    batch, height, width = image.shape[:3]
    check_room((batch, height * scale, width * scale, 3))
    pixels = image[..., :3].movedim(-1, 1)
    tile = TILE

    def once() -> torch.Tensor:
        return tiled(pixels, lambda part: loaded.module(part.float().to(loaded.device)), tile, OVERLAP, scale, told)

    def smaller() -> torch.Tensor:
        nonlocal tile
        while tile // 2 >= SMALLEST_TILE:
            tile //= 2
            try:
                return once()
            except Exception as error:
                if not devices.out_of_memory(error):
                    raise
        return once()

    result = memory.store().attempt(once, otherwise=smaller)
    return result.movedim(1, -1).clamp(0.0, 1.0)


def tiled(
    samples: torch.Tensor,
    function: Callable[[torch.Tensor], torch.Tensor],
    tile: int,
    overlap: int,
    scale: int,
    told: Callable[[int, int], None],
) -> torch.Tensor:
    """`function` on tiles of samples [batch, channels, rows, columns], whose overlaps are blended.

    Args:
        tile, overlap: in the samples' own places.
        scale: how many times larger the result of `function` is.
    """
    places = [_starts(side, tile, overlap) for side in samples.shape[2:]]
    total = samples.shape[0] * len(places[0]) * len(places[1])
    done = 0
    rows, columns = (side * scale for side in samples.shape[2:])
    results: list[torch.Tensor] = []
    for number in range(samples.shape[0]):
        sample = samples[number : number + 1]
        whole = torch.zeros(1, 3, rows, columns)
        weight = torch.zeros(1, 1, rows, columns)
        for top, left in itertools.product(*places):
            told(done, total)
            part = function(sample[:, :, top : top + tile, left : left + tile]).to(whole)
            if len(places[0]) == len(places[1]) == 1:
                whole, weight = part, torch.ones(1, 1, 1, 1)
            else:
                mask = _feathered(part.shape[2:], overlap * scale)
                inside = (..., slice(top * scale, top * scale + part.shape[2]), _columns(left, part, scale))
                whole[inside] += part * mask
                weight[inside] += mask
            done += 1
        results.append(whole / weight)
    told(done, total)
    return torch.cat(results)


def _columns(left: int, part: torch.Tensor, scale: int) -> slice:
    return slice(left * scale, left * scale + part.shape[3])


def _starts(side: int, tile: int, overlap: int) -> list[int]:
    """Where the tiles of a side begin."""
    if side <= tile:
        return [0]
    return [max(0, min(side - overlap, place)) for place in range(0, side - overlap, tile - overlap)]


def _feathered(sides: Sequence[int], feather: int) -> torch.Tensor:
    """Weights of a tile that fall towards its edges; a side no longer than the feather stays whole."""
    mask = torch.ones(1, 1, *sides)
    for dimension in (2, 3):
        size = mask.shape[dimension]
        if feather >= size:
            continue
        for step in range(feather):
            share = (step + 1) / feather
            mask.narrow(dimension, step, 1).mul_(share)
            mask.narrow(dimension, size - 1 - step, 1).mul_(share)
    return mask


def spandrel() -> Any:
    """The library. Raises `NodeProblem` where it is missing.

    It imports torchvision for two of its architectures alone (LaMa's and RestoreFormer's rotations). Where none that
    fits is installed, a stand-in takes its place while spandrel is imported; those two then fail when they are run.
    """
    with _IMPORTING:
        if "spandrel" in sys.modules:
            return sys.modules["spandrel"]
        if importlib.util.find_spec("spandrel") is None:
            raise _MISSING
        try:
            with _torchvision():
                return importlib.import_module("spandrel")
        except ImportError as error:
            raise NodeProblem(
                f"spandrel cannot be loaded: {error}", remedy="pip install --no-deps spandrel einops"
            ) from error


_FUNCTIONAL = "torchvision.transforms.functional"


@contextmanager
def _torchvision() -> Iterator[None]:
    """torchvision if it works, else a stand-in for as long as this lasts."""
    try:
        importlib.import_module(_FUNCTIONAL)
    except (ImportError, RuntimeError, AttributeError):  # missing, or made for another torch
        pass
    else:
        yield
        return
    broken = {name: sys.modules.pop(name) for name in list(sys.modules) if name.partition(".")[0] == "torchvision"}
    names = ("torchvision", "torchvision.transforms", _FUNCTIONAL)
    modules = {name: types.ModuleType(name) for name in names}
    for name in ("rotate", "normalize", "InterpolationMode"):
        setattr(modules[_FUNCTIONAL], name, _absent)
    sys.modules.update(modules)
    try:
        yield
    finally:
        for name in names:
            sys.modules.pop(name, None)
        sys.modules.update(broken)


def _absent(*_: Any, **__: Any) -> Any:
    raise NodeProblem(
        "this upscale model needs torchvision, which is not installed or does not fit the installed torch",
        remedy="install a torchvision made for it, or choose another model",
    )
