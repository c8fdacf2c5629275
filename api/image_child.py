"""The child process that reads pictures of strangers: decodes, checks and re-encodes to PNG, with little memory and
time.

Run as a script, with nothing of this package imported: a decoder's flaw or a bomb ends this process and no other.
Frames
on stdin and stdout are ``<JSON length: 4 bytes><data length: 8 bytes><JSON><data>``, big endian.
"""

from __future__ import annotations

import io
import json
import struct
import sys
import warnings
from typing import IO, Any, Literal

FORMATS = ("PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF", "AVIF")
MEMORY_BYTES = 1 << 30  # address space of this process
HEAD = struct.Struct(">IQ")
FRAMES_FACTOR = 20  # all frames together may have so many times the pixels of one picture of the largest size
MAX_FRAMES = 10_000


class Refused(Exception):
    """The picture is not taken: (reason, message)."""


def main() -> None:
    """Answer one request after the other until stdin ends."""
    stdin, stdout = sys.stdin.buffer, sys.stdout.buffer
    _load_decoders()
    _limit()
    while True:
        frame = read_frame(stdin)
        if frame is None:
            return
        request, data = frame
        try:
            answer, result = recode(data, max_pixels=request["max_pixels"], max_side=request["max_side"])
        except Refused as refused:
            answer, result = {"reason": refused.args[0], "message": refused.args[1]}, b""
        except MemoryError:
            answer, result = {"reason": "too-large", "message": "it needs too much memory to be decoded"}, b""
        write_frame(stdout, answer, result)


def read_frame(stream: IO[bytes]) -> tuple[dict[str, Any], bytes] | None:
    """The next frame; None at the end."""
    head = stream.read(HEAD.size)
    if len(head) < HEAD.size:
        return None
    meta_size, data_size = HEAD.unpack(head)
    meta = stream.read(meta_size)
    data = stream.read(data_size)
    if len(meta) < meta_size or len(data) < data_size:
        return None
    loaded: dict[str, Any] = json.loads(meta)
    return loaded, data


def write_frame(stream: IO[bytes], meta: dict[str, Any], data: bytes) -> None:
    """Send a frame."""
    encoded = json.dumps(meta).encode()
    stream.write(HEAD.pack(len(encoded), len(data)))
    stream.write(encoded)
    stream.write(data)
    stream.flush()


def recode(data: bytes, *, max_pixels: int, max_side: int) -> tuple[dict[str, Any], bytes]:
    """The picture's first frame, upright, as an 8-bit PNG of RGB or RGBA with nothing else in it; and what it was.

    Raises:
        Refused: not a picture of `FORMATS`, too large by its header or by all its frames, damaged, or cut short.
    """
    from PIL import Image, ImageOps

    Image.MAX_IMAGE_PIXELS = None  # our own limits follow, from the header alone
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            picture = Image.open(io.BytesIO(data), formats=FORMATS)
        except MemoryError:
            raise
        except Exception as error:
            kind = "damaged" if known_magic(data) else "unsupported"
            raise Refused(kind, _why_not(kind)) from error
        try:
            width, height = picture.size
            _check_size(width, height, max_pixels, max_side)
            frames = int(getattr(picture, "n_frames", 1))
            if frames > MAX_FRAMES or frames * width * height > FRAMES_FACTOR * max_pixels:
                raise Refused("too-large", f"{frames} frames of {width} x {height} are too much")
            if picture.format == "PNG":
                Image.open(io.BytesIO(data), formats=["PNG"]).verify()  # every chunk's checksum; load() skips some
            if picture.format == "TIFF" and not pages_end(data):
                raise Refused("damaged", "its list of pages never ends")
            picture.seek(0)
            picture.load()
            form = str(picture.format)
            upright = ImageOps.exif_transpose(picture)
            flat = eight_bit(upright)
            out = io.BytesIO()
            flat.save(out, "PNG", compress_level=1)
        except (Refused, MemoryError):
            raise
        except Exception as error:
            raise Refused("damaged", _why_not("damaged")) from error
    answer = {"width": flat.width, "height": flat.height, "frames": frames, "format": form, "mode": flat.mode}
    return answer, out.getvalue()


def pages_end(data: bytes) -> bool:
    """Whether the chain of a TIFF's directories comes to its end (Pillow takes a loop for one)."""
    order: Literal["little", "big"] = "little" if data[:2] == b"II" else "big"
    seen: set[int] = set()
    place = int.from_bytes(data[4:8], order)
    while place:
        if place in seen or place + 2 > len(data) or len(seen) > MAX_FRAMES:
            return False
        seen.add(place)
        after = place + 2 + 12 * int.from_bytes(data[place : place + 2], order)
        place = int.from_bytes(data[after : after + 4], order)
    return True


def eight_bit(picture: Any) -> Any:
    """RGB, or RGBA where the picture has any transparency, of 8 bits; deeper greys are scaled, not cut off."""
    if picture.mode in {"RGB", "RGBA"}:
        if "transparency" in picture.info:
            picture = picture.convert("RGBA")
        clean = picture.copy()
        clean.info = {}
        return clean
    if picture.mode.startswith("I") or picture.mode == "F":  # 16 and 32 bit greys
        picture = _grey(picture)
    has_alpha = "A" in picture.getbands() or "a" in picture.getbands() or "transparency" in picture.info
    clean = picture.convert("RGBA" if has_alpha else "RGB")
    clean.info = {}
    return clean


def _grey(picture: Any) -> Any:
    """A deep grey as 8 bits: 16-bit values by 1/257; 32-bit ones and floats by the range they show."""
    if picture.mode.startswith("I;16"):
        return picture.convert("I").point(lambda value: value * (1 / 257) + 0.5).convert("L")
    low, high = picture.getextrema()
    if low >= 0 and high <= 1 and picture.mode == "F":
        scale = 255.0
    elif low >= 0 and high <= 255:
        scale = 1.0
    elif low >= 0 and high <= 65535:
        scale = 1 / 257
    else:
        raise Refused("unsupported", "a grey picture of more than 16 bits; save it with 8 or 16 bits a pixel")
    return picture.point(lambda value: value * scale + (0.0 if picture.mode == "F" else 0.5)).convert("L")


def known_magic(data: bytes) -> bool:
    """Whether the first bytes are those of a format that is taken, so that a failure means damage."""
    return (
        data.startswith((b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff", b"GIF87a", b"GIF89a", b"BM", b"II*\x00", b"MM\x00*"))
        or (data[:4] == b"RIFF" and data[8:12] == b"WEBP")
        or (data[4:8] == b"ftyp" and data[8:12] in {b"avif", b"avis"})
    )


def _check_size(width: int, height: int, max_pixels: int, max_side: int) -> None:
    if width < 1 or height < 1:
        raise Refused("damaged", "it has no pixels")
    if width > max_side or height > max_side or width * height > max_pixels:
        raise Refused(
            "too-large",
            f"{width} x {height} pixels; at most {max_pixels / 1e6:g} megapixels and {max_side} a side are taken",
        )


def _why_not(kind: str) -> str:
    if kind == "damaged":
        return "the picture is damaged or cut short"
    return f"not a picture of a supported kind ({', '.join(FORMATS)})"


def _load_decoders() -> None:
    """Import every decoder now: afterwards there is neither memory nor a file handle for it."""
    from PIL import (  # noqa: F401  # imported for what they register
        BmpImagePlugin,
        GifImagePlugin,
        Image,
        ImageOps,
        JpegImagePlugin,
        MpoImagePlugin,
        PngImagePlugin,
        TiffImagePlugin,
        WebPImagePlugin,
    )

    try:
        from PIL import AvifImagePlugin  # Pillow 11.3 and later

        AvifImagePlugin.DEFAULT_MAX_THREADS = 1  # threads count as processes for RLIMIT_NPROC
    except ImportError:
        pass
    Image.preinit()


def _limit() -> None:
    """No more memory than a large picture needs, no files, no core; what the system cannot limit, the parent's clock
    does."""
    try:
        import resource
    except ImportError:  # Windows
        return
    limits = {"RLIMIT_AS": MEMORY_BYTES, "RLIMIT_FSIZE": 0, "RLIMIT_CORE": 0, "RLIMIT_NOFILE": 8, "RLIMIT_NPROC": 0}
    for name, value in limits.items():
        kind = getattr(resource, name, None)
        if kind is None:
            continue
        try:
            _, hard = resource.getrlimit(kind)
            resource.setrlimit(kind, (value if hard == resource.RLIM_INFINITY else min(value, hard), hard))
        except (OSError, ValueError):
            continue  # the platform has the name but not the limit (macOS: RLIMIT_AS)


if __name__ == "__main__":
    main()
