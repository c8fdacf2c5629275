"""Which files a loader takes, and what it says of the others. No ComfyUI needed."""

from __future__ import annotations

import pytest

from comfy_atelier.catalogue import ChoiceError, Detection, load
from comfy_atelier.catalogue.choice import (
    check_model,
    choose,
    expected_encoder,
    pick_encoder,
    pick_part,
    pick_vae,
    pick_variant,
)
from comfy_atelier.catalogue.loaders import AUTOMATIC, ENCODER_INPUTS, LOADERS, NONE, LoaderSpec, loader

SPECS = {spec.node_id: spec for spec in LOADERS}
FLUX = Detection(
    kind="diffusion_model", families=("flux1",), architecture="flux1", variants=("flux1-dev", "flux1-kontext-dev")
)
FILL = Detection(kind="diffusion_model", families=("flux1",), architecture="flux1", variants=("flux1-fill-dev",))
SDXL = Detection(
    kind="checkpoint", families=("sdxl",), architecture="sdxl", variants=("sdxl-base", "sdxl-turbo", "sdxl-lightning")
)
SD1_INPAINT = Detection(kind="checkpoint", families=("sd1",), architecture="sd1", traits=("inpaint",))
CHROMA = Detection(kind="diffusion_model", label="Chroma")


def encoder(name: str, *traits: str) -> Detection:
    return Detection(kind="text_encoder", families=("flux1", "hidream"), encoders=(name,), traits=traits)


def test_ids_are_pinned() -> None:
    """Workflows name these: an id may be added, never changed."""
    assert [spec.node_id for spec in LOADERS] == [
        "AtelierLoadStableDiffusion",
        "AtelierLoadSDXL",
        "AtelierLoadSD35",
        "AtelierLoadSVD",
        "AtelierLoadFlux",
        "AtelierLoadFluxTools",
        "AtelierLoadFluxRedux",
        "AtelierLoadFluxKontext",
        "AtelierLoadHiDreamI1",
        "AtelierLoadHiDreamE1",
        "AtelierLoadQwenImage",
        "AtelierLoadQwenImageEdit",
        "AtelierLoadHunyuanImage",
    ]


@pytest.mark.parametrize("spec", LOADERS, ids=lambda s: s.node_id)
def test_a_loader_names_what_the_catalogue_has(spec: LoaderSpec) -> None:
    for variant in spec.entries:
        assert variant.runs == "comfyui"
        assert variant.sampling is not None
        assert spec.video or all(kind in ENCODER_INPUTS for kind in variant.text_encoders)


def test_every_variant_that_runs_here_has_a_loader() -> None:
    ours = {name for spec in LOADERS for name in spec.variants}
    left = {variant.id for variant in load().variants if variant.runs == "comfyui"} - ours
    # USO is FLUX.1 dev with a LoRA and a patch; the layered and the 2.1 model need nodes that 0.3.64 lacks.
    assert left == {"flux1-uso-dev", "qwen-image-layered", "qwen-image-2.1"}


@pytest.mark.parametrize(
    ("found", "takes"),
    [
        (FLUX, {"AtelierLoadFlux", "AtelierLoadFluxKontext"}),
        (FILL, {"AtelierLoadFluxTools"}),
        (SDXL, {"AtelierLoadSDXL"}),
        (SD1_INPAINT, {"AtelierLoadStableDiffusion"}),
        (CHROMA, set()),
        (encoder("clip_l"), set()),
    ],
)
def test_a_list_has_only_files_of_its_family(found: Detection, takes: set[str]) -> None:
    assert {spec.node_id for spec in LOADERS if spec.accepts(found)} == takes


def test_a_wrong_file_is_named_with_both_families_and_the_right_loader() -> None:
    with pytest.raises(ChoiceError) as caught:
        check_model(SPECS["AtelierLoadFlux"], "sd_xl_base_1.0.safetensors", SDXL)
    assert str(caught.value) == (
        "'sd_xl_base_1.0.safetensors' is a whole checkpoint of sdxl, but 'Load FLUX.1' loads flux1; "
        "'Load SDXL' loads it"
    )
    with pytest.raises(ChoiceError, match=r"a diffusion model without encoders of Chroma, which is not in the"):
        check_model(SPECS["AtelierLoadFlux"], "chroma.safetensors", CHROMA)


def test_the_variant_follows_the_file() -> None:
    kontext, flux = SPECS["AtelierLoadFluxKontext"], SPECS["AtelierLoadFlux"]
    assert pick_variant(flux, AUTOMATIC, "x", FLUX).id == "flux1-dev"
    assert pick_variant(kontext, AUTOMATIC, "x", FLUX).id == "flux1-kontext-dev"
    assert pick_variant(SPECS["AtelierLoadSDXL"], "sdxl-turbo", "x", SDXL).sampling.steps == 1
    assert pick_variant(SPECS["AtelierLoadStableDiffusion"], AUTOMATIC, "x", SD1_INPAINT).id == "sd-1.5"
    with pytest.raises(ChoiceError, match=r"'x' cannot be flux1-schnell: by its header it is flux1-dev"):
        pick_variant(flux, "flux1-schnell", "x", FLUX)


def test_encoders_are_chosen_by_themselves() -> None:
    flux, hidream = load().variant("flux1-dev"), load().variant("hidream-i1-full")
    files = {
        "aaa.safetensors": ("text_encoders", encoder("clip_l")),
        "clip_l.safetensors": ("text_encoders", encoder("clip_l")),
        "clip_l_hidream.safetensors": ("text_encoders", encoder("clip_l", "long")),
    }
    assert pick_encoder(flux, "clip_l", AUTOMATIC, files) == "clip_l.safetensors"
    assert pick_encoder(hidream, "clip_l", AUTOMATIC, files) == "clip_l_hidream.safetensors"
    assert pick_encoder(flux, "clip_l", "aaa.safetensors", files) == "aaa.safetensors"
    assert pick_encoder(flux, "t5xxl", NONE, files) is None
    with pytest.raises(ChoiceError, match=r"get t5xxl_fp16.safetensors \(`atelier models get flux1-dev`\)"):
        pick_encoder(flux, "t5xxl", AUTOMATIC, files)
    with pytest.raises(ChoiceError, match=r"'aaa.safetensors' is a text encoder.*input 't5xxl' wants t5xxl"):
        pick_encoder(flux, "t5xxl", "aaa.safetensors", files)


def test_the_vae_is_chosen_by_itself() -> None:
    flux, qwen = load().variant("flux1-dev"), load().variant("qwen-image")
    sixteen = Detection(kind="vae", families=("flux1", "hidream", "sd3.5"), latent_channels=16)
    wan = Detection(kind="vae", families=("qwen-image",), latent_channels=16)
    layered = Detection(kind="vae", families=("qwen-image",), traits=("layered",), latent_channels=16)
    files = {"a.safetensors": ("vae", sixteen), "sub/ae.safetensors": ("vae", sixteen), "l": ("vae", layered)}
    assert pick_vae(flux, AUTOMATIC, files) == "sub/ae.safetensors"
    assert pick_vae(flux, "a.safetensors", files) == "a.safetensors"
    assert pick_vae(qwen, AUTOMATIC, {**files, "w": ("vae", wan)}) == "w"
    with pytest.raises(ChoiceError, match=r"get qwen_image_vae.safetensors"):
        pick_vae(qwen, AUTOMATIC, files)
    with pytest.raises(ChoiceError, match=r"'a.safetensors' is a VAE of flux1, hidream, sd3.5, but Qwen-Image needs"):
        pick_vae(qwen, "a.safetensors", files)


def test_parts_of_redux() -> None:
    redux = load().variant("flux1-redux-dev")
    style = Detection(kind="style_model", families=("flux1",))
    assert pick_part(redux, "style_model", {"x": ("style_models", style)}) == "x"
    with pytest.raises(ChoiceError, match=r"needs sigclip_vision_patch14_384.safetensors in models/clip_vision"):
        pick_part(redux, "clip_vision", {"x": ("style_models", style)})
    assert pick_part(redux, "style_model", {"a": ("style_models", style), "x": ("style_models", style)}, "x") == "x"
    other = Detection(kind="style_model", families=("sd1",))
    with pytest.raises(ChoiceError, match=r"'x' is a style model of sd1, but FLUX.1 Redux \[dev\] needs a style model"):
        pick_part(redux, "style_model", {"x": ("style_models", other)}, "x")
    with pytest.raises(ChoiceError, match=r"'gone' is a file without a readable header"):
        pick_part(redux, "style_model", {}, "gone")


def test_encoders_and_files_of_the_catalogue_go_by_kind() -> None:
    sd35, qwen = load().variant("sd3.5-large"), load().variant("qwen-image")
    names = [expected_encoder(sd35, kind) for kind in sd35.text_encoders]
    assert [file.id for file in names if file] == ["clip-l", "clip-g", names[2].id]
    assert names[2].id.startswith("t5xxl")
    assert expected_encoder(qwen, "qwen2.5_vl_7b").id.startswith("qwen-2.5-vl-7b")
    assert expected_encoder(load().variant("sd-2.1-base"), "clip_h") is None
    for variant in load().variants:
        alone = any(part.files[0].role == "diffusion_model" for part in variant.file_sets)
        if variant.runs == "comfyui" and alone and loader_of(variant.id) is not None:
            assert all(expected_encoder(variant, kind) for kind in variant.text_encoders), variant.id


def loader_of(variant: str) -> LoaderSpec | None:
    return next((spec for spec in LOADERS if variant in spec.variants), None)


VAE = Detection(kind="vae", families=("flux1", "hidream", "sd3.5"), latent_channels=16)
T5 = Detection(kind="text_encoder", families=("flux1",), encoders=("t5xxl",))
SPLIT = {
    "flux1-dev.safetensors": ("diffusion_models", FLUX),
    "clip_l.safetensors": ("text_encoders", encoder("clip_l")),
    "t5xxl_fp16.safetensors": ("text_encoders", T5),
    "t5xxl_fp8_e4m3fn_scaled.safetensors": ("text_encoders", T5),
    "ae.safetensors": ("vae", VAE),
}


def files(folders: tuple[str, ...]) -> dict[str, tuple[str, Detection]]:
    return {name: entry for name, entry in SPLIT.items() if entry[0] in folders}


def test_a_loader_takes_all_its_parts() -> None:
    spec = loader("AtelierLoadFlux")
    assert spec is not None
    taken = choose(spec, {"model": "flux1-dev.safetensors", "variant": AUTOMATIC, "vae": AUTOMATIC}, files)
    assert (taken.folder, taken.variant.id) == ("diffusion_models", "flux1-dev")
    assert [(part.input, part.folder, part.name) for part in taken.parts] == [
        ("clip_l", "text_encoders", "clip_l.safetensors"),
        ("t5xxl", "text_encoders", "t5xxl_fp16.safetensors"),
        ("vae", "vae", "ae.safetensors"),
    ]
    small = {"model": "flux1-dev.safetensors", "clip_l": NONE, "t5xxl": "t5xxl_fp8_e4m3fn_scaled.safetensors"}
    lean = choose(spec, small, files)
    assert [part.name for part in lean.parts] == ["t5xxl_fp8_e4m3fn_scaled.safetensors", "ae.safetensors"]
    with pytest.raises(ChoiceError, match="has no text encoder left"):
        choose(spec, {"model": "flux1-dev.safetensors", "clip_l": NONE, "t5xxl": NONE}, files)
    with pytest.raises(ChoiceError, match="model 'x' is not in models/checkpoints or models/diffusion_models"):
        choose(spec, {"model": "x"}, files)


def test_a_checkpoint_keeps_its_own_parts() -> None:
    whole = Detection(
        kind="checkpoint", families=("sd1",), architecture="sd1", parts=("diffusion_model", "text_encoder", "vae")
    )
    outer = Detection(kind="vae", families=("sd1",), latent_channels=4)
    there = {"c.safetensors": ("checkpoints", whole), "v.safetensors": ("vae", outer)}
    spec = loader("AtelierLoadStableDiffusion")
    assert spec is not None
    taken = choose(spec, {"model": "c.safetensors"}, lambda _: there)
    assert (taken.encoders, taken.vae, taken.parts) == (None, None, ())
    other = choose(spec, {"model": "c.safetensors", "vae": "v.safetensors"}, lambda _: there)
    assert [part.name for part in other.parts] == ["v.safetensors"]
    assert loader("CheckpointLoaderSimple") is None
