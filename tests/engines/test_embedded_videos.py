"""Files of moving pictures: what is in them, in which format, and what is refused."""

from __future__ import annotations

import io
import json
import threading
from fractions import Fraction
from typing import Any

import pytest

torch = pytest.importorskip("torch", reason="the embedded engine needs torch")
av = pytest.importorskip("av")

from PIL import Image  # noqa: E402

from comfy_atelier.engines import Event, Produced  # noqa: E402
from comfy_atelier.engines.embedded import inputs, nodes_video, videos  # noqa: E402 # needs torch
from comfy_atelier.engines.embedded.context import Context, Run  # noqa: E402
from comfy_atelier.engines.embedded.problems import NodeProblem  # noqa: E402
from comfy_atelier.engines.embedded.registry import SCHEMAS_OF  # noqa: E402
from comfy_atelier.engines.embedded.videos import Video  # noqa: E402
from comfy_atelier.graph import NodeSchemas, Prompt  # noqa: E402

METADATA = {"prompt": {"1": {"class_type": "SaveVideo"}}, "workflow": {"nodes": []}}


def frames(count: int = 4, rows: int = 32, columns: int = 48, channels: int = 3) -> Any:
    """Each frame of one grey, from dark to light."""
    return torch.linspace(0.1, 0.9, count).reshape(-1, 1, 1, 1).expand(count, rows, columns, channels)


def context() -> tuple[Context, list[Event]]:
    told: list[Event] = []
    run = Run(emit=told.append, cancelled=threading.Event(), metadata=METADATA)
    return Context(run, "7", "SaveVideo"), told


def read(data: bytes) -> tuple[Any, list[Any]]:
    with av.open(io.BytesIO(data)) as file:
        stream = file.streams.video[0]
        facts = {
            "codec": stream.codec_context.name,
            "pixels": stream.codec_context.pix_fmt,
            "rate": stream.average_rate,
            "curve": int(stream.codec_context.color_trc),
            "metadata": dict(file.metadata),
        }
        return facts, [frame.to_ndarray(format="rgb24") for frame in file.decode(stream)]


@pytest.mark.parametrize(
    ("container", "codec", "bits", "colours", "found", "pixels", "curve"),
    [
        ("auto", "auto", 8, None, "h264", "yuv420p", 13),
        ("mkv", "h264", 10, None, "h264", "yuv420p10le", 13),
        ("mp4", "h264", 8, "HDR", "h264", "yuv420p10le", 18),
        ("webm", "auto", 8, None, "av1", "yuv420p", 13),
    ],
)
def test_frames_come_back_as_they_went_in(
    container: str, codec: str, bits: int, colours: str | None, found: str, pixels: str, curve: int
) -> None:
    video = Video(images=frames(), rate=Fraction(6), bits=bits)
    data, kind = videos.encode(video, container=container, codec=codec, colours=colours, crf=10.0, metadata=METADATA)
    facts, decoded = read(data)
    assert kind == ("mp4" if container == "auto" else container)
    assert found in facts["codec"]
    assert (facts["pixels"], facts["rate"], facts["curve"]) == (pixels, 6, curve)
    tags = {name.casefold(): value for name, value in facts["metadata"].items()}
    assert json.loads(tags["prompt"]) == METADATA["prompt"]
    assert len(decoded) == 4
    greys = [float(frame.mean()) / 255 for frame in decoded]
    assert greys == pytest.approx([0.1, 0.3667, 0.6333, 0.9], abs=0.02)


def test_the_same_frames_give_the_same_bytes() -> None:
    video = Video(images=frames(), rate=Fraction(24))
    assert videos.encode(video) == videos.encode(video)


def test_the_index_lies_in_front() -> None:
    data, _ = videos.encode(Video(images=frames(), rate=Fraction(24)))
    assert data.index(b"moov") < data.index(b"mdat")


def test_what_no_file_can_hold_is_refused() -> None:
    with pytest.raises(NodeProblem, match="odd side"):
        videos.encode(Video(images=frames(rows=31), rate=Fraction(6)))
    with pytest.raises(NodeProblem, match="AV1 codec only"):
        videos.encode(Video(images=frames(), rate=Fraction(6)), container="webm", codec="h264")


def test_a_cancelled_run_stops_between_frames() -> None:
    seen = []

    def stop() -> None:
        seen.append(1)
        if len(seen) == 2:
            raise InterruptedError

    with pytest.raises(InterruptedError):
        videos.encode(Video(images=frames(), rate=Fraction(6)), between=stop)


def test_a_saved_video_has_a_name_and_a_type() -> None:
    place, told = context()
    video = nodes_video.create_video(frames(), 6.0)
    assert nodes_video.save_video(video, "clip/%width%", {"format": "mp4", "codec": "auto"}, context=place) is video
    (made,) = told
    assert isinstance(made, Produced)
    assert (made.filename, made.media_type) == ("clip/48_00001_.mp4", "video/mp4")


def test_choices_within_choices_reach_the_node() -> None:
    schema = NodeSchemas.builtin(SCHEMAS_OF)["SaveVideo"]
    given = {
        "video": ["1", 0],
        "filename_prefix": "x",
        "format": "mkv",
        "format.codec": "h264",
        "format.codec.encoding": "re-encode",
        "format.codec.encoding.crf": 7,
        "format.codec.encoding.color_space": "HDR",
    }
    node = Prompt.from_json({"7": {"class_type": "SaveVideo", "inputs": given}}).nodes["7"]
    prepared = inputs.prepare(node, schema)
    values = inputs.grouped(prepared.node.inputs, prepared.groups)
    assert values["format"] == {
        "format": "mkv",
        "codec": {"codec": "h264", "encoding": {"encoding": "re-encode", "crf": 7.0, "color_space": "HDR"}},
    }
    place, told = context()
    nodes_video.save_video(nodes_video.create_video(frames(), 6.0), "x", values["format"], context=place)
    assert isinstance(told[0], Produced)
    assert isinstance(told[0].data, bytes)
    facts, _ = read(told[0].data)
    assert facts["pixels"] == "yuv420p10le"


@pytest.mark.parametrize(("codec", "channels", "found"), [("vp9", 4, "vp9"), ("vp9", 3, "vp9"), ("av1", 3, "av1")])
def test_webm(codec: str, channels: int, found: str) -> None:
    place, told = context()
    nodes_video.save_webm(frames(channels=channels), "x", codec, 12.0, 20.0, context=place)
    assert isinstance(told[0], Produced)
    assert isinstance(told[0].data, bytes)
    facts, decoded = read(told[0].data)
    assert found in facts["codec"]
    assert len(decoded) == 4


def test_moving_webp_and_png_keep_frames_and_prompt() -> None:
    place, told = context()
    nodes_video.save_webp(frames(), "x", 8.0, True, 80, "fastest", context=place)
    nodes_video.save_apng(frames(), 8.0, 4, "x", context=place)
    for made, kind in zip(told, ("WEBP", "PNG"), strict=True):
        assert isinstance(made, Produced)
        assert isinstance(made.data, bytes)
        with Image.open(io.BytesIO(made.data)) as picture:
            assert (picture.format, getattr(picture, "n_frames", 1), picture.size) == (kind, 4, (48, 32))
            picture.seek(1)
            picture.load()  # a WebP says how long a frame lasts once it is read
            assert picture.info["duration"] == 125
            if kind == "WEBP":
                assert picture.getexif()[0x0110] == f"prompt:{json.dumps(METADATA['prompt'])}"
        if kind == "PNG":
            assert b"comf" + b"prompt\0" + json.dumps(METADATA["prompt"]).encode() in made.data


def test_sound_is_refused_in_words() -> None:
    with pytest.raises(NodeProblem, match="no sound"):
        nodes_video.create_video(frames(), 6.0, audio={"waveform": None})
