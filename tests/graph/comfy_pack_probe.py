"""Runs in a Python that has comfy-pack: prompts (a JSON list on stdin) -> what its generate_input_model makes of each.

For each prompt a list of fields, or null where comfy-pack refuses the prompt.
"""

import json
import sys
import typing
import warnings
from pathlib import Path

from comfy_pack.utils import generate_input_model

TYPES = {Path: "file", str: "text", int: "integer", float: "number", bool: "boolean"}


def described(name, field):
    result = {"name": name, "required": field.is_required()}
    if typing.get_origin(field.annotation) is typing.Literal:
        result["type"] = "choice"
        result["choices"] = list(typing.get_args(field.annotation))
    else:
        result["type"] = TYPES.get(field.annotation, str(field.annotation))
    if not field.is_required():
        result["default"] = field.default
    for bound in field.metadata:
        for key in ("ge", "le"):
            value = getattr(bound, key, None)
            if isinstance(value, int | float):
                result[key] = value
    return result


def fields(prompt):
    try:
        model = generate_input_model(prompt)
    except Exception:
        return None
    return [described(name, field) for name, field in model.model_fields.items()]


warnings.simplefilter("ignore")  # a field may shadow one of pydantic's names
json.dump([fields(prompt) for prompt in json.load(sys.stdin)], sys.stdout)
