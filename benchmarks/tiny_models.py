"""Writes tiny models of random weights under the catalogue's own file names, for a real ComfyUI on the CPU.

python benchmarks/tiny_models.py FOLDER [--only flux1 sdxl …] [--list]

FOLDER becomes a ComfyUI ``models`` folder in which every curated workflow finds its files: real tensor names, few
blocks (see ``tiny_layouts.py``), values that depend on the seed and the tensor's name only. Large tensors are mostly
holes: every 61st row is filled (61 divides no width, so each attention head and each gate gets some), scaled up to make
up for the rest, and the holes take no room on the disk. Copy such files with ``cp --sparse=always``.

ComfyUI needs the custom node ``benchmarks/tiny_shim`` for the files that carry the marker (text encoders of billions
of parameters, HiDream and others whose size it has fixed); the rest it loads as it is.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import math
import os
import struct
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import tiny_families as families
import tiny_layouts as layouts
from tiny_layouts import MARK, Layout

SEED = 0
STEP = 61
"""Of large tensors every so many-th row is filled."""

WHOLE = 3 << 20
"""Tensors of up to so many bytes are filled whole."""

WORDS_FIRST, WORDS_LAST = 4096, 512
"""Of an embedding these rows are filled too: common words (ids are by frequency), and the special ones."""

Values = np.ndarray[tuple[int, ...], np.dtype[np.generic]]


@dataclass(frozen=True, kw_only=True, slots=True)
class TinyModel:
    """One model and every file that it stands for.

    Attributes:
        files: below the models folder, ``vae/ae.safetensors``; all the same bytes. family: of the catalogue; empty
        for parts that several use. dtype: ``F16`` or ``F8_E4M3``.
    """

    layout: Callable[[], Layout]
    files: tuple[str, ...]
    families: tuple[str, ...]
    dtype: str = "F16"


def _model(families: str, layout: Callable[[], Layout], folder: str, *names: str, dtype: str = "F16") -> TinyModel:
    files = tuple(f"{folder}/{name}.safetensors" for name in names)
    return TinyModel(layout=layout, files=files, families=tuple(families.split()), dtype=dtype)


CHECKPOINT, DIFFUSION, TEXT, CONTROL = "checkpoints", "diffusion_models", "text_encoders", "controlnet"
EVERY_FLUX = ("flux1-dev", "flux1-dev-kontext_fp8_scaled", "flux1-krea-dev_fp8_scaled")
EVERY_QWEN = (
    "qwen_image_fp8_e4m3fn",
    "qwen_image_2512_fp8_e4m3fn",
    "qwen_image_edit_fp8_e4m3fn",
    "qwen_image_edit_2509_fp8_e4m3fn",
)
EVERY_HIDREAM = (
    "hidream_i1_full_fp8",
    "hidream_i1_dev_fp8",
    "hidream_i1_fast_fp8",
    "hidream_e1_full_bf16",
    "hidream_e1_1_bf16",
)
MODELS: tuple[TinyModel, ...] = (
    _model("sd1", families.sd1, CHECKPOINT, "v1-5-pruned-emaonly-fp16"),
    _model(
        "sd1",
        families.sd1_controlnet,
        CONTROL,
        "control_v11p_sd15_canny_fp16",
        "control_v11f1p_sd15_depth_fp16",
        "control_v11p_sd15_openpose_fp16",
    ),
    _model("sd1", families.sd1_lora, "loras", "tiny_sd15_lora"),
    _model("sd2", families.sd2, CHECKPOINT, "v2-1_768-ema-pruned", "sd_turbo"),
    _model("sdxl", families.sdxl, CHECKPOINT, "sd_xl_base_1.0", "sd_xl_turbo_1.0_fp16", "sdxl_lightning_4step"),
    _model("sdxl", families.sdxl_refiner, CHECKPOINT, "sd_xl_refiner_1.0"),
    _model("sdxl", families.sdxl_union_controlnet, CONTROL, "diffusion_pytorch_model_promax"),
    _model("sdxl", families.sdxl_unet_lora, "loras", "sdxl_lightning_4step_lora"),
    _model("sdxl", families.sdxl_lora, "loras", "tiny_sdxl_lora"),
    _model("svd", families.svd, CHECKPOINT, "svd_xt"),
    _model("sd3.5", families.sd35_large, CHECKPOINT, "sd3.5_large_fp8_scaled"),
    _model("sd3.5", families.sd35_turbo, CHECKPOINT, "sd3.5_large_turbo"),
    _model("sd3.5", families.sd35_medium, CHECKPOINT, "sd3.5_medium_incl_clips_t5xxlfp8scaled"),
    _model(
        "sd3.5",
        families.sd35_controlnet,
        CONTROL,
        "sd3.5_large_controlnet_canny",
        "sd3.5_large_controlnet_depth",
        "sd3.5_large_controlnet_blur",
    ),
    _model("sd3.5", families.sd35_lora, "loras", "tiny_sd35_lora"),
    _model("flux1", families.flux, DIFFUSION, *EVERY_FLUX),
    _model("flux1", lambda: families.flux("flux1_schnell"), DIFFUSION, "flux1-schnell"),
    _model("flux1", lambda: families.flux("flux1_fill_dev"), DIFFUSION, "flux1-fill-dev"),
    _model("flux1", lambda: families.flux("flux1_canny_dev"), DIFFUSION, "flux1-canny-dev", "flux1-depth-dev"),
    _model("flux1", families.flux_redux, "style_models", "flux1-redux-dev"),
    _model("flux1", families.sigclip, "clip_vision", "sigclip_vision_patch14_384"),
    _model("flux1", families.flux_controlnet, CONTROL, "FLUX.1-dev-ControlNet-Union-Pro"),
    _model("flux1", families.flux_lora, "loras", "tiny_flux1_lora"),
    _model("flux1", families.flux_control_lora, "loras", "flux1-canny-dev-lora", "flux1-depth-dev-lora"),
    _model("hidream", families.hidream, DIFFUSION, *EVERY_HIDREAM),
    _model("hidream", families.hidream_lora, "loras", "tiny_hidream_lora"),
    _model("qwen-image", families.qwen_image, DIFFUSION, *EVERY_QWEN),
    _model("qwen-image", families.qwen_controlnet, CONTROL, "Qwen-Image-InstantX-ControlNet-Union"),
    _model(
        "qwen-image",
        lambda: families.qwen_controlnet("controlnet_qwen_instantx_inpainting"),
        CONTROL,
        "Qwen-Image-InstantX-ControlNet-Inpainting",
    ),
    _model(
        "qwen-image",
        families.qwen_patch,
        "model_patches",
        "qwen_image_canny_diffsynth_controlnet",
        "qwen_image_depth_diffsynth_controlnet",
    ),
    _model(
        "qwen-image",
        families.qwen_lora,
        "loras",
        "Qwen-Image-Lightning-4steps-V1.0",
        "qwen_image_union_diffsynth_lora",
        "tiny_qwen_image_lora",
    ),
    _model("hunyuan-image", families.hunyuan_image, DIFFUSION, "hunyuanimage2.1_bf16"),
    _model(
        "hunyuan-image",
        lambda: families.hunyuan_image("hunyuan_image_2.1_distilled"),
        DIFFUSION,
        "hunyuanimage2.1_distilled_bf16",
    ),
    _model("sd3.5 flux1 hidream", layouts.clip_l, TEXT, "clip_l", "clip_l_hidream"),
    _model("sd3.5 hidream", layouts.clip_g, TEXT, "clip_g", "clip_g_hidream"),
    _model("sd3.5 flux1 hidream", layouts.t5xxl, TEXT, "t5xxl_fp16", "t5xxl_fp8_e4m3fn_scaled", dtype="F8_E4M3"),
    _model("hidream", layouts.llama, TEXT, "llama_3.1_8b_instruct_fp8_scaled", dtype="F8_E4M3"),
    _model(
        "qwen-image hunyuan-image",
        layouts.qwen_vl,
        TEXT,
        "qwen_2.5_vl_7b_fp8_scaled",
        "qwen_2.5_vl_7b",
        dtype="F8_E4M3",
    ),
    _model("hunyuan-image", layouts.byt5, TEXT, "byt5_small_glyphxl_fp16"),
    _model("flux1 hidream", lambda: layouts.tiny_vae(16), "vae", "ae"),
    _model("qwen-image", layouts.qwen_vae, "vae", "qwen_image_vae"),
    _model("hunyuan-image", lambda: layouts.tiny_vae(64), "vae", "hunyuan_image_2.1_vae_fp16"),
    _model("maps", families.depth_estimator, "depth_anything", "depth_anything_v2_small_fp32"),
    _model("maps", families.pose_estimator, "pose", "vitpose_base_simple_fp32"),
    _model("maps", families.person_detector, "pose", "rtdetr_r50vd_coco_o365_fp32"),
    _model("upscale", families.esrgan, "upscale_models", "RealESRGAN_x4plus"),
)
"""Every tiny model. Files named ``tiny_…`` stand for nothing in the catalogue: any LoRA of the family will do."""

SIZES = {"F16": 2, "F8_E4M3": 1}


def spread(name: str, shape: tuple[int, ...]) -> tuple[float, float]:
    """Mean and standard deviation of a tensor's values, such that pictures come out grey to coloured, not clipped."""
    if name.endswith("taesd_decoder.19.bias"):
        return 0.5, 0.0
    if name.endswith(("taesd_decoder.19.weight", "conv_last.weight")):
        return 0.0, 0.1 / math.sqrt(math.prod(shape[1:]))
    if name.endswith(("vae_scale", MARK)):
        return 1.0, 0.0
    if name.endswith(("vae_shift", "mix_factor")):
        return 0.0, 0.0
    if name.endswith("control_type"):
        return 1.0, 0.0  # canny
    if name.endswith("logit_scale"):
        return 4.6, 0.0
    if name.endswith((".bias", "_bias", "running_mean")):
        return 0.0, 0.02
    if len(shape) < 2 or math.prod(shape) == max(shape):  # the scale of a norm, also [width, 1, 1, 1]
        return 1.0, 0.05
    if is_embedding(name) or "position" in name or name.endswith("pos_embed"):
        return 0.0, 0.1
    gain = 0.3 if name.endswith(".conv.4.weight") else 1.0
    return 0.0, gain / math.sqrt(math.prod(shape[1:]))


def is_embedding(name: str) -> bool:
    """Whether the rows are words."""
    return name.endswith(("token_embedding.weight", "embed_tokens.weight", "shared.weight"))


def as_fp8(values: np.ndarray[tuple[int, ...], np.dtype[np.float32]]) -> Values:
    """The bytes of float8 e4m3fn (4 bits of exponent, bias 7; 3 of mantissa), the nearest to each value."""
    size = np.minimum(np.abs(values), 448.0)
    exponent = np.floor(np.log2(np.maximum(size, 2.0**-9))).clip(-6, 8)
    steps = np.rint(size / 2.0 ** (exponent - 3)).astype(np.int32)  # 8..16 for normal numbers, below: subnormal
    code = np.where(steps < 8, steps, ((exponent.astype(np.int32) + 7) << 3) + steps - 8)
    code = np.minimum(code, 0x7E)
    return np.asarray(code | np.where(values < 0, 0x80, 0), dtype=np.uint8)


def filled_rows(name: str, shape: tuple[int, ...], size: int) -> Iterable[range]:
    """Which rows of the first side get values; all of a small tensor."""
    rows = shape[0] if shape else 1
    if math.prod(shape) * size <= WHOLE:
        return (range(rows),)
    if is_embedding(name):
        return (range(min(WORDS_FIRST, rows)), range(max(0, rows - WORDS_LAST), rows))
    return (range(row, row + 1) for row in range(0, rows, STEP))


def write(path: Path, layout: Layout, dtype: str) -> None:
    """One safetensors file, written beside and renamed."""
    size, at = SIZES[dtype], 0
    entries: dict[str, object] = {"__metadata__": {"format": "pt", "synthetic": "true"}}
    places: dict[str, int] = {}
    for name, shape in layout.items():
        places[name], end = at, at + math.prod(shape) * size
        entries[name] = {"dtype": dtype, "shape": list(shape), "data_offsets": [at, end]}
        at = end
    head = json.dumps(entries, separators=(",", ":")).encode()
    head += b" " * (-len(head) % 8)
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_suffix(".part")
    with part.open("wb") as stream:
        stream.write(struct.pack("<Q", len(head)) + head)
        stream.truncate(8 + len(head) + at)
        for name, shape in layout.items():
            digest = hashlib.sha256(f"{SEED}/{name}".encode()).digest()
            random = np.random.Generator(np.random.Philox(key=int.from_bytes(digest[:16], "little")))
            mean, deviation = spread(name, shape)
            sparse = math.prod(shape) * size > WHOLE and not is_embedding(name)
            deviation *= math.sqrt(STEP) if sparse else 1.0
            row = math.prod(shape[1:])
            for rows in filled_rows(name, shape, size):
                values = mean + deviation * random.standard_normal(len(rows) * row, dtype=np.float32)
                stream.seek(8 + len(head) + places[name] + rows.start * row * size)
                stream.write((as_fp8(values) if dtype == "F8_E4M3" else values.astype(np.float16)).tobytes())
    part.replace(path)


def write_all(folder: Path, only: Iterable[str] = ()) -> list[Path]:
    """Every file (of some families) that is not there yet; the paths written, the same bytes once on the disk."""
    wanted, made = set(only), []
    for model in MODELS:
        if wanted and not wanted & set(model.families):
            continue
        paths = [folder / file for file in model.files]
        first = next((path for path in paths if path.exists()), None)
        if first is None:
            first = paths[0]
            write(first, model.layout(), model.dtype)
            made.append(first)
        for path in paths:
            if not path.exists():
                path.parent.mkdir(parents=True, exist_ok=True)
                try:
                    os.link(first, path)
                except OSError:  # a file system without hard links
                    write(path, model.layout(), model.dtype)
                made.append(path)
    return made


def main() -> None:
    """Write the files and say what they take."""
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("folder", type=Path, help="a ComfyUI models folder")
    arguments.add_argument("--only", nargs="+", default=(), help="families: sd1 sd2 sdxl sd3.5 svd flux1 …")
    arguments.add_argument("--list", action="store_true", help="say what there is, write nothing")
    chosen = arguments.parse_args()
    if chosen.list:
        for model in MODELS:
            size = sum(math.prod(shape) for shape in model.layout().values()) * SIZES[model.dtype]
            print(f"{size / 1e6:8.1f} MB  {', '.join(model.files)}")
        return
    for path in write_all(chosen.folder, chosen.only):
        status = path.stat()
        held = f"{status.st_blocks * 512 / 1e6:8.1f} MB held, " if hasattr(status, "st_blocks") else ""
        print(f"{status.st_size / 1e6:8.1f} MB, {held}{path.relative_to(chosen.folder)}")


if __name__ == "__main__":
    main()
