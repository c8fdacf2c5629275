"""What travels over MODEL, CLIP, VAE, CONDITIONING, LATENT, CONTROL_NET, GUIDER, SAMPLER and NOISE wires.

Every value is immutable. A node that changes one makes a new value (`model.with_levels(...)`); weights stay shared:
what a value holds is a `Component` (memory-mapped tensors and the way to build a module), and `memory` keeps the built
modules.

How to add a family
-------------------
1. Write ``families/<name>.py`` with ``FAMILY = Family(name=..., denoiser=..., ...)`` (see ``families/__init__.py``)
   and put the name into ``families.NAMES``, in the place where its state dict must be tried. Importing it may import
   torch, but diffusers and transformers only inside functions.
2. ``denoiser(weights)`` looks at names and shapes of the denoiser's tensors (prefixes such as
   ``model.diffusion_model.`` are gone) and returns None, or a `Network` subclass: a cheap description (levels,
   prediction, latent format, variant) that holds no tensor. The Model is put together by `loading.model_of`.
3. ``Network.build(state)`` makes the module: read the configuration from `state`'s shapes, build diffusers' class
   within ``torch.device("meta")``, convert the names, `weights.fill` it (no copies; splitting a fused tensor is a
   view). It is called again for a patched Model: LoRA patches are applied to the tensors in the file's own names
   before `build` sees them, so a patch may even widen a layer. What `build` returns is kept by `memory`; it is a torch
   module.
4. ``Network.told(condition, asked)`` says what the network is told from one condition: a dict of `told.Each`, `Text`,
   `Shaped`, `Same` or `Several` by the names that `predict` knows. Name "text" for the text [batch, tokens, width] and
   "concat" for what is joined to the latent by channels (`concat.joined_channels` makes it the way inpaint models need
   it); the sampler joins "concat" to x itself. Everything else is the family's own affair: "pooled", "guidance",
   "references" (reference latents of Kontext or Qwen-Image-Edit), "mask"...
5. ``Network.predict(module, x, timestep, told, step)`` is one forward pass: x and tensors in `told` are on the module's
   device in its dtype, batch is the conditions' (positive and negative joined where they fit). timestep is float32
   [batch], `levels.timestep(sigma)`. ``step.control`` are a ControlNet's residuals, ``step.patches`` a Model's own
   patches by place (`Model.with_patch`), `step.sigmas` the run's levels. Return the raw output, float32 or the
   module's dtype.
6. Text: ``Family.texts`` maps the types of CLIPLoader, DualCLIPLoader… to a function (files, type) -> Clip. A
   `TextEncoder` tokenises and encodes into a `Condition`; what sampling needs besides goes into its options under
   ComfyUI's names.
7. Autoencoder: ``Family.autoencoder(weights)`` returns None or a `Coder`. AutoencoderKL and TAESD exist already.
8. LoRA: `Network.aliases` maps other names (diffusers', peft's) to the file's; see `Alias`. ControlNet: `Control`.

Options of a condition have ComfyUI's names (its ``conditioning[i][1]``): ``pooled_output``, ``width``, ``height``,
``crop_w``, ``crop_h``, ``target_width``, ``target_height``, ``aesthetic_score``, ``guidance``, ``attention_mask``,
``reference_latents``, ``concat_latent_image``, ``concat_mask``, ``area``, ``mask``, ``mask_strength``,
``set_area_to_bounds``, ``strength``, ``start_percent``, ``end_percent``, ``control`` (a `Control`),
``control_apply_to_uncond``, ``conditioning_llama3``…
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

import torch

from ..problems import NodeProblem
from ..samplers import Walk
from ..sigmas import NoiseLevels
from .latent_format import LatentFormat
from .prediction import Prediction
from .told import Each
from .weights import Component, State, WeightPatch, Weights

# LATENT is a dict as in ComfyUI: "samples" float32 [batch, channels, (frames,) rows, columns], unscaled, and perhaps
# "noise_mask", "batch_index", "type", "downscale_ratio_spacial".
Latent = Mapping[str, Any]


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Condition:
    """One of the conditions on a CONDITIONING wire.

    Attributes:
        text: [1, tokens, width]; of families whose text has other parts, the main one.
        options: everything else, by ComfyUI's names.
    """

    text: torch.Tensor
    options: Mapping[str, Any] = field(default_factory=dict)

    def get(self, name: str, default: Any = None) -> Any:
        """An option, or `default`."""
        return self.options.get(name, default)

    def with_options(self, **options: Any) -> Condition:
        """The same with these options."""
        return replace(self, options={**self.options, **options})


Conditioning = Sequence[Condition]  # what a CONDITIONING wire carries


def with_options(conditioning: Conditioning, **options: Any) -> tuple[Condition, ...]:
    """Every condition with these options."""
    return tuple(condition.with_options(**options) for condition in conditioning)


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Asked:
    """The run that a network is told about (`Network.told`).

    Attributes:
        noise: [batch, channels, (frames,) rows, columns]; its shape is the run's.
        latent: where the run begins, in the network's scale (zeros for an empty one).
        mask: where new picture may appear [batch, 1, rows, columns], or None.
        kind: "positive", "negative", "middle"… which of the guider's conditionings it is.
        device: where tensors are wanted.
    """

    noise: torch.Tensor
    latent: torch.Tensor
    mask: torch.Tensor | None
    kind: str
    device: torch.device
    seed: int = 0


# What a ControlNet hands to `predict`, by the number of the block: a U-Net's "input"[i] is added to what input block i
# gives, "output"[i] to what it hands over to the way up, "middle"[0] in the middle; None adds nothing.
# Transformers have "input" and "output" by the number of the block too.
Residuals = Mapping[str, Sequence[torch.Tensor | None]]


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Step:
    """What a network sees of the step it predicts for.

    Attributes:
        sigma: the level of each latent of the batch, [batch].
        sigmas: the levels of the whole run.
        kinds: for each part of the batch which conditioning it is of: 0 positive, 1 negative… (``cond_or_uncond``).
        control: residuals of the ControlNets, or None.
        patches: the Model's, by place.
    """

    sigma: torch.Tensor
    sigmas: torch.Tensor
    kinds: tuple[int, ...] = (0,)
    control: Residuals | None = None
    patches: Mapping[str, tuple[Any, ...]] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True, slots=True)
class Alias:
    """A tensor of the denoiser, or a part of it, that LoRA files call otherwise.

    Attributes:
        name: in the component's weights: "input_blocks.1.1.proj_in.weight".
        dimension, start, length: the part, where several are fused: rows start..start+length of dimension 0.
    """

    name: str
    dimension: int = 0
    start: int = 0
    length: int | None = None


class Network(ABC):
    """One family's denoiser, described: see the module's "How to add a family". Holds no tensors.

    Attributes:
        family, variant: names: "stable_diffusion", "sdxl"…
        latent: its latents.
        levels: its noise levels, which a model sampling node may replace.
        prediction: what it predicts.
        text_width: of what it is told, None where that varies; a text of another width is an error that says so.
        dtypes: what a GPU may compute in, the best first.
    """

    family: str
    variant: str
    latent: LatentFormat
    levels: NoiseLevels
    prediction: Prediction
    text_width: int | None = None
    dtypes: tuple[torch.dtype, ...] = (torch.float16, torch.bfloat16, torch.float32)

    @abstractmethod
    def build(self, state: State) -> Any:
        """The module of these tensors (`Component.build`)."""

    @abstractmethod
    def told(self, condition: Condition, asked: Asked) -> dict[str, Each]:
        """What the network is told from a condition."""

    @abstractmethod
    def predict(
        self, module: Any, x: torch.Tensor, timestep: torch.Tensor, told: Mapping[str, Any], step: Step
    ) -> torch.Tensor:
        """One forward pass."""

    def entering(self, condition: Condition, asked: Asked) -> Condition:
        """A chance to add facts to a condition before `told` and the ControlNets see it."""
        return condition

    def scaled_inpaint(
        self, model: Model, sigma: torch.Tensor, noise: torch.Tensor, latent: torch.Tensor
    ) -> torch.Tensor:
        """What is put where a mask keeps the picture, at that level."""
        level = sigma.reshape(-1, *([1] * (noise.ndim - 1)))
        return model.prediction.noisy(level, noise, latent)

    def aliases(self, weights: Weights) -> Mapping[str, Alias]:
        """Other names of the tensors in LoRA files (diffusers' dotted ones), without ``lora_unet_``, ``transformer.``,
        ``unet.`` before and ``.weight`` behind them."""
        return {}

    def reshaped(self, shapes: Mapping[str, Sequence[int]]) -> Network:
        """The network whose tensors of these names got other shapes by a patch (FLUX.1's control LoRAs)."""
        return self

    def activation_bytes(self, shape: Sequence[int], item: int) -> int:
        """What one forward pass of a batch of that shape needs besides the weights, estimated; item is a number's
        size."""
        area = shape[0]
        for side in shape[2:]:
            area *= side
        return area * item * 4096


# Asks the model once more, with further patches by place.
Again = Callable[[Mapping[str, tuple[Any, ...]]], torch.Tensor]


# A function on the result of guidance: RescaleCFG, CFGNorm, CFGZeroStar… Takes a `Guided`, returns the new result.
@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Guided:
    """One step's looks and what became of them (ComfyUI's ``sampler_cfg_function`` and ``post_cfg_function``
    arguments).

    Attributes:
        denoised: the result so far.
        positive, negative: what the model saw; negative is None where it was not asked for.
        scale: cfg.
        x: the noisy latent; sigma: its level, [batch].
        again: what the model sees under the positive with further patches (blocks left out, attention changed).
    """

    denoised: torch.Tensor
    positive: torch.Tensor
    negative: torch.Tensor | None
    scale: float
    x: torch.Tensor
    sigma: torch.Tensor
    model: Model
    again: Again | None = None


GuidedFunction = Callable[[Guided], torch.Tensor]


@dataclass(frozen=True, kw_only=True, slots=True, eq=False, weakref_slot=True)
class Model:
    """What a MODEL wire carries.

    Attributes:
        network, component: what it is and its weights.
        levels, prediction: the network's, or what a model sampling node put in their place.
        latent: likewise the format.
        cfg_rule: replaces ``negative + (positive - negative) * scale`` (RescaleCFG, VideoLinearCFGGuidance).
        cfg_after: applied to the result of guidance, in order (CFGNorm, PAG…).
        always_negative: the negative is asked even at cfg 1 (functions that need it say so).
        patches: handed to `Network.predict` in `Step.patches`, by place: model patches, attention changes.
        mask_rule: changes the noise mask by level (DifferentialDiffusion): (sigma, mask, sigmas, model) -> mask.
    """

    network: Network
    component: Component
    levels: NoiseLevels
    prediction: Prediction
    latent: LatentFormat
    cfg_rule: GuidedFunction | None = None
    cfg_after: tuple[GuidedFunction, ...] = ()
    always_negative: bool = False
    patches: Mapping[str, tuple[Any, ...]] = field(default_factory=dict)
    mask_rule: Callable[[torch.Tensor, torch.Tensor, torch.Tensor, Model], torch.Tensor] | None = None

    def with_levels(self, levels: NoiseLevels, prediction: Prediction | None = None) -> Model:
        """The same with other noise levels (and perhaps another prediction)."""
        return replace(self, levels=levels, prediction=prediction or self.prediction)

    def with_weight_patches(self, patches: Sequence[WeightPatch]) -> Model:
        """The same with patched weights."""
        shapes = {patch.name: patch.shape for patch in patches if patch.shape is not None}
        network = self.network.reshaped(shapes) if shapes else self.network
        return replace(self, network=network, component=self.component.patched(patches))

    def with_patch(self, place: str, patch: Any) -> Model:
        """The same with a patch at that place, after those that are there."""
        return replace(self, patches={**self.patches, place: (*self.patches.get(place, ()), patch)})

    def with_cfg_rule(self, rule: GuidedFunction, *, always_negative: bool = False) -> Model:
        """The same with another rule of guidance."""
        return replace(self, cfg_rule=rule, always_negative=self.always_negative or always_negative)

    def with_cfg_after(self, function: GuidedFunction, *, always_negative: bool = False) -> Model:
        """The same with a further function on the result of guidance."""
        return replace(
            self,
            cfg_after=(*self.cfg_after, function),
            always_negative=self.always_negative or always_negative,
        )

    @property
    def source(self) -> str:
        """The file, for messages."""
        return self.component.source

    def resident_bytes(self) -> int:
        """See `Component.resident_bytes`."""
        return self.component.resident_bytes()


class RunningControl(Protocol):
    """A `Control` in a run."""

    def residuals(self, x: torch.Tensor, step: Step, told: Mapping[str, Any]) -> Residuals | None:
        """For a batch of noisy latents (as sampled, before `Prediction.entering`) and what the network is told; those
        of `Control.previous` are added in. None where it is not its time."""


class Control(Protocol):
    """What hangs at a condition as its option "control": a ControlNet with its picture, strength and time.

    `previous` is another one that applies too. Conditions can be in one batch only if they hold the same object.
    """

    previous: Control | None

    def started(self, model: Model) -> RunningControl:
        """Ready for a run with that model: its picture brought to the network's scale, percents to levels."""


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class SamplerChoice:
    """What a SAMPLER wire carries.

    Attributes:
        name: for messages.
        run: takes the walk, the noisy latent and the levels; see ``samplers``.
        random_mask: where a mask keeps the picture, other noise is put on it than the run's (ddim).
    """

    name: str
    run: Callable[[Walk, torch.Tensor, torch.Tensor], torch.Tensor]
    random_mask: bool = False
    options: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True, slots=True)
class Noise:
    """What a NOISE wire carries: a seed, or no noise at all."""

    seed: int = 0
    none: bool = False


class Look(Protocol):
    """What guidance may ask."""

    def __call__(
        self, names: Sequence[str], patches: Mapping[str, tuple[Any, ...]] | None = None
    ) -> Mapping[str, torch.Tensor]:
        """The denoised latents of some of the guider's conditionings, by name, in one batch where they fit.

        Args:
            patches: further ones for these alone (`Model.patches`); what they give is not kept as a conditioning's.
        """


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Guider:
    """What a GUIDER wire carries: a model, its conditionings by name, and the rule that makes one result of their
    looks.

    `rule` takes (guider, look, x, sigma) and returns the denoised latent; see `guiders`.
    """

    model: Model
    conditionings: Mapping[str, Conditioning]
    rule: Callable[[Guider, Look, torch.Tensor, torch.Tensor], torch.Tensor]
    cfg: float = 1.0


def channels_fit(latent: torch.Tensor, wanted: int, *, what: str) -> None:
    """Raises `NodeProblem` where a latent has other channels than `what` takes."""
    if latent.shape[1] != wanted:
        raise NodeProblem(
            f"the latent has {latent.shape[1]} channels, {what} takes {wanted}",
            remedy="use an empty latent and a VAE of the model's own family",
        )
