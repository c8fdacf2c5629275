"""A model that brings its own code: found by its configuration, run only with the user's leave."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from comfy_atelier.custom_nodes import local_hunyuan
from comfy_atelier.custom_nodes.errors import NodeInputError

CODE = """
import torch
from PIL import Image
from transformers import PretrainedConfig, PreTrainedModel
from transformers.generation import GenerationMixin


class TinyConfig(PretrainedConfig):
    model_type = "hunyuan_image_3_moe_test"


class HunyuanImage3ForCausalMM(PreTrainedModel, GenerationMixin):
    config_class = TinyConfig
    _supports_sdpa = True

    def __init__(self, config, moe_impl=None, **others):
        super().__init__(config)
        self.moe_impl = moe_impl
        self.weight = torch.nn.Parameter(torch.zeros(1))
        self.post_init()

    def load_tokenizer(self, folder):
        self.folder = folder

    def generate_image(self, prompt, seed, image_size, diff_infer_steps, stream):
        height, width = (int(side) for side in image_size.split("x")) if image_size != "auto" else (16, 16)
        assert self.folder and prompt == "a fox" and diff_infer_steps == 8
        return "thoughts", [Image.new("RGB", (width, height), (seed, 0, 0))]
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    place = tmp_path / "diffusers" / "HunyuanImage-3"
    place.mkdir(parents=True)
    (place / "modeling_tiny.py").write_text(CODE, encoding="utf-8")
    config = {
        "architectures": ["HunyuanImage3ForCausalMM"],
        "model_type": "hunyuan_image_3_moe_test",
        "auto_map": {
            "AutoConfig": "modeling_tiny.TinyConfig",
            "AutoModelForCausalLM": "modeling_tiny.HunyuanImage3ForCausalMM",
        },
    }
    (place / "config.json").write_text(json.dumps(config), encoding="utf-8")
    other = tmp_path / "diffusers" / "other"
    other.mkdir()
    (other / "config.json").write_text('{"architectures": ["LlamaForCausalLM"]}', encoding="utf-8")
    (tmp_path / "diffusers" / "broken").mkdir()
    (tmp_path / "diffusers" / "broken" / "config.json").write_text("{", encoding="utf-8")
    return place


def test_folders_are_known_by_their_configuration(folder: Path) -> None:
    assert local_hunyuan.folders([folder.parent, folder.parent]) == {"HunyuanImage-3": folder}


def test_nothing_runs_without_leave(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("torch")
    pytest.importorskip("psutil")
    with pytest.raises(NodeInputError, match=r"runs Python code .* set ATELIER_TRUST_MODEL_CODE=1, or trust"):
        local_hunyuan.check_allowed(folder, trusted=False)
    local_hunyuan.check_allowed(folder, trusted=True)
    with (folder / "model.safetensors").open("wb") as stream:
        stream.truncate(160 * 10**9)
    monkeypatch.setattr(local_hunyuan, "_free_bytes", lambda: 24 * 10**9)
    with pytest.raises(NodeInputError, match=r"has 160 GB of weights .* this machine has 24 GB free; use a server"):
        local_hunyuan.check_allowed(folder, trusted=True)


def test_its_own_code_draws(folder: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    torch = pytest.importorskip("torch")
    pytest.importorskip("transformers")
    if torch.cuda.is_available():
        pytest.skip("the small model is made for a machine without a card")
    from safetensors.torch import save_file

    monkeypatch.setattr("transformers.dynamic_module_utils.HF_MODULES_CACHE", str(tmp_path / "modules"))
    monkeypatch.syspath_prepend(str(tmp_path / "modules"))
    save_file({"weight": torch.ones(1)}, folder / "model.safetensors", metadata={"format": "pt"})
    model = local_hunyuan.load(folder)
    assert model.moe_impl == "eager"
    assert float(model.weight.detach()) == 1.0
    (picture,) = local_hunyuan.draw(model, prompt="a fox", seed=51, size=(48, 32), steps=8)
    assert picture.shape == (32, 48, 3)
    assert float(picture[0, 0, 0]) == pytest.approx(51 / 255)
    (square,) = local_hunyuan.draw(model, prompt="a fox", seed=51, size=None, steps=8)
    assert square.shape == (16, 16, 3)
    (folder / "modeling_tiny.py").write_text("import a_package_that_nobody_has\n" + CODE, encoding="utf-8")
    with pytest.raises(NodeInputError, match=r"cannot be loaded: .*a_package_that_nobody_has"):
        local_hunyuan.load(folder)
