"""Which files a loader takes: decided from headers, before anything is loaded."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from ..catalogue import Detection, Variant, load
from .errors import NodeInputError

AUTOMATIC = "automatic"
NONE = "none"
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

Files = Mapping[str, tuple[str, Detection]]
"""File name -> (folder, what its header says)."""


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


def other_loader(found: Detection) -> str:
    """The title of the loader that does take a file, as a remedy; empty where none does."""
    titles = [spec.title for spec in LOADERS if spec.accepts(found)]
    return f"; '{titles[0]}' loads it" if titles else ""


def check_model(spec: LoaderSpec, name: str, found: Detection) -> None:
    """Raise NodeInputError where a file is none of this loader's, naming both and the node that takes it."""
    if not spec.accepts(found):
        wanted = ", ".join(spec.families)
        raise NodeInputError(f"'{name}' is {found.in_words()}, but '{spec.title}' loads {wanted}{other_loader(found)}")


def pick_variant(spec: LoaderSpec, chosen: str, name: str, found: Detection) -> Variant:
    """The variant to take settings from: the chosen one where the file can be it, else the likeliest."""
    possible = [variant for variant in spec.variants if not found.variants or variant in found.variants]
    entries = [load().variant(variant) for variant in possible]
    entries = [entry for entry in entries if found.architecture in (None, entry.architecture)]
    if not entries:
        raise NodeInputError(f"'{name}' is {found.in_words()}: none of the variants of '{spec.title}'")
    if chosen == AUTOMATIC:
        return entries[0]
    for entry in entries:
        if entry.id == chosen:
            return entry
    can_be = ", ".join(entry.id for entry in entries)
    raise NodeInputError(f"'{name}' cannot be {chosen}: by its header it is {can_be}; set variant to one of them")


def pick_encoder(variant: Variant, kind: str, chosen: str, files: Files) -> str | None:
    """The file for one kind of text encoder: the chosen one, checked, or the best there is; None for ``none``."""
    if chosen == NONE:
        return None
    fitting = {
        name: found for name, (_, found) in files.items() if kind in found.encoders and found.kind == "text_encoder"
    }
    if chosen != AUTOMATIC:
        _, found = files.get(chosen, ("", None))
        if found is None or kind not in found.encoders:
            is_what = "a file without a readable header" if found is None else found.in_words()
            raise NodeInputError(f"'{chosen}' is {is_what}, but input '{ENCODER_INPUTS[kind]}' wants {kind}")
        return chosen
    best = _best(variant, fitting, "text_encoder")
    if best is None:
        known = [file for part in variant.file_sets for file in part.files if file.role == "text_encoder"]
        fits = next((file.name for file in known if kind.split("_")[0].split(".")[0] in file.id), kind)
        raise NodeInputError(
            f"{variant.name} needs the text encoder {kind} and models/text_encoders has none; "
            f"get {fits} (`atelier models get {variant.id}`), or set '{ENCODER_INPUTS[kind]}' to none"
        )
    return best


def pick_vae(variant: Variant, chosen: str, files: Files) -> str:
    """The VAE's file: the chosen one, checked, or the best there is."""
    if chosen != AUTOMATIC:
        _, found = files.get(chosen, ("", None))
        if found is None or variant.family not in found.families:
            is_what = "a file without a readable header" if found is None else found.in_words()
            raise NodeInputError(f"'{chosen}' is {is_what}, but {variant.name} needs a VAE of {variant.family}")
        return chosen
    layered = "layered" in variant.architecture
    fitting = {
        name: found
        for name, (_, found) in files.items()
        if found.kind == "vae"
        and variant.family in found.families
        and ("layered" in found.traits) is layered
        and "refiner" not in found.traits
    }
    best = _best(variant, fitting, "vae")
    if best is None:
        known = [file.name for part in variant.file_sets for file in part.files if file.role == "vae"]
        remedy = f"get {known[0]} (`atelier models get {variant.id}`)" if known else "choose one by hand"
        raise NodeInputError(f"{variant.name} needs a VAE and models/vae has none that fits; {remedy}")
    return best


def pick_part(variant: Variant, role: str, files: Files) -> str:
    """The style model or CLIP vision file of a variant: by its family, the catalogue's own file first."""
    fitting = {
        name: found for name, (_, found) in files.items() if found.kind == role and variant.family in found.families
    }
    best = _best(variant, fitting, role)
    if best is None:
        known = [file for part in variant.file_sets for file in part.files if file.role == role]
        raise NodeInputError(
            f"{variant.name} needs {known[0].name if known else role} in models/{known[0].folder if known else role}; "
            f"`atelier models get {variant.id}` fetches it"
        )
    return best


def _best(variant: Variant, fitting: Mapping[str, Detection], role: str) -> str | None:
    """The catalogue's own file of the recommended set first, then of other sets, then by name."""
    parts = [*variant.file_sets]
    order = [file.name for part in parts for file in part.files if file.role == role]
    order += [file.name for file in variant.optional if file.role == role]
    places = {name: place for place, name in reversed(list(enumerate(order)))}
    names = sorted(fitting, key=lambda name: (places.get(name.replace("\\", "/").rsplit("/", 1)[-1], len(order)), name))
    return names[0] if names else None
