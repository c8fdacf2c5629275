"""What a weights file turned out to be."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Kind = Literal[
    "checkpoint",
    "diffusion_model",
    "text_encoder",
    "vae",
    "clip_vision",
    "style_model",
    "controlnet",
    "lora",
    "model_patch",
    "upscaler",
    "embedding",
    "depth_estimator",
    "pose_estimator",
    "person_detector",
    "unknown",
]

KIND_IN_WORDS: dict[str, str] = {
    "checkpoint": "a whole checkpoint",
    "diffusion_model": "a diffusion model without encoders",
    "text_encoder": "a text encoder",
    "vae": "a VAE",
    "clip_vision": "a CLIP vision model",
    "style_model": "a style model",
    "controlnet": "a ControlNet",
    "lora": "a LoRA",
    "model_patch": "a model patch",
    "upscaler": "an upscaler",
    "embedding": "a textual inversion",
    "depth_estimator": "a depth estimator",
    "pose_estimator": "a pose estimator",
    "person_detector": "a person detector",
    "unknown": "of a kind that no known signature fits",
}
"""Each kind in words, for messages."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Detection:
    """What the header says.

    Attributes:
        families: ids of the catalogue's families that the file is for. One for models, LoRAs and ControlNets; several
        for parts that families share (CLIP-L serves SD 3.5, FLUX.1 and HiDream); none where no family of the
        catalogue fits. architecture: the catalogue's ``Variant.architecture`` that it fits, where the header tells.
        variants: ids of the catalogue's variants that it can be, the likeliest first; headers cannot tell all apart.
        parts: what a checkpoint holds: diffusion_model, text_encoder, vae, clip_vision. encoders: the kinds of text
        encoder in the file, in the words of ``Variant.text_encoders``. traits: what else the header shows:
        ``inpaint``, ``union``, ``control`` (a LoRA that takes a control image), ``long`` ... format: whose key names
        these are: ``ldm``, ``diffusers``, ``comfyui``, ``kohya``, ``peft``, ``instantx`` ... precision: the dtype of
        most weights, ``fp16`` or ``fp8_e4m3fn scaled``. latent_channels: of a VAE or a diffusion model; 0 where the
        header does not tell. label: a name in words where the file is recognised but in no family of the catalogue
        ("Chroma").
    """

    kind: Kind
    families: tuple[str, ...] = ()
    architecture: str | None = None
    variants: tuple[str, ...] = ()
    parts: tuple[str, ...] = ()
    encoders: tuple[str, ...] = ()
    traits: tuple[str, ...] = ()
    format: str = ""
    precision: str = ""
    latent_channels: int = 0
    label: str | None = None

    @property
    def family(self) -> str | None:
        """The one family it is for; None where there is none or it serves several."""
        return self.families[0] if len(self.families) == 1 else None

    def fits(self, family: str, architecture: str | None = None) -> bool:
        """Whether it can be used with a family, and with one of its architectures where both are known."""
        if family not in self.families:
            return False
        return architecture is None or self.architecture is None or architecture == self.architecture

    def in_words(self) -> str:
        """``a LoRA of sdxl``, ``a ControlNet of Hunyuan-DiT, which is not in the catalogue``, for messages."""
        what = KIND_IN_WORDS[self.kind]
        if self.label and not self.families:
            return f"{what} of {self.label}, which is not in the catalogue"
        if self.architecture and len(self.families) == 1:
            return f"{what} of {self.architecture}"
        return f"{what} of {', '.join(self.families)}" if self.families else what
