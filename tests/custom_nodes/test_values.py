"""The nodes' pure parts: settings, sizes, prompts, adapters, scales, marker values. No ComfyUI needed."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from comfy_atelier.catalogue import ChoiceError, Detection, load
from comfy_atelier.catalogue.adapters import check_adapter, report, unmatched
from comfy_atelier.catalogue.control import KINDS, is_control, union_type, way_of
from comfy_atelier.catalogue.editing import EDIT_SCALES, edit_scale, original_size
from comfy_atelier.catalogue.prompting import NEGATIVE_PRESETS, join, negative
from comfy_atelier.catalogue.settings import RATIOS, overrides, settings_of
from comfy_atelier.catalogue.wiring_images import INPAINT_SIZES, inpaint
from comfy_atelier.catalogue.wiring_images import control as control_by_a_map
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


def test_a_control_lora_that_looks_like_any_is_known_by_its_name_and_family() -> None:
    name, of_qwen = "sub/qwen_image_union_diffsynth_lora.safetensors", Detection(kind="lora", families=("qwen-image",))
    of_flux, qwen = Detection(kind="lora", families=("flux1",)), load().variant("qwen-image")
    assert is_control(of_qwen, name)
    assert way_of(qwen, name, of_qwen) == "reference_lora"
    assert not is_control(of_flux, name), "the name alone is not enough"
    assert not is_control(of_qwen, "Qwen-Image-Lightning-4steps-V1.0.safetensors"), "a LoRA, but no control"


def test_a_masked_picture_may_take_the_models_size() -> None:
    settings = settings_of(load().variant("sdxl-base"))
    assert settings.size_near(512, 512) == (1024, 1024)
    assert settings.size_near(2000, 1000) == (1448, 728)
    assert settings_of(load().variant("flux1-fill-dev")).size_near(64, 64) == (1024, 1024)


class Recorder:
    """Stands for ComfyUI: remembers the nodes that were run, and gives their names on."""

    def __init__(self) -> None:
        self.ran: list[tuple[str, dict[str, Any]]] = []

    def __call__(self, class_type: str, **inputs: Any) -> tuple[str, ...]:
        self.ran.append((class_type, inputs))
        return tuple(f"{class_type}.{place}" for place in range(3))

    def has_guidance(self, conditioning: Any) -> bool:
        return False

    def encodes_map(self, control_net: Any) -> bool:
        return False


def test_inpainting_scales_picture_and_mask_alike() -> None:
    stock, image = Recorder(), SimpleNamespace(shape=(1, 300, 600, 3))
    wires = {"model": "m", "vae": "v", "positive": "p", "negative": "n", "image": image, "mask": "k"}
    inpaint(stock, settings=settings_of(load().variant("sdxl-base")), size=INPAINT_SIZES[1], **wires)
    scaled = [inputs for name, inputs in stock.ran if name == "ImageScale"]
    assert [(one["width"], one["height"], one["crop"]) for one in scaled] == [(1448, 728, "center")] * 2
    assert [name for name, _ in stock.ran][-2:] == ["VAEEncode", "SetLatentNoiseMask"]
    assert stock.ran[-1][1]["mask"] == "ImageToMask.0"
    stock = Recorder()
    inpaint(stock, settings=settings_of(load().variant("sdxl-base")), **wires)
    assert [name for name, _ in stock.ran] == ["VAEEncode", "SetLatentNoiseMask"]


def test_the_union_lora_reads_the_map_as_a_reference() -> None:
    stock, name = Recorder(), "qwen_image_union_diffsynth_lora.safetensors"
    found = Detection(kind="lora", families=("qwen-image",))
    wires = {"model": "m", "vae": "v", "positive": "p", "negative": "n", "image": "i", "latent": "l"}
    numbers = {"kind": "canny", "strength": 0.8, "start_percent": 0.0, "end_percent": 1.0}
    told = control_by_a_map(
        stock, settings=settings_of(load().variant("qwen-image")), file=(name, found), **wires, **numbers
    )
    assert [name for name, _ in stock.ran] == ["LoraLoaderModelOnly", "VAEEncode", "ReferenceLatent", "ReferenceLatent"]
    assert stock.ran[0][1]["strength_model"] == 0.8
    assert told == ("LoraLoaderModelOnly.0", "ReferenceLatent.0", "ReferenceLatent.0", "l")


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
