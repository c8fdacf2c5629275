"""`diff` says what changed between two prompts, and what of it breaks callers."""

import json
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from comfy_atelier.graph import InputRef, Interface, Output, OutputType, Parameter, ParameterType, Prompt, diff

NODES: dict[str, Any] = {
    "1": {"class_type": "CheckpointLoaderSimple", "inputs": {"ckpt_name": "a.safetensors"}},
    "2": {"class_type": "CLIPTextEncode", "inputs": {"text": "a cat", "clip": ["1", 1]}},
    "3": {"class_type": "KSampler", "inputs": {"seed": 1, "cfg": 8, "model": ["1", 0], "positive": ["2", 0]}},
    "4": {"class_type": "SaveImage", "inputs": {"images": ["3", 0], "filename_prefix": "x"}},
}


def changed(**changes: Any) -> Prompt:
    nodes = json.loads(json.dumps(NODES))
    for place, value in changes.items():
        key, _, name = place.removeprefix("n").partition("_")
        if name:
            nodes[key]["inputs"][name] = value
        elif value is None:
            del nodes[key]
        else:
            nodes[key] = value
    return Prompt.from_json(nodes)


def lines(new: Prompt) -> list[str]:
    return [str(change) for change in diff(changed(), new).changes]


@pytest.mark.parametrize(
    ("new", "expected"),
    [
        (changed(), []),
        (changed(n3_cfg=8.0), []),
        (changed(n3_cfg=7), ["~ value 3 (KSampler).cfg: 8 -> 7"]),
        (changed(n2_text="a dog"), ['~ value 2 (CLIPTextEncode).text: "a cat" -> "a dog"']),
        (changed(n3_positive=["2", 1]), ['~ wire 3 (KSampler).positive: "node 2, output 0" -> "node 2, output 1"']),
        (changed(n3_steps=4), ["+ value 3 (KSampler).steps"]),
        (
            changed(n1_ckpt_name="b.safetensors"),
            [
                '~ value 1 (CheckpointLoaderSimple).ckpt_name: "a.safetensors" -> "b.safetensors"',
                "- model checkpoints/a.safetensors",
                "+ model checkpoints/b.safetensors",
            ],
        ),
        (changed(n4=None), ["- node 4 (SaveImage)"]),
        (
            changed(n9={"class_type": "PreviewImage", "inputs": {"images": ["3", 0]}}),
            ["+ node 9 (PreviewImage)"],
        ),
        (
            changed(n3={"class_type": "KSamplerAdvanced", "inputs": {}}),
            ["- node 3 (KSampler)", "+ node 3 (KSamplerAdvanced)"],
        ),
    ],
)
def test_changes_of_the_graph(new: Prompt, expected: list[str]) -> None:
    assert lines(new) == expected


def test_renumbering_is_no_change() -> None:
    text = json.dumps(NODES)
    for old, new in (("1", "57:8"), ("2", "20"), ("3", "x"), ("4", "y")):
        text = text.replace(f'"{old}":', f'"{new}":').replace(f'["{old}",', f'["{new}",')
    assert diff(changed(), Prompt.from_json(json.loads(text))).changes == ()


SEED = Parameter(
    name="seed", type=ParameterType.INTEGER, target=InputRef("3", "seed"), default=1, minimum=0, maximum=100
)
MODE = Parameter(name="mode", type=ParameterType.CHOICE, target=InputRef("3", "mode"), default="a", choices=("a", "b"))
IMAGE = Output(name="image", type=OutputType.IMAGE, node="4")
OLD = Interface(parameters=(SEED, MODE), outputs=(IMAGE,))


def with_parameter(index: int, **changes: Any) -> Interface:
    parameters = list(OLD.parameters)
    parameters[index] = replace(parameters[index], **changes)
    return replace(OLD, parameters=tuple(parameters))


@pytest.mark.parametrize(
    ("new", "breaking", "says"),
    [
        (with_parameter(0), False, []),
        (with_parameter(0, target=InputRef("9", "noise")), False, []),
        (with_parameter(0, default=2), False, ["seed.default: 1 -> 2"]),
        (with_parameter(0, maximum=200), False, ["seed.maximum: 100 -> 200"]),
        (with_parameter(0, maximum=None), False, ["seed.maximum: 100 -> null"]),
        (with_parameter(0, maximum=50), True, ["seed.maximum: 100 -> 50"]),
        (with_parameter(0, minimum=1), True, ["seed.minimum: 0 -> 1"]),
        (with_parameter(0, minimum=-1), False, ["seed.minimum: 0 -> -1"]),
        (with_parameter(0, type=ParameterType.NUMBER), False, ['seed.type: "integer" -> "number"']),
        (with_parameter(0, type=ParameterType.TEXT), True, ['seed.type: "integer" -> "text"']),
        (with_parameter(0, required=True), True, ["seed.required: false -> true"]),
        (with_parameter(0, name="noise"), True, ["- parameter seed", "+ parameter noise"]),
        (with_parameter(1, choices=("a", "b", "c")), False, ["mode.choices"]),
        (with_parameter(1, choices=("a",)), True, ["no longer: b"]),
        (replace(OLD, outputs=()), True, ["- output image"]),
        (replace(OLD, outputs=(replace(IMAGE, type=OutputType.VIDEO),)), True, ["image.type"]),
        (replace(OLD, outputs=(replace(IMAGE, node="7"),)), False, []),
        (replace(OLD, outputs=(IMAGE, replace(IMAGE, name="second"))), False, ["+ output second"]),
        (replace(OLD, parameters=(*OLD.parameters, replace(SEED, name="x"))), False, ["+ parameter x"]),
        (
            replace(OLD, parameters=(*OLD.parameters, replace(SEED, name="x", required=True))),
            True,
            ["callers must send"],
        ),
    ],
)
def test_changes_of_the_interface(new: Interface, breaking: bool, says: list[str]) -> None:
    difference = diff(changed(), changed(), old_interface=OLD, new_interface=new)
    text = [str(change) for change in difference.changes]
    assert difference.breaking is breaking, text
    assert len(text) == len(says)
    for line, part in zip(text, says, strict=True):
        assert part in line
        assert ("BREAKING" in line) is any(str(c) == line and c.breaking for c in difference.changes)
    assert json.loads(json.dumps([change.to_json() for change in difference.changes])) or not text


PROMPTS = st.dictionaries(
    st.sampled_from("abcd"),
    st.fixed_dictionaries(
        {
            "class_type": st.sampled_from(["A", "B"]),
            "inputs": st.dictionaries(
                st.sampled_from("xy"), st.integers(0, 2) | st.tuples(st.sampled_from("abcd"), st.just(0)).map(list)
            ),
        }
    ),
    min_size=1,
).map(Prompt.from_json)


@given(PROMPTS, PROMPTS)
def test_no_change_exactly_where_nothing_changed(old: Prompt, new: Prompt) -> None:
    assert diff(old, old).changes == ()
    if diff(old, new).changes == ():
        assert sorted(n.class_type for n in old.nodes.values()) == sorted(n.class_type for n in new.nodes.values())
