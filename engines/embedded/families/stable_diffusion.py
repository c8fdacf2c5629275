"""Stable Diffusion 1.x, 2.x, SDXL and its refiner, inpainting and instruct-pix2pix versions included.

Source: ComfyUI ``comfy/supported_models.py`` and ``comfy/model_base.py``. Turbo, Lightning and LCM have these layouts.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch

from ..diffusion import latent_format
from ..diffusion.concat import joined_channels, like_noise
from ..diffusion.encoders import Clip
from ..diffusion.levels import Continuous
from ..diffusion.prediction import Edm, Epsilon, Prediction, Velocity
from ..diffusion.told import Each, Shaped, Text
from ..diffusion.unet_names import to_diffusers
from ..diffusion.values import Alias, Asked, Condition, Network, Step
from ..diffusion.weights import State, Weights
from ..problems import NodeProblem
from ..sigmas import Discrete, NoiseLevels
from ..unet import UNet
from . import Family
from .clip import CLIP_H, CLIP_L, XL_CLIP_G, XL_CLIP_L, ClipKind, clip_of, in_transformers_layout
from .kl import coder_of

SIZE_WIDTH = 256  # of one embedded number that SDXL is told
VELOCITY_DEVIATION = 0.09  # of a bias above which an SD 2 was trained for velocity; ComfyUI's own test
_SIZES = ("height", "width", "crop_h", "crop_w")


class UNetNetwork(Network):
    """SD 1.x and 2.x; SDXL and the refiner add sizes."""

    family = "stable_diffusion"

    def __init__(self, weights: Weights, *, variant: str, latent: latent_format.LatentFormat) -> None:
        self.variant = variant
        self.latent = latent
        self.levels: NoiseLevels = Discrete()
        self.prediction: Prediction = Epsilon()
        self.heads = 8 if variant == "sd1" else None
        self.inputs = weights.shape("input_blocks.0.0.weight")[1]
        widths = {
            weights.shape(name)[1] for name in weights if name.endswith(".transformer_blocks.0.attn2.to_k.weight")
        }
        self.text_width = widths.pop() if len(widths) == 1 else None
        self._source = weights.source

    def build(self, state: State) -> Any:
        """See `Network.build`."""
        try:
            return UNet(state, heads=self.heads, head_size=None if self.heads else 64)
        except NodeProblem as problem:
            raise NodeProblem(f"model {self._source!r}: {problem.message}", remedy=problem.remedy) from problem

    def told(self, condition: Condition, asked: Asked) -> dict[str, Each]:
        """See `Network.told`: "text", "label" of SDXL, "concat" of inpainting models."""
        facts: dict[str, Each] = {"text": Text(condition.text)}
        label = self.label(condition, asked)
        if label is not None:
            facts["label"] = Each(label)
        if self.inputs == 2 * self.latent.channels:
            image = condition.get("concat_latent_image")
            joined = torch.zeros_like(asked.noise) if image is None else like_noise(image.to(asked.noise), asked.noise)
            facts["concat"] = Shaped(joined)
        elif self.inputs > self.latent.channels:
            joined = joined_channels(condition, asked, self.latent, ("mask", "masked_image"), blank=_blank)
            facts["concat"] = Shaped(joined)
        control_text = condition.get("cross_attn_controlnet")
        if control_text is not None:
            facts["control_text"] = Text(control_text)
        return facts

    def label(self, condition: Condition, asked: Asked) -> torch.Tensor | None:
        """What the model is told besides the text [1, width]: nothing."""
        return None

    def predict(
        self, module: Any, x: torch.Tensor, timestep: torch.Tensor, told: Mapping[str, Any], step: Step
    ) -> torch.Tensor:
        """See `Network.predict`."""
        output: torch.Tensor = module(x, timestep, told["text"], told.get("label"), control=step.control)
        return output

    def aliases(self, weights: Weights) -> Mapping[str, Alias]:
        """See `Network.aliases`: diffusers' names."""
        names = to_diffusers(list(weights)).items()
        return {other.removesuffix(".weight"): Alias(name=own) for own, others in names for other in others}


class XLNetwork(UNetNetwork):
    """SDXL: told the pooled text, the picture's size, where it was cut and the size that is wanted."""

    def label(self, condition: Condition, asked: Asked) -> torch.Tensor | None:
        """See `UNetNetwork.label`."""
        height, width = (side * self.latent.factor for side in asked.noise.shape[-2:])
        numbers = {
            "height": condition.get("height", height),
            "width": condition.get("width", width),
            "crop_h": condition.get("crop_h", 0),
            "crop_w": condition.get("crop_w", 0),
        }
        told = [numbers[name] for name in _SIZES]
        told += [condition.get("target_height", numbers["height"]), condition.get("target_width", numbers["width"])]
        return _with_numbers(self._pooled(condition), told)

    def _pooled(self, condition: Condition) -> torch.Tensor:
        pooled: torch.Tensor | None = condition.get("pooled_output")
        if pooled is None:
            raise NodeProblem(
                f"model {self._source!r} needs a pooled text, and the conditioning has none",
                remedy="encode the prompt with the model's own CLIP",
            )
        return pooled


class RefinerNetwork(XLNetwork):
    """The refiner: told an aesthetic score instead of the size that is wanted."""

    def label(self, condition: Condition, asked: Asked) -> torch.Tensor | None:
        """See `UNetNetwork.label`."""
        height, width = (side * self.latent.factor for side in asked.noise.shape[-2:])
        score = 2.5 if asked.kind == "negative" else 6.0
        told = [
            condition.get("height", height),
            condition.get("width", width),
            condition.get("crop_h", 0),
            condition.get("crop_w", 0),
            condition.get("aesthetic_score", score),
        ]
        return _with_numbers(self._pooled(condition), told)


def _with_numbers(pooled: torch.Tensor, numbers: Sequence[float]) -> torch.Tensor:
    from diffusers.models.embeddings import get_timestep_embedding

    each: Any = get_timestep_embedding(
        torch.tensor([float(number) for number in numbers]),
        SIZE_WIDTH,
        flip_sin_to_cos=True,
        downscale_freq_shift=0,
    )
    return torch.cat([pooled, each.flatten().unsqueeze(0).repeat(pooled.shape[0], 1).to(pooled)], dim=1)


def _blank(noise: torch.Tensor) -> torch.Tensor:
    """The latent of a grey picture, as inpainting models were shown it (ComfyUI's numbers)."""
    numbers = torch.tensor([0.8223, -0.6876, 0.6364, 0.1380], dtype=noise.dtype, device=noise.device)
    return torch.ones_like(noise) * numbers.reshape(1, 4, 1, 1)


def denoiser(weights: Weights) -> Network | None:
    """See `Family.denoiser`: told apart by the label's width and the kind of the transformers' projections."""
    first = "input_blocks.0.0.weight"
    if first not in weights or "out.2.weight" not in weights or len(weights.shape(first)) != 4:
        return None
    if any(".time_stack." in name or ".time_mixer." in name for name in weights):
        return None
    projections = [name for name in weights if name.endswith(".proj_in.weight")]
    linear = bool(projections) and len(weights.shape(projections[0])) == 2
    label = weights.shape("label_emb.0.0.weight")[1] if "label_emb.0.0.weight" in weights else None
    if label is None:
        network = UNetNetwork(weights, variant="sd2" if linear else "sd1", latent=latent_format.STABLE_DIFFUSION)
        if linear and _predicts_velocity(weights):
            network.prediction = Velocity()
        return network
    if label == weights_of_refiner(weights):
        return RefinerNetwork(weights, variant="sdxl_refiner", latent=latent_format.SDXL)
    network = XLNetwork(weights, variant="sdxl", latent=latent_format.SDXL)
    _set_prediction(network, weights)
    return network


def weights_of_refiner(weights: Weights) -> int:
    """The label's width that a refiner with this text would have: the pooled text and five numbers."""
    widths = [weights.shape(name)[1] for name in weights if name.endswith(".attn2.to_k.weight")]
    return (widths[0] if widths else 0) + 5 * SIZE_WIDTH


def _predicts_velocity(weights: Weights) -> bool:
    bias = "output_blocks.11.1.transformer_blocks.0.norm1.bias"
    if weights.shape("input_blocks.0.0.weight")[1] != 4 or bias not in weights:
        return False
    return float(weights[bias].float().std(unbiased=False)) > VELOCITY_DEVIATION


def _set_prediction(network: UNetNetwork, weights: Weights) -> None:
    """By the marks that SDXL checkpoints of other trainings carry."""
    if "edm_mean" in weights and "edm_std" in weights:
        network.latent = latent_format.SDXL_PLAYGROUND
        network.levels = Continuous(low=0.002, high=80.0)
        network.prediction = Edm(data=0.5)
    elif "edm_vpred.sigma_max" in weights:
        low = float(weights["edm_vpred.sigma_min"]) if "edm_vpred.sigma_min" in weights else 0.002
        network.levels = Continuous(low=low, high=float(weights["edm_vpred.sigma_max"]))
        network.prediction = Velocity()
    elif "v_pred" in weights:
        network.levels = Discrete(zero_snr="ztsnr" in weights)
        network.prediction = Velocity()


def checkpoint_text(weights: Weights, network: Network) -> Clip | None:
    """See `Family.checkpoint_text`."""
    if network.variant == "sd1":
        own = weights.below("cond_stage_model.transformer.")
        own = own.renamed(lambda name: name if name.startswith("text_model.") else f"text_model.{name}")
        return _clip([(own, CLIP_L)])
    if network.variant == "sd2":
        own = in_transformers_layout(weights.below("conditioner.embedders.0.model.", "cond_stage_model.model."))
        return _clip([(own, CLIP_H)])
    if network.variant == "sdxl_refiner":
        return _clip([(in_transformers_layout(weights.below("conditioner.embedders.0.model.")), XL_CLIP_G)])
    small = weights.below("conditioner.embedders.0.transformer.")
    large = in_transformers_layout(weights.below("conditioner.embedders.1.model."))
    return _clip([(small, XL_CLIP_L), (large, XL_CLIP_G)])


def _clip(parts: Sequence[tuple[Weights, ClipKind]]) -> Clip | None:
    if not all(len(part) for part, _ in parts):
        return None
    joined = Weights({}, source=parts[0][0].source)
    for part, kind in parts:
        joined = joined.with_tensors({f"{kind.name}.{name}": part.entry(name) for name in part})
    return clip_of(joined, *(kind for _, kind in parts))


def text(files: Sequence[Weights], kind: str) -> Clip:
    """Text encoder files for CLIPLoader's "stable_diffusion" and DualCLIPLoader's "sdxl"."""
    found: dict[str, Weights] = {}
    for weights in files:
        own = in_transformers_layout(weights)
        layers = sum(1 for name in own if name.endswith(".mlp.fc1.weight"))
        if "text_model.embeddings.token_embedding.weight" not in own:
            raise NodeProblem(
                f"{weights.source!r} holds no CLIP text encoder", remedy="choose one that does, such as clip_l"
            )
        width = own.shape("text_model.embeddings.token_embedding.weight")[1]
        name = "clip_g" if layers > 30 or width == 1280 else "clip_h" if layers > 22 or width == 1024 else "clip_l"
        found[name] = own
    if len(files) == 2:
        if set(found) != {"clip_l", "clip_g"}:
            raise NodeProblem("SDXL needs clip_l and clip_g", remedy="choose one file of each")
        clip = _clip([(found["clip_l"], XL_CLIP_L), (found["clip_g"], XL_CLIP_G)])
    else:
        name, own = next(iter(found.items()))
        clip = _clip([(own, {"clip_l": CLIP_L, "clip_h": CLIP_H, "clip_g": XL_CLIP_G}[name])])
    assert clip is not None
    return clip


FAMILY = Family(
    name="stable_diffusion",
    denoiser=denoiser,
    checkpoint_text=checkpoint_text,
    texts={"stable_diffusion": text, "sdxl": text},
    autoencoder=coder_of,
)
