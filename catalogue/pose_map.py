"""People in a picture: found by RT-DETR, their joints by ViTPose."""

from __future__ import annotations

from typing import Any

DETECTOR_SIDE = 640
"""RT-DETR looks at squares of so many pixels."""

PERSON = 0
"""The class among COCO's 80."""

Box = tuple[float, float, float, float]
"""Left, top, width, height in pixels."""

OVERLAP = 0.85
"""Two boxes that share more of their union than this are one person."""


def find_people(model: Any, image: Any, threshold: float, most: int) -> list[Box]:
    """Boxes of people, the surest first.

    Args:
        model: a person detector (`annotators.load`).
        image: float [height, width, 3] in 0..1.
        threshold: least score, in 0..1.
        most: how many at most.
    """
    import torch
    from torch.nn.functional import interpolate

    height, width = int(image.shape[0]), int(image.shape[1])
    device = next(model.parameters()).device
    pixels = image.to(device, torch.float32).movedim(-1, 0)[None]
    side = (DETECTOR_SIDE, DETECTOR_SIDE)
    with torch.inference_mode():
        told = model(pixel_values=interpolate(pixels, size=side, mode="bilinear", antialias=True).clamp(0.0, 1.0))
    scores = told.logits[0].float().sigmoid()[:, PERSON].cpu()
    boxes = told.pred_boxes[0].float().cpu()
    found: list[Box] = []
    for place in scores.argsort(descending=True).tolist():
        if float(scores[place]) < threshold or len(found) == most:
            break
        x, y, w, h = boxes[place].tolist()
        left, top = max(0.0, (x - w / 2) * width), max(0.0, (y - h / 2) * height)
        right, bottom = min(float(width), (x + w / 2) * width), min(float(height), (y + h / 2) * height)
        box = (left, top, right - left, bottom - top)
        if box[2] >= 2 and box[3] >= 2 and all(_overlap(box, other) <= OVERLAP for other in found):
            found.append(box)
    return found


def _overlap(first: Box, second: Box) -> float:
    """Common area over the area of both together."""
    wide = min(first[0] + first[2], second[0] + second[2]) - max(first[0], second[0])
    high = min(first[1] + first[3], second[1] + second[3]) - max(first[1], second[1])
    common = max(0.0, wide) * max(0.0, high)
    return common / (first[2] * first[3] + second[2] * second[3] - common)


def find_poses(model: Any, image: Any, boxes: list[Box]) -> list[list[tuple[float, float, float]]]:
    """COCO's 17 keypoints of each person: x and y in pixels, and a score (about 0..1).

    Args:
        model: a pose estimator (`annotators.load`).
        image: float [height, width, 3] in 0..1.
        boxes: the people; a box of the whole picture where there is one person and no detector.
    """
    import numpy as np
    import torch
    import transformers

    if not boxes:
        return []
    height, width = (int(side) for side in model.config.backbone_config.image_size)
    # transformers 5 has the processor twice, once on torchvision; the plain one is version 4's.
    maker = getattr(transformers, "VitPoseImageProcessorPil", None) or transformers.VitPoseImageProcessor
    processor = maker(size={"height": height, "width": width}, do_rescale=False)
    device = next(model.parameters()).device
    given = [[list(box) for box in boxes]]
    pixels = processor(image.cpu().float().numpy(), boxes=given, return_tensors="np")["pixel_values"]
    with torch.inference_mode():
        told = model(pixel_values=torch.from_numpy(np.asarray(pixels, dtype=np.float32)).to(device))
    told.heatmaps = told.heatmaps.float()
    people = processor.post_process_pose_estimation(told, boxes=given)[0]
    return [
        [
            (float(x), float(y), float(score))
            for (x, y), score in zip(person["keypoints"].tolist(), person["scores"].reshape(-1).tolist(), strict=True)
        ]
        for person in people
    ]
