"""Llama's text encoder against what ComfyUI 0.33.0's own gave with the same seeded weights.

Recorded by ``tests/data/parity/record_llama.py``.
"""

from __future__ import annotations

import importlib
import json
import lzma
import zlib
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch", reason="the embedded engine needs torch")
np = pytest.importorskip("numpy")
try:
    importlib.import_module("transformers.models.llama.modeling_llama")
except (ImportError, RuntimeError) as error:  # it is not there, or what it loads does not fit together
    pytest.skip(f"models need transformers: {error}".splitlines()[0], allow_module_level=True)

from comfy_atelier.engines.embedded.diffusion.streaming import stream  # noqa: E402 # needs torch
from comfy_atelier.engines.embedded.families import llama  # noqa: E402
from comfy_atelier.engines.embedded.families.tokens import Layout  # noqa: E402
from comfy_atelier.engines.embedded.problems import NodeProblem  # noqa: E402

RECORD = Path(__file__).parents[1] / "data" / "parity" / "llama.json.xz"
RECORDED: dict[str, Any] = json.loads(lzma.decompress(RECORD.read_bytes()))
LAYOUT = Layout(start=RECORDED["start"], pad=RECORDED["pad"])


def fill(name: str, shape: tuple[int, ...]) -> Any:
    rng = np.random.default_rng(zlib.crc32(name.encode()))
    values = rng.standard_normal(shape) / max(1.0, float(np.prod(shape[1:]))) ** 0.5
    if len(shape) == 1 and name.endswith("weight"):
        values = 1 + 0.1 * values
    return torch.from_numpy(values.astype(np.float32))


def state() -> dict[str, Any]:
    return {name: fill(name, tuple(shape)) for name, shape in RECORDED["shapes"].items()}


@pytest.fixture(scope="module")
def encoder() -> llama.LlamaText:
    return llama.LlamaText(state(), layout=LAYOUT)


@pytest.mark.parametrize("output", RECORDED["outputs"], ids=lambda output: output["name"])
def test_it_encodes_as_comfyui_does(encoder: llama.LlamaText, output: dict[str, Any]) -> None:
    with torch.no_grad():
        found = encoder.encode([tuple(token) for token in output["tokens"]])
    wanted = torch.tensor(output["values"]).reshape(found.shape)
    assert found.shape[:3] == (1, 3, len(output["tokens"]))
    assert (found - wanted).abs().max() <= 1e-5 * wanted.abs().max()


def test_padding_does_not_change_the_text(encoder: llama.LlamaText) -> None:
    short = [(LAYOUT.start, 1.0), (5, 1.0), (17, 1.0)]
    with torch.no_grad():
        alone, padded = encoder.encode(short), encoder.encode([*short, *([(LAYOUT.pad, 1.0)] * 4)])
    assert torch.allclose(alone, padded[:, :, :3], atol=1e-5)


def test_an_embedding_stands_in_the_place_of_a_token(encoder: llama.LlamaText) -> None:
    vector = state()["model.embed_tokens.weight"][17]
    with torch.no_grad():
        by_number = encoder.encode([(LAYOUT.start, 1.0), (17, 1.0)])
        by_vector = encoder.encode([(LAYOUT.start, 1.0), (vector, 1.0)])
        of_another = encoder.encode([(LAYOUT.start, 1.0), (vector[:7], 1.0)])
        padded = encoder.encode([(LAYOUT.start, 1.0), (LAYOUT.pad, 1.0)])
    assert torch.equal(by_number, by_vector)
    assert torch.equal(of_another, padded)


def test_weights_may_be_kept_small_until_they_are_used() -> None:
    small = {name: tensor.to(torch.float8_e4m3fn) for name, tensor in state().items()}
    streamed = llama.LlamaText(small, layout=LAYOUT)
    stream(streamed, torch.device("cpu"), torch.float32)
    whole = llama.LlamaText({name: tensor.float() for name, tensor in small.items()}, layout=LAYOUT)
    tokens = [(LAYOUT.start, 1.0), (5, 1.2), (17, 1.0)]
    with torch.no_grad():
        assert torch.allclose(streamed.encode(tokens), whole.encode(tokens), atol=1e-5)


def test_it_tells_llama_from_qwen() -> None:
    assert llama.recognised(state())
    assert not llama.recognised({**state(), "model.layers.0.self_attn.k_proj.bias": None})


def test_what_is_not_whole_is_refused(encoder: llama.LlamaText) -> None:
    weights = state()
    del weights["model.layers.2.mlp.down_proj.weight"]
    with pytest.raises(NodeProblem, match=r"layers\.2\.mlp\.down_proj\.weight' is missing"):
        llama.LlamaText(weights)
    with pytest.raises(NodeProblem, match=r"no whole Llama text encoder: 'model\.embed_tokens\.weight' is missing"):
        llama.LlamaText({})
    with pytest.raises(NodeProblem, match="knows more words"):
        encoder.encode([(64, 1.0)])
