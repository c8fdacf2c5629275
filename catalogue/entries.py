"""The catalogue's entries: families, their variants, files, licences, LoRAs and controls, as frozen values.

Every fact that nobody could check is named in an entry's ``unverified`` (field -> why), and every field that has no
value is named in its ``absent`` (field -> why), so that no reader has to guess whether something was forgotten.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import Any, Literal

Commercial = Literal["yes", "conditional", "no"]
Role = Literal[
    "checkpoint",
    "diffusion_model",
    "text_encoder",
    "vae",
    "clip_vision",
    "style_model",
    "controlnet",
    "lora",
    "model_patch",
    "upscaler",
    "tokenizer",
    "depth_estimator",
    "pose_estimator",
    "person_detector",
]
Task = Literal[
    "text-to-image",
    "image-to-image",
    "inpaint",
    "outpaint",
    "edit",
    "control",
    "reference",
    "refine",
    "image-to-video",
    "image-to-layers",
    "text-to-layers",
]
Runs = Literal["comfyui", "remote", "third-party"]
"""Where a variant runs: ComfyUI's own nodes, an HTTP API, or a third party's node pack or server."""

ControlMethod = Literal["controlnet", "model_patch", "lora", "instruct_pix2pix"]
"""How a control enters the model: as a ControlNet, a model patch, a LoRA with a reference latent, or image
conditioning.
"""

_NONE: Mapping[str, str] = MappingProxyType({})


@dataclass(frozen=True, kw_only=True, slots=True)
class Licence:
    """A licence as far as it concerns someone who serves pictures with the model.

    ``commercial`` is about running the model: ``conditional`` means yes within ``conditions`` (a revenue limit, use
    restrictions that bite a business, a territory). ``outputs`` says what may be done with the pictures.
    """

    id: str
    name: str
    url: str
    commercial: Commercial
    conditions: str
    outputs: str
    territory: str
    source: str
    unverified: Mapping[str, str] = field(default_factory=lambda: _NONE)


@dataclass(frozen=True, kw_only=True, slots=True)
class ModelFile:
    """One file of weights, or of a tokenizer. ``folder`` is ComfyUI's folder name below ``models/``; ``size`` is in
    bytes.

    Where ``size`` is in ``unverified`` it is rounded (from a listing), and good for a progress bar only. ``family``
    is None for files that several families share.
    """

    id: str
    role: Role
    name: str
    folder: str
    url: str | None
    sha256: str | None
    size: int | None
    licence: Licence
    family: str | None
    gated: bool = False
    mirrors: tuple[str, ...] = ()
    precision: str | None = None
    note: str | None = None
    unverified: Mapping[str, str] = field(default_factory=lambda: _NONE)
    absent: Mapping[str, str] = field(default_factory=lambda: _NONE)

    @property
    def size_is_exact(self) -> bool:
        """Whether ``size`` is the number of bytes rather than a rounded figure."""
        return self.size is not None and "size" not in self.unverified

    @property
    def path(self) -> str:
        """Where ComfyUI looks for it, below its own folder: ``models/checkpoints/x.safetensors``."""
        return f"models/{self.folder}/{self.name}"


@dataclass(frozen=True, kw_only=True, slots=True)
class FileSet:
    """Files that together load a variant: one whole checkpoint, or a diffusion model with its encoders and VAE."""

    name: str
    files: tuple[ModelFile, ...]
    loaders: tuple[str, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class Latent:
    """The latent: ``channels`` x (height / ``downscale``) x (width / ``downscale``), and ``node``, which makes an
    empty one.

    ``node`` is None where the latent comes from an input picture; ``source`` then says which node makes it.
    """

    channels: int
    downscale: int
    node: str | None
    source: str | None = None
    frames: int | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Resolution:
    """Sizes in pixels: the native one, the multiple both sides need, the pixel range that works, and the recommended
    list.

    ``exact`` means that only ``sizes`` work well (HiDream-E1: 768x768).
    """

    width: int
    height: int
    multiple: int
    min_pixels: int
    max_pixels: int
    sizes: tuple[tuple[int, int], ...] = ()
    exact: bool = False

    def accepts(self, width: int, height: int) -> bool:
        """Whether a picture of this size is one that the model was made for."""
        if self.exact:
            return (width, height) in self.sizes
        fits = width % self.multiple == 0 and height % self.multiple == 0
        return fits and self.min_pixels <= width * height <= self.max_pixels

    def nearest(self, ratio: float) -> tuple[int, int]:
        """The recommended size closest to an aspect ratio (width / height): from ``sizes``, else of native area."""
        if self.sizes:
            return min(self.sizes, key=lambda size: (abs(_log_ratio(size[0] / size[1], ratio)), -size[0] * size[1]))
        area = self.width * self.height
        width = max(self.multiple, round((area * ratio) ** 0.5 / self.multiple) * self.multiple)
        height = max(self.multiple, round((area / ratio) ** 0.5 / self.multiple) * self.multiple)
        return width, height


def _log_ratio(first: float, second: float) -> float:
    from math import log

    return log(first / second)


@dataclass(frozen=True, kw_only=True, slots=True)
class Sampling:
    """What the authors (or ComfyUI's own templates) sample with.

    ``cfg2`` is the second scale of a DualCFGGuider. ``shift`` is the value for ``shift_node``; both are None where
    the model's own default is right. ``cfg_norm`` is the strength of CFGNorm where the templates have it. ``guider``
    names the way of sampling: ``ksampler``, ``turbo`` (SamplerCustom with SDTurboScheduler), ``refiner`` (two
    KSamplerAdvanced), ``basic`` (BasicGuider), ``dual_cfg`` (DualCFGGuider), ``video`` (linear cfg).
    """

    sampler: str
    scheduler: str
    steps: int
    steps_range: tuple[int, int]
    cfg: float
    guider: str = "ksampler"
    cfg2: float | None = None
    guidance: float | None = None
    shift: float | None = None
    shift_node: str | None = None
    cfg_norm: float | None = None
    source: str = ""

    def with_changes(self, changes: Mapping[str, Any]) -> Sampling:
        """The same with some fields replaced, as a LoRA or a control asks (``Lora.sampling``)."""
        changes = dict(changes)
        if "steps" in changes and "steps_range" not in changes:
            changes["steps_range"] = (changes["steps"], changes["steps"])
        return replace(self, **changes)


@dataclass(frozen=True, kw_only=True, slots=True)
class Variant:
    """One model of a family as people choose it. ``file_sets[0]`` is the recommended way to load it.

    ``sampling``, ``latent`` and ``resolution`` are None for models behind an API; ``absent`` then says so.
    ``text_encoder`` is the ``type`` of CLIPLoader and DualCLIPLoader, ``text_encoders`` are the kinds of encoder it
    needs (``clip_l``, ``t5xxl``). Variants that share ``architecture`` take each other's LoRAs and ControlNets.
    ``guidance_distilled`` means that guidance is trained in: cfg stays 1 and a negative prompt does nothing.
    ``comfyui`` is the oldest version known to run it (older ones were not looked at).
    """

    id: str
    family: str
    name: str
    architecture: str
    tasks: tuple[Task, ...]
    runs: Runs
    licence: Licence
    parameters: int | None
    file_sets: tuple[FileSet, ...]
    optional: tuple[ModelFile, ...]
    text_encoder: str | None
    text_encoders: tuple[str, ...]
    latent: Latent | None
    resolution: Resolution | None
    sampling: Sampling | None
    negative_prompt: bool
    guidance_distilled: bool
    comfyui: str | None
    notes: tuple[str, ...] = ()
    unverified: Mapping[str, str] = field(default_factory=lambda: _NONE)
    absent: Mapping[str, str] = field(default_factory=lambda: _NONE)

    @property
    def files(self) -> tuple[ModelFile, ...]:
        """The files of the recommended way to load it."""
        return self.file_sets[0].files if self.file_sets else ()


@dataclass(frozen=True, kw_only=True, slots=True)
class Lora:
    """A LoRA: for which variants, how strong, and the sampling it changes (Lightning: 4 steps at cfg 1)."""

    id: str
    family: str
    name: str
    file: ModelFile
    variants: tuple[str, ...]
    licence: Licence
    strength: float
    sampling: Mapping[str, Any]
    trigger: str | None = None
    notes: tuple[str, ...] = ()
    unverified: Mapping[str, str] = field(default_factory=lambda: _NONE)


@dataclass(frozen=True, kw_only=True, slots=True)
class Control:
    """A ControlNet, model patch or control LoRA. ``kinds`` are canny, depth, pose and so on; several for a union file.

    ``union_type`` maps a kind to the word that SetUnionControlNetType wants. ``needs_vae`` says whether
    ControlNetApplyAdvanced needs its ``vae`` input (the models whose control image is encoded).
    """

    id: str
    family: str
    name: str
    file: ModelFile
    variants: tuple[str, ...]
    licence: Licence
    method: ControlMethod
    kinds: tuple[str, ...]
    union_type: Mapping[str, str]
    strength: float
    needs_vae: bool
    sampling: Mapping[str, Any]
    comfyui: str
    notes: tuple[str, ...] = ()
    unverified: Mapping[str, str] = field(default_factory=lambda: _NONE)


@dataclass(frozen=True, kw_only=True, slots=True)
class Family:
    """Models that share an architecture's world: their text encoders, VAE and add-ons fit each other."""

    id: str
    name: str
    maker: str
    summary: str
    variants: tuple[Variant, ...]
    loras: tuple[Lora, ...]
    controls: tuple[Control, ...]
    files: tuple[ModelFile, ...]

    def variant(self, name: str) -> Variant:
        """The variant of that id; KeyError names what there is."""
        for variant in self.variants:
            if variant.id == name:
                return variant
        known = ", ".join(variant.id for variant in self.variants)
        raise KeyError(f"family '{self.id}' has no variant '{name}'; it has: {known}")
