"""Every curated workflow runs to a picture on a real ComfyUI on the CPU with tiny random models, and two prompts (and
two pictures) give two pictures. The table of them: ``python benchmarks/run_workflows.py``.
"""

from __future__ import annotations

import os
from io import BytesIO
from pathlib import Path

import pytest
import run_workflows
from PIL import Image
from real_comfyui import Server

from comfy_atelier.graph import NodeSchemas

FILES = run_workflows.ordered((Path(__file__).parent.parent / "workflows").glob("*.json"))


@pytest.mark.comfyui
@pytest.mark.slow
@pytest.mark.skipif(os.name == "nt", reason="the models are sparse files, and the checkout is linked, on POSIX only")
@pytest.mark.parametrize("path", FILES, ids=[path.stem for path in FILES])
def test_it_runs_to_a_picture_and_follows_its_inputs(path: Path, tiny_comfyui: Server) -> None:
    result = run_workflows.try_workflow(tiny_comfyui, path, NodeSchemas.builtin(tiny_comfyui.version))
    assert not result.problem
    assert not result.warned


def test_a_run_that_ignores_its_inputs_is_found_out() -> None:
    grey = run_workflows.pixels
    with pytest.raises(run_workflows.RunError, match="nothing was saved"):
        grey([])
    plain, drawn = BytesIO(), BytesIO()
    Image.new("RGB", (8, 8), "grey").save(plain, "PNG")
    Image.linear_gradient("L").convert("RGB").save(drawn, "PNG")
    with pytest.raises(run_workflows.RunError, match="of one colour"):
        grey([plain.getvalue()])
    assert grey([drawn.getvalue()]) == grey([drawn.getvalue()])
