"""What a LoRA file does to one weight: low rank, Hadamard, Kronecker, GLoRA, orthogonal and butterfly products,
differences and replacements, with DoRA's magnitudes.

Formulas: LyCORIS (https://github.com/KohakuBlueleaf/LyCORIS); DoRA (https://arxiv.org/abs/2402.09353). The order of
operations is ComfyUI 0.33.0's (``comfy/weight_adapter``), so that merged weights are the same numbers: factors are
multiplied in float32 and the product is added in the weight's type.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import torch

COMPUTED_IN = torch.float32


class Change(Protocol):
    """What is done to one weight."""

    def applied(self, weight: torch.Tensor, strength: float) -> torch.Tensor:
        """The changed weight, a new tensor in the type of `weight`.

        Raises:
            ValueError, RuntimeError: the shapes do not fit.
        """


@dataclass(frozen=True, kw_only=True, slots=True)
class LowRank:
    """``up @ down``; with `mid` a convolution in Tucker's form.

    Attributes:
        alpha: the product is scaled by alpha / rank; None leaves it.
        shape: the weight is first enlarged to this, with zeros (FLUX.1's control LoRAs widen ``img_in``).
    """

    up: torch.Tensor
    down: torch.Tensor
    alpha: float | None = None
    mid: torch.Tensor | None = None
    magnitude: torch.Tensor | None = None
    shape: Sequence[int] | None = None

    def applied(self, weight: torch.Tensor, strength: float) -> torch.Tensor:
        """See `Change`."""
        if self.shape is not None:
            weight = enlarged(weight, self.shape)
        up, down = _number(self.up, weight), _number(self.down, weight)
        scale = self.alpha / down.shape[0] if self.alpha is not None else 1.0
        if self.mid is not None:
            mid = _number(self.mid, weight)
            flat = down.transpose(0, 1).flatten(start_dim=1) @ mid.transpose(0, 1).flatten(start_dim=1)
            down = flat.reshape(down.shape[1], down.shape[0], *mid.shape[2:]).transpose(0, 1)
        product = (up.flatten(start_dim=1) @ down.flatten(start_dim=1)).reshape(weight.shape)
        return _added(weight, product, scale, strength, self.magnitude)


@dataclass(frozen=True, kw_only=True, slots=True)
class Hadamard:
    """``(a1 @ b1) * (a2 @ b2)`` (LoHa); `core1` and `core2` are Tucker's cores for convolutions."""

    a1: torch.Tensor
    b1: torch.Tensor
    a2: torch.Tensor
    b2: torch.Tensor
    alpha: float | None = None
    core1: torch.Tensor | None = None
    core2: torch.Tensor | None = None
    magnitude: torch.Tensor | None = None

    def applied(self, weight: torch.Tensor, strength: float) -> torch.Tensor:
        """See `Change`."""
        first = _product(_number(self.a1, weight), _number(self.b1, weight), self.core1)
        second = _product(_number(self.a2, weight), _number(self.b2, weight), self.core2)
        scale = self.alpha / self.b1.shape[0] if self.alpha is not None else 1.0
        return _added(weight, (first * second).reshape(weight.shape), scale, strength, self.magnitude)


@dataclass(frozen=True, kw_only=True, slots=True)
class Kronecker:
    """Kronecker's product of two factors (LoKr), each whole or itself a product ``a @ b``."""

    whole1: torch.Tensor | None = None
    whole2: torch.Tensor | None = None
    a1: torch.Tensor | None = None
    b1: torch.Tensor | None = None
    a2: torch.Tensor | None = None
    b2: torch.Tensor | None = None
    core2: torch.Tensor | None = None
    alpha: float | None = None
    magnitude: torch.Tensor | None = None

    def applied(self, weight: torch.Tensor, strength: float) -> torch.Tensor:
        """See `Change`."""
        rank = None
        if self.whole1 is not None:
            first = _number(self.whole1, weight)
        elif self.a1 is not None and self.b1 is not None:
            first, rank = _number(self.a1, weight) @ _number(self.b1, weight), self.b1.shape[0]
        else:
            raise ValueError("the first factor is missing")
        if self.whole2 is not None:
            second = _number(self.whole2, weight)
        elif self.a2 is not None and self.b2 is not None:
            second = _product(_number(self.a2, weight), _number(self.b2, weight), self.core2)
            rank = self.b2.shape[0]
        else:
            raise ValueError("the second factor is missing")
        if second.ndim == 4:
            first = first.unsqueeze(2).unsqueeze(2)
        scale = self.alpha / rank if self.alpha is not None and rank is not None else 1.0
        return _added(
            weight, torch.kron(first, second.contiguous()).reshape(weight.shape), scale, strength, self.magnitude
        )


@dataclass(frozen=True, kw_only=True, slots=True)
class Generalised:
    """``weight @ a1 @ a2 + b1 @ b2`` (GLoRA); the first files had the factors the other way round."""

    a1: torch.Tensor
    a2: torch.Tensor
    b1: torch.Tensor
    b2: torch.Tensor
    alpha: float | None = None
    magnitude: torch.Tensor | None = None

    def applied(self, weight: torch.Tensor, strength: float) -> torch.Tensor:
        """See `Change`."""
        old, rank = self._layout(weight)
        a1, a2, b1, b2 = (
            _number(factor.flatten(start_dim=1), weight) for factor in (self.a1, self.a2, self.b1, self.b2)
        )
        own = weight.to(COMPUTED_IN)
        if old:
            product = (b2 @ b1 + own.flatten(start_dim=1) @ a2 @ a1).reshape(weight.shape)
        elif weight.dim() > 2:
            through = torch.einsum("o i ..., i j -> o j ...", own, a1)
            product = torch.einsum("o i ..., i j -> o j ...", through, a2).reshape(weight.shape)
            product = product + (b1 @ b2).reshape(weight.shape)
        else:
            product = (own @ a1 @ a2).reshape(weight.shape) + (b1 @ b2).reshape(weight.shape)
        scale = self.alpha / rank if self.alpha is not None else 1.0
        return _added(weight, product, scale, strength, self.magnitude)

    def _layout(self, weight: torch.Tensor) -> tuple[bool, int]:
        old = self.b2.shape[1] == self.b1.shape[0] == self.a1.shape[0] == self.a2.shape[1]
        new = self.b2.shape[0] == self.b1.shape[1] == self.a1.shape[1] == self.a2.shape[0]
        square = self.a2.shape[0] == weight.shape[0] == weight.shape[1]
        if old and (not new or square):
            return True, self.a1.shape[0]
        if not new:
            raise ValueError("the factors' ranks differ")
        return False, self.a2.shape[0]


@dataclass(frozen=True, kw_only=True, slots=True)
class Orthogonal:
    """A rotation of the outputs in blocks (OFT); `alpha` bounds how far. `blocks` is [blocks, size, size]."""

    blocks: torch.Tensor
    rescale: torch.Tensor | None = None
    alpha: float | None = None
    magnitude: torch.Tensor | None = None

    def applied(self, weight: torch.Tensor, strength: float) -> torch.Tensor:
        """See `Change`. `rescale` is read and, as in ComfyUI, not used."""
        turn = _rotation(_number(self.blocks, weight), self.alpha or 0.0).to(weight.dtype)
        count, size = turn.shape[:2]
        same = torch.eye(size, device=weight.device, dtype=weight.dtype)
        parts = weight.reshape(count, size, *weight.shape[1:])
        product = torch.einsum("k n m, k n ... -> k m ...", turn * strength - strength * same, parts)
        return _added(weight, product.reshape(weight.shape), None, strength, self.magnitude, self.alpha or 0.0)


@dataclass(frozen=True, kw_only=True, slots=True)
class Butterfly:
    """Rotations in stages over ever wider strides (BOFT). `blocks` is [stages, blocks, size, size]."""

    blocks: torch.Tensor
    rescale: torch.Tensor | None = None
    alpha: float | None = None
    magnitude: torch.Tensor | None = None

    def applied(self, weight: torch.Tensor, strength: float) -> torch.Tensor:
        """See `Change`."""
        blocks = _number(self.blocks, weight)
        turns = _rotation(blocks, self.alpha or 0.0).to(weight.dtype)
        stages, _, size = blocks.shape[:3]
        same = torch.eye(size, device=weight.device, dtype=COMPUTED_IN)
        turned, rest = weight, weight.shape[1:]
        for stage in range(stages):
            turn = turns[stage]
            if strength != 1:
                turn = turn * strength + (1 - strength) * same
            stride = 2**stage * (size // 2)
            mixed = turned.reshape(-1, 2, stride, *rest).transpose(1, 2).reshape(-1, size, *rest)
            mixed = torch.einsum("b i j, b j ... -> b i ...", turn, mixed)
            turned = mixed.reshape(-1, stride, 2, *rest).transpose(1, 2).reshape(weight.shape)
        if self.rescale is not None:
            turned = turned * _number(self.rescale, weight)
        product = (turned - weight).to(COMPUTED_IN)
        return _added(weight, product, None, strength, self.magnitude, self.alpha or 0.0)


@dataclass(frozen=True, kw_only=True, slots=True)
class Difference:
    """A whole difference, added."""

    tensor: torch.Tensor

    def applied(self, weight: torch.Tensor, strength: float) -> torch.Tensor:
        """See `Change`."""
        if self.tensor.shape != weight.shape:
            raise ValueError(f"a difference of shape {list(self.tensor.shape)} is no {list(weight.shape)}")
        return weight + strength * self.tensor.to(weight)


@dataclass(frozen=True, kw_only=True, slots=True)
class Replacement:
    """The weight itself, whatever the strength."""

    tensor: torch.Tensor

    def applied(self, weight: torch.Tensor, strength: float) -> torch.Tensor:
        """See `Change`."""
        return self.tensor.to(weight).expand_as(weight).clone()


def enlarged(weight: torch.Tensor, shape: Sequence[int]) -> torch.Tensor:
    """`weight` in the corner of a tensor of zeros of that shape. Raises `ValueError` where it is larger."""
    if len(shape) != weight.ndim or any(new < old for new, old in zip(shape, weight.shape, strict=True)):
        raise ValueError(f"a weight of shape {list(weight.shape)} does not fit into {list(shape)}")
    wide = torch.zeros(tuple(shape), dtype=weight.dtype, device=weight.device)
    wide[tuple(slice(0, side) for side in weight.shape)] = weight
    return wide


def _number(factor: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
    return factor.to(device=weight.device, dtype=COMPUTED_IN)


def _product(a: torch.Tensor, b: torch.Tensor, core: torch.Tensor | None) -> torch.Tensor:
    if core is None:
        return a @ b
    return torch.einsum("i j k l, j r, i p -> p r k l", core.to(a), b, a)


def _rotation(blocks: torch.Tensor, bound: float) -> torch.Tensor:
    """Cayley's transform of the blocks' skew-symmetric parts."""
    skew = blocks - blocks.transpose(-1, -2)
    if bound > 0:
        norm = torch.norm(skew) + 1e-8
        if norm > bound:
            skew = skew * bound / norm
    same = torch.eye(blocks.shape[-1], device=blocks.device, dtype=blocks.dtype)
    return (same + skew) @ (same - skew).float().inverse()


def _added(
    weight: torch.Tensor,
    product: torch.Tensor,
    scale: float | None,
    strength: float,
    magnitude: torch.Tensor | None,
    magnitude_scale: float = 1.0,
) -> torch.Tensor:
    """`weight` plus the product; a scale of None is that of a rotation."""
    if magnitude is not None:
        return _decomposed(weight, product * (magnitude_scale if scale is None else scale), strength, magnitude)
    factor = strength if scale is None else strength * scale
    return weight + (factor * product).to(weight.dtype)


def _decomposed(
    weight: torch.Tensor, difference: torch.Tensor, strength: float, magnitude: torch.Tensor
) -> torch.Tensor:
    """DoRA: direction and length apart, the length is learnt by outputs or by inputs."""
    length = _number(magnitude, weight)
    changed = weight + difference.to(weight.dtype)
    sides = (1,) * (weight.dim() - 1)
    if length.shape[0] == changed.shape[0]:
        norm = weight.reshape(weight.shape[0], -1).norm(dim=1, keepdim=True).reshape(-1, *sides)
    else:
        turned = changed.transpose(0, 1)
        norm = turned.reshape(turned.shape[0], -1).norm(dim=1, keepdim=True).reshape(-1, *sides).transpose(0, 1)
    norm = norm + torch.finfo(weight.dtype).eps
    changed = changed * (length / norm).to(weight.dtype)
    result: torch.Tensor = weight + strength * (changed - weight) if strength != 1.0 else changed
    return result
