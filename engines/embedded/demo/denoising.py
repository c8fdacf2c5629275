"""Training the denoiser with its text encoder, and drawing a picture from it without the engine's nodes.

A rectified flow (Liu et al., arXiv 2209.03003; as Stable Diffusion 3 trains it, arXiv 2403.03206): a latent on its way
is ``(1 - t) * picture + t * noise``, the network says ``noise - picture``, its timestep is ``1000 * t``.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import TYPE_CHECKING, Any

from . import words
from .networks import CHANNELS, SHIFT
from .networks import heard as hear
from .scenes import COLOURS, SHAPES, Scene, Told, training_scenes
from .training import Course, Place, learn

if TYPE_CHECKING:
    import torch
    from diffusers import UNet2DConditionModel
    from transformers import CLIPTextModel

COURSE = Course(steps=3200, batch=32, rate=1.2e-3, warm=100, fall=0.28125, decay=0.01, average=0.997, seed=102)
SCENES = 5000
# Further courses go on from the averaged weights of the one before, on scenes that it never saw.
FURTHER = ((Course(steps=8000, batch=32, rate=1e-3, warm=200, fall=0.5, decay=0.01, average=0.998, seed=108), 10000),)
BESIDES = 0.1  # the weight of what `Insight` asks
UNTOLD = 0.1  # the part of examples whose caption is empty, for classifier-free guidance

Denoise = Callable[..., Any]


def training_captions() -> set[str]:
    """Every caption that the denoiser learns from."""
    courses = ((COURSE, SCENES), *FURTHER)
    return {one.caption for course, count in courses for one in training_scenes(count, course.seed)}


def on_the_way(count: int, draw: torch.Generator) -> torch.Tensor:
    """Places between picture (0) and noise (1) to learn at, [count]: most often where things take shape."""
    import torch

    middle = torch.sigmoid(torch.randn(count, generator=draw) * 1.1)
    even = torch.rand(count, generator=draw)
    t = torch.where(torch.rand(count, generator=draw) < 0.85, middle, even)
    return SHIFT * t / (1 + (SHIFT - 1) * t)


def numbers_of(captions: Sequence[str]) -> torch.Tensor:
    """Captions as the text encoder takes them, int64 [count, words.LENGTH]."""
    import torch

    return torch.tensor(words.batch(captions))


class Examples:
    """Latents with their captions, dealt in a shuffled order that a seed decides.

    Attributes:
        latents: [count, 4, rows, columns], scaled for the network.
        told: the captions' numbers, [count, words.LENGTH].
    """

    def __init__(self, latents: torch.Tensor, captions: Sequence[str], seed: int, untold: float = UNTOLD) -> None:
        import torch

        self.latents, self.told, self.untold = latents, numbers_of(captions), untold
        self.empty = numbers_of([""])[0]
        self.draw = torch.Generator().manual_seed(seed)
        self._order = torch.empty(0, dtype=torch.long)

    def deal(self, count: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
        """(indices, noisy latents, t, wanted directions, captions' numbers) of ``count`` examples."""
        import torch

        while len(self._order) < count:
            self._order = torch.cat([self._order, torch.randperm(len(self.latents), generator=self.draw)])
        chosen, self._order = self._order[:count], self._order[count:]
        latents = self.latents[chosen].float()
        noise = torch.randn(latents.shape, generator=self.draw)
        t = on_the_way(count, self.draw)
        part = t[:, None, None, None]
        told = self.told[chosen].clone()
        told[torch.rand(count, generator=self.draw) < self.untold] = self.empty
        return chosen, (1 - part) * latents + part * noise, t, noise - latents, told


def flow_loss(
    network: Denoise,
    text: CLIPTextModel,
    examples: Examples,
    batch: int,
    place: Place,
    extra: Callable[[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor], dict[str, Any]] | None = None,
    besides: Callable[[torch.Tensor], torch.Tensor] | None = None,
) -> torch.Tensor:
    """How far the network is off on a dealt batch, the mean square.

    ``extra(indices, latents, timesteps, text)`` gives what else the network is handed; ``besides(indices)`` is added,
    `BESIDES` times.
    """
    import torch

    chosen, noisy, t, wanted, told = examples.deal(batch)
    noisy = noisy.to(place.device).contiguous(memory_format=torch.channels_last)
    timesteps = t.to(place.device) * 1000
    with place.autocast():
        heard, whole = hear(text, told.to(place.device))
        more = extra(chosen, noisy, timesteps, heard) if extra else {}
        said = network(noisy, timesteps, heard, class_labels=whole, **more).sample
        added = BESIDES * besides(chosen) if besides else 0.0
    missed: torch.Tensor = (said.float() - wanted.to(place.device)).square().mean() + added
    return missed


def plain_attention(network: Any) -> None:
    """Attention by plain products: torch's own takes a fifth of a step on a processor at these sizes."""
    from diffusers.models.attention_processor import AttnProcessor

    network.set_attn_processor(AttnProcessor())


class Insight:
    """What the denoiser's middle is asked besides, in training alone: which thing each place belongs to.

    Learning to tell it makes the words' way into the picture short (as in REPA, arXiv 2410.06940, but with what the
    scenes' makers know in place of another network's eyes). The 8 x 8 places are the denoiser's smallest size.

    Attributes:
        marks: int64 [count, 2, 8, 8]: colour and shape, a number behind the last where there is no thing.
    """

    def __init__(self, network: UNet2DConditionModel, told: Sequence[Told], device: str) -> None:
        import torch

        self.marks = torch.stack([marks_of(one.scene) for one in told])
        self.says = torch.nn.Conv2d(CHANNELS[-1], len(COLOURS) + len(SHAPES) + 2, 1).to(device)
        self._seen: list[torch.Tensor] = []
        self._hook = network.mid_block.register_forward_hook(lambda module, given, answer: self._seen.append(answer))

    def loss(self, chosen: torch.Tensor) -> torch.Tensor:
        """How far the middle is off for these examples, in the forward pass that was just made."""
        from torch.nn.functional import cross_entropy

        said = self.says(self._seen.pop()).float()
        self._seen.clear()
        wanted = self.marks[chosen].to(said.device)
        colour, shape = said.split((len(COLOURS) + 1, len(SHAPES) + 1), dim=1)
        return cross_entropy(colour, wanted[:, 0]) + cross_entropy(shape, wanted[:, 1])

    def close(self) -> None:
        """Ask no more."""
        self._hook.remove()


def marks_of(scene: Scene) -> torch.Tensor:
    """Colour and shape of the thing at each of 8 x 8 places, see `Insight`."""
    import torch

    line = (torch.arange(8) + 0.5) / 8
    y, x = torch.meshgrid(line, line, indexing="ij")
    marks = torch.stack([torch.full((8, 8), len(COLOURS)), torch.full((8, 8), len(SHAPES))])
    for thing in scene.things:
        covered = (x - thing.x) ** 2 + (y - thing.y) ** 2 < (0.95 * thing.radius) ** 2
        marks[0][covered] = COLOURS.index(thing.colour)
        marks[1][covered] = SHAPES.index(thing.shape)
    return marks


def train_model(
    network: UNet2DConditionModel,
    text: CLIPTextModel,
    examples: Examples,
    told: Sequence[Told],
    course: Course,
    place: Place,
    say: Callable[[str], None],
    **more: Any,
) -> float:
    """Teach the denoiser and its text encoder together; ``told`` are the examples' scenes. Returns seconds a step."""
    import torch

    torch.manual_seed(course.seed)
    plain_attention(network)
    network.to(place.device, memory_format=torch.channels_last).train()
    text.to(place.device).train()

    insight = Insight(network, told, place.device)

    def loss(step: int) -> torch.Tensor:
        return flow_loss(network, text, examples, course.batch, place, besides=insight.loss)

    learned = [*network.parameters(), *text.parameters(), *insight.says.parameters()]
    pace = learn("model", learned, loss, course, say, **more)
    insight.close()
    network.eval()
    text.eval()
    return pace


def times(steps: int, shift: float = SHIFT) -> list[float]:
    """The noise levels of a run, from 1 to 0."""
    even = [1 - step / steps for step in range(steps + 1)]
    return [shift * t / (1 + (shift - 1) * t) for t in even]


def sample(
    network: torch.nn.Module,
    text: CLIPTextModel,
    captions: Sequence[str],
    *,
    side: int = 32,
    steps: int = 20,
    cfg: float = 2.5,
    seed: int = 0,
    negative: str = "",
    extra: Callable[[torch.Tensor, torch.Tensor, torch.Tensor], dict[str, Any]] | None = None,
    half: bool = False,
) -> torch.Tensor:
    """Latents of captions by Euler's steps, [count, 4, side, side], scaled for the network.

    ``extra(latents, timesteps, text)`` gives what else the network is handed (a ControlNet's residuals).
    """
    import torch

    device = next(network.parameters()).device
    draw = torch.Generator().manual_seed(seed)
    latents = torch.randn(len(captions), 4, side, side, generator=draw).to(device)
    told = numbers_of([*captions, *[negative] * len(captions)]).to(device)
    levels = times(steps)
    with torch.no_grad(), Place(device=device.type, half=half).autocast():
        heard, whole = hear(text, told)
        for now, following in pairwise(levels):
            both = torch.cat([latents, latents])
            timesteps = torch.full((len(both),), now * 1000, device=device)
            more = extra(both, timesteps, heard) if extra else {}
            said = network(both, timesteps, heard, class_labels=whole, **more).sample.float()
            wanted, unwanted = said.chunk(2)
            latents = latents + (following - now) * (unwanted + cfg * (wanted - unwanted))
    return latents
