"""Write how ComfyUI lays out texts for Qwen-Image: templates, pictures in their places, what of it is told.

Run it with ComfyUI's Python:

    cd COMFYUI && PYTHON .../tests/data/parity/record_qwen_text.py --cpu

Writes ``qwen_text.json.xz`` beside itself: the text as the tokenizer is given it, its tokens (a picture is null), and
from which token on the model is told.
"""

from __future__ import annotations

import json
import lzma
import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path.cwd()))  # ComfyUI's folder: its modules are not installed

import comfy.options

comfy.options.enable_args_parsing()

import torch  # noqa: E402
from comfy import sd1_clip  # noqa: E402
from comfy.text_encoders import qwen_image  # noqa: E402

HERE = Path(__file__).parent
OWN = "<|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>user\n{}<|im_end|>\n"
CASES: list[dict[str, Any]] = [
    {"text": "a red circle (very:1.3) \\(round\\) {here}", "images": 0},
    {"text": "", "images": 0},
    {"text": "make it blue", "images": 1},
    {
        "text": "Picture 1: <|vision_start|><|image_pad|><|vision_end|>Picture 2: <|vision_start|><|image_pad|>"
        "<|vision_end|>both",
        "images": 2,
        "template": OWN,
    },
    {"text": "<|im_start|>my own<|im_end|>", "images": 0},
    {"text": "<|im_start|>assistant\nmy own<|im_start|>user\nwell", "images": 0},
    {"text": "<|start_header_id|>nothing of Qwen's", "images": 0},
    {"text": "an <|image_pad|> too many", "images": 1},
]


def main() -> None:
    tokenizer = qwen_image.QwenImageTokenizer()
    inner = tokenizer.qwen25_7b
    said: list[str] = []
    look_up = inner.tokenizer
    inner.tokenizer = lambda text, **told: said.append(text) or look_up(text, **told)
    kept = {}

    class Model(qwen_image.QwenImageTEModel):
        def __init__(self) -> None:
            torch.nn.Module.__init__(self)

    def whole(self: Any, pairs: Any) -> Any:
        count = len(pairs["qwen25_7b"][0])
        kept["out"] = torch.arange(count).reshape(1, count, 1)
        return kept["out"], None, {"attention_mask": torch.ones((1, count))}

    sd1_clip.SD1ClipModel.encode_token_weights = whole
    recorded = []
    for case in CASES:
        said.clear()
        images = [torch.zeros((1, 28, 28, 3))] * case["images"]
        tokens = tokenizer.tokenize_with_weights(case["text"], images=images, llama_template=case.get("template"))
        row = [None if isinstance(token, dict) else int(token) for token, _ in tokens["qwen25_7b"][0]]
        out = Model().encode_token_weights(tokens)[0]
        recorded.append({**case, "said": said[-1], "tokens": row, "told_from": int(out[0, 0, 0])})
    (HERE / "qwen_text.json.xz").write_bytes(lzma.compress(json.dumps(recorded).encode(), preset=9))


main()
