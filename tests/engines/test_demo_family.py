"""The demonstration model's files as the embedded engine reads them, with weights that nobody trained."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch", reason="the embedded engine is not installed")

from comfy_atelier.engines.embedded.demo import (  # noqa: E402 - needs torch
    drawing,
    edges,
    evaluate,
    networks,
    reading,
    scenes,
    style,
    train,
    weights,
    words,
)
from comfy_atelier.engines.embedded.demo.training import Course, Place  # noqa: E402 - needs torch
from comfy_atelier.engines.embedded.diffusion import loading, lora, lora_places  # noqa: E402 - needs torch
from comfy_atelier.engines.embedded.diffusion.control import controlnet_of  # noqa: E402 - needs torch
from comfy_atelier.engines.embedded.problems import NodeProblem  # noqa: E402 - needs torch

PREVIEW = networks.Preview(colours=((0.1, 0.2, 0.3),) * 4, bias=(0.0, 0.1, 0.2))


@pytest.fixture(scope="module")
def parts() -> networks.Parts:
    torch.manual_seed(5)
    return networks.Parts(
        unet=networks.unet().eval(),
        autoencoder=networks.autoencoder().eval(),
        text=networks.text_encoder().eval(),
        mean=(0.1, 0.2, 0.3, 0.4),
        deviation=(1.0, 1.5, 0.5, 2.0),
    )


@pytest.fixture(scope="module")
def checkpoint(parts: networks.Parts, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("demo") / weights.CHECKPOINT
    networks.save_parts(parts, path, {"by": "a test"}, PREVIEW)
    return path


def test_a_file_gives_back_what_was_written(parts: networks.Parts, checkpoint: Path) -> None:
    found = networks.load_parts(checkpoint)
    assert (found.mean, found.deviation) == (parts.mean, parts.deviation)
    for name, tensor in parts.unet.state_dict().items():
        assert torch.equal(found.unet.state_dict()[name], tensor.half().float()), name
    latents = torch.randn(1, 4, 8, 8)
    assert torch.allclose(found.leave(found.enter(latents)), latents, atol=1e-5)


def test_the_engine_knows_it_by_its_header(checkpoint: Path) -> None:
    found = loading.checkpoint(checkpoint)
    assert found.model.network.family == "demo"
    assert found.clip is not None
    assert found.vae is not None
    assert found.model.levels.is_flow
    assert found.model.latent.mean == (0.1, 0.2, 0.3, 0.4)
    cut = loading.weights_at(checkpoint)
    cut.metadata = weights.header("checkpoint", {})
    from comfy_atelier.engines.embedded.families.demo import denoiser

    with pytest.raises(NodeProblem, match="header"):
        denoiser(cut)


def test_the_text_is_what_the_encoder_says(parts: networks.Parts, checkpoint: Path) -> None:
    clip = loading.checkpoint(checkpoint).clip
    assert clip is not None
    (plain,) = clip.encode(clip.tokenize("a red circle"))
    reference = networks.load_parts(checkpoint)
    numbers = torch.tensor([words.section(words.numbers("a red circle")[0])])
    text, whole = networks.heard(reference.text, numbers)
    assert torch.allclose(plain.text, text, atol=1e-5)
    assert torch.allclose(plain.options["pooled_output"], whole, atol=1e-5)


def test_weights_move_a_word_and_strange_words_do_nothing(checkpoint: Path) -> None:
    clip = loading.checkpoint(checkpoint).clip
    assert clip is not None

    def text(prompt: str) -> Any:
        return clip.encode(clip.tokenize(prompt))[0].text

    plain, strong = text("a red circle"), text("a (red:1.5) circle")
    changed = (plain - strong).abs().amax(dim=-1)[0] > 1e-6
    assert changed.nonzero().flatten().tolist() == [2]
    empty = text("")
    assert torch.allclose(strong[0, 2] - empty[0, 2], 1.5 * (plain[0, 2] - empty[0, 2]), atol=1e-5)
    assert torch.equal(text("a photorealistic red, circle!"), plain)
    assert text("a red circle and " * 40).shape[1] % words.LENGTH == 0, "a long prompt has several sections"


def test_a_latent_comes_back_as_a_picture_of_its_size(checkpoint: Path) -> None:
    vae = loading.checkpoint(checkpoint).vae
    assert vae is not None
    module = vae.component.module()
    pixels = torch.rand(1, 64, 96, 3)
    latent = vae.coder.encode(module, pixels)
    assert latent.shape == (1, 4, 8, 12)
    assert vae.coder.decode(module, latent).shape == pixels.shape


def test_every_change_of_the_lora_finds_its_place(parts: networks.Parts, checkpoint: Path) -> None:
    change = style.LowRank(parts.unet, 3, seed=1)
    names = {name: shape.shape for name, shape in parts.unet.state_dict().items()}
    adapter = lora.read(change.tensors(), lora_places.generic(names))
    assert not adapter.unmatched
    assert {place.key for place in adapter.changes} == set(change.pairs)
    with torch.no_grad():
        for up, _ in change.pairs.values():
            up.normal_()
    name = "up_blocks.2.resnets.0.conv1.weight"
    applied = lora.read(change.tensors(), lora_places.generic(names)).changes
    (found,) = [value for place, value in applied.items() if place.key == name]
    weight = parts.unet.state_dict()[name]
    assert torch.allclose(found.applied(weight.clone(), 0.5), change.changed(0.5)[name], atol=1e-5)


def test_the_controlnet_is_known_by_its_header_and_begins_as_nothing(parts: networks.Parts, tmp_path: Path) -> None:
    from comfy_atelier.engines.embedded.demo.edges import begin_at, residuals

    module = networks.control().eval()
    begin_at(module, parts.unet)
    own = module.state_dict()
    assert torch.equal(
        own["mid_block.resnets.0.conv1.weight"], parts.unet.state_dict()["mid_block.resnets.0.conv1.weight"]
    )
    latents, text = torch.randn(1, 4, 8, 8), torch.randn(1, words.LENGTH, networks.TEXT_WIDTH)
    with torch.no_grad():
        answer = residuals(module, latents, torch.tensor([500.0]), text, torch.rand(1, 3, 64, 64))
    assert all(bool((tensor == 0).all()) for tensor in answer["down_block_additional_residuals"])
    path = tmp_path / weights.CONTROL
    weights.save(path, own, weights.header("control", {}, control=networks.CONTROL))
    found = controlnet_of(loading.weights_at(path))
    assert type(found.kind).__name__ == "DemoControl"


def test_a_course_rises_holds_and_falls() -> None:
    course = Course(steps=100, batch=1, rate=1.0, warm=10, fall=0.4)
    assert course.rate_at(0) == pytest.approx(0.1)
    assert course.rate_at(10) == course.rate_at(60) == 1.0
    assert course.rate_at(80) == pytest.approx(0.5)
    assert course.rate_at(99) < 0.01


@pytest.mark.slow
def test_a_trial_of_the_whole_training_goes_through(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two steps of every part: what comes out is worth nothing, but the files are whole and a second run takes them."""
    said: list[str] = []
    nothing = evaluate.Score(count=1, right=0.0, exact=0.0, background=0.0, placed=0.0)
    monkeypatch.setattr(train, "scores", lambda parts, reader, say: {"held out": nothing})
    monkeypatch.setattr(reading, "score", lambda reader, count, seed: 0.0)
    training = train.Training(tmp_path, Place(half=False), said.append, part=0.0001)
    training.run()
    for name in (weights.CHECKPOINT, weights.LORA, weights.CONTROL, weights.READER):
        assert (tmp_path / name).is_file()
    assert loading.checkpoint(tmp_path / weights.CHECKPOINT).model.network.family == "demo"
    before = (tmp_path / weights.CHECKPOINT).read_bytes()
    said.clear()
    training.run()
    assert any("taken from" in words_ for words_ in said)
    assert (tmp_path / weights.CHECKPOINT).read_bytes() == before


def test_edge_maps_for_training_are_the_canny_nodes() -> None:
    told = [one.scene for one in scenes.training_scenes(3, 11)]
    one_by_one = torch.cat([edges.edge_maps(drawing.draw([scene], networks.SIDE)) for scene in told])
    maps = edges.maps_of(told, "cpu", chunk=2)
    assert maps.dtype is torch.bool
    assert torch.equal(maps, one_by_one.bool())
    assert 0.005 < float(maps.float().mean()) < 0.2
