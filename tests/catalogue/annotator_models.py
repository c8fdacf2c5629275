"""Small configurations of the models that read maps, for random weights; also run by a real ComfyUI's Python."""

from __future__ import annotations

from typing import Any

import transformers

from comfy_atelier.catalogue import annotators

__all__ = ["CASES", "annotators"]


def depth_config(width: int = 64, layers: int = 12) -> Any:
    backbone = transformers.Dinov2Config(
        hidden_size=width,
        num_hidden_layers=layers,
        num_attention_heads=max(1, width // 64),
        mlp_ratio=4,
        image_size=56,
        patch_size=14,
        out_features=["stage3", "stage6", "stage9", "stage12"],
        reshape_hidden_states=False,
    )
    neck = [8, 16, 24, 32]
    return transformers.DepthAnythingConfig(
        backbone_config=backbone, reassemble_hidden_size=width, neck_hidden_sizes=neck, fusion_hidden_size=16,
        head_hidden_size=8,
    )  # fmt: skip


def pose_config(simple: bool = True) -> Any:
    backbone = transformers.VitPoseBackboneConfig(
        hidden_size=64, num_hidden_layers=2, num_attention_heads=1, mlp_ratio=2, out_features=["stage2"]
    )
    return transformers.VitPoseConfig(backbone_config=backbone, use_simple_decoder=simple, num_labels=17)


def detector_config() -> Any:
    backbone = transformers.RTDetrResNetConfig(
        embedding_size=8, hidden_sizes=[8, 16, 16, 16], depths=[1, 2, 1, 1], layer_type="basic",
        out_features=["stage2", "stage3", "stage4"],
    )  # fmt: skip
    return transformers.RTDetrConfig(
        backbone_config=backbone, encoder_in_channels=[16, 16, 16], encoder_hidden_dim=32, encoder_ffn_dim=24,
        d_model=32, decoder_in_channels=[32] * 3, decoder_layers=2, decoder_ffn_dim=16, hidden_expansion=0.5,
        num_queries=300, num_labels=80,
    )  # fmt: skip


CASES = {
    "depth_estimator": depth_config,
    "pose_estimator": pose_config,
    "person_detector": detector_config,
}
