"""A bound prompt has the callers' values, no marker, the same stock nodes, and is one that a server takes."""

import json
import random
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from comfy_atelier.graph import (
    BindError,
    Bound,
    InputRef,
    Interface,
    NodeSchemas,
    Prompt,
    bind,
    check_prompt,
    find_interface,
)
from comfy_atelier.graph.markers import is_marker

SCHEMAS = NodeSchemas.builtin()


def node(class_type: str, title: str = "", /, **inputs: Any) -> dict[str, Any]:
    return {"class_type": class_type, "inputs": inputs} | ({"_meta": {"title": title}} if title else {})


def bound(nodes: dict[str, Any], **values: Any) -> Bound:
    """The prompt bound by its own interface; what comes out passes `check_prompt`."""
    prompt = Prompt.from_json(nodes)
    result = bind(prompt, find_interface(prompt, SCHEMAS), values)
    assert not any(is_marker(n.class_type) for n in result.prompt.nodes.values())
    check_prompt(result.prompt, SCHEMAS)
    assert Prompt.from_json(json.loads(json.dumps(result.prompt.to_json()))) == result.prompt
    return result


def inputs_of(result: Bound, node_id: str) -> dict[str, Any]:
    return dict(result.prompt.to_json()[node_id]["inputs"])


def ours() -> dict[str, Any]:
    """Every kind of our markers, each used."""
    return {
        "t": node("AtelierInputText", name="caption", value="hi", multiline=False, description=""),
        "i": node("AtelierInputInteger", name="radius", value=3, minimum=1, maximum=31, step=1, description=""),
        "n": node("AtelierInputNumber", name="sigma", value=1, minimum=0.1, maximum=5.0, step=0.1, description=""),
        "s": node("AtelierInputSwitch", name="flip", value=False, description=""),
        "c": node("AtelierInputChoice", name="method", value="area", choices="area\nlanczos", description=""),
        "p": node("AtelierInputImage", "Photo", name="image", image="photo.png", required=True, description=""),
        "m": node("AtelierInputMask", name="mask", image="m.png", channel="red", required=False, description=""),
        "1": node("ImageBlur", image=["p", 0], blur_radius=["i", 0], sigma=["n", 0]),
        "2": node("ImageScale", image=["1", 0], upscale_method=["c", 0], width=64, height=64, crop="disabled"),
        "3": node(
            "ImageCompositeMasked",
            destination=["2", 0],
            source=["p", 0],
            mask=["m", 0],
            x=0,
            y=0,
            resize_source=["s", 0],
        ),
        "4": node("InvertMask", mask=["p", 1]),
        "5": node("MaskPreview", mask=["4", 0]),
        "o": node("AtelierOutputImage", "Result", images=["3", 0], name="picture", description=""),
        "x": node("AtelierOutputText", text=["t", 0], name="echo", description=""),
    }


def test_our_markers_give_way_to_stock_nodes() -> None:
    result = bound(ours(), caption="hello", radius=5, sigma=2, flip=True, method="lanczos", image=Path("/tmp/a b.png"))
    assert inputs_of(result, "1") == {"image": ["p", 0], "blur_radius": 5, "sigma": 2.0}
    assert inputs_of(result, "2")["upscale_method"] == "lanczos"
    assert inputs_of(result, "3")["resize_source"] is True
    assert result.prompt.to_json()["p"] == {
        "inputs": {"image": "a b.png"},
        "class_type": "LoadImage",
        "_meta": {"title": "Photo"},
    }
    assert result.prompt.to_json()["m"] == {
        "inputs": {"image": "m.png", "channel": "red"},
        "class_type": "LoadImageMask",
    }
    assert inputs_of(result, "4") == {"mask": ["p", 1]}
    assert result.prompt.to_json()["o"] == {
        "inputs": {"images": ["3", 0], "filename_prefix": "picture"},
        "class_type": "SaveImage",
        "_meta": {"title": "Result"},
    }
    assert result.prompt.to_json()["x"] == {"inputs": {"source": "hello"}, "class_type": "PreviewAny"}
    assert result.files == {InputRef("p", "image"): Path("/tmp/a b.png")}
    assert sorted(result.prompt.nodes) == ["1", "2", "3", "4", "5", "m", "o", "p", "x"]


def test_defaults_where_nothing_is_sent() -> None:
    result = bound(ours(), image="photo.png")
    assert inputs_of(result, "1") == {"image": ["p", 0], "blur_radius": 3, "sigma": 1}
    assert inputs_of(result, "p") == {"image": "photo.png"}
    assert result.files == {}


@pytest.mark.parametrize(
    ("values", "says"),
    [
        ({}, "parameter 'image' is missing; give a file for it"),
        ({"imago": 1}, "no parameter is named \"imago\"; did you mean 'image'?"),
        ({"qqq": 1}, "known are caption, radius"),
        ({"caption": 3}, "parameter 'caption' must be text, not 3"),
        ({"caption": None, "image": None}, "'image' is missing"),
        ({"caption": "\ud800"}, "surrogate"),
        ({"caption": "a\0b"}, "NUL"),
        ({"caption": "x" * 300_000}, "has 300000 characters"),
        ({"caption": Path("/x")}, "must be text"),
        ({"radius": 0}, "parameter 'radius' must be at least 1, not 0"),
        ({"radius": 32}, "must be at most 31"),
        ({"radius": 2.5}, "must be a whole number, not 2.5"),
        ({"radius": "3"}, "must be a whole number"),
        ({"radius": True}, "must be a whole number, not true"),
        ({"radius": float("nan")}, "finite"),
        ({"radius": 10**400}, "must be at most 31"),
        ({"sigma": float("inf")}, "finite"),
        ({"sigma": "x"}, "must be a number"),
        ({"flip": 1}, "must be true or false, not 1"),
        ({"method": "best"}, 'must be one of "area", "lanczos", not "best"'),
        ({"image": "../../etc/passwd"}, "parameter 'image': \"../../etc/passwd\" leads out of the folder"),
        ({"image": 3}, "must be a file name"),
        ({"image": "x.png [output]"}, "not in the input folder"),
    ],
)
def test_unfit_values(values: dict[str, Any], says: str) -> None:
    with pytest.raises(BindError) as caught:
        bound(ours(), **values)
    assert says in str(caught.value)
    assert caught.value.parameter


def test_whole_floats_are_integers_and_integers_floats() -> None:
    result = bound(ours(), image="x.png", radius=7.0, sigma=3)
    assert repr(inputs_of(result, "1")["blur_radius"]) == "7"
    assert repr(inputs_of(result, "1")["sigma"]) == "3.0"


def test_an_optional_image_that_nobody_sent_is_left_out() -> None:
    nodes = ours()
    nodes["m"]["inputs"]["image"] = ""
    assert "mask" not in inputs_of(bound(nodes, image="x.png"), "3")
    nodes["p"]["inputs"] |= {"image": "", "required": False}
    with pytest.raises(BindError, match=r"input 'image' of node 1 \(ImageBlur\) cannot do without") as caught:
        bound(nodes)
    assert caught.value.parameter == "image"


def test_a_seed_keeps_its_64_bits() -> None:
    stock = {"1": node("RandomNoise", noise_seed=5), "3": node("PreviewAny", source=["1", 0])}
    assert inputs_of(bound(stock, seed=2**64 - 1), "1")["noise_seed"] == 18446744073709551615
    with pytest.raises(BindError, match="must be at most 18446744073709551615"):
        bound(stock, seed=2**64)


def test_stock_nodes_keep_their_class_and_take_files() -> None:
    nodes = {
        "1": node("LoadImage", image="photo.png"),
        "2": node("ImageInvert", image=["1", 0]),
        "3": node("PreviewImage", images=["2", 0]),
    }
    result = bound(nodes, image=Path("/tmp/x.png"))
    assert [n.class_type for n in result.prompt.nodes.values()] == ["LoadImage", "ImageInvert", "PreviewImage"]
    assert result.files == {InputRef("1", "image"): Path("/tmp/x.png")}
    assert inputs_of(bound(nodes, image="other.png"), "1") == {"image": "other.png"}


def test_one_value_goes_to_every_place_that_says_it() -> None:
    nodes = {
        "1": node("EmptyImage", width=64, height=32, batch_size=1, color=0),
        "2": node("ImageScale", image=["1", 0], upscale_method="area", width=64, height=32, crop="disabled"),
        "3": node("SaveImage", images=["2", 0], filename_prefix="x"),
    }
    result = bound(nodes, width=128)
    assert [inputs_of(result, n)["width"] for n in ("1", "2")] == [128, 128]
    assert inputs_of(result, "2")["height"] == 32


def test_comfy_packs_markers() -> None:
    nodes = {
        "1": node("CPackInputImage", image="x.png"),
        "2": node("CPackInputInt", "width", value=64, min=8, max=128),
        "3": node("CPackInputAny", "upscale_method", input="area"),
        "4": node("CPackInputString", "text", value="t"),
        "5": node("ImageScale", image=["1", 0], upscale_method=["3", 0], width=["2", 0], height=64, crop="disabled"),
        "6": node("CPackOutputZip", "all", images=["5", 0], filename_prefix="../../cpack_output_", text=["4", 0]),
        "7": node("CPackOutputTextFile", "log", text=["4", 0], filename_prefix="x", file_extension=".txt"),
        "8": node("CPackOutputZipSwitch"),
        "9": node("CPackOutputImage", images=["5", 0], filename_prefix="cpack_output_"),
    }
    prompt = Prompt.from_json(nodes)
    interface = find_interface(prompt, SCHEMAS)
    assert interface.extra == {"zip": True}
    assert [(o.name, o.type.value, o.node) for o in interface.outputs] == [
        ("all", "image", "6"),
        ("all_text", "text", "6:text"),
        ("log", "text", "7"),
        ("outputimage", "image", "9"),
    ]
    result = bound(nodes, image="y.png", width=100, upscale_method="lanczos")
    assert inputs_of(result, "5") == {
        "image": ["1", 0],
        "upscale_method": "lanczos",
        "width": 100,
        "height": 64,
        "crop": "disabled",
    }
    assert inputs_of(result, "6") == {"images": ["5", 0], "filename_prefix": "all"}
    assert inputs_of(result, "6:text") == {"source": "t"}
    assert {output.node for output in interface.outputs} <= result.prompt.nodes.keys()
    with pytest.raises(BindError, match="at most 128"):
        bound(nodes, image="y.png", width=129)


def deploy() -> dict[str, Any]:
    return {
        "1": node("ComfyUIDeployExternalImage", input_id="photo", default_value=["2", 0]),
        "2": node("EmptyImage", width=8, height=8, batch_size=1, color=0),
        "3": node("ComfyUIDeployExternalSeed", input_id="seed", default_value=-1, min_value=1, max_value=1000),
        "4": node("ImageInvert", image=["1", 0]),
        "5": node("RandomNoise", noise_seed=["3", 0]),
        "6": node("ComfyDeployOutputImage", images=["4", 0], filename_prefix="x", output_id="result"),
        "7": node("PreviewAny", source=["5", 0]),
    }


def test_comfyui_deploys_markers() -> None:
    assert inputs_of(bound(deploy()), "4") == {"image": ["2", 0]}  # the wired default
    sent = bound(deploy(), photo=Path("/tmp/p.png"), seed=7)
    assert inputs_of(sent, "4") == {"image": ["1", 0]}
    assert sent.prompt.nodes["1"].class_type == "LoadImage"
    assert inputs_of(sent, "5") == {"noise_seed": 7}
    assert sent.prompt.nodes["6"].class_type == "SaveImage"


def test_a_random_seed_is_in_its_range_and_by_chance() -> None:
    prompt = Prompt.from_json(deploy())
    interface = find_interface(prompt, SCHEMAS)
    seeds = {
        bind(prompt, interface, {}, chance=random.Random(i)).prompt.nodes["5"].inputs["noise_seed"] for i in range(20)
    }
    assert len(seeds) > 10
    assert all(1 <= seed <= 1000 for seed in seeds)
    again = [bind(prompt, interface, {}, chance=random.Random(1)).prompt for _ in range(2)]
    assert again[0] == again[1]


def test_markers_wired_to_markers_and_to_stock_nodes() -> None:
    nodes = {
        "1": node("AtelierInputText", name="a", value=["2", 0], multiline=False, description=""),
        "2": node("CPackInputString", "b", value=["3", 0]),
        "3": node("PrimitiveString", value="from below"),
        "4": node("PreviewAny", source=["1", 0]),
    }
    assert inputs_of(bound(nodes), "4") == {"source": ["3", 0]}
    assert inputs_of(bound(nodes, b="sent"), "4") == {"source": "sent"}
    nodes["2"]["inputs"]["value"] = ["1", 0]
    with pytest.raises(BindError, match="cycle"):
        bound(nodes)


def test_a_list_is_not_taken_for_a_wire() -> None:
    nodes = {
        "1": node("CPackInputAny", "items", input={"__value__": ["a", 0]}),
        "2": node("PreviewAny", source=["1", 0]),
    }
    prompt = Prompt.from_json(nodes)
    assert bind(prompt, find_interface(prompt, SCHEMAS), {}).prompt.nodes["2"].inputs == {
        "source": {"__value__": ["a", 0]}
    }


def test_an_interface_of_another_prompt_is_refused() -> None:
    interface = find_interface(Prompt.from_json(ours()), SCHEMAS)
    with pytest.raises(BindError, match="not in this prompt"):
        bind(Prompt.from_json(deploy()), interface, {"image": "x.png"})


def test_an_output_without_a_wire_is_refused() -> None:
    with pytest.raises(BindError, match=r"node 1 \(AtelierOutputImage\): nothing is wired to its 'images'"):
        bound({"1": node("AtelierOutputImage", name="x", description="")})


MARKERS = st.sampled_from(
    [
        "AtelierInputText",
        "AtelierInputInteger",
        "AtelierInputSwitch",
        "CPackInputString",
        "CPackInputInt",
        "CPackInputAny",
        "ComfyUIDeployExternalText",
        "ComfyUIDeployExternalBoolean",
        "AtelierInputImage",
        "CPackInputImage",
        "ComfyUIDeployExternalImage",
        "AtelierOutputImage",
        "CPackOutputImage",
        "AtelierOutputText",
        "CPackOutputZip",
        "CPackOutputZipSwitch",
        "PreviewAny",
        "ImageInvert",
        "SaveImage",
    ]
)
WIDGETS = [
    "name",
    "value",
    "input_id",
    "image",
    "input",
    "default_value",
    "images",
    "text",
    "source",
    "title",
    "required",
]
HELD = st.one_of(
    st.text(max_size=5),
    st.integers(-5, 5),
    st.booleans(),
    st.tuples(st.sampled_from("abcd"), st.integers(0, 1)).map(list),
)


@given(
    st.dictionaries(
        st.sampled_from("abcd"),
        st.tuples(MARKERS, st.dictionaries(st.sampled_from(WIDGETS), HELD, max_size=4), st.text(max_size=8)),
        min_size=1,
    )
)
def test_whatever_is_wired_how_no_marker_is_left(made: dict[str, tuple[str, dict[str, Any], str]]) -> None:
    prompt = Prompt.from_json({k: node(kind, title, **inputs) for k, (kind, inputs, title) in made.items()})
    interface = find_interface(prompt, SCHEMAS)
    interface.validate()
    assert Interface.from_json(json.loads(json.dumps(interface.to_json()))) == interface
    values = {p.name: "x.png" for p in interface.parameters if p.type.is_file}
    try:
        result = bind(prompt, interface, values)
    except BindError:
        return
    assert not any(is_marker(n.class_type) for n in result.prompt.nodes.values())
    for bound_node in result.prompt.nodes.values():
        for _, link in bound_node.links:
            assert link.node in result.prompt.nodes or link.node not in prompt.nodes
