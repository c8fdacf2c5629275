"""Our own nodes in the embedded engine: what they choose, refuse and say; maps of depth and poses."""

from __future__ import annotations

import importlib.util
import json
import struct
import sys
import threading
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch", reason="the embedded engine needs torch")
pytest.importorskip("diffusers")
pytest.importorskip("transformers")

from comfy_atelier.catalogue import load  # noqa: E402 # after what decides whether this runs
from comfy_atelier.catalogue.settings import settings_of  # noqa: E402
from comfy_atelier.engines.embedded import registry  # noqa: E402
from comfy_atelier.engines.embedded.context import Context, Run  # noqa: E402
from comfy_atelier.engines.embedded.problems import NodeProblem  # noqa: E402

ANNOTATORS = Path(__file__).parents[1] / "catalogue" / "annotator_models.py"


def run(class_type: str, folder: Path, **inputs: Any) -> Any:
    """A node's outputs."""
    here = Run(emit=lambda event: None, cancelled=threading.Event(), model_folders=(folder,))
    node = registry.load(class_type)
    context = {"context": Context(here, "1", class_type)} if node.uses_context else {}
    return node.function(**inputs, **context)


def faults(class_type: str, folder: Path, **inputs: Any) -> list[str]:
    here = Run(emit=lambda event: None, cancelled=threading.Event(), model_folders=(folder,))
    check = registry.load(class_type).validate
    assert check is not None
    return [fault.message for fault in check(**inputs, context=Context(here, "1", class_type))]


def write(path: Path, shapes: Mapping[str, tuple[int, ...]]) -> None:
    """A safetensors file of zeros."""
    header: dict[str, Any] = {}
    end = 0
    for name, shape in shapes.items():
        size = 2
        for side in shape:
            size *= side
        header[name] = {"dtype": "F16", "shape": list(shape), "data_offsets": [end, end + size]}
        end += size
    text = json.dumps(header).encode()
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("wb") as file:
        file.write(struct.pack("<Q", len(text)) + text)
        file.truncate(8 + len(text) + end)


def test_settings_and_prompts_need_no_model(tmp_path: Path) -> None:
    settings, steps, *_ = run("AtelierRecommendedSettings", tmp_path, variant="sd-1.5")
    values = {"steps": 7, "cfg": 0.0, "guidance": 0.0, "sampler": "recommended", "scheduler": "karras"}
    changed = run("AtelierChangeSettings", tmp_path, settings=settings, **values)
    assert (changed.sampling.steps, changed.sampling.scheduler) == (7, "karras")
    assert changed.sampling.cfg == settings.sampling.cfg
    assert steps == settings.sampling.steps
    layers = {"subject": "a fox", "scene": "in snow", "details": "", "lighting": "", "mood": "", "style": "ink"}
    assert run("AtelierLayeredPrompt", tmp_path, joined_by="commas", **layers) == "a fox, in snow, ink"
    assert run("AtelierNegativePrompt", tmp_path, preset="none", more="text, text") == "text"


def test_a_variant_that_does_not_exist_is_no_traceback(tmp_path: Path) -> None:
    with pytest.raises(NodeProblem):
        run("AtelierRecommendedSettings", tmp_path, variant="sd-9")


@pytest.mark.parametrize("variant", ["sd-1.5", "sd3.5-large", "qwen-image"])
def test_an_empty_latent_is_of_the_models_kind(tmp_path: Path, variant: str) -> None:
    settings = settings_of(load().variant(variant))
    values = {"aspect_ratio": "1:1 square", "megapixels": 0.0625, "batch_size": 2}
    latent, width, height = run("AtelierEmptyLatent", tmp_path, settings=settings, **values)
    assert (width, height) == (256, 256)
    assert latent["samples"].shape[0] == 2
    assert latent["samples"].shape[1] == (4 if variant == "sd-1.5" else 16)
    assert latent["samples"].shape[-2:] == (32, 32)


def test_a_missing_model_and_one_of_another_family_are_named_before_the_run(tmp_path: Path) -> None:
    (missing,) = faults("AtelierLoadSDXL", tmp_path, model="none.safetensors")
    assert "'none.safetensors' is not in models/checkpoints" in missing
    write(tmp_path / "loras" / "lora.safetensors", {"lora_unet_x.lora_up.weight": (4, 2)})
    assert faults("AtelierLoadLora", tmp_path, lora="lora.safetensors") == []
    assert "'other.safetensors'" in faults("AtelierLoadLora", tmp_path, lora="other.safetensors")[0]
    assert faults("AtelierLoraStack", tmp_path, lora_1="none", lora_2="lora.safetensors", lora_3="none") == []
    assert "'gone'" in faults("AtelierControl", tmp_path, control="gone")[0]
    assert faults("AtelierControl", tmp_path, control="none") == []


def test_every_node_that_ours_call_is_in_the_engine() -> None:
    """Samplers, empty latents and model sampling nodes that the catalogue names for any variant."""
    wanted = {"KSampler", "ConditioningZeroOut", "FluxGuidance", "SamplerCustom", "SDTurboScheduler", "BasicGuider"}
    wanted |= {"DualCFGGuider", "RandomNoise", "KSamplerSelect", "BasicScheduler", "SamplerCustomAdvanced"}
    wanted |= {"VideoLinearCFGGuidance", "KSamplerAdvanced", "CFGNorm", "ImageScale", "ImageScaleToTotalPixels"}
    wanted |= {"FluxKontextImageScale", "InpaintModelConditioning", "VAEEncodeForInpaint", "SetLatentNoiseMask"}
    wanted |= {"DifferentialDiffusion", "InstructPixToPixConditioning", "QwenImageDiffsynthControlnet"}
    for variant in load().variants:
        if variant.sampling is not None:
            wanted |= {variant.sampling.shift_node} if variant.sampling.shift_node else set()
            wanted |= {variant.latent.node} if variant.latent is not None and variant.latent.node else set()
    assert registry.lacking(wanted) == ()


@pytest.fixture(scope="module")
def annotator_folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Random models that read maps, in their folders."""
    import transformers
    from safetensors.torch import save_file

    spec = importlib.util.spec_from_file_location("annotator_models_here", ANNOTATORS)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    folder = tmp_path_factory.mktemp("models")
    torch.manual_seed(0)
    for kind, config in module.CASES.items():
        model = getattr(transformers, module.annotators.CLASSES[kind])(config())
        path = folder / module.annotators.FOLDERS[kind] / f"{kind}.safetensors"
        path.parent.mkdir(parents=True, exist_ok=True)
        save_file({name: tensor.contiguous() for name, tensor in model.state_dict().items()}, path)
    yield folder
    del sys.modules[spec.name]


def test_a_depth_map_at_its_size(annotator_folder: Path) -> None:
    values = {"depth_model": "depth_estimator.safetensors", "resolution": 140, "cut_far": 0.0}
    found = run("AtelierDepthMap", annotator_folder, image=torch.rand(2, 40, 60, 3), width=64, height=48, **values)
    assert found.shape == (2, 48, 64, 3)
    assert float(found.min()) == 0.0
    assert float(found.max()) == 1.0


def test_one_person_fills_the_picture_where_there_is_no_detector(annotator_folder: Path) -> None:
    values = {"person_threshold": 0.5, "joint_threshold": 0.0, "most_people": 3, "line_width": 4.0}
    files = {"pose_model": "pose_estimator.safetensors", "detector": "none"}
    found, people = run(
        "AtelierPoseMap", annotator_folder, image=torch.rand(1, 64, 48, 3), width=0, height=0, **files, **values
    )
    assert found.shape == (1, 64, 48, 3)
    assert people == 1
    assert faults("AtelierPoseMap", annotator_folder, **files) == []
    files["detector"] = "gone.safetensors"
    assert "'gone.safetensors'" in faults("AtelierPoseMap", annotator_folder, **files)[0]
