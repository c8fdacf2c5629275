"""HunyuanImage-3.0 on this machine, through transformers and the code that lies beside its weights.

transformers has no class for it: the model's own code is run, and so only from a local folder and only where the user
has allowed that for this machine. Source: README of Tencent-Hunyuan/HunyuanImage-3.0.
"""

# mypy: disable-error-code="import-not-found, import-untyped, no-any-return, no-untyped-call"
# transformers, torch and psutil are ComfyUI's; the model's own code has no types.

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from .errors import NodeInputError
from .remote_access import config_file

ARCHITECTURE = "HunyuanImage3"
NEEDS_GB = 160
"""Of its 80 billion weights in bfloat16 alone; its README asks for three cards of 80 GB."""


def folders(roots: list[Path]) -> dict[str, Path]:
    """The folders below models/diffusers that hold this model: name -> path."""
    found: dict[str, Path] = {}
    for root in roots:
        for config in sorted(root.glob("*/config.json")):
            if config.parent.name not in found and _is_ours(config):
                found[config.parent.name] = config.parent
    return found


def _is_ours(config: Path) -> bool:
    try:
        values = json.loads(config.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    classes = values.get("architectures") if isinstance(values, dict) else None
    return isinstance(classes, list) and any(str(name).startswith(ARCHITECTURE) for name in classes)


def check_allowed(folder: Path, trusted: bool) -> None:
    """Raise NodeInputError where the user has not allowed model code, or the weights do not fit this machine."""
    if not trusted:
        raise NodeInputError(
            f"'{folder.name}' runs Python code that lies beside its weights, and this machine does not allow that; "
            f"if you trust it, set ATELIER_TRUST_MODEL_CODE=1, or trust_code = true in [models] of {config_file()}"
        )
    weights = sum(file.stat().st_size for file in folder.glob("*.safetensors"))
    free = _free_bytes()
    if weights > free:
        raise NodeInputError(
            f"'{folder.name}' has {weights / 1e9:.0f} GB of weights (the published model needs more than {NEEDS_GB} GB "
            f"of memory) and this machine has {free / 1e9:.0f} GB free; use a server (HunyuanImage 3.0 (server))"
        )


def _free_bytes() -> int:
    import psutil
    import torch

    cards = range(torch.cuda.device_count()) if torch.cuda.is_available() else ()
    return int(psutil.virtual_memory().available) + sum(torch.cuda.mem_get_info(card)[0] for card in cards)


def load(folder: Path) -> Any:
    """The model, spread over the cards and memory there are; nothing is fetched from anywhere."""
    from importlib.util import find_spec

    import torch
    from transformers import AutoModelForCausalLM

    spread: Mapping[str, Any] = {"device_map": "auto"} if find_spec("accelerate") else {}
    if not spread and torch.cuda.is_available():
        raise NodeInputError(
            "loading it over several cards needs the package accelerate; install it for ComfyUI's Python"
        )
    try:
        model = AutoModelForCausalLM.from_pretrained(
            str(folder),
            trust_remote_code=True,  # the caller has checked the user's own switch
            local_files_only=True,
            torch_dtype="auto",
            attn_implementation="sdpa",
            moe_impl="eager",
            **spread,
        )
        model.load_tokenizer(str(folder))
    except (ImportError, OSError, ValueError, KeyError, AttributeError) as error:
        first = " ".join(str(error).split())[:300]
        raise NodeInputError(
            f"'{folder.name}' cannot be loaded: {first}; compare the folder with its repository"
        ) from error
    return model


def draw(model: Any, *, prompt: str, seed: int, size: tuple[int, int] | None, steps: int) -> list[np.ndarray[Any, Any]]:
    """Pictures of a prompt: float32 [height, width, 3] in 0..1; ``size`` in pixels, None lets the model choose."""
    made = model.generate_image(
        prompt=prompt,
        seed=seed,
        image_size=f"{size[1]}x{size[0]}" if size else "auto",  # its code reads height x width
        diff_infer_steps=steps,
        stream=False,
    )
    if isinstance(made, tuple):
        made = made[-1]  # the instruct model gives its thoughts first
    pictures = made if isinstance(made, list) else [made]
    return [np.asarray(picture.convert("RGB"), dtype=np.float32) / np.float32(255.0) for picture in pictures]
