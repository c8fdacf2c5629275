"""People as OpenPose draws them, for pose ControlNets: 18 joints and 17 limbs in their own colours on black.

Sources: the joints' order and colours of CMU's OpenPose (COCO model); limbs as filled ellipses at 60 % of their colour,
joints as discs on top, four pixels wide at 512 pixels, as lllyasviel's annotators of ControlNet 1.1 draw them.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

FROM_COCO = (0, None, 6, 8, 10, 5, 7, 9, 12, 14, 16, 11, 13, 15, 2, 1, 4, 3)
"""For each of OpenPose's joints its number among COCO's 17 keypoints; the neck has none."""

NECK, SHOULDERS = 1, (5, 6)
LIMBS = (
    (1, 2), (1, 5), (2, 3), (3, 4), (5, 6), (6, 7), (1, 8), (8, 9), (9, 10), (1, 11), (11, 12), (12, 13),
    (1, 0), (0, 14), (14, 16), (0, 15), (15, 17),
)  # fmt: skip
COLORS = (
    (255, 0, 0), (255, 85, 0), (255, 170, 0), (255, 255, 0), (170, 255, 0), (85, 255, 0), (0, 255, 0), (0, 255, 85),
    (0, 255, 170), (0, 255, 255), (0, 170, 255), (0, 85, 255), (0, 0, 255), (85, 0, 255), (170, 0, 255),
    (255, 0, 255), (255, 0, 170), (255, 0, 85),
)  # fmt: skip
LIMB_SHADE = 0.6
REFERENCE_SIDE = 512
"""Line widths are meant for a picture whose shorter side has so many pixels."""

Joint = tuple[float, float] | None


def openpose_joints(points: Sequence[Sequence[float]], threshold: float) -> tuple[Joint, ...]:
    """OpenPose's 18 joints from COCO's 17 keypoints (x, y in pixels, score); None where the score is below
    ``threshold``. The neck lies between the shoulders, where both are seen.
    """

    def seen(place: int) -> Joint:
        x, y, score = points[place]
        return (float(x), float(y)) if score >= threshold and math.isfinite(x) and math.isfinite(y) else None

    joints: list[Joint] = [None if place is None else seen(place) for place in FROM_COCO]
    left, right = (seen(place) for place in SHOULDERS)
    if left is not None and right is not None:
        joints[NECK] = ((left[0] + right[0]) / 2, (left[1] + right[1]) / 2)
    return tuple(joints)


def draw_people(
    people: Sequence[Sequence[Joint]], height: int, width: int, line_width: float = 4.0
) -> np.ndarray[Any, Any]:
    """A map of people: float32 [height, width, 3] in 0..1; each person is OpenPose's 18 joints in pixels."""
    from PIL import Image, ImageDraw

    picture = Image.new("RGB", (width, height))
    draw = ImageDraw.Draw(picture)
    half = max(1.0, line_width * min(height, width) / REFERENCE_SIDE)
    for joints in people:
        for limb, (first, second) in enumerate(LIMBS):
            start, end = joints[first], joints[second]
            if start is not None and end is not None:
                shade = tuple(int(value * LIMB_SHADE) for value in COLORS[limb])
                draw.polygon(_ellipse(start, end, half), fill=shade)
        for joint, color in zip(joints, COLORS, strict=True):
            if joint is not None:
                x, y = joint
                draw.ellipse((x - half, y - half, x + half, y + half), fill=color)
    return np.asarray(picture, dtype=np.float32) / np.float32(255.0)


def _ellipse(start: tuple[float, float], end: tuple[float, float], half: float) -> list[tuple[float, float]]:
    """The outline of an ellipse from joint to joint, ``half`` wide on each side."""
    middle = ((start[0] + end[0]) / 2, (start[1] + end[1]) / 2)
    length = math.dist(start, end) / 2
    angle = math.atan2(end[1] - start[1], end[0] - start[0])
    cos, sin = math.cos(angle), math.sin(angle)
    outline = []
    for step in range(0, 360, 5):
        along, across = length * math.cos(math.radians(step)), half * math.sin(math.radians(step))
        outline.append((middle[0] + along * cos - across * sin, middle[1] + along * sin + across * cos))
    return outline
