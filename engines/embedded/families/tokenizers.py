"""Tokenizers by their files: T5's, Qwen 2.5's and Llama 3's, from ``models/tokenizers`` or a ComfyUI checkout.

No file of them comes with the package; CLIP's vocabulary, which does come with one that we need, is not here.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..problems import NodeProblem

if TYPE_CHECKING:
    from ..context import Run

FOLDER = "tokenizers"  # below a models folder
WHOLE = "tokenizer.json"
_IN_COMFYUI = Path("comfy", "text_encoders")


@dataclass(frozen=True, kw_only=True, slots=True)
class TokenizerFiles:
    """A tokenizer as files.

    Attributes:
        name: its folder below ``models/tokenizers``.
        title: what messages call it.
        comfyui: its folder below ComfyUI's ``comfy/text_encoders``.
        choices: sets of files, any of which is enough.
        entry: what ``atelier models get`` takes.
    """

    name: str
    title: str
    comfyui: str
    choices: tuple[tuple[str, ...], ...]
    entry: str


T5 = TokenizerFiles(
    name="t5",
    title="the tokenizer of T5",
    comfyui="t5_tokenizer",
    choices=((WHOLE,),),
    entry="tokenizer-t5",
)
QWEN25 = TokenizerFiles(
    name="qwen25",
    title="the tokenizer of Qwen 2.5",
    comfyui="qwen25_tokenizer",
    choices=((WHOLE,), ("merges.txt", "tokenizer_config.json", "vocab.json")),
    entry="tokenizer-qwen25",
)
LLAMA3 = TokenizerFiles(
    name="llama3",
    title="the tokenizer of Llama 3",
    comfyui="llama_tokenizer",
    choices=((WHOLE,),),
    entry="tokenizer-llama3",
)


class Vocabulary:
    """A tokenizer that was loaded.

    Attributes:
        around: what it puts around every text by itself: T5 its end (1), Llama its start (128000), Qwen nothing.
    """

    def __init__(self, backend: Any) -> None:
        self._backend = backend
        self.around: tuple[int, ...] = tuple(backend.encode("").ids)

    def __len__(self) -> int:
        return int(self._backend.get_vocab_size())

    def encode(self, text: str) -> list[int]:
        """The text's tokens, with nothing around them; words like ``<|im_start|>`` are the tokens they name."""
        tokens: list[int] = self._backend.encode(text, add_special_tokens=False).ids
        return tokens

    def number(self, token: str) -> int | None:
        """The number of one token by its text; None where there is no such token."""
        found: int | None = self._backend.token_to_id(token)
        return found


def vocabulary(files: TokenizerFiles, run: Run) -> Vocabulary:
    """The tokenizer that a run finds, loaded once.

    Raises:
        NodeProblem: it is not there, or its files are none.
    """
    return load(find(files, run.model_folders, run.comfyui_folder))


def missing(files: TokenizerFiles, run: Run) -> NodeProblem | None:
    """What to say before anything runs where the tokenizer is not there; None where it is."""
    try:
        find(files, run.model_folders, run.comfyui_folder)
    except NodeProblem as problem:
        return problem
    return None


def find(files: TokenizerFiles, model_folders: Sequence[Path], comfyui: Path | None = None) -> Path:
    """The folder that holds the tokenizer.

    Looked for in ``tokenizers/<name>`` of every models folder, then in the ComfyUI checkout that was named, then in
    the checkouts that the models folders are in.

    Raises:
        NodeProblem: it is nowhere whole.
    """
    broken = ""
    for folder in _places(files, model_folders, comfyui):
        if any(all((folder / name).is_file() for name in choice) for choice in files.choices):
            return folder
        if not broken and folder.is_dir():
            lacking = [name for name in files.choices[-1] if not (folder / name).is_file()]
            broken = f": {folder} lacks {' and '.join(lacking)}"
    raise NodeProblem(
        f"{files.title} is not in models/{FOLDER}/{files.name}{broken}",
        remedy=f"run `atelier models get {files.entry}`, or name a ComfyUI checkout besides "
        "(`--engine embedded --comfyui FOLDER`): the text encoder's own file does not hold it",
    )


def _places(files: TokenizerFiles, model_folders: Sequence[Path], comfyui: Path | None) -> Iterator[Path]:
    for root in model_folders:
        yield root / FOLDER / files.name
    for checkout in [*([comfyui] if comfyui is not None else []), *(root.parent for root in model_folders)]:
        yield checkout / _IN_COMFYUI / files.comfyui


def load(folder: Path) -> Vocabulary:
    """The tokenizer in a folder; read again when its files change.

    Raises:
        NodeProblem: the files are no tokenizer.
    """
    stamp = max((path.stat().st_mtime_ns for path in folder.iterdir() if path.is_file()), default=0)
    return _load(folder, stamp)


@functools.lru_cache(maxsize=8)
def _load(folder: Path, stamp: int) -> Vocabulary:
    """`stamp` is there to tell a folder's states apart."""
    try:
        if (folder / WHOLE).is_file():
            from tokenizers import Tokenizer

            whole = Tokenizer.from_file(str(folder / WHOLE))
            whole.no_padding()  # a file may ask for either; how a text is laid out is the encoder's matter
            whole.no_truncation()
            return Vocabulary(whole)
        from transformers import Qwen2TokenizerFast

        parts: Any = Qwen2TokenizerFast.from_pretrained(folder, local_files_only=True)
        return Vocabulary(parts.backend_tokenizer)
    except Exception as error:  # the tokenizers library raises plain Exception
        raise NodeProblem(
            f"{folder}: its files are no tokenizer: {str(error).splitlines()[0]}",
            remedy="remove that folder and fetch it again",
        ) from error
