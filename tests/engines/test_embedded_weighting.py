"""Weights in prompts against what ComfyUI 0.33.0's own functions gave.

Recorded by ``tests/data/parity/record_sampling.py``.
"""

from __future__ import annotations

import json
import lzma
from pathlib import Path

import pytest

from comfy_atelier.engines.embedded.problems import NodeProblem
from comfy_atelier.engines.embedded.weighting import DEEPEST, weighted_parts

RECORD = Path(__file__).parents[1] / "data" / "parity" / "sampling.json.xz"
RECORDED: list[tuple[str, list[list[object]]]] = json.loads(lzma.decompress(RECORD.read_bytes()))["weights"]


def test_parts_and_weights_are_those_of_comfyui() -> None:
    assert len(RECORDED) > 400
    for prompt, parts in RECORDED:
        assert [list(part) for part in weighted_parts(prompt)] == parts, prompt


def test_a_long_prompt_is_read_at_once() -> None:
    text = "(a:1.1) " * 12_500
    parts = weighted_parts(text)
    assert len(parts) == 25_000
    assert parts[0] == ("a", 1.1)


def test_endless_nesting_is_refused() -> None:
    assert weighted_parts("(" * 50 + "x" + ")" * 50)[0][0] == "x"
    with pytest.raises(NodeProblem, match="nested"):
        weighted_parts("(" * (DEEPEST + 1) + "x" + ")" * (DEEPEST + 1))


def test_an_opening_without_an_end_is_text() -> None:
    assert weighted_parts("(" * 100_000) == [("(" * 100_000, 1.0)]
