"""One module a model family: its networks built from a file's tensors, and its text encoders.

A family is a module of this package with ``FAMILY``; `NAMES` lists them in the order in which a file is tried. They are
imported when a file is loaded, not before.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from ..problems import NodeProblem

if TYPE_CHECKING:
    from ..diffusion.encoders import Clip, Coder
    from ..diffusion.values import Network
    from ..diffusion.weights import Weights

# In the order in which a file is tried; each name is a module. A more particular family comes before a more general
# one.
NAMES: tuple[str, ...] = ("demo", "flux", "hidream", "hunyuan_image", "qwen_image", "sd3", "svd", "stable_diffusion")

# What a denoiser's tensors may have before their names, in whole checkpoints and in split files.
DENOISER_PREFIXES = ("model.diffusion_model.", "model.model.", "net.", "diffusion_model.", "")
AUTOENCODER_PREFIXES = ("first_stage_model.", "vae.")


@dataclass(frozen=True, kw_only=True, slots=True)
class Family:
    """One model family.

    Attributes:
        name: the module's.
        denoiser: takes the denoiser's tensors without prefix; None where they are not this family's. Looks at names and
            shapes only.
        checkpoint_text: takes a whole checkpoint and its network; the text encoders in it, None where there are none.
        texts: the types of the text encoder loaders (``flux``, ``sd3``…) to functions of (files, type).
        autoencoder: takes an autoencoder's tensors without prefix; None where it is not its kind.
    """

    name: str
    denoiser: Callable[[Weights], Network | None] = lambda weights: None
    checkpoint_text: Callable[[Weights, Network], Clip | None] = lambda weights, network: None
    texts: Mapping[str, Callable[[Sequence[Weights], str], Clip]] = field(default_factory=dict)
    autoencoder: Callable[[Weights], Coder | None] = lambda weights: None


def families() -> Iterator[Family]:
    """Every family, in the order of `NAMES`."""
    for name in NAMES:
        family: Family = importlib.import_module(f".{name}", __package__).FAMILY
        yield family


def network_of(weights: Weights) -> tuple[Family, Network]:
    """The family that a denoiser's tensors (without prefix) belong to, and the network described.

    Raises:
        NodeProblem: no family knows them.
    """
    for family in families():
        network = family.denoiser(weights)
        if network is not None:
            return family, network
    raise NodeProblem(
        f"{weights.source!r} holds no diffusion model that the embedded engine knows",
        remedy="choose another file, or run it on a ComfyUI",
    )


def text_of(files: Sequence[Weights], kind: str) -> Clip:
    """The text encoders in `files`, for a text encoder loader's `kind`.

    Raises:
        NodeProblem: no family has that kind, or the files are not its encoders.
    """
    kinds: set[str] = set()
    for family in families():
        build = family.texts.get(kind)
        if build is not None:
            return build(files, kind)
        kinds.update(family.texts)
    raise NodeProblem(
        f"the embedded engine has no text encoder of type {kind!r}",
        remedy=f"use one of {', '.join(sorted(kinds))}, or run it on a ComfyUI",
    )


def coder_of(weights: Weights) -> Coder:
    """The autoencoder in these tensors (without prefix). Raises `NodeProblem` where no family knows them."""
    for family in families():
        coder = family.autoencoder(weights)
        if coder is not None:
            return coder
    raise NodeProblem(
        f"{weights.source!r} holds no autoencoder that the embedded engine knows",
        remedy="choose a VAE file, or run it on a ComfyUI",
    )
