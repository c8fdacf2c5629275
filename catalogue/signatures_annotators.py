"""Models that read a map from a picture: Depth Anything, ViTPose, RT-DETR, by the names that transformers gives their
tensors.
"""

from __future__ import annotations

from .detection import Detection
from .header import Header


def detect_annotator(header: Header) -> Detection | None:
    """A depth estimator, pose estimator or person detector in transformers' layout; None where it is none."""
    if "neck.reassemble_stage.layers.0.projection.weight" in header and "backbone.embeddings.cls_token" in header:
        return Detection(kind="depth_estimator", format="transformers", label="Depth Anything")
    if "head.conv.weight" in header and "backbone.embeddings.patch_embeddings.projection.weight" in header:
        experts = header.has_prefix("backbone.encoder.layer.0.mlp.experts.")
        return Detection(
            kind="pose_estimator", traits=("experts",) if experts else (), format="transformers", label="ViTPose"
        )
    if "model.decoder.class_embed.0.weight" in header and header.has_prefix("model.backbone.model.embedder."):
        return Detection(kind="person_detector", format="transformers", label="RT-DETR")
    return None
