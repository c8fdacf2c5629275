"""The node classes that the embedded engine has, and where each is written.

A node class is its schema (ComfyUI 0.33.0's, from `graph`'s table) and one pure function in a module ``nodes_<group>``.
The table below names them without importing any: text nodes run before torch is loaded, and the caller's side knows
what the engine can do without ever loading it.
"""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

SCHEMAS_OF = "0.33.0"  # the ComfyUI whose node schemas the engine presents

# module -> its classes. A test holds this table to what the modules declare.
MODULES: Mapping[str, tuple[str, ...]] = {
    "nodes_atelier_image": (
        "AtelierApplyControlNet",
        "AtelierCannyMap",
        "AtelierControl",
        "AtelierEditImage",
        "AtelierInpaint",
        "AtelierLoadControlNet",
        "AtelierOutpaint",
        "AtelierRestoreSize",
    ),
    "nodes_atelier_load": (
        "AtelierLoadFlux",
        "AtelierLoadFluxKontext",
        "AtelierLoadFluxRedux",
        "AtelierLoadFluxTools",
        "AtelierLoadHiDreamE1",
        "AtelierLoadHiDreamI1",
        "AtelierLoadHunyuanImage",
        "AtelierLoadQwenImage",
        "AtelierLoadQwenImageEdit",
        "AtelierLoadSD35",
        "AtelierLoadSDXL",
        "AtelierLoadSVD",
        "AtelierLoadStableDiffusion",
    ),
    "nodes_atelier_lora": ("AtelierLoadLora", "AtelierLoraStack"),
    "nodes_atelier_maps": ("AtelierDepthMap", "AtelierPoseMap"),
    "nodes_atelier_sample": (
        "AtelierEmptyLatent",
        "AtelierSample",
        "AtelierSampleEdit",
        "AtelierSampleGuided",
        "AtelierSampleRefined",
        "AtelierSampleTurbo",
        "AtelierSampleVideo",
    ),
    "nodes_atelier_settings": (
        "AtelierChangeSettings",
        "AtelierLayeredPrompt",
        "AtelierNegativePrompt",
        "AtelierRecommendedSettings",
    ),
    "nodes_conditioning": (
        "CLIPSetLastLayer",
        "CLIPTextEncode",
        "CLIPTextEncodeControlnet",
        "CLIPTextEncodeSDXL",
        "CLIPTextEncodeSDXLRefiner",
        "ConditioningAverage",
        "ConditioningCombine",
        "ConditioningConcat",
        "ConditioningMultiply",
        "ConditioningSetArea",
        "ConditioningSetAreaPercentage",
        "ConditioningSetAreaPercentageVideo",
        "ConditioningSetAreaStrength",
        "ConditioningSetMask",
        "ConditioningSetTimestepRange",
        "ConditioningZeroOut",
    ),
    "nodes_control": (
        "ControlNetApply",
        "ControlNetApplyAdvanced",
        "ControlNetInpaintingAliMamaApply",
        "ControlNetLoader",
        "DiffControlNetLoader",
        "SetUnionControlNetType",
    ),
    "nodes_editing": (
        "DifferentialDiffusion",
        "InpaintModelConditioning",
        "InstructPixToPixConditioning",
        "ReferenceLatent",
    ),
    "nodes_filter": ("Canny", "ImageAddNoise", "ImageBlend", "ImageBlur", "ImageInvert", "ImageSharpen"),
    "nodes_flux": (
        "CLIPTextEncodeFlux",
        "FluxDisableGuidance",
        "FluxGuidance",
        "FluxKontextImageScale",
        "FluxKontextMultiReferenceLatentMethod",
        "ModelSamplingFlux",
    ),
    "nodes_guiders": (
        "AddNoise",
        "AlignYourStepsScheduler",
        "BasicGuider",
        "BasicScheduler",
        "BetaSamplingScheduler",
        "CFGGuider",
        "DisableNoise",
        "DualCFGGuider",
        "KSamplerSelect",
        "RandomNoise",
        "SDTurboScheduler",
        "SamplerDPMPP_2M_SDE",
        "SamplerDPMPP_2S_Ancestral",
        "SamplerDPMPP_3M_SDE",
        "SamplerDPMPP_SDE",
        "SamplerEulerAncestral",
        "SamplerEulerAncestralCFGPP",
        "SamplerLMS",
        "SamplingPercentToSigma",
    ),
    "nodes_hidream": ("CLIPTextEncodeHiDream",),
    "nodes_hunyuan": ("EmptyHunyuanImageLatent",),
    "nodes_image": (
        "BatchImagesNode",
        "EmptyImage",
        "GetImageSize",
        "ImageBatch",
        "ImageCrop",
        "ImageFlip",
        "ImageFromBatch",
        "ImagePadForOutpaint",
        "ImageRotate",
        "ImageStitch",
        "RepeatImageBatch",
    ),
    "nodes_inpaint": ("VAEEncodeForInpaint",),
    "nodes_latent": (
        "EmptyLatentImage",
        "EmptySD3LatentImage",
        "SetLatentNoiseMask",
        "VAEDecode",
        "VAEDecodeTiled",
        "VAEEncode",
        "VAEEncodeTiled",
    ),
    "nodes_latent_edit": (
        "LatentAdd",
        "LatentBatch",
        "LatentBatchSeedBehavior",
        "LatentBlend",
        "LatentComposite",
        "LatentConcat",
        "LatentCrop",
        "LatentCut",
        "LatentFlip",
        "LatentFromBatch",
        "LatentInterpolate",
        "LatentMultiply",
        "LatentRotate",
        "LatentSubtract",
        "LatentUpscale",
        "LatentUpscaleBy",
        "RebatchLatents",
        "RepeatLatentBatch",
    ),
    "nodes_load": ("LoadImage", "LoadImageMask"),
    "nodes_logic": (
        "ComfyAndNode",
        "ComfyMathExpression",
        "ComfyNotNode",
        "ComfyNumberConvert",
        "ComfyOrNode",
        "ComfySwitchNode",
        "CustomCombo",
        "ResolutionSelector",
    ),
    "nodes_lora": ("LoraLoader", "LoraLoaderModelOnly"),
    "nodes_mask": (
        "BatchMasksNode",
        "CropMask",
        "FeatherMask",
        "GrowMask",
        "ImageColorToMask",
        "ImageCompositeMasked",
        "ImageToMask",
        "InvertMask",
        "JoinImageWithAlpha",
        "MaskComposite",
        "MaskToImage",
        "SolidMask",
        "SplitImageWithAlpha",
        "ThresholdMask",
    ),
    "nodes_model_sampling": (
        "CFGNorm",
        "CFGZeroStar",
        "ModelSamplingAuraFlow",
        "ModelSamplingContinuousEDM",
        "ModelSamplingContinuousV",
        "ModelSamplingDiscrete",
        "ModelSamplingSD3",
        "RescaleCFG",
    ),
    "nodes_models": (
        "CLIPLoader",
        "CheckpointLoaderSimple",
        "DualCLIPLoader",
        "QuadrupleCLIPLoader",
        "TripleCLIPLoader",
        "UNETLoader",
        "VAELoader",
    ),
    "nodes_primitive": (
        "PrimitiveBoolean",
        "PrimitiveBoundingBox",
        "PrimitiveFloat",
        "PrimitiveInt",
        "PrimitiveString",
        "PrimitiveStringMultiline",
    ),
    "nodes_qwen": (
        "EmptyQwenImageLayeredLatentImage",
        "ModelPatchLoader",
        "QwenImageDiffsynthControlnet",
        "TextEncodeQwenImageEdit",
        "TextEncodeQwenImageEditPlus",
    ),
    "nodes_sampling": ("KSampler", "KSamplerAdvanced", "SamplerCustom", "SamplerCustomAdvanced"),
    "nodes_save": ("ImageCompare", "ImageCropV2", "MaskPreview", "PreviewImage", "SaveImage"),
    "nodes_scale": (
        "ImageScale",
        "ImageScaleBy",
        "ImageScaleToMaxDimension",
        "ImageScaleToTotalPixels",
        "ResizeAndPadImage",
        "ResizeImageMaskNode",
    ),
    "nodes_sd3": ("CLIPTextEncodeSD3", "SkipLayerGuidanceDiT", "SkipLayerGuidanceSD3"),
    "nodes_sigmas": (
        "ExponentialScheduler",
        "ExtendIntermediateSigmas",
        "FlipSigmas",
        "KarrasScheduler",
        "LaplaceScheduler",
        "ManualSigmas",
        "PolyexponentialScheduler",
        "SetFirstSigma",
        "SplitSigmas",
        "SplitSigmasDenoise",
        "VPScheduler",
    ),
    "nodes_svd": (
        "ImageOnlyCheckpointLoader",
        "SVD_img2vid_Conditioning",
        "VideoLinearCFGGuidance",
        "VideoTriangleCFGGuidance",
    ),
    "nodes_tile": ("ImageMergeTileList", "SplitImageToTileList"),
    "nodes_text": (
        "CaseConverter",
        "JsonExtractString",
        "PreviewAny",
        "RegexExtract",
        "RegexMatch",
        "RegexReplace",
        "SaveText",
        "StringCompare",
        "StringConcatenate",
        "StringContains",
        "StringFormat",
        "StringLength",
        "StringReplace",
        "StringSubstring",
        "StringTrim",
    ),
    "nodes_upscale": ("ImageUpscaleWithModel", "UpscaleModelLoader"),
    "nodes_video": (
        "CreateVideo",
        "GetVideoComponents",
        "SaveAnimatedPNG",
        "SaveAnimatedWEBP",
        "SaveVideo",
        "SaveWEBM",
    ),
    "nodes_vision": ("CLIPVisionEncode", "CLIPVisionLoader", "StyleModelApply", "StyleModelLoader"),
}

# These modules run without torch.
TORCH_FREE = frozenset({"nodes_atelier_settings", "nodes_logic", "nodes_primitive", "nodes_text"})

CLASSES: Mapping[str, str] = {name: module for module, names in MODULES.items() for name in names}

Function = Callable[..., Any]


@dataclass(frozen=True, kw_only=True, slots=True)
class NodeClass:
    """How the executor runs a node class.

    Attributes:
        function: takes the inputs by name (and `context`, where it has such a parameter) and returns the outputs: a
            tuple, or the one output itself. Inputs are never changed in place: the cache and other nodes hold them too.
        output_node: runs though nobody takes its outputs, as ComfyUI's ``OUTPUT_NODE``.
        input_is_list: the function gets every input as a list, as ComfyUI's ``INPUT_IS_LIST``.
        list_outputs: outputs (by position) that are lists of values, each handled by itself downstream.
        lazy: inputs that are computed only if `needs` asks for them.
        needs: takes the inputs known so far (None for a lazy one not computed yet) and says which lazy ones it needs.
        fingerprint: takes the inputs that are values, and `context`; what it returns becomes part of the cache's key,
            so that a file's new content is seen (ComfyUI's ``IS_CHANGED``). `NEVER_CACHED` keeps a node from the cache.
        validate: takes the inputs that are values, and `context`; returns what is wrong with them.
        uses_prompt: writes the prompt into its files, so another prompt is another result.
    """

    name: str
    function: Function
    output_node: bool = False
    input_is_list: bool = False
    list_outputs: frozenset[int] = frozenset()
    lazy: frozenset[str] = frozenset()
    needs: Callable[..., Iterable[str]] | None = None
    fingerprint: Function | None = None
    validate: Callable[..., Iterable[Fault]] | None = None
    uses_prompt: bool = False
    uses_context: bool = False


@dataclass(frozen=True, kw_only=True, slots=True)
class Fault:
    """What `NodeClass.validate` finds wrong with an input."""

    input_name: str
    message: str
    remedy: str = ""


class NeverCached:
    """A fingerprint that equals none, not even itself."""


NEVER_CACHED = NeverCached()


class NodeGroup:
    """The node classes of one module, by name; `node` is the decorator that adds one."""

    def __init__(self) -> None:
        self._classes: dict[str, NodeClass] = {}

    def node(self, *names: str, **options: Any) -> Callable[[Function], Function]:
        """Declare the decorated function as the node classes `names`; `options` are `NodeClass`'s attributes."""

        def add(function: Function) -> Function:
            uses_context = "context" in inspect.signature(function).parameters
            for name in names:
                self._classes[name] = NodeClass(name=name, function=function, uses_context=uses_context, **options)
            return function

        return add

    def __getitem__(self, name: str) -> NodeClass:
        return self._classes[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._classes)


def load(class_type: str) -> NodeClass:
    """The node class, its module imported on first use. Raises `KeyError` where the engine lacks it."""
    module = importlib.import_module(f".{CLASSES[class_type]}", __package__)
    group: NodeGroup = module.NODES
    return group[class_type]


def lacking(class_types: Iterable[str]) -> tuple[str, ...]:
    """Those of the classes that the engine lacks, sorted, each once."""
    return tuple(sorted({name for name in class_types if name not in CLASSES}))


def needs_torch(class_type: str) -> bool:
    """Whether running the class loads torch; unknown classes do not."""
    return CLASSES.get(class_type, "nodes_text") not in TORCH_FREE
