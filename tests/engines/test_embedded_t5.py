"""T5's encoder against what ComfyUI 0.33.0's own gave with the same seeded weights, for small ones.

Recorded by ``tests/data/parity/record_t5.py``.
"""

from __future__ import annotations

import json
import lzma
import zlib
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch", reason="the embedded engine needs torch")
np = pytest.importorskip("numpy")
try:
    from transformers import T5EncoderModel  # noqa: F401 # it loads lazily: only this tells whether it is whole
except (ImportError, RuntimeError) as error:
    pytest.skip(f"text encoders need transformers: {error}".splitlines()[0], allow_module_level=True)

from comfy_atelier.engines.embedded.diffusion.streaming import stream  # noqa: E402
from comfy_atelier.engines.embedded.families.t5 import T5Text, recognised  # noqa: E402 # needs torch
from comfy_atelier.engines.embedded.problems import NodeProblem  # noqa: E402

RECORD = Path(__file__).parents[1] / "data" / "parity" / "t5.json.xz"
RECORDED: dict[str, Any] = json.loads(lzma.decompress(RECORD.read_bytes()))


def fill(name: str, shape: tuple[int, ...]) -> Any:
    rng = np.random.default_rng(zlib.crc32(name.encode()))
    values = rng.standard_normal(shape) / max(1.0, float(np.prod(shape[1:]))) ** 0.5
    if len(shape) == 1 and name.endswith("weight"):
        values = 1 + 0.1 * values
    return torch.from_numpy(values.astype(np.float32))


def state(kind: str) -> dict[str, Any]:
    return {name: fill(name, tuple(shape)) for name, shape in RECORDED["kinds"][kind]["shapes"].items()}


def tokens(sections: Any, width: int) -> Any:
    def token(value: Any) -> Any:
        if isinstance(value, list):
            return torch.full((width if value[1] == "own" else value[1],), value[2])
        return value

    return [[(token(value), weight) for value, weight in section] for section in sections]


@pytest.mark.parametrize("kind", RECORDED["kinds"])
@pytest.mark.parametrize(("masked", "layer"), [(False, None), (True, None), (False, -2)])
def test_texts_are_comfyuis(kind: str, masked: bool, layer: int | None) -> None:
    encoder = T5Text(state(kind))
    outputs = RECORDED["kinds"][kind]["outputs"]
    expected = [entry for entry in outputs if entry["masked"] == masked and entry["layer"] == layer]
    for sections, entry in zip(RECORDED["sections"], expected, strict=True):
        with torch.inference_mode():
            text, mask = encoder.encode(tokens(sections, encoder.width), masked=masked, layer=layer)
        assert list(text.shape) == entry["shape"]
        assert mask.tolist() == entry["mask"]
        found, wanted = text.flatten()[::13], torch.tensor(entry["some"])
        assert (found - wanted).abs().max() <= 1e-5 * wanted.abs().max()


def test_a_copy_of_the_embedding_in_the_file_is_no_matter() -> None:
    tensors = state("gated")
    tensors["encoder.embed_tokens.weight"] = tensors["shared.weight"]
    assert recognised(tensors)
    T5Text(tensors)


def test_what_is_missing_is_named() -> None:
    tensors = state("gated")
    lacking = {name: tensor for name, tensor in tensors.items() if name != "encoder.block.1.layer.0.layer_norm.weight"}
    with pytest.raises(NodeProblem, match=r"encoder\.block\.1\.layer\.0\.layer_norm\.weight"):
        T5Text(lacking)
    with pytest.raises(NodeProblem, match="holds no whole T5 encoder"):
        T5Text({name: tensor for name, tensor in tensors.items() if name != "shared.weight"})


def test_a_token_that_the_encoder_lacks() -> None:
    with pytest.raises(NodeProblem, match="the tokenizer knows more words"):
        T5Text(state("gated")).encode([[(64, 1.0), (1, 1.0)]])


@pytest.mark.parametrize("kind", RECORDED["kinds"])
def test_weights_kept_small_are_cast_when_they_are_used(kind: str) -> None:
    small = {name: tensor.to(torch.float8_e4m3fn) for name, tensor in state(kind).items()}
    streamed = T5Text(small)
    stream(streamed, torch.device("cpu"), torch.float32)
    whole = T5Text({name: tensor.float() for name, tensor in small.items()})
    sections = tokens(RECORDED["sections"][1], whole.width)
    with torch.inference_mode():
        assert torch.equal(streamed.encode(sections)[0], whole.encode(sections)[0])


def test_earlier_layers_are_normed() -> None:
    encoder = T5Text(state("gated"))
    sections = tokens(RECORDED["sections"][1], encoder.width)
    with torch.inference_mode():
        last, before, first = (encoder.encode(sections, layer=layer)[0] for layer in (None, -2, -3))
        assert torch.equal(encoder.encode(sections, layer=-1)[0], last)
        assert torch.equal(encoder.encode(sections, layer=-9)[0], last), "one that is not there stands for the last"
    assert not torch.allclose(before, last)
    assert not torch.allclose(before, first)
