"""A widget without a saved value whose choices are a server's files: known with its schemas, else an error."""

from __future__ import annotations

import pytest

from comfy_atelier.graph import ConversionError, NodeSchemas, Workflow, convert

INFO = {
    "LoadImage": {
        "input": {"required": {"image": [["a.png", "b.png"], {"image_upload": True}]}},
        "output": ["IMAGE", "MASK"],
        "output_name": ["IMAGE", "MASK"],
    }
}


def workflow(values: list[object]) -> Workflow:
    node = {"id": 7, "type": "LoadImage", "mode": 0, "inputs": [], "outputs": [], "order": 0, "widgets_values": values}
    return Workflow.from_json({"nodes": [node], "links": [], "version": 0.4})


def test_a_saved_value_needs_no_list() -> None:
    for version in ("0.3.64", "0.33.0"):
        prompt = convert(workflow(["mine.png", "image"]), NodeSchemas.builtin(version))
        assert prompt.nodes["7"].inputs["image"] == "mine.png"


def test_without_a_value_the_servers_first_file_is_sent() -> None:
    assert convert(workflow([]), NodeSchemas.from_object_info(INFO)).nodes["7"].inputs["image"] == "a.png"


@pytest.mark.parametrize("version", ["0.3.64", "0.33.0"])
def test_without_a_value_and_without_a_server_it_is_an_error(version: str) -> None:
    with pytest.raises(ConversionError, match=r"node 7 \(LoadImage\), input 'image': no value was saved") as caught:
        convert(workflow([]), NodeSchemas.builtin(version))
    assert "--comfyui URL" in str(caught.value)
