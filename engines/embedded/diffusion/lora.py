"""Reading LoRA files: which weights of a model they change, and how.

A file names modules as its trainer did (kohya's, diffusers', PEFT's, LyCORIS'…). A family says under which names each
of its weights goes (`Places`, made in `lora_places`); here each name that is in the file becomes a `Change`. Behaviour
of ComfyUI 0.33.0 ``comfy/lora.py``: where two names lead to one weight the later one counts, keys without a place are
reported and skipped.
"""

from __future__ import annotations

import logging
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import torch

from .lora_changes import (
    Butterfly,
    Change,
    Difference,
    Generalised,
    Hadamard,
    Kronecker,
    LowRank,
    Orthogonal,
    Replacement,
)
from .weights import WeightPatch

LOG = logging.getLogger(__name__)

State = Mapping[str, torch.Tensor]


@dataclass(frozen=True, kw_only=True, slots=True)
class Place:
    """A weight of a model, or a part of one.

    Attributes:
        key: the tensor's name in the model's own file layout, ``input_blocks.1.1.proj_in.weight``.
        part: (dimension, start, length) where only that part is meant (one of q, k, v in a joined weight).
    """

    key: str
    part: tuple[int, int, int] | None = None


Places = Mapping[str, Place]
"""Name of a module in LoRA files -> where it is in the model. The order counts: later names win."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Adapter:
    """What one file does to one model.

    Attributes:
        changes: by place.
        unmatched: keys of the file that found no place, sorted.
    """

    changes: Mapping[Place, Change]
    unmatched: Sequence[str]


def weight_patches(changes: Mapping[Place, Change], names: Collection[str], strength: float) -> list[WeightPatch]:
    """The changes that concern tensors of these names, for a `Component`."""
    return [
        WeightPatch(
            name=place.key,
            apply=partial(_changed, place, change, strength),
            shape=getattr(change, "shape", None) if place.part is None else None,
        )
        for place, change in changes.items()
        if place.key in names
    ]


def _changed(place: Place, change: Change, strength: float, weight: torch.Tensor) -> torch.Tensor:
    """The weight with a change; one that does not fit is logged and left out, as in ComfyUI."""
    try:
        if place.part is None:
            return change.applied(weight, strength)
        whole = weight.clone()
        part = whole.narrow(*place.part)
        part.copy_(change.applied(part, strength))
    except (ValueError, RuntimeError) as error:
        LOG.warning("LoRA: %s is left as it is: %s", place.key, str(error).splitlines()[0])
        return weight
    return whole


def read(state: State, places: Places) -> Adapter:
    """What a file's tensors do to a model with these places."""
    return _Reader(renamed(state)).read(places)


class _Reader:
    """Finds changes by name and remembers which tensors it used."""

    def __init__(self, state: State) -> None:
        self._state = state
        self._used: set[str] = set()

    def read(self, places: Places) -> Adapter:
        changes: dict[Place, Change] = {}
        # names that no tensor starts with are most of a model's: they are left out before the formats are tried
        stems = _stems(self._state)
        for name, place in places.items():
            if name in stems:
                changes.update(self._changes(name, place))
        return Adapter(changes=changes, unmatched=sorted(set(self._state) - self._used))

    def _changes(self, name: str, place: Place) -> Iterable[tuple[Place, Change]]:
        alpha = self._take(f"{name}.alpha")
        scale = alpha.item() if alpha is not None else None
        magnitude = self._take(f"{name}.dora_scale")
        for form in (self._low_rank, self._hadamard, self._kronecker, self._generalised, self._rotation):
            change = form(name, scale, magnitude)
            if change is not None:
                yield place, change
        for suffix, kind in (("w_norm", Difference), ("diff", Difference)):
            tensor = self._take(f"{name}.{suffix}")
            if tensor is not None:
                yield place, kind(tensor=tensor)
        for suffix in ("b_norm", "diff_b"):
            tensor = self._take(f"{name}.{suffix}")
            if tensor is not None:
                yield Place(key=f"{place.key.removesuffix('.weight')}.bias"), Difference(tensor=tensor)
        tensor = self._take(f"{name}.set_weight")
        if tensor is not None:
            yield place, Replacement(tensor=tensor)

    def _take(self, key: str) -> torch.Tensor | None:
        tensor = self._state.get(key)
        if tensor is not None:
            self._used.add(key)
        return tensor

    def _low_rank(self, name: str, alpha: float | None, magnitude: torch.Tensor | None) -> Change | None:
        for up_suffix, down_suffix in PAIRS:
            up = self._take(f"{name}{up_suffix}")
            if up is None:
                continue
            down = self._take(f"{name}{down_suffix}")
            if down is None:
                LOG.warning("LoRA: %s%s has no %s", name, up_suffix, down_suffix)
                return None
            mid = self._take(f"{name}.lora_mid.weight") if up_suffix == PAIRS[0][0] else None
            shape = self._take(f"{name}.reshape_weight")
            sides = [int(side) for side in shape.tolist()] if shape is not None else None
            return LowRank(up=up, down=down, alpha=alpha, mid=mid, magnitude=magnitude, shape=sides)
        return None

    def _hadamard(self, name: str, alpha: float | None, magnitude: torch.Tensor | None) -> Change | None:
        a1, b1, a2, b2, core1, core2 = (
            self._take(f"{name}.hada_{part}") for part in ("w1_a", "w1_b", "w2_a", "w2_b", "t1", "t2")
        )
        if a1 is None or b1 is None or a2 is None or b2 is None:
            return None
        factors = {"a1": a1, "b1": b1, "a2": a2, "b2": b2}
        return Hadamard(**factors, alpha=alpha, core1=core1, core2=core2, magnitude=magnitude)

    def _kronecker(self, name: str, alpha: float | None, magnitude: torch.Tensor | None) -> Change | None:
        parts = ("w1", "w2", "w1_a", "w1_b", "w2_a", "w2_b", "t2")
        whole1, whole2, a1, b1, a2, b2, core2 = (self._take(f"{name}.lokr_{part}") for part in parts)
        if whole1 is None and whole2 is None and a1 is None and a2 is None:
            return None
        first = {"whole1": whole1, "a1": a1, "b1": b1}
        second = {"whole2": whole2, "a2": a2, "b2": b2, "core2": core2}
        return Kronecker(**first, **second, alpha=alpha, magnitude=magnitude)

    def _generalised(self, name: str, alpha: float | None, magnitude: torch.Tensor | None) -> Change | None:
        a1, a2, b1, b2 = (self._take(f"{name}.{part}.weight") for part in ("a1", "a2", "b1", "b2"))
        if a1 is None or a2 is None or b1 is None or b2 is None:
            return None
        return Generalised(a1=a1, a2=a2, b1=b1, b2=b2, alpha=alpha, magnitude=magnitude)

    def _rotation(self, name: str, alpha: float | None, magnitude: torch.Tensor | None) -> Change | None:
        blocks = self._take(f"{name}.oft_blocks")
        if blocks is None or blocks.ndim not in (3, 4):
            return None
        rescale = self._take(f"{name}.rescale")
        kind = Orthogonal if blocks.ndim == 3 else Butterfly
        return kind(blocks=blocks, rescale=rescale, alpha=alpha, magnitude=magnitude)


PAIRS = (
    (".lora_up.weight", ".lora_down.weight"),
    ("_lora.up.weight", "_lora.down.weight"),
    (".lora_B.weight", ".lora_A.weight"),
    (".lora.up.weight", ".lora.down.weight"),
    (".lora_B", ".lora_A"),
    (".lora_linear_layer.up.weight", ".lora_linear_layer.down.weight"),
    (".lora_B.default.weight", ".lora_A.default.weight"),
)
"""How trainers call the two factors: kohya, diffusers (three ways), PEFT, Genmo, and adapters called "default"."""

_SUFFIXES = tuple(
    sorted(
        {
            *(suffix for pair in PAIRS for suffix in pair),
            *(f".{name}" for name in ("alpha", "dora_scale", "reshape_weight", "lora_mid.weight")),
            *(f".{name}" for name in ("w_norm", "b_norm", "diff", "diff_b", "set_weight", "oft_blocks", "rescale")),
            *(f".hada_{name}" for name in ("w1_a", "w1_b", "w2_a", "w2_b", "t1", "t2")),
            *(f".lokr_{name}" for name in ("w1", "w2", "w1_a", "w1_b", "w2_a", "w2_b", "t2")),
            *(f".{name}.weight" for name in ("a1", "a2", "b1", "b2")),
        },
        key=len,
        reverse=True,
    )
)


def _stems(state: State) -> set[str]:
    """What is left of the keys' names without the suffixes that the formats use."""
    return {key[: -len(suffix)] for key in state for suffix in _SUFFIXES if key.endswith(suffix)}


def renamed(state: State) -> State:
    """The tensors under names that `read` knows: some trainers have ways of their own.

    Black Forest Labs' control LoRAs (FLUX.1 Canny and Depth) carry whole norms and widen ``img_in``; USO's carry bare
    factors for FLUX.1's joined layers.
    """
    if "img_in.lora_A.weight" in state and "single_blocks.0.norm.key_norm.scale" in state:
        named = {f"diffusion_model.{_black_forest(key)}": tensor for key, tensor in state.items()}
        sides = (state["img_in.lora_B.weight"].shape[0], state["img_in.lora_A.weight"].shape[1])
        named["diffusion_model.img_in.reshape_weight"] = torch.tensor(sides)
        return named
    if any(".processor.qkv_lora" in key for key in state):
        return {f"diffusion_model.{_uso(key)}": tensor for key, tensor in state.items()}
    return state


def _black_forest(key: str) -> str:
    return key.replace(".lora_B.bias", ".diff_b").replace("_norm.scale", "_norm.set_weight")


_USO = (
    (".down.weight", ".lora_down.weight"),
    (".up.weight", ".lora_up.weight"),
    (".qkv_lora2.", ".txt_attn.qkv."),
    (".qkv_lora1.", ".img_attn.qkv."),
    (".proj_lora1.", ".img_attn.proj."),
    (".proj_lora2.", ".txt_attn.proj."),
    (".qkv_lora.", ".linear1_qkv."),
    (".proj_lora.", ".linear2."),
    (".processor.", "."),
)


def _uso(key: str) -> str:
    for old, new in _USO:
        key = key.replace(old, new)
    return key
