"""Our interface of comfy-pack's markers is comfy-pack 0.4.4's own: names, types, defaults, bounds, what is required.

The recorded results in tests/data/comfy-pack come from the real function; with ATELIER_TEST_COMFY_PACK=<a Python that
has comfy-pack> they are taken anew and compared, on many more prompts.
"""

import json
import os
import random
import subprocess
import zipfile
from pathlib import Path

import pytest

from comfy_atelier.graph import NodeSchemas, Prompt, find_interface

DATA = Path(__file__).parent.parent / "data" / "comfy-pack"
PROBE = Path(__file__).parent / "comfy_pack_probe.py"


@pytest.fixture(scope="module")
def schemas() -> NodeSchemas:
    return NodeSchemas.builtin()


@pytest.fixture(scope="module")
def comfy_pack() -> str:
    python = os.environ.get("ATELIER_TEST_COMFY_PACK", "")
    if not python:
        pytest.skip("no comfy-pack: set ATELIER_TEST_COMFY_PACK to a Python that has comfy-pack 0.4.4")
    return python


def peer(python: str, prompts: list[dict]) -> list[list[dict] | None]:
    done = subprocess.run([python, str(PROBE)], input=json.dumps(prompts), capture_output=True, text=True, check=True)
    return json.loads(done.stdout)


def ours(prompt: dict, schemas: NodeSchemas) -> list[dict]:
    """Our parameters as the probe describes comfy-pack's fields."""
    result = []
    for p in find_interface(Prompt.from_json(prompt), schemas).parameters:
        field = {"name": p.name, "required": p.required, "type": "file" if p.type.is_file else p.type.value}
        if p.choices is not None:
            field["choices"] = list(p.choices)
        if not p.required:
            field["default"] = p.default
        if p.minimum is not None:
            field["ge"] = p.minimum
        if p.maximum is not None:
            field["le"] = p.maximum
        result.append(field)
    return result


@pytest.mark.parametrize("case", sorted(DATA.glob("*.json")), ids=lambda path: path.stem)
def test_equals_what_comfy_pack_was_recorded_to_read(case: Path, schemas: NodeSchemas) -> None:
    recorded = json.loads(case.read_text(encoding="utf-8"))
    assert ours(recorded["prompt"], schemas) == recorded["fields"]


def test_recordings_are_what_comfy_pack_reads(comfy_pack: str) -> None:
    cases = [json.loads(path.read_text(encoding="utf-8")) for path in sorted(DATA.glob("*.json"))]
    assert peer(comfy_pack, [case["prompt"] for case in cases]) == [case["fields"] for case in cases]


def test_a_bundle_from_the_wild(comfy_pack: str, shared: Path, schemas: NodeSchemas) -> None:
    with zipfile.ZipFile(shared / "facts" / "simple-pixel-art-generation.cpack.zip") as bundle:
        prompt = json.loads(bundle.read("workflow_api.json"))
    (fields,) = peer(comfy_pack, [prompt])
    assert fields
    assert ours(prompt, schemas) == fields


def test_many_made_prompts(comfy_pack: str, schemas: NodeSchemas) -> None:
    chance = random.Random(20261122)
    prompts = [made_prompt(chance) for _ in range(400)]
    compared = 0
    for prompt, fields in zip(prompts, peer(comfy_pack, prompts), strict=True):
        if fields is not None:
            compared += 1
            assert ours(prompt, schemas) == fields, json.dumps(prompt)
    assert compared > 300


TITLES = ["prompt", "Image Input", "Café", "seed", "my title", "", None, "画像", "Integer", "width", "a-b c"]
MAXSIZE = 2**63 - 1


def made_prompt(chance: random.Random) -> dict:
    """A prompt with up to six of comfy-pack's markers, titled and wired at random."""
    prompt: dict = {}
    for number in range(1, chance.randint(1, 6) + 1):
        kind = chance.choice(["Image", "String", "Int", "File", "Any"])
        node = {"class_type": f"CPackInput{kind}", "inputs": marker_inputs(kind, chance)}
        title, options = chance.choice(TITLES), any_options(kind, chance)
        if title is not None or options is not None:
            node["_meta"] = ({} if title is None else {"title": title}) | (
                {} if options is None else {"options": options}
            )
        prompt[str(number)] = node
    for number in range(chance.randint(0, 4)):
        wires = {
            chance.choice(["text", "image", "width", "images.image0", "seed", "ckpt name"]): [
                chance.choice(list(prompt)),
                chance.choice([0, 0, 0, 1]),
            ]
            for _ in range(2)
        }
        prompt[f"c{number}"] = {"class_type": "KSampler", "inputs": wires}
    prompt["out"] = {"class_type": "CPackOutputImage", "inputs": {"images": ["1", 0], "filename_prefix": "x"}}
    return prompt


def marker_inputs(kind: str, chance: random.Random) -> dict:
    match kind:
        case "Image":
            return {"image": "x.png"}
        case "String":
            return {"value": chance.choice(["", "a cat", "ü"])}
        case "Int":
            low, high = chance.choice(
                [(-MAXSIZE, MAXSIZE), (0, 10), (-5, MAXSIZE), (-9223372036854776000, 9223372036854776000)]
            )
            return {"value": chance.choice([0, 3, 2**60]), "min": low, "max": high}
        case "File":
            return {"path": "models/x.txt"}
    return {"input": chance.choice(["text", "", 3, 2.5, True, "euler"])}


def any_options(kind: str, chance: random.Random) -> dict | None:
    if kind != "Any":
        return chance.choice([None, {}])
    return chance.choice(
        [
            None,
            {},
            {"multiline": True},
            {"values": ["euler", "ddim"]},
            {"values": [1, 2.5, "x", True]},
            {"values": [], "min": 0, "max": 3},
            {"min": 0, "max": 100, "step": 10, "precision": 0},
            {"min": 0, "max": 18446744073709551615, "round": 1},
            {"min": -MAXSIZE, "max": MAXSIZE, "round": 1},
            {"min": 0.0, "max": 1.0, "step": 0.1, "round": 0.01, "precision": 2},
            {"min": 0, "max": 20, "round": False},
            {"round": 0.1},
        ]
    )
