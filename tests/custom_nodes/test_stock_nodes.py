"""Our loader and sampler give the pixels that ComfyUI's own nodes give when wired by hand, for every family."""

from __future__ import annotations

import os

import by_hand_cases
import pytest
from real_comfyui import Server
from run_workflows import pixels

from comfy_atelier.graph import NodeSchemas, Prompt, check_prompt

SCHEMAS = NodeSchemas.builtin("0.33.0")


@pytest.mark.comfyui
@pytest.mark.slow
@pytest.mark.skipif(os.name == "nt", reason="the models are sparse files, and the checkout is linked, on POSIX only")
@pytest.mark.parametrize("name", by_hand_cases.CASES)
def test_the_pixels_are_those_of_stock_nodes(name: str, tiny_comfyui: Server) -> None:
    ours, by_hand = by_hand_cases.prompts(name)
    first, second = (pixels(tiny_comfyui.files(tiny_comfyui.run(prompt))) for prompt in (ours, by_hand))
    assert first == second


@pytest.mark.parametrize("name", by_hand_cases.CASES)
def test_the_other_prompt_has_stock_nodes_only(name: str) -> None:
    ours, by_hand = by_hand_cases.prompts(name)
    for prompt in (ours, by_hand):
        check_prompt(Prompt.from_json(prompt), SCHEMAS)
    assert any(node["class_type"].startswith("AtelierLoad") for node in ours.values())
    assert not any(node["class_type"].startswith("Atelier") for node in by_hand.values())
