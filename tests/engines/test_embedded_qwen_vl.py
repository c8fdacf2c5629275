"""Qwen 2.5 VL as a text encoder against what ComfyUI 0.33.0's own gave with the same seeded weights, for a small one.

Recorded by ``tests/data/parity/record_qwen_vl.py``.
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
    importlib.import_module("transformers.models.qwen2_5_vl.modeling_qwen2_5_vl")
except (ImportError, RuntimeError) as error:  # it is not there, or what it loads does not fit together
    pytest.skip(f"text encoders need transformers: {error}".splitlines()[0], allow_module_level=True)

from comfy_atelier.engines.embedded.diffusion.streaming import stream  # noqa: E402 # needs torch
from comfy_atelier.engines.embedded.families import qwen_vl  # noqa: E402
from comfy_atelier.engines.embedded.problems import NodeProblem  # noqa: E402

RECORD = Path(__file__).parents[1] / "data" / "parity" / "qwen_vl.json.xz"
RECORDED: dict[str, Any] = json.loads(lzma.decompress(RECORD.read_bytes()))


def fill(name: str, shape: tuple[int, ...]) -> Any:
    rng = np.random.default_rng(zlib.crc32(name.encode()))
    values = rng.standard_normal(shape) / max(1.0, float(np.prod(shape[1:]))) ** 0.5
    if len(shape) == 1 and name.endswith("weight"):
        values = 1 + 0.1 * values
    return torch.from_numpy(values.astype(np.float32))


def state() -> dict[str, Any]:
    return {name: fill(name, tuple(shape)) for name, shape in RECORDED["shapes"].items()}


def picture(rows: int, columns: int) -> Any:
    rng = np.random.default_rng(rows * 1000 + columns)
    return torch.from_numpy(rng.random((1, rows, columns, 3), dtype=np.float32))


def assert_near(found: Any, expected: list[float]) -> None:
    wanted = torch.tensor(expected)
    assert float((found - wanted).abs().max()) <= 2e-5 * float(wanted.abs().max())


@pytest.fixture(scope="module")
def model() -> qwen_vl.QwenVL:
    return qwen_vl.QwenVL(state())


@pytest.mark.parametrize("case", RECORDED["outputs"], ids=lambda case: str(case["tokens"]))
def test_it_encodes_as_comfyui_does(
    model: qwen_vl.QwenVL, case: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(qwen_vl, "PAD", 399)  # of the small vocabulary
    entries = [
        qwen_vl.Picture(pixels=picture(*token["picture"])) if isinstance(token, dict) else token
        for token in case["tokens"]
    ]
    with torch.no_grad():
        text, mask = model.encode(entries, layer=case.get("layer"))
    assert text.shape == (1, case["count"], 256)
    assert mask[0].tolist() == case["mask"]
    assert_near(text.flatten()[::7], case["values"])


@pytest.mark.parametrize("case", RECORDED["pictures"], ids=lambda case: str(case["size"]))
def test_a_picture_is_cut_as_in_comfyui(case: dict[str, Any]) -> None:
    patches, (rows, columns) = qwen_vl.patched(picture(*case["size"]))
    assert [1, rows, columns] == case["grid"]
    assert_near(patches.flatten()[::9973], case["values"])


def test_each_tensor_is_used_and_none_is_copied(model: qwen_vl.QwenVL) -> None:
    weights = state()
    one = qwen_vl.QwenVL(weights)
    assert sum(p.numel() for p in one.parameters()) == sum(tensor.numel() for tensor in weights.values())
    assert one.text.embed_tokens.weight.data_ptr() == weights["model.embed_tokens.weight"].data_ptr()


def test_weights_that_come_layer_by_layer_give_the_same(model: qwen_vl.QwenVL) -> None:
    small = {name: tensor.to(torch.float8_e4m3fn) for name, tensor in state().items()}
    whole = qwen_vl.QwenVL({name: tensor.float() for name, tensor in small.items()})
    streamed = qwen_vl.QwenVL(small)
    stream(streamed, torch.device("cpu"), torch.float32)
    entries = [5, qwen_vl.Picture(pixels=picture(60, 100)), 9]
    with torch.no_grad():
        assert torch.allclose(streamed.encode(entries)[0], whole.encode(entries)[0], atol=1e-5)


def test_without_its_vision_tower_it_reads_text_only(model: qwen_vl.QwenVL) -> None:
    text = qwen_vl.QwenVL({name: tensor for name, tensor in state().items() if not name.startswith("visual.")})
    with torch.no_grad():
        assert torch.equal(text.encode([5, 6])[0], model.encode([5, 6])[0])
        with pytest.raises(NodeProblem, match="no vision tower"):
            text.encode([5, qwen_vl.Picture(pixels=picture(28, 28))])


def test_words_beyond_its_table_are_refused(model: qwen_vl.QwenVL) -> None:
    with pytest.raises(NodeProblem, match=r"knows more words \(401 at least\) than the text encoder \(400\)"):
        model.encode([400])


def test_other_files_are_refused() -> None:
    assert qwen_vl.recognised(RECORDED["shapes"])
    assert not qwen_vl.recognised(["encoder.block.0.layer.0.SelfAttention.q.weight"])
    with pytest.raises(NodeProblem, match=r"no whole Qwen 2\.5 text encoder"):
        qwen_vl.QwenVL({"x": torch.zeros(1)})
