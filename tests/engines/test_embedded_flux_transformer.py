"""FLUX.1's transformer against what ComfyUI 0.33.0's own gave with the same seeded weights, for small ones.

Recorded by ``tests/data/parity/record_flux.py``.
"""

from __future__ import annotations

import json
import lzma
import re
import zlib
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch", reason="the embedded engine needs torch")
np = pytest.importorskip("numpy")
try:
    from diffusers import FluxTransformer2DModel  # noqa: F401 # it loads lazily: only this tells whether it is whole
except (ImportError, RuntimeError) as error:
    pytest.skip(f"transformers need diffusers: {error}".splitlines()[0], allow_module_level=True)

from comfy_atelier.engines.embedded.families.flux_transformer import Transformer, recognised  # noqa: E402
from comfy_atelier.engines.embedded.problems import NodeProblem  # noqa: E402

RECORD = Path(__file__).parents[1] / "data" / "parity" / "flux.json.xz"
RECORDED: dict[str, Any] = json.loads(lzma.decompress(RECORD.read_bytes()))
TOKENS = 5


def fill(name: str, shape: tuple[int, ...]) -> Any:
    rng = np.random.default_rng(zlib.crc32(name.encode()))
    values = rng.standard_normal(shape) / max(1.0, float(np.prod(shape[1:]))) ** 0.5
    if len(shape) == 1 and name.endswith(("weight", "scale")):
        values = 1 + 0.1 * values
    return torch.from_numpy(values.astype(np.float32))


def state(name: str, *, scale: bool = False) -> dict[str, Any]:
    """The tensors; `scale` names those of norms as Black Forest Labs do, where ComfyUI's own module has "weight"."""
    tensors = {key: fill(key, tuple(shape)) for key, shape in RECORDED["models"][name]["shapes"].items()}
    if scale:
        tensors = {re.sub(r"_norm\.weight$", "_norm.scale", key): tensor for key, tensor in tensors.items()}
    return tensors


def asked(name: str, number: int) -> dict[str, Any]:
    what, sizes, width = RECORDED["asked"][number], RECORDED["models"][name]["sizes"], RECORDED["widths"][name]
    batch, (rows, columns) = what.get("batch", 1), what["size"]
    count = -(-rows // 2) * -(-columns // 2)
    given: dict[str, Any] = {
        "latent": fill("latent", (batch, sizes["in_channels"], rows, columns)) * 4,
        "timesteps": torch.linspace(0.25, 0.75, batch),
        "context": fill("context", (batch, TOKENS, 48)) * 4,
        "pooled": fill("pooled", (batch, 30)) * 4 if what.get("pooled", True) else None,
        "guidance": torch.full((batch,), 3.5) if what.get("guidance", True) else None,
        "references": [
            fill(f"reference {n}", (batch, 16, *size)) * 4 for n, size in enumerate(what.get("references", []))
        ],
        "method": what.get("method", "offset"),
    }
    if what.get("mask"):
        given["mask"] = fill("mask", (1, TOKENS + count, TOKENS + count)) * 2
    if what.get("control"):
        added = [fill(f"control {n}", (batch, count, width)) for n in range(3)]
        given["control"] = {"input": [added[0], None], "output": [added[1], added[2]]}
    return given


@pytest.mark.parametrize("scale", [False, True], ids=["weight", "scale"])
@pytest.mark.parametrize("name", RECORDED["models"])
def test_velocities_are_comfyuis(name: str, scale: bool) -> None:
    tensors = state(name, scale=scale)
    assert recognised(tensors)
    transformer = Transformer(tensors)
    for number, expected in enumerate(RECORDED["models"][name]["outputs"]):
        if expected is None:
            continue
        with torch.inference_mode():
            found = transformer(**asked(name, number))
        assert list(found.shape) == expected["shape"]
        wanted = torch.tensor(expected["some"])
        assert (found.flatten()[::11] - wanted).abs().max() <= 1e-5 * wanted.abs().max(), RECORDED["asked"][number]


def test_no_tensor_is_copied_that_need_not_be() -> None:
    tensors = state("schnell")
    model = Transformer(tensors).model
    fused = tensors["single_blocks.0.linear1.weight"]
    assert model.single_transformer_blocks[0].attn.to_q.weight.data_ptr() == fused.data_ptr()
    assert model.single_transformer_blocks[0].proj_mlp.weight.data_ptr() == fused[3 * 128 :].data_ptr()


def test_other_transformers_are_not_taken_for_it() -> None:
    names = state("schnell")
    assert not recognised({**names, "double_stream_modulation_img.lin.weight": None})
    assert not recognised({name: None for name in names if not name.startswith("vector_in.")})


def test_what_does_not_fit_is_named() -> None:
    tensors = state("schnell")
    with pytest.raises(NodeProblem, match=r"'single_transformer_blocks\.0\.proj_out\.bias' is missing"):
        Transformer({name: tensor for name, tensor in tensors.items() if name != "single_blocks.0.linear2.bias"})
    with pytest.raises(NodeProblem, match=r"no tensor 'txt_in\.weight'"):
        Transformer({name: tensor for name, tensor in tensors.items() if name != "txt_in.weight"})
    transformer = Transformer(tensors)
    given = asked("schnell", 0)
    with pytest.raises(NodeProblem, match="the pooled text is 8 wide, the model takes 24"):
        transformer(**{**given, "pooled": given["pooled"][:, :8]})
    with pytest.raises(NodeProblem, match="'index_timestep_zero' of placing reference latents"):
        transformer(**{**given, "references": [given["latent"]], "method": "index_timestep_zero"})
    with pytest.raises(NodeProblem, match="the ControlNet is 64 wide, the model 128"):
        transformer(**given, control={"input": [torch.zeros(1, 12, 64)]})
