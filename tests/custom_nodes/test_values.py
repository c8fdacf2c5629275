"""The nodes' pure parts: settings, sizes, prompts, adapters, scales, marker values. No ComfyUI needed."""

from __future__ import annotations

import pytest

from comfy_atelier.catalogue import ChoiceError, Detection, load
from comfy_atelier.catalogue.adapters import check_adapter, report, unmatched
from comfy_atelier.catalogue.control import KINDS, is_control, union_type, way_of
from comfy_atelier.catalogue.editing import EDIT_SCALES, edit_scale, original_size
from comfy_atelier.catalogue.prompting import NEGATIVE_PRESETS, join, negative
from comfy_atelier.catalogue.settings import RATIOS, overrides, settings_of
from comfy_atelier.custom_nodes.interface_values import MarkerError, among, choice_lines, within


def test_settings_change_only_what_is_asked() -> None:
    settings = settings_of(load().variant("flux1-dev"))
    changed = settings.changed(overrides(steps=8, guidance=2.0, sampler="recommended", cfg=0.0))
    assert (changed.sampling.steps, changed.sampling.guidance) == (8, 2.0)
    assert (changed.sampling.sampler, changed.sampling.cfg) == ("euler", 1.0)
    assert settings.changed({}) is settings
    with pytest.raises(ChoiceError, match="does not run in ComfyUI itself"):
        settings_of(load().variant("flux1-pro"))


@pytest.mark.parametrize("variant", [v for v in load().variants if v.sampling and v.resolution], ids=lambda v: v.id)
def test_every_aspect_ratio_gives_a_size_the_model_takes(variant: object) -> None:
    settings = settings_of(variant)  # type: ignore[arg-type]
    rule = settings.variant.resolution
    assert rule is not None
    for ratio in RATIOS:
        width, height = settings.size(ratio)
        assert width % rule.multiple == 0
        assert height % rule.multiple == 0
        assert rule.accepts(width, height), (ratio, width, height)


def test_sizes() -> None:
    sdxl, hidream = settings_of(load().variant("sdxl-base")), settings_of(load().variant("hidream-e1-full"))
    assert sdxl.size("16:9 wide") == (1344, 768)
    assert sdxl.size("1:1 square", 0.25) == (512, 512)
    assert hidream.size("16:9 wide") == (768, 768)
    with pytest.raises(ChoiceError, match="'2:1' is no aspect ratio; choose one of 1:1 square"):
        sdxl.size("2:1")


def test_layered_prompts() -> None:
    parts = ["a red fox, ", "", " in snow", "35 mm photograph."]
    assert join(parts, "commas") == "a red fox, in snow, 35 mm photograph"
    assert join(parts, "sentences") == "a red fox. in snow. 35 mm photograph."
    assert join(parts, "lines") == "a red fox,\nin snow\n35 mm photograph."
    assert join(["", " "], "sentences") == ""


def test_negative_presets() -> None:
    assert negative("none", " cars ,, dogs") == "cars, dogs"
    assert negative("general", "watermark, cars").count("watermark") == 1
    assert negative("general", "cars").endswith(", cars")
    assert negative("none", "") == NEGATIVE_PRESETS["none"] == ""


def test_an_adapter_of_another_family_is_refused_by_name() -> None:
    lora = Detection(kind="lora", families=("sdxl",), architecture="sdxl")
    check_adapter("x", lora, "lora", ("sdxl", "sdxl"))
    check_adapter("x", lora, "lora", None)
    with pytest.raises(
        ChoiceError, match=r"'x' is a LoRA of sdxl, but the model is FLUX.1; choose one made for FLUX.1"
    ):
        check_adapter("x", lora, "lora", ("flux1", "flux1"))
    large = Detection(kind="lora", families=("sd3.5",), architecture="sd3.5-large")
    with pytest.raises(ChoiceError, match=r"a LoRA of sd3.5-large, but the model is sd3.5-medium"):
        check_adapter("x", large, "lora", ("sd3.5", "sd3.5-medium"))
    with pytest.raises(ChoiceError, match=r"a LoRA of Wan, which is not in the catalogue, but the model is FLUX.1"):
        check_adapter("x", Detection(kind="lora", label="Wan"), "lora", ("flux1", "flux1"))
    with pytest.raises(ChoiceError, match="'x' is a LoRA of sdxl, not a ControlNet"):
        check_adapter("x", lora, "controlnet", ("sdxl", "sdxl"))


def test_a_lora_that_fits_in_part_is_reported() -> None:
    missing = unmatched(["b", "a", "c"], {"c"})
    assert missing == ["a", "b"]
    assert report("x", 3, missing) == "x: 1 of 3 modules applied; without a place in this model: a, b"
    assert report("x", 3, []) == "x: all 3 modules applied"
    assert report("x", 20, [str(n) for n in range(12)]).endswith("and 4 more")


def test_edit_scales_are_for_edit_models() -> None:
    for variant in EDIT_SCALES:
        assert "edit" in load().variant(variant).tasks
    edits = {v.id for v in load().variants if "edit" in v.tasks and v.runs == "comfyui" and v.id != "qwen-image-2.1"}
    assert set(EDIT_SCALES) == edits
    assert edit_scale("hidream-e1-full")[1]["width"] == 768
    assert original_size((1, 480, 640, 3)) == (640, 480)
    with pytest.raises(ChoiceError, match=r"sd-1\.5 is no edit model"):
        edit_scale("sd-1.5")


def test_union_types_agree_with_the_catalogue() -> None:
    for family in load().families:
        for control in family.controls:
            for kind, word in control.union_type.items():
                assert union_type(kind) == word, control.id
    assert KINDS["auto"] == "auto"


def test_the_way_of_control_follows_the_file() -> None:
    dev, canny = load().variant("flux1-dev"), load().variant("flux1-canny-dev")
    lora = Detection(kind="lora", families=("flux1",), architecture="flux1", traits=("control",))
    plain = Detection(kind="lora", families=("flux1",), architecture="flux1")
    net = Detection(kind="controlnet", families=("flux1",), architecture="flux1")
    patch = Detection(kind="model_patch", families=("qwen-image",), architecture="qwen-image")
    assert [is_control(found) for found in (lora, plain, net, patch)] == [True, False, True, True]
    assert way_of(canny, "", None) == "instruct_pix2pix"
    assert way_of(dev, "x", lora) == "lora"
    assert way_of(dev, "x", net) == "controlnet"
    assert way_of(load().variant("qwen-image"), "x", patch) == "model_patch"
    with pytest.raises(ChoiceError, match=r"FLUX.1 \[dev\] reads no map by itself; choose a ControlNet"):
        way_of(dev, "", None)
    with pytest.raises(ChoiceError, match="'x' is a LoRA of flux1, which reads no map"):
        way_of(dev, "x", plain)


def test_marker_values() -> None:
    within("n", 5, 1, 10)
    with pytest.raises(MarkerError, match="input 'n': 11 is not between 1 and 10"):
        within("n", 11, 1, 10)
    with pytest.raises(MarkerError, match="swap them"):
        within("n", 5, 10, 1)
    assert choice_lines("a\n\n b \na") == ("a", "b")
    among("c", "a", ("a", "b"))
    among("c", "anything", ())
    with pytest.raises(MarkerError, match=r"'z' is none of its choices \(a, b\)"):
        among("c", "z", ("a", "b"))
