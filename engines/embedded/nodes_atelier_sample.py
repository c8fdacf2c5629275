"""Our empty latent and samplers, which do as the settings on their wire say."""

from __future__ import annotations

from typing import Any

from ...catalogue import wiring
from ...catalogue.settings import Settings
from .context import Context
from .diffusion.values import Conditioning, Latent, Model
from .holdings import choosing
from .registry import NodeGroup
from .stock import EngineStock

NODES = NodeGroup()


@NODES.node("AtelierEmptyLatent")
def empty_latent(
    settings: Settings, aspect_ratio: str, megapixels: float, batch_size: int, *, context: Context
) -> tuple[Latent, int, int]:
    """An empty latent of the model's kind, its width and height in pixels."""
    with choosing():
        return wiring.empty_latent(EngineStock(context), settings, aspect_ratio, megapixels, batch_size)


@NODES.node("AtelierSample")
def sample(
    model: Model,
    settings: Settings,
    positive: Conditioning,
    latent: Latent,
    seed: int,
    denoise: float,
    negative: Conditioning | None = None,
    *,
    context: Context,
) -> Latent:
    """As KSampler with the settings' values."""
    with choosing():
        drawn: Latent = wiring.sample(EngineStock(context), model, settings, positive, latent, seed, denoise, negative)
    return drawn


@NODES.node("AtelierSampleTurbo")
def sample_turbo(
    model: Model,
    settings: Settings,
    positive: Conditioning,
    latent: Latent,
    seed: int,
    denoise: float,
    negative: Conditioning | None = None,
    *,
    context: Context,
) -> Latent:
    """As SamplerCustom with SDTurboScheduler."""
    with choosing():
        drawn: Latent = wiring.sample_turbo(
            EngineStock(context), model, settings, positive, latent, seed, denoise, negative
        )
    return drawn


@NODES.node("AtelierSampleGuided")
def sample_guided(
    model: Model,
    settings: Settings,
    positive: Conditioning,
    latent: Latent,
    seed: int,
    denoise: float,
    *,
    context: Context,
) -> Latent:
    """As SamplerCustomAdvanced with BasicGuider."""
    with choosing():
        drawn: Latent = wiring.sample_guided(EngineStock(context), model, settings, positive, latent, seed, denoise)
    return drawn


@NODES.node("AtelierSampleEdit")
def sample_edit(*, context: Context, **wires: Any) -> Latent:
    """As SamplerCustomAdvanced with DualCFGGuider."""
    with choosing():
        drawn: Latent = wiring.sample_edit(EngineStock(context), **wires)
    return drawn


@NODES.node("AtelierSampleVideo")
def sample_video(*, context: Context, **wires: Any) -> Latent:
    """As KSampler with VideoLinearCFGGuidance."""
    with choosing():
        drawn: Latent = wiring.sample_video(EngineStock(context), **wires)
    return drawn


@NODES.node("AtelierSampleRefined")
def sample_refined(*, context: Context, **wires: Any) -> Latent:
    """As two KSamplerAdvanced: the base model, then the refiner."""
    with choosing():
        drawn: Latent = wiring.sample_refined(EngineStock(context), **wires)
    return drawn
