"""The demonstration model's contact sheet: every way of asking, drawn by the embedded engine through stock nodes.

python -m comfy_atelier.engines.embedded.demo.sheet docs/images/demo-model.png
"""

from __future__ import annotations

import argparse
import asyncio
import io
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from ....graph.prompt import Prompt
from ...events import Produced
from ..engine import EmbeddedEngine
from . import drawing, edges, graphs
from .scenes import Scene, Thing

SIDE = 168  # pixels of a picture on the sheet
GAP, LABEL, MARGIN = 10, 34, 16
PAPER, INK, FAINT = (247, 245, 240), (40, 40, 44), (110, 108, 104)
ACROSS = 6

Picture = Image.Image
Cell = tuple[str, Picture]

START = Scene(
    background="gray",
    things=(Thing(shape="circle", colour="red", size="large", x=0.36, y=0.55, radius=0.24),),
)
PAIR = Scene(
    background="blue",
    things=(
        Thing(shape="star", colour="yellow", size="medium", x=0.27, y=0.5, radius=0.19),
        Thing(shape="circle", colour="white", size="medium", x=0.73, y=0.5, radius=0.19),
    ),
)
OUTLINE = Scene(
    background="white",
    things=(Thing(shape="heart", colour="red", size="large", x=0.66, y=0.36, radius=0.26),),
)


def drawn(scene: Scene) -> Picture:
    """A drawn scene as a picture."""
    pixels = drawing.draw([scene], graphs.SIDE)[0].permute(1, 2, 0).numpy()
    return Image.fromarray((pixels * 255).round().astype(np.uint8))


async def made(engine: EmbeddedEngine, nodes: Any) -> list[Picture]:
    """The pictures that a prompt saves."""
    found = []
    async for event in engine.run(Prompt.from_json(nodes), files={}):
        if isinstance(event, Produced):
            data = event.data if isinstance(event.data, bytes) else event.data.read_bytes()
            found.append(Image.open(io.BytesIO(data)).convert("RGB"))
    return found


async def cells(folder: Path) -> list[list[Cell]]:
    """The sheet's rows; ``folder`` takes the pictures that prompts begin with."""
    for name, scene in (("start.png", START), ("pair.png", PAIR), ("outline.png", OUTLINE)):
        drawn(scene).save(folder / name)
    engine = EmbeddedEngine(folder, log_dir=folder / "log")

    async def one(label: str, nodes: Any) -> Cell:
        return label, (await made(engine, nodes))[0]

    def ask(prompt: str, **more: Any) -> graphs.Nodes:
        return graphs.text_to_image(prompt, **more)

    try:
        prompts = (
            "a red circle on a white background",
            "a large yellow star on a blue background",
            "a purple heart on a yellow background",
            "a small green triangle at the top left on a pink background",
            "a red heart to the left of a blue square on a gray background",
            "a white moon above an orange cross on a black background",
        )
        rows = [[await one(prompt, ask(prompt)) for prompt in prompts]]
        plain = "a pink star"
        rows.append([await one(f"{plain}: seed {seed}", ask(plain, seed=seed)) for seed in range(1, 4)])
        rows[-1] += [
            await one("seed 3, negative prompt: a black background", ask(plain, seed=3, negative="a black background")),
            await one("seed 3, cfg 5", ask(plain, seed=3, cfg=5.0)),
            await one("seed 3, cfg 1", ask(plain, seed=3, cfg=1.0)),
        ]
        blue = ask("a blue circle on a gray background")
        rows.append(
            [
                ("image to image: from this", drawn(START)),
                await one("a blue circle, denoise 0.6", graphs.from_picture(blue, "start.png", 0.6)),
                await one("a blue circle, denoise 0.8", graphs.from_picture(blue, "start.png", 0.8)),
            ]
        )
        masked = drawn(PAIR)
        ImageDraw.Draw(masked).rectangle((128, 0, 255, 255), outline=(255, 255, 255), width=3)
        heart = ask("a yellow star to the left of a red heart on a blue background")
        cross = ask("a yellow star to the left of a green cross on a blue background")
        rows[-1] += [
            ("inpaint: the right half of this", masked),
            await one("... of a red heart", graphs.inpainted(heart, "pair.png", 128, 0, 128, 256)),
            await one("... of a green cross", graphs.inpainted(cross, "pair.png", 128, 0, 128, 256)),
        ]
        ring = ask("a large green ring on a white background")
        rows.append(
            [
                await one("a large green ring", ring),
                await one("with the LoRA", graphs.striped(ring)),
                await one("a red heart above a blue star, LoRA", graphs.striped(ask("a red heart above a blue star"))),
            ]
        )
        outlines = edges.edge_maps(drawing.draw([OUTLINE], graphs.SIDE))[0, 0].numpy()
        rows[-1] += [("ControlNet: these edges", Image.fromarray((outlines * 255).astype(np.uint8)).convert("RGB"))]
        for prompt in (
            "a red heart on a gray background",
            "a yellow heart on a purple background",
        ):
            rows[-1].append(await one(prompt, graphs.outlined(ask(prompt), "outline.png")))
        return rows
    finally:
        await engine.close()


def _lines(words: str, font: Any, width: int) -> list[str]:
    lines = [""]
    for word in words.split():
        longer = f"{lines[-1]} {word}".strip()
        if font.getlength(longer) <= width or not lines[-1]:
            lines[-1] = longer
        else:
            lines.append(word)
    return lines


def laid_out(rows: Sequence[Sequence[Cell]]) -> Picture:
    """All pictures with their labels on one sheet."""
    font = ImageFont.load_default(size=12)
    height = MARGIN * 2 + len(rows) * (SIDE + LABEL + GAP) - GAP
    width = MARGIN * 2 + ACROSS * (SIDE + GAP) - GAP
    sheet = Image.new("RGB", (width, height), PAPER)
    pen = ImageDraw.Draw(sheet)
    for row, cells_ in enumerate(rows):
        for column, (label, picture) in enumerate(cells_):
            x, y = MARGIN + column * (SIDE + GAP), MARGIN + row * (SIDE + LABEL + GAP)
            sheet.paste(picture.resize((SIDE, SIDE), Image.Resampling.LANCZOS), (x, y))
            for number, line in enumerate(_lines(label, font, SIDE)[:2]):
                pen.text((x, y + SIDE + 3 + 15 * number), line, font=font, fill=INK if column == 0 else FAINT)
    return sheet


def main(arguments: Sequence[str] | None = None) -> int:
    """Make the sheet; returns the exit code."""
    parser = argparse.ArgumentParser(prog="sheet", description="The demonstration model's contact sheet.")
    parser.add_argument("output", type=Path)
    chosen = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory() as folder:
        rows = asyncio.run(cells(Path(folder)))
    sheet = laid_out(rows).quantize(colors=256, method=Image.Quantize.MEDIANCUT, dither=Image.Dither.FLOYDSTEINBERG)
    sheet.save(chosen.output, optimize=True)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
