"""The markers as a real ComfyUI has them: ids, widgets, outputs, and that values pass through."""

from __future__ import annotations

import io
import json
import re
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

ROOT = Path(__file__).parent.parent.parent
CONTRACT = {
    "AtelierInputText": (["name", "value", "multiline", "description"], ["STRING"]),
    "AtelierInputInteger": (["name", "value", "minimum", "maximum", "step", "description"], ["INT"]),
    "AtelierInputNumber": (["name", "value", "minimum", "maximum", "step", "description"], ["FLOAT"]),
    "AtelierInputSwitch": (["name", "value", "description"], ["BOOLEAN"]),
    "AtelierInputChoice": (["name", "value", "choices", "description"], ["COMBO"]),
    "AtelierInputImage": (["name", "image", "required", "description"], ["IMAGE", "MASK"]),
    "AtelierInputMask": (["name", "image", "channel", "required", "description"], ["MASK"]),
    "AtelierInputFile": (["name", "path", "required", "description"], ["STRING"]),
    "AtelierOutputImage": (["images", "name", "description"], []),
    "AtelierOutputVideo": (["video", "name", "description"], []),
    "AtelierOutputText": (["text", "name", "description"], []),
    "AtelierOutputFile": (["path", "name", "description"], []),
}
"""DESIGN, "Marker nodes": the contract with graph/markers.py."""

pytestmark = pytest.mark.comfyui


def node(class_type: str, **inputs: Any) -> dict[str, Any]:
    return {"class_type": class_type, "inputs": inputs}


def picture(path: Path, *, alpha: bool) -> None:
    image = Image.linear_gradient("L").resize((48, 32))
    channels = [image, image.rotate(180), image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)]
    Image.merge("RGBA" if alpha else "RGB", [*channels, image] if alpha else channels).save(path)


@pytest.mark.parametrize("name", CONTRACT)
def test_the_contract_of_the_markers(comfyui: Any, name: str) -> None:
    info = comfyui.get(f"/object_info/{name}")[name]
    widgets, outputs = CONTRACT[name]
    assert info["input_order"]["required"] == widgets
    assert "optional" not in info["input_order"]
    assert info["output"] == outputs
    assert info["output_node"] is name.startswith("AtelierOutput")
    assert info["category"] == "Atelier/interface"


def test_the_shipped_table_says_what_the_server_says(comfyui: Any) -> None:
    from comfy_atelier.graph.schemas import NodeSchemas

    table = ROOT / "graph" / "tables" / "atelier.json"
    if not table.is_file():
        pytest.skip("graph/tables/atelier.json does not exist yet")
    shipped = NodeSchemas.from_file(table)
    live = NodeSchemas.from_object_info(comfyui.get("/object_info"))
    assert set(shipped) == {name for name in live if name.startswith("Atelier")}
    for name in shipped:
        mine, theirs = shipped[name], live[name]
        assert [(i.name, i.type, i.required, i.default) for i in mine.inputs] == [
            (i.name, i.type, i.required, i.default) for i in theirs.inputs
        ], name
        assert [(o.name, o.type) for o in mine.outputs] == [(o.name, o.type) for o in theirs.outputs]


def test_start_up_is_quiet(comfyui: Any) -> None:
    log = comfyui.log.read_text(encoding="utf-8", errors="replace").split("To see the GUI go to")[0]
    ours = [line for line in log.splitlines() if "atelier" in line.lower()]
    assert ours
    assert not [line for line in ours if re.search("warn|error|fail|skip|cannot", line, re.IGNORECASE)]


def test_values_pass_through(comfyui: Any) -> None:
    picture(comfyui.base / "input" / "marker.png", alpha=True)
    prompt = {
        "1": node("AtelierInputImage", name="photo", image="marker.png", required=True, description=""),
        "2": node("AtelierInputInteger", name="width", value=24, minimum=8, maximum=64, step=8, description=""),
        "3": node("AtelierInputChoice", name="filter", value="area", choices="area\nbilinear", description=""),
        "4": node("ImageScale", image=["1", 0], upscale_method=["3", 0], width=["2", 0], height=16, crop="disabled"),
        "5": node("AtelierOutputImage", images=["4", 0], name="small", description=""),
        "6": node("LoadImage", image="marker.png"),
        "7": node("ImageScale", image=["6", 0], upscale_method="area", width=24, height=16, crop="disabled"),
        "8": node("PreviewImage", images=["7", 0]),
        "9": node("AtelierInputMask", name="m", image="marker.png", channel="red", required=False, description=""),
        "10": node("MaskToImage", mask=["9", 0]),
        "11": node("AtelierOutputImage", images=["10", 0], name="mask", description=""),
    }
    small, mask, stock = _pictures(comfyui, prompt, ("5", "11", "8"))
    assert small.size == (24, 16)
    assert small.tobytes() == stock.tobytes()
    assert mask.getchannel("R").tobytes() == Image.open(comfyui.base / "input" / "marker.png").getchannel("R").tobytes()


def _pictures(comfyui: Any, prompt: dict[str, Any], nodes: tuple[str, ...]) -> list[Image.Image]:
    entry = comfyui.run(prompt)
    assert entry["status"]["status_str"] == "success", entry["status"]
    found = []
    for name in nodes:
        file = entry["outputs"][name]["images"][0]
        data = comfyui.bytes(f"/view?filename={file['filename']}&subfolder={file['subfolder']}&type={file['type']}")
        found.append(Image.open(io.BytesIO(data)))
    return found


def test_texts_pass_through(comfyui: Any) -> None:
    prompt = {
        "1": node("AtelierInputText", name="prompt", value="a red fox", multiline=True, description=""),
        "2": node("AtelierOutputText", text=["1", 0], name="said", description=""),
        "3": node("AtelierInputFile", name="table", path="a/b.csv", required=False, description=""),
        "4": node("AtelierOutputFile", path=["3", 0], name="back", description=""),
    }
    outputs = comfyui.run(prompt)["outputs"]
    assert outputs["2"]["text"] == ["a red fox"]
    assert outputs["4"]["text"] == ["a/b.csv"]


@pytest.mark.parametrize(
    ("marker", "message"),
    [
        (
            node("AtelierInputInteger", name="steps", value=90, minimum=1, maximum=50, step=1, description=""),
            "input 'steps': 90 is not between 1 and 50",
        ),
        (
            node("AtelierInputChoice", name="look", value="blue", choices="red\ngreen", description=""),
            "input 'look': 'blue' is none of its choices (red, green)",
        ),
    ],
)
def test_a_value_outside_its_own_bounds_is_an_error(comfyui: Any, marker: dict[str, Any], message: str) -> None:
    entry = comfyui.run({"1": marker, "2": node("PreviewAny", source=["1", 0])})
    assert message in json.dumps(entry["status"], ensure_ascii=False)
