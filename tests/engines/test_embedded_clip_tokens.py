"""CLIP's tokens against ComfyUI 0.33.0's own, and how a prompt is cut into sections."""

from __future__ import annotations

import json
import threading
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("torch", reason="the embedded engine needs torch")

from comfy_atelier.engines.embedded.context import Run  # needs torch
from comfy_atelier.engines.embedded.families import clip, clip_tokenizer
from comfy_atelier.engines.embedded.problems import NodeProblem

RECORDED: list[Any] = json.loads(
    (Path(__file__).parents[1] / "data" / "parity" / "clip_tokens.json").read_text(encoding="utf-8")
)
needs_vocabulary = pytest.mark.skipif(clip_tokenizer.vocabulary_path() is None, reason="CLIP's vocabulary is not there")


@needs_vocabulary
@pytest.mark.parametrize("number", range(len(RECORDED)))
def test_tokens_are_comfyuis(number: int) -> None:
    text, expected = RECORDED[number]
    assert clip_tokenizer.clip_tokenizer()(text) == expected


@needs_vocabulary
def test_a_long_prompt_goes_on_in_further_sections_and_keeps_short_words_whole() -> None:
    sections = clip.tokenized("word " * 100 + "(strong:1.5)")
    assert [len(section) for section in sections] == [77, 77]
    assert all(section[0] == (clip.START, 1.0) for section in sections)
    assert [weight for section in sections for _, weight in section].count(1.5) == 1


@needs_vocabulary
def test_a_prompt_of_a_hundred_thousand_letters_is_cut_too() -> None:
    sections = clip.tokenized("a fox, " * 14286)
    assert len(sections) > 500
    assert {len(section) for section in sections} == {77}


@needs_vocabulary
def test_an_embedding_takes_its_vectors_and_leaves_the_rest() -> None:
    import torch

    vectors = torch.arange(6.0).reshape(2, 3)
    (section,) = clip.tokenized(
        "a embedding:style, cat", embeddings=lambda name: {"": vectors} if name == "style" else None
    )
    tokens = [token for token, _ in section]
    assert sum(1 for token in tokens if not isinstance(token, int)) == 2
    (plain,) = clip.tokenized("a , cat")
    numbers = [token for token in tokens if isinstance(token, int)]
    assert numbers[:4] == [token for token, _ in plain][:4]


def test_a_vocabulary_that_is_none_says_so(tmp_path: Path) -> None:
    path = tmp_path / "merges.txt"
    path.write_text("#version\na b\n", encoding="utf-8")
    with pytest.raises(NodeProblem, match="not whole"):
        clip_tokenizer.read_merges(path)


@needs_vocabulary
def test_the_vocabulary_may_lie_in_a_models_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = clip_tokenizer.vocabulary_path()
    assert path is not None
    folder = tmp_path / "tokenizers" / "clip"
    folder.mkdir(parents=True)
    (folder / path.name).write_bytes(path.read_bytes())
    wanted = clip.tokenized("a (red:1.3) barn")
    monkeypatch.setattr(clip_tokenizer.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(NodeProblem, match="vocabulary is not there"):
        clip.tokenized("a barn")
    run = Run(emit=lambda event: None, cancelled=threading.Event(), model_folders=[tmp_path])
    assert clip.tokenized("a (red:1.3) barn", run=run) == wanted
