"""What we call a file is what ComfyUI itself loads it as, in every version at hand."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest

HERE = Path(__file__).parent
HEADERS = HERE.parent / "data" / "headers"

CLASSES = {
    "sd1_checkpoint": "SD15",
    "sd1_inpainting_checkpoint": "SD15",
    "sd2_checkpoint": "SD20",
    "sd2_inpainting_checkpoint": "SD20",
    "sdxl_checkpoint": "SDXL",
    "sdxl_refiner_checkpoint": "SDXLRefiner",
    "sd3.5_large": "SD3",
    "sd3.5_large_fp8_checkpoint": "SD3",
    "sd3.5_medium": "SD3",
    "svd_checkpoint": "SVD_img2vid",
    "flux1_dev": "Flux",
    "flux1_dev_fp8_checkpoint": "Flux",
    "flux1_kontext_fp8_scaled": "Flux",
    "flux1_canny_dev": "Flux",
    "flux1_fill_dev": "FluxInpaint",
    "flux1_schnell": "FluxSchnell",
    "hidream_i1": "HiDream",
    "qwen_image_fp8": "QwenImage",
    "qwen_image_edit_2511": "QwenImage",
    "qwen_image_layered": "QwenImage",
    "hunyuan_image_2.1": "HunyuanImage21",
    "hunyuan_image_2.1_distilled": "HunyuanImage21",
    "hunyuan_image_refiner": "HunyuanImage21Refiner",
}
"""Header fixture -> class of ComfyUI's ``supported_models.py``; test_detect.py says what we call the same headers."""


@pytest.mark.comfyui
def test_comfyui_finds_the_same_model(comfyui_install: Any) -> None:
    script = (HERE / "own_detection.py").resolve()
    fixtures = [str((HEADERS / f"{name}.json.xz").resolve()) for name in CLASSES]
    command = [str(comfyui_install.python), str(script), str(comfyui_install.path), *fixtures]
    done = subprocess.run(command, cwd=comfyui_install.path, capture_output=True, text=True, timeout=500, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    assert json.loads(done.stdout.splitlines()[-1]) == CLASSES
