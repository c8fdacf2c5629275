"""The catalogue's data is whole: every field has a value or a reason, every name leads somewhere."""

from __future__ import annotations

import re
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from comfy_atelier.catalogue import Catalogue, ModelFile, UnknownEntryError, Variant, find_by_name, find_by_sha256, load
from comfy_atelier.catalogue.catalogue import DATA

CATALOGUE = load()
FOLDERS = {
    "checkpoint": "checkpoints",
    "diffusion_model": "diffusion_models",
    "text_encoder": "text_encoders",
    "vae": "vae",
    "clip_vision": "clip_vision",
    "style_model": "style_models",
    "controlnet": "controlnet",
    "lora": "loras",
    "model_patch": "model_patches",
    "upscaler": "upscale_models",
    "tokenizer": "tokenizers",
    "depth_estimator": "depth_anything",
    "pose_estimator": "pose",
    "person_detector": "pose",
}
PARTS = {
    "latent": ("channels", "downscale", "node"),
    "resolution": ("width", "height", "multiple", "min_pixels", "max_pixels"),
    "sampling": ("sampler", "scheduler", "steps", "cfg", "guidance", "shift", "source"),
}


def missing(entry: object, names: tuple[str, ...], prefix: str = "") -> list[str]:
    return [prefix + name for name in names if getattr(entry, name) in (None, "", ())]


@pytest.mark.parametrize("variant", CATALOGUE.variants, ids=lambda v: v.id)
def test_every_field_of_a_variant_has_a_value_or_a_reason(variant: Variant) -> None:
    names = ("name", "architecture", "tasks", "licence", "parameters", "file_sets", "text_encoder", "text_encoders")
    absent = missing(variant, (*names, "latent", "resolution", "sampling", "comfyui"))
    for part, fields in PARTS.items():
        if (value := getattr(variant, part)) is not None:
            absent += missing(value, fields, f"{part}.")
    unexplained = [place for place in absent if not variant.absent.get(place)]
    assert not unexplained
    assert set(variant.absent) <= set(absent), "a reason is given for a field that has a value"


@pytest.mark.parametrize("file", CATALOGUE.files.values(), ids=lambda f: f.id)
def test_every_field_of_a_file_has_a_value_or_a_reason(file: ModelFile) -> None:
    absent = missing(file, ("url", "sha256", "size", "precision"))
    assert [place for place in absent if not file.absent.get(place)] == []
    assert set(file.absent) <= set(absent)
    assert file.folder == FOLDERS[file.role] or file.folder == "checkpoints"
    assert file.sha256 is None or re.fullmatch("[0-9a-f]{64}", file.sha256)
    assert file.size is None or file.size > 1_000_000 or file.role == "tokenizer"
    for url in (file.url, *file.mirrors):
        parts = urlsplit(url or "https://none")
        assert parts.scheme == "https"
        assert not parts.query
    any_family = file.role in ("depth_estimator", "pose_estimator", "person_detector")
    assert any_family or CATALOGUE.uses(file), "no variant, LoRA or control names it"


def test_a_rounded_size_is_not_exact() -> None:
    assert CATALOGUE.files["flux1-dev"].size_is_exact
    assert not CATALOGUE.files["flux1-depth-dev"].size_is_exact


def test_unverified_names_real_fields() -> None:
    for variant in CATALOGUE.variants:
        for place in variant.unverified:
            assert hasattr(variant, place.split(".")[0]), (variant.id, place)
    for file in CATALOGUE.files.values():
        assert all(hasattr(file, place) for place in file.unverified), file.id
    for licence in CATALOGUE.licences.values():
        assert all(hasattr(licence, place) for place in licence.unverified), licence.id


def test_one_sha256_is_one_file() -> None:
    digests = [file.sha256 for file in CATALOGUE.files.values() if file.sha256]
    assert len(digests) == len(set(digests))


def test_sizes_fit_their_own_rule() -> None:
    for variant in CATALOGUE.variants:
        if rule := variant.resolution:
            assert all(rule.accepts(*size) for size in rule.sizes), (variant.id, rule)
            assert rule.accepts(rule.width, rule.height), variant.id


def test_lookups() -> None:
    file = CATALOGUE.files["v1-5-pruned-emaonly-fp16"]
    assert file.sha256
    assert find_by_sha256(file.sha256.upper()) is file
    assert find_by_sha256("0" * 64) is None
    assert find_by_name("SD15\\" + file.name.upper()) == (file,)
    assert [entry.id for entry in CATALOGUE.uses(file)] == ["sd-1.5"]
    assert CATALOGUE.variant("flux1-schnell").licence.commercial == "yes"


def test_unknown_names_offer_the_close_ones() -> None:
    with pytest.raises(UnknownEntryError, match="did you mean flux1-schnell"):
        CATALOGUE.variant("flux-schnell")
    with pytest.raises(UnknownEntryError, match=r"there are: .*sdxl"):
        CATALOGUE.family("sdlx")


def test_families_are_read_when_asked_for(tmp_path: Path) -> None:
    source = Path(DATA)
    for name in ("licences", "shared", "sd1"):
        (tmp_path / f"{name}.toml").write_bytes((source / f"{name}.toml").read_bytes())
    (tmp_path / "broken.toml").write_text("not toml at all")
    assert Catalogue(tmp_path).family("sd1").variant("sd-1.5").name == "Stable Diffusion 1.5"
