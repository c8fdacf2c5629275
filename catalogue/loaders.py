"""The loaders: one for each model family, with the variants it loads and the files that may be in its lists."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from .catalogue import load
from .detection import Detection
from .entries import Variant

AUTOMATIC = "automatic"
NONE = "none"
MODEL_FOLDERS = ("checkpoints", "diffusion_models")
"""Where a loader's model files lie, below ``models/``."""

ENCODER_INPUTS: Mapping[str, str] = {
    "clip_l": "clip_l",
    "clip_g": "clip_g",
    "clip_h": "clip_h",
    "t5xxl": "t5xxl",
    "llama_3.1_8b": "llama",
    "qwen2.5_vl_7b": "qwen_vl",
    "byt5_small": "byt5",
}
"""Kinds of text encoder in the catalogue's words -> the loader's inputs."""

CLIP_TYPES: Mapping[str, str] = {"sd1": "stable_diffusion", "sd2": "stable_diffusion", "sdxl": "sdxl"}
"""``type`` of the stock CLIP loaders for families whose encoders usually come with the checkpoint."""


@dataclass(frozen=True, kw_only=True, slots=True)
class LoaderSpec:
    """One loader node: which variants it loads and what it gives besides MODEL, CLIP, VAE and SETTINGS."""

    node_id: str
    title: str
    variants: tuple[str, ...]
    aliases: tuple[str, ...]
    style: bool = False
    video: bool = False

    @property
    def entries(self) -> tuple[Variant, ...]:
        """The catalogue's entries of the variants."""
        return tuple(load().variant(name) for name in self.variants)

    @property
    def families(self) -> tuple[str, ...]:
        """The families, each once, in the order of the variants."""
        return tuple(dict.fromkeys(variant.family for variant in self.entries))

    @property
    def encoders(self) -> tuple[str, ...]:
        """The kinds of text encoder that any of the variants needs (not for video: the picture is the prompt)."""
        kinds = dict.fromkeys(kind for variant in self.entries for kind in variant.text_encoders)
        return () if self.video else tuple(kind for kind in kinds if kind in ENCODER_INPUTS)

    def accepts(self, found: Detection) -> bool:
        """Whether a file is a model that this node loads."""
        if found.kind not in ("checkpoint", "diffusion_model") or found.family not in self.families:
            return False
        if found.variants:
            return bool(set(found.variants) & set(self.variants))
        return found.architecture in {variant.architecture for variant in self.entries}


_SD = ("sd-1.5", "sd-1.4", "sd-2.1-768v", "sd-2.1-base", "sd-2.0-768v", "sd-2.0-base", "sd-2.0-inpainting", "sd-turbo")
_HIDREAM = ("hidream", "text to image")
LOADERS = (
    LoaderSpec(
        node_id="AtelierLoadStableDiffusion",
        title="Load Stable Diffusion 1.x / 2.x",
        variants=_SD,
        aliases=("sd 1.5", "sd15", "sd 2.1", "checkpoint", "load model"),
    ),
    LoaderSpec(
        node_id="AtelierLoadSDXL",
        title="Load SDXL",
        variants=("sdxl-base", "sdxl-turbo", "sdxl-lightning", "sdxl-refiner"),
        aliases=("stable diffusion xl", "turbo", "lightning", "refiner", "checkpoint", "load model"),
    ),
    LoaderSpec(
        node_id="AtelierLoadSD35",
        title="Load Stable Diffusion 3.5",
        variants=("sd3.5-large", "sd3.5-large-turbo", "sd3.5-medium"),
        aliases=("sd3", "sd 3.5", "large", "medium", "load model"),
    ),
    LoaderSpec(
        node_id="AtelierLoadSVD",
        title="Load Stable Video Diffusion",
        variants=("svd-xt", "svd"),
        aliases=("svd", "image to video", "load model"),
        video=True,
    ),
    LoaderSpec(
        node_id="AtelierLoadFlux",
        title="Load FLUX.1",
        variants=("flux1-dev", "flux1-schnell", "flux1-krea-dev"),
        aliases=("flux", "schnell", "dev", "krea", "load model"),
    ),
    LoaderSpec(
        node_id="AtelierLoadFluxTools",
        title="Load FLUX.1 tools (Fill, Canny, Depth)",
        variants=("flux1-fill-dev", "flux1-canny-dev", "flux1-depth-dev"),
        aliases=("flux", "inpaint", "outpaint", "fill", "canny", "depth", "load model"),
    ),
    LoaderSpec(
        node_id="AtelierLoadFluxRedux",
        title="Load FLUX.1 Redux",
        variants=("flux1-redux-dev",),
        aliases=("flux", "redux", "image prompt", "style", "load model"),
        style=True,
    ),
    LoaderSpec(
        node_id="AtelierLoadFluxKontext",
        title="Load FLUX.1 Kontext",
        variants=("flux1-kontext-dev",),
        aliases=("flux", "kontext", "edit", "load model"),
    ),
    LoaderSpec(
        node_id="AtelierLoadHiDreamI1",
        title="Load HiDream-I1",
        variants=("hidream-i1-full", "hidream-i1-dev", "hidream-i1-fast"),
        aliases=(*_HIDREAM, "load model"),
    ),
    LoaderSpec(
        node_id="AtelierLoadHiDreamE1",
        title="Load HiDream-E1",
        variants=("hidream-e1.1", "hidream-e1-full"),
        aliases=("hidream", "edit", "load model"),
    ),
    LoaderSpec(
        node_id="AtelierLoadQwenImage",
        title="Load Qwen-Image",
        variants=("qwen-image", "qwen-image-2512"),
        aliases=("qwen", "text to image", "load model"),
    ),
    LoaderSpec(
        node_id="AtelierLoadQwenImageEdit",
        title="Load Qwen-Image-Edit",
        variants=("qwen-image-edit", "qwen-image-edit-2509", "qwen-image-edit-2511"),
        aliases=("qwen", "edit", "2509", "load model"),
    ),
    LoaderSpec(
        node_id="AtelierLoadHunyuanImage",
        title="Load HunyuanImage 2.1",
        variants=("hunyuan-image-2.1", "hunyuan-image-2.1-distilled"),
        aliases=("hunyuan", "tencent", "load model"),
    ),
)
"""Every loader. The first variant of a loader is what it takes where a header fits several."""


def loader(node_id: str) -> LoaderSpec | None:
    """The loader of that node class; None where it is none."""
    return next((spec for spec in LOADERS if spec.node_id == node_id), None)
