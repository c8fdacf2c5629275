"""A run: from noise and a latent to a latent, with a guider, a sampler and noise levels.

Source: ComfyUI ``comfy/samplers.py`` (`CFGGuider`, `KSAMPLER`, `KSamplerX0Inpaint`, `KSampler`) and
``comfy/sample.py``.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch

from ..context import Context
from ..noise import first_noise
from ..problems import NodeProblem
from ..resize import repeat_to_batch, resize
from ..samplers import Walk, sampler
from ..sigmas import SCHEDULERS, schedule
from . import memory
from .conditions import prepare
from .loading import check_whole
from .looking import Looker
from .previews import Previewer
from .values import Asked, Guider, Latent, Model, Noise, SamplerChoice, channels_fit
from .weights import Loaded

# Of these samplers the last level before 0 is left out, so that they do not end on a step too small for them.
_WITHOUT_PENULTIMATE = frozenset({"dpm_2", "dpm_2_ancestral", "uni_pc", "uni_pc_bh2"})
_ALMOST_WHOLE = 0.9999


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Sampled:
    """What a run gives: the latent, and what the model saw in it last; both unscaled, on the CPU."""

    samples: torch.Tensor
    denoised: torch.Tensor


def sampler_choice(name: str) -> SamplerChoice:
    """The sampler of that name. Raises `NodeProblem` where there is none."""
    return SamplerChoice(name=name, run=sampler(name), random_mask=name == "ddim")


def levels_of_run(model: Model, name: str, scheduler: str, steps: int, denoise: float = 1.0) -> torch.Tensor:
    """The levels that KSampler visits: `steps` of them, the last part of a longer run where `denoise` is below 1."""
    if scheduler not in SCHEDULERS:
        raise NodeProblem(f"there is no scheduler {scheduler!r}", remedy=f"use one of {', '.join(SCHEDULERS)}")
    if denoise <= 0.0:
        return torch.empty(0)
    whole = denoise > _ALMOST_WHOLE
    count = steps if whole else int(steps / denoise)
    if name in _WITHOUT_PENULTIMATE:
        sigmas = schedule(model.levels, scheduler, count + 1)
        sigmas = torch.cat([sigmas[:-2], sigmas[-1:]])
    else:
        sigmas = schedule(model.levels, scheduler, count)
    return sigmas if whole else sigmas[-(steps + 1) :]


def part_of_run(
    sigmas: torch.Tensor, *, start: int | None = None, end: int | None = None, to_the_end: bool = False
) -> torch.Tensor | None:
    """The levels from step `start` to step `end`; None where nothing is left to do.

    Args:
        to_the_end: whether the last step goes to 0 though the run is cut short.
    """
    if end is not None and end < len(sigmas) - 1:
        sigmas = sigmas[: end + 1].clone()
        if to_the_end:
            sigmas[-1] = 0
    if start is not None:
        if start >= len(sigmas) - 1:
            return None
        sigmas = sigmas[start:]
    return sigmas


def fitted_latent(model: Model, latent: Latent) -> torch.Tensor:
    """The latent's samples as the model takes them: an empty one gets the model's channels, size and dimensions.

    Raises:
        NodeProblem: it is another family's.
    """
    samples: torch.Tensor = latent["samples"]
    form = model.latent
    empty = not bool(samples.any())
    if empty:
        if samples.shape[1] != form.channels:
            samples = repeat_to_batch(samples.movedim(1, 0), form.channels).movedim(0, 1)
        factor = latent.get("downscale_ratio_spacial")
        if factor is not None and factor != form.factor and samples.ndim == 4:
            ratio = factor / form.factor
            columns, rows = round(samples.shape[-1] * ratio), round(samples.shape[-2] * ratio)
            samples = resize(samples, columns, rows, "nearest-exact")
    if form.dimensions == 3 and samples.ndim == 4:
        samples = samples.unsqueeze(2)
    if samples.ndim != form.dimensions + 2 and not (samples.ndim == 4 and form.dimensions == 2):
        raise NodeProblem(
            f"the latent has {samples.ndim - 2} dimensions, model {model.source!r} takes {form.dimensions}",
            remedy="use an empty latent of the model's own family",
        )
    channels_fit(samples, form.channels, what=f"model {model.source!r}")
    if not min(samples.shape):
        raise NodeProblem("the latent is empty", remedy="choose a larger size")
    return samples


def drawn_noise(noise: Noise, samples: torch.Tensor, indices: Sequence[int] | None) -> torch.Tensor:
    """The noise that a run of these samples begins with, float32 on the CPU."""
    if noise.none:
        return torch.zeros_like(samples, dtype=torch.float32, device="cpu")
    return first_noise(samples.shape, noise.seed, indices)


def sample(
    guider: Guider,
    choice: SamplerChoice,
    sigmas: torch.Tensor,
    latent: Latent,
    noise: Noise,
    context: Context,
) -> Sampled:
    """Run the sampler. Tells `context` of each step.

    Args:
        latent: its "noise_mask" says where new picture may appear; its "batch_index" which noise each picture gets.

    Raises:
        NodeProblem: latent, conditioning and model do not fit, or the model's file is damaged.
        NotEnoughMemory: there is too little.
    """
    model = guider.model
    samples = fitted_latent(model, latent)
    begin = drawn_noise(noise, samples, latent.get("batch_index"))
    if not len(sigmas):
        return Sampled(samples=samples, denoised=samples)
    store = memory.store()

    def attempt() -> Sampled:
        with store.using(model.component):
            run = _Run(
                guider, choice, sigmas.cpu().float().clone(), samples, begin, latent.get("noise_mask"), noise, context
            )
            return run()

    needs = model.network.activation_bytes(samples.shape, store.placement(model.component)[1].itemsize)
    store.check_room(needs, f"a latent of {' x '.join(str(side) for side in samples.shape)}")
    sampled = store.attempt(attempt, needs=needs)
    if not bool(torch.isfinite(sampled.samples).all()):
        check_whole(model.component)
    return sampled


class _Run:
    """One run under way."""

    def __init__(
        self,
        guider: Guider,
        choice: SamplerChoice,
        sigmas: torch.Tensor,
        samples: torch.Tensor,
        noise: torch.Tensor,
        mask: torch.Tensor | None,
        seed: Noise,
        context: Context,
    ) -> None:
        self.guider = guider
        self.model = guider.model
        self.choice = choice
        self.sigmas = sigmas
        self.seed = seed.seed
        self.context = context
        self.loaded = self.model.component.loaded()
        device = self.loaded.device
        self.noise = noise.to(device, torch.float32)
        latent = samples.to(device, torch.float32)
        # an empty latent is no picture: it is not shifted as one
        self.latent = self.model.latent.enter(latent) if bool(latent.any()) else latent
        self.mask = None if mask is None else _like_latent(mask, samples.shape).to(device, torch.float32)
        self.kept_noise = self.noise
        if choice.random_mask:
            generator = torch.manual_seed(self.seed + 1)
            self.kept_noise = torch.randn(noise.shape, generator=generator).to(device)
        self.previewer = Previewer(self.model.latent, context)
        self.looker = self._looker()
        self.seen: torch.Tensor | None = None
        self.unguided: torch.Tensor | None = None

    def _looker(self) -> Looker:
        def asked(kind: str) -> Asked:
            return Asked(
                noise=self.noise,
                latent=self.latent,
                mask=self.mask,
                kind=kind,
                device=self.loaded.device,
                seed=self.seed,
            )

        conditions = prepare(self.model, self.guider.conditionings, asked, _placer(self.loaded))
        return Looker(
            model=self.model,
            loaded=self.loaded,
            conditions=conditions,
            sigmas=self.sigmas,
            check=self.context.check_cancelled,
        )

    def __call__(self) -> Sampled:
        model = self.model
        first = self.sigmas[0]
        highest = float(model.levels.sigmas[-1])
        strongest = math.isclose(highest, float(first), rel_tol=1e-05) or float(first) > highest
        x = model.prediction.noisy(first, self.noise, self.latent, strongest=strongest)
        walk = Walk(
            denoise=self._denoise,
            levels=model.levels,
            seed=self.seed,
            told=self._told,
            unguided=self._unguided,
            **self.choice.options,
        )
        x = self.choice.run(walk, x, self.sigmas)
        x = model.prediction.finished(self.sigmas[-1], x)
        samples = model.latent.leave(x.float()).cpu()
        denoised = samples if self.seen is None else model.latent.leave(self.seen.float()).cpu()
        return Sampled(samples=samples, denoised=denoised)

    def _denoise(self, x: torch.Tensor, sigma: torch.Tensor) -> torch.Tensor:
        mask = self.mask
        if mask is not None:
            if self.model.mask_rule is not None:
                mask = self.model.mask_rule(sigma, mask, self.sigmas, self.model)
            kept = self.model.network.scaled_inpaint(self.model, sigma, self.kept_noise, self.latent)
            x = x * mask + kept * (1.0 - mask)
        looks: dict[str, torch.Tensor] = {}

        def look(
            names: Sequence[str], patches: Mapping[str, tuple[Any, ...]] | None = None
        ) -> Mapping[str, torch.Tensor]:
            seen = self.looker.look(names, x, sigma, patches)
            if patches is None:
                looks.update(seen)
                return looks
            return seen

        seen = self.guider.rule(self.guider, look, x, sigma)
        self.unguided = looks.get("negative")
        if mask is not None:
            seen = seen * mask + self.latent * (1.0 - mask)
        return seen

    def _unguided(self, x: torch.Tensor, sigma: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """What the model sees, and what it sees under the negative alone (zeros where there is none)."""
        always = self.guider
        if not self.model.always_negative:
            self.guider = replace(always, model=replace(self.model, always_negative=True))
        try:
            seen = self._denoise(x, sigma)
        finally:
            self.guider = always
        return seen, torch.zeros_like(seen) if self.unguided is None else self.unguided

    def _told(self, step: int, x: torch.Tensor, denoised: torch.Tensor) -> None:
        self.seen = denoised
        self.previewer.show(denoised)
        self.context.progress(step + 1, max(len(self.sigmas) - 1, step + 1))


def _placer(loaded: Loaded) -> Any:
    def place(tensor: Any) -> Any:
        if not isinstance(tensor, torch.Tensor):
            return tensor
        return tensor.to(loaded.device, loaded.dtype if tensor.is_floating_point() else None)

    return place


def _like_latent(mask: torch.Tensor, shape: Sequence[int]) -> torch.Tensor:
    """A mask [batch, rows, columns] (or with channels) of the latent's size, channels and batch."""
    if len(shape) == 4:
        mask = mask.reshape(-1, 1, mask.shape[-2], mask.shape[-1])
        mask = torch.nn.functional.interpolate(mask, size=tuple(shape[2:]), mode="bilinear")
    else:
        if mask.ndim < 5:
            mask = mask.reshape(1, 1, -1, mask.shape[-2], mask.shape[-1])
        mask = torch.nn.functional.interpolate(mask, size=tuple(shape[2:]), mode="trilinear")
    if mask.shape[1] < shape[1]:
        mask = mask.repeat(1, shape[1], *([1] * (len(shape) - 2)))[:, : shape[1]]
    return repeat_to_batch(mask, shape[0])
