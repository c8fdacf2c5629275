"""Tokenizer files: where they are looked for, what is said where they are not, and what they make of a text."""

from __future__ import annotations

import json
import threading
from pathlib import Path
from typing import Any

import pytest

tokenizers = pytest.importorskip("tokenizers", reason="the embedded engine needs tokenizers")

from comfy_atelier.catalogue import load as catalogue  # noqa: E402
from comfy_atelier.engines.embedded.context import Run  # noqa: E402
from comfy_atelier.engines.embedded.families import tokenizers as files  # noqa: E402
from comfy_atelier.engines.embedded.problems import NodeProblem  # noqa: E402

TEXT = ["a red circle on a blue ground", "two green squares", "a red square"]


def unigram(path: Path) -> None:
    """A small tokenizer as T5's is: pieces with a mark for a space, an end after each text, padding asked for."""
    made = tokenizers.Tokenizer(tokenizers.models.Unigram())
    made.pre_tokenizer = tokenizers.pre_tokenizers.Metaspace()
    trainer = tokenizers.trainers.UnigramTrainer(
        vocab_size=60, special_tokens=["<pad>", "</s>", "<unk>"], unk_token="<unk>", show_progress=False
    )
    made.train_from_iterator(TEXT, trainer)
    made.post_processor = tokenizers.processors.TemplateProcessing(
        single="$A </s>", special_tokens=[("</s>", made.token_to_id("</s>"))]
    )
    made.enable_padding(length=32)
    made.enable_truncation(max_length=4)
    path.parent.mkdir(parents=True)
    made.save(str(path))


def bytewise(folder: Path) -> None:
    """A small tokenizer as Qwen's is: three files, words like ``<|im_start|>`` added."""
    made = tokenizers.ByteLevelBPETokenizer()
    made.train_from_iterator(TEXT, vocab_size=300, show_progress=False)
    folder.mkdir(parents=True)
    made.save_model(str(folder))
    words = ["<|endoftext|>", "<|im_start|>"]
    flags = {"lstrip": False, "rstrip": False, "normalized": False, "single_word": False, "special": True}
    size = made.get_vocab_size()
    config = {
        "tokenizer_class": "Qwen2Tokenizer",
        "add_prefix_space": False,
        "added_tokens_decoder": {str(size + number): {"content": word, **flags} for number, word in enumerate(words)},
        "additional_special_tokens": words[1:],
        "eos_token": "<|endoftext|>",
        "pad_token": "<|endoftext|>",
        "unk_token": None,
    }
    (folder / "tokenizer_config.json").write_text(json.dumps(config))


def run(*models: Path, comfyui: Path | None = None) -> Run:
    return Run(emit=lambda _: None, cancelled=threading.Event(), model_folders=models, comfyui_folder=comfyui)


def test_a_models_folder_comes_before_a_checkout(tmp_path: Path) -> None:
    unigram(tmp_path / "ComfyUI/comfy/text_encoders/t5_tokenizer/tokenizer.json")
    (tmp_path / "models").mkdir()
    with pytest.raises(NodeProblem):
        files.find(files.T5, [tmp_path / "models"])
    found = files.find(files.T5, [tmp_path / "models"], tmp_path / "ComfyUI")
    assert found == tmp_path / "ComfyUI/comfy/text_encoders/t5_tokenizer"
    assert files.find(files.T5, [tmp_path / "ComfyUI/models"]) == found, "the checkout that the models belong to"
    unigram(tmp_path / "models/tokenizers/t5/tokenizer.json")
    assert files.find(files.T5, [tmp_path / "models"], tmp_path / "ComfyUI") == tmp_path / "models/tokenizers/t5"


def test_what_is_missing_is_named_with_what_to_do(tmp_path: Path) -> None:
    problem = files.missing(files.QWEN25, run(tmp_path))
    assert problem is not None
    assert "models/tokenizers/qwen25" in problem.message
    assert "`atelier models get tokenizer-qwen25`" in problem.remedy
    folder = tmp_path / "tokenizers/qwen25"
    bytewise(folder)
    assert files.missing(files.QWEN25, run(tmp_path)) is None
    (folder / "merges.txt").unlink()
    problem = files.missing(files.QWEN25, run(tmp_path))
    assert problem is not None
    assert f"{folder} lacks merges.txt" in problem.message


@pytest.mark.parametrize("kind", [files.T5, files.QWEN25, files.LLAMA3], ids=lambda kind: kind.name)
def test_the_catalogue_has_the_files(kind: files.TokenizerFiles) -> None:
    known = [file for file in catalogue().files.values() if file.id.startswith(kind.entry)]
    names = {file.name.removeprefix(f"{kind.name}/") for file in known if file.folder == files.FOLDER}
    assert any(set(choice) <= names for choice in kind.choices)


def test_pieces_with_their_end(tmp_path: Path) -> None:
    unigram(tmp_path / "tokenizers/t5/tokenizer.json")
    vocabulary = files.vocabulary(files.T5, run(tmp_path))
    end = vocabulary.number("</s>")
    assert vocabulary.around == (end,)
    tokens = vocabulary.encode("a red circle on a blue ground")
    assert len(tokens) > 4, "the file's own truncation does not count"
    assert end not in tokens
    assert vocabulary.number("<pad>") not in tokens
    assert vocabulary.encode("a</s>")[-1] == end, "the end's own text is the end"
    assert max(tokens) < len(vocabulary)
    assert vocabulary.number("no such piece") is None
    assert files.vocabulary(files.T5, run(tmp_path)) is vocabulary


def test_bytes_with_added_words(tmp_path: Path) -> None:
    pytest.importorskip("transformers")
    bytewise(tmp_path / "tokenizers/qwen25")
    vocabulary = files.vocabulary(files.QWEN25, run(tmp_path))
    assert vocabulary.around == ()
    start = vocabulary.number("<|im_start|>")
    assert start is not None
    tokens = vocabulary.encode("<|im_start|>a red circle")
    assert tokens[0] == start
    assert start not in tokens[1:]
    assert len(vocabulary.encode("é")) == len("é".encode())


@pytest.mark.parametrize("content", ["", "{}", "[1, 2", '{"model": {"type": "none"}}'])
def test_a_file_that_is_no_tokenizer(tmp_path: Path, content: str) -> None:
    path = tmp_path / "tokenizers/t5/tokenizer.json"
    path.parent.mkdir(parents=True)
    path.write_text(content)
    with pytest.raises(NodeProblem, match="its files are no tokenizer") as caught:
        files.vocabulary(files.T5, run(tmp_path))
    assert str(path.parent) in caught.value.message
    assert "\n" not in caught.value.message


@pytest.mark.comfyui
def test_tokens_of_comfyuis_own_files(comfyui_installs: Any) -> None:
    checkout = Path(comfyui_installs[0].path)
    t5 = files.vocabulary(files.T5, run(comfyui=checkout))
    assert t5.encode("a red circle") == [3, 9, 1131, 8196]
    assert t5.around == (1,)
    qwen = files.vocabulary(files.QWEN25, run(comfyui=checkout))
    assert qwen.encode("<|im_start|>user\na red circle") == [151644, 872, 198, 64, 2518, 12671]
