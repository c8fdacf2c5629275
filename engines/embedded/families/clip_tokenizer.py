"""CLIP's words to numbers, as ComfyUI's tokenizer gives them.

ComfyUI uses the tokenizer of transformers 4 in Python, without ftfy: text is cleaned as BERT's is (control characters
go, Chinese characters stand alone, NFC), set in small letters, cut into words and byte pairs. transformers 5 cleans
otherwise, so the cleaning is here; the vocabulary is OpenAI's, from ``open_clip_torch``'s data file or a folder.
Sources: transformers 4 ``tokenization_clip.py`` (behaviour), Radford et al. 2021 (arXiv 2103.00020).
"""

from __future__ import annotations

import functools
import gzip
import importlib.util
import itertools
import json
import unicodedata
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from ..problems import NodeProblem

START, END = 49406, 49407
_SPECIAL: Mapping[str, int] = {"<|startoftext|>": START, "<|endoftext|>": END}
_MERGES = 49152 - 256 - 2
_ENDINGS = ("'s", "'t", "'re", "'ve", "'m", "'ll", "'d")
_CHINESE = (
    (0x4E00, 0x9FFF),
    (0x3400, 0x4DBF),
    (0x20000, 0x2A6DF),
    (0x2A700, 0x2B73F),
    (0x2B740, 0x2B81F),
    (0x2B820, 0x2CEAF),
    (0xF900, 0xFAFF),
    (0x2F800, 0x2FA1F),
)


def _byte_letters() -> dict[int, str]:
    """A printable letter for each byte: itself where it has one, else one beyond the first 256."""
    plain = [*range(ord("!"), ord("~") + 1), *range(ord("¡"), ord("¬") + 1), *range(ord("®"), ord("ÿ") + 1)]
    letters = {byte: chr(byte) for byte in plain}
    others = [byte for byte in range(256) if byte not in letters]
    letters.update({byte: chr(256 + place) for place, byte in enumerate(others)})
    return letters


class ClipTokenizer:
    """Text to tokens.

    Args:
        merges: pairs of parts, the most frequent first, as the vocabulary file lists them.
    """

    def __init__(self, merges: Sequence[tuple[str, str]]) -> None:
        self._letters = _byte_letters()
        parts = list(self._letters.values())
        parts += [part + "</w>" for part in parts]
        parts += [first + second for first, second in merges]
        self._numbers = {part: number for number, part in enumerate(parts)} | dict(_SPECIAL)
        self._ranks = {pair: rank for rank, pair in enumerate(merges)}
        self._word = functools.lru_cache(maxsize=65536)(self._tokens_of_word)

    def __call__(self, text: str) -> list[int]:
        """The tokens of a text, without start and end."""
        tokens: list[int] = []
        for piece in _special_apart(text):
            if piece in _SPECIAL:
                tokens.append(_SPECIAL[piece])
                continue
            for word in _words(" ".join(_cleaned(piece))):
                tokens.extend((_SPECIAL[word],) if word in _SPECIAL else self._word(word))
        return tokens

    def _tokens_of_word(self, word: str) -> tuple[int, ...]:
        parts = [self._letters[byte] for byte in word.encode("utf-8", "surrogatepass")]
        parts[-1] += "</w>"
        while len(parts) > 1:
            pairs = itertools.pairwise(parts)
            rank, pair = min((self._ranks.get(pair, len(self._ranks)), pair) for pair in pairs)
            if rank == len(self._ranks):
                break
            parts = _joined(parts, pair)
        return tuple(self._numbers[part] for part in parts)


def _joined(parts: list[str], pair: tuple[str, str]) -> list[str]:
    merged: list[str] = []
    place = 0
    while place < len(parts):
        if place + 1 < len(parts) and (parts[place], parts[place + 1]) == pair:
            merged.append(parts[place] + parts[place + 1])
            place += 2
        else:
            merged.append(parts[place])
            place += 1
    return merged


def _special_apart(text: str) -> Iterator[str]:
    while text:
        places = [(text.find(name), name) for name in _SPECIAL if name in text]
        if not places:
            yield text
            return
        place, name = min(places)
        if place:
            yield text[:place]
        yield name
        text = text[place + len(name) :]


def _cleaned(text: str) -> list[str]:
    """The words between spaces: control characters gone, Chinese characters alone, composed, in small letters."""
    kept: list[str] = []
    for letter in text:
        category = unicodedata.category(letter)
        if letter in " \t\n\r" or category == "Zs":
            kept.append(" ")
        elif category[0] == "C" or letter == "\ufffd":
            continue
        elif any(low <= ord(letter) <= high for low, high in _CHINESE):
            kept.append(f" {letter} ")
        else:
            kept.append(letter)
    return [word.lower() for word in unicodedata.normalize("NFC", "".join(kept)).split()]


def _words(text: str) -> Iterator[str]:
    """Runs of letters, single digits, runs of other signs; English endings after an apostrophe are words."""
    place = 0
    while place < len(text):
        if text[place].isspace():
            place += 1
            continue
        special = next((name for name in (*_SPECIAL, *_ENDINGS) if text.startswith(name, place)), None)
        if special is not None:
            yield special
            place += len(special)
            continue
        kind = _kind(text[place])
        end = place + 1
        while kind != "N" and end < len(text) and _kind(text[end]) == kind:
            end += 1
        yield text[place:end]
        place = end


@functools.lru_cache(maxsize=4096)
def _kind(letter: str) -> str:
    if letter.isspace():
        return " "
    category = unicodedata.category(letter)[0]
    return category if category in "LN" else "other"


def read_merges(path: Path) -> list[tuple[str, str]]:
    """The merges in OpenAI's ``bpe_simple_vocab_16e6.txt.gz`` or a ``merges.txt``.

    Raises:
        NodeProblem: the file is none.
    """
    try:
        data = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
        lines = data.decode("utf-8").split("\n")
        merges = [(pair[0], pair[1]) for line in lines[1 : 1 + _MERGES] if len(pair := line.split()) == 2]
    except (OSError, EOFError, ValueError) as error:
        raise NodeProblem(f"CLIP's vocabulary {path.name!r} cannot be read", remedy="fetch it again") from error
    if len(merges) != _MERGES:
        raise NodeProblem(f"CLIP's vocabulary {path.name!r} is not whole", remedy="fetch it again")
    return merges


def _merges_in(path: Path) -> list[tuple[str, str]]:
    """Of a ``tokenizer.json``, as transformers saves it."""
    model = json.loads(path.read_text(encoding="utf-8"))["model"]
    pairs = (merge.split() if isinstance(merge, str) else merge for merge in model["merges"])
    return [(first, second) for first, second in pairs]


def vocabulary_path(model_folders: Sequence[Path] = (), comfyui: Path | None = None) -> Path | None:
    """Where CLIP's vocabulary is: ``open_clip_torch``, else ``models/tokenizers/clip``, else a ComfyUI's checkout."""
    found = importlib.util.find_spec("open_clip")
    for place in (found.submodule_search_locations or ()) if found is not None else ():
        path = Path(place) / "bpe_simple_vocab_16e6.txt.gz"
        if path.is_file():
            return path
    folders = [folder / "tokenizers" / "clip" for folder in model_folders]
    if comfyui is not None:
        folders.append(comfyui / "comfy" / "sd1_tokenizer")
    for folder in folders:
        for name in ("bpe_simple_vocab_16e6.txt.gz", "merges.txt", "tokenizer.json"):
            if (folder / name).is_file():
                return folder / name
    return None


@functools.lru_cache(maxsize=2)
def tokenizer_at(path: Path) -> ClipTokenizer:
    """The tokenizer with the vocabulary of that file."""
    return ClipTokenizer(_merges_in(path) if path.suffix == ".json" else read_merges(path))


def clip_tokenizer(model_folders: Sequence[Path] = (), comfyui: Path | None = None) -> ClipTokenizer:
    """CLIP's tokenizer. Raises `NodeProblem` where its vocabulary is nowhere."""
    path = vocabulary_path(model_folders, comfyui)
    if path is None:
        raise NodeProblem(
            "CLIP's vocabulary is not there",
            remedy="pip install --no-deps open_clip_torch, or put merges.txt into models/tokenizers/clip",
        )
    return tokenizer_at(path)
