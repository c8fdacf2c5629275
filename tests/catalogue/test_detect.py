"""Files are known by their headers: full-size headers of every family, LoRAs in everyone's names, damaged and hostile
files.

``tests/data/headers`` holds names and shapes of whole models, as ComfyUI's and diffusers' own classes have them (made
on the meta device: no weights were needed). LoRAs are made from them here.
"""

from __future__ import annotations

import json
import lzma
import os
import struct
from collections.abc import Callable
from pathlib import Path

import pytest

from comfy_atelier.catalogue import Header, HeaderError, detect, detect_header, load, read_header
from comfy_atelier.catalogue import detect as detect_function
from comfy_atelier.catalogue.header import MAX_HEADER_BYTES

HEADERS = Path(__file__).parent.parent / "data" / "headers"
BYTES = {"F32": 4, "F16": 2, "BF16": 2, "F8_E4M3": 1}
Shapes = dict[str, tuple[int, ...]]


def shapes_of(name: str) -> Shapes:
    document = json.loads(lzma.decompress((HEADERS / f"{name}.json.xz").read_bytes()))
    return {key: tuple(shape) for key, shape in document["shapes"].items()}


def dtype_of(name: str) -> str:
    return str(json.loads(lzma.decompress((HEADERS / f"{name}.json.xz").read_bytes()))["dtype"])


def header(shapes: Shapes, dtype: str = "F16") -> Header:
    return Header(shapes=shapes, metadata={}, bytes_by_dtype={dtype: 1})


def write(path: Path, shapes: Shapes, dtype: str = "F16") -> Path:
    """A file of the real size with a hole where the weights would be."""
    entries: dict[str, object] = {"__metadata__": {"format": "pt"}}
    offset = 0
    for name, shape in shapes.items():
        amount = BYTES[dtype]
        for side in shape:
            amount *= side
        entries[name] = {"dtype": dtype, "shape": shape, "data_offsets": [offset, offset + amount]}
        offset += amount
    text = json.dumps(entries).encode()
    with path.open("wb") as stream:
        stream.write(struct.pack("<Q", len(text)) + text)
        stream.truncate(8 + len(text) + offset)
    return path


MODELS = {
    # file: (kind, families, architecture, first variant)
    "sd1_checkpoint": ("checkpoint", ("sd1",), "sd1", "sd-1.5"),
    "sd1_inpainting_checkpoint": ("checkpoint", ("sd1",), "sd1", None),
    "sd2_checkpoint": ("checkpoint", ("sd2",), "sd2", "sd-2.1-768v"),
    "sd2_inpainting_checkpoint": ("checkpoint", ("sd2",), "sd2", "sd-2.0-inpainting"),
    "sdxl_checkpoint": ("checkpoint", ("sdxl",), "sdxl", "sdxl-base"),
    "sdxl_refiner_checkpoint": ("checkpoint", ("sdxl",), "sdxl-refiner", "sdxl-refiner"),
    "sd3.5_large": ("checkpoint", ("sd3.5",), "sd3.5-large", "sd3.5-large"),
    "sd3.5_large_fp8_checkpoint": ("checkpoint", ("sd3.5",), "sd3.5-large", "sd3.5-large"),
    "sd3.5_medium": ("checkpoint", ("sd3.5",), "sd3.5-medium", "sd3.5-medium"),
    "svd_checkpoint": ("checkpoint", ("svd",), "svd", "svd-xt"),
    "flux1_dev": ("diffusion_model", ("flux1",), "flux1", "flux1-dev"),
    "flux1_schnell": ("diffusion_model", ("flux1",), "flux1", "flux1-schnell"),
    "flux1_canny_dev": ("diffusion_model", ("flux1",), "flux1", "flux1-canny-dev"),
    "flux1_fill_dev": ("diffusion_model", ("flux1",), "flux1", "flux1-fill-dev"),
    "flux1_kontext_fp8_scaled": ("diffusion_model", ("flux1",), "flux1", "flux1-dev"),
    "flux1_dev_fp8_checkpoint": ("checkpoint", ("flux1",), "flux1", "flux1-dev"),
    "hidream_i1": ("diffusion_model", ("hidream",), "hidream", "hidream-i1-full"),
    "qwen_image_fp8": ("diffusion_model", ("qwen-image",), "qwen-image", "qwen-image"),
    "qwen_image_edit_2511": ("diffusion_model", ("qwen-image",), "qwen-image", "qwen-image-edit-2511"),
    "qwen_image_layered": ("diffusion_model", ("qwen-image",), "qwen-image-layered", "qwen-image-layered"),
    "hunyuan_image_2.1": ("diffusion_model", ("hunyuan-image",), "hunyuan-image-2.1", "hunyuan-image-2.1"),
    "hunyuan_image_2.1_distilled": (
        "diffusion_model",
        ("hunyuan-image",),
        "hunyuan-image-2.1",
        "hunyuan-image-2.1-distilled",
    ),
    "hunyuan_image_refiner": ("diffusion_model", ("hunyuan-image",), "hunyuan-image-refiner", None),
    "diffusers_unet_sd1": ("diffusion_model", ("sd1",), "sd1", "sd-1.5"),
    "diffusers_unet_sdxl": ("diffusion_model", ("sdxl",), "sdxl", "sdxl-base"),
    "diffusers_unet_svd": ("diffusion_model", ("svd",), "svd", "svd-xt"),
    "diffusers_flux_dev": ("diffusion_model", ("flux1",), "flux1", "flux1-dev"),
    "diffusers_flux_schnell": ("diffusion_model", ("flux1",), "flux1", "flux1-schnell"),
    "diffusers_flux_fill": ("diffusion_model", ("flux1",), "flux1", "flux1-fill-dev"),
    "diffusers_sd3.5_large": ("diffusion_model", ("sd3.5",), "sd3.5-large", "sd3.5-large"),
    "diffusers_sd3.5_medium": ("diffusion_model", ("sd3.5",), "sd3.5-medium", "sd3.5-medium"),
    "diffusers_sd3_medium": ("diffusion_model", (), None, None),
    "chroma_diffusers": ("diffusion_model", (), None, None),
    "flux1_redux": ("style_model", ("flux1",), "flux1", "flux1-redux-dev"),
    "clip_l": ("text_encoder", ("flux1", "hidream", "sd1", "sd3.5", "sdxl"), None, None),
    "clip_l_hidream": ("text_encoder", ("flux1", "hidream", "sd1", "sd3.5", "sdxl"), None, None),
    "clip_g": ("text_encoder", ("hidream", "sd3.5", "sdxl"), None, None),
    "clip_h": ("text_encoder", ("sd2",), None, None),
    "t5xxl": ("text_encoder", ("flux1", "hidream", "sd3.5"), None, None),
    "t5xxl_fp8_scaled": ("text_encoder", ("flux1", "hidream", "sd3.5"), None, None),
    "umt5_xxl": ("text_encoder", (), None, None),
    "byt5_small": ("text_encoder", ("hunyuan-image",), None, None),
    "qwen2.5_vl_7b": ("text_encoder", ("hunyuan-image", "qwen-image"), None, None),
    "llama_3.1_8b": ("text_encoder", ("hidream",), None, None),
    "vae_4": ("vae", ("sd1", "sd2", "sdxl"), None, None),
    "vae_16": ("vae", ("flux1", "hidream", "sd3.5"), None, None),
    "diffusers_vae_sdxl": ("vae", ("sd1", "sd2", "sdxl"), None, None),
    "diffusers_vae_flux": ("vae", ("flux1", "hidream", "sd3.5"), None, None),
    "vae_qwen": ("vae", ("qwen-image",), None, None),
    "vae_qwen_layered": ("vae", ("qwen-image",), None, None),
    "sigclip_384": ("clip_vision", ("flux1",), None, None),
    "depth_anything_v2_small": ("depth_estimator", (), None, None),
    "vitpose_base_simple": ("pose_estimator", (), None, None),
    "rtdetr_r50vd": ("person_detector", (), None, None),
    "clip_vision_g": ("clip_vision", ("sdxl",), None, None),
    "clip_vision_h": ("clip_vision", ("sd2", "svd"), None, None),
    "clip_vision_l": ("clip_vision", (), None, None),
    "controlnet_sd1_ldm": ("controlnet", ("sd1",), "sd1", None),
    "controlnet_sdxl_ldm": ("controlnet", ("sdxl",), "sdxl", None),
    "diffusers_controlnet_sd1": ("controlnet", ("sd1",), "sd1", None),
    "diffusers_controlnet_sd2": ("controlnet", ("sd2",), "sd2", None),
    "diffusers_controlnet_sdxl": ("controlnet", ("sdxl",), "sdxl", None),
    "diffusers_controlnet_union_sdxl": ("controlnet", ("sdxl",), "sdxl", None),
    "controlnet_sd3.5_large_diffusers": ("controlnet", ("sd3.5",), "sd3.5-large", None),
    "controlnet_sd3_diffusers": ("controlnet", (), None, None),
    "controlnet_flux_instantx_canny": ("controlnet", ("flux1",), "flux1", None),
    "controlnet_flux_union": ("controlnet", ("flux1",), "flux1", None),
    "controlnet_qwen_instantx_union": ("controlnet", ("qwen-image",), "qwen-image", None),
    "controlnet_qwen_instantx_inpainting": ("controlnet", ("qwen-image",), "qwen-image", None),
    "wan_diffusers": ("unknown", (), None, None),
}


def test_every_fixture_is_looked_at() -> None:
    assert {path.name.removesuffix(".json.xz") for path in HEADERS.iterdir()} == set(MODELS)


@pytest.mark.parametrize("name", MODELS)
def test_a_model_is_known_by_its_header(name: str) -> None:
    found = detect_header(header(shapes_of(name), dtype_of(name)))
    first = found.variants[0] if found.variants else None
    assert (found.kind, found.families, found.architecture, first) == MODELS[name]


def test_what_detection_names_is_in_the_catalogue() -> None:
    catalogue = load()
    for kind, families, architecture, variant in MODELS.values():
        for family in families:
            assert family in catalogue.family_ids, kind
        if variant:
            assert catalogue.variant(variant).architecture == architecture
            assert catalogue.variant(variant).family == families[0]


@pytest.mark.parametrize(
    ("name", "traits"),
    [
        ("sd1_inpainting_checkpoint", ("inpaint",)),
        ("flux1_fill_dev", ("inpaint",)),
        ("flux1_canny_dev", ("control",)),
        ("controlnet_flux_union", ("union",)),
        ("controlnet_flux_instantx_canny", ()),
        ("diffusers_controlnet_union_sdxl", ("union",)),
        ("controlnet_qwen_instantx_inpainting", ("inpaint",)),
        ("controlnet_qwen_instantx_union", ()),
        ("clip_l_hidream", ("long",)),
        ("vae_qwen_layered", ("layered",)),
    ],
)
def test_traits(name: str, traits: tuple[str, ...]) -> None:
    assert detect_header(header(shapes_of(name))).traits == traits


def test_the_parts_of_checkpoints() -> None:
    assert detect_header(header(shapes_of("sd3.5_large"))).parts == ("diffusion_model", "vae")
    assert detect_header(header(shapes_of("sdxl_checkpoint"))).parts == ("diffusion_model", "text_encoder", "vae")
    assert detect_header(header(shapes_of("svd_checkpoint"))).parts == ("diffusion_model", "vae", "clip_vision")


def test_precision() -> None:
    scaled = detect_header(header(shapes_of("flux1_kontext_fp8_scaled"), "F8_E4M3"))
    assert scaled.precision == "fp8_e4m3fn scaled"
    assert detect_header(header(shapes_of("flux1_dev"), "BF16")).precision == "bf16"


@pytest.mark.parametrize(
    ("shapes", "families", "form"),
    [
        (
            {"control_blocks.0.after_proj.weight": (3072, 3072), "control_img_in.weight": (3072, 132)},
            "qwen-image",
            "fun",
        ),
        (
            {"controlnet_blocks.0.weight": (3072, 3072), "double_blocks.0.img_attn.norm.key_norm.scale": (128,)},
            "flux1",
            "xlabs",
        ),
        ({"controlnet_blocks.0.linear.weight": (3072, 3072)}, "flux1", "mistoline"),
        (
            {
                "controlnet_blocks.0.weight": (2432, 2432),
                "pos_embed_input.proj.weight": (2432, 17, 2, 2),
                "transformer_blocks.0.adaLN_modulation.1.bias": (14592,),
            },
            "sd3.5",
            "stability",
        ),
        (
            {
                "lora_controlnet": (0,),
                "input_hint_block.0.weight": (16, 3, 3, 3),
                "input_blocks.4.1.transformer_blocks.0.attn2.to_k.down": (256, 2048),
            },
            "sdxl",
            "control_lora",
        ),
        ({"conv_in.weight": (320, 192, 3, 3), "body.0.block2.weight": (320, 320, 1, 1)}, "sd1", "t2i_adapter"),
        (
            {"adapter.conv_in.weight": (320, 768, 3, 3), "adapter.body.0.resnets.0.block2.weight": (3,)},
            "sdxl",
            "t2i_adapter",
        ),
    ],
)
def test_control_formats_without_a_whole_header(shapes: Shapes, families: str, form: str) -> None:
    found = detect_header(header(shapes))
    assert (found.kind, found.families, found.format) == ("controlnet", (families,), form)


@pytest.mark.parametrize(
    ("shapes", "kind", "families"),
    [
        ({"controlnet_blocks.0.y_rms.weight": (3072,), "img_in.weight": (3072, 64)}, "model_patch", ("qwen-image",)),
        ({"feature_embedder.mid_layer_norm.bias": (1152,)}, "model_patch", ("flux1",)),
        ({"style_embedding": (1, 8, 1024)}, "style_model", ("sd1",)),
        ({"conv_first.weight": (64, 3, 3, 3), "body.0.rdb1.conv1.weight": (32, 64, 3, 3)}, "upscaler", ()),
        ({"emb_params": (4, 768)}, "embedding", ("sd1",)),
        ({"clip_g": (4, 1280), "clip_l": (4, 768)}, "embedding", ("sdxl",)),
        ({"taesd_decoder.1.weight": (64, 16, 3, 3)}, "vae", ("flux1", "hidream", "sd3.5")),
        ({"decoder.conv_in.weight": (1024, 64, 3, 3)}, "vae", ("hunyuan-image",)),
        ({"weight": (3, 3)}, "unknown", ()),
        ({}, "unknown", ()),
    ],
)
def test_small_models(shapes: Shapes, kind: str, families: tuple[str, ...]) -> None:
    found = detect_header(header(shapes))
    assert (found.kind, found.families) == (kind, families)


# LoRAs: made from a model's own modules, in each trainer's names.


def linears(name: str, *parts: str, prefix: str = "") -> Shapes:
    """The matrices of a model whose names contain one of ``parts``, named below ``prefix`` without ``.weight``."""
    found = {}
    for key, shape in shapes_of(name).items():
        if key.startswith(prefix) and key.endswith(".weight") and len(shape) == 2 and any(p in key for p in parts):
            found[key.removeprefix(prefix).removesuffix(".weight")] = shape
    assert found
    return found


def kohya(modules: Shapes, prefix: str = "lora_unet_") -> Shapes:
    shapes: Shapes = {}
    for name, (out, into) in modules.items():
        stem = prefix + name.replace(".", "_")
        shapes |= {f"{stem}.alpha": (), f"{stem}.lora_down.weight": (16, into), f"{stem}.lora_up.weight": (out, 16)}
    return shapes


def peft(modules: Shapes, prefix: str = "transformer.") -> Shapes:
    shapes: Shapes = {}
    for name, (out, into) in modules.items():
        shapes |= {f"{prefix}{name}.lora_A.weight": (16, into), f"{prefix}{name}.lora_B.weight": (out, 16)}
    return shapes


def named_adapter(modules: Shapes) -> Shapes:
    return {key.replace(".weight", ".default.weight"): shape for key, shape in peft(modules, "").items()}


def lokr(modules: Shapes, prefix: str = "lycoris_") -> Shapes:
    shapes: Shapes = {}
    for name, (out, into) in modules.items():
        stem = prefix + name.replace(".", "_")
        shapes |= {f"{stem}.lokr_w1": (16, 16), f"{stem}.lokr_w2": (out // 16, into // 16), f"{stem}.alpha": ()}
    return shapes


def loha(modules: Shapes) -> Shapes:
    shapes: Shapes = {}
    for name, (out, into) in modules.items():
        stem = "lora_unet_" + name.replace(".", "_")
        shapes |= {f"{stem}.hada_w{n}_a": (out, 8) for n in (1, 2)} | {f"{stem}.hada_w{n}_b": (8, into) for n in (1, 2)}
    return shapes


def old_diffusers(modules: Shapes) -> Shapes:
    shapes: Shapes = {}
    for name, (out, into) in modules.items():
        stem = "unet." + name.replace(".to_", ".processor.to_").removesuffix(".0") + "_lora"
        shapes |= {f"{stem}.down.weight": (4, into), f"{stem}.up.weight": (out, 4)}
    return shapes


def with_prefix(prefix: str) -> Callable[[Shapes], Shapes]:
    return lambda modules: peft(modules, prefix)


ATTENTION = (".attn1.", ".attn2.")
LDM = "model.diffusion_model."
LORAS = [
    ("kohya", kohya, linears("diffusers_unet_sd1", *ATTENTION), "sd1", "sd1"),
    ("old diffusers", old_diffusers, linears("diffusers_unet_sd1", *ATTENTION), "sd1", "sd1"),
    ("peft", with_prefix("unet."), linears("diffusers_unet_sd1", *ATTENTION), "sd1", "sd1"),
    ("loha", loha, linears("diffusers_unet_sd1", *ATTENTION), "sd1", "sd1"),
    ("kohya, ldm names", kohya, linears("sd2_checkpoint", *ATTENTION, prefix=LDM), "sd2", "sd2"),
    ("kohya", kohya, linears("diffusers_unet_sdxl", *ATTENTION), "sdxl", "sdxl"),
    ("kohya, ldm names", kohya, linears("sdxl_checkpoint", *ATTENTION, prefix=LDM), "sdxl", "sdxl"),
    ("lokr", lokr, linears("diffusers_unet_sdxl", *ATTENTION), "sdxl", "sdxl"),
    ("peft", with_prefix("unet."), linears("diffusers_unet_sdxl", *ATTENTION), "sdxl", "sdxl"),
    ("self-attention alone", kohya, linears("diffusers_unet_sdxl", ".attn1."), "sdxl", "sdxl"),
    ("kohya, ldm names", kohya, linears("sdxl_refiner_checkpoint", *ATTENTION, prefix=LDM), "sdxl", "sdxl-refiner"),
    ("diffusers", with_prefix("unet."), linears("diffusers_unet_svd", *ATTENTION), "svd", "svd"),
    ("kohya", kohya, linears("flux1_dev", "_attn.", "_mlp.", "linear1", "linear2"), "flux1", "flux1"),
    ("single blocks alone", kohya, linears("flux1_dev", "single_blocks"), "flux1", "flux1"),
    ("one block", kohya, linears("flux1_dev", "double_blocks.7.img_attn"), "flux1", "flux1"),
    ("lokr", lokr, linears("diffusers_flux_dev", ".attn."), "flux1", "flux1"),
    ("diffusers", peft, linears("diffusers_flux_dev", ".attn."), "flux1", "flux1"),
    ("diffusers, one block", peft, linears("diffusers_flux_dev", "single_transformer_blocks.20."), "flux1", "flux1"),
    ("comfyui", with_prefix("diffusion_model."), linears("flux1_dev", "_attn."), "flux1", "flux1"),
    ("onetrainer", lambda m: kohya(m, "lora_transformer_"), linears("diffusers_flux_dev", ".attn."), "flux1", "flux1"),
    ("diffusers", peft, linears("diffusers_sd3.5_large", ".attn."), "sd3.5", "sd3.5-large"),
    ("diffusers", peft, linears("diffusers_sd3.5_medium", ".attn"), "sd3.5", "sd3.5-medium"),
    ("kohya", kohya, linears("sd3.5_large", ".attn.", prefix=LDM), "sd3.5", "sd3.5-large"),
    ("kohya", kohya, linears("sd3.5_medium", ".attn", prefix=LDM), "sd3.5", "sd3.5-medium"),
    ("diffusers", peft, linears("hidream_i1", ".attn"), "hidream", "hidream"),
    ("lycoris", lokr, linears("hidream_i1", ".attn", ".ff_i."), "hidream", "hidream"),
    ("plain", named_adapter, linears("qwen_image_fp8", ".attn."), "qwen-image", "qwen-image"),
    ("diffusers", peft, linears("qwen_image_fp8", ".attn.", "_mlp."), "qwen-image", "qwen-image"),
    ("kohya", kohya, linears("qwen_image_fp8", ".attn.", "_mod."), "qwen-image", "qwen-image"),
    ("comfyui", with_prefix("diffusion_model."), linears("qwen_image_fp8", ".attn."), "qwen-image", "qwen-image"),
    ("lightning", with_prefix(""), linears("qwen_image_fp8", ".attn."), "qwen-image", "qwen-image"),
    ("kohya", kohya, linears("hunyuan_image_2.1", "_attn."), "hunyuan-image", "hunyuan-image-2.1"),
    (
        "comfyui",
        with_prefix("diffusion_model."),
        linears("hunyuan_image_2.1", "_attn."),
        "hunyuan-image",
        "hunyuan-image-2.1",
    ),
    ("text encoder alone", lambda m: kohya(m, "lora_te_"), linears("clip_l", "self_attn"), "sd1", "sd1"),
    ("text encoder alone", lambda m: kohya(m, "lora_te_"), linears("clip_h", "self_attn"), "sd2", "sd2"),
    ("second encoder alone", lambda m: kohya(m, "lora_te2_"), linears("clip_g", "self_attn"), "sdxl", "sdxl"),
]


@pytest.mark.parametrize(
    ("form", "make", "modules", "family", "architecture"), LORAS, ids=[f"{row[4]}, {row[0]}" for row in LORAS]
)
def test_a_lora_is_known_by_its_modules(
    form: str, make: Callable[[Shapes], Shapes], modules: Shapes, family: str, architecture: str
) -> None:
    found = detect_header(header(make(modules)))
    assert (found.kind, found.families, found.architecture) == ("lora", (family,), architecture)


def test_a_control_lora_of_flux_is_a_lora_that_takes_a_picture() -> None:
    modules = {**linears("flux1_dev", "_attn.", "linear1"), "img_in": (3072, 128)}
    shapes = peft(modules, "") | {"single_blocks.0.norm.key_norm.scale": (128,), "img_in.lora_B.bias": (3072,)}
    found = detect_header(header(shapes))
    assert (found.kind, found.families, found.traits) == ("lora", ("flux1",), ("control",))


def test_the_uso_lora() -> None:
    shapes: Shapes = {}
    for block in range(19):
        for part in ("qkv_lora1", "qkv_lora2", "proj_lora1"):
            stem = f"double_blocks.{block}.processor.{part}"
            shapes |= {f"{stem}.down.weight": (128, 3072), f"{stem}.up.weight": (3072, 128)}
    assert detect_header(header(shapes)).families == ("flux1",)


@pytest.mark.parametrize(
    ("modules", "label"),
    [
        ({"double_blocks.19.img_attn.qkv": (9216, 3072), "single_blocks.39.linear1": (21504, 3072)}, "HunyuanVideo"),
        ({"blocks.0.cross_attn.k": (5120, 5120), "blocks.0.self_attn.q": (5120, 5120)}, "Wan"),
        ({"double_blocks.0.img_attn.qkv": (18432, 6144)}, "FLUX.2"),
        ({"layers.0.attention.qkv": (11520, 3840)}, "Lumina 2 or Z-Image"),
        (
            {"transformer_blocks.0.attn1.to_q": (1152, 1152)},
            "a transformer in diffusers' names (PixArt, LTX-Video, Wan ...)",
        ),
    ],
)
def test_a_lora_of_a_family_that_is_not_ours_is_not_claimed(modules: Shapes, label: str) -> None:
    found = detect_header(header(kohya(modules)))
    assert (found.kind, found.families, found.label) == ("lora", (), label)
    assert found.in_words() == f"a LoRA of {label}, which is not in the catalogue"


# Files.


def test_a_file_is_read_by_its_header_only(tmp_path: Path) -> None:
    path = write(tmp_path / "model.safetensors", shapes_of("sdxl_checkpoint"))
    assert path.stat().st_size > 6_000_000_000
    found = detect(path)
    assert (found.kind, found.family, found.precision) == ("checkpoint", "sdxl", "fp16")


def test_a_file_is_read_once_until_it_changes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    module = sys.modules["comfy_atelier.catalogue.detect"]
    reads: list[Path] = []

    def counted(path: Path) -> Header:
        reads.append(path)
        return read_header(path)

    monkeypatch.setattr(module, "read_header", counted)
    path = write(tmp_path / "a.safetensors", {"emb_params": (2, 768)})
    assert [detect_function(path).family for _ in range(3)] == ["sd1"] * 3
    assert len(reads) == 1
    write(path, {"emb_params": (20, 1024)})
    assert detect_function(path).family == "sd2"
    assert len(reads) == 2
    path.write_bytes(b"broken")
    for _ in range(2):
        with pytest.raises(HeaderError, match="not a safetensors file"):
            detect_function(path)
    assert len(reads) == 3


def _raw(path: Path, text: bytes, *, length: int | None = None, data: int = 0) -> Path:
    path.write_bytes(struct.pack("<Q", len(text) if length is None else length) + text + b"\0" * data)
    return path


TENSOR = '{"a":{"dtype":"F32","shape":%s,"data_offsets":%s}}'


@pytest.mark.parametrize(
    ("text", "length", "data", "message"),
    [
        (b"", 2**63, 0, "announce a header of 9,223,372,036,854,775,808 bytes"),
        (b"{}", 2**64 - 1, 0, "announce a header"),
        (b"[]", None, 0, "its header is not a JSON object"),
        (b"\x80\x04pickle", None, 0, "its header is not a JSON object"),
        (b"{" + b"\xff" * 40, None, 0, "its header is not JSON"),
        (b'{"a":' + b"[" * 100_000, None, 0, "its header is not JSON"),
        (b'{"a":' + b"9" * 10_000 + b"}", None, 0, "its header is not JSON"),
        (b'{"a":1}', None, 0, "tensor 'a': its entry in the header is malformed"),
        (b'{"a":{"dtype":"F32"}}', None, 0, "malformed"),
        (b'{"a":{"dtype":"NOPE","shape":[1],"data_offsets":[0,4]}}', None, 4, "malformed"),
        ((TENSOR % ("[4611686018427387904,4611686018427387904]", "[0,0]")).encode(), None, 0, "impossible shape"),
        ((TENSOR % ("[-1]", "[0,4]")).encode(), None, 4, "impossible shape"),
        ((TENSOR % ("[1.5]", "[0,6]")).encode(), None, 6, "impossible shape"),
        ((TENSOR % ("[2]", "[0,4]")).encode(), None, 8, "does not fit its shape"),
        ((TENSOR % ("[1]", "[-4,0]")).encode(), None, 8, "does not fit its shape"),
        ((TENSOR % ("[1000]", "[0,4000]")).encode(), None, 10, "cut short: 10 bytes of data, its header wants 4,000"),
    ],
)
def test_a_hostile_header_is_one_line(tmp_path: Path, text: bytes, length: int | None, data: int, message: str) -> None:
    path = _raw(tmp_path / "x.safetensors", text, length=length, data=data)
    with pytest.raises(HeaderError) as caught:
        detect(path)
    assert message in str(caught.value)
    assert str(path) in str(caught.value)
    assert len(str(caught.value).splitlines()) == 1
    assert len(str(caught.value)) < 600


def test_a_header_that_is_too_long_is_not_read(tmp_path: Path) -> None:
    path = tmp_path / "long.safetensors"
    with path.open("wb") as stream:
        stream.write(struct.pack("<Q", MAX_HEADER_BYTES + 1))
        stream.truncate(MAX_HEADER_BYTES + 100)
    with pytest.raises(HeaderError, match="refused: a header of 100,000,001 bytes"):
        detect(path)


def test_no_file_and_a_folder(tmp_path: Path) -> None:
    for path in (tmp_path / "none.safetensors", tmp_path):
        with pytest.raises(HeaderError, match="cannot read"):
            detect(path)


def test_hostile_bundles_of_shared(shared: Path, tmp_path: Path) -> None:
    import zipfile

    bundles = sorted((shared / "hostile" / "cpack").glob("model-safetensors-*.cpack.zip"))
    assert bundles
    seen = 0
    for bundle in bundles:
        with zipfile.ZipFile(bundle) as archive:
            for name in archive.namelist():
                if name.endswith(".safetensors"):
                    path = tmp_path / f"{seen}.safetensors"
                    path.write_bytes(archive.read(name))
                    seen += 1
                    with pytest.raises(HeaderError):
                        detect(path)
    assert seen


TINY = {
    "checkpoints/tiny_sd15": ("checkpoint", ("sd1",)),
    "checkpoints/tiny_sdxl": ("checkpoint", ("sdxl",)),
    "checkpoints/tiny_sd35_full": ("checkpoint", ("sd3.5",)),
    "checkpoints/tiny_svd": ("checkpoint", ("svd",)),
    "controlnet/tiny_sd15": ("controlnet", ("sd1",)),
    "controlnet/tiny_sdxl": ("controlnet", ("sdxl",)),
    "diffusion_models/shim_hidream": ("diffusion_model", ("hidream",)),
    "diffusion_models/tiny_flux": ("diffusion_model", ("flux1",)),
    "diffusion_models/tiny_hunyuan": ("diffusion_model", ("hunyuan-image",)),
    "diffusion_models/tiny_qwen": ("diffusion_model", ("qwen-image",)),
    "diffusion_models/tiny_sd35": ("diffusion_model", ("sd3.5",)),
    "loras/tiny_sd15": ("lora", ("sd1",)),
    "text_encoders/tiny_clip_g": ("text_encoder", ("hidream", "sd3.5", "sdxl")),
    "text_encoders/tiny_clip_l": ("text_encoder", ("flux1", "hidream", "sd1", "sd3.5", "sdxl")),
    "text_encoders/tiny_qwen": ("text_encoder", ("hunyuan-image", "qwen-image")),
    "text_encoders/tiny_t5xxl": ("text_encoder", ("flux1", "hidream", "sd3.5")),
    "vae/kl_vae_16ch": ("vae", ("flux1", "hidream", "sd3.5")),
    "vae/kl_vae_4ch": ("vae", ("sd1", "sd2", "sdxl")),
    "vae/tiny_vae_16ch": ("vae", ("flux1", "hidream", "sd3.5")),
    "vae/tiny_vae_4ch": ("vae", ("sd1", "sd2", "sdxl")),
    "vae/tiny_vae_64ch": ("vae", ("hunyuan-image",)),
    "vae/wan_vae": ("vae", ("qwen-image",)),
}


def test_the_random_weight_models() -> None:
    """ATELIER_TEST_MODELS: a folder that ``../shared/tiny/make_tiny_models.py --all`` wrote."""
    folder = os.environ.get("ATELIER_TEST_MODELS")
    if not folder:
        pytest.skip("no ATELIER_TEST_MODELS")
    for path in Path(folder).rglob("*.safetensors"):
        name = path.relative_to(folder).as_posix()
        found = detect(path)
        expected = next((what for start, what in TINY.items() if name.startswith(start)), None)
        if expected is None:
            assert name.startswith("text_encoders/shim_"), name  # of no real encoder's size
        else:
            assert (found.kind, found.families) == expected, name
