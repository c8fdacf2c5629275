"""Interfaces: their JSON, their JSON Schema, what contradicts itself."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from comfy_atelier.graph import (
    InputRef,
    Interface,
    InterfaceError,
    Output,
    OutputType,
    Parameter,
    ParameterType,
    Source,
)
from comfy_atelier.graph.interface import MAX_SEED
from comfy_atelier.graph.interface_names import Names, identifier, title_name

PROMPT = Parameter(name="prompt", type=ParameterType.TEXT, target=InputRef("6", "text"), default="", multiline=True)
SEED = Parameter(
    name="seed",
    type=ParameterType.INTEGER,
    target=InputRef("3", "seed"),
    default=0,
    minimum=0,
    maximum=MAX_SEED,
    also=(InputRef("57:8", "noise_seed"),),
)
IMAGE = Parameter(name="image", type=ParameterType.IMAGE, target=InputRef("1", "image"), default="x.png", required=True)
SAMPLER = Parameter(
    name="sampler",
    type=ParameterType.CHOICE,
    target=InputRef("3", "sampler_name"),
    default="euler",
    choices=("euler", "ddim"),
    title="KSampler",
    description="How noise goes.",
)
WHOLE = Interface(
    parameters=(PROMPT, SEED, IMAGE, SAMPLER),
    outputs=(Output(name="image", type=OutputType.IMAGE, node="9", title="Result"),),
    source=Source.MARKERS,
    extra={"zip": True},
)


def test_json_goes_both_ways() -> None:
    assert Interface.from_json(json.loads(json.dumps(WHOLE.to_json()))) == WHOLE
    assert WHOLE.to_json()["parameters"][1] == {
        "name": "seed",
        "type": "integer",
        "node": "3",
        "input": "seed",
        "default": 0,
        "minimum": 0,
        "maximum": MAX_SEED,
        "also": [{"node": "57:8", "input": "noise_seed"}],
    }


def test_json_schema() -> None:
    schema = WHOLE.json_schema()
    assert schema["required"] == ["image"]
    assert schema["additionalProperties"] is False
    assert schema["properties"]["prompt"] == {"type": "string", "default": ""}
    assert schema["properties"]["seed"] == {"type": "integer", "minimum": 0, "maximum": 2**64 - 1, "default": 0}
    assert schema["properties"]["image"] == {"type": "string", "format": "binary"}
    assert schema["properties"]["sampler"] == {
        "enum": ["euler", "ddim"],
        "default": "euler",
        "title": "KSampler",
        "description": "How noise goes.",
    }


@pytest.mark.parametrize(
    ("value", "says"),
    [
        ([], "must be an object"),
        ({"source": "x"}, 'source: "x" is none of markers, app mode, graph'),
        ({"parameters": {}}, "parameters: must be a list"),
        ({"parameters": [3]}, "parameters[0]: must be an object"),
        ({"parameters": [{"name": "a", "type": "text", "node": "1"}]}, "parameters[0].input: is missing"),
        ({"parameters": [{"name": "a", "type": "blob", "node": "1", "input": "x"}]}, "parameters[0].type"),
        ({"parameters": [{"name": "a b", "type": "text", "node": "1", "input": "x"}]}, "no identifier"),
        ({"parameters": [{"name": "_a", "type": "text", "node": "1", "input": "x"}]}, "no identifier"),
        (
            {"parameters": [{"name": "a", "type": "text", "node": "1", "input": "x"}] * 2},
            "two parameters are named 'a'",
        ),
        ({"parameters": [{"name": "a", "type": "choice", "node": "1", "input": "x"}]}, "without choices"),
        (
            {"parameters": [{"name": "a", "type": "integer", "node": "1", "input": "x", "minimum": 3, "maximum": 2}]},
            "above",
        ),
        ({"parameters": [{"name": "a", "type": "integer", "node": "1", "input": "x", "minimum": "3"}]}, "minimum"),
        ({"parameters": [{"name": "a", "type": "text", "node": "1", "input": "x", "required": 1}]}, "true or false"),
        ({"parameters": [{"name": "a", "type": "text", "node": "1", "input": "x", "also": [{}]}]}, "also[0].node"),
        ({"outputs": [{"name": "o", "type": "image"}]}, "outputs[0].node: is missing"),
        (
            {"parameters": [{"name": "a", "type": "text", "node": "1", "input": "x", "default": float("nan")}]},
            "default",
        ),
    ],
)
def test_wrong_json_is_refused_with_its_path(value: object, says: str) -> None:
    with pytest.raises(InterfaceError) as caught:
        Interface.from_json(value)
    assert says in str(caught.value)


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("Positive Prompt (CLIP)", "positive_prompt_clip"),
        ("LoRA Strength", "lora_strength"),
        ("endFrame", "end_frame"),
        ("Größe", "Größe"),
        ("画像", "画像"),
        ("画像 1", "value_1"),
        ("4K width", "value_4k_width"),
        ("class", "class_"),
        ("", "value"),
        ("!!!", "value"),
        ("_x_", "x"),
        ("a" * 100, "a" * 48),
    ],
)
def test_identifiers(text: str, name: str) -> None:
    assert identifier(text) == name


@pytest.mark.parametrize(
    ("title", "name"),
    [
        ("Boolean (Refine Prompt?)", "refine_prompt"),
        ("Int (Steps)", "steps"),
        ("Load Image: front", "front"),
        ("Load Image 1", "image_1"),
        ("Load Product Image", "product_image"),
        ("CLIP Text Encode (Positive Prompt)", "positive_prompt"),
        ("Width", "width"),
        ("Boolean （Replace Mode）", "replace_mode"),
    ],
)
def test_names_from_titles(title: str, name: str) -> None:
    assert title_name(title) == name


def test_clashes_take_the_title_then_the_id() -> None:
    names = Names()
    assert names.take("image") == "image"
    assert names.take("image", title="Start Frame", node_id="5") == "image_start_frame"
    assert names.take("image", title="Start Frame", node_id="57:8") == "image_57_8"
    assert names.take("image", node_id="57:8") == "image_2"
    assert names.take("_", node_id="3") == "value"


@given(st.lists(st.tuples(st.text(max_size=70), st.text(max_size=20), st.text(max_size=6)), max_size=12))
def test_names_are_always_unique_identifiers(wishes: list[tuple[str, str, str]]) -> None:
    names = Names()
    taken = [names.take(wanted, title=title, node_id=node_id) for wanted, title, node_id in wishes]
    assert len(set(taken)) == len(taken)
    assert all(name.isidentifier() and len(name) <= 64 and not name.startswith("_") for name in taken)
