"""Records the tokens that ComfyUI 0.33.0's tokenizer gives for odd texts; run with its Python, in its folder.

cd COMFYUI && PYTHON record_clip_tokens.py > clip_tokens.json
"""

import json
import random
import sys
from pathlib import Path

sys.path.insert(0, str(Path.cwd()))
from transformers import CLIPTokenizer

TEXTS = [
    "",
    "a",
    "héllo  Wörld 😀 ﬁne’s 123 l'été\n\tfoo &amp; <|endoftext|> 日本語",
    "don't we'll I'M x's <|ENDOFTEXT|> a<|startoftext|>b",
    "supercalifragilisticexpialidocious" * 2,
    "\u200d👨‍👩‍👧 ¼½² Ⅷ ǅ İstanbul ẞ",
    "a\x0bb\x0cc\x1fd\u2028e\u3000f",
    "^^--__##@@  ... (((",
    "½ \xa0 \ufffd\x00 e\u0301 ñ",
    "한국어 テスト",
]


def main() -> None:
    """Print texts and tokens."""
    rng = random.Random(1)
    pool = "abcdefgh XYZ 0123 '\"()[]:.,!?éüß€😀中文 \t\n\u200b\u0301ǅ½’“—"
    texts = TEXTS + ["".join(rng.choice(pool) for _ in range(rng.randint(1, 40))) for _ in range(40)]
    tokenizer = CLIPTokenizer.from_pretrained(Path.cwd() / "comfy" / "sd1_tokenizer")
    print(json.dumps([[text, tokenizer(text)["input_ids"][1:-1]] for text in texts], indent=0))


if __name__ == "__main__":
    main()
