"""What the embedded engine says before the first job that a workflow would lack."""

from __future__ import annotations

import threading
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest

from comfy_atelier.engines import EmbeddedEngine, InvalidPrompt, UnknownNodes
from comfy_atelier.engines.embedded import registry, wire
from comfy_atelier.engines.embedded.context import Run
from comfy_atelier.engines.embedded.planning import shortcomings, unservable
from comfy_atelier.graph import InputRef, NodeSchemas, Prompt

pytest.importorskip("torch", reason="the embedded engine needs torch")

SCHEMAS = NodeSchemas.builtin(registry.SCHEMAS_OF)
CHECKPOINT = {"class_type": "CheckpointLoaderSimple", "inputs": {"ckpt_name": "v1-5-pruned-emaonly-fp16.safetensors"}}
LORA = {"class_type": "LoraLoaderModelOnly", "inputs": {"model": ["1", 0], "lora_name": "a.safetensors"}}
OURS = {"class_type": "AtelierLoadStableDiffusion", "inputs": {"model": "none.safetensors"}}
UNKNOWN = {"class_type": "SomebodysNode", "inputs": {}}
PICTURE = {"class_type": "LoadImage", "inputs": {"image": "absent.png"}}
MARKER = {"class_type": "AtelierInputText", "inputs": {"name": "prompt", "value": "x"}}


def lacking(
    *nodes: dict[str, Any], models: Iterable[Path] = (), given: Iterable[InputRef] = ()
) -> list[tuple[str, str]]:
    prompt = Prompt.from_json({str(number): node for number, node in enumerate(nodes, start=1)})
    run = Run(emit=lambda event: None, cancelled=threading.Event(), model_folders=tuple(models))
    return [(fault.node_id or "", fault.message) for fault in shortcomings(prompt, SCHEMAS, run, frozenset(given))]


def test_everything_is_in_one_list(tmp_path: Path) -> None:
    found = lacking(CHECKPOINT, UNKNOWN, LORA, OURS, PICTURE, models=[tmp_path])
    assert [node for node, _ in found] == ["1", "2", "3", "4", "5"]
    prompt = Prompt.from_json({"1": CHECKPOINT, "2": UNKNOWN, "3": CHECKPOINT})
    run = Run(emit=lambda event: None, cancelled=threading.Event(), model_folders=(tmp_path,))
    text = str(unservable(shortcomings(prompt, SCHEMAS, run)))
    assert "node 1 (CheckpointLoaderSimple), node 3 (CheckpointLoaderSimple): model 'v1-5" in text
    assert "run `atelier models get sd-1.5`" in text
    assert "the node class SomebodysNode" in text
    assert text.count("SomebodysNode") == 2  # the node, and what it is
    assert "--comfyui" in text


def test_a_folder_is_asked_for_where_there_is_none() -> None:
    assert "no models folder" in lacking(CHECKPOINT)[0][1]


def test_what_callers_give_is_not_asked_for() -> None:
    assert lacking(PICTURE)[0][0] == "1"
    assert lacking(PICTURE, given=[InputRef("1", "image")]) == []


def test_markers_are_not_asked_for() -> None:
    assert lacking(MARKER) == []


def test_a_damaged_file_is_named(tmp_path: Path) -> None:
    folder = tmp_path / "checkpoints"
    folder.mkdir()
    (folder / "v1-5-pruned-emaonly-fp16.safetensors").write_bytes(b"\x08\0\0\0\0\0\0\0{}      ")
    ((_, message),) = lacking(CHECKPOINT, models=[tmp_path])
    assert "v1-5-pruned-emaonly-fp16" in message


def test_only_classes_are_their_own_error() -> None:
    prompt = Prompt.from_json({"1": UNKNOWN})
    run = Run(emit=lambda event: None, cancelled=threading.Event())
    error = unservable(shortcomings(prompt, SCHEMAS, run))
    assert isinstance(error, UnknownNodes)
    assert error.classes == ("SomebodysNode",)


def test_the_list_belongs_to_no_single_node() -> None:
    prompt = Prompt.from_json({"1": CHECKPOINT})
    run = Run(emit=lambda event: None, cancelled=threading.Event())
    error = wire.error_from_json(wire.error_to_json(unservable(shortcomings(prompt, SCHEMAS, run))))
    assert isinstance(error, InvalidPrompt)
    assert str(error).startswith("the embedded engine cannot run this workflow; it lacks:\n  node 1 (")
    assert [fault.node_id for fault in error.errors] == ["1"]


@pytest.mark.asyncio
async def test_an_engine_tells_it_before_the_first_job(tmp_path: Path) -> None:
    engine = EmbeddedEngine(models_dirs=[tmp_path], log_dir=tmp_path)
    try:
        await engine.check(Prompt.from_json({"1": {"class_type": "EmptyImage", "inputs": {}}}))
        assert engine.log_path is None  # nothing to look for: the worker was not even started
        with pytest.raises(InvalidPrompt, match=r"node 1 \(CheckpointLoaderSimple\): model 'v1-5"):
            await engine.check(Prompt.from_json({"1": CHECKPOINT}))
    finally:
        await engine.close()
