"""Maps of depth and of poses from a picture, for ControlNets that read them."""

# mypy: disable-error-code="import-not-found, misc, no-any-return"
# Type checkers have no ComfyUI at hand: neither its modules nor its base classes are known to them.

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from comfy_api.latest import io

from ..catalogue import HeaderError, annotators
from ..catalogue.depth_map import depth_map
from ..catalogue.pose_drawing import draw_people, openpose_joints
from ..catalogue.pose_map import Box, find_people, find_poses
from .errors import NodeInputError
from .schema import node_schema
from .stock import detected, model_path, stock, with_room

GROUP = "control"
WHOLE = "none"


def _files(kind: str) -> list[str]:
    return [name for name, (_, found) in detected((annotators.FOLDERS[kind],)).items() if found.kind == kind]


def _refusal(kind: str, name: str | None) -> str | None:
    """Why a file is not taken, or None. Older ComfyUIs do not compare a name with the list; a wired one is None."""
    if name is None or name in _files(kind):
        return None
    folder, wanted = annotators.FOLDERS[kind], annotators.KIND_WORDS[kind]
    known = detected((folder,))
    what = f"is {known[name][1].in_words()}" if name in known else f"is not in models/{folder}"
    return f"'{name}' {what}; {wanted} is needed: {annotators.REMEDIES[kind]}"


def _run(kind: str, name: str, work: Callable[[Any], Any]) -> Any:
    """``work`` with the model of a file on ComfyUI's device; the model is gone afterwards."""
    if not name:
        raise NodeInputError(f"models/{annotators.FOLDERS[kind]} has no file for this; {annotators.REMEDIES[kind]}")
    path = model_path(annotators.FOLDERS[kind], name)
    with with_room(path.stat().st_size) as device:
        try:
            model = annotators.load(path, kind, device)
        except HeaderError as error:
            raise NodeInputError(f"'{name}' cannot be used: {error}; download it again") from error
        return work(model)


def _sized(image: Any, width: int, height: int) -> Any:
    """The picture at the size of the map to be."""
    if not (width or height):
        return image
    return stock("ImageScale", image=image, width=width, height=height, upscale_method="lanczos", crop="center")[0]


def _size_inputs() -> list[Any]:
    return [
        io.Int.Input(side, default=0, min=0, max=16384, step=8, tooltip=f"{side.title()} of the map; 0 keeps its own.")
        for side in ("width", "height")
    ]


class AtelierDepthMap(io.ComfyNode):
    """Depth Anything: near is white."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return node_schema(
            node_id="AtelierDepthMap",
            display_name="Depth Map",
            group=GROUP,
            description="Finds out how far each part of a picture is, for a depth ControlNet: near is white.",
            aliases=("depth", "depth anything", "preprocessor", "controlnet"),
            inputs=[
                io.Image.Input("image", tooltip="The picture to read depth from."),
                io.Combo.Input(
                    "depth_model",
                    options=_files("depth_estimator"),
                    tooltip="A Depth Anything file in models/depth_anything, by its header.",
                ),
                io.Int.Input(
                    "resolution",
                    default=518,
                    min=140,
                    max=2072,
                    step=14,
                    tooltip="Pixels of the shorter side while it works: more shows finer edges and takes longer.",
                ),
                io.Float.Input(
                    "cut_far",
                    default=0.0,
                    min=0.0,
                    max=1.0,
                    step=0.01,
                    tooltip="What is farther than this share of the depth becomes black; 0 keeps all.",
                ),
                *_size_inputs(),
            ],
            outputs=[io.Image.Output(tooltip="The depth map.")],
        )

    @classmethod
    def validate_inputs(cls, depth_model: str | None = None) -> bool | str:
        return _refusal("depth_estimator", depth_model) or True

    @classmethod
    def execute(
        cls, image: Any, depth_model: str, resolution: int, cut_far: float, width: int, height: int
    ) -> io.NodeOutput:
        import torch

        image = _sized(image, width, height)
        maps = _run(
            "depth_estimator", depth_model, lambda model: [depth_map(model, one, resolution, cut_far) for one in image]
        )
        return io.NodeOutput(torch.stack(maps)[..., None].expand(-1, -1, -1, 3).contiguous())


class AtelierPoseMap(io.ComfyNode):
    """RT-DETR and ViTPose, drawn as OpenPose draws."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        def share(name: str, default: float, what: str) -> io.Float.Input:
            return io.Float.Input(name, default=default, min=0.0, max=1.0, step=0.01, tooltip=what)

        return node_schema(
            node_id="AtelierPoseMap",
            display_name="Pose Map",
            group=GROUP,
            description="Finds people and their joints, drawn in OpenPose's colours for a pose ControlNet.",
            aliases=("pose", "openpose", "vitpose", "preprocessor", "controlnet", "skeleton"),
            inputs=[
                io.Image.Input("image", tooltip="The picture with people."),
                io.Combo.Input(
                    "pose_model",
                    options=_files("pose_estimator"),
                    tooltip="A ViTPose file in models/pose, by its header.",
                ),
                io.Combo.Input(
                    "detector",
                    options=[*_files("person_detector"), WHOLE],
                    tooltip="An RT-DETR file in models/pose that finds the people; none: one person fills the picture.",
                ),
                share("person_threshold", 0.5, "How sure it must be of a person."),
                share("joint_threshold", 0.3, "How sure it must be of a joint; others are left out."),
                io.Int.Input("most_people", default=10, min=1, max=100, tooltip="The surest ones are drawn."),
                io.Float.Input(
                    "line_width",
                    default=4.0,
                    min=0.5,
                    max=64.0,
                    step=0.5,
                    tooltip="In pixels where the shorter side has 512; it grows with the picture.",
                ),
                *_size_inputs(),
            ],
            outputs=[
                io.Image.Output(tooltip="The drawn poses on black."),
                io.Int.Output(display_name="people", tooltip="How many people were found, in all pictures."),
            ],
        )

    @classmethod
    def validate_inputs(cls, pose_model: str | None = None, detector: str | None = None) -> bool | str:
        wanted = None if detector == WHOLE else detector
        return _refusal("pose_estimator", pose_model) or _refusal("person_detector", wanted) or True

    @classmethod
    def execute(
        cls,
        image: Any,
        pose_model: str,
        detector: str,
        person_threshold: float,
        joint_threshold: float,
        most_people: int,
        line_width: float,
        width: int,
        height: int,
    ) -> io.NodeOutput:
        import torch

        image = _sized(image, width, height)
        tall, wide = int(image.shape[1]), int(image.shape[2])
        boxes: list[list[Box]] = [[(0.0, 0.0, float(wide), float(tall))]] * len(image)
        if detector != WHOLE:
            boxes = _run(
                "person_detector",
                detector,
                lambda model: [find_people(model, one, person_threshold, most_people) for one in image],
            )
        poses = _run(
            "pose_estimator",
            pose_model,
            lambda model: [find_poses(model, one, found) for one, found in zip(image, boxes, strict=True)],
        )
        maps = []
        for people in poses:
            joints = [openpose_joints(person, joint_threshold) for person in people]
            maps.append(torch.from_numpy(draw_people(joints, tall, wide, line_width)))
        return io.NodeOutput(torch.stack(maps), sum(map(len, boxes)))


MAP_NODES: list[type[io.ComfyNode]] = [AtelierDepthMap, AtelierPoseMap]
