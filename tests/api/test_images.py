"""The guard: which pictures pass, as what, and that rubbish leaves the service unharmed."""

from __future__ import annotations

import io
import json
import os
import zlib

import pytest
from PIL import Image

from comfy_atelier.api.errors import ImageRefused
from comfy_atelier.api.images import ImageGuard, media_kind


@pytest.fixture
async def guard():
    made = ImageGuard()
    yield made
    await made.close()


def saved(picture: Image.Image, form: str, **options) -> bytes:
    out = io.BytesIO()
    picture.save(out, form, **options)
    return out.getvalue()


async def decoded(guard: ImageGuard, data: bytes) -> Image.Image:
    picture = Image.open(io.BytesIO((await guard.check(data)).png))
    picture.load()
    assert picture.format == "PNG"
    return picture


@pytest.mark.parametrize("form", ["PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF"])
async def test_every_supported_kind(guard, form):
    picture = await decoded(guard, saved(Image.new("RGB", (20, 10), (250, 10, 10)), form))
    assert picture.size == (20, 10)
    assert picture.mode == "RGB"
    assert max(abs(a - b) for a, b in zip(picture.getpixel((5, 5)), (250, 10, 10), strict=True)) < 8


async def test_metadata_does_not_pass(guard):
    from PIL.PngImagePlugin import PngInfo

    info = PngInfo()
    info.add_text("prompt", "secret")
    data = saved(Image.new("RGB", (4, 4)), "PNG", pnginfo=info) + b"PK\x03\x04 trailing"
    png = (await guard.check(data)).png
    assert b"secret" not in png
    assert b"trailing" not in png


async def test_upright_by_exif(guard):
    picture = Image.new("RGB", (20, 10), (0, 0, 0))
    picture.paste((255, 255, 255), (0, 0, 10, 10))  # left half white
    exif = Image.Exif()
    exif[0x0112] = 6  # turn 90 degrees clockwise: the left side becomes the top
    result = await decoded(guard, saved(picture, "JPEG", exif=exif, quality=95))
    assert result.size == (10, 20)
    assert result.getpixel((5, 3))[0] > 200
    assert result.getpixel((5, 17))[0] < 50


@pytest.mark.parametrize(
    ("picture", "mode", "pixel"),
    [
        (Image.new("CMYK", (4, 4), (255, 0, 0, 0)), "RGB", (0, 255, 255)),
        (Image.new("L", (4, 4), 77), "RGB", (77, 77, 77)),
        (Image.new("1", (4, 4), 1), "RGB", (255, 255, 255)),
        (Image.new("I;16", (4, 4), 0x8080), "RGB", (128, 128, 128)),
    ],
    ids=["cmyk", "grey", "bilevel", "grey16"],
)
async def test_modes(guard, picture, mode, pixel):
    result = await decoded(guard, saved(picture, "TIFF"))
    assert result.mode == mode
    assert max(abs(a - b) for a, b in zip(result.getpixel((1, 1)), pixel, strict=True)) <= 1


@pytest.mark.parametrize("mode", ["LA", "RGBA", "PA"])
async def test_transparency_stays(guard, mode):
    picture = Image.new("RGBA", (4, 4), (10, 20, 30, 128)).convert(mode if mode != "PA" else "RGBA")
    result = await decoded(guard, saved(picture, "PNG"))
    assert result.mode == "RGBA"
    assert result.getpixel((0, 0))[3] == 128


async def test_first_frame_of_an_animation(guard):
    frames = [Image.new("RGB", (4, 4), color) for color in ("red", "lime", "blue")]
    data = saved(frames[0], "GIF", save_all=True, append_images=frames[1:])
    picture = await guard.check(data)
    assert picture.frames == 3
    assert Image.open(io.BytesIO(picture.png)).convert("RGB").getpixel((0, 0)) == (255, 0, 0)


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "unsupported"),
        (b"<svg xmlns='http://www.w3.org/2000/svg'/>", "unsupported"),
        (b"ffconcat version 1.0\nfile other.png\n", "unsupported"),
        (b"%PDF-1.7", "unsupported"),
        (b"\0" * 65536, "unsupported"),
        (b"\x89PNG\r\n\x1a\n" + b"\0" * 100, "damaged"),
        (saved(Image.effect_noise((64, 64), 50), "PNG")[:900], "damaged"),
        (saved(Image.effect_noise((64, 64), 50), "JPEG")[:500], "damaged"),
        (b"GIF89a=1;alert(1)//", "damaged"),
    ],
)
async def test_refuses(guard, data, reason):
    with pytest.raises(ImageRefused) as caught:
        await guard.check(data)
    assert caught.value.reason == reason
    assert caught.value.remedy


async def test_a_wrong_checksum_is_damage(guard):
    data = bytearray(saved(Image.new("RGB", (8, 8), "red"), "PNG"))
    place = data.index(b"IDAT") + 4
    size = int.from_bytes(data[place - 8 : place - 4], "big")
    data[place + size] ^= 0xFF  # the checksum's first byte
    with pytest.raises(ImageRefused):
        await guard.check(bytes(data))


def huge_png(width: int, height: int) -> bytes:
    def chunk(kind: bytes, data: bytes) -> bytes:
        return len(data).to_bytes(4, "big") + kind + data + zlib.crc32(kind + data).to_bytes(4, "big")

    head = width.to_bytes(4, "big") + height.to_bytes(4, "big") + bytes([1, 0, 0, 0, 0])
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(b"\0")) + chunk(b"IEND", b"")


async def test_size_is_told_from_the_header():
    guard = ImageGuard(max_pixels=1_000_000, max_side=2000)
    try:
        for width, height in ((30_000, 30_000), (2001, 2), (1001, 1000)):
            with pytest.raises(ImageRefused) as caught:
                await guard.check(huge_png(width, height))
            assert caught.value.reason == "too-large"
            assert f"{width} x {height}" in caught.value.message
    finally:
        await guard.close()


async def test_a_child_that_dies_harms_only_its_picture(guard):
    good = saved(Image.new("RGB", (4, 4)), "PNG")
    await guard.check(good)
    (child,) = guard._idle
    child._process.kill()
    child._process.wait()
    assert (await guard.check(good)).width == 4


async def test_too_slow_is_refused(monkeypatch):
    guard = ImageGuard(seconds=0.2)
    try:
        await guard.check(saved(Image.new("RGB", (4, 4)), "PNG"))
        os.kill(guard._idle[0]._process.pid, 19) if hasattr(os, "kill") and os.name == "posix" else pytest.skip("POSIX")
        with pytest.raises(ImageRefused) as caught:
            await guard.check(saved(Image.new("RGB", (4, 4)), "PNG"))
        assert caught.value.reason == "too-slow"
        assert (await guard.check(saved(Image.new("RGB", (4, 4)), "PNG"))).width == 4
    finally:
        await guard.close()


def test_media_kinds():
    assert media_kind(b"\0\0\0\x20ftypisom....") == ("video", "video/mp4")
    assert media_kind(b"RIFF\0\0\0\0WAVEfmt ") == ("audio", "audio/wav")
    assert media_kind(b"\x1a\x45\xdf\xa3....") == ("video", "video/webm")
    assert media_kind(b"fLaC....") == ("audio", "audio/flac")
    assert media_kind(b"#EXTM3U\nhttp://x/") is None
    assert media_kind(b"ffconcat version 1.0") is None


async def test_hostile_uploads(guard, shared):
    folder = shared / "hostile" / "uploads"
    wrong = []
    for path in sorted(folder.glob("*.expect.json")):
        row = json.loads(path.read_text())
        data = (folder / row["file"]).read_bytes()
        try:
            picture = Image.open(io.BytesIO((await guard.check(data)).png)).convert("RGB")
        except ImageRefused as error:
            if row["expect"] == "accept":
                wrong.append((row["file"], str(error)))
            continue
        if row["expect"] == "reject":
            wrong.append((row["file"], "accepted"))
        if "decoded" in row:
            if list(picture.size) != row["decoded"]["size"]:
                wrong.append((row["file"], picture.size))
            for place, color in row["decoded"]["pixels"].items():
                got = picture.getpixel(tuple(int(step) for step in place.split(",")))
                if max(abs(a - b) for a, b in zip(got, color, strict=True)) > row["decoded"]["tolerance"]:
                    wrong.append((row["file"], place, got, color))
    assert wrong == []
