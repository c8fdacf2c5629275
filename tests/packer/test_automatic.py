"""What our loaders choose by themselves is in the bundle: headers of the real files, with holes for weights."""

from __future__ import annotations

import json
import lzma
import struct
from pathlib import Path
from typing import Any

import pytest

from comfy_atelier.catalogue import load
from comfy_atelier.graph import NodeSchemas, Prompt
from comfy_atelier.packer import MissingFile, pack, packing
from comfy_atelier.packer.automatic import automatic_refs
from comfy_atelier.packer.folders import ModelFolders
from comfy_atelier.packer.hashes import HashCache

HEADERS = Path(__file__).parent.parent / "data" / "headers"
SCHEMAS = NodeSchemas.builtin()


def write(path: Path, header: str) -> None:
    """A file with the names and shapes of a real one; its weights are a hole."""
    document = json.loads(lzma.decompress((HEADERS / f"{header}.json.xz").read_bytes()))
    entries: dict[str, object] = {}
    offset = 0
    for name, shape in document["shapes"].items():
        amount = 2
        for side in shape:
            amount *= side
        entries[name] = {"dtype": "F16", "shape": shape, "data_offsets": [offset, offset + amount]}
        offset += amount
    text = json.dumps(entries).encode()
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("wb") as stream:
        stream.write(struct.pack("<Q", len(text)) + text)
        stream.truncate(8 + len(text) + offset)


def prompt(model: str = "flux1-dev.safetensors", loader: str = "AtelierLoadFlux", **values: str) -> dict[str, Any]:
    given = {"model": model, "variant": "automatic", "vae": "automatic", "precision": "default"} | values
    return {
        "1": {"class_type": loader, "inputs": given},
        "2": {"class_type": "CLIPTextEncode", "inputs": {"clip": ["1", 1], "text": "a fox"}},
        "3": {"class_type": "PreviewAny", "inputs": {"source": ["2", 0]}},
        "9": {"class_type": loader, "inputs": {**given, "model": "nobody needs this.safetensors"}},
    }


@pytest.fixture
def models(tmp_path: Path) -> Path:
    folder = tmp_path / "models"
    write(folder / "diffusion_models" / "flux1-dev.safetensors", "flux1_dev")
    write(folder / "text_encoders" / "clip_l.safetensors", "clip_l")
    write(folder / "text_encoders" / "a clip_l.safetensors", "clip_l")
    write(folder / "clip" / "t5xxl_fp8_e4m3fn_scaled.safetensors", "t5xxl")
    write(folder / "vae" / "sub" / "ae.safetensors", "vae_16")
    (folder / "vae" / "broken.safetensors").write_bytes(b"\xff" * 40)
    return folder


def chosen(nodes: dict[str, Any], models: Path) -> list[tuple[str, str, tuple[str, ...]]]:
    refs = automatic_refs(Prompt.from_json(nodes), SCHEMAS, ModelFolders.of(models_dirs=[models]))
    return [(ref.ref.input, ref.name, ref.folders) for ref in refs]


def test_what_automatic_takes(models: Path) -> None:
    t5 = ("t5xxl", "t5xxl_fp8_e4m3fn_scaled.safetensors", ("text_encoders",))
    vae = ("vae", "sub/ae.safetensors", ("vae",))
    assert chosen(prompt(), models) == [("clip_l", "clip_l.safetensors", ("text_encoders",)), t5, vae]
    assert chosen(prompt(clip_l="a clip_l.safetensors"), models) == [t5, vae]
    assert chosen(prompt(clip_l="none", vae="sub/ae.safetensors"), models) == [t5]


def test_what_is_nowhere_is_named_by_the_catalogue(models: Path) -> None:
    (models / "vae" / "sub" / "ae.safetensors").unlink()
    assert chosen(prompt(), models)[2] == ("vae", "ae.safetensors", ("vae",))
    (models / "diffusion_models" / "flux1-dev.safetensors").unlink()
    whole = load().variant("flux1-dev").file_sets[0]
    expected = {file.name for file in whole.files if file.role != "diffusion_model"}
    assert {name for _, name, _ in chosen(prompt(), models)} == expected
    assert chosen(prompt("my own mix.safetensors"), models) == []
    assert chosen(prompt("sd3.5_large.safetensors"), models) == []


def test_a_checkpoint_brings_its_own(models: Path) -> None:
    write(models / "checkpoints" / "sd15.safetensors", "sd1_checkpoint")
    assert chosen(prompt("sd15.safetensors", "AtelierLoadStableDiffusion"), models) == []


def test_the_bundle_has_all_that_is_loaded(models: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Hashing gigabytes of holes is not what is tested: the catalogue's own hashes stand for them."""
    known = {file.name: file.sha256 for file in load().files.values() if file.sha256}
    monkeypatch.setattr(packing, "hash_files", lambda paths, **_: {p: known.get(p.name, "ab" * 32) for p in paths})
    source = tmp_path / "flow.json"
    source.write_text(json.dumps(prompt()), encoding="utf-8")
    report = pack(source, tmp_path / "x.cpack.zip", models_dirs=[models], cache=HashCache(tmp_path / "c.sqlite3"))
    assert [model.filename for model in report.models] == [
        "models/clip/t5xxl_fp8_e4m3fn_scaled.safetensors",
        "models/diffusion_models/flux1-dev.safetensors",
        "models/text_encoders/clip_l.safetensors",
        "models/vae/sub/ae.safetensors",
    ]
    clip = next(model for model in report.models if model.filename.endswith("clip_l.safetensors"))
    assert clip.sha256 == known["clip_l.safetensors"]
    assert clip.source is not None
    assert clip.source.download_url == load().files["clip-l"].url


def test_a_part_that_is_missing_is_an_error_or_recorded(models: Path, tmp_path: Path) -> None:
    for file in (models / "text_encoders").iterdir():
        file.unlink()
    for folder in ("diffusion_models", "clip", "vae"):  # of what is found, no more than the header is to be hashed
        for file in (models / folder).rglob("*.safetensors"):
            if file.name != "broken.safetensors":
                file.unlink()
    source = tmp_path / "flow.json"
    source.write_text(json.dumps(prompt(variant="flux1-dev")), encoding="utf-8")
    options: dict[str, Any] = {"models_dirs": [models], "cache": HashCache(tmp_path / "c.sqlite3")}
    with pytest.raises(MissingFile, match=r"\(AtelierLoadFlux\), input 'vae': the model 'ae.safetensors' is not in|"
                                          r"input 'model': the model 'flux1-dev.safetensors' is not in"):  # fmt: skip
        pack(source, tmp_path / "x.cpack.zip", **options)
    report = pack(source, tmp_path / "x.cpack.zip", allow_missing_models=True, **options)
    recorded = {model.filename for model in report.models} | {m.filename for m in report.manifest.unresolved_models}
    assert {"models/text_encoders/clip_l.safetensors", "models/vae/ae.safetensors"} <= recorded
    clip = next(model for model in report.models if model.filename.endswith("clip_l.safetensors"))
    assert clip.sha256 == load().files["clip-l"].sha256
