"""A wrong file: not in the list, and where a prompt forces it the error names both families. Every family in turn."""

from __future__ import annotations

import json
import lzma
import os
from pathlib import Path
from typing import Any

import pytest
from real_comfyui import RunError, Server

from comfy_atelier.catalogue import ChoiceError, Detection, Header, detect_header, load
from comfy_atelier.catalogue.adapters import check_adapter
from comfy_atelier.catalogue.choice import check_model
from comfy_atelier.catalogue.loaders import LOADERS, LoaderSpec

HEADERS = Path(__file__).parent.parent / "data" / "headers"
MODELS = {
    "sd1": "sd1_checkpoint",
    "sd2": "sd2_checkpoint",
    "sdxl": "sdxl_checkpoint",
    "svd": "svd_checkpoint",
    "sd3.5": "sd3.5_large",
    "flux1": "flux1_dev",
    "hidream": "hidream_i1",
    "qwen-image": "qwen_image_fp8",
    "hunyuan-image": "hunyuan_image_2.1",
}
"""Family -> a header of one of its models."""

CONTROLNETS = {
    "sd1": "controlnet_sd1_ldm",
    "sdxl": "controlnet_sdxl_ldm",
    "sd3.5": "controlnet_sd3.5_large_diffusers",
    "flux1": "controlnet_flux_union",
    "qwen-image": "controlnet_qwen_instantx_union",
}
FORCED = {
    "AtelierLoadStableDiffusion": "sd_xl_base_1.0",
    "AtelierLoadSDXL": "v1-5-pruned-emaonly-fp16",
    "AtelierLoadSD35": "flux1-dev",
    "AtelierLoadSVD": "sd3.5_large_turbo",
    "AtelierLoadFlux": "qwen_image_fp8_e4m3fn",
    "AtelierLoadFluxTools": "hidream_i1_full_fp8",
    "AtelierLoadFluxRedux": "hunyuanimage2.1_bf16",
    "AtelierLoadFluxKontext": "svd_xt",
    "AtelierLoadHiDreamI1": "v2-1_768-ema-pruned",
    "AtelierLoadHiDreamE1": "flux1-fill-dev",
    "AtelierLoadQwenImage": "hidream_e1_1_bf16",
    "AtelierLoadQwenImageEdit": "flux1-dev-kontext_fp8_scaled",
    "AtelierLoadHunyuanImage": "qwen_image_edit_fp8_e4m3fn",
}
"""Loader -> a file of another family, among the tiny ones."""


def found(fixture: str) -> Detection:
    shapes = json.loads(lzma.decompress((HEADERS / f"{fixture}.json.xz").read_bytes()))["shapes"]
    tensors = {name: tuple(shape) for name, shape in shapes.items()}
    return detect_header(Header(shapes=tensors, metadata={}, bytes_by_dtype={"F16": 1}))


@pytest.mark.parametrize("spec", LOADERS, ids=lambda spec: spec.node_id)
@pytest.mark.parametrize("family", MODELS)
def test_a_model_of_another_family_is_neither_listed_nor_taken(spec: LoaderSpec, family: str) -> None:
    model = found(MODELS[family])
    assert model.family == family
    if family in spec.families:
        return
    assert not spec.accepts(model)
    with pytest.raises(ChoiceError) as caught:
        check_model(spec, "x.safetensors", model)
    message = str(caught.value)
    assert "'x.safetensors' is" in message
    assert all(name in message for name in (family, *spec.families))
    right = [other.title for other in LOADERS if other.accepts(model)]
    assert right[0] in message


@pytest.mark.parametrize("of", CONTROLNETS)
@pytest.mark.parametrize("to", MODELS)
def test_a_controlnet_of_another_family_is_refused_with_both_names(of: str, to: str) -> None:
    net = found(CONTROLNETS[of])
    if of == to:
        check_adapter("x", net, "controlnet", (to, net.architecture))
        return
    with pytest.raises(ChoiceError) as caught:
        check_adapter("x", net, "controlnet", (to, None))
    assert of in str(caught.value)
    assert load().family(to).name in str(caught.value)


@pytest.mark.parametrize("of", MODELS)
@pytest.mark.parametrize("to", MODELS)
def test_a_lora_of_another_family_is_refused_with_both_names(of: str, to: str) -> None:
    lora = Detection(kind="lora", families=(of,), architecture=of)
    if of == to:
        check_adapter("x", lora, "lora", (to, None))
        return
    with pytest.raises(ChoiceError) as caught:
        check_adapter("x", lora, "lora", (to, None))
    assert f"'x' is a LoRA of {of}" in str(caught.value)
    assert f"but the model is {load().family(to).name}" in str(caught.value)


# With a real ComfyUI and files of every family in place.

needs_links = pytest.mark.skipif(os.name == "nt", reason="the models are sparse files, and the checkout is linked")


def node(class_type: str, **inputs: Any) -> dict[str, Any]:
    return {"class_type": class_type, "inputs": inputs}


def refusal(server: Server, *nodes: dict[str, Any]) -> str:
    prompt = {str(place): one for place, one in enumerate(nodes, start=1)}
    return json.dumps(server.post("/prompt", {"prompt": prompt}), ensure_ascii=False)


@pytest.mark.comfyui
@pytest.mark.slow
@needs_links
def test_the_lists_of_a_real_comfyui_have_the_familys_files_only(tiny_comfyui: Server) -> None:
    files = {file.name: file.family for file in load().files.values() if file.family}
    for spec in LOADERS:
        info = tiny_comfyui.get(f"/object_info/{spec.node_id}")[spec.node_id]
        listed = info["input"]["required"]["model"][1]["options"]
        assert listed, spec.node_id
        assert {files[name] for name in listed} <= set(spec.families), spec.node_id


@pytest.mark.comfyui
@pytest.mark.slow
@needs_links
@pytest.mark.parametrize("spec", LOADERS, ids=lambda spec: spec.node_id)
def test_a_real_comfyui_refuses_a_forced_model_with_both_families(spec: LoaderSpec, tiny_comfyui: Server) -> None:
    name = f"{FORCED[spec.node_id]}.safetensors"
    told = refusal(
        tiny_comfyui, node(spec.node_id, model=name, variant="automatic"), node("PreviewAny", source=["1", 0])
    )
    family = next(file.family for file in load().find_by_name(name))
    assert "prompt_id" not in told
    assert f"'{name}' is " in told
    assert f"'{spec.title}' loads {', '.join(spec.families)}" in told
    assert str(family) in told


@pytest.mark.comfyui
@pytest.mark.slow
@needs_links
@pytest.mark.parametrize(
    ("lora", "family"),
    [
        ("tiny_sdxl_lora", "sdxl"),
        ("tiny_sd35_lora", "sd3.5"),
        ("tiny_flux1_lora", "flux1"),
        ("tiny_hidream_lora", "hidream"),
        ("tiny_qwen_image_lora", "qwen-image"),
    ],
)
def test_a_real_comfyui_refuses_a_forced_lora_with_both_families(lora: str, family: str, tiny_comfyui: Server) -> None:
    prompt = {
        "1": node("AtelierLoadStableDiffusion", model="v1-5-pruned-emaonly-fp16.safetensors", variant="sd-1.5"),
        "2": node("AtelierLoadLora", model=["1", 0], clip=["1", 1], lora=f"{lora}.safetensors", strength_model=1.0,
                  strength_clip=1.0),
        "3": node("PreviewAny", source=["2", 2]),
    }  # fmt: skip
    with pytest.raises(RunError, match=rf"'{lora}.safetensors' is a LoRA of {family}.*but the model is"):
        tiny_comfyui.run(prompt)
