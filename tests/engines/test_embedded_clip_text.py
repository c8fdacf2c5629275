"""CLIP's text encoders against what ComfyUI 0.33.0's own gave with the same seeded weights, for small ones.

Recorded by ``tests/data/parity/record_clip.py``.
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
    from transformers import CLIPTextModel  # noqa: F401 # it loads lazily: only this tells whether it is whole
except (ImportError, RuntimeError) as error:
    pytest.skip(f"text encoders need transformers: {error}".splitlines()[0], allow_module_level=True)

from comfy_atelier.engines.embedded.clip_text import ClipText  # noqa: E402 # needs torch
from comfy_atelier.engines.embedded.problems import NodeProblem  # noqa: E402

RECORD = Path(__file__).parents[1] / "data" / "parity" / "clip.json.xz"
RECORDED: dict[str, Any] = json.loads(lzma.decompress(RECORD.read_bytes()))


def fill(name: str, shape: tuple[int, ...]) -> Any:
    rng = np.random.default_rng(zlib.crc32(name.encode()))
    values = rng.standard_normal(shape) / max(1.0, float(np.prod(shape[1:]))) ** 0.5
    if len(shape) == 1 and name.endswith("weight"):
        values = 1 + 0.1 * values
    return torch.from_numpy(values.astype(np.float32))


def made(activation: str) -> ClipText:
    record = RECORDED[activation]
    state = {name: fill(name, tuple(shape)) for name, shape in record["shapes"].items()}
    return ClipText(state, activation=activation, padding=record["padding"])


def near(found: Any, expected: list[float]) -> bool:
    wanted = torch.tensor(expected)
    return bool((found - wanted).abs().max() <= 1e-5 * float(wanted.abs().max()))


@pytest.mark.parametrize("activation", RECORDED)
def test_it_encodes_as_comfyui_does(activation: str) -> None:
    model = made(activation)
    for output in RECORDED[activation]["outputs"]:
        with torch.no_grad():
            text, pooled = model.encode(output["sections"], layer=output["layer"], normalised=output["normalised"])
        assert text.shape[1] == 77 * len(output["sections"])
        assert near(text.flatten()[::37], output["some"])
        assert near(pooled.flatten(), output["pooled"])


def test_a_layer_that_is_not_there_is_the_last_as_in_comfyui() -> None:
    model = made("gelu")
    tokens = [[(49406, 1.0), *[(49407, 1.0)] * 76]]
    with torch.no_grad():
        beyond, last = (model.encode(tokens, layer=layer, normalised=False)[0] for layer in (-9, None))
    assert torch.equal(beyond, last)


def test_a_vector_takes_the_place_of_a_token() -> None:
    model = made("gelu")
    table = model.model.state_dict()
    name = next(key for key in table if key.endswith("token_embedding.weight"))
    number = 7
    tokens = [[(49406, 1.0), (number, 1.0), *[(49407, 1.0)] * 75]]
    vectors = [[(49406, 1.0), (table[name][number].clone(), 1.0), *[(49407, 1.0)] * 75]]
    with torch.no_grad():
        assert torch.equal(model.encode(tokens)[0], model.encode(vectors)[0])


def test_other_files_are_refused() -> None:
    with pytest.raises(NodeProblem, match="no CLIP text encoder"):
        ClipText({"x": torch.zeros(1)})
