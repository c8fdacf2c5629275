"""The demonstration model (`engines.embedded.demo`): known by what its files' headers say.

Every class is diffusers' or transformers', with the settings that the header tells; the words are the model's own.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from typing import Any

import torch

from ..demo import networks, weights, words
from ..diffusion.encoders import Clip, Coder, TextEncoder
from ..diffusion.latent_format import LatentFormat
from ..diffusion.prediction import Straight
from ..diffusion.told import Each, Text
from ..diffusion.values import Asked, Condition, Network, Step
from ..diffusion.weights import Component, State, Weights, fill
from ..problems import NodeProblem
from ..sigmas import Flow
from . import Family
from .tokens import Layout, Token, sections

LOG = logging.getLogger(__name__)
LAYOUT = Layout(start=words.BEGIN, end=words.END, pad=words.PAD, length=words.LENGTH, full=True)


def setting(found: Weights, name: str) -> Any:
    """A setting in a file's header. Raises `NodeProblem` where the header has been cut."""
    try:
        return weights.setting(found.metadata, name)
    except (KeyError, ValueError) as error:
        raise NodeProblem(
            f"the header of {found.source!r} lacks what builds the demonstration model ({name})",
            remedy="take the file from the package again",
        ) from error


def is_demo(found: Weights, part: str) -> bool:
    """Whether a file's header says that it is that part of the demonstration model."""
    return weights.is_demo(found.metadata, part)


class DemoNetwork(Network):
    """The denoiser."""

    family = "demo"
    variant = "demo"
    prediction = Straight()

    def __init__(self, found: Weights) -> None:
        self.settings = setting(found, "network")
        self.source = found.source
        self.levels = Flow(shift=float(setting(found, "shift")))
        self.text_width = self.settings["cross_attention_dim"]
        self.latent = LatentFormat(
            channels=self.settings["in_channels"],
            mean=tuple(setting(found, "mean")),
            deviation=tuple(setting(found, "deviation")),
            factor=networks.SCALE,
            colours=tuple(tuple(row) for row in setting(found, "colours")),
            colour_bias=tuple(setting(found, "colour_bias")),
        )

    def build(self, state: State) -> Any:
        """See `Network.build`."""
        with torch.device("meta"):
            module = networks.unet(self.settings)
        fill(module, state, what="the demonstration model's U-Net", source=self.source)
        return module

    def told(self, condition: Condition, asked: Asked) -> dict[str, Each]:
        """See `Network.told`: the text, and its vector as a whole."""
        whole = condition.get("pooled_output")
        if whole is None or whole.shape[-1] != self.text_width:
            whole = torch.zeros_like(condition.text[:, 0])
        return {"text": Text(condition.text.to(asked.device)), "whole": Each(whole.to(asked.device))}

    def predict(
        self, module: Any, x: torch.Tensor, timestep: torch.Tensor, told: Mapping[str, Any], step: Step
    ) -> torch.Tensor:
        """See `Network.predict`. The picture's sides are filled up to what two halvings divide, and cut again."""
        rows, columns = x.shape[-2:]
        missing = -rows % 4, -columns % 4
        if any(missing):
            x = torch.nn.functional.pad(x, (0, missing[1], 0, missing[0]), mode="replicate")
        more: dict[str, Any] = {}
        if step.control is not None:
            (middle,) = step.control["middle"]
            more = {
                "down_block_additional_residuals": tuple(step.control["output"]),
                "mid_block_additional_residual": middle,
            }
        said: torch.Tensor = module(x, timestep, told["text"], class_labels=told["whole"], **more).sample
        return said[..., :rows, :columns]

    def activation_bytes(self, shape: Sequence[int], item: int) -> int:
        """See `Network.activation_bytes`."""
        return shape[0] * shape[-1] * shape[-2] * item * 2048


class DemoText(TextEncoder):
    """The text encoder, and the words."""

    family = "demo"

    def __init__(self, found: Weights) -> None:
        self.settings = setting(found, "text")
        self.source = found.source

    def build(self, state: State) -> Any:
        """See `TextEncoder.build`."""
        module = networks.text_encoder(self.settings)
        own = {name.removeprefix("demo."): tensor for name, tensor in state.items()}
        try:
            networks.fill_text(module, own)
        except (RuntimeError, ValueError) as error:
            raise NodeProblem(
                f"the demonstration model's text encoder in {self.source!r} is not whole",
                remedy="take the file from the package again",
            ) from error
        any_tensor = next(iter(own.values()))
        return module.to(any_tensor.device, any_tensor.dtype).requires_grad_(False).eval()

    def tokenize(self, text: str, **options: Any) -> Any:
        """See `TextEncoder.tokenize`. Words that the model does not know are logged and left out."""
        strange: list[str] = []

        def encode(part: str) -> list[int]:
            found, unknown = words.numbers(part)
            strange.extend(unknown)
            return found

        tokens = sections(text, encode, LAYOUT)
        if strange:
            LOG.info("the demonstration model does not know %s", ", ".join(dict.fromkeys(strange)))
        return tokens

    def encode(self, module: Any, tokens: Any, *, layer: int | None = None) -> Condition:
        """See `TextEncoder.encode`; weights move a word away from what an empty text has in its place."""
        laid: list[list[Token]] = [list(section) for section in tokens]
        empty = [(number, 1.0) for number in words.section([])]
        numbers = torch.tensor([[number for number, _ in section] for section in [*laid, empty]])
        device = next(module.parameters()).device
        with torch.no_grad():
            answer = module(input_ids=numbers.to(device), output_hidden_states=layer not in (None, -1))
        hidden = answer.last_hidden_state
        if layer not in (None, -1):
            if not -self.settings["num_hidden_layers"] <= layer < 0:
                raise NodeProblem(
                    f"the text encoder has no layer {layer}",
                    remedy=f"use -1 to -{self.settings['num_hidden_layers']}",
                )
            norm = getattr(module, "text_model", module).final_layer_norm
            hidden = norm(answer.hidden_states[layer])
        hidden = hidden.float().cpu()
        strength = torch.tensor([[weight for _, weight in section] for section in laid])[..., None]
        vectors = torch.where(strength == 1.0, hidden[:-1], (hidden[:-1] - hidden[-1]) * strength + hidden[-1])
        whole = networks.at_end(answer.last_hidden_state.float().cpu(), numbers)[:1]
        return Condition(text=vectors.reshape(1, -1, vectors.shape[-1]), options={"pooled_output": whole})


class DemoCoder(Coder):
    """The autoencoder."""

    channels = networks.LATENT_CHANNELS
    factor = networks.SCALE

    def __init__(self, found: Weights) -> None:
        self.settings = setting(found, "autoencoder")
        self.source = found.source

    def build(self, state: State) -> Any:
        """See `Coder.build`."""
        with torch.device("meta"):
            module = networks.autoencoder(self.settings)
        fill(module, state, what="the demonstration model's autoencoder", source=self.source)
        return module

    def encode(self, module: Any, pixels: torch.Tensor) -> torch.Tensor:
        """See `Coder.encode`."""
        latent: torch.Tensor = module.encoder(pixels.movedim(-1, 1) * 2 - 1)
        return latent

    def decode(self, module: Any, latent: torch.Tensor) -> torch.Tensor:
        """See `Coder.decode`."""
        pixels: torch.Tensor = module.decoder(latent)
        return ((pixels + 1) / 2).movedim(1, -1)

    def activation_bytes(self, shape: Sequence[int], item: int) -> int:
        """See `Coder.activation_bytes`."""
        return shape[0] * shape[-1] * shape[-2] * self.factor**2 * item * 160


def denoiser(found: Weights) -> DemoNetwork | None:
    """See `Family.denoiser`."""
    return DemoNetwork(found) if is_demo(found, "checkpoint") else None


def checkpoint_text(found: Weights, network: Network) -> Clip | None:
    """See `Family.checkpoint_text`."""
    own = found.below(weights.PREFIXES["text"])
    if not is_demo(found, "checkpoint") or not own:
        return None
    encoder = DemoText(found)
    named = own.renamed(lambda name: f"demo.{name}")
    return Clip(encoder=encoder, component=Component(weights=named, build=encoder.build, role="text"))


def autoencoder(found: Weights) -> DemoCoder | None:
    """See `Family.autoencoder`."""
    return DemoCoder(found) if is_demo(found, "checkpoint") else None


FAMILY = Family(name="demo", denoiser=denoiser, checkpoint_text=checkpoint_text, autoencoder=autoencoder)
