"""FLUX.1: schnell, dev (Krea too), its tools (Fill, Canny, Depth), Kontext.

Behaviour of ComfyUI 0.33.0 ``comfy/model_base.py`` (``Flux``), ``comfy/supported_models.py`` and
``comfy/text_encoders/flux.py``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch

from ..clip_text import ClipText
from ..diffusion import concat
from ..diffusion.encoders import Clip, Embeddings, TextEncoder
from ..diffusion.latent_format import FLUX as LATENT
from ..diffusion.prediction import Straight
from ..diffusion.told import Each, Same, Several, Shaped
from ..diffusion.values import Alias, Asked, Condition, Network, Step
from ..diffusion.weights import Component, State, Weights
from ..problems import NodeProblem
from ..resize import resize
from ..sigmas import Flow, FluxFlow
from . import Family, flux_transformer, t5
from .clip import CLIP_L, ClipModules, tokenized
from .flux_attention import enlarged
from .flux_layout import DOUBLE, SINGLE, block_count, pieces
from .tokenizers import T5, TokenizerFiles, vocabulary
from .tokens import Layout, sections

PATCH = flux_transformer.PATCH
GUIDANCE = 3.5  # where a condition says nothing of it

_CLIP_MARK = "text_model.encoder.layers.0.mlp.fc1.weight"


class Flux(Network):
    """FLUX.1's denoiser.

    Args:
        guided: whether it was distilled with guidance; schnell was not.
        channels: of the latent with what is joined to it: 16, 32 (a control picture) or 96 (a picture and its mask).
        text_width: of the text.
    """

    family = "flux"
    latent = LATENT
    dtypes = (torch.bfloat16, torch.float16, torch.float32)

    def __init__(self, *, guided: bool, channels: int, text_width: int) -> None:
        self.guided = guided
        self.channels = channels
        self.text_width = text_width
        self.variant = _variant(guided, channels)
        self.levels = FluxFlow() if guided else Flow(shift=1.0, multiplier=1.0)
        self.prediction = Straight()

    def reshaped(self, shapes: Mapping[str, Sequence[int]]) -> Flux:
        """See `Network.reshaped`: a control LoRA widens what the latent goes in by."""
        if "img_in.weight" not in shapes:
            return self
        channels = shapes["img_in.weight"][1] // PATCH**2
        return Flux(guided=self.guided, channels=channels, text_width=self.text_width or 0)

    def build(self, state: State) -> flux_transformer.Transformer:
        """See `Network.build`."""
        return flux_transformer.Transformer(state)

    def told(self, condition: Condition, asked: Asked) -> dict[str, Each]:
        """The text, the pooled text, guidance, reference latents, what is joined to the latent."""
        device, noise = asked.device, asked.noise
        told: dict[str, Each] = {"text": Each(condition.text.to(device))}
        pooled = condition.get("pooled_output")
        if pooled is not None:
            told["pooled"] = Each(pooled.to(device))
        guidance = condition.get("guidance", GUIDANCE)
        if guidance is not None:
            told["guidance"] = Each(torch.tensor([float(guidance)], device=device))
        size = condition.get("attention_mask_img_shape")
        mask = condition.get("attention_mask")
        if mask is not None and size is not None:
            rows, columns = (-(-side // PATCH) for side in noise.shape[-2:])
            told["mask"] = Each(enlarged(mask.to(device), size, (rows, columns)))
        references = condition.get("reference_latents")
        if references is not None:
            told["references"] = Several([self.latent.enter(latent.to(device)) for latent in references])
            told["method"] = Same(condition.get("reference_latents_method", "offset"))
        if self.channels > self.latent.channels:
            told["concat"] = Shaped(self._joined(condition, asked))
        return told

    def _joined(self, condition: Condition, asked: Asked) -> torch.Tensor:
        """The control picture, or the masked picture and its mask (64 numbers where the latent has one)."""
        noise = asked.noise
        rows, columns = noise.shape[-2:]
        image = condition.get("concat_latent_image")
        image = torch.zeros_like(noise) if image is None else image.to(noise)
        if image.shape[1] != self.latent.channels:
            raise NodeProblem(
                f"the picture's latent has {image.shape[1]} channels, FLUX.1 takes {self.latent.channels}",
                remedy="encode it with FLUX.1's own VAE",
            )
        image = concat.spread_over(resize(image, columns, rows, "bilinear", "center"), noise.shape[0])
        image = self.latent.enter(image)
        if self.channels <= 2 * self.latent.channels:
            return image
        mask = condition.get("concat_mask", asked.mask)
        mask = torch.ones_like(noise)[:, :1] if mask is None else mask.to(noise)
        mask = mask.reshape(mask.shape[0], -1, *mask.shape[-2:]).mean(dim=1, keepdim=True)
        mask = torch.nn.functional.pixel_unshuffle(resize(mask, columns * 8, rows * 8, "bilinear", "center"), 8)
        return torch.cat([image, concat.spread_over(mask, noise.shape[0])], dim=1)

    def predict(
        self, module: Any, x: torch.Tensor, timestep: torch.Tensor, told: Mapping[str, Any], step: Step
    ) -> torch.Tensor:
        """See `Network.predict`."""
        velocity: torch.Tensor = module(
            x,
            timestep,
            told["text"],
            told.get("pooled"),
            guidance=told.get("guidance"),
            references=told.get("references", ()),
            method=told.get("method", "offset"),
            mask=told.get("mask"),
            control=step.control,
        )
        return velocity

    def aliases(self, weights: Weights) -> Mapping[str, Alias]:
        """diffusers' names, several of whose matrices are one in the file, and kohya's for the first part of one."""
        width = weights.shape("img_in.weight")[0]
        found: dict[str, Alias] = {}
        for piece in pieces(width, block_count(weights, DOUBLE), block_count(weights, SINGLE)):
            if piece.turned or piece.source not in weights or not piece.source.endswith((".weight", ".scale")):
                continue
            length = None
            if piece.start is not None:
                rest = weights.shape(piece.source)[0] - piece.start
                length = rest if piece.length is None else piece.length
            alias = Alias(name=piece.source, start=piece.start or 0, length=length)
            found[piece.target.removesuffix(".weight")] = alias
        for name in weights:
            if name.endswith(".linear1.weight"):
                found[f"{name.removesuffix('.weight')}_qkv"] = Alias(name=name, length=3 * width)
        return found

    def activation_bytes(self, shape: Sequence[int], item: int) -> int:
        """See `Network.activation_bytes`: about 3.1 times what ComfyUI takes for granted of other models."""
        area = shape[0] * shape[-2] * shape[-1]
        return area * item * 12 * 1024


def _variant(guided: bool, channels: int) -> str:
    if not guided:
        return "flux1-schnell"
    if channels <= LATENT.channels:
        return "flux1-dev"
    return "flux1-control-dev" if channels <= 2 * LATENT.channels else "flux1-fill-dev"


def _denoiser(weights: Weights) -> Network | None:
    if not flux_transformer.recognised(weights):
        return None
    return Flux(
        guided="guidance_in.in_layer.weight" in weights,
        channels=weights.shape("img_in.weight")[1] // PATCH**2,
        text_width=weights.shape("txt_in.weight")[1] if "txt_in.weight" in weights else 4096,
    )


class FluxText(TextEncoder):
    """FLUX.1's text encoders: T5 for the text, CLIP-L for the pooled text."""

    family = "flux"
    tokenizers: Sequence[TokenizerFiles] = (T5,)

    def build(self, state: State) -> ClipModules:
        """See `TextEncoder.build`."""
        own = {
            prefix: {name.removeprefix(prefix): state[name] for name in state if name.startswith(prefix)}
            for prefix in ("clip_l.", "t5xxl.")
        }
        clip_l = ClipText(own["clip_l."], activation=CLIP_L.activation, padding=CLIP_L.padding)
        return ClipModules({"clip_l": clip_l, "t5xxl": t5.T5Text(own["t5xxl."])})

    def tokenize(
        self,
        text: str,
        *,
        embeddings: Embeddings | None = None,
        run: Any = None,
        **options: Any,
    ) -> dict[str, Any]:
        """Sections by encoder."""
        return {
            "clip_l": tokenized(text, padding=CLIP_L.padding, embeddings=embeddings, key="clip_l", run=run),
            "t5xxl": t5_sections(text, t5.FLUX, run, embeddings),
        }

    def encode(self, module: Any, tokens: Any, *, layer: int | None = None) -> Condition:
        """See `TextEncoder.encode`. `layer` is T5's too, as in ComfyUI."""
        _, pooled = module.clip_l.encode(tokens["clip_l"], projected=False)
        text, _ = module.t5xxl.encode(tokens["t5xxl"], layer=layer)
        return Condition(text=text.float().cpu(), options={"pooled_output": pooled.float().cpu()})


def t5_sections(text: str, layout: Layout, run: Any, embeddings: Embeddings | None = None) -> list[Any]:
    """T5's tokens of a prompt with weights. Raises `NodeProblem` where the run finds no tokenizer of it."""
    words = vocabulary(T5, run)

    def vectors(name: str) -> Any:
        found = embeddings(name) if embeddings is not None else None
        return None if found is None else found.get("t5xxl", found.get("", next(iter(found.values()))))

    return sections(text, words.encode, layout, embedding=vectors if embeddings is not None else None)


def _texts(files: Sequence[Weights], kind: str) -> Clip:
    """The two text encoders, in any order."""
    found: dict[str, Weights] = {}
    for file in files:
        own = file.below("text_encoders.", "")
        if _CLIP_MARK in own:
            found["clip_l"] = own
        elif t5.recognised(own):
            found["t5xxl"] = own
        else:
            raise NodeProblem(
                f"{file.source!r} is no text encoder of FLUX.1", remedy="choose clip_l and a t5xxl, such as t5xxl_fp16"
            )
    for name in ("clip_l", "t5xxl"):
        if name not in found:
            raise NodeProblem(
                f"FLUX.1 needs two text encoders and {name} is not among the files: "
                f"{', '.join(repr(file.source) for file in files)}",
                remedy="choose clip_l and a t5xxl, such as t5xxl_fp16",
            )
    return _clip(found)


def _clip(parts: Mapping[str, Weights]) -> Clip:
    tensors = {f"{name}.{key}": own.entry(key) for name, own in parts.items() for key in own}
    weights = Weights(tensors, source=" and ".join(own.source for own in parts.values()))
    encoder = FluxText()
    # ComfyUI keeps CLIP in float16, and T5 where the file has it in float32
    full = weights.dtype("t5xxl.encoder.final_layer_norm.weight") == torch.float32
    halved = ("clip_l.", "t5xxl.") if full else ("clip_l.",)
    component = Component(weights=weights, build=encoder.build, role="text", halved=halved)
    return Clip(encoder=encoder, component=component)


def _checkpoint_text(weights: Weights, network: Network) -> Clip | None:
    parts = {name: weights.below(f"text_encoders.{name}.transformer.") for name in ("clip_l", "t5xxl")}
    return _clip(parts) if all(len(part) for part in parts.values()) else None


FAMILY = Family(name="flux", denoiser=_denoiser, checkpoint_text=_checkpoint_text, texts={"flux": _texts})
