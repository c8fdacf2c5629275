"""The pack in a real ComfyUI: every node explained, wrong files refused by name, pixels equal to stock nodes' (with
models).
"""

from __future__ import annotations

import io
import json
import os
import re
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

pytestmark = pytest.mark.comfyui

DOCS = Path(__file__).parent.parent.parent / "custom_nodes" / "web" / "docs"
IDS = {
    *("AtelierLoadStableDiffusion", "AtelierLoadSDXL", "AtelierLoadSD35", "AtelierLoadSVD", "AtelierLoadFlux"),
    *("AtelierLoadFluxTools", "AtelierLoadFluxRedux", "AtelierLoadFluxKontext", "AtelierLoadHiDreamI1"),
    *("AtelierLoadHiDreamE1", "AtelierLoadQwenImage", "AtelierLoadQwenImageEdit", "AtelierLoadHunyuanImage"),
    *("AtelierRecommendedSettings", "AtelierChangeSettings", "AtelierEmptyLatent"),
    *("AtelierSample", "AtelierSampleTurbo", "AtelierSampleGuided", "AtelierSampleEdit", "AtelierSampleVideo"),
    *("AtelierSampleRefined", "AtelierLayeredPrompt", "AtelierNegativePrompt"),
    *(
        "AtelierLoadControlNet",
        "AtelierApplyControlNet",
        "AtelierControl",
        "AtelierCannyMap",
        "AtelierLoadLora",
        "AtelierLoraStack",
    ),
    *("AtelierFluxPro", "AtelierFluxProEdit", "AtelierFluxProFill", "AtelierFluxProControl", "AtelierHunyuanImage3"),
    *("AtelierHunyuanImage3Local", "AtelierRewritePrompt", "AtelierDepthMap", "AtelierPoseMap"),
    *("AtelierEditImage", "AtelierRestoreSize", "AtelierInpaint", "AtelierOutpaint"),
    *("AtelierInputText", "AtelierInputInteger", "AtelierInputNumber", "AtelierInputSwitch", "AtelierInputChoice"),
    *("AtelierInputImage", "AtelierInputMask", "AtelierInputFile"),
    *("AtelierOutputImage", "AtelierOutputVideo", "AtelierOutputText", "AtelierOutputFile"),
}
"""Saved workflows name these: an id may be added, never changed."""


def node(class_type: str, **inputs: Any) -> dict[str, Any]:
    return {"class_type": class_type, "inputs": inputs}


@pytest.fixture(scope="module")
def infos(comfyui: Any) -> dict[str, Any]:
    return {name: info for name, info in comfyui.get("/object_info").items() if name.startswith("Atelier")}


def test_ids_are_pinned(infos: dict[str, Any]) -> None:
    assert set(infos) == IDS


def test_it_starts_quietly(comfyui: Any) -> None:
    """No line of the server's log before it listens complains of us."""
    started = comfyui.log.read_text(encoding="utf-8", errors="replace").split("To see the GUI go to")[0]
    lines = [line for line in started.splitlines() if "atelier" in line.lower()]
    (measured,) = [line for line in lines if "seconds" in line]
    assert "FAILED" not in measured
    assert not [line for line in lines if re.search(r"warn|error|deprecat|traceback|fail", line, re.IGNORECASE)]


def test_every_node_explains_itself(infos: dict[str, Any]) -> None:
    for name, info in infos.items():
        assert info["description"], name
        assert info["category"].startswith("Atelier/"), name
        inputs = {**info["input"].get("required", {}), **info["input"].get("optional", {})}
        page = (DOCS / f"{name}.md").read_text(encoding="utf-8")
        assert page.startswith(f"# {info['display_name']}\n")
        for key, spec in inputs.items():
            assert spec[1].get("tooltip"), (name, key)
            assert f"| `{key}`" in page, (name, key)
        assert all(info["output_tooltips"]), name
    assert {path.stem for path in DOCS.glob("*.md")} == IDS


def test_newer_versions_get_search_words(infos: dict[str, Any], comfyui: Any) -> None:
    if "search_aliases" not in infos["AtelierSample"]:
        assert comfyui.version.startswith("0.3.")
        pytest.skip("this version has no search aliases")
    assert all(info["search_aliases"] for info in infos.values())


def test_values_from_the_catalogue_reach_stock_nodes(comfyui: Any) -> None:
    prompt = {
        "1": node("AtelierRecommendedSettings", variant="flux1-fill-dev"),
        "2": node("PreviewAny", source=["1", 5]),
        "3": node("AtelierRecommendedSettings", variant="sdxl-base"),
        "4": node("AtelierEmptyLatent", settings=["3", 0], aspect_ratio="16:9 wide", megapixels=0.0, batch_size=1),
        "5": node("PreviewAny", source=["4", 1]),
        "6": node("AtelierLayeredPrompt", subject="a fox", scene="snow", details="", lighting="", mood="", style="",
                  joined_by="commas"),
        "7": node("PreviewAny", source=["6", 0]),
    }  # fmt: skip
    outputs = comfyui.run(prompt)["outputs"]
    assert [outputs[name]["text"][0] for name in ("2", "5", "7")] == ["30.0", "1344", "a fox, snow"]


def test_no_empty_latent_where_a_picture_gives_it(comfyui: Any) -> None:
    prompt = {
        "1": node("AtelierRecommendedSettings", variant="flux1-fill-dev"),
        "2": node("AtelierEmptyLatent", settings=["1", 0], aspect_ratio="1:1 square", megapixels=0.0, batch_size=1),
        "3": node("PreviewAny", source=["2", 0]),
    }
    assert "takes its latent from InpaintModelConditioning" in json.dumps(comfyui.run(prompt)["status"])


def loader_error(comfyui: Any, name: str, model: str) -> str:
    prompt = {"1": node(name, model=model, variant="automatic"), "2": node("PreviewAny", source=["1", 0])}
    return json.dumps(comfyui.post(prompt), ensure_ascii=False)


def test_a_missing_model_is_named(comfyui: Any) -> None:
    assert "model 'none.safetensors' is not in models/checkpoints" in loader_error(
        comfyui, "AtelierLoadFlux", "none.safetensors"
    )


@pytest.fixture
def models(comfyui: Any) -> Path:
    """The random-weight models, where the server has them."""
    if not os.environ.get("ATELIER_TEST_MODELS"):
        pytest.skip("no ATELIER_TEST_MODELS (a folder that ../shared/tiny/make_tiny_models.py --all wrote)")
    return Path(comfyui.base) / "models"


def options(infos: dict[str, Any], name: str, key: str) -> list[str]:
    return list(infos[name]["input"]["required"][key][1]["options"])


def test_a_list_has_only_files_of_the_family(infos: dict[str, Any], models: Path) -> None:
    assert options(infos, "AtelierLoadStableDiffusion", "model") == ["tiny_sd15.safetensors"]
    assert options(infos, "AtelierLoadSDXL", "model") == ["tiny_sdxl.safetensors"]
    assert options(infos, "AtelierLoadHunyuanImage", "model")
    assert "tiny_flux_h3072.safetensors" in options(infos, "AtelierLoadFlux", "model")
    assert "tiny_flux_h3072.safetensors" not in options(infos, "AtelierLoadFluxTools", "model")


def test_a_wrong_model_forced_by_a_prompt_is_refused_with_both_families(comfyui: Any, models: Path) -> None:
    error = loader_error(comfyui, "AtelierLoadFlux", "tiny_sdxl.safetensors")
    assert "'tiny_sdxl.safetensors' is a whole checkpoint of sdxl, but 'Load FLUX.1' loads flux1" in error
    assert "'Load SDXL' loads it" in error


def picture(comfyui: Any, prompt: dict[str, Any], output: str) -> bytes:
    entry = comfyui.run(prompt)
    assert entry["status"]["status_str"] == "success", entry["status"]
    file = entry["outputs"][output]["images"][0]
    data = comfyui.bytes(f"/view?filename={file['filename']}&subfolder={file['subfolder']}&type={file['type']}")
    return Image.open(io.BytesIO(data)).convert("RGB").tobytes()


def ours(loader: dict[str, Any], lora: str | None = None) -> dict[str, Any]:
    model = ["7", 0] if lora else ["1", 0]
    clip = ["7", 1] if lora else ["1", 1]
    prompt = {
        "1": loader,
        "2": node("CLIPTextEncode", clip=clip, text="a red fox in snow"),
        "3": node("CLIPTextEncode", clip=clip, text="blurry"),
        "4": node("AtelierChangeSettings", settings=["1", 3], steps=2, cfg=0.0, guidance=0.0, sampler="recommended",
                  scheduler="recommended"),
        "5": node("EmptyLatentImage", width=64, height=64, batch_size=1),
        "6": node("AtelierSample", model=model, settings=["4", 0], positive=["2", 0], negative=["3", 0],
                  latent=["5", 0], seed=7, denoise=1.0),
        "8": node("VAEDecode", samples=["6", 0], vae=["1", 2]),
        "9": node("PreviewImage", images=["8", 0]),
    }  # fmt: skip
    if lora:
        prompt["7"] = node(
            "AtelierLoadLora", model=["1", 0], clip=["1", 1], lora=lora, strength_model=0.8, strength_clip=0.5
        )
        prompt["10"] = node("PreviewAny", source=["7", 2])
    return prompt


def stock(lora: str | None = None) -> dict[str, Any]:
    model, clip = (["7", 0], ["7", 1]) if lora else (["1", 0], ["1", 1])
    prompt = {
        "1": node("CheckpointLoaderSimple", ckpt_name="tiny_sd15.safetensors"),
        "2": node("CLIPTextEncode", clip=clip, text="a red fox in snow"),
        "3": node("CLIPTextEncode", clip=clip, text="blurry"),
        "5": node("EmptyLatentImage", width=64, height=64, batch_size=1),
        "6": node("KSampler", model=model, seed=7, steps=2, cfg=8.0, sampler_name="euler", scheduler="normal",
                  positive=["2", 0], negative=["3", 0], latent_image=["5", 0], denoise=1.0),
        "8": node("VAEDecode", samples=["6", 0], vae=["1", 2]),
        "9": node("PreviewImage", images=["8", 0]),
    }  # fmt: skip
    if lora:
        strengths = {"strength_model": 0.8, "strength_clip": 0.5}
        prompt["7"] = node("LoraLoader", model=["1", 0], clip=["1", 1], lora_name=lora, **strengths)
    return prompt


SD15 = node("AtelierLoadStableDiffusion", model="tiny_sd15.safetensors", variant="automatic")


def test_loader_and_sampler_equal_stock_nodes(comfyui: Any, models: Path) -> None:
    assert picture(comfyui, ours(SD15), "9") == picture(comfyui, stock(), "9")


def test_split_files_equal_stock_nodes(comfyui: Any, models: Path) -> None:
    """A diffusion model, one encoder and a VAE, the last two chosen by the loader."""
    wired = ours(
        node("AtelierLoadSD35", model="tiny_sd35.safetensors", variant="automatic", clip_g="none", t5xxl="none")
    )
    wired["5"]["class_type"] = "EmptySD3LatentImage"
    by_hand = stock() | {
        "1": node("UNETLoader", unet_name="tiny_sd35.safetensors", weight_dtype="default"),
        "10": node("CLIPLoader", clip_name="tiny_clip_l.safetensors", type="sd3"),
        "11": node("VAELoader", vae_name="kl_vae_16ch.safetensors"),
        "5": node("EmptySD3LatentImage", width=64, height=64, batch_size=1),
    }
    by_hand["2"]["inputs"]["clip"] = by_hand["3"]["inputs"]["clip"] = ["10", 0]
    by_hand["6"]["inputs"] |= {"cfg": 4.01, "scheduler": "sgm_uniform"}
    by_hand["8"]["inputs"]["vae"] = ["11", 0]
    assert picture(comfyui, wired, "9") == picture(comfyui, by_hand, "9")


def test_control_by_a_map_equals_stock_nodes(comfyui: Any, models: Path) -> None:
    size = {"width": 64, "height": 64, "batch_size": 1, "color": 0x3366CC}
    wired = ours(SD15)
    wired["20"] = node("EmptyImage", **size)
    wired["21"] = node("AtelierControl", model=["1", 0], settings=["4", 0], positive=["2", 0], negative=["3", 0],
                       vae=["1", 2], image=["20", 0], latent=["5", 0], control="tiny_sd15_controlnet.safetensors",
                       kind="canny", strength=0.8, start_percent=0.0, end_percent=1.0)  # fmt: skip
    wired["6"]["inputs"] |= {"model": ["21", 0], "positive": ["21", 1], "negative": ["21", 2], "latent": ["21", 3]}
    by_hand = stock()
    by_hand["20"] = node("EmptyImage", **size)
    by_hand["21"] = node("ControlNetLoader", control_net_name="tiny_sd15_controlnet.safetensors")
    by_hand["22"] = node("ControlNetApplyAdvanced", positive=["2", 0], negative=["3", 0], control_net=["21", 0],
                         image=["20", 0], strength=0.8, start_percent=0.0, end_percent=1.0)  # fmt: skip
    by_hand["6"]["inputs"] |= {"positive": ["22", 0], "negative": ["22", 1]}
    assert picture(comfyui, wired, "9") == picture(comfyui, by_hand, "9")


def test_a_lora_equals_the_stock_loader_and_reports(comfyui: Any, models: Path) -> None:
    lora = "tiny_sd15_lora.safetensors"
    plain, changed = picture(comfyui, stock(), "9"), picture(comfyui, ours(SD15, lora), "9")
    assert changed == picture(comfyui, stock(lora), "9")
    assert changed != plain
    told = comfyui.run(ours(SD15, lora))["outputs"]["10"]["text"][0]
    assert told.startswith(f"{lora}: all ")


def test_a_file_name_may_be_wired(comfyui: Any, models: Path) -> None:
    """A served workflow can offer the choice of a model as a parameter."""
    wired = ours(SD15)
    wired["30"] = node("AtelierInputChoice", name="model", value="tiny_sd15.safetensors", choices="", description="")
    wired["1"] = node("AtelierLoadStableDiffusion", model=["30", 0], variant="automatic")
    assert picture(comfyui, wired, "9") == picture(comfyui, stock(), "9")


def test_a_lora_of_another_family_is_refused(comfyui: Any, models: Path) -> None:
    prompt = {
        "2": node("UNETLoader", unet_name="tiny_hunyuan_image.safetensors", weight_dtype="default"),
        "3": node("AtelierLoadLora", model=["2", 0], lora="tiny_sd15_lora.safetensors", strength_model=1.0,
                  strength_clip=1.0),
        "4": node("PreviewAny", source=["3", 2]),
    }  # fmt: skip
    status = json.dumps(comfyui.run(prompt)["status"], ensure_ascii=False)
    assert "'tiny_sd15_lora.safetensors' is a LoRA of sd1, but the model is HunyuanImage 2.1" in status


def test_a_controlnet_of_another_family_is_refused(comfyui: Any, models: Path) -> None:
    prompt = {
        "1": node("AtelierRecommendedSettings", variant="flux1-dev"),
        "2": node(
            "AtelierLoadControlNet", settings=["1", 0], controlnet="tiny_sd15_controlnet.safetensors", kind="canny"
        ),
        "3": node("PreviewAny", source=["2", 0]),
    }
    status = json.dumps(comfyui.run(prompt)["status"], ensure_ascii=False)
    assert "is a ControlNet of sd1, but the model is FLUX.1" in status


def test_a_damaged_file_is_not_offered(comfyui: Any, tmp_path: Path) -> None:
    if os.environ.get("ATELIER_TEST_MODELS"):
        pytest.skip("the models' folder is not ours to write in")
    folder = Path(comfyui.base) / "models" / "checkpoints"
    folder.mkdir(exist_ok=True)
    (folder / "half.safetensors").write_bytes(b"\xff" * 64)
    try:
        listed = comfyui.get("/object_info/AtelierLoadSDXL")["AtelierLoadSDXL"]["input"]["required"]["model"][1][
            "options"
        ]
        assert listed == []
        assert "model 'half.safetensors' has no readable safetensors header" in loader_error(
            comfyui, "AtelierLoadSDXL", "half.safetensors"
        )
    finally:
        (folder / "half.safetensors").unlink()  # not the folder: ComfyUI remembers when it was last changed
