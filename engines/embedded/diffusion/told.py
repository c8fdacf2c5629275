"""What a network is told besides the latent, and how the facts of several conditions go into one batch.

Source: ComfyUI ``comfy/conds.py``: Each is CONDRegular, Shaped is CONDNoiseShape, Text is CONDCrossAttn, Same is
CONDConstant, Several is CONDList.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch

MOST_REPEATS = 4  # of a short text beside a long one; beyond that they run apart


def repeated(tensor: torch.Tensor, batch: int) -> torch.Tensor:
    """`tensor` [some, ...] cut or repeated to [batch, ...]."""
    if tensor.shape[0] > batch:
        return tensor[:batch]
    if tensor.shape[0] < batch:
        return tensor.repeat(math.ceil(batch / tensor.shape[0]), *([1] * (tensor.ndim - 1)))[:batch]
    return tensor


Area = Sequence[int]  # sizes of the last dimensions, then where they begin


@dataclass(frozen=True, slots=True, eq=False)
class Each:
    """A tensor [batch, ...] (or [1, ...]) of any meaning: a pooled text, a mask of tokens, a guidance strength."""

    value: Any

    def fitted(self, batch: int, area: Area | None) -> Each:
        """For a batch of that size, within that area of the latent."""
        return type(self)(repeated(self.value, batch))

    def joins(self, other: Each) -> bool:
        """Whether the two can be in one batch."""
        return type(self) is type(other) and bool(self.value.shape == other.value.shape)

    def joined(self, others: Sequence[Each]) -> Any:
        """One tensor of this one and all `others`."""
        return torch.cat([self.value, *(other.value for other in others)])


@dataclass(frozen=True, slots=True, eq=False)
class Shaped(Each):
    """A tensor of the latent's size: what is joined to it by channels."""

    def fitted(self, batch: int, area: Area | None) -> Each:
        """See `Each.fitted`: the same area of it."""
        tensor = self.value
        if area is not None:
            dimensions = len(area) // 2
            for place in range(dimensions):
                tensor = tensor.narrow(place + 2, area[place + dimensions], area[place])
        return Shaped(repeated(tensor, batch))


@dataclass(frozen=True, slots=True, eq=False)
class Text(Each):
    """Vectors [batch, tokens, width] whose order does not matter: shorter ones are repeated beside longer ones."""

    def joins(self, other: Each) -> bool:
        """See `Each.joins`."""
        mine, theirs = self.value.shape, other.value.shape
        if mine == theirs:
            return True
        if mine[0] != theirs[0] or mine[2] != theirs[2]:
            return False
        return bool(math.lcm(mine[1], theirs[1]) // min(mine[1], theirs[1]) <= MOST_REPEATS)

    def joined(self, others: Sequence[Each]) -> Any:
        """See `Each.joined`."""
        tensors = [self.value, *(other.value for other in others)]
        length = math.lcm(*(tensor.shape[1] for tensor in tensors))
        return torch.cat([tensor.repeat(1, length // tensor.shape[1], 1) for tensor in tensors])


@dataclass(frozen=True, slots=True, eq=False)
class Same(Each):
    """A value that a whole batch shares: a number, a shape."""

    def fitted(self, batch: int, area: Area | None) -> Each:
        """See `Each.fitted`: as it is."""
        return self

    def joins(self, other: Each) -> bool:
        """See `Each.joins`: where they are equal."""
        return type(self) is type(other) and _equal(self.value, other.value)

    def joined(self, others: Sequence[Each]) -> Any:
        """See `Each.joined`."""
        return self.value


@dataclass(frozen=True, slots=True, eq=False)
class Several(Each):
    """A list of tensors: reference latents."""

    def fitted(self, batch: int, area: Area | None) -> Each:
        """See `Each.fitted`."""
        return Several([repeated(tensor, batch) for tensor in self.value])

    def joins(self, other: Each) -> bool:
        """See `Each.joins`."""
        return (
            isinstance(other, Several)
            and len(self.value) == len(other.value)
            and all(mine.shape == theirs.shape for mine, theirs in zip(self.value, other.value, strict=True))
        )

    def joined(self, others: Sequence[Each]) -> Any:
        """See `Each.joined`."""
        return [
            torch.cat([tensor, *(other.value[place] for other in others)]) for place, tensor in enumerate(self.value)
        ]


def _equal(one: Any, other: Any) -> bool:
    if isinstance(one, torch.Tensor) and isinstance(other, torch.Tensor):
        return bool(torch.equal(one, other))
    if isinstance(one, list | tuple) and isinstance(other, list | tuple):
        return len(one) == len(other) and all(_equal(a, b) for a, b in zip(one, other, strict=True))
    if isinstance(one, torch.Tensor) or isinstance(other, torch.Tensor):
        return False
    return bool(one == other)
