"""What a model is shown besides the text: pictures to change, parts to paint anew.

Source: ComfyUI ``nodes.py``; ``nodes_ip2p.py``, ``nodes_edit_model.py``, ``nodes_differential_diffusion.py`` in
``comfy_extras``.
"""

from __future__ import annotations

from dataclasses import replace

import torch

from .context import Context
from .diffusion.autoencoding import encode
from .diffusion.encoders import Vae
from .diffusion.values import Condition, Conditioning, Latent, Model, with_options
from .registry import NodeGroup

NODES = NodeGroup()

Result = tuple[Condition, ...]

FACTOR = 8  # pixels that a picture's sides are cut to multiples of


@NODES.node("InpaintModelConditioning")
def inpaint(
    positive: Conditioning,
    negative: Conditioning,
    vae: Vae | None,
    pixels: torch.Tensor,
    mask: torch.Tensor,
    noise_mask: bool = True,
    *,
    context: Context,
) -> tuple[Result, Result, Latent]:
    """A picture whose masked part is grey, for models that were trained to fill it."""
    mask = mask.reshape(-1, 1, mask.shape[-2], mask.shape[-1])
    mask = torch.nn.functional.interpolate(mask, size=pixels.shape[1:3], mode="bilinear")
    cut, masked = _cut(pixels), _cut(mask.movedim(1, -1)).movedim(-1, 1)
    kept = (1.0 - masked.round()).movedim(1, -1)
    grey = (cut[..., :3] - 0.5) * kept + 0.5
    shown = encode(vae, grey, context.check_cancelled)
    latent: dict[str, torch.Tensor] = {"samples": encode(vae, pixels, context.check_cancelled)}
    if noise_mask:
        latent["noise_mask"] = masked
    told = {"concat_latent_image": shown, "concat_mask": masked}
    return with_options(positive, **told), with_options(negative, **told), latent


@NODES.node("InstructPixToPixConditioning")
def instruct(
    positive: Conditioning, negative: Conditioning, vae: Vae | None, pixels: torch.Tensor, *, context: Context
) -> tuple[Result, Result, Latent]:
    """A picture for models that change what they are shown, and an empty latent of its size."""
    shown = encode(vae, _cut(pixels), context.check_cancelled)
    told = {"concat_latent_image": shown}
    return with_options(positive, **told), with_options(negative, **told), {"samples": torch.zeros_like(shown)}


@NODES.node("ReferenceLatent")
def reference(conditioning: Conditioning, latent: Latent | None = None) -> tuple[Result]:
    """A latent that an editing model looks at, after those that it has already."""
    if latent is None:
        return (tuple(conditioning),)
    samples = latent["samples"]
    return (
        tuple(
            condition.with_options(reference_latents=[*condition.get("reference_latents", ()), samples])
            for condition in conditioning
        ),
    )


@NODES.node("DifferentialDiffusion")
def differential(model: Model, strength: float = 1.0) -> Model:
    """A grey mask says from which step on a place may change (Levin and Fried 2023, arXiv 2306.00950)."""

    def rule(sigma: torch.Tensor, mask: torch.Tensor, sigmas: torch.Tensor, of: Model) -> torch.Tensor:
        lowest = of.levels.sigmas[0]
        end = torch.maximum(sigmas[-1], lowest.to(sigmas))
        begin, last, now = (of.levels.timestep(level) for level in (sigmas[0], end, sigma.flatten()[0]))
        threshold = (now - last) / (begin - last)
        binary = (mask >= threshold).to(mask.dtype)
        return strength * binary + (1 - strength) * mask if 0 < strength < 1 else binary

    return replace(model, mask_rule=rule)


def _cut(pixels: torch.Tensor) -> torch.Tensor:
    """[batch, height, width, channels] with sides cut to multiples of `FACTOR`, from the middle."""
    height, width = pixels.shape[1:3]
    if height % FACTOR == 0 and width % FACTOR == 0:
        return pixels
    top, left = height % FACTOR // 2, width % FACTOR // 2
    rows, columns = height // FACTOR * FACTOR, width // FACTOR * FACTOR
    return pixels[:, top : top + rows, left : left + columns]
