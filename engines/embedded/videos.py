"""Videos: what a VIDEO wire carries, and how it becomes a file.

Sources: ComfyUI 0.33.0 ``comfy_api/latest/_input_impl/video_types.py`` (`VideoFromComponents.save_to`) and
``comfy_extras/nodes_video.py``: containers, codecs, colours and metadata are as there.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import torch

from .problems import NodeProblem

ENCODERS = {"h264": "h264", "av1": "libsvtav1"}
CONTAINERS = {"mp4": "mp4", "mkv": "matroska", "webm": "webm"}
MEDIA_TYPES = {"mp4": "video/mp4", "mkv": "video/x-matroska", "webm": "video/webm"}
BT709, BT2020 = (1, 1), (9, 9)  # primaries and matrix, as ITU-T H.273 numbers them
CURVES = {"sRGB": 13, "HDR": 18, "HDR PQ": 16}  # transfer characteristics of H.273
STUDIO_RANGE = 1


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Video:
    """Frames float32 [frames, height, width, 3] in 0..1, how many a second, and with how many bits they are written."""

    images: torch.Tensor
    rate: Fraction
    bits: int = 8


def encode(
    video: Video,
    *,
    container: str = "auto",
    codec: str = "auto",
    crf: float | None = None,
    colours: str | None = None,
    metadata: Mapping[str, Any] | None = None,
    between: Callable[[], None] = lambda: None,
) -> tuple[bytes, str]:
    """The file's bytes and its container ("mp4"…).

    Args:
        container, codec: "auto" is MP4 with H.264 (WebM: AV1).
        crf: quality, lower is better; None leaves it to the codec.
        colours: "sRGB", "HDR" or "HDR PQ": what the frames are in already.
        metadata: JSON by name.
        between: called before each frame; may raise to stop.

    Raises:
        NodeProblem: container and codec do not go together, the size is odd, or PyAV lacks the codec.
    """
    container = "mp4" if container == "auto" else container
    codec = ("av1" if container == "webm" else "h264") if codec == "auto" else codec
    if container == "webm" and codec != "av1":
        raise NodeProblem("a WebM file takes the AV1 codec only", remedy="choose codec 'av1' or another format")
    colours = colours or "sRGB"
    deep = video.bits >= 10 or colours != "sRGB"
    pixels = "yuv420p10le" if deep else "yuv420p"

    def prepared(frame: torch.Tensor) -> Any:
        import av

        values = frame[..., :3].float().cpu() * (65535 if deep else 255)
        made: Any
        if deep:
            array = values.clamp(0, 65535).numpy().astype("uint16")
            made = av.VideoFrame.from_ndarray(array, format="rgb48le")
        else:
            made = av.VideoFrame.from_ndarray(values.clamp(0, 255).byte().numpy(), format="rgb24")
        made = made.reformat(format=pixels, dst_colorspace=(BT709 if colours == "sRGB" else BT2020)[1])
        _paint(made, colours)
        return made

    options: dict[str, str] = {}
    if crf is not None:
        options = {"svtav1-params": "lossless=1"} if codec == "av1" and crf == 0 else {"crf": str(crf)}
    settings = {"format": CONTAINERS[container]}
    flags = {"options": {"movflags": "use_metadata_tags+faststart"}} if container == "mp4" else {}
    data = _written(
        video,
        encoder=ENCODERS[codec],
        pixels=pixels,
        options=options,
        prepared=prepared,
        opened={**settings, **flags},
        metadata=metadata or {},
        between=between,
        dress=lambda stream: _paint(stream.codec_context, colours),
    )
    return data, container


def encode_webm(
    video: Video, *, codec: str, crf: float, metadata: Mapping[str, Any], between: Callable[[], None]
) -> bytes:
    """A WebM file: "vp9" (pictures with a fourth channel keep it as transparency) or "av1".

    Source: ComfyUI ``nodes_video.py``, `SaveWEBM`. Raises `NodeProblem` as `encode` does.
    """
    transparent = video.images.shape[-1] == 4 and codec == "vp9"
    options = {"crf": str(crf), **({"preset": "6"} if codec == "av1" else {})}

    def prepared(frame: torch.Tensor) -> Any:
        import av

        array = (frame[..., : 4 if transparent else 3].float().cpu() * 255).clamp(0, 255).byte().numpy()
        return av.VideoFrame.from_ndarray(array, format="rgba" if transparent else "rgb24")

    def dress(stream: Any) -> None:
        stream.bit_rate = 0

    return _written(
        video,
        encoder={"vp9": "libvpx-vp9", "av1": "libsvtav1"}[codec],
        pixels="yuva420p" if transparent else "yuv420p10le" if codec == "av1" else "yuv420p",
        options=options,
        prepared=prepared,
        opened={"format": "webm"},
        metadata=metadata,
        between=between,
        dress=dress,
    )


def _written(
    video: Video,
    *,
    encoder: str,
    pixels: str,
    options: Mapping[str, str],
    prepared: Callable[[torch.Tensor], Any],
    opened: Mapping[str, Any],
    metadata: Mapping[str, Any],
    between: Callable[[], None],
    dress: Callable[[Any], None],
) -> bytes:
    import av

    rows, columns = video.images.shape[1:3]
    if rows % 2 or columns % 2:
        raise NodeProblem(
            f"a video of {columns} x {rows} has an odd side, which its pixel format cannot hold",
            remedy="scale or crop the frames to even sides",
        )
    if encoder not in av.codecs_available:
        raise NodeProblem(f"PyAV here has no encoder {encoder!r}", remedy="choose another codec, or install its wheel")
    with tempfile.TemporaryDirectory(prefix="atelier-video-") as folder:
        path = Path(folder, "video")  # a file: the index can only be put in front in one
        with av.open(str(path), mode="w", **opened) as output:
            for name, value in metadata.items():
                output.metadata[name] = json.dumps(value)
            rate = Fraction(round(video.rate * 1000), 1000)
            stream: Any = output.add_stream(encoder, rate=rate)
            stream.width, stream.height, stream.pix_fmt = columns, rows, pixels
            stream.options = dict(options)
            dress(stream)
            for frame in video.images:
                between()
                output.mux(stream.encode(prepared(frame)))
            output.mux(stream.encode(None))
        return path.read_bytes()


def _paint(target: Any, colours: str) -> None:
    """Say what the colours mean."""
    primaries, matrix = BT709 if colours == "sRGB" else BT2020
    target.color_primaries = primaries
    target.color_trc = CURVES[colours]
    target.colorspace = matrix
    target.color_range = STUDIO_RANGE
