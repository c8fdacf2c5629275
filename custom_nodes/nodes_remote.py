"""FLUX.1 [pro] at Black Forest Labs: one node for each kind of request."""

# mypy: disable-error-code="import-not-found, misc, no-any-return"
# Type checkers have no ComfyUI at hand: neither its modules nor its base classes are known to them.

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from comfy_api.latest import io

from ..catalogue.settings import RATIOS
from . import remote_bfl
from .errors import NodeInputError, RemoteError
from .remote_access import BFL
from .remote_pictures import decoded
from .remote_run import ask
from .schema import node_schema
from .stock import show_progress

GROUP = "remote models"
_RATIO_WORDS = {words: words.split()[0] for words in RATIOS}
AS_PICTURE = "as the picture"


def tensor(files: list[bytes], who: str) -> Any:
    """IMAGE of a service's pictures: float32 [batch, height, width, 3]; all must be of one size."""
    import torch

    pictures = [torch.from_numpy(decoded(data, who)) for data in files]
    if len({picture.shape for picture in pictures}) > 1:
        raise RemoteError(f"{who} sent pictures of different sizes; ask for one at a time")
    return torch.stack(pictures)


def one(image: Any, what: str) -> Any:
    """The only picture of a batch, as numbers [height, width, 3]."""
    if image.shape[0] != 1:
        raise NodeInputError(f"{what} is a batch of {image.shape[0]} pictures; take one of them (ImageFromBatch)")
    return image[0, ..., :3].cpu().float().numpy()


def prompt_input() -> io.String.Input:
    """The prompt of a remote model."""
    return io.String.Input("prompt", default="", multiline=True, tooltip="What the picture should show.")


def seed_input() -> io.Int.Input:
    """Its seed, of 31 bits."""
    return io.Int.Input(
        "seed",
        default=0,
        min=0,
        max=0x7FFFFFFF,
        control_after_generate=True,
        tooltip="The same seed and inputs give nearly the same picture; the service promises no more.",
    )


def _bfl_inputs() -> list[Any]:
    """The inputs that all nodes of this service end with."""
    return [
        seed_input(),
        io.Boolean.Input("prompt_upsampling", default=False, tooltip="Lets the service rewrite the prompt first."),
        io.Int.Input(
            "safety_tolerance",
            default=2,
            min=0,
            max=6,
            tooltip="0 moderates most, 6 least (2 where a picture is edited).",
        ),
        io.Combo.Input(
            "region",
            options=list(remote_bfl.REGIONS),
            default="global",
            tooltip="Where the request may be worked on; Europe and United States keep it there.",
        ),
        timeout_input(300),
    ]


def timeout_input(default: int) -> io.Int.Input:
    """How long it may take, in seconds."""
    return io.Int.Input("timeout", default=default, min=5, max=3600, tooltip="Seconds to wait for the picture at most.")


def _bfl_outputs() -> list[Any]:
    return [
        io.Image.Output(tooltip="The picture."),
        io.String.Output(display_name="report", tooltip="What it cost, its seed and the request's id."),
    ]


def _bfl_schema(node_id: str, name: str, text: str, inputs: list[Any], *aliases: str) -> io.Schema:
    return node_schema(
        node_id=node_id,
        display_name=name,
        group=GROUP,
        description=f"{text} Wants your own key of Black Forest Labs in BFL_API_KEY; each run costs money.",
        aliases=("flux pro", "bfl", "api", *aliases),
        inputs=[prompt_input(), *inputs, *_bfl_inputs()],
        outputs=_bfl_outputs(),
    )


async def _bfl(
    endpoint: str,
    make: Callable[[dict[str, Any]], dict[str, Any]],
    *,
    prompt: str,
    seed: int,
    prompt_upsampling: bool,
    safety_tolerance: int,
    region: str,
    timeout: int,  # noqa: ASYNC109 - the widget's name; asyncio.timeout does the work
) -> io.NodeOutput:
    access = BFL.access()
    body = make(remote_bfl.common(prompt, seed, prompt_upsampling, safety_tolerance))
    remote_bfl.headers(access)  # a missing key is told before anything is asked
    result = await ask(
        remote_bfl.WHO,
        remote_bfl.hosts(access),
        access,
        timeout,
        lambda client: remote_bfl.run(client, access, region, endpoint, body, show_progress),
    )
    show_progress(result.report, 1.0)
    return io.NodeOutput(tensor([result.picture], remote_bfl.WHO), result.report)


class AtelierFluxPro(io.ComfyNode):
    """FLUX1.1 [pro] and its ultra mode."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        inputs = [
            io.Combo.Input(
                "model", options=list(remote_bfl.GENERATE), tooltip="Ultra gives 4 megapixels, the other 1."
            ),
            io.Combo.Input("aspect_ratio", options=list(RATIOS), tooltip="Width to height."),
            io.Boolean.Input("raw", default=False, tooltip="Less polished, more like a photograph (ultra only)."),
            io.Image.Input("image", optional=True, tooltip="A picture to start from in spirit (image prompt)."),
            io.Float.Input(
                "image_strength",
                default=0.1,
                min=0.0,
                max=1.0,
                step=0.01,
                optional=True,
                tooltip="How much that picture counts against the prompt (ultra only).",
            ),
        ]
        text = "A picture from a text by FLUX1.1 [pro]."
        return _bfl_schema("AtelierFluxPro", "FLUX.1 [pro]", text, inputs, "text to image", "ultra", "remote")

    @classmethod
    async def execute(
        cls, model: str, aspect_ratio: str, raw: bool, image: Any = None, image_strength: float = 0.1, **common: Any
    ) -> io.NodeOutput:
        picture = None if image is None else one(image, "image")
        ratio = (_RATIO_WORDS[aspect_ratio], RATIOS[aspect_ratio])
        return await _bfl(
            model,
            lambda shared: remote_bfl.generate_body(model, shared, ratio, raw, picture, image_strength),
            **common,
        )


class AtelierFluxProEdit(io.ComfyNode):
    """FLUX.1 Kontext [pro] and [max]."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        inputs = [
            io.Combo.Input("model", options=list(remote_bfl.EDIT), tooltip="Max follows longer instructions better."),
            io.Combo.Input(
                "aspect_ratio",
                options=[AS_PICTURE, *RATIOS],
                default=AS_PICTURE,
                tooltip="Width to height of the result.",
            ),
            io.Image.Input("image", optional=True, tooltip="The picture to edit; without one a picture is made."),
            *(
                io.Image.Input(f"image_{place}", optional=True, tooltip=f"Picture {place} to take things from.")
                for place in (2, 3, 4)
            ),
        ]
        text = "Edits a picture as a text says, by FLUX.1 Kontext [pro] or [max]."
        return _bfl_schema("AtelierFluxProEdit", "FLUX.1 Kontext [pro]", text, inputs, "kontext", "edit", "remote")

    @classmethod
    async def execute(
        cls,
        model: str,
        aspect_ratio: str,
        image: Any = None,
        image_2: Any = None,
        image_3: Any = None,
        image_4: Any = None,
        **common: Any,
    ) -> io.NodeOutput:
        given = {"image": image, "image_2": image_2, "image_3": image_3, "image_4": image_4}
        pictures = [one(picture, name) for name, picture in given.items() if picture is not None]
        ratio = None if aspect_ratio == AS_PICTURE else _RATIO_WORDS[aspect_ratio]
        return await _bfl(model, lambda shared: remote_bfl.edit_body(shared, ratio, pictures), **common)


def _steps(default: int, guidance: float, least: float) -> list[Any]:
    return [
        io.Int.Input("steps", default=default, min=15, max=50, tooltip="Sampling steps."),
        io.Float.Input(
            "guidance", default=guidance, min=least, max=100.0, step=0.5, tooltip="How strictly the prompt is followed."
        ),
    ]


class AtelierFluxProFill(io.ComfyNode):
    """FLUX.1 Fill [pro]."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        inputs = [
            io.Image.Input("image", tooltip="The picture."),
            io.Mask.Input("mask", tooltip="White where to draw anew; as large as the picture."),
            *_steps(50, 60.0, 1.5),
        ]
        text = "Draws a part of a picture anew, by FLUX.1 Fill [pro]."
        return _bfl_schema("AtelierFluxProFill", "FLUX.1 Fill [pro]", text, inputs, "inpaint", "fill", "remote")

    @classmethod
    async def execute(cls, image: Any, mask: Any, steps: int, guidance: float, **common: Any) -> io.NodeOutput:
        picture = one(image, "image")
        flat = mask.reshape(-1, *mask.shape[-2:])
        if flat.shape[0] != 1:
            raise NodeInputError(f"mask is a batch of {flat.shape[0]}; take one of them")
        area = flat[0].cpu().float().numpy()
        return await _bfl(
            remote_bfl.FILL, lambda shared: remote_bfl.fill_body(shared, picture, area, steps, guidance), **common
        )


class AtelierFluxProControl(io.ComfyNode):
    """FLUX.1 Canny [pro] and Depth [pro]."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        inputs = [
            io.Combo.Input("kind", options=list(remote_bfl.CONTROL), tooltip="Edges or depth steer the picture."),
            io.Image.Input("image", tooltip="The picture to take the map from, or the map itself."),
            io.Boolean.Input("is_map", default=False, tooltip="On: the picture is already a map of edges or depth."),
            io.Int.Input("low_threshold", default=50, min=0, max=500, tooltip="Weaker edges that count (canny)."),
            io.Int.Input("high_threshold", default=200, min=0, max=500, tooltip="Strong edges (canny)."),
            *_steps(50, 30.0, 1.0),
        ]
        text = "Lets edges or depth of a picture steer another, by FLUX.1 Canny [pro] or Depth [pro]."
        return _bfl_schema(
            "AtelierFluxProControl", "FLUX.1 Canny / Depth [pro]", text, inputs, "canny", "depth", "control", "remote"
        )

    @classmethod
    async def execute(
        cls,
        kind: str,
        image: Any,
        is_map: bool,
        low_threshold: int,
        high_threshold: int,
        steps: int,
        guidance: float,
        **common: Any,
    ) -> io.NodeOutput:
        picture = one(image, "image")
        edges = (low_threshold, high_threshold) if kind == "canny" else None
        return await _bfl(
            remote_bfl.CONTROL[kind],
            lambda shared: remote_bfl.control_body(shared, picture, is_map, steps, guidance, edges),
            **common,
        )


REMOTE_NODES: list[type[io.ComfyNode]] = [
    AtelierFluxPro,
    AtelierFluxProEdit,
    AtelierFluxProFill,
    AtelierFluxProControl,
]
