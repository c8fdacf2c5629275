"""Write how ComfyUI lays tokens out in sections, with a stand-in for the tokenizer that the test has too.

Run it with ComfyUI's Python:

    cd COMFYUI && PYTHON .../tests/data/parity/record_tokens.py --cpu

Writes ``tokens.json.xz`` beside itself. A vector of an embedding is written as its first number.
"""

from __future__ import annotations

import json
import lzma
import sys
import tempfile
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path.cwd()))  # ComfyUI's folder: its modules are not installed

import comfy.options

comfy.options.enable_args_parsing()

import torch  # noqa: E402
from comfy.sd1_clip import SDTokenizer  # noqa: E402
from safetensors.torch import save_file  # noqa: E402

HERE = Path(__file__).parent
# name -> arguments of SDTokenizer, and what its tokenizer puts around a text
LAYOUTS: dict[str, tuple[dict[str, Any], list[int], list[int]]] = {
    "clip": ({"max_length": 20}, [1], [2]),
    "clip_zero": ({"max_length": 20, "pad_with_end": False}, [1], [2]),
    "t5": (
        {
            "pad_with_end": False,
            "has_start_token": False,
            "pad_to_max_length": False,
            "max_length": 99999999,
            "min_length": 24,
        },
        [],
        [2],
    ),
    "t5_short": (
        {
            "pad_with_end": False,
            "has_start_token": False,
            "pad_to_max_length": False,
            "max_length": 12,
            "min_length": 12,
        },
        [],
        [2],
    ),
    "qwen": (
        {
            "pad_with_end": False,
            "has_start_token": False,
            "has_end_token": False,
            "pad_to_max_length": False,
            "max_length": 99999999,
            "min_length": 1,
            "pad_token": 9,
        },
        [],
        [],
    ),
    "llama": (
        {
            "pad_with_end": False,
            "has_start_token": True,
            "has_end_token": False,
            "pad_to_max_length": False,
            "max_length": 99999999,
            "pad_token": 9,
            "min_length": 16,
        },
        [1],
        [],
    ),
}
TEXTS = [
    "",
    "a cat",
    "a (cat:1.3) on [a] ((mat))",
    "abcdefghijklmnopqrstuvwxyz and more than one section holds",
    "one (two two) (three:0.5) four five (six seven eight nine:1.2)",
    "embedding:word at the start",
    "a embedding:word, b",
    "a (embedding:word:1.2) b embedding:missing c",
    "a embedding:word<lora> b embedding:line\n",
    "notembedding:word embedding: word",
    r"\(kept\) \\(x:2)",
    "(((",
]


class Letters:
    """A letter is a token; stands for a tokenizer's class."""

    def __init__(self, before: list[int], after: list[int]) -> None:
        self.before, self.after = before, after

    def from_pretrained(self, path: str) -> Letters:
        return self

    def __call__(self, text: str) -> dict[str, list[int]]:
        return {"input_ids": [*self.before, *(ord(letter) for letter in text if letter != " "), *self.after]}

    def get_vocab(self) -> dict[str, int]:
        return {}


def plain(token: Any) -> Any:
    return float(token.flatten()[0]) if isinstance(token, torch.Tensor) else token


def main() -> None:
    recorded: dict[str, Any] = {"texts": TEXTS, "layouts": {}}
    with tempfile.TemporaryDirectory() as folder:
        save_file({"emb": torch.tensor([[0.5, 0.0], [1.5, 0.0]])}, f"{folder}/word.safetensors")
        save_file({"emb": torch.tensor([2.5, 0.0])}, f"{folder}/line.safetensors")
        for name, (arguments, before, after) in LAYOUTS.items():
            for weighted in (True, False):
                tokenizer = SDTokenizer(
                    "",
                    tokenizer_class=Letters(before, after),
                    embedding_directory=folder,
                    embedding_size=2,
                    **arguments,
                )
                laid_out = [tokenizer.tokenize_with_weights(text, disable_weights=not weighted) for text in TEXTS]
                recorded["layouts"][f"{name}{'' if weighted else ' plain'}"] = [
                    [[[plain(token), weight] for token, weight in section] for section in sections]
                    for sections in laid_out
                ]
    (HERE / "tokens.json.xz").write_bytes(lzma.compress(json.dumps(recorded).encode(), preset=9))


main()
