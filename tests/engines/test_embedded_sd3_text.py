"""Stable Diffusion 3's text encoders against what ComfyUI 0.33.0's own gave with the same seeded weights.

Recorded by ``tests/data/parity/record_sd3_text.py``.
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
    from transformers import CLIPTextModel, T5EncoderModel  # noqa: F401 # loaded lazily: only this tells
except (ImportError, RuntimeError) as error:
    pytest.skip(f"text encoders need transformers: {error}".splitlines()[0], allow_module_level=True)

from comfy_atelier.engines.embedded.diffusion.streaming import stream  # noqa: E402 # needs torch
from comfy_atelier.engines.embedded.diffusion.weights import Weights  # noqa: E402
from comfy_atelier.engines.embedded.families import sd3_text  # noqa: E402
from comfy_atelier.engines.embedded.problems import NodeProblem  # noqa: E402

RECORD = Path(__file__).parents[1] / "data" / "parity" / "sd3_text.json.xz"
RECORDED: dict[str, Any] = json.loads(lzma.decompress(RECORD.read_bytes()))
NAMES = {"l": "clip_l", "g": "clip_g", "t5xxl": "t5xxl"}


def fill(name: str, shape: tuple[int, ...]) -> Any:
    if len(shape) == 2 and shape[0] > 1000:
        return fill(name, (64, shape[1])).repeat(-(-shape[0] // 64), 1)[: shape[0]]
    rng = np.random.default_rng(zlib.crc32(name.encode()))
    values = rng.standard_normal(shape) / max(1.0, float(np.prod(shape[1:]))) ** 0.5
    if len(shape) == 1 and name.endswith("weight"):
        values = 1 + 0.1 * values
    return torch.from_numpy(values.astype(np.float32))


@pytest.fixture(scope="module")
def tensors() -> dict[str, Any]:
    return {name: fill(name, tuple(shape)) for name, shape in RECORDED["shapes"].items()}


def parts(tensors: dict[str, Any], subset: list[str]) -> dict[str, Weights]:
    whole = Weights(tensors, source="whole.safetensors")
    return {NAMES[name]: whole.below(f"{NAMES[name]}.") for name in subset}


def near(found: Any, expected: list[float]) -> bool:
    wanted = torch.tensor(expected)
    return bool((found - wanted).abs().max() <= 1e-5 * max(1e-3, float(wanted.abs().max())))


@pytest.mark.parametrize("subset", ["l g t5xxl", "l g", "l", "g", "t5xxl", "l t5xxl", "g t5xxl", ""])
def test_any_of_the_encoders_tell_what_comfyui_is_told(subset: str, tensors: dict[str, Any]) -> None:
    encoder = sd3_text.SD3Encoder([NAMES[name] for name in subset.split()])
    state = {name: tensor for name, tensor in tensors.items() if name.split(".")[0] in encoder.present}
    module = encoder.build(state)
    outputs = [output for output in RECORDED["outputs"] if output["subset"] == subset.split()]
    assert len(outputs) == len(RECORDED["texts"])
    for output in outputs:
        with torch.no_grad():
            condition = encoder.encode(module, RECORDED["texts"][output["text"]])
        pooled = condition.options["pooled_output"]
        assert (list(condition.text.shape), list(pooled.shape)) == (output["shape"], output["pooled_shape"])
        assert near(condition.text.flatten()[::1709], output["some"])
        assert near(pooled.flatten()[::17], output["pooled"])


def test_weights_that_come_layer_by_layer_give_the_same(tensors: dict[str, Any]) -> None:
    encoder = sd3_text.SD3Encoder(["clip_l", "clip_g", "t5xxl"])
    half = {name: tensor.half() for name, tensor in tensors.items()}
    whole, streamed = encoder.build({name: tensor.float() for name, tensor in half.items()}), encoder.build(half)
    stream(streamed, torch.device("cpu"), torch.float32)
    with torch.no_grad():
        told = [encoder.encode(module, RECORDED["texts"]["weights"]) for module in (whole, streamed)]
    assert torch.allclose(told[0].text, told[1].text, atol=1e-5)
    assert torch.allclose(told[0].options["pooled_output"], told[1].options["pooled_output"], atol=1e-5)


def test_files_are_taken_in_any_order(tensors: dict[str, Any]) -> None:
    files = parts(tensors, ["t5xxl", "l"])
    wide = {"text_model.embeddings.token_embedding.weight": torch.zeros(2, 1280)}  # as wide as CLIP-G
    clip = sd3_text.text([files["t5xxl"], Weights(wide, source="g.safetensors"), files["clip_l"]], "sd3")
    assert isinstance(clip.encoder, sd3_text.SD3Encoder)
    assert clip.encoder.present == ("clip_l", "clip_g", "t5xxl")
    assert {name.split(".")[0] for name in clip.component.weights} == {"clip_l", "clip_g", "t5xxl"}
    # ComfyUI keeps CLIP in half precision, and T5 where its file is in full
    assert clip.component.halved == ("clip_l.", "clip_g.", "t5xxl.")


def test_a_checkpoint_may_hold_some_of_them(tensors: dict[str, Any]) -> None:
    held = parts(tensors, ["l", "t5xxl"])
    names = {
        f"text_encoders.{encoder}.transformer.{name}": part[name] for encoder, part in held.items() for name in part
    }
    clip = sd3_text.in_checkpoint(Weights(names, source="checkpoint.safetensors"))
    assert clip is not None
    assert isinstance(clip.encoder, sd3_text.SD3Encoder)
    assert clip.encoder.present == ("clip_l", "t5xxl")
    assert sd3_text.in_checkpoint(Weights({"model.diffusion_model.x": torch.zeros(1)})) is None


def test_other_files_are_refused() -> None:
    with pytest.raises(NodeProblem, match=r"'x\.safetensors' holds no text encoder of Stable Diffusion 3"):
        sd3_text.text([Weights({"x": torch.zeros(1)}, source="x.safetensors")], "sd3")
