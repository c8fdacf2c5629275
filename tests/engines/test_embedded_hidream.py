"""HiDream as a family: which files are its own, what the network is told, what its text encoders give together."""

from __future__ import annotations

import json
import lzma
import threading
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

torch = pytest.importorskip("torch", reason="the embedded engine needs torch")

from comfy_atelier.engines.embedded import families  # noqa: E402 # needs torch
from comfy_atelier.engines.embedded.context import Run  # noqa: E402
from comfy_atelier.engines.embedded.diffusion.values import Asked, Condition, Step  # noqa: E402
from comfy_atelier.engines.embedded.diffusion.weights import Weights  # noqa: E402
from comfy_atelier.engines.embedded.families import hidream_text, hidream_transformer  # noqa: E402
from comfy_atelier.engines.embedded.problems import NodeProblem  # noqa: E402

DATA = Path(__file__).parents[1] / "data"
ENCODERS = {"clip_l_hidream": "clip_l", "clip_g": "clip_g", "t5xxl": "t5xxl", "llama_3.1_8b": "llama"}


def header(name: str) -> Weights:
    """The tensors of a real file, by name and shape alone."""
    shapes = json.loads(lzma.decompress((DATA / "headers" / f"{name}.json.xz").read_bytes()))["shapes"]
    return Weights({key: torch.empty(shape, device="meta") for key, shape in shapes.items()}, source=f"{name}.x")


@pytest.fixture(scope="module")
def network() -> Any:
    return families.network_of(header("hidream_i1"))[1]


def asked() -> Asked:
    noise = torch.zeros(1, 16, 4, 6)
    return Asked(noise=noise, latent=noise, mask=None, kind="positive", device=torch.device("cpu"))


def test_a_real_file_is_recognised(network: Any) -> None:
    weights = header("hidream_i1")
    assert (network.family, network.text_width) == ("hidream", 4096)
    settings = hidream_transformer.configuration({name: weights[name] for name in weights})
    assert (settings["num_layers"], settings["num_single_layers"], settings["num_attention_heads"]) == (16, 32, 20)
    assert settings["llama_layers"] == [*range(32), *([31] * 16)]
    assert (settings["caption_channels"], settings["text_emb_dim"], settings["in_channels"]) == ([4096, 4096], 2048, 16)


def test_levels_are_not_shifted_as_in_comfyui(network: Any) -> None:
    assert float(network.levels.sigma(torch.tensor(500.0))) == 0.5


def test_what_it_is_told(network: Any) -> None:
    options = {"pooled_output": torch.ones(1, 2048), "conditioning_llama3": torch.ones(1, 32, 5, 4096)}
    text = torch.ones(1, 128, 4096)
    told = network.told(Condition(text=text, options=options), asked())
    assert told.keys() == {"text", "llama", "pooled"}
    picture = {"concat_latent_image": torch.ones(1, 16, 4, 6)}
    told = network.told(Condition(text=text, options={**options, **picture}), asked())
    assert float(told["beside"].value.mean()) == pytest.approx((1 - 0.1159) * 0.3611)
    with pytest.raises(NodeProblem, match="lacks what HiDream's own text encoders give"):
        network.told(Condition(text=text), asked())


def test_the_picture_to_edit_reaches_the_transformer(network: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: dict[str, Any] = {}
    monkeypatch.setattr(hidream_transformer, "predict", lambda *inputs, **told: seen.update(told))
    facts = {"text": 1, "llama": 2, "pooled": 3, "beside": 4}
    step = Step(sigma=torch.ones(1), sigmas=torch.ones(2))
    network.predict(None, torch.zeros(1, 16, 4, 6), torch.ones(1), facts, step)
    assert seen == {"t5": 1, "llama": 2, "pooled": 3, "beside": 4}


@pytest.mark.parametrize(("file", "encoder"), ENCODERS.items())
def test_each_encoder_is_known_by_its_tensors(file: str, encoder: str) -> None:
    assert hidream_text.encoder_in(header(file)) == encoder


def test_any_of_the_encoders_in_any_order() -> None:
    clip = families.text_of([header(file) for file in reversed(ENCODERS)], "hidream")
    assert set(clip.encoder.names) == set(ENCODERS.values())  # type: ignore[attr-defined] # HiDream's has them
    assert [files.name for files in clip.encoder.tokenizers] == ["t5", "llama3"]
    assert "llama.model.norm.weight" in clip.component.weights
    one = families.text_of([header("clip_l_hidream")], "hidream")
    assert list(one.encoder.tokenizers) == []
    with pytest.raises(NodeProblem, match=r"'vae_16\.x' is no text encoder of HiDream"):
        families.text_of([header("vae_16")], "hidream")
    with pytest.raises(NodeProblem, match="second file of the text encoder clip_l"):
        families.text_of([header("clip_l_hidream"), header("clip_l")], "hidream")


def test_a_tokenizer_that_is_not_there_is_named(tmp_path: Path) -> None:
    run = Run(emit=lambda event: None, cancelled=threading.Event(), model_folders=[tmp_path])
    with pytest.raises(NodeProblem, match="the tokenizer of Llama 3 is not in models/tokenizers/llama3") as caught:
        hidream_text.HiDreamText(["llama"]).tokenize("a fox", run=run)
    assert "atelier models get tokenizer-llama3" in caught.value.remedy


def test_what_lacks_is_told_as_zeros() -> None:
    modules = SimpleNamespace(clips={}, t5=None, llama=None)
    condition = hidream_text.HiDreamText([]).encode(modules, {})
    assert condition.text.shape == (1, 128, 4096)
    assert condition.options["pooled_output"].shape == (1, 768 + 1280)
    assert condition.options["conditioning_llama3"].shape == (1, 32, 1, 4096)
    assert not condition.text.any()


class FakeClip:
    def encode(self, sections: Any, *, layer: int | None, normalised: bool, projected: bool) -> tuple[Any, Any]:
        assert projected
        return torch.zeros(1, 77, 1280), torch.full((1, 1280), 2.0)


class FakeT5:
    def encode(self, sections: Any, *, masked: bool) -> tuple[Any, Any]:
        assert masked
        return torch.full((1, 128, 4096), 3.0), torch.ones(1, 128)


class FakeLlama:
    def encode(self, section: Any) -> Any:
        return torch.full((1, 32, len(section), 4096), 4.0)


def test_what_is_there_is_put_in_its_place() -> None:
    modules = SimpleNamespace(clips={"clip_g": FakeClip()}, t5=FakeT5(), llama=FakeLlama())
    tokens = {"clip_g": [[]], "t5xxl": [[]], "llama": [[(128000, 1.0), (7, 1.0)]]}
    condition = hidream_text.HiDreamText(["clip_g", "t5xxl", "llama"]).encode(modules, tokens)
    pooled = condition.options["pooled_output"]
    assert (float(pooled[0, 0]), float(pooled[0, 768])) == (0.0, 2.0)
    assert float(condition.text.mean()) == 3.0
    assert condition.options["conditioning_llama3"].shape == (1, 32, 2, 4096)


def test_long_prompts_are_cut_for_t5_and_not_for_llama(monkeypatch: pytest.MonkeyPatch) -> None:
    words = SimpleNamespace(encode=lambda text: [ord(letter) for letter in text])
    monkeypatch.setattr(hidream_text, "vocabulary", lambda files, run: words)
    tokens = hidream_text.HiDreamText(["t5xxl", "llama"]).tokenize("x" * 300)
    assert len(tokens["t5xxl"]) == 1
    assert len(tokens["t5xxl"][0]) == 128
    assert len(tokens["llama"][0]) == 301
    short = hidream_text.HiDreamText(["llama"]).tokenize("fox")["llama"][0]
    assert [token for token, _ in short] == [128000, *map(ord, "fox"), *([128009] * 124)]
