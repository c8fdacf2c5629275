"""Our maps of depth and of poses, for ControlNets that read them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import torch

from ...catalogue import annotators
from ...catalogue.depth_map import depth_map
from ...catalogue.errors import HeaderError
from ...catalogue.pose_drawing import draw_people, openpose_joints
from ...catalogue.pose_map import Box, find_people, find_poses
from .context import Context
from .diffusion import memory
from .diffusion.files import model_file, model_inputs
from .holdings import choosing
from .problems import NodeProblem
from .registry import Fault, NodeGroup
from .stock import EngineStock

NODES = NodeGroup()
WHOLE = "none"
T = TypeVar("T")

_DEPTH = model_inputs(depth_model=annotators.FOLDERS["depth_estimator"])
_POSE = model_inputs(pose_model=annotators.FOLDERS["pose_estimator"], detector=annotators.FOLDERS["person_detector"])


def _with_model(context: Context, kind: str, name: str, work: Callable[[Any], T]) -> T:
    """What `work` gives of a file's model on the engine's device; the model is gone afterwards."""
    path = model_file(context, annotators.FOLDERS[kind], name)

    def once() -> T:
        with choosing():
            try:
                model = annotators.load(path, kind, memory.store().device)
            except HeaderError as error:
                raise NodeProblem(f"{name!r} cannot be used: {error}", remedy="fetch it again") from error
            return work(model)

    return memory.store().attempt(once, needs=2 * path.stat().st_size)


def _each(context: Context, image: torch.Tensor, work: Callable[[torch.Tensor], T]) -> list[T]:
    """`work` for each picture, cancelled between two."""
    done: list[T] = []
    for number, picture in enumerate(image):
        context.progress(number, len(image))
        done.append(work(picture))
    return done


def _sized(context: Context, image: torch.Tensor, width: int, height: int) -> torch.Tensor:
    """The picture at the size of the map to be."""
    if not (width or height):
        return image
    size = {"width": width, "height": height, "upscale_method": "lanczos", "crop": "center"}
    scaled: torch.Tensor = EngineStock(context)("ImageScale", image=image, **size)[0]
    return scaled


@NODES.node("AtelierDepthMap", **_DEPTH)
def depth(
    image: torch.Tensor,
    depth_model: str,
    resolution: int,
    cut_far: float,
    width: int,
    height: int,
    *,
    context: Context,
) -> torch.Tensor:
    """How near each part of a picture is: near is white."""
    image = _sized(context, image, width, height)

    def work(model: Any) -> list[torch.Tensor]:
        return _each(context, image, lambda one: depth_map(model, one, resolution, cut_far))

    maps = _with_model(context, "depth_estimator", depth_model, work)
    return torch.stack(maps)[..., None].expand(-1, -1, -1, 3).contiguous()


def _pose_faults(*, context: Context, **values: Any) -> list[Fault]:
    named = {name: value for name, value in values.items() if name != "detector" or value != WHOLE}
    return list(_POSE["validate"](context=context, **named))


@NODES.node("AtelierPoseMap", fingerprint=_POSE["fingerprint"], validate=_pose_faults)
def poses(
    image: torch.Tensor,
    pose_model: str,
    detector: str,
    person_threshold: float,
    joint_threshold: float,
    most_people: int,
    line_width: float,
    width: int,
    height: int,
    *,
    context: Context,
) -> tuple[torch.Tensor, int]:
    """People and their joints in OpenPose's colours, and how many there are."""
    image = _sized(context, image, width, height)
    tall, wide = int(image.shape[1]), int(image.shape[2])
    boxes: list[list[Box]] = [[(0.0, 0.0, float(wide), float(tall))]] * len(image)
    if detector != WHOLE:

        def people(model: Any) -> list[list[Box]]:
            return _each(context, image, lambda one: find_people(model, one, person_threshold, most_people))

        boxes = _with_model(context, "person_detector", detector, people)

    def joints(model: Any) -> list[Any]:
        return [find_poses(model, one, found) for one, found in zip(image, boxes, strict=True)]

    maps = []
    for found in _with_model(context, "pose_estimator", pose_model, joints):
        drawn = [openpose_joints(person, joint_threshold) for person in found]
        maps.append(torch.from_numpy(draw_people(drawn, tall, wide, line_width)))
    return torch.stack(maps), sum(map(len, boxes))
