"""`check_prompt` refuses what a server would refuse, naming node, class and input."""

import json
import time
from pathlib import Path
from typing import Any

import pytest

from comfy_atelier.graph import GraphError, NodeSchemas, Prompt, PromptError, check_prompt, parse_prompt
from comfy_atelier.graph.validation import types_match


@pytest.fixture(scope="module")
def schemas() -> NodeSchemas:
    return NodeSchemas.builtin()


def node(class_type: str, **inputs: Any) -> dict[str, Any]:
    return {"class_type": class_type, "inputs": inputs}


def pictures(**inputs: Any) -> dict[str, Any]:
    """EmptyImage, with other inputs, into SaveImage."""
    return {
        "1": node("EmptyImage", **({"width": 64, "height": 64, "batch_size": 1, "color": 255} | inputs)),
        "2": node("SaveImage", images=["1", 0], filename_prefix="ok"),
    }


def check(nodes: dict[str, Any], schemas: NodeSchemas) -> None:
    check_prompt(Prompt.from_json(nodes), schemas)


@pytest.mark.parametrize("width", [64, "64", 64.7, " 64 ", "6_4", True, {"__value__": 64}, {"__value__": "64"}, 16384])
def test_values_that_a_server_converts(width: object, schemas: NodeSchemas) -> None:
    check(pictures(width=width), schemas)


@pytest.mark.parametrize(
    ("width", "says"),
    [
        (0, "0 is below its minimum 1"),
        (16385, "16385 is above its maximum 16384"),
        ("0x40", "must be a whole number"),
        (None, "must be a whole number, not null"),
        ({}, "must be a whole number"),
        ([], "is no wire"),
        ({"__value__": "9" * 4000}, "must be a whole number"),
        ({"__value__": ["1", 0]}, "must be a whole number"),
        ("", "must be a whole number"),
        (["1"], "is no wire"),
        ([1, 0], "is no wire"),
        (["2", "0"], "is no wire"),
        (["9", 0], 'wired to node "9"'),
    ],
)
def test_values_that_a_server_refuses(width: object, says: str, schemas: NodeSchemas) -> None:
    with pytest.raises(PromptError, match=r"node 1 \(EmptyImage\), input 'width'") as caught:
        check(pictures(width=width), schemas)
    assert says in str(caught.value)


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"2": node("SaveImage", filename_prefix="x")}, "input 'images': the required input is missing"),
        (
            {"2": node("SaveImage", images=["1", 1], filename_prefix="x")},
            'output 1 of node "1" (EmptyImage), which has 1 output',
        ),
        ({"2": node("SaveImage", images=["1", -1], filename_prefix="x")}, "output -1"),
        ({"2": node("SaveImage", images={"__value__": ["1", 0]}, filename_prefix="x")}, "takes a wire of type IMAGE"),
        ({"2": node("SaveImage", images=3, filename_prefix="x")}, "takes a wire of type IMAGE"),
        ({"2": node("SaveImage", images=None, filename_prefix="x")}, "takes a wire of type IMAGE"),
        ({"2": node("MaskPreview", mask=["1", 0])}, 'takes MASK, but output 0 of node "1" (EmptyImage) gives IMAGE'),
        ({"2": node("ImageInvert", image=["1", 0])}, "no output node"),
        ({"2": node("emptyimage", images=["1", 0])}, 'no node class "emptyimage" is known'),
        ({"2": node("__class__"), "3": node("Other")}, 'no node class "__class__" is known, nor Other'),
        ({"8": node("ImageInvert", image=["9", 0]), "9": node("ImageInvert", image=["8", 0])}, "8 <- 9 <- 8"),
        ({"3": node("PreviewAny", source=["1", 0], other=["3", 0])}, "3 <- 3"),
        (
            {
                "2": node("SaveImage", images=["3", 0], filename_prefix="x"),
                "3": node("ImageScale", image=["1", 0], upscale_method="best", width=8, height=8, crop="disabled"),
            },
            'node 3 (ImageScale), input \'upscale_method\': "best" is none of "nearest-exact"',
        ),
    ],
)
def test_refusals(changes: dict[str, Any], says: str, schemas: NodeSchemas) -> None:
    with pytest.raises(PromptError) as caught:
        check(pictures() | changes, schemas)
    assert says in str(caught.value)


def test_values_of_nodes_that_no_output_needs_are_not_judged(schemas: NodeSchemas) -> None:
    check(pictures() | {"3": node("KSampler", seed=-1)}, schemas)


def test_a_choice_of_files_is_the_servers_to_judge(schemas: NodeSchemas) -> None:
    loaded = {
        "1": node("CheckpointLoaderSimple", ckpt_name="never seen.safetensors"),
        "2": node("LoadImage", image="never seen.png"),
        "3": node("VAEEncode", pixels=["2", 0], vae=["1", 2]),
        "4": node("VAEDecode", samples=["3", 0], vae=["1", 2]),
        "5": node("SaveImage", images=["4", 0], filename_prefix="x"),
    }
    check(loaded, schemas)


def test_dynamic_inputs(schemas: NodeSchemas) -> None:
    good = pictures() | {
        "3": node("BatchImagesNode", **{"images.image0": ["1", 0], "images.image1": ["1", 0]}),
        "4": node(
            "ResizeImageMaskNode",
            input=["3", 0],
            resize_type="scale by multiplier",
            scale_method="area",
            **{"resize_type.multiplier": 2},
        ),
        "5": node("PreviewImage", images=["4", 0]),
    }
    check(good, schemas)
    for name, value, says in (
        ("resize_type", "by magic", "is none of"),
        ("resize_type.multiplier", 1e9, "above its maximum"),
        ("input", None, "the required input is missing"),
    ):
        bad = json.loads(json.dumps(good))
        bad["4"]["inputs"][name] = value
        if value is None:
            del bad["4"]["inputs"][name]
        with pytest.raises(PromptError, match=r"node 4 \(ResizeImageMaskNode\)") as caught:
            check(bad, schemas)
        assert says in str(caught.value)
    del good["3"]["inputs"]["images.image0"]
    with pytest.raises(PromptError, match=r"node 3 .*'images.image0': the required input is missing"):
        check(good, schemas)


@pytest.mark.parametrize(
    ("given", "taken", "match"),
    [
        ("IMAGE", "IMAGE", True),
        ("IMAGE", "MASK", False),
        ("*", "MASK", True),
        ("INT", "*", True),
        ("INT", "FLOAT,INT", True),
        ("STRING, BOOLEAN", "STRING,INT", True),
        ("STRING", "INT,FLOAT", False),
        ("COMFY_MATCHTYPE_V3", "LATENT", True),
        ("INT", "FLOAT", False),
        ("IMAGE,*", "MASK", True),
    ],
)
def test_types(given: str, taken: str, match: bool) -> None:
    assert types_match(given, taken) is match


def test_five_thousand_outputs_are_checked_at_once(schemas: NodeSchemas) -> None:
    nodes = pictures() | {f"s{i}": node("PreviewImage", images=["1", 0]) for i in range(5000)}
    started = time.process_time()
    check(nodes, schemas)
    assert time.process_time() - started < 2


CORPUS = Path(__file__).parents[3] / "shared" / "hostile" / "workflows" / "api"


@pytest.mark.parametrize("file", sorted(CORPUS.glob("*.expect.json")), ids=lambda file: file.name.partition(".")[0])
def test_the_hostile_corpus(file: Path, schemas: NodeSchemas) -> None:
    expected = json.loads(file.read_text(encoding="utf-8"))
    data = file.with_name(expected["file"]).read_bytes()
    started = time.process_time()
    message = refusal(data, schemas)
    assert time.process_time() - started < 2
    if expected["expect"] != "either":
        assert (message is not None) is (expected["expect"] == "reject"), message
    assert message is None or 10 < len(message) < 400


def refusal(data: bytes, schemas: NodeSchemas) -> str | None:
    try:
        check_prompt(parse_prompt(data), schemas)
    except GraphError as error:
        return str(error)
    return None
