"""Tokens in sections: as ComfyUI 0.33.0 lays them out. Recorded by ``tests/data/parity/record_tokens.py``."""

from __future__ import annotations

import json
import lzma
from pathlib import Path
from typing import Any

import pytest

from comfy_atelier.engines.embedded.families.tokens import Layout, sections

np = pytest.importorskip("numpy")

RECORD = Path(__file__).parents[1] / "data" / "parity" / "tokens.json.xz"
RECORDED: dict[str, Any] = json.loads(lzma.decompress(RECORD.read_bytes()))
LAYOUTS = {
    "clip": Layout(start=1, end=2, pad=2, length=20, full=True),
    "clip_zero": Layout(start=1, end=2, pad=0, length=20, full=True),
    "t5": Layout(end=2, pad=0, least=24),
    "t5_short": Layout(end=2, pad=0, length=12, least=12),
    "qwen": Layout(pad=9, least=1),
    "llama": Layout(start=1, pad=9, least=16),
}
EMBEDDINGS = {"word": np.array([[0.5, 0.0], [1.5, 0.0]]), "line": np.array([2.5, 0.0])}


def letters(text: str) -> list[int]:
    return [ord(letter) for letter in text if letter != " "]


@pytest.mark.parametrize("name", RECORDED["layouts"])
def test_sections_are_comfyuis(name: str) -> None:
    layout = LAYOUTS[name.removesuffix(" plain")]
    for text, expected in zip(RECORDED["texts"], RECORDED["layouts"][name], strict=True):
        found = sections(text, letters, layout, weighted=not name.endswith("plain"), embedding=EMBEDDINGS.get)
        plain = [[[token if isinstance(token, int) else token[0], weight] for token, weight in row] for row in found]
        assert plain == expected, text


def test_without_a_place_for_embeddings_the_word_is_text() -> None:
    assert sections("embedding:x", letters, Layout(pad=0)) == [[(token, 1.0) for token in letters("embedding:x")]]


def test_an_embedding_without_a_name_is_nothing() -> None:
    assert sections("embedding:", letters, Layout(pad=0), embedding=EMBEDDINGS.get) == [[]]
