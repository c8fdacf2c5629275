"""Known joints in OpenPose's colours: order, neck, limbs, widths."""

from __future__ import annotations

import math

import numpy as np

from comfy_atelier.catalogue.pose_drawing import COLORS, FROM_COCO, LIMBS, draw_people, openpose_joints

COCO = {  # a person who stands, in a picture of 512 x 512: x, y
    "nose": (256, 80), "left_eye": (266, 70), "right_eye": (246, 70), "left_ear": (280, 76), "right_ear": (232, 76),
    "left_shoulder": (300, 140), "right_shoulder": (212, 140), "left_elbow": (330, 210), "right_elbow": (182, 210),
    "left_wrist": (340, 280), "right_wrist": (172, 280), "left_hip": (285, 290), "right_hip": (227, 290),
    "left_knee": (290, 380), "right_knee": (222, 380), "left_ankle": (292, 470), "right_ankle": (220, 470),
}  # fmt: skip
PERSON = [(*place, 0.9) for place in COCO.values()]
OPENPOSE = ("nose", "neck", "right_shoulder", "right_elbow", "right_wrist", "left_shoulder", "left_elbow", "left_wrist",
            "right_hip", "right_knee", "right_ankle", "left_hip", "left_knee", "left_ankle", "right_eye", "left_eye",
            "right_ear", "left_ear")  # fmt: skip


def pixel(picture: np.ndarray, x: float, y: float) -> tuple[int, ...]:
    return tuple(round(float(value) * 255) for value in picture[round(y), round(x)])


def test_joints_in_openposes_order() -> None:
    joints = openpose_joints(PERSON, 0.3)
    assert len(joints) == len(OPENPOSE) == len(FROM_COCO) == 18
    for name, joint in zip(OPENPOSE, joints, strict=True):
        assert joint == ((256.0, 140.0) if name == "neck" else COCO[name]), name


def test_what_is_not_seen_is_not_drawn() -> None:
    hidden = [(x, y, 0.1 if n in (5, 9) else 0.9) for n, (x, y, _) in enumerate(PERSON)]
    joints = openpose_joints(hidden, 0.3)
    gone = {name for name, joint in zip(OPENPOSE, joints, strict=True) if joint is None}
    assert gone == {"left_shoulder", "left_wrist", "neck"}  # no neck without both shoulders
    assert openpose_joints([(math.nan, 1.0, 0.9), *PERSON[1:]], 0.3)[0] is None
    picture = draw_people([joints], 512, 512)
    assert pixel(picture, 256, 110) == (0, 0, 0)  # neck to nose
    assert openpose_joints(PERSON, 0.95) == (None,) * 18


def test_joints_and_limbs_have_their_colours() -> None:
    joints = openpose_joints(PERSON, 0.3)
    picture = draw_people([joints], 512, 512)
    assert (picture.shape, picture.dtype) == ((512, 512, 3), np.float32)
    for joint, color in zip(joints, COLORS, strict=True):
        assert pixel(picture, *joint) == color
    for limb, (first, second) in enumerate(LIMBS[:12]):  # those of the head overlap
        start, end = joints[first], joints[second]
        middle = ((start[0] + end[0]) / 2, (start[1] + end[1]) / 2)
        assert pixel(picture, *middle) == tuple(int(value * 0.6) for value in COLORS[limb]), limb
    assert pixel(picture, 5, 5) == (0, 0, 0)
    assert len(LIMBS) == 17
    assert {place for limb in LIMBS for place in limb} == set(range(18))


def test_widths_follow_the_picture() -> None:
    def wide(side: int, line_width: float) -> int:
        """Pixels across the right upper leg, half way down."""
        scaled = [(x * side / 512, y * side / 512, s) for x, y, s in PERSON]
        picture = draw_people([openpose_joints(scaled, 0.3)], side, side, line_width)
        row = picture[round(335 * side / 512), : round(256 * side / 512)]
        return int((row.sum(axis=1) > 0).sum())

    assert 7 <= wide(512, 4.0) <= 9
    assert 15 <= wide(1024, 4.0) <= 18
    assert 15 <= wide(512, 8.0) <= 18


def test_several_people() -> None:
    other = [(x - 150, y, s) for x, y, s in PERSON]
    both = draw_people([openpose_joints(person, 0.3) for person in (PERSON, other)], 512, 512)
    one = draw_people([openpose_joints(PERSON, 0.3)], 512, 512)
    assert pixel(both, 256, 80) == pixel(both, 106, 80) == COLORS[0]
    assert pixel(one, 106, 80) == (0, 0, 0)
    assert not draw_people([], 16, 32).any()
    assert draw_people([], 16, 32).shape == (16, 32, 3)
