"""Picture files: what is read, what is refused, and that nothing else is opened."""

from __future__ import annotations

from pathlib import Path

import pytest

pytest.importorskip("torch", reason="the embedded engine needs torch")
np = pytest.importorskip("numpy")

from PIL import Image  # noqa: E402

from comfy_atelier.engines.embedded import pictures  # noqa: E402 # needs what importorskip looks for
from comfy_atelier.engines.embedded.pictures import kind_of, read_picture  # noqa: E402
from comfy_atelier.engines.embedded.problems import NodeProblem, NotEnoughMemory  # noqa: E402

INPUTS = Path(__file__).parents[1] / "data" / "parity" / "inputs"


@pytest.mark.parametrize("path", sorted(INPUTS.iterdir()), ids=lambda path: path.name)
def test_the_kind_is_told_by_the_first_bytes(path: Path) -> None:
    kind = kind_of(path.read_bytes())
    if path.name == "no-picture.png":
        assert kind is None
        return
    with Image.open(path) as file:
        assert kind is not None
        assert kind.pillow == file.format


def test_frames_and_alpha() -> None:
    assert read_picture(INPUTS / "animated.gif").pixels.shape == (3, 16, 24, 3)
    assert read_picture(INPUTS / "animated.webp").pixels.shape == (3, 16, 24, 3)
    alpha = read_picture(INPUTS / "alpha.png").alpha
    assert alpha is not None
    assert alpha.shape == (1, 16, 24)
    assert read_picture(INPUTS / "wide.png").alpha is None


def test_sixteen_bits_are_not_cut_to_eight(tmp_path: Path) -> None:
    Image.fromarray(np.array([[257 * 100 + 128]], dtype=np.uint16)).save(tmp_path / "x.png")
    value = float(read_picture(tmp_path / "x.png").pixels[0, 0, 0, 0])
    assert value == pytest.approx((257 * 100 + 128) / 65535, abs=1e-4)


@pytest.mark.parametrize(
    "text",
    [
        "ffconcat version 1.0\nfile 'secret.png'\n",
        "#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\nsecret.png\n",
        "v=0\no=- 0 0 IN IP4 127.0.0.1\n",
        '<?xml version="1.0"?><MPD/>',
        "<svg xmlns='http://www.w3.org/2000/svg'/>",
        "%!PS-Adobe-3.0 EPSF-3.0",
        "%PDF-1.7",
        "",
    ],
)
def test_what_is_no_picture_is_refused_and_leads_nowhere(
    tmp_path: Path, text: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    Image.new("RGB", (4, 4)).save(tmp_path / "secret.png")
    for name in ("x.png", "x.ffconcat", "x.m3u8", "x.tga"):
        (tmp_path / name).write_text(text)
        with pytest.raises(NodeProblem, match="no picture"):
            read_picture(tmp_path / name)


def test_a_missing_file_and_a_folder_are_errors(tmp_path: Path) -> None:
    for path in (tmp_path / "gone.png", tmp_path):
        with pytest.raises(NodeProblem, match="cannot be read"):
            read_picture(path)


@pytest.mark.parametrize(
    ("name", "cut"),
    [("wide.png", 20), ("photo-420.jpg", 100), ("lossy.webp", 30), ("animated.gif", 20), ("plain.tif", 9)],
)
def test_damaged_files_are_errors(tmp_path: Path, name: str, cut: int) -> None:
    (tmp_path / name).write_bytes((INPUTS / name).read_bytes()[:cut])
    with pytest.raises(NodeProblem, match="damaged"):
        read_picture(tmp_path / name)


def test_a_cut_off_file_is_read_as_far_as_it_goes_as_in_comfyui() -> None:
    assert read_picture(INPUTS / "cut-off.png").pixels.shape == (1, 9, 13, 3)


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "BMP", "GIF"])
def test_pictures_beyond_the_largest_side_are_refused_by_their_header(tmp_path: Path, kind: str) -> None:
    Image.new("RGB", (17_000, 3)).save(tmp_path / "x", format=kind)
    with pytest.raises(NotEnoughMemory, match=r"too large|needs"):
        read_picture(tmp_path / "x")


def test_many_frames_are_counted_before_they_are_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    frames = [Image.new("P", (1200, 1200), value) for value in range(40)]
    frames[0].save(tmp_path / "x.gif", save_all=True, append_images=frames[1:])
    monkeypatch.setattr(pictures, "available", lambda: 10**9)
    monkeypatch.setattr("comfy_atelier.engines.embedded.memory.available", lambda: 10**9)
    with pytest.raises(NotEnoughMemory, match="40 x 1200 x 1200"):
        read_picture(tmp_path / "x.gif")
