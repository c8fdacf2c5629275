"""ControlNets: what a CONTROL_NET wire carries, and how it acts in a run.

A `ControlKind` describes one family's ControlNets, as `Network` describes denoisers. To add one, write a function
``control(weights) -> ControlNet | None`` in a module of ``families`` and name the module in `MODULES`; it looks at
names and shapes only. What `ControlKind.residuals` returns goes to the base network's `predict` as ``step.control``.

Behaviour of ComfyUI 0.33.0 ``comfy/controlnet.py``: the map is cut from the middle to the latent's ratio, a strength
multiplies what is added, several ControlNets' outputs are summed, and outside its part of the noise levels one is
silent.
"""

from __future__ import annotations

import importlib
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch

from ..problems import NodeProblem
from ..resize import repeat_to_batch, resize
from .encoders import Vae
from .latent_format import LatentFormat
from .values import Control, Model, Residuals, RunningControl, Step
from .weights import Component, State, Weights

# Modules of ``families`` with a function ``control``, in the order in which a file is tried.
MODULES: tuple[str, ...] = ("demo_control", "unet_control", "flux_control", "mmdit_control", "qwen_image")


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class ControlInputs:
    """What a ControlNet is given for one step.

    Attributes:
        x: the batch of latents as the network takes them (after `Prediction.entering`), on the module's device in its
            dtype: [batch, channels, (frames,) rows, columns].
        timestep: [batch], as the network takes it.
        hint: the map [batch, channels, rows, columns] in 0..1, or its latent, as `ControlKind` says.
        told: what the base network is told ("text" and so on), on the device, in the dtype.
        options: of the ControlNet: "control_type"…
        model: the base model.
    """

    x: torch.Tensor
    timestep: torch.Tensor
    hint: torch.Tensor
    told: Mapping[str, Any]
    options: Mapping[str, Any]
    model: Model


class ControlKind(ABC):
    """One family's ControlNets, described; holds no tensors.

    Attributes:
        factor: pixels of the map for one of the latent; where the map goes through a VAE, its latent's.
        latent: where the map goes through the base model's VAE, how its latent is scaled; else None.
        with_mask: whether a mask is joined to the map's latent (inpainting ControlNets).
        resized_by: the method.
        averaged: whether each output is replaced by its mean over the picture (``…_shuffle``).
    """

    factor: int = 8
    latent: LatentFormat | None = None
    with_mask: bool = False
    resized_by: str = "nearest-exact"
    averaged: bool = False

    @abstractmethod
    def build(self, state: State) -> Any:
        """The module of these tensors (`Component.build`)."""

    @abstractmethod
    def residuals(self, module: Any, inputs: ControlInputs) -> Residuals:
        """What is added to the base network at strength 1."""

    def prepared(self, hint: torch.Tensor) -> torch.Tensor:
        """The map [batch, channels, rows, columns] at its size, before it is encoded."""
        return hint

    def factor_of(self, strength: float) -> float:
        """By how much the outputs are multiplied."""
        return strength

    def fitted(self, net: ControlNet, model: Model) -> Component:
        """The component to build for a base model: its own, unless it borrows weights (control LoRAs)."""
        return net.component


@dataclass(frozen=True, kw_only=True, slots=True, eq=False, weakref_slot=True)
class ControlNet:
    """What a CONTROL_NET wire carries."""

    kind: ControlKind
    component: Component
    options: Mapping[str, Any] = field(default_factory=dict)

    def with_options(self, **options: Any) -> ControlNet:
        """The same with these options."""
        return replace(self, options={**self.options, **options})

    @property
    def source(self) -> str:
        """The file, for messages."""
        return self.component.source

    def resident_bytes(self) -> int:
        """See `Component.resident_bytes`."""
        return self.component.resident_bytes()


def controlnet_of(weights: Weights) -> ControlNet:
    """The ControlNet in a file. Raises `NodeProblem` where it holds none that the engine knows."""
    for name in MODULES:
        module = importlib.import_module(f"..families.{name}", __package__)
        found: ControlNet | None = module.control(weights)
        if found is not None:
            return found
    raise NodeProblem(
        f"{weights.source!r} holds no ControlNet that the embedded engine knows",
        remedy="choose another file, or run it on a ComfyUI",
    )


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class AppliedControl:
    """A ControlNet with its map: a condition's option "control" (a `values.Control`).

    Attributes:
        image: the map [batch, height, width, channels] in 0..1.
        start, end: the parts of the run, 0..1, between which it acts.
        vae: encodes the map where the kind wants it.
        masks: [batch, 1, height, width] each, joined to the map's latent.
    """

    net: ControlNet
    image: torch.Tensor
    strength: float
    start: float = 0.0
    end: float = 1.0
    vae: Vae | None = None
    masks: tuple[torch.Tensor, ...] = ()
    previous: Control | None = None

    def started(self, model: Model) -> RunningControl:
        """See `values.Control.started`."""
        kind = self.net.kind
        if kind.latent is not None and self.vae is None:
            raise NodeProblem(
                f"the ControlNet {self.net.source!r} reads its picture through a VAE and none is wired",
                remedy="wire the model's VAE to the node that applies it",
            )
        return _Running(control=self, model=model, component=kind.fitted(self.net, model))


class _Running:
    """An `AppliedControl` in a run."""

    def __init__(self, *, control: AppliedControl, model: Model, component: Component) -> None:
        self._control = control
        self._model = model
        self._component = component
        self._from = model.levels.at_percent(control.start)
        self._to = model.levels.at_percent(control.end)
        self._previous = control.previous.started(model) if control.previous is not None else None
        self._hint: torch.Tensor | None = None
        self._size: torch.Size | None = None

    def residuals(self, x: torch.Tensor, step: Step, told: Mapping[str, Any]) -> Residuals | None:
        """See `values.RunningControl.residuals`."""
        from . import memory

        before = self._previous.residuals(x, step, told) if self._previous is not None else None
        sigma = float(step.sigma[0])
        if sigma > self._from or sigma < self._to:
            return before
        loaded = memory.store().loaded(self._component)
        if self._hint is None or self._size != x.shape[-2:]:
            self._hint = self._made(x).to(loaded.device, loaded.dtype)
            self._size = x.shape[-2:]
        inputs = ControlInputs(
            x=self._model.prediction.entering(step.sigma, x).to(loaded.device, loaded.dtype),
            timestep=self._model.levels.timestep(step.sigma.cpu()).to(loaded.device, loaded.dtype),
            hint=spread(self._hint, x.shape[0], len(step.kinds)),
            told={name: _cast(value, loaded.device, loaded.dtype) for name, value in told.items()},
            options=self._control.net.options,
            model=self._model,
        )
        kind = self._control.net.kind
        mine = kind.residuals(loaded.module, inputs)
        return summed(_weighted(mine, kind, self._control.strength), before)

    def _made(self, x: torch.Tensor) -> torch.Tensor:
        control, kind = self._control, self._control.net.kind
        encoded = kind.latent is not None and control.vae is not None
        factor = kind.factor * (control.vae.coder.factor if encoded and control.vae is not None else 1)
        width, height = x.shape[-1] * factor, x.shape[-2] * factor
        hint = kind.prepared(resize(control.image.movedim(-1, 1), width, height, kind.resized_by, "center"))
        if encoded and control.vae is not None and kind.latent is not None:
            from .autoencoding import encode

            hint = kind.latent.enter(encode(control.vae, hint.movedim(1, -1)))
        masks = control.masks or ((torch.ones(1, 1, 1, 1),) if kind.with_mask else ())
        parts = [hint]
        for mask in masks:
            part = resize(mask.to(hint), hint.shape[-1], hint.shape[-2], kind.resized_by, "center")
            if part.ndim < hint.ndim:
                part = part.unsqueeze(2).repeat(1, 1, hint.shape[2], 1, 1)
            parts.append(repeat_to_batch(part, hint.shape[0]))
        return torch.cat(parts, dim=1)


def _cast(value: Any, device: torch.device, dtype: torch.dtype) -> Any:
    if not isinstance(value, torch.Tensor):
        return value
    return value.to(device, dtype) if value.is_floating_point() else value.to(device)


def spread(hint: torch.Tensor, batch: int, conditions: int) -> torch.Tensor:
    """The maps for a batch that holds the latents once for each condition: one map serves all of them, of several
    each latent has its own, from the first again where they are fewer.
    """
    if hint.shape[0] in (1, batch):
        return hint.expand(batch, *hint.shape[1:])
    return repeat_to_batch(hint, batch // conditions).repeat(conditions, *([1] * (hint.ndim - 1)))


def _weighted(residuals: Residuals, kind: ControlKind, strength: float) -> dict[str, list[torch.Tensor | None]]:
    factor = kind.factor_of(strength)
    return {
        place: [None if tensor is None else _averaged(tensor, kind) * factor for tensor in tensors]
        for place, tensors in residuals.items()
    }


def _averaged(tensor: torch.Tensor, kind: ControlKind) -> torch.Tensor:
    return tensor.mean(dim=(2, 3), keepdim=True).expand_as(tensor) if kind.averaged else tensor


def summed(mine: Residuals, before: Residuals | None) -> Residuals:
    """Both added up, place by place."""
    if before is None:
        return mine
    return {place: _added(mine.get(place, ()), before.get(place, ())) for place in dict.fromkeys((*mine, *before))}


def _added(mine: Sequence[torch.Tensor | None], before: Sequence[torch.Tensor | None]) -> list[torch.Tensor | None]:
    added: list[torch.Tensor | None] = []
    for number in range(max(len(mine), len(before))):
        tensors = [list_[number] for list_ in (before, mine) if number < len(list_)]
        present = [tensor for tensor in tensors if tensor is not None]
        added.append(sum(present[1:], start=present[0]) if present else None)
    return added
