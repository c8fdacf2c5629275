"""What the shipped demonstration model draws is what it was asked for: through stock nodes, read by its classifier.

Seeds are fixed and the model is small, so these are facts about the files in the package, not chances.
"""

from __future__ import annotations

import io
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import pytest_asyncio
from PIL import Image

from comfy_atelier.engines import EmbeddedEngine, Produced
from comfy_atelier.graph import Prompt

torch = pytest.importorskip("torch", reason="the embedded engine is not installed")

from comfy_atelier.engines.embedded.demo import drawing, graphs, reading, scenes, weights  # noqa: E402 - needs torch

together = pytest.mark.asyncio(loop_scope="module")  # one worker serves these tests

READER = Path(__file__).parents[1] / "data" / "demo" / weights.READER
STEPS = 16
Pixels = np.ndarray[Any, np.dtype[np.float32]]


@pytest.fixture(scope="module")
def reader() -> Any:
    return reading.load_reader(READER)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def engine(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[EmbeddedEngine]:
    found = EmbeddedEngine(tmp_path_factory.mktemp("input"), log_dir=tmp_path_factory.mktemp("log"))
    yield found
    await found.close()


def asked(prompt: str, **more: Any) -> graphs.Nodes:
    return graphs.text_to_image(prompt, steps=STEPS, **more)


async def pictures(engine: EmbeddedEngine, nodes: graphs.Nodes) -> Pixels:
    """float32 [batch, height, width, 3] in 0..1."""
    found = []
    async for event in engine.run(Prompt.from_json(nodes), files={}):
        if isinstance(event, Produced):
            data = event.data if isinstance(event.data, bytes) else event.data.read_bytes()
            found.append(np.asarray(Image.open(io.BytesIO(data)).convert("RGB"), np.float32) / 255)
    return np.stack(found)


def seen(reader: Any, found: Pixels) -> list[reading.Reading]:
    return reading.read(reader, torch.from_numpy(found).permute(0, 3, 1, 2))


def saved(engine: EmbeddedEngine, scene: scenes.Scene, name: str) -> str:
    """A drawn scene as a file in the engine's input folder; its name."""
    picture = drawing.draw([scene])[0].permute(1, 2, 0).numpy()
    assert engine._input_folder is not None
    Image.fromarray((picture * 255).round().astype(np.uint8)).save(engine._input_folder / name)
    return name


def scene_of(colour: str, shape: str, background: str, *, x: float = 0.5, y: float = 0.5) -> scenes.Scene:
    thing = scenes.Thing(colour=colour, shape=shape, size="medium", x=x, y=y, radius=0.19)
    return scenes.Scene(background=background, things=(thing,))


@pytest.mark.parametrize(
    ("prompt", "pair", "background"),
    [
        ("a red circle on a white background", ("red", "circle"), "white"),
        ("a large blue star on a yellow background", ("blue", "star"), "yellow"),
        ("a yellow star on a blue background", ("yellow", "star"), "blue"),  # a pair that training never showed
    ],
)
@together
async def test_it_draws_what_was_asked(
    engine: EmbeddedEngine, reader: Any, prompt: str, pair: tuple[str, str], background: str
) -> None:
    (reading_,) = seen(reader, await pictures(engine, asked(prompt)))
    assert reading_.pairs == [pair]
    assert reading_.background == background


@together
async def test_two_things_stand_as_told(engine: EmbeddedEngine, reader: Any) -> None:
    prompt = "a red heart to the left of a blue square on a gray background"
    (reading_,) = seen(reader, await pictures(engine, asked(prompt)))
    assert reading_.pairs == [("blue", "square"), ("red", "heart")]
    left, right = sorted(reading_.things, key=lambda thing: thing.x)
    assert (left.shape, right.shape) == ("heart", "square")


@together
async def test_the_red_circle_is_red_and_a_circle_by_its_pixels(engine: EmbeddedEngine) -> None:
    (picture,) = await pictures(engine, asked("a red circle in the middle on a white background"))
    red = (picture[..., 0] > picture[..., 1] + 0.25) & (picture[..., 0] > picture[..., 2] + 0.25)
    rows, columns = np.nonzero(red)
    height, width = np.ptp(rows) + 1, np.ptp(columns) + 1
    assert 0.85 < width / height < 1.18
    assert red.sum() / (width * height) == pytest.approx(np.pi / 4, abs=0.06)


@together
async def test_a_seed_gives_one_picture_and_another_seed_another(engine: EmbeddedEngine) -> None:
    prompt = "a green triangle"
    first = await pictures(engine, asked(prompt, seed=1))
    other = await pictures(engine, asked(prompt, seed=2))
    again = await pictures(engine, {**asked(prompt, seed=1), "more": _nothing("again")})
    assert np.array_equal(first, again)
    assert np.abs(first - other).mean() > 0.02


def _nothing(text: str) -> dict[str, Any]:
    """A node that no output needs: another prompt, the same work."""
    return {"class_type": "CLIPTextEncode", "inputs": {"clip": ["model", 1], "text": text}}


@together
@pytest.mark.parametrize("cfg", [2.5, 5.0])
async def test_the_negative_prompt_takes_away(engine: EmbeddedEngine, reader: Any, cfg: float) -> None:
    (plain,) = seen(reader, await pictures(engine, asked("a pink star", seed=3)))
    assert plain.background == "black"
    nodes = asked("a pink star", seed=3, negative="a black background", cfg=cfg)
    (without,) = seen(reader, await pictures(engine, nodes))
    assert without.background != "black"
    assert without.pairs == [("pink", "star")]


@together
async def test_image_to_image_keeps_the_place_and_changes_the_thing(engine: EmbeddedEngine, reader: Any) -> None:
    name = saved(engine, scene_of("red", "circle", "white", x=0.3, y=0.62), "red.png")
    nodes = graphs.from_picture(asked("a blue circle on a white background"), name, 0.75)
    (reading_,) = seen(reader, await pictures(engine, nodes))
    (thing,) = reading_.things
    assert (thing.colour, thing.shape) == ("blue", "circle")
    assert thing.x == pytest.approx(0.3, abs=0.13)
    assert thing.y == pytest.approx(0.62, abs=0.13)


@together
async def test_inpainting_leaves_the_rest(engine: EmbeddedEngine, reader: Any) -> None:
    scene = scene_of("yellow", "star", "blue", x=0.25, y=0.5)
    name = saved(engine, scene, "left.png")
    prompt = "a yellow star to the left of a red heart on a blue background"
    nodes = graphs.inpainted(asked(prompt), name, 128, 0, 128, 256)
    found = await pictures(engine, nodes)
    (reading_,) = seen(reader, found)
    assert reading_.pairs == [("red", "heart"), ("yellow", "star")]
    before = drawing.draw([scene])[0].permute(1, 2, 0).numpy()
    assert np.abs(found[0][:, :112] - before[:, :112]).mean() < 0.02, "as it was, but for the autoencoder"


def stripes(picture: Pixels) -> float:
    """How much neighbouring pixels differ where the thing is: stripes have edges inside it."""
    middle = picture[64:-64, 64:-64]
    return float(np.abs(np.diff(middle, axis=0)).mean() + np.abs(np.diff(middle, axis=1)).mean())


@together
@pytest.mark.parametrize("prompt", ["a large green ring on a white background", "a large purple square"])
async def test_the_lora_stripes(engine: EmbeddedEngine, prompt: str) -> None:
    nodes = asked(prompt)
    (plain,) = await pictures(engine, nodes)
    (half,) = await pictures(engine, graphs.striped(nodes, 0.5))
    (striped,) = await pictures(engine, graphs.striped(nodes))
    assert stripes(striped) > 1.5 * stripes(plain)
    assert stripes(half) < stripes(striped)


@together
@pytest.mark.parametrize(
    ("colour", "shape", "x", "y"),
    [("red", "heart", 0.7, 0.3), ("blue", "circle", 0.3, 0.7), ("green", "square", 0.68, 0.68)],
)
async def test_the_controlnet_puts_things_where_the_edges_are(
    engine: EmbeddedEngine, reader: Any, colour: str, shape: str, x: float, y: float
) -> None:
    name = saved(engine, scene_of("white", shape, "black", x=x, y=y), f"{shape}.png")
    nodes = asked(f"a {colour} {shape} on a gray background")
    (reading_,) = seen(reader, await pictures(engine, graphs.outlined(nodes, name)))
    (thing,) = reading_.things
    assert (thing.colour, thing.shape) == (colour, shape)
    assert max(abs(thing.x - x), abs(thing.y - y)) < 0.07
    (free,) = seen(reader, await pictures(engine, nodes))
    assert max(abs(free.things[0].x - x), abs(free.things[0].y - y)) > 0.1, "by itself it stands elsewhere"


@together
async def test_strange_words_and_weights_are_no_error(engine: EmbeddedEngine, reader: Any) -> None:
    prompt = "masterpiece, (a red:1.2) circle, highly detailed, on a white background"
    (reading_,) = seen(reader, await pictures(engine, asked(prompt)))
    assert reading_.pairs == [("red", "circle")]


def test_the_files_say_what_made_them_and_are_small() -> None:
    total = 0
    for folder, name in weights.FILES.items():
        path = weights.MODELS / folder / name
        total += path.stat().st_size
        metadata = weights.load(path)[1]
        assert weights.setting(metadata, "model") == weights.NAME
        assert weights.setting(metadata, "made")["by"].endswith("demo.train")
    assert total <= 12_000_000


def test_the_reader_reads_what_was_drawn(reader: Any) -> None:
    assert reading.score(reader, 50, 4711) >= 0.98
