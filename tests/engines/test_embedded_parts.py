"""Small parts of the embedded engine: frames, cache, names, expressions, memory, signatures."""

from __future__ import annotations

import asyncio
import io
import time
from typing import Any

import pytest

from comfy_atelier.engines import (
    Cancelled,
    EngineError,
    InvalidPrompt,
    NodeError,
    NodeFailed,
    OutOfMemory,
    Produced,
    UnknownNodes,
    WorkerLost,
)
from comfy_atelier.engines.embedded import frames, memory, naming, wire
from comfy_atelier.engines.embedded.cache import Artifact, NodeCache, Result, size_of
from comfy_atelier.engines.embedded.expressions import evaluate
from comfy_atelier.engines.embedded.problems import NodeProblem, NotEnoughMemory
from comfy_atelier.engines.embedded.signatures import sign
from comfy_atelier.graph import Link, PromptNode

NOW = time.struct_time((2026, 11, 2, 3, 4, 5, 0, 306, 0))


def test_frames_come_out_as_they_went_in() -> None:
    sent: list[tuple[dict[str, Any], bytes]] = [
        ({"a": [1, "ü", None]}, b""),
        ({}, b"\0picture"),
        ({"s": "\ud800"}, b"x"),
    ]
    stream = io.BytesIO(b"".join(frames.pack(message, payload) for message, payload in sent))
    assert [frames.read(stream) for _ in sent] == sent
    assert frames.read(stream) is None


@pytest.mark.parametrize(
    "data",
    [b"hello world, this is a print", b"\0\0\0\5\0\0\0\0{}", b"\0\0\0\2\0\0\0\0[]", b"\0\0\0\3\0\0\0\0{x}", b"\0\0"],
)
async def test_what_is_no_frame_is_an_error(data: bytes) -> None:
    with pytest.raises(frames.FrameError):
        frames.read(io.BytesIO(data))
    reader = asyncio.StreamReader()
    reader.feed_data(data)
    reader.feed_eof()
    with pytest.raises(frames.FrameError):
        await frames.read_async(reader)


@pytest.mark.parametrize(
    "error",
    [
        Cancelled("gone"),
        WorkerLost("lost", remedy="again"),
        UnknownNodes("lacks", classes=["A", "B"], remedy="point"),
        InvalidPrompt("wrong", errors=[NodeError(node_id="1", class_type="X", message="m", input_name="i")]),
        NodeFailed("failed", node_id="7", class_type="Y", exception_type="E", traceback="T", remedy="r"),
        OutOfMemory("full", node_id="7", class_type="Y"),
    ],
)
def test_errors_cross_the_pipe_whole(error: EngineError) -> None:
    back = wire.error_from_json(frames.unpack(frames.pack(wire.error_to_json(error))[8:]))
    assert type(back) is type(error)
    assert vars(back) == vars(error)


def test_events_cross_the_pipe_whole() -> None:
    event = Produced(
        node="1", output="images", index=2, media_type="image/png", data=b"x", filename="a.png", temporary=True
    )
    assert wire.event_from_json(*wire.event_to_json(event)) == event


def test_the_least_recently_used_leaves_first() -> None:
    cache = NodeCache(limit=3 * size_of(Result(outputs=(["x" * 1000],))))
    for name in "abc":
        cache.put(name, Result(outputs=(["x" * 1000],)))
    assert cache.get("a") is not None
    cache.put("d", Result(outputs=(["x" * 1000],)))
    assert [name for name in "abcd" if name in cache] == ["a", "c", "d"]
    cache.put("e", Result(outputs=(["x" * 100_000],)))
    assert [name for name in "abcde" if name in cache] == ["a", "c", "d"], "what alone is too large throws nothing out"
    assert cache.clear() > 0
    assert cache.used == 0


def test_a_slice_counts_with_all_that_it_holds() -> None:
    torch = pytest.importorskip("torch")
    whole = torch.zeros(1000, 1000)
    assert size_of(whole[:1]) == whole.untyped_storage().nbytes()
    assert size_of([whole, whole[0], whole.T]) < whole.untyped_storage().nbytes() + 1000
    assert size_of(Artifact(kind="images", media_type="image/png", data=bytes(5000))) >= 5000


@pytest.mark.parametrize(
    ("prefix", "expanded"),
    [
        ("ComfyUI", "ComfyUI"),
        ("%width%x%height%", "640x480"),
        ("%year%-%month%-%day%/%hour%%minute%%second%", "2026-11-02/030405"),
        ("%date:yyyy%", "%date:yyyy%"),
        ("a//b/./c", "a/b/c"),
        ("a/../b", "b"),
        ("", ""),
    ],
)
def test_prefixes_are_expanded_and_kept_inside(prefix: str, expanded: str) -> None:
    assert naming.clean(naming.expand(prefix, width=640, height=480, now=NOW)) == expanded


@pytest.mark.parametrize("prefix", ["../x", "a/../../x", "/abs", "\\\\host\\share", "C:\\x", "x\0y", "..\\x"])
def test_prefixes_that_lead_out_are_refused(prefix: str) -> None:
    with pytest.raises(NodeProblem, match="output folder"):
        naming.clean(prefix)


def test_names_count_for_each_prefix() -> None:
    names = naming.Names()
    made = [names.next(prefix, "_.png") for prefix in ("a", "b/a", "a", "b/a")]
    assert made == ["a_00001_.png", "b/a_00001_.png", "a_00002_.png", "b/a_00002_.png"]
    assert names.next("x%batch_num%", "_.png", batch=3) == "x3_00001_.png"
    assert names.next("a", "_.png", temporary=True) == "a_00001_.png"


@pytest.mark.parametrize(
    ("expression", "value"),
    [
        ("a + b * 2", 7.0),
        ("a // 2 - -b", 3.0),
        ("max(a, b, 10) if a < b else min(values)", 2),
        ("2 ** 10", 1024),
        ("not a or b", 2),
        ("0 < a < 5 and b in values", True),
        ("sum(values) + sum(1, 2)", 8.0),
        ("round(7 / 3, 2)", 2.33),
    ],
)
def test_expressions_have_values(expression: str, value: float) -> None:
    assert evaluate(expression, {"a": 3.0, "b": 2, "values": [3.0, 2]}) == value


@pytest.mark.parametrize(
    "expression",
    [
        "",
        "a +",
        "c",
        "1 / 0",
        "'text'",
        "().__class__",
        "a.real",
        "open('x')",
        "__import__('os')",
        "[x for x in values]",
        "lambda: 1",
        "9 ** 99999",
        "(9 ** 4000) ** 4000",
        "values",
        "1 if",
        "(" * 500,
        "1 + " * 5000,
        "abs(a, b)",
        "pow(2, 10 ** 9)",
    ],
)
def test_expressions_without_a_number_are_refused(expression: str) -> None:
    with pytest.raises(NodeProblem):
        evaluate(expression, {"a": 3.0, "b": 2, "values": [3.0, 2]})


def test_a_result_beyond_memory_is_refused_before_it_is_made(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "available", lambda: 10**9)
    memory.check_room((1, 1000, 1000, 3))
    with pytest.raises(NotEnoughMemory, match="1 x 100000 x 100000 x 3 needs"):
        memory.check_room((1, 100_000, 100_000, 3))
    monkeypatch.setattr(memory, "available", lambda: None)
    memory.check_room((1, 100_000, 100_000, 3))


def test_free_memory_is_known_here() -> None:
    assert (memory.available() or 0) > 0


def test_signatures_cover_values_and_ancestors_and_nothing_else() -> None:
    def chain(first: Any, *, title: str | None = None) -> dict[str, str | None]:
        return sign(
            {
                "a": PromptNode(class_type="A", inputs={"x": first}, title=title),
                "b": PromptNode(class_type="B", inputs={"y": Link("a", 0), "z": "text"}),
            },
            {},
            {},
        )

    assert chain(1) == chain(1, title="named")
    assert chain(1)["b"] != chain(2)["b"]
    assert chain(1)["a"] != chain(1.0)["a"]
    assert chain(float("nan")) == {"a": None, "b": None}
    assert sign({"a": PromptNode(class_type="A")}, {"a": "digest"}, {}) != sign(
        {"a": PromptNode(class_type="A")}, {}, {}
    )
