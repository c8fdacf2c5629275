"""From files to values: whole checkpoints, diffusion models, text encoders and autoencoders.

What was made of a file is remembered while it is unchanged, so that what `memory` has built serves the next job too.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import torch

from .. import families
from ..problems import NodeProblem
from .encoders import Clip, Vae
from .safetensors_file import read_weights
from .values import Model, Network
from .weights import Component, Deferred, Weights

REMEMBERED = 32  # values; each costs little beyond the addresses of a file

# Marks beside the denoiser's tensors that say how it was trained.
_MARKS = ("v_pred", "ztsnr", "edm_mean", "edm_std", "edm_vpred.sigma_max", "edm_vpred.sigma_min")

T = TypeVar("T")


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Checkpoint:
    """What a whole checkpoint holds; None for what it lacks."""

    model: Model
    clip: Clip | None
    vae: Vae | None


_remembered: OrderedDict[Any, Any] = OrderedDict()
_lock = threading.Lock()


def remembered(paths: Sequence[Path], kind: str, make: Callable[[], T], *more: Any) -> T:
    """What `make` gives for these files, or what it gave before while they are unchanged; `more` tells values apart."""
    stamps = tuple((str(path), status.st_size, status.st_mtime_ns) for path in paths for status in (path.stat(),))
    key = (kind, stamps, more)
    with _lock:
        if key in _remembered:
            _remembered.move_to_end(key)
            found: T = _remembered[key]
            return found
    made = make()
    with _lock:
        _remembered[key] = made
        while len(_remembered) > REMEMBERED:
            _remembered.popitem(last=False)
    return made


def weights_at(path: Path) -> Weights:
    """The tensors of a file. Raises `NodeProblem` where it is no whole safetensors file."""
    return remembered([path], "weights", lambda: read_weights(path))


def checkpoint(path: Path) -> Checkpoint:
    """Everything in a whole checkpoint.

    Raises:
        NodeProblem: it is broken, or holds no diffusion model of a known family.
    """
    return remembered([path], "checkpoint", lambda: _checkpoint(weights_at(path)))


def _checkpoint(weights: Weights) -> Checkpoint:
    denoiser = _denoiser(weights)
    family, network = families.network_of(denoiser)
    coder_weights = weights.below(*families.AUTOENCODER_PREFIXES)
    return Checkpoint(
        model=model_of(network, denoiser),
        clip=family.checkpoint_text(weights, network),
        vae=vae_of(coder_weights) if len(coder_weights) else None,
    )


def _denoiser(weights: Weights) -> Weights:
    """The denoiser's tensors without prefix, with the marks that say how it was trained."""
    own = weights.below(*families.DENOISER_PREFIXES)
    marks = {name: weights.entry(name) for name in _MARKS if name in weights}
    return own.with_tensors(marks) if marks else own


def diffusion_model(path: Path, dtype: torch.dtype | None = None) -> Model:
    """The denoiser in a file of its own, or in a whole checkpoint.

    Args:
        dtype: what the weights are kept in; None leaves the choice to the machine.

    Raises:
        NodeProblem: see `checkpoint`.
    """

    def make() -> Model:
        denoiser = _denoiser(weights_at(path))
        return model_of(families.network_of(denoiser)[1], denoiser, dtype=dtype)

    return remembered([path], "model", make, dtype)


def model_of(network: Network, weights: Weights, *, dtype: torch.dtype | None = None) -> Model:
    """The Model of a described network and its tensors."""
    component = Component(weights=weights, build=network.build, role="network", dtype=dtype, dtypes=network.dtypes)
    return Model(
        network=network,
        component=component,
        levels=network.levels,
        prediction=network.prediction,
        latent=network.latent,
    )


def text_encoders(paths: Sequence[Path], kind: str) -> Clip:
    """The text encoders in these files, for a loader's type. Raises `NodeProblem` where they are not that."""
    return remembered(paths, "text", lambda: families.text_of([weights_at(path) for path in paths], kind), kind)


def autoencoder(path: Path) -> Vae:
    """The autoencoder in a file of its own, or in a whole checkpoint. Raises `NodeProblem` where there is none."""

    def make() -> Vae:
        weights = weights_at(path)
        return vae_of(weights.below(*families.AUTOENCODER_PREFIXES, ""))

    return remembered([path], "vae", make)


# What a TAESD's halves were trained to, by the name that VAELoader lists: scale and shift of the network's latents.
_TINY_SCALES = {
    "taesd": (0.18215, 0.0),
    "taesdxl": (0.13025, 0.0),
    "taesd3": (1.5305, 0.0609),
    "taef1": (0.3611, 0.1159),
}


def tiny_autoencoder(encoder: Path, decoder: Path, name: str) -> Vae:
    """A TAESD whose halves are files of their own."""

    def make() -> Vae:
        if name not in _TINY_SCALES:
            raise NodeProblem(
                f"the embedded engine has no VAE {name!r}", remedy=f"use one of {', '.join(_TINY_SCALES)}, or a file"
            )
        scale, shift = _TINY_SCALES[name]
        halves: dict[str, torch.Tensor | Deferred] = {}
        for side, path in (("taesd_encoder", encoder), ("taesd_decoder", decoder)):
            half = weights_at(path)
            halves.update({f"{side}.{own}": half.entry(own) for own in half})
        halves["vae_scale"], halves["vae_shift"] = torch.tensor(scale), torch.tensor(shift)
        return vae_of(Weights(halves, source=name))

    return remembered([encoder, decoder], "tiny", make, name)


def vae_of(weights: Weights) -> Vae:
    """The Vae of an autoencoder's tensors."""
    coder = families.coder_of(weights)
    component = Component(
        weights=weights, build=coder.build, role="autoencoder", dtypes=(torch.bfloat16, torch.float32)
    )
    return Vae(coder=coder, component=component)


def check_whole(component: Component) -> None:
    """Raises `NodeProblem` that names the first tensor with a NaN; does nothing where there is none. Reads them all."""
    for name in component.weights:
        tensor = component.weights[name]
        if (
            tensor.is_floating_point()
            and not bool(torch.isfinite(tensor.float().sum()))
            and bool(tensor.float().isnan().any())
        ):
            raise NodeProblem(
                f"model {component.source!r} is damaged: tensor {name!r} has numbers that are none (NaN)",
                remedy="fetch it again",
            )
