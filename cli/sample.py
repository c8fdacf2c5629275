"""Draws the demo's sample picture: a harbour at dusk, with the gradients, edges, grain and fall-off of a photograph.

Run it alone with ``python -m comfy_atelier.cli.sample OUT.png``.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Array = NDArray[np.float64]

WIDTH, HEIGHT = 1152, 768
HORIZON = 0.58  # of the height
SEED = 20261122


def _noise(rng: np.random.Generator, height: int, width: int, cells: tuple[int, int], octaves: int) -> Array:
    """Fractal value noise in 0..1, float64 [height, width]: each octave has twice the cells and half the weight."""
    import numpy as np
    from PIL import Image

    total = np.zeros((height, width))
    weight = 1.0
    rows, columns = cells
    for _ in range(octaves):
        grid = (rng.random((rows, columns)) * 255).astype(np.uint8)
        layer = Image.fromarray(grid).resize((width, height), Image.Resampling.BICUBIC)
        total += weight * np.asarray(layer, dtype=np.float64) / 255
        weight, rows, columns = weight / 2, rows * 2, columns * 2
    total -= total.min()
    return np.asarray(total / total.max())


def _sky(rng: np.random.Generator, width: int, height: int) -> Array:
    """Dusk: a gradient of five colours, the sun's glow, clouds lit from below. float64 [height, width, 3] in 0..1."""
    import numpy as np

    stops = np.array([0.0, 0.35, 0.62, 0.85, 1.0])
    colours = np.array([[28, 38, 82], [78, 74, 132], [196, 112, 122], [250, 166, 96], [255, 214, 140]]) / 255
    y = np.linspace(0, 1, height)
    sky = np.stack([np.interp(y, stops, colours[:, channel]) for channel in range(3)], axis=-1)[:, None, :]
    sky = np.repeat(sky, width, axis=1)
    yy, xx = np.mgrid[0:height, 0:width]
    distance = np.hypot((xx - 0.68 * width) / width, (yy - 0.9 * height) / width)
    sky += np.exp(-((distance / 0.16) ** 2))[..., None] * np.array([0.30, 0.20, 0.05])
    clouds = _noise(rng, height, width, (5, 3), 6)
    cover = np.clip((clouds - 0.52) * 3.2, 0, 1)[..., None] * 0.75
    lit = np.array([1.0, 0.62, 0.52]) * (0.35 + 0.65 * y[:, None, None])
    sky = sky * (1 - cover) + lit * cover
    sun = np.clip((0.021 - distance) / 0.0015, 0, 1)[..., None]
    return np.asarray(sky * (1 - sun) + np.array([1.0, 0.95, 0.78]) * sun)


def _hills(picture: Array, rng: np.random.Generator, horizon: int) -> None:
    """Three ranges of hills above the water, paler the farther; drawn in place."""
    import numpy as np

    width = picture.shape[1]
    x = np.arange(width)
    rows = np.arange(picture.shape[0])[:, None]
    for base, height, colour in (
        (30, 70, (0.55, 0.40, 0.50)),
        (14, 52, (0.36, 0.28, 0.42)),
        (2, 34, (0.20, 0.17, 0.29)),
    ):
        line = np.interp(x, np.linspace(0, width, 24), rng.random(24)) * height
        line += np.interp(x, np.linspace(0, width, 160), rng.random(160)) * height * 0.18
        top = horizon - base - line
        inside = np.clip(rows - top, 0, 1) * (rows < horizon)
        picture[:] = picture * (1 - inside[..., None]) + np.array(colour) * inside[..., None]


def _things(width: int, height: int, horizon: int) -> Array:
    """What stands before the light: a lighthouse, a pier, boats.

    Opacity, float64 [height, width] in 0..1, drawn three times larger and shrunk.
    """
    import numpy as np
    from PIL import Image, ImageDraw

    scale = 3
    mask = Image.new("L", (width * scale, height * scale), 0)
    draw = ImageDraw.Draw(mask)

    def polygon(*points: tuple[float, float]) -> None:
        draw.polygon([(x * scale, y * scale) for x, y in points], fill=255)

    base = horizon + 10
    polygon((80, base), (70, base + 26), (330, base + 26), (300, base - 6), (200, base - 16), (120, base - 10))  # rock
    polygon((168, base - 8), (178, base - 190), (206, base - 190), (216, base - 8))  # tower
    polygon((170, base - 190), (170, base - 196), (214, base - 196), (214, base - 190))  # gallery
    polygon((180, base - 196), (182, base - 222), (202, base - 222), (204, base - 196))  # lantern
    polygon((178, base - 222), (192, base - 240), (206, base - 222))  # roof
    polygon((0, base + 60), (0, base + 72), (470, base + 66), (470, base + 58))  # pier
    for post in range(20, 470, 50):
        polygon((post, base + 60), (post, base + 104), (post + 7, base + 104), (post + 7, base + 60))
    for x, y, size in ((620, horizon + 40, 1.0), (935, horizon + 84, 1.7), (505, horizon + 16, 0.5)):
        polygon((x - 58 * size, y - 8 * size), (x - 40 * size, y + 10 * size), (x + 42 * size, y + 10 * size),
                (x + 62 * size, y - 10 * size))  # fmt: skip
        polygon((x - 3 * size, y - 8 * size), (x - 3 * size, y - 120 * size), (x, y - 120 * size), (x, y - 8 * size))
        polygon((x + 4 * size, y - 116 * size), (x + 4 * size, y - 16 * size), (x + 52 * size, y - 18 * size))
        polygon((x - 7 * size, y - 100 * size), (x - 7 * size, y - 16 * size), (x - 44 * size, y - 14 * size))
    small = mask.resize((width, height), Image.Resampling.LANCZOS)
    return np.asarray(small, dtype=np.float64) / 255


def _water(picture: Array, rng: np.random.Generator, horizon: int) -> None:
    """The lower part mirrors the upper, broken by waves that grow towards the viewer; drawn in place."""
    import numpy as np

    height, width = picture.shape[:2]
    depth = height - horizon
    rows = np.arange(depth)[:, None]
    near = rows / depth
    ripple = _noise(rng, depth, width, (48, 10), 4) - 0.5
    shift = (ripple * (4 + 46 * near)).astype(int)
    source_rows = np.clip(horizon - 1 - rows * 1.25 + shift, 0, horizon - 1).astype(int)
    source_columns = np.clip(np.arange(width)[None, :] + (ripple * 10 * near).astype(int), 0, width - 1)
    mirror = picture[source_rows, source_columns]
    tint = np.array([0.10, 0.14, 0.26])
    fade = (0.30 + 0.38 * near)[..., None]
    water = mirror * (1 - fade) + tint * fade
    glitter = np.clip(ripple * 6 - 1.3, 0, 1) * np.exp(-(((np.arange(width) - 0.68 * width) / (0.07 * width)) ** 2))
    picture[horizon:] = water + glitter[..., None] * np.array([0.9, 0.62, 0.36])


def draw_sample() -> Array:
    """The sample picture: float64 [768, 1152, 3] in 0..1, the same on every machine but for rounding."""
    import numpy as np

    rng = np.random.default_rng(SEED)
    horizon = int(HEIGHT * HORIZON)
    picture = np.zeros((HEIGHT, WIDTH, 3))
    picture[:horizon] = _sky(rng, WIDTH, horizon)
    _hills(picture, rng, horizon)
    _water(picture, rng, horizon)
    things = _things(WIDTH, HEIGHT, horizon)[..., None]
    shade = np.array([0.055, 0.05, 0.09]) + 0.05 * _noise(rng, HEIGHT, WIDTH, (90, 130), 2)[..., None]
    picture = picture * (1 - things) + shade * things
    yy, xx = np.mgrid[0:HEIGHT, 0:WIDTH]
    lamp = np.hypot(xx - 192, yy - (horizon - 200))
    picture += np.exp(-((lamp / 16) ** 2))[..., None] * np.array([0.9, 0.7, 0.35])
    picture += np.exp(-(lamp / 55))[..., None] * np.array([0.22, 0.15, 0.07])
    corner = np.hypot((xx - WIDTH / 2) / WIDTH, (yy - HEIGHT / 2) / HEIGHT)
    picture *= (1 - 0.55 * corner**2.2)[..., None]
    picture += rng.normal(0, 0.012, picture.shape[:2])[..., None]  # film grain
    return np.asarray(np.clip(picture, 0, 1))


def save_sample(path: Path) -> None:
    """Write the sample picture as an 8-bit PNG."""
    import numpy as np
    from PIL import Image

    pixels = (draw_sample() * 255 + 0.5).astype(np.uint8)
    Image.fromarray(pixels).save(path, format="PNG")


if __name__ == "__main__":
    save_sample(Path(sys.argv[1]))
