"""HunyuanImage 2.1's transformer and autoencoder against what ComfyUI 0.33.0's own gave with the same seeded weights.

Recorded by ``tests/data/parity/record_hunyuan_image.py``.
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
    importlib.import_module("diffusers.models.transformers.transformer_hunyuanimage")
except (ImportError, RuntimeError) as error:  # it is not there, or what it loads does not fit together
    pytest.skip(f"models need diffusers: {error}".splitlines()[0], allow_module_level=True)

from comfy_atelier.engines.embedded.diffusion.weights import Weights  # noqa: E402 # needs torch
from comfy_atelier.engines.embedded.families import hunyuan_transformer as hunyuan_image  # noqa: E402
from comfy_atelier.engines.embedded.families.hunyuan_autoencoder import hunyuan_coder  # noqa: E402
from comfy_atelier.engines.embedded.problems import NodeProblem  # noqa: E402

RECORD = Path(__file__).parents[1] / "data" / "parity" / "hunyuan_image.json.xz"
RECORDED: dict[str, Any] = json.loads(lzma.decompress(RECORD.read_bytes()))
END, GUIDANCE = torch.tensor([550.0, 550.0]), torch.tensor([3.5, 3.5])
CASES = [(layout, output) for layout in ("base", "distilled") for output in RECORDED[layout]["outputs"]]


def fill(name: str, shape: tuple[int, ...]) -> Any:
    rng = np.random.default_rng(zlib.crc32(name.encode()))
    values = rng.standard_normal(shape) / max(1.0, float(np.prod(shape[1:]))) ** 0.5
    if len(shape) == 1 and name.endswith("weight"):
        values = 1 + 0.1 * values
    return torch.from_numpy(values.astype(np.float32))


def state(part: str) -> dict[str, Any]:
    return {name: fill(name, tuple(shape)) for name, shape in RECORDED[part]["shapes"].items()}


def error_of(found: Any, expected: list[float]) -> float:
    """The largest difference as a part of the largest value."""
    wanted = torch.tensor(expected).reshape(found.shape)
    return float((found - wanted).abs().max() / wanted.abs().max())


def predicted(model: Any, **options: Any) -> Any:
    with torch.no_grad():
        return hunyuan_image.predict(
            model, fill("x", (2, 8, 4, 5)), torch.tensor([800.0, 800.0]), fill("text", (2, 7, 24)), **options
        )


@pytest.mark.parametrize(("layout", "output"), CASES, ids=[f"{name}, {out['glyphs']} glyphs" for name, out in CASES])
def test_it_predicts_what_comfyui_predicts(layout: str, output: dict[str, Any]) -> None:
    glyphs = fill("glyphs", (2, output["glyphs"], 1472)) if output["glyphs"] else None
    found = predicted(hunyuan_image.build(state(layout)), glyphs=glyphs, guidance=GUIDANCE, end=END)
    assert error_of(found, output["values"]) <= 1e-5


def test_glyphs_guidance_and_the_end_of_the_step_are_heard() -> None:
    model = hunyuan_image.build(state("distilled"))
    known = predicted(model, guidance=GUIDANCE, end=END)
    assert not torch.allclose(known, predicted(model, guidance=2 * GUIDANCE, end=END))
    assert not torch.allclose(known, predicted(model, guidance=GUIDANCE, end=END / 3))
    assert not torch.allclose(known, predicted(model, guidance=GUIDANCE))
    glyphs = fill("glyphs", (2, 3, 1472))
    assert not torch.allclose(known, predicted(model, guidance=GUIDANCE, end=END, glyphs=glyphs))


def test_tencents_own_names_load_too() -> None:
    theirs = {}
    for name, tensor in state("base").items():
        name = name.replace("_attn.qkv.", "_attn_qkv.").replace("_mod.lin.", "_mod.linear.")
        name = name.replace("_attn.norm.query_norm.", "_attn_q_norm.").replace("time_in.in_layer.", "time_in.mlp.0.")
        theirs[name.replace("txt_in.c_embedder.in_layer.", "txt_in.c_embedder.linear_1.")] = tensor
    assert theirs.keys() != state("base").keys()
    assert error_of(predicted(hunyuan_image.build(theirs)), RECORDED["base"]["outputs"][0]["values"]) <= 1e-5


def autoencoder(weights: dict[str, Any]) -> tuple[Any, Any]:
    coder = hunyuan_coder(Weights(weights))
    assert coder is not None
    return coder, coder.build(weights)


def test_it_encodes_as_comfyui_does() -> None:
    coder, module = autoencoder(state("autoencoder"))
    with torch.no_grad():
        found = coder.encode(module, (fill("pixels", (2, 3, 8, 12)).movedim(1, -1) + 1) / 2)
    assert error_of(found, RECORDED["autoencoder"]["latent"]) <= 1e-5


def test_it_decodes_as_comfyui_does() -> None:
    coder, module = autoencoder(state("autoencoder"))
    with torch.no_grad():
        found = coder.decode(module, fill("latent", (2, 16, 2, 3)))
    raw = torch.tensor(RECORDED["autoencoder"]["pixels"]).reshape(2, 3, 8, 12)
    assert (found - ((raw + 1) / 2).movedim(1, -1)).abs().max() <= 1e-5 * raw.abs().max()
    assert (coder.channels, coder.factor) == (16, 4)


@pytest.mark.parametrize("layout", ["base", "distilled"])
def test_each_tensor_is_used(layout: str) -> None:
    weights = state(layout)
    model = hunyuan_image.build(weights)
    assert sum(p.numel() for p in model.parameters()) == sum(tensor.numel() for tensor in weights.values())


def test_other_files_are_not_taken_for_it() -> None:
    assert hunyuan_image.is_hunyuan_image(Weights(state("base")))
    assert not hunyuan_image.is_hunyuan_image(Weights({"img_in.weight": torch.zeros(4, 4)}))
    video = {**state("base"), "vector_in.in_layer.weight": torch.zeros(4, 4)}
    assert not hunyuan_image.is_hunyuan_image(Weights(video))
    assert hunyuan_coder(Weights({"decoder.conv_in.weight": torch.zeros(4, 4, 3, 3)})) is None


def test_a_file_that_lacks_tensors_is_refused() -> None:
    weights = state("base")
    del weights["single_blocks.0.linear2.bias"]
    with pytest.raises(NodeProblem, match=r"transformer is not whole: tensor .*proj_out\.bias' is missing"):
        hunyuan_image.build(weights)
    weights = state("autoencoder")
    del weights["decoder.mid.attn_1.q.weight"]
    with pytest.raises(NodeProblem, match=r"autoencoder is not whole: tensor .*to_q\.weight' is missing"):
        autoencoder(weights)
