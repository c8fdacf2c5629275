"""Write how ComfyUI reads prompts for HunyuanImage 2.1: tokens, the template's end, what ByT5 is told.

Run it with ComfyUI's Python:

    cd COMFYUI && PYTHON .../tests/data/parity/record_hunyuan_text.py --cpu

Writes ``hunyuan_text.json.xz`` beside itself.
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
from comfy.text_encoders.hunyuan_image import HunyuanImageTEModel, HunyuanImageTokenizer  # noqa: E402

HERE = Path(__file__).parent
PROMPTS = (
    "",
    "a fox",
    'a sign that says "Hello, World!" and "naïve café"',
    "a wall with “你好” and ‘单’ on it",
    'weights "(big:1.3) \\(plain\\)" stay outside (here:1.2)',
    'an empty "" one and an open " one',
    'odd "</s><pad><extra_id_5><extra_id_200>" words',
    "<|im_start|>user\nmy own template<|im_end|>",
    "<|start_header_id|>system<|end_header_id|> " + "a refiner's prompt " * 8,
)


def main() -> None:
    tokenizer = HunyuanImageTokenizer()
    whole: dict[str, Any] = {}

    def numbered(self: Any, tokens: Any) -> Any:
        count = len(whole["tokens"])
        return torch.arange(count).reshape(1, count, 1), None, {"attention_mask": torch.ones(1, count)}

    sd1_clip.SD1ClipModel.encode_token_weights = numbered
    model = HunyuanImageTEModel.__new__(HunyuanImageTEModel)
    torch.nn.Module.__init__(model)
    model.byt5_small = None
    recorded = []
    for prompt in PROMPTS:
        tokens = tokenizer.tokenize_with_weights(prompt)
        whole["tokens"] = tokens["qwen25_7b"][0]
        text = model.encode_token_weights(tokens)[0]
        recorded.append(
            {
                "prompt": prompt,
                "tokens": [token for token, _ in tokens["qwen25_7b"][0]],
                "start": int(text[0, 0, 0]),
                "glyphs": tokens.get("byt5"),
            }
        )
    (HERE / "hunyuan_text.json.xz").write_bytes(lzma.compress(json.dumps(recorded).encode(), preset=9))


main()
