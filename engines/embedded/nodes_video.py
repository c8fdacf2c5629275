"""Videos from frames, and files of moving pictures, as ComfyUI 0.33.0 writes them.

Sources: ComfyUI ``comfy_extras/nodes_video.py``, ``nodes_images.py``, ``comfy_api/latest/_ui.py``.
"""

from __future__ import annotations

import io
import json
from collections.abc import Mapping
from fractions import Fraction
from typing import Any

import torch

from . import naming, videos
from .cache import Artifact
from .context import Context
from .problems import NodeProblem
from .registry import NodeGroup
from .videos import Video

NODES = NodeGroup()

WEBP_METHODS = {"default": 4, "fastest": 0, "slowest": 6}
EXIF_MODEL, EXIF_MAKE = 0x0110, 0x010F  # where ComfyUI puts the prompt, and from where down everything else


@NODES.node("CreateVideo")
def create_video(images: torch.Tensor, fps: float, audio: Any = None, bit_depth: int = 8) -> Video:
    """The frames as a video."""
    if audio is not None:
        raise NodeProblem("the embedded engine writes no sound", remedy="leave audio out, or run it on a ComfyUI")
    return Video(images=images, rate=Fraction(fps), bits=bit_depth)


@NODES.node("GetVideoComponents")
def video_components(video: Video) -> tuple[torch.Tensor, None, float, int, str]:
    """Frames, sound (there is none), frames a second, bits and colours of a video."""
    return video.images, None, float(video.rate), video.bits, "sRGB"


@NODES.node("SaveVideo", output_node=True, uses_prompt=True)
def save_video(
    video: Video, filename_prefix: str, format: Any = "auto", codec: Any = None, *, context: Context
) -> Video:
    """The video as a file with the prompt in its metadata."""
    container, inner = _choice(format, "format")
    name, options = _choice(inner.get("codec") or codec or "auto", "codec")
    _, encoding = _choice(options.get("encoding") or "auto", "encoding")
    colours = encoding.get("color_space")
    data, kind = videos.encode(
        video,
        container=container,
        codec=name,
        crf=encoding.get("crf"),
        colours=None if colours == "auto" else colours,
        metadata=context.run.metadata,
        between=context.check_cancelled,
    )
    _produce(data, video.images, filename_prefix, videos.MEDIA_TYPES[kind], f"_.{kind}", context)
    return video


@NODES.node("SaveWEBM", output_node=True, uses_prompt=True)
def save_webm(
    images: torch.Tensor, filename_prefix: str, codec: str, fps: float, crf: float, *, context: Context
) -> torch.Tensor:
    """The frames as a WebM file."""
    data = videos.encode_webm(
        Video(images=images, rate=Fraction(fps)),
        codec=codec,
        crf=crf,
        metadata=context.run.metadata,
        between=context.check_cancelled,
    )
    _produce(data, images, filename_prefix, "video/webm", "_.webm", context)
    return images


@NODES.node("SaveAnimatedWEBP", output_node=True, uses_prompt=True)
def save_webp(
    images: torch.Tensor,
    filename_prefix: str,
    fps: float,
    lossless: bool,
    quality: int,
    method: str,
    *,
    context: Context,
) -> torch.Tensor:
    """The frames as one WebP file that moves."""
    pictures = _pictures(images)
    exif = pictures[0].getexif()
    tag = EXIF_MAKE
    for name, value in context.run.metadata.items():
        if name == "prompt":
            exif[EXIF_MODEL] = f"prompt:{json.dumps(value)}"
        else:
            exif[tag] = f"{name}:{json.dumps(value)}"
            tag -= 1
    out = io.BytesIO()
    pictures[0].save(
        out,
        format="WEBP",
        save_all=True,
        duration=int(1000.0 / fps),
        append_images=pictures[1:],
        exif=exif,
        lossless=lossless,
        quality=quality,
        method=WEBP_METHODS[method],
    )
    _produce(out.getvalue(), images, filename_prefix, "image/webp", "_.webp", context)
    return images


@NODES.node("SaveAnimatedPNG", output_node=True, uses_prompt=True)
def save_apng(
    images: torch.Tensor, fps: float, compress_level: int, filename_prefix: str = "ComfyUI", *, context: Context
) -> torch.Tensor:
    """The frames as one PNG file that moves."""
    from PIL import PngImagePlugin

    info = PngImagePlugin.PngInfo()
    for name, value in context.run.metadata.items():
        chunk = name.encode("latin-1", "strict") + b"\0" + json.dumps(value).encode("latin-1", "strict")
        info.add(b"comf", chunk, after_idat=True)
    pictures = _pictures(images)
    out = io.BytesIO()
    pictures[0].save(
        out,
        format="PNG",
        pnginfo=info,
        compress_level=compress_level,
        save_all=True,
        duration=int(1000.0 / fps),
        append_images=pictures[1:],
    )
    _produce(out.getvalue(), images, filename_prefix, "image/png", "_.png", context)
    return images


def _choice(value: Any, name: str) -> tuple[str, Mapping[str, Any]]:
    """What a choice with inputs of its own says, and those inputs; a prompt may also give the bare word."""
    if isinstance(value, Mapping):
        return str(value.get(name, "auto")), value
    return str(value), {}


def _pictures(images: torch.Tensor) -> list[Any]:
    from PIL import Image

    values = (images.float().cpu() * 255.0).clamp(0, 255).byte().numpy()
    return [Image.fromarray(frame) for frame in values]


def _produce(
    data: bytes, images: torch.Tensor, filename_prefix: str, media_type: str, suffix: str, context: Context
) -> None:
    rows, columns = images.shape[1:3]
    prefix = naming.clean(naming.expand(filename_prefix, width=columns, height=rows, now=context.run.now))
    context.produce(Artifact(kind="images", media_type=media_type, data=data, prefix=prefix, suffix=suffix))
