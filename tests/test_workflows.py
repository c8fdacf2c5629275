"""Every curated workflow opens, explains itself and runs: converted, checked, linted, its models the catalogue's own,
laid out without overlaps; and a real ComfyUI takes it.
"""

from __future__ import annotations

import json
import lzma
import os
import re
import socket
import struct
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from comfy_atelier.catalogue import ModelFile, detect, load
from comfy_atelier.graph import NodeSchemas, Prompt, Severity, Source, check_prompt, find_interface, lint, read_document

ROOT = Path(__file__).parent.parent
FILES = sorted((ROOT / "workflows").glob("*.json"))
HEADERS = ROOT / "tests" / "data" / "headers"
VERSIONS = ("0.3.64", "0.33.0")
TITLE = 30  # pixels of a node's title bar, above its position
START_SECONDS = 180
NO_MODELS = {"contact-sheet"}
"""Workflows that need no model."""

DRAWS_NOTHING = NO_MODELS | {"upscale-with-model"}
"""Workflows that sample nothing: there is neither a prompt nor a seed."""

Box = tuple[float, float, float, float]
Shapes = dict[str, tuple[int, ...]]

schemas = {version: NodeSchemas.builtin(version) for version in VERSIONS}
every = pytest.mark.parametrize("path", FILES, ids=[path.stem for path in FILES])


def document(path: Path) -> dict[str, Any]:
    found = json.loads(path.read_text(encoding="utf-8"))
    assert isinstance(found, dict)
    return found


def prompt_of(path: Path, version: str = VERSIONS[-1]) -> Prompt:
    return read_document(path).to_prompt(schemas[version])


def models_of(path: Path) -> list[dict[str, str]]:
    return [model for node in document(path)["nodes"] for model in node["properties"].get("models", [])]


def catalogue_file(model: dict[str, str]) -> ModelFile:
    fits = [file for file in load().files.values() if (file.name, file.folder) == (model["name"], model["directory"])]
    assert len(fits) == 1, model
    return fits[0]


def test_there_are_enough() -> None:
    assert len(FILES) >= 45


@every
@pytest.mark.parametrize("version", VERSIONS)
def test_it_converts_and_is_what_a_server_takes(path: Path, version: str) -> None:
    prompt = prompt_of(path, version)
    check_prompt(prompt, schemas[version])
    found = [finding for finding in lint(prompt, schemas[version]) if finding.severity != Severity.NOTE]
    assert not found


@every
def test_its_interface_is_what_a_person_chose(path: Path) -> None:
    interface = find_interface(prompt_of(path), schemas[VERSIONS[-1]], read_document(path).workflow)
    assert interface.source is Source.APP_MODE
    chosen = document(path)["extra"]["linearData"]
    assert len(interface.parameters) == len(chosen["inputs"]) >= 2, "an input of App Mode is lost"
    assert [output.node for output in interface.outputs] == [str(node) for node in chosen["outputs"]]
    names = {parameter.name for parameter in interface.parameters}
    assert "prompt" in names or path.stem in DRAWS_NOTHING | {"svd-xt-image-to-video"}
    assert "seed" in names or path.stem in DRAWS_NOTHING
    assert not any(re.search(r"_\d+$", name) and name.startswith(("prompt", "seed", "text")) for name in names)


@every
def test_every_picture_it_reads_is_a_parameter(path: Path) -> None:
    chosen = {tuple(entry[:2]) for entry in document(path)["extra"]["linearData"]["inputs"]}
    for node in document(path)["nodes"]:
        if node["type"] in ("LoadImage", "LoadImageMask"):
            assert (node["id"], "image") in chosen


@every
def test_it_explains_itself(path: Path) -> None:
    nodes, groups = document(path)["nodes"], document(path)["groups"]
    notes = [node for node in nodes if node["type"] == "MarkdownNote"]
    assert len(notes) == 1
    assert "**Change**" in notes[0]["widgets_values"][0]
    assert [group["title"].split(".")[0] for group in groups] == [str(n + 1) for n in range(len(groups))]
    assert len(groups) >= 3
    for node in nodes:
        assert node.get("title"), f"node {node['id']} ({node['type']}) has no title"


def box(node: dict[str, Any]) -> Box:
    (x, y), (width, height) = node["pos"], node["size"]
    return x, y - TITLE, x + width, y + height


def overlap(one: Box, other: Box) -> bool:
    return one[0] < other[2] and other[0] < one[2] and one[1] < other[3] and other[1] < one[3]


def bounding(group: dict[str, Any]) -> Box:
    x, y, width, height = group["bounding"]
    return x, y, x + width, y + height


@every
def test_nothing_overlaps(path: Path) -> None:
    nodes, groups = document(path)["nodes"], document(path)["groups"]
    for place, node in enumerate(nodes):
        for other in nodes[place + 1 :]:
            assert not overlap(box(node), box(other)), (node["id"], other["id"])
    for place, group in enumerate(groups):
        for other in groups[place + 1 :]:
            assert not overlap(bounding(group), bounding(other)), (group["title"], other["title"])
        for node in nodes:
            inside, area = box(node), bounding(group)
            whole = area[0] <= inside[0] and inside[2] <= area[2] and area[1] <= inside[1] and inside[3] <= area[3]
            assert whole or not overlap(inside, area), f"node {node['id']} sticks out of '{group['title']}'"


@every
def test_it_reads_from_left_to_right(path: Path) -> None:
    data = document(path)
    if path.stem in NO_MODELS:
        pytest.skip("a sheet of prints: laid out as the sheet is")
    left = {node["id"]: node["pos"][0] for node in data["nodes"]}
    for _, source, _, target, _, _ in data["links"]:
        assert left[source] <= left[target], (source, target)


@every
def test_its_models_are_the_catalogues(path: Path) -> None:
    models = models_of(path)
    assert models or path.stem in NO_MODELS
    for model in models:
        file = catalogue_file(model)
        assert model["url"] == file.url
        assert model.get("hash") == file.sha256, "the hash of the catalogue; none where it has none"
        assert model.get("hash_type") == ("SHA256" if file.sha256 else None)


@every
def test_every_file_it_names_is_among_its_models(path: Path) -> None:
    named = {
        value
        for node in document(path)["nodes"]
        if not node["type"].startswith("LoadImage") and node["type"] != "MarkdownNote"
        for value in node.get("widgets_values", [])
        if isinstance(value, str) and value.endswith((".safetensors", ".ckpt", ".sft"))
    }
    assert named <= {model["name"] for model in models_of(path)}


@every
def test_an_empty_latent_is_used_only_where_the_model_takes_one(path: Path) -> None:
    nodes = document(path)["nodes"]
    variants = {variant.id: variant for variant in load().variants}
    chosen = [
        variants[v] for node in nodes for v in node.get("widgets_values", []) if isinstance(v, str) and v in variants
    ]
    if any(node["type"] == "AtelierEmptyLatent" for node in nodes):
        assert [variant.id for variant in chosen if variant.latent is None or variant.latent.node is None] == []


def test_ids_are_different() -> None:
    assert len({document(path)["id"] for path in FILES}) == len(FILES)


@pytest.mark.parametrize("variant", [v for v in load().variants if "text-to-image" in v.tasks], ids=lambda v: v.id)
def test_every_variant_that_draws_from_text_has_its_workflow(variant: Any) -> None:
    reasons = {
        "sd-1.4": "a pickle only, no safetensors file",
        "sd-2.0-base": "2.1 stands for the family",
        "sd-2.0-768v": "2.1 stands for the family",
        "sd-2.1-base": "2.1 of 768 pixels stands for the family",
        "flux1-pro": "behind an API",
        "hunyuan-image-3.0": "does not run in ComfyUI itself",
        "qwen-image-2.1": "needs a ComfyUI newer than 0.33.0",
    }
    files = [path for path in FILES if path.stem.endswith("text-to-image")]
    used = {
        value for path in files for node in document(path)["nodes"] for value in node.get("widgets_values", [])[1:2]
    }
    assert variant.id in used or variant.id in reasons or variant.runs != "comfyui"


def test_the_index_is_up_to_date() -> None:
    done = subprocess.run(
        [sys.executable, ROOT / "docs" / "draw_workflows.py", "--check"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    pictures = {path.stem for path in (ROOT / "docs" / "images" / "workflows").glob("*.png")}
    assert pictures == {path.stem for path in FILES}


# With a real ComfyUI: files of the right names and headers, and no weights.

FIXTURES = (
    ("sd3.5_large_fp8", "sd3.5_large_fp8_checkpoint"),
    ("sd3.5_large_controlnet", "controlnet_sd3.5_large_diffusers"),
    ("sd3.5_large", "sd3.5_large"),
    ("sd3.5_medium", "sd3.5_medium"),
    ("v2-1_768", "sd2_checkpoint"),
    ("sd_turbo", "sd2_checkpoint"),
    ("sd_xl_refiner", "sdxl_refiner_checkpoint"),
    ("sd_xl", "sdxl_checkpoint"),
    ("sdxl_lightning_4step.", "sdxl_checkpoint"),
    ("svd", "svd_checkpoint"),
    ("v1-5", "sd1_checkpoint"),
    ("sigclip", "sigclip_384"),
    ("FLUX.1-dev-ControlNet-Union", "controlnet_flux_union"),
    ("Qwen-Image-InstantX-ControlNet-Union", "controlnet_qwen_instantx_union"),
    ("Qwen-Image-InstantX-ControlNet-Inpainting", "controlnet_qwen_instantx_inpainting"),
    ("control_v11", "controlnet_sd1_ldm"),
    ("diffusion_pytorch_model_promax", "diffusers_controlnet_union_sdxl"),
    ("flux1-canny-dev.", "flux1_canny_dev"),
    ("flux1-depth-dev.", "flux1_canny_dev"),
    ("flux1-dev-kontext", "flux1_kontext_fp8_scaled"),
    ("flux1-krea", "flux1_kontext_fp8_scaled"),
    ("flux1-dev.", "flux1_dev"),
    ("flux1-fill", "flux1_fill_dev"),
    ("flux1-schnell", "flux1_schnell"),
    ("flux1-redux", "flux1_redux"),
    ("hidream", "hidream_i1"),
    ("hunyuanimage2.1_distilled", "hunyuan_image_2.1_distilled"),
    ("hunyuanimage2.1_bf16", "hunyuan_image_2.1"),
    ("qwen_image_vae", "vae_qwen"),
    ("qwen_image", "qwen_image_fp8"),
    ("byt5", "byt5_small"),
    ("clip_g", "clip_g"),
    ("clip_l_hidream", "clip_l_hidream"),
    ("clip_l", "clip_l"),
    ("llama", "llama_3.1_8b"),
    ("qwen_2.5", "qwen2.5_vl_7b"),
    ("t5xxl_fp16", "t5xxl"),
    ("t5xxl_fp8", "t5xxl_fp8_scaled"),
    ("ae.", "vae_16"),
    ("depth_anything", "depth_anything_v2_small"),
    ("vitpose", "vitpose_base_simple"),
    ("rtdetr", "rtdetr_r50vd"),
)
"""What a model's file name begins with -> the header fixture that its file has."""

SMALL: dict[str, Shapes] = {
    "hunyuan_image_2.1_vae_fp16.safetensors": {"decoder.conv_in.weight": (1024, 64, 3, 3)},
    "qwen_image_canny_diffsynth_controlnet.safetensors": {
        "controlnet_blocks.0.y_rms.weight": (3072,),
        "img_in.weight": (3072, 64),
    },
    "sdxl_lightning_4step_lora.safetensors": {
        "lora_unet_input_blocks_8_1_transformer_blocks_9_attn2_to_k.lora_down.weight": (16, 2048),
        "lora_unet_input_blocks_8_1_transformer_blocks_9_attn2_to_k.lora_up.weight": (1280, 16),
    },
    "Qwen-Image-Lightning-4steps-V1.0.safetensors": {
        "transformer_blocks.59.attn.add_k_proj.lora_down.weight": (16, 3072),
        "transformer_blocks.59.attn.add_k_proj.lora_up.weight": (3072, 16),
        "transformer_blocks.59.img_mlp.net.0.proj.lora_down.weight": (16, 3072),
        "transformer_blocks.59.img_mlp.net.0.proj.lora_up.weight": (12288, 16),
    },
    "RealESRGAN_x4plus.safetensors": {
        "conv_first.weight": (64, 3, 3, 3),
        "body.0.rdb1.conv1.weight": (32, 64, 3, 3),
    },
    "flux1-canny-dev-lora.safetensors": {
        "double_blocks.0.img_attn.qkv.lora_A.weight": (16, 3072),
        "double_blocks.0.img_attn.qkv.lora_B.weight": (9216, 16),
        "img_in.lora_A.weight": (16, 128),
        "img_in.lora_B.weight": (3072, 16),
        "img_in.lora_B.bias": (3072,),
        "single_blocks.0.norm.key_norm.scale": (128,),
    },
}
SMALL["qwen_image_depth_diffsynth_controlnet.safetensors"] = SMALL["qwen_image_canny_diffsynth_controlnet.safetensors"]
SMALL["qwen_image_union_diffsynth_lora.safetensors"] = SMALL["Qwen-Image-Lightning-4steps-V1.0.safetensors"]
SMALL["flux1-depth-dev-lora.safetensors"] = SMALL["flux1-canny-dev-lora.safetensors"]


def shapes_for(name: str) -> Shapes:
    if name in SMALL:
        return SMALL[name]
    fixture = next(fixture for start, fixture in FIXTURES if name.startswith(start))
    found = json.loads(lzma.decompress((HEADERS / f"{fixture}.json.xz").read_bytes()))
    return {key: tuple(shape) for key, shape in found["shapes"].items()}


def write_hollow(path: Path, shapes: Shapes) -> None:
    """A safetensors file with the header of a real one and a hole where the weights would be."""
    entries: dict[str, object] = {}
    end = 0
    for name, shape in shapes.items():
        start, amount = end, 1
        for side in shape:
            amount *= side
        end += amount
        entries[name] = {"dtype": "F8_E4M3", "shape": shape, "data_offsets": [start, end]}
    header = json.dumps(entries).encode()
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("wb") as stream:
        stream.write(struct.pack("<Q", len(header)) + header)
        stream.truncate(8 + len(header) + end)


def write_models(models: Path) -> None:
    """Hollow files of all the curated workflows."""
    for path in FILES:
        for model in models_of(path):
            target = models / model["directory"] / model["name"]
            if not target.exists():
                write_hollow(target, shapes_for(model["name"]))


@every
def test_the_hollow_files_are_of_the_kind_that_the_catalogue_says(path: Path, tmp_path: Path) -> None:
    for model in models_of(path):
        target = tmp_path / model["name"]
        write_hollow(target, shapes_for(model["name"]))
        found, file = detect(target), catalogue_file(model)
        assert found.kind == file.role
        assert file.family is None or file.family in found.families
        target.unlink()


HOLD = '''"""A node that never ends, so that what comes after it is validated and waits."""
import time


class Hold:
    CATEGORY, RETURN_TYPES, FUNCTION, OUTPUT_NODE = "test", (), "hold", True

    @classmethod
    def INPUT_TYPES(cls):
        return {"required": {}}

    def hold(self):
        while True:
            time.sleep(1)


NODE_CLASS_MAPPINGS = {"Hold": Hold}
'''


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def post(url: str, prompt: dict[str, Any]) -> dict[str, Any]:
    body = json.dumps({"prompt": prompt}).encode()
    request = urllib.request.Request(f"{url}/prompt", body, {"Content-Type": "application/json"})
    try:
        with urllib.request.urlopen(request, timeout=120) as answer:
            return dict(json.load(answer))
    except urllib.error.HTTPError as error:
        with error:
            return dict(json.load(error))


@contextmanager
def started(install: Any, base: Path) -> Iterator[str]:
    """The address of a ComfyUI with this checkout, hollow models, and a prompt that never ends at the queue's head."""
    (base / "custom_nodes" / "hold").mkdir(parents=True)
    (base / "custom_nodes" / "hold" / "__init__.py").write_text(HOLD, encoding="utf-8")
    (base / "custom_nodes" / "comfy_atelier").symlink_to(ROOT, target_is_directory=True)
    (base / "input").mkdir()
    Image.new("RGB", (64, 64), "white").save(base / "input" / "example.png")
    write_models(base / "models")
    port = _free_port()
    command = [install.python, "main.py", "--cpu", "--base-directory", base, "--port", port, "--disable-api-nodes"]
    log = base / "server.log"
    with log.open("wb") as stream:
        process = subprocess.Popen([*map(str, command)], cwd=install.path, stdout=stream, stderr=stream)
    url, deadline = f"http://127.0.0.1:{port}", time.monotonic() + START_SECONDS
    try:
        while True:
            try:
                with urllib.request.urlopen(f"{url}/system_stats", timeout=60):
                    break
            except OSError:
                assert process.poll() is None, log.read_text(errors="replace")[-3000:]
                assert time.monotonic() < deadline, "the server did not start"
                time.sleep(0.2)
        assert "prompt_id" in post(url, {"1": {"class_type": "Hold", "inputs": {}}})
        yield url
    finally:
        process.kill()
        process.wait(30)


@pytest.mark.comfyui
@pytest.mark.skipif(os.name == "nt", reason="hollow files are sparse, and the checkout is linked, on POSIX only")
def test_a_real_comfyui_takes_every_workflow(comfyui_install: Any, tmp_path: Path) -> None:
    with started(comfyui_install, tmp_path) as url:
        refused = {}
        for path in FILES:
            answer = post(url, prompt_of(path, comfyui_install.version).to_json())
            if "prompt_id" not in answer or answer.get("node_errors"):
                refused[path.stem] = answer
        assert not refused
        prompt = prompt_of(ROOT / "workflows" / "flux1-dev-text-to-image.json", comfyui_install.version).to_json()
        loader = next(node for node in prompt.values() if node["class_type"] == "AtelierLoadFlux")
        for name, told in (("none.safetensors", "is not in"), ("flux1-fill-dev.safetensors", "flux1-fill-dev")):
            loader["inputs"]["model"] = name
            answer = post(url, prompt)
            assert "prompt_id" not in answer, "the check cannot fail"
            assert told in json.dumps(answer)
