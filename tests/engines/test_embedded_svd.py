"""Stable Video Diffusion as a family: which files are its own, what the network is told, guidance along the frames."""

from __future__ import annotations

import json
import lzma
import threading
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

torch = pytest.importorskip("torch", reason="the embedded engine needs torch")
pytest.importorskip("diffusers", reason="models need diffusers")

from comfy_atelier.engines.embedded import families, nodes_svd  # noqa: E402 # needs torch
from comfy_atelier.engines.embedded.context import Context, Run  # noqa: E402
from comfy_atelier.engines.embedded.diffusion import autoencoding  # noqa: E402
from comfy_atelier.engines.embedded.diffusion.encoders import VisionOutput  # noqa: E402
from comfy_atelier.engines.embedded.diffusion.values import Asked, Condition, Guided, Model, Step  # noqa: E402
from comfy_atelier.engines.embedded.diffusion.weights import Component, Weights  # noqa: E402
from comfy_atelier.engines.embedded.families.svd import EYES, label  # noqa: E402

DATA = Path(__file__).parents[1] / "data"
RECORDED: dict[str, Any] = json.loads(lzma.decompress((DATA / "parity" / "svd.json.xz").read_bytes()))


@pytest.fixture(scope="module")
def checkpoint() -> Weights:
    """The tensors of the real file, by name and shape alone."""
    shapes = json.loads(lzma.decompress((DATA / "headers" / "svd_checkpoint.json.xz").read_bytes()))["shapes"]
    return Weights({key: torch.empty(shape, device="meta") for key, shape in shapes.items()}, source="svd.x")


@pytest.fixture(scope="module")
def network(checkpoint: Weights) -> Any:
    return families.network_of(checkpoint.below(*families.DENOISER_PREFIXES))[1]


def asked(frames: int = 3) -> Asked:
    noise = torch.zeros(frames, 4, 6, 8)
    return Asked(noise=noise, latent=noise, mask=None, kind="positive", device=torch.device("cpu"))


def test_each_part_of_a_real_checkpoint_is_recognised(checkpoint: Weights, network: Any) -> None:
    assert (network.family, network.text_width) == ("svd", 1024)
    coder = families.coder_of(checkpoint.below(*families.AUTOENCODER_PREFIXES))
    assert (type(coder).__name__, coder.channels, coder.factor, coder.together) == ("VideoCoder", 4, 8, True)
    assert checkpoint.below(EYES).shape("proj") == (1280, 1024)


def test_the_whole_unet_fits_diffusers_blocks(checkpoint: Weights, network: Any) -> None:
    own = checkpoint.below(*families.DENOISER_PREFIXES)
    module = network.build({name: own[name] for name in own})
    assert sum(p.numel() for p in module.parameters()) == sum(own.shape(name).numel() for name in own)


def test_facts_are_embedded_as_comfyui_embeds_them() -> None:
    found = label(6 - 1, 127, 0.25)
    assert found.shape == (1, 768)
    assert torch.allclose(found.flatten(), torch.tensor(RECORDED["label"]), atol=2e-5)


def test_what_it_is_told(network: Any) -> None:
    seen, latent = torch.ones(1, 1, 1024), torch.ones(1, 4, 3, 4)
    options = {"fps": 6, "motion_bucket_id": 127, "augmentation_level": 0.25, "concat_latent_image": latent}
    told = network.told(Condition(text=seen, options=options), asked())
    assert told["frames"].value == 3
    assert told["concat"].value.shape == (3, 4, 6, 8)  # brought to the latent's size, one for each frame, unscaled
    assert float(told["concat"].value.mean()) == pytest.approx(1.0)
    assert torch.allclose(told["label"].value.flatten(), torch.tensor(RECORDED["label"]), atol=2e-5)
    assert told["text"].fitted(3, None).value.shape == (3, 1, 1024)
    bare = network.told(Condition(text=seen), asked())
    assert not bare["concat"].value.any()
    assert torch.allclose(bare["label"].value, label(5, 127, 0))


def test_frames_are_handed_to_the_module(network: Any) -> None:
    given: list[Any] = []
    module = SimpleNamespace(forward_frames=lambda *inputs, frames: given.append((len(inputs), frames)))
    step = Step(sigma=torch.ones(6), sigmas=torch.ones(2))
    network.predict(module, torch.zeros(6, 8, 6, 8), torch.ones(6), {"text": 1, "label": 2, "frames": 3}, step)
    assert given == [(4, 3)]


class Eyes:
    def look(self, image: Any, *, crop: bool = True) -> VisionOutput:
        assert crop
        return VisionOutput(last_hidden=image, penultimate=image, embeds=torch.full((1, 1024), 0.5))


def context() -> Context:
    return Context(Run(emit=lambda event: None, cancelled=threading.Event()), "4", "SVD_img2vid_Conditioning")


@pytest.mark.parametrize("level", [0.0, 0.5])
def test_the_node_hands_over_picture_facts_and_empty_frames(monkeypatch: pytest.MonkeyPatch, level: float) -> None:
    pixels: list[Any] = []
    monkeypatch.setattr(
        autoencoding, "encode", lambda vae, image, check: pixels.append(image) or torch.ones(1, 4, 6, 8)
    )
    picture = torch.full((1, 100, 100, 4), 0.5)
    positive, negative, latent = nodes_svd.conditioning(
        Eyes(), picture, SimpleNamespace(), 64, 48, 5, 90, 7, level, context=context()
    )
    assert pixels[0].shape == (1, 48, 64, 3)
    assert bool(((pixels[0] - 0.5).abs() < 1e-4).all()) == (level == 0.0)
    assert float(positive[0].text.mean()) == 0.5
    assert not negative[0].text.any()
    assert not negative[0].options["concat_latent_image"].any()
    facts = ("motion_bucket_id", "fps", "augmentation_level")
    assert [positive[0].options[name] for name in facts] == [90, 7, level]
    assert latent["samples"].shape == (5, 4, 6, 8)


def guided(scale: float) -> Guided:
    positive, negative = torch.full((5, 1, 1, 1), 2.0), torch.full((5, 1, 1, 1), 1.0)
    x = torch.full((5, 1, 1, 1), 10.0)
    return Guided(
        denoised=positive,
        positive=positive,
        negative=negative,
        scale=scale,
        x=x,
        sigma=torch.ones(5),
        model=SimpleNamespace(),  # type: ignore[arg-type] # the rules do not ask it
    )


def a_model(network: Any) -> Model:
    component = Component(weights=Weights({}), build=lambda state: None, role="network")
    return Model(
        network=network,
        component=component,
        levels=network.levels,
        prediction=network.prediction,
        latent=network.latent,
    )


def test_guidance_grows_along_the_frames(network: Any) -> None:
    rule = nodes_svd.linear_guidance(a_model(network), 1.0).cfg_rule
    assert rule is not None
    assert rule(guided(3.0)).flatten().tolist() == pytest.approx([2.0, 2.5, 3.0, 3.5, 4.0])
    triangle = nodes_svd.triangle_guidance(a_model(network), 1.0).cfg_rule
    assert triangle is not None
    assert triangle(guided(3.0)).flatten().tolist() == pytest.approx([2.0, 3.0, 4.0, 3.0, 2.0])
