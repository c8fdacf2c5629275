"""Training the autoencoder, and the latents of the pictures that the denoiser learns from."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from .drawing import draw
from .networks import LATENT_CHANNELS, SCALE, SIDE, Parts, Preview
from .scenes import Scene, training_scenes
from .training import Course, Place, learn

if TYPE_CHECKING:
    import torch
    from diffusers import AutoencoderTiny

COURSE = Course(steps=4500, batch=16, rate=2e-3, warm=100, decay=0.0, average=0.995, seed=101)
SCENES = 900
CROP = 64  # pixels a side: the autoencoder has no place farther than that to look at
NOISE = 0.10  # added to latents in training: the decoder forgives what the denoiser leaves
PULL = 1e-3  # towards small latents, so that the noise means something


def canvases(count: int, seed: int, striped_part: float, device: str = "cpu") -> tuple[list[Scene], torch.Tensor]:
    """Drawn training scenes as bytes, uint8 [count, 3, SIDE, SIDE]; the last part of them striped."""
    import torch

    scenes = [told.scene for told in training_scenes(count, seed)]
    plain = count - int(count * striped_part)
    drawn = []
    for start in range(0, count, 16):
        chunk = scenes[start : start + 16]
        cut = min(max(plain - start, 0), len(chunk))
        for part, striped in ((chunk[:cut], False), (chunk[cut:], True)):
            if part:
                drawn.append((draw(part, SIDE, striped=striped, device=device) * 255).round().byte())
    return scenes, torch.cat(drawn)


def _corner(scene: Scene, choose: random.Random) -> tuple[int, int]:
    """A crop's corner: most often with an edge of a thing in it."""
    if choose.random() < 0.15:
        return choose.randrange(SIDE - CROP + 1), choose.randrange(SIDE - CROP + 1)
    thing = choose.choice(scene.things)
    reach = thing.radius
    x, y = (place + choose.uniform(-1.1, 1.1) * reach for place in (thing.x, thing.y))
    return tuple(min(max(int(place * SIDE - CROP / 2), 0), SIDE - CROP) for place in (x, y))  # type: ignore[return-value] # two of two


def _slopes(picture: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    return picture[..., 1:, :] - picture[..., :-1, :], picture[..., :, 1:] - picture[..., :, :-1]


def picture_loss(made: torch.Tensor, wanted: torch.Tensor) -> torch.Tensor:
    """How far a picture is off: its colours, and its edges (differences of neighbours) besides."""
    loss = (made - wanted).abs().mean() + 2 * (made - wanted).square().mean()
    for one, other in zip(_slopes(made), _slopes(wanted), strict=True):
        loss = loss + (one - other).abs().mean()
    return loss


def train_autoencoder(
    module: AutoencoderTiny, course: Course, place: Place, say: Callable[[str], None], scenes: int = SCENES
) -> float:
    """Teach the autoencoder on crops of drawn scenes, a quarter of them striped. Returns seconds a step."""
    import torch

    torch.manual_seed(course.seed)
    choose = random.Random(course.seed)  # noqa: S311 - crops, not secrets
    told, drawn = canvases(scenes, course.seed, 0.25, place.device)
    module.to(place.device, memory_format=torch.channels_last).train()

    def loss(step: int) -> torch.Tensor:
        crops = []
        for _ in range(course.batch):
            index = choose.randrange(len(told))
            x, y = _corner(told[index], choose)
            crops.append(drawn[index, :, y : y + CROP, x : x + CROP])
        pixels = torch.stack(crops).to(place.device).float() / 127.5 - 1
        pixels = pixels.contiguous(memory_format=torch.channels_last)
        with place.autocast():
            latents = module.encoder(pixels).float()
            noisy = latents + NOISE * torch.randn_like(latents)
            made = module.decoder(noisy).float()
        missed: torch.Tensor = picture_loss(made, pixels) + PULL * latents.square().mean()
        return missed

    pace = learn("autoencoder", module.parameters(), loss, course, say)
    module.eval()
    return pace


def encode(module: AutoencoderTiny, pictures: torch.Tensor, place: Place, chunk: int = 16) -> torch.Tensor:
    """Latents of pictures (uint8 [count, 3, rows, columns]), float32, as the autoencoder gives them."""
    import torch

    found = []
    with torch.no_grad(), place.autocast():
        for start in range(0, len(pictures), chunk):
            pixels = pictures[start : start + chunk].to(place.device).float() / 127.5 - 1
            found.append(module.encoder(pixels.contiguous(memory_format=torch.channels_last)).float().cpu())
    return torch.cat(found)


def decode(module: AutoencoderTiny, latents: torch.Tensor) -> torch.Tensor:
    """Pictures of latents, float32 [batch, 3, rows, columns] in 0..1."""
    import torch

    with torch.no_grad():
        made: torch.Tensor = ((module.decoder(latents.float()) + 1) / 2).clamp(0, 1)
    return made


def latents_of(
    module: AutoencoderTiny, scenes: Sequence[Scene], place: Place, *, striped: bool = False, chunk: int = 16
) -> torch.Tensor:
    """Draw scenes and encode them, a few at a time."""
    import torch

    found = []
    for start in range(0, len(scenes), chunk):
        drawn = draw(scenes[start : start + chunk], SIDE, striped=striped, device=place.device)
        found.append(encode(module, (drawn * 255).round().byte(), place))
    return torch.cat(found)


def preview(parts: Parts, seed: int, count: int = 48) -> Preview:
    """The colours of latents' channels that come nearest to drawn scenes, by least squares."""
    import torch
    from torch.nn.functional import avg_pool2d

    scenes = [told.scene for told in training_scenes(count, seed)]
    place = Place(device=str(next(parts.autoencoder.parameters()).device), half=False)
    latents = parts.enter(latents_of(parts.autoencoder, scenes, place)).movedim(1, -1).reshape(-1, LATENT_CHANNELS)
    small = avg_pool2d(draw(scenes, SIDE) * 2 - 1, SCALE).movedim(1, -1).reshape(-1, 3)
    found = torch.linalg.lstsq(torch.cat([latents, torch.ones(len(latents), 1)], dim=1), small).solution
    rows = [tuple(round(float(number), 4) for number in row) for row in found]
    return Preview(colours=tuple(rows[:-1]), bias=rows[-1])  # type: ignore[arg-type] # three numbers each
