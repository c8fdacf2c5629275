"""Models that read a map from a picture, built by transformers' classes from a file's tensors: no configuration file,
no network.

Depth Anything V2 (Yang et al. 2024), ViTPose (Xu et al. 2022) and RT-DETR (Zhao et al. 2023), as transformers 4.48 and
later have them. A ``config.json`` beside the file is believed where it is there; else the tensors' shapes tell.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from .detect import detect
from .errors import ChoiceError
from .header import read_header

Shapes = Mapping[str, tuple[int, ...]]
FOLDERS: Mapping[str, str] = {
    "depth_estimator": "depth_anything",
    "pose_estimator": "pose",
    "person_detector": "pose",
}
"""Kind -> folder below ``models/``."""

CLASSES: Mapping[str, str] = {
    "depth_estimator": "DepthAnythingForDepthEstimation",
    "pose_estimator": "VitPoseForPoseEstimation",
    "person_detector": "RTDetrForObjectDetection",
}
"""Kind -> transformers' class."""

_POSE_HEADS = {384: 12, 768: 12, 1024: 16, 1280: 16}
"""Width of ViTPose's backbone -> attention heads (small, base, large, huge), from its published configurations."""


def load(path: Path, kind: str, device: Any) -> Any:
    """The model of a file, ready to run.

    Raises:
        ChoiceError: the file is none of that kind, or of a layout that transformers' class does not have.
        HeaderError: it is no safetensors file.
    """
    import torch
    import transformers
    from safetensors.torch import load_file

    found = detect(path)
    if found.kind != kind:
        raise ChoiceError(f"'{path.name}' is {found.in_words()}, not {KIND_WORDS[kind]}; {REMEDIES[kind]}")
    if "experts" in found.traits:
        raise ChoiceError(f"'{path.name}' is a ViTPose+ with experts for several data sets; take a plain ViTPose")
    try:
        config = _beside(path, kind) or CONFIGS[kind](read_header(path).shapes)
        state = {name: tensor.to(torch.float32) for name, tensor in load_file(str(path)).items()}
        # By this way transformers 4 and 5 both read files with the names that version 4 gave the tensors.
        with _quiet():
            model, told = getattr(transformers, CLASSES[kind]).from_pretrained(
                None, config=config, state_dict=state, output_loading_info=True
            )
    except (KeyError, IndexError, ValueError, TypeError, RuntimeError) as error:
        raise ChoiceError(f"'{path.name}' has an unusual layout ({type(error).__name__}); {REMEDIES[kind]}") from error
    missing = sorted(name for name in told["missing_keys"] if not name.startswith("model.denoising"))
    if missing:
        raise ChoiceError(f"'{path.name}' lacks {len(missing)} tensors ('{missing[0]}'); download it again")
    return model.eval().requires_grad_(False).to(device)


KIND_WORDS: Mapping[str, str] = {
    "depth_estimator": "a depth estimator (Depth Anything)",
    "pose_estimator": "a pose estimator (ViTPose)",
    "person_detector": "a person detector (RT-DETR)",
}
REMEDIES: Mapping[str, str] = {
    "depth_estimator": "`atelier models get depth-anything-v2-small` fetches one",
    "pose_estimator": "`atelier models get vitpose-base-simple` fetches one",
    "person_detector": "`atelier models get rtdetr-r50vd` fetches one",
}


@contextmanager
def _quiet() -> Iterator[None]:
    """Without transformers' own progress bar, which would stand in the server's log."""
    from transformers.utils import logging

    shown = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        if shown:
            logging.enable_progress_bar()


def _beside(path: Path, kind: str) -> Any:
    """The configuration in the file's folder, where it is of that kind."""
    import transformers

    file = path.with_name("config.json")
    try:
        values = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    named = values.get("architectures") if isinstance(values, dict) else None
    if not isinstance(named, list) or CLASSES[kind] not in named:
        return None
    return getattr(transformers, CLASSES[kind]).config_class.from_dict(values)


def _layers(shapes: Shapes, pattern: str) -> int:
    """How many numbers a pattern with one group finds, counted from 0."""
    numbers = {int(match[1]) for name in shapes if (match := re.match(pattern, name))}
    return len(numbers)


def depth_config(shapes: Shapes) -> Any:
    """Depth Anything's configuration from its tensors' shapes."""
    from transformers import DepthAnythingConfig, Dinov2Config

    width = shapes["backbone.embeddings.cls_token"][-1]
    layers = _layers(shapes, r"backbone\.encoder\.layer\.(\d+)\.")
    patch = shapes["backbone.embeddings.patch_embeddings.projection.weight"][-1]
    side = round((shapes["backbone.embeddings.position_embeddings"][1] - 1) ** 0.5)
    # Which layers are read: Depth Anything V2's dpt.py.
    stages: tuple[int, ...] | None = {12: (3, 6, 9, 12), 24: (5, 12, 18, 24), 40: (10, 20, 30, 40)}.get(layers)
    if stages is None:
        stages = tuple(max(1, round(layers * share / 4)) for share in (1, 2, 3, 4))
    neck = [shapes[f"neck.reassemble_stage.layers.{place}.projection.weight"][0] for place in range(4)]
    backbone = Dinov2Config(
        hidden_size=width,
        num_hidden_layers=layers,
        num_attention_heads=max(1, width // 64),
        image_size=side * patch,
        patch_size=patch,
        use_swiglu_ffn="backbone.encoder.layer.0.mlp.weights_in.weight" in shapes,
        out_features=[f"stage{stage}" for stage in stages],
        reshape_hidden_states=False,
    )
    return DepthAnythingConfig(
        backbone_config=backbone,
        patch_size=patch,
        reassemble_hidden_size=width,
        neck_hidden_sizes=neck,
        fusion_hidden_size=shapes["neck.convs.0.weight"][0],
        head_hidden_size=shapes["head.conv2.weight"][0],
        depth_estimation_type="relative",
    )


def pose_config(shapes: Shapes) -> Any:
    """ViTPose's configuration from its tensors' shapes; pictures are 256 high and 192 wide."""
    from transformers import VitPoseBackboneConfig, VitPoseConfig

    width = shapes["backbone.embeddings.patch_embeddings.projection.weight"][0]
    patch = shapes["backbone.embeddings.patch_embeddings.projection.weight"][-1]
    layers = _layers(shapes, r"backbone\.encoder\.layer\.(\d+)\.")
    inner = shapes["backbone.encoder.layer.0.mlp.fc1.weight"][0]
    positions = shapes["backbone.embeddings.position_embeddings"][1] - 1
    side = round((positions / 12) ** 0.5)  # a grid of 4 x 3 patches times the side squared
    backbone = VitPoseBackboneConfig(
        image_size=[4 * side * patch, 3 * side * patch],
        patch_size=[patch, patch],
        hidden_size=width,
        num_hidden_layers=layers,
        num_attention_heads=_POSE_HEADS.get(width, max(1, width // 64)),
        mlp_ratio=inner // width,
        num_experts=1,
        out_features=[f"stage{layers}"],
    )
    points = shapes["head.conv.weight"][0]
    return VitPoseConfig(
        backbone_config=backbone,
        use_simple_decoder="head.deconv1.weight" not in shapes,
        scale_factor=4,
        num_labels=points,
    )


def detector_config(shapes: Shapes) -> Any:
    """RT-DETR's configuration from its tensors' shapes (backbones of 18 to 101 layers)."""
    from transformers import RTDetrConfig, RTDetrResNetConfig

    stage = r"model\.backbone\.model\.encoder\.stages\.{}\.layers\.(\d+)\."
    depths = [_layers(shapes, stage.format(place)) for place in range(4)]
    last = "model.backbone.model.encoder.stages.{}.layers.0.layer.{}.convolution.weight"
    bottleneck = last.format(0, 2) in shapes
    sizes = [shapes[last.format(place, 2 if bottleneck else 1)][0] for place in range(4)]
    backbone = RTDetrResNetConfig(
        embedding_size=shapes["model.backbone.model.embedder.embedder.2.convolution.weight"][0],
        hidden_sizes=sizes,
        depths=depths,
        layer_type="bottleneck" if bottleneck else "basic",
        out_features=["stage2", "stage3", "stage4"],
    )
    inside = shapes["model.encoder_input_proj.0.0.weight"][0]
    width = shapes["model.decoder_input_proj.0.0.weight"][0]
    csp = shapes["model.encoder.fpn_blocks.0.conv1.conv.weight"][0]
    offsets = shapes["model.decoder.layers.0.encoder_attn.sampling_offsets.weight"][0]
    return RTDetrConfig(
        backbone_config=backbone,
        encoder_hidden_dim=inside,
        encoder_in_channels=sizes[1:],
        encoder_ffn_dim=shapes["model.encoder.encoder.0.layers.0.fc1.weight"][0],
        encoder_layers=_layers(shapes, r"model\.encoder\.encoder\.0\.layers\.(\d+)\."),
        hidden_expansion=csp / inside,
        d_model=width,
        decoder_in_channels=[inside] * 3,
        decoder_layers=_layers(shapes, r"model\.decoder\.layers\.(\d+)\."),
        decoder_ffn_dim=shapes["model.decoder.layers.0.fc1.weight"][0],
        decoder_n_points=max(1, offsets // (8 * 3 * 2)),
        num_labels=shapes["model.decoder.class_embed.0.weight"][0],
    )


CONFIGS = {"depth_estimator": depth_config, "pose_estimator": pose_config, "person_detector": detector_config}
"""Kind -> what makes its configuration."""
