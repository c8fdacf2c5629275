"""Picture files, read into arrays with the pixels that ComfyUI 0.33.0 gives.

ComfyUI 0.33.0 decodes with PyAV (FFmpeg) and falls back to Pillow where that gives no frame (an animated WebP, a
cut-off file). So do we, with the same conversions, but never by opening a path: FFmpeg's demuxers follow what is
written in a file (``ffconcat``, HLS, DASH) to other files and hosts. The kind is told from the first bytes, the decoder
is named, and the bytes come from memory.

ComfyUI 0.3.64 reads everything with Pillow. The two differ: 0.33.0 turns by EXIF but does not mirror (orientations 2,
4, 5, 7), takes the first page of a TIFF, gives palette pictures and lossless WebP a mask of their own size, and
converts 16-bit, CMYK, grey-with-alpha and YUV by FFmpeg's arithmetic (some by up to 1/256).
"""

from __future__ import annotations

import io
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any, cast

import av
import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFile, ImageOps, ImageSequence, UnidentifiedImageError

from .memory import available, check_room
from .problems import NodeProblem, NotEnoughMemory

Pixels = NDArray[np.float32]

MAXIMUM_SIDE = 16384  # pixels; ComfyUI's own limit for the sides of an image (nodes.py, MAX_RESOLUTION)
MAXIMUM_FILE = 1024**3  # bytes
BYTES_A_PIXEL = 48  # decoded frame, its conversion to 32-bit floats, and the stacked result
READABLE = "PNG, JPEG, WebP, GIF, AVIF, BMP, TIFF, JPEG 2000, PNM, PCX or TGA"

# Pixel formats whose 8-bit values ComfyUI divides by 255; all others go through FFmpeg's conversion to floats.
EXACT_FORMATS = frozenset({"yuvj420p", "yuvj422p", "yuvj444p", "rgb24", "rgba", "pal8"})


@dataclass(frozen=True, kw_only=True, slots=True)
class Picture:
    """A decoded picture file.

    Attributes:
        pixels: [frames, height, width, 3] in 0..1.
        alpha: [frames, height, width] in 0..1; None where the file has none.
    """

    pixels: Pixels
    alpha: Pixels | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Kind:
    """A picture format, by FFmpeg's and Pillow's names."""

    decoder: str
    pillow: str
    demuxer: str | None = None  # where a file may hold several frames


_STARTS: tuple[tuple[bytes, Kind], ...] = (
    (b"\xff\xd8\xff", Kind(decoder="mjpeg", pillow="JPEG")),
    (b"GIF87a", Kind(decoder="gif", demuxer="gif", pillow="GIF")),
    (b"GIF89a", Kind(decoder="gif", demuxer="gif", pillow="GIF")),
    (b"BM", Kind(decoder="bmp", pillow="BMP")),
    (b"II*\0", Kind(decoder="tiff", pillow="TIFF")),
    (b"MM\0*", Kind(decoder="tiff", pillow="TIFF")),
    (b"\0\0\0\x0cjP  \r\n\x87\n", Kind(decoder="jpeg2000", pillow="JPEG2000")),
    (b"\xff\x4f\xff\x51", Kind(decoder="jpeg2000", pillow="JPEG2000")),
    (b"\n\x05\x01\x08", Kind(decoder="pcx", pillow="PCX")),
    *((magic, Kind(decoder="ppm", pillow="PPM")) for magic in (b"P3\n", b"P6\n", b"P3 ", b"P6 ")),
    *((magic, Kind(decoder="pgm", pillow="PPM")) for magic in (b"P2\n", b"P5\n", b"P2 ", b"P5 ")),
    *((magic, Kind(decoder="pbm", pillow="PPM")) for magic in (b"P1\n", b"P4\n", b"P1 ", b"P4 ")),
)
_PNG = Kind(decoder="png", pillow="PNG")
_APNG = Kind(decoder="apng", demuxer="apng", pillow="PNG")
_WEBP = Kind(decoder="webp", pillow="WEBP")
_AVIF = Kind(decoder="libdav1d", demuxer="mov", pillow="AVIF")
_TGA = Kind(decoder="targa", pillow="TGA")


def kind_of(data: bytes, suffix: str = "") -> Kind | None:
    """The format by the first bytes (TGA, which has no mark, by the file's suffix); None for what is no picture."""
    if data.startswith(b"\x89PNG\r\n\x1a\n"):
        animated = data.find(b"acTL", 0, 4096)
        return _APNG if 0 <= animated < data.find(b"IDAT") else _PNG
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        return _WEBP
    if data[4:8] == b"ftyp" and data[8:12] in (b"avif", b"avis"):
        return _AVIF
    if suffix.lower() == ".tga" and len(data) > 18 and data[1] in (0, 1) and data[2] in (1, 2, 3, 9, 10, 11):
        return _TGA
    return next((kind for start, kind in _STARTS if data.startswith(start)), None)


def read_picture(path: Path, name: str = "") -> Picture:
    """Decode a picture file, every frame of it.

    Args:
        name: what the prompt calls the file; `path` may be one of another name.

    Raises:
        NodeProblem: it is none, is broken, or is too large.
    """
    try:
        if path.stat().st_size > MAXIMUM_FILE:
            raise NodeProblem(f"the input file is larger than {MAXIMUM_FILE >> 30} GB", remedy="hand in a smaller one")
        data = path.read_bytes()
    except OSError as error:
        raise NodeProblem(f"the input file cannot be read: {error.strerror}", remedy="hand it in again") from error
    kind = kind_of(data, Path(name or path.name).suffix)
    if kind is None:
        raise NodeProblem("the input file is no picture that can be read", remedy=f"hand in a {READABLE} file")
    try:
        picture = _with_ffmpeg(data, kind)
        return _with_pillow(data, kind) if picture is None else picture
    except av.error.FFmpegError as error:
        raise _broken(kind, error) from error
    except Image.DecompressionBombError as error:
        raise _too_large() from error
    except (UnidentifiedImageError, OSError, ValueError, SyntaxError, EOFError) as error:
        raise _broken(kind, error) from error


def _broken(kind: Kind, error: Exception) -> NodeProblem:
    if "too large" in str(error) or "max_pixels" in str(error):
        return _too_large()
    return NodeProblem(f"the input file is a damaged {kind.pillow} picture", remedy="hand in a whole one")


def _too_large() -> NodeProblem:
    return NotEnoughMemory(
        f"the picture is too large (sides up to {MAXIMUM_SIDE} pixels, as far as memory goes)",
        remedy="hand in a smaller one",
    )


def _maximum_pixels() -> int:
    free = available()
    return min(MAXIMUM_SIDE * MAXIMUM_SIDE, MAXIMUM_SIDE**2 if free is None else free // BYTES_A_PIXEL)


def _with_ffmpeg(data: bytes, kind: Kind) -> Picture | None:
    """The frames as ``VideoFromFile.get_components`` converts them; None where FFmpeg finds no frame."""
    conversion: _Conversion | None = None
    pixels: list[Pixels] = []
    alphas: list[Pixels] = []
    for frame in _frames(data, kind):
        if conversion is None:
            conversion = _Conversion(frame)
        array = conversion(frame)
        pixels.append(array[..., :3])
        if conversion.alpha:
            alphas.append(array[..., 3])
    if conversion is None:
        return None
    if len({frame.shape for frame in pixels}) > 1:
        raise NodeProblem("the frames of the input file differ in size", remedy="hand in frames of one size")
    finish = conversion.finish
    return Picture(pixels=finish(np.stack(pixels)), alpha=finish(np.stack(alphas)) if conversion.alpha else None)


def _frames(data: bytes, kind: Kind) -> Iterator[av.VideoFrame]:
    options = {"max_pixels": str(_maximum_pixels())}
    if kind.demuxer is None:
        decoder: Any = av.CodecContext.create(kind.decoder, "r")  # its stubs know decode() on the children only
        decoder.options = options
        for part in (av.Packet(data), None):
            try:
                yield from decoder.decode(part)
            except av.error.InvalidDataError:
                _check_size(decoder)
        return
    with av.open(io.BytesIO(data), mode="r", format=kind.demuxer) as container:
        if not container.streams.video:
            return
        stream = container.streams.video[0]
        stream.codec_context.options = options
        packets = list(container.demux(stream))
        _check_frames(stream, sum(1 for packet in packets if packet.size))
        for packet in packets:
            try:
                yield from packet.decode()
            except av.error.InvalidDataError:
                continue


def _check_size(decoder: Any) -> None:
    """A size beyond the limit is reported as broken data: tell the two apart."""
    width, height = int(decoder.width or 0), int(decoder.height or 0)
    if max(width, height) > MAXIMUM_SIDE or width * height > _maximum_pixels():
        raise _too_large()


def _check_frames(stream: Any, frames: int) -> None:
    _check_size(stream.codec_context)
    check_room((max(1, frames), int(stream.codec_context.height), int(stream.codec_context.width), 4), copies=3)


class _Conversion:
    """From FFmpeg's frames to arrays, decided by the first frame as ComfyUI decides it."""

    def __init__(self, first: av.VideoFrame) -> None:
        name = first.format.name
        self.alpha = name == "pal8" or any(part.is_alpha for part in first.format.components)
        self._exact = name in EXACT_FORMATS
        if self._exact:
            self._format = "rgba" if self.alpha else "rgb24"
        else:
            self._format = "gbrapf32le" if self.alpha else "gbrpf32le"
        self._align: _Alignment | None = None

    def __call__(self, frame: av.VideoFrame) -> NDArray[Any]:
        if max(frame.width, frame.height) > MAXIMUM_SIDE:
            raise _too_large()
        if self._exact or frame.width % 32 == 0 or not _Alignment.fits(frame):
            array = frame.to_ndarray(format=self._format)
        else:
            if self._align is None:
                self._align = _Alignment(frame)
            whole = self._align(frame).to_ndarray(format=self._format)
            array = whole[: frame.height, : frame.width]
        if frame.rotation:
            array = np.rot90(array, k=round(frame.rotation // 90), axes=(0, 1))
        return np.ascontiguousarray(array)

    def finish(self, array: NDArray[Any]) -> Pixels:
        return array.astype(np.float32) / np.float32(255.0) if self._exact else array.astype(np.float32, copy=False)


class _Alignment:
    """Fills frames up to multiples of 32 by repeating their edge: FFmpeg's floats read beyond other widths."""

    def __init__(self, first: av.VideoFrame) -> None:
        width, height = -(-first.width // 32) * 32, -(-first.height // 32) * 32
        self._graph = graph = av.filter.Graph()  # kept, because its parts do not keep it
        self._source = graph.add_buffer(
            width=first.width, height=first.height, format=first.format, time_base=Fraction(1, 25)
        )
        room = graph.add("pad", f"{width}:{height}:0:0")
        edges = f"left=0:right={width - first.width}:top=0:bottom={height - first.height}:mode=smear"
        fill = graph.add("fillborders", edges)
        self._sink = graph.add("buffersink")
        self._source.link_to(room)
        room.link_to(fill)
        fill.link_to(self._sink)
        graph.configure()

    @staticmethod
    def fits(frame: av.VideoFrame) -> bool:
        """Whether FFmpeg can fill the frame up: not by more than half of it (0.33.0 fails then)."""
        return all(2 * (-side % 32) <= side + -side % 32 for side in (frame.width, frame.height))

    def __call__(self, frame: av.VideoFrame) -> av.VideoFrame:
        self._source.push(frame)
        return cast(av.VideoFrame, self._sink.pull())


def _with_pillow(data: bytes, kind: Kind) -> Picture:
    """The frames as ComfyUI's fallback reads them: turned and mirrored by EXIF, a cut-off file as far as it goes."""
    pixels: list[Pixels] = []
    alphas: list[Pixels] = []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of sizes, which are checked below, and of broken metadata, which nobody needs
        with Image.open(io.BytesIO(data), formats=[kind.pillow]) as file:
            if max(file.size) > MAXIMUM_SIDE or file.width * file.height > _maximum_pixels():
                raise _too_large()
            check_room((getattr(file, "n_frames", 1), file.height, file.width, 4), copies=3)
            for frame in ImageSequence.Iterator(file):
                upright = _upright(frame)
                colour = np.asarray(upright.convert("RGB"), dtype=np.float32) / np.float32(255.0)
                if pixels and colour.shape != pixels[0].shape:
                    continue
                pixels.append(colour)
                if "A" in upright.getbands():
                    alphas.append(np.asarray(upright.getchannel("A"), dtype=np.float32) / np.float32(255.0))
    whole = len(alphas) == len(pixels)
    return Picture(pixels=np.stack(pixels), alpha=np.stack(alphas) if whole else None)


def _upright(frame: Image.Image) -> Image.Image:
    try:
        return ImageOps.exif_transpose(frame)
    except (OSError, ValueError):
        before = ImageFile.LOAD_TRUNCATED_IMAGES
        ImageFile.LOAD_TRUNCATED_IMAGES = True
        try:
            return ImageOps.exif_transpose(frame)
        finally:
            ImageFile.LOAD_TRUNCATED_IMAGES = before
