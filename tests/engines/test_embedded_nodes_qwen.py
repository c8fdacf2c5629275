"""The nodes of Qwen-Image and Stable Diffusion 3: what they ask of the text encoder and the autoencoder."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from types import SimpleNamespace
from typing import Any

import pytest

torch = pytest.importorskip("torch", reason="the embedded engine needs torch")

from comfy_atelier.engines.embedded import nodes_qwen, nodes_sd3  # noqa: E402 # needs torch
from comfy_atelier.engines.embedded.context import Context, Run  # noqa: E402
from comfy_atelier.engines.embedded.diffusion.encoders import Clip, TextEncoder, Vae  # noqa: E402
from comfy_atelier.engines.embedded.diffusion.latent_format import LatentFormat  # noqa: E402
from comfy_atelier.engines.embedded.diffusion.prediction import Straight  # noqa: E402
from comfy_atelier.engines.embedded.diffusion.values import Condition, Guided, Model  # noqa: E402
from comfy_atelier.engines.embedded.diffusion.weights import Component, Weights  # noqa: E402
from comfy_atelier.engines.embedded.problems import NodeProblem  # noqa: E402
from comfy_atelier.engines.embedded.sigmas import Flow  # noqa: E402


class Encoder(TextEncoder):
    """Keeps what it is asked; tokens are sections that tell the text's length."""

    family = "none"

    def __init__(self) -> None:
        self.asked: list[dict[str, Any]] = []
        self.encoded: list[Any] = []

    def build(self, state: Any) -> Any:
        return torch.nn.Identity()

    def tokenize(self, text: str, **options: Any) -> Any:
        self.asked.append({"text": text, **options})
        long = 2 if len(text) > 20 else 1
        return {"l": [text] * long, "g": [text], "t5xxl": [text]}

    def encode(self, module: Any, tokens: Any, *, layer: int | None = None) -> Condition:
        self.encoded.append(tokens)
        return Condition(text=torch.zeros(1, 1, 1))


@pytest.fixture
def encoder() -> Encoder:
    return Encoder()


@pytest.fixture
def clip(encoder: Encoder) -> Clip:
    return Clip(encoder=encoder, component=Component(weights=Weights({}), build=encoder.build, role="text"))


@pytest.fixture
def context() -> Context:
    return Context(Run(emit=lambda event: None, cancelled=threading.Event()), "1", "TextEncodeQwenImageEdit")


@pytest.fixture
def encoded(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, ...]]:
    """The sizes of the pictures that were encoded."""
    sizes: list[tuple[int, ...]] = []

    def encode(vae: Any, pixels: Any) -> Any:
        sizes.append(tuple(pixels.shape))
        return torch.zeros(1, 16, 1, pixels.shape[1] // 8, pixels.shape[2] // 8)

    monkeypatch.setattr(nodes_qwen, "encode", encode)
    return sizes


VAE: Vae = object()  # type: ignore[assignment] # it is only handed on


def run(name: str, **inputs: Any) -> Any:
    (conditioning,) = nodes_qwen.NODES[name].function(**inputs)
    return conditioning


def test_an_edit_prompt_shows_its_picture_at_a_megapixel(
    clip: Clip, encoder: Encoder, context: Context, encoded: list[tuple[int, ...]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(nodes_qwen, "SHOWN", 64 * 64)
    image = torch.rand(1, 50, 100, 4)
    (condition,) = run("TextEncodeQwenImageEdit", clip=clip, prompt="blue", vae=VAE, image=image, context=context)
    asked = encoder.asked[0]
    assert [tuple(one.shape) for one in asked["images"]] == [(1, 45, 91, 3)]
    assert (asked["text"], asked["run"]) == ("blue", context.run)
    assert encoded == [(1, 45, 91, 3)]
    assert len(condition.options["reference_latents"]) == 1


def test_without_a_vae_the_model_is_not_shown_the_picture(
    clip: Clip, encoder: Encoder, context: Context, encoded: list[tuple[int, ...]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(nodes_qwen, "SHOWN", 64 * 64)
    (condition,) = run(
        "TextEncodeQwenImageEdit", clip=clip, prompt="blue", image=torch.rand(1, 8, 8, 3), context=context
    )
    assert len(encoder.asked[0]["images"]) == 1
    assert (encoded, dict(condition.options)) == ([], {})
    run("TextEncodeQwenImageEdit", clip=clip, prompt="blue", vae=VAE, context=context)
    assert (encoder.asked[1]["images"], encoded) == ([], [])


def test_pictures_keep_their_numbers(
    clip: Clip, encoder: Encoder, context: Context, encoded: list[tuple[int, ...]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(nodes_qwen, "SHOWN_PLUS", 32 * 32)
    monkeypatch.setattr(nodes_qwen, "KEPT", 64 * 64)
    pictures = {"image1": torch.rand(1, 50, 100, 3), "image3": torch.rand(1, 40, 40, 3)}
    (condition,) = run("TextEncodeQwenImageEditPlus", clip=clip, prompt="both", vae=VAE, context=context, **pictures)
    picture = "<|vision_start|><|image_pad|><|vision_end|>"
    assert encoder.asked[0]["text"] == f"Picture 1: {picture}Picture 3: {picture}both"
    assert encoder.asked[0]["template"].endswith("<|im_start|>user\n{}<|im_end|>\n<|im_start|>assistant\n")
    assert [tuple(one.shape) for one in encoder.asked[0]["images"]] == [(1, 23, 45, 3), (1, 32, 32, 3)]
    assert encoded == [(1, 48, 88, 3), (1, 64, 64, 3)]  # sides are multiples of 8
    assert len(condition.options["reference_latents"]) == 2


def test_a_layered_latent_has_a_frame_for_each_layer_and_the_whole() -> None:
    latent: Mapping[str, Any] = nodes_qwen.empty_layers(64, 48, layers=3, batch_size=2)
    assert tuple(latent["samples"].shape) == (2, 16, 4, 6, 8)


@pytest.mark.parametrize(
    ("texts", "padding", "expected"),
    [
        (("a", "b", "c"), "none", {"l": ["a"], "g": ["b"], "t5xxl": ["c"]}),
        (("", "", "c"), "none", {"l": [], "g": [], "t5xxl": ["c"]}),
        (("", "b", ""), "empty_prompt", {"l": [""], "g": ["b"], "t5xxl": [""]}),
        (("a", "b", ""), "none", {"l": ["a"], "g": ["b"], "t5xxl": []}),
        # the CLIPs' sections are as many: an empty prompt's fill the shorter up
        (("a" * 30, "b", "c"), "none", {"l": ["a" * 30] * 2, "g": ["b", ""], "t5xxl": ["c"]}),
    ],
)
def test_each_encoder_gets_its_own_text(
    texts: tuple[str, str, str],
    padding: str,
    expected: dict[str, list[str]],
    clip: Clip,
    encoder: Encoder,
    context: Context,
) -> None:
    first, second, third = texts
    nodes_sd3.encode_texts(clip, first, second, third, padding, context=context)
    assert encoder.encoded == [expected]


def guided_model(family: str = "sd3") -> Any:
    return Model(
        network=SimpleNamespace(family=family),
        component=Component(weights=Weights({}, source="m.safetensors"), build=lambda state: None, role="network"),
        levels=Flow(shift=3.0),
        prediction=Straight(),
        latent=LatentFormat(),
    )


@pytest.mark.parametrize(
    ("sigma", "scale", "expected"), [(0.9, 2.0, 1.0 + (4.0 - 3.0) * 2.0), (0.1, 2.0, 1.0), (0.9, 0.0, 1.0)]
)
def test_guidance_away_from_skipped_blocks_acts_in_its_part_of_the_run(
    sigma: float, scale: float, expected: float
) -> None:
    function = nodes_sd3.NODES["SkipLayerGuidanceSD3"].function
    model = function(model=guided_model(), layers="7, 9", scale=scale, start_percent=0.0, end_percent=0.5)
    asked: list[Any] = []

    def again(patches: Any) -> Any:
        asked.append(patches)
        return torch.full((1,), 3.0)

    step = Guided(
        denoised=torch.ones(1),
        positive=torch.full((1,), 4.0),
        negative=None,
        scale=4.5,
        x=torch.zeros(1),
        sigma=torch.tensor([sigma]),
        model=model,
        again=again,
    )
    assert float(model.cfg_after[0](step)) == expected
    assert asked == ([{"skip_layers": ((7, 9),)}] if expected != 1.0 else [])
    with pytest.raises(NodeProblem, match=r"Stable Diffusion 3 models only, 'm\.safetensors' is none"):
        function(model=guided_model("flux1"), layers="7", scale=3.0, start_percent=0.0, end_percent=0.5)
    whole = guided_model()
    assert function(model=whole, layers="none", scale=3.0, start_percent=0.0, end_percent=0.5) is whole


def test_other_encoders_are_refused(clip: Clip, encoder: Encoder, context: Context) -> None:
    encoder.tokenize = lambda text, **options: [text]  # type: ignore[method-assign] # another family's
    with pytest.raises(NodeProblem, match="not those of Stable Diffusion 3"):
        nodes_sd3.encode_texts(clip, "a", "b", "c", "none", context=context)
