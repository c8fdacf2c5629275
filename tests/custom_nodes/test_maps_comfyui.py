"""Depth and pose maps in a real ComfyUI, by models of random weights that its own Python makes."""

from __future__ import annotations

import io
import json
import os
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

pytestmark = pytest.mark.comfyui

ROOT = Path(__file__).parent.parent.parent
MAKE = """
import importlib.util, pathlib, shutil, sys, tempfile, torch, transformers
sys.path.insert(0, sys.argv[1])
spec = importlib.util.spec_from_file_location("made", sys.argv[2])
made = importlib.util.module_from_spec(spec)
spec.loader.exec_module(made)
for kind, config in made.CASES.items():
    torch.manual_seed(7)
    model = getattr(transformers, made.annotators.CLASSES[kind])(config()).eval()
    with tempfile.TemporaryDirectory() as folder:
        model.save_pretrained(folder)
        place = pathlib.Path(sys.argv[3]) / made.annotators.FOLDERS[kind]
        place.mkdir(exist_ok=True)
        shutil.copy(pathlib.Path(folder) / "model.safetensors", place / f"tiny_{kind}.safetensors")
"""


def node(class_type: str, **inputs: Any) -> dict[str, Any]:
    return {"class_type": class_type, "inputs": inputs}


@pytest.fixture
def files(comfyui: Any, comfyui_install: Any, tmp_path: Path) -> None:
    (tmp_path / "comfy_atelier").symlink_to(ROOT, target_is_directory=True)
    script = ROOT / "tests" / "catalogue" / "annotator_models.py"
    models = Path(comfyui.base) / "models"
    if not (models / "pose" / "tiny_person_detector.safetensors").is_file():
        command = [comfyui_install.python, "-c", MAKE, tmp_path, script, models]
        subprocess.run([str(word) for word in command], check=True, env=os.environ | {"PYTHONPATH": ""})


def test_maps(comfyui: Any, files: None) -> None:
    listed = comfyui.get("/object_info/AtelierPoseMap")["AtelierPoseMap"]["input"]["required"]
    assert listed["pose_model"][1]["options"] == ["tiny_pose_estimator.safetensors"]
    assert listed["detector"][1]["options"] == ["tiny_person_detector.safetensors", "none"]
    image = node("EmptyImage", width=160, height=120, batch_size=2, color=0x3366CC)
    depth = node("AtelierDepthMap", image=["9", 0], depth_model="tiny_depth_estimator.safetensors", resolution=140,
                 cut_far=0.0, width=256, height=192)  # fmt: skip
    pose = node("AtelierPoseMap", image=["9", 0], pose_model="tiny_pose_estimator.safetensors",
                detector="tiny_person_detector.safetensors", person_threshold=0.0, joint_threshold=0.0, most_people=2,
                line_width=4.0, width=0, height=0)  # fmt: skip
    alone = node("AtelierPoseMap", **(pose["inputs"] | {"detector": "none"}))
    prompt = {
        "9": image, "1": depth, "2": pose, "3": alone, "11": node("PreviewImage", images=["1", 0]),
        "12": node("PreviewImage", images=["2", 0]), "13": node("PreviewImage", images=["3", 0]),
        "22": node("PreviewAny", source=["2", 1]), "23": node("PreviewAny", source=["3", 1]),
    }  # fmt: skip
    entry = comfyui.run(prompt)
    pictures = [np.asarray(Image.open(io.BytesIO(data)).convert("RGB")) for data in comfyui.images(entry)]
    assert [picture.shape for picture in pictures] == [(192, 256, 3)] * 2 + [(120, 160, 3)] * 4
    assert (pictures[0].min(), pictures[0].max()) == (0, 255)
    assert all(np.array_equal(pictures[0][..., 0], pictures[0][..., place]) for place in (1, 2))
    assert int(entry["outputs"]["22"]["text"][0]) <= 4
    assert entry["outputs"]["23"]["text"][0] == "2"


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        ({"detector": "none.safetensors"}, "'none.safetensors' is not in models/pose"),
        ({"detector": "tiny_pose_estimator.safetensors"}, "a person detector (RT-DETR) is needed"),
        ({"pose_model": "tiny_person_detector.safetensors"}, "a pose estimator (ViTPose) is needed"),
    ],
)
def test_a_file_of_another_kind_is_refused(comfyui: Any, files: None, wrong: dict[str, str], told: str) -> None:
    names = {"pose_model": "tiny_pose_estimator.safetensors", "detector": "tiny_person_detector.safetensors", **wrong}
    prompt = {
        "9": node("EmptyImage", width=64, height=64, batch_size=1, color=0),
        "1": node("AtelierPoseMap", image=["9", 0], person_threshold=0.0, joint_threshold=0.0, most_people=2,
                  line_width=4.0, width=0, height=0, **names),
        "2": node("PreviewImage", images=["1", 0]),
    }  # fmt: skip
    assert told in json.dumps(comfyui.post(prompt))


def test_a_missing_depth_model_is_refused(comfyui: Any, files: None) -> None:
    prompt = {
        "9": node("EmptyImage", width=64, height=64, batch_size=1, color=0),
        "1": node("AtelierDepthMap", image=["9", 0], depth_model="none.safetensors", resolution=140, cut_far=0.0,
                  width=0, height=0),
        "2": node("PreviewImage", images=["1", 0]),
    }  # fmt: skip
    assert "'none.safetensors' is not in models/depth_anything" in json.dumps(comfyui.post(prompt))
