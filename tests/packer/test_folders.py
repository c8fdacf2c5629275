import json
import os
import subprocess
from pathlib import Path

import pytest

from comfy_atelier.packer import PackerError
from comfy_atelier.packer.folders import ModelFolders, canonical, filename_of


def put(path, content=b"x"):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return path


@pytest.fixture
def comfyui(tmp_path):
    folder = tmp_path / "ComfyUI"
    put(folder / "models" / "checkpoints" / "a.safetensors")
    put(folder / "models" / "checkpoints" / "sub" / "b.safetensors")
    put(folder / "models" / "clip" / "t5.safetensors")
    put(folder / "models" / "text_encoders" / "clip_l.safetensors")
    put(folder / "models" / "unet" / "flux.safetensors")
    put(folder / "models" / "ipadapter" / "ip.bin")
    return folder


def test_folders_and_their_old_names(comfyui):
    folders = ModelFolders.of(comfyui_dir=comfyui)
    assert folders.find("checkpoints", "a.safetensors").filename == "models/checkpoints/a.safetensors"
    assert folders.find("checkpoints", "sub/b.safetensors").filename == "models/checkpoints/sub/b.safetensors"
    assert folders.find("checkpoints", "sub\\b.safetensors").filename == "models/checkpoints/sub/b.safetensors"
    assert folders.find("text_encoders", "t5.safetensors").filename == "models/clip/t5.safetensors"
    assert folders.find("clip", "clip_l.safetensors").filename == "models/text_encoders/clip_l.safetensors"
    assert folders.find("unet", "flux.safetensors") == folders.find("diffusion_models", "flux.safetensors")
    assert folders.find("ipadapter", "ip.bin").filename == "models/ipadapter/ip.bin"
    assert folders.find("loras", "a.safetensors") is None
    assert folders.find("no such key", "a.safetensors") is None
    assert [key for key, _ in folders.find_anywhere("t5.safetensors")] == ["text_encoders"]
    assert list(folders.list("checkpoints")) == ["a.safetensors", "sub/b.safetensors"]


@pytest.mark.parametrize("name", ["../../secret", "/secret", "sub/../../../secret", "..", ".", "", "sub"])
def test_names_never_lead_out_of_the_folder(comfyui, name):
    put(comfyui / "secret")
    put(comfyui.parent / "secret")
    assert ModelFolders.of(comfyui_dir=comfyui).find("checkpoints", name) is None


def test_extra_paths(comfyui, tmp_path, monkeypatch):
    put(tmp_path / "shared" / "Stable-diffusion" / "c.safetensors")
    put(tmp_path / "shared" / "Stable-diffusion" / "a.safetensors", b"other")
    put(tmp_path / "shared" / "Lora" / "l.safetensors")
    put(tmp_path / "shared" / "LyCORIS" / "l2.safetensors")
    put(tmp_path / "fast" / "a.safetensors", b"fast")
    monkeypatch.setenv("SHARED_MODELS", str(tmp_path / "shared"))
    (comfyui / "extra_model_paths.yaml").write_text(
        "a111:\n  base_path: ${SHARED_MODELS}\n  checkpoints: Stable-diffusion\n  loras: |\n    Lora\n    LyCORIS\n"
        "nothing:\n"
        "fast:\n  is_default: true\n  checkpoints: ../fast\n  clip: ../fast\n",
    )
    folders = ModelFolders.of(comfyui_dir=comfyui)
    found = folders.find("checkpoints", "c.safetensors")
    assert found.path == tmp_path / "shared" / "Stable-diffusion" / "c.safetensors"
    assert found.filename == "models/checkpoints/c.safetensors"
    assert folders.find("checkpoints", "a.safetensors").path.read_bytes() == b"fast"
    assert folders.find("loras", "l2.safetensors").filename == "models/loras/l2.safetensors"
    assert folders.find("text_encoders", "a.safetensors").filename == "models/text_encoders/a.safetensors"


@pytest.mark.parametrize("content", ["[", "- a\n- b\n", "just words"])
def test_extra_paths_that_are_none(tmp_path, content):
    config = tmp_path / "extra.yaml"
    config.write_text(content)
    with pytest.raises(PackerError) as caught:
        ModelFolders.of(extra_model_paths=[config])
    assert str(caught.value).startswith(f"{config}: ")


def test_empty_extra_paths_and_missing_ones(tmp_path):
    config = tmp_path / "extra.yaml"
    config.write_text("# nothing\n")
    assert ModelFolders.of(extra_model_paths=[config]).paths == {}
    with pytest.raises(PackerError, match="no such file"):
        ModelFolders.of(extra_model_paths=[tmp_path / "none.yaml"])
    with pytest.raises(PackerError, match="ComfyUI folder is not there"):
        ModelFolders.of(comfyui_dir=tmp_path / "none")
    with pytest.raises(PackerError, match="models folder is not there"):
        ModelFolders.of(models_dirs=[tmp_path / "none"])


def test_base_directory_and_models_folders_come_in_order(comfyui, tmp_path):
    base, more = tmp_path / "base", tmp_path / "more"
    put(base / "models" / "checkpoints" / "a.safetensors", b"base")
    put(more / "checkpoints" / "a.safetensors", b"more")
    put(more / "checkpoints" / "d.safetensors", b"more")
    folders = ModelFolders.of(comfyui_dir=comfyui, base_directory=base, models_dirs=[more])
    assert folders.find("checkpoints", "a.safetensors").path.read_bytes() == b"base"
    assert folders.find("checkpoints", "d.safetensors").filename == "models/checkpoints/d.safetensors"
    assert folders.find("checkpoints", "sub/b.safetensors") is None


def test_names_for_a_fresh_comfyui():
    assert canonical("unet") == "diffusion_models"
    assert filename_of("unet", "a\\b.safetensors") == "models/diffusion_models/a/b.safetensors"
    assert filename_of("loras", "../../x") == "models/loras/x"


ASK = """
import sys, json
sys.argv = ["main.py", "--base-directory", {base!r}]
import comfy.options; comfy.options.enable_args_parsing()
import folder_paths
from utils.extra_config import load_extra_path_config
load_extra_path_config({config!r})
print(json.dumps({{key: value[0] for key, value in folder_paths.folder_names_and_paths.items()}}))
"""


@pytest.mark.comfyui
def test_comfyui_itself_searches_the_same_folders(comfyui_install, tmp_path):
    (tmp_path / "models").mkdir()
    config = tmp_path / "extra.yaml"
    config.write_text(
        "a:\n  base_path: shared\n  checkpoints: c\n  unet: u\n  clip: |\n    x\n    y\n  mine: m\n"
        "b:\n  is_default: true\n  checkpoints: d\n  vae: /abs/vae\n"
    )
    script = ASK.format(base=str(tmp_path), config=str(config))
    run = subprocess.run(
        [comfyui_install.python, "-c", script], cwd=comfyui_install.path, capture_output=True, text=True, check=True,
        env={**os.environ, "PYTHONPATH": "."},
    )  # fmt: skip
    theirs = json.loads(run.stdout.splitlines()[-1])
    ours = ModelFolders.of(base_directory=tmp_path, extra_model_paths=[config]).paths
    for key, paths in theirs.items():
        if key not in ("custom_nodes", "datasets"):
            assert [Path(path) for path in paths] == list(ours[key]), key
    assert set(ours) - set(theirs) <= {"latent_upscale_models", "background_removal", "frame_interpolation",
                                       "geometry_estimation", "optical_flow", "detection"}  # fmt: skip
