"""`check_prompt` against the real thing: official templates, damaged at random, judged by ComfyUI's validate_prompt."""

import copy
import json
import lzma
import random
import subprocess
from pathlib import Path

import pytest

from comfy_atelier.graph import NodeSchemas, Prompt, PromptError, check_prompt
from comfy_atelier.graph.schemas import builtin_versions

PROBE = Path(__file__).parent / "comfyui_validation_probe.py"
PROMPTS = 400
VALUES = [None, True, 1, -1, 10**20, "20", "abc", 1.5, [], ["1", 0], {}, {"__value__": ["a"]}, "", 1e300, " 7 ", "0x10"]
VALUES += ["nan", 2**63, ["x", 1, 2], [1, 0], "1e3", 512, "euler", "auto", "../x", {"__value__": 3}]

# Where `check_prompt` is stricter than ComfyUI, on purpose: see the top of validation.py.
STRICTER = (
    "takes a wire",
    "leads out",
    "cycle",
    "not NaN",
    "is wired to",
    "is none of",
    "is no wire",
    "file",
    "takes COMFY_",
)


def damaged(prompt: dict, chance: random.Random) -> dict:
    prompt = copy.deepcopy(prompt)
    for _ in range(chance.randint(1, 2)):
        inputs = prompt[chance.choice(list(prompt))]["inputs"]
        literals = [name for name, value in inputs.items() if not isinstance(value, list)]
        match chance.randint(0, 5):
            case 0 | 1 if literals:
                inputs[chance.choice(literals)] = chance.choice(VALUES)
            case 2 if inputs:
                inputs[chance.choice(list(inputs))] = chance.choice(VALUES)
            case 3 if inputs:
                del inputs[chance.choice(list(inputs))]
            case 4 if inputs:
                inputs[chance.choice(list(inputs))] = [chance.choice(list(prompt)), chance.choice([0, 0, 0, 1, 2, -1])]
            case _:
                inputs[chance.choice(["unknown", "images.image9", "width", "codec"])] = chance.choice(VALUES)
    return prompt


def refusal(prompt: dict, schemas: NodeSchemas) -> str | None:
    try:
        check_prompt(Prompt.from_json(prompt), schemas)
    except PromptError as error:
        return str(error)
    return None


def refusals(errors: list, prompt: dict, schemas: NodeSchemas) -> list:
    """What ComfyUI refused, without what only its own files decide (models and inputs that this machine lacks)."""
    result = []
    for error in errors:
        if isinstance(error, list) and error[1] in {"value_not_in_list", "custom_validation_failed"}:
            spec = schemas[prompt[error[0]]["class_type"]].input(error[3]) if error[0] in prompt else None
            if spec is None or spec.open_choices or spec.upload:
                continue
        result.append(error)
    return result


@pytest.mark.comfyui
@pytest.mark.slow
def test_what_we_accept_comfyui_accepts(comfyui_install, shared: Path, tmp_path: Path) -> None:
    version = comfyui_install.version
    if version not in builtin_versions():
        pytest.skip(f"no built-in schemas of ComfyUI {version}")
    schemas = NodeSchemas.builtin(version)
    with lzma.open(shared / "parity" / f"truth-{version}.json.xz") as file:
        truth = json.load(file)
    chance = random.Random(7)
    whole = [
        case["prompt"]
        for case in truth.values()
        if not any(schemas[node["class_type"]].api_node for node in case["prompt"].values())
    ]
    prompts = whole + [damaged(chance.choice(whole), chance) for _ in range(PROMPTS)]
    (tmp_path / "in.json").write_text(json.dumps(prompts))
    command = [comfyui_install.python, PROBE, tmp_path / "in.json", tmp_path / "out.json"]
    subprocess.run(command, cwd=comfyui_install.path, check=True, capture_output=True)
    accepted = refused = 0
    for prompt, errors in zip(prompts, json.loads((tmp_path / "out.json").read_text()), strict=True):
        real = refusals(errors, prompt, schemas)
        if any(error[1] in {"invalid_prompt", "missing_node_type"} for error in real if isinstance(error, list)):
            continue  # a class whose module this installation cannot import
        ours = refusal(prompt, schemas)
        if ours is None:
            accepted += 1
            assert not real, (real, prompt)
        else:
            refused += 1
            assert real or any(reason in ours for reason in STRICTER), ours
    assert accepted > 100
    assert refused > 100
