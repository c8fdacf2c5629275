"""The scenes that the demonstration model learns from: what is invented, told and drawn."""

from __future__ import annotations

from collections import Counter

import pytest

from comfy_atelier.engines.embedded.demo import scenes, words

torch = pytest.importorskip("torch", reason="the embedded engine is not installed")

from comfy_atelier.engines.embedded.demo import drawing  # noqa: E402 - needs torch


def one(colour: str, shape: str, background: str = "white", **place: float) -> scenes.Scene:
    at = {"x": 0.5, "y": 0.5, "radius": 0.2} | place
    return scenes.Scene(background=background, things=(scenes.Thing(colour=colour, shape=shape, size="medium", **at),))


def test_a_seed_gives_the_same_scenes() -> None:
    assert scenes.training_scenes(20, 7) == scenes.training_scenes(20, 7)
    assert scenes.training_scenes(20, 7) != scenes.training_scenes(20, 8)


def test_training_never_shows_a_held_out_pair_and_shows_every_other() -> None:
    seen = Counter(
        (thing.colour, thing.shape) for told in scenes.training_scenes(4000, 1) for thing in told.scene.things
    )
    assert not set(seen) & set(scenes.HELD_OUT)
    assert len(seen) == len(scenes.COLOURS) * len(scenes.SHAPES) - len(scenes.HELD_OUT)
    for told in scenes.held_out_scenes(50, 2):
        assert any((thing.colour, thing.shape) in scenes.HELD_OUT for thing in told.scene.things)
        assert all(f"{thing.colour} {thing.shape}" in told.caption for thing in told.scene.things)


def test_things_are_on_the_canvas_and_apart() -> None:
    for told in scenes.training_scenes(500, 3):
        things = told.scene.things
        for index, thing in enumerate(things):
            assert thing.radius <= thing.x <= 1 - thing.radius
            assert thing.radius <= thing.y <= 1 - thing.radius
            for other in things[index + 1 :]:
                assert ((thing.x - other.x) ** 2 + (thing.y - other.y) ** 2) ** 0.5 > thing.radius + other.radius


def test_captions_tell_no_lies() -> None:
    for told in scenes.training_scenes(1500, 4):
        things, caption = told.scene.things, told.caption
        if "background" in caption:
            assert f"{told.scene.background} background" in caption
        if len(things) != 2:
            continue
        (first, second) = things
        for relation, true in (
            ("to the left of", first.x < second.x),
            ("to the right of", first.x > second.x),
            ("above", first.y < second.y),
            ("below", first.y > second.y),
        ):
            assert true or f" {relation} " not in caption, caption


def test_every_caption_is_in_the_vocabulary_and_in_one_section() -> None:
    for told in [*scenes.training_scenes(800, 5), *scenes.held_out_scenes(100, 6)]:
        numbers, strange = words.numbers(told.caption)
        assert not strange
        assert len(numbers) <= words.LENGTH - 2, told.caption


def test_strange_words_are_left_out_and_cousins_are_mapped() -> None:
    found, strange = words.numbers("A HUGE violet disc, photorealistic, on a grey backdrop!")
    assert " ".join(words.VOCABULARY[number] for number in found) == "a large purple circle on a gray background"
    assert strange == ["photorealistic"]
    assert words.section(found)[:1] == [words.BEGIN]
    assert len(words.section([5] * 500)) == words.LENGTH
    assert words.numbers("s ss sss")[0] == []


def test_drawn_things_have_their_colour_in_their_middle() -> None:
    for colour in scenes.COLOURS:
        picture = drawing.draw([one(colour, "square", "gray")])[0]
        middle = picture[:, 118:138, 118:138].mean(dim=(1, 2))
        distances = {name: (middle - torch.tensor(rgb)).norm().item() for name, rgb in drawing.PALETTE.items()}
        assert min(distances, key=distances.__getitem__) == colour


def test_drawn_shapes_differ_and_fill_what_they_should() -> None:
    fills = {}
    for shape in scenes.SHAPES:
        picture = drawing.draw([one("red", shape)])[0]
        inside = (picture[0] - picture[2] > 0.35).float()
        rows, columns = inside.any(dim=1).nonzero(), inside.any(dim=0).nonzero()
        box = (rows.max() - rows.min() + 1) * (columns.max() - columns.min() + 1)
        fills[shape] = (inside.sum() / box).item()
    assert fills["square"] > 0.95
    assert fills["circle"] == pytest.approx(0.785, abs=0.03)
    assert fills["triangle"] == pytest.approx(0.5, abs=0.05)
    assert fills["ring"] < fills["circle"] - 0.1
    assert fills["star"] < 0.5
    assert len({round(fill, 3) for fill in fills.values()}) == len(fills)


def test_a_shadow_falls_and_stripes_are_stripes() -> None:
    scene = one("blue", "circle")
    plain, striped = drawing.draw([scene])[0], drawing.draw([scene], striped=True)[0]
    ground = drawing.backdrop(["white"], 256)[0]
    below = slice(128 + 52, 128 + 60)
    assert (plain[:, below, 128] < ground[:, below, 128] - 0.05).all(), "darker under the thing"
    steps = [picture[0, range(100, 156), range(100, 156)].diff().abs() for picture in (striped, plain)]
    assert (steps[0] > 0.1).sum() >= 4, "across the stripes it goes up and down"
    assert (steps[1] < 0.05).all()
    outside = slice(0, 60)
    assert torch.equal(plain[:, outside], striped[:, outside]), "the background has no stripes"


def test_a_picture_of_half_the_size_is_the_same_picture() -> None:
    told = [told.scene for told in scenes.training_scenes(6, 9)]
    large, small = drawing.draw(told, 256), drawing.draw(told, 128)
    halved = torch.nn.functional.avg_pool2d(large, 2)
    assert (halved - small).abs().mean() < 0.004


def test_new_scenes_are_told_by_captions_that_were_not_seen() -> None:
    first = scenes.new_scenes(30, 5, ())
    seen = {one.caption for one in first[:15]}
    again = scenes.new_scenes(30, 5, seen)
    assert not {one.caption for one in again} & seen
    assert [one.caption for one in again[:15]] == [one.caption for one in first[15:]]
    pairs = {(thing.colour, thing.shape) for one in first for thing in one.scene.things}
    assert not pairs & set(scenes.HELD_OUT)
