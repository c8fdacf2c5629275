"""`atelier models`: a small catalogue of our own, a server on loopback in the hub's place."""

from __future__ import annotations

import hashlib
import json
import struct
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from comfy_atelier import catalogue
from comfy_atelier.catalogue.catalogue import DATA, Catalogue
from comfy_atelier.cli.main import main
from comfy_atelier.packer import hashes, holdings, transfer

FAMILY = """
id = "sd1"
name = "Tiny"
maker = "Nobody"
summary = "Two files."

[[files]]
id = "tiny-model"
role = "checkpoint"
name = "tiny.safetensors"
folder = "checkpoints"
url = "https://huggingface.co/nobody/tiny/resolve/main/tiny.safetensors"
sha256 = "{model}"
size = 3000
licence = "openrail-m"

[[files]]
id = "tiny-vae"
role = "vae"
name = "vae.safetensors"
folder = "vae"
url = "https://huggingface.co/nobody/tiny/resolve/main/vae.safetensors"
mirrors = ["https://huggingface.co/nobody/mirror/resolve/main/vae.safetensors"]
size = 2000
gated = true
licence = "flux1-dev-nc"
absent = {{ sha256 = "nobody states it" }}
unverified = {{ size = "rounded" }}

[[files]]
id = "tiny-lora"
role = "lora"
name = "lora.safetensors"
folder = "loras"
url = "https://huggingface.co/nobody/tiny/resolve/main/lora.safetensors"
sha256 = "{lora}"
size = 1000
licence = "openrail-m"

[[variants]]
id = "tiny"
name = "Tiny"
architecture = "sd1"
tasks = ["text-to-image"]
licence = "openrail-m"
parameters = 12
file_sets = [
    {{ name = "checkpoint", files = ["tiny-model"], loaders = ["CheckpointLoaderSimple"] }},
    {{ name = "with its VAE", files = ["tiny-model", "tiny-vae"], loaders = ["CheckpointLoaderSimple", "VAELoader"] }},
]
negative_prompt = true
guidance_distilled = false
unverified = {{ resolution = "not read" }}

[[variants]]
id = "tiny-pro"
name = "Tiny, behind an API"
architecture = "sd1"
tasks = ["text-to-image"]
runs = "remote"
licence = "proprietary-api"
file_sets = []
negative_prompt = false
guidance_distilled = false
absent = {{ file_sets = "the weights are not published" }}

[[loras]]
id = "tiny-fast"
name = "Fast"
file = "tiny-lora"
variants = ["tiny"]
strength = 1.0
sampling = {{ steps = 4 }}
"""


def weights(size: int, names: dict[str, list[int]] | None = None, seed: int = 0) -> bytes:
    """A safetensors file of that many bytes with float16 tensors of these shapes first."""
    header: dict[str, Any] = {}
    end = 0
    for name, shape in (names or {}).items():
        count = 2
        for side in shape:
            count *= side
        header[name] = {"dtype": "F16", "shape": shape, "data_offsets": [end, end + count]}
        end += count
    text = json.dumps(header).encode()
    rest = size - 8 - len(text) - end - 80
    assert rest > 0
    header["rest"] = {"dtype": "U8", "shape": [rest], "data_offsets": [end, end + rest]}
    text = json.dumps(header).encode()
    body = bytes([seed]) * (size - 8 - len(text.ljust(size - 8 - end - rest)))
    return struct.pack("<Q", size - 8 - len(body)) + text.ljust(size - 8 - len(body)) + body


LORA = {
    "lora_te_text_model_encoder_layers_0_self_attn_q_proj.lora_down.weight": [1, 768],
    "lora_te_text_model_encoder_layers_0_self_attn_q_proj.lora_up.weight": [768, 1],
}


@dataclass
class Hub:
    """Files by path, and what was asked."""

    files: dict[str, bytes]
    statuses: dict[str, int] = field(default_factory=dict)
    asked: list[str] = field(default_factory=list)
    models: Path = Path()


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    """The catalogue, the server, and a models folder."""
    base = "/nobody/tiny/resolve/main/"
    hub = Hub({base + "tiny.safetensors": weights(3000), base + "vae.safetensors": weights(2000, seed=1)})
    hub.files[base + "lora.safetensors"] = weights(1000, seed=2)
    data = tmp_path / "data"
    data.mkdir()
    for name in ("licences.toml", "shared.toml"):
        (data / name).write_bytes((DATA / name).read_bytes())
    digests = {key: hashlib.sha256(hub.files[f"{base}{name}.safetensors"]).hexdigest() for key, name in
               (("model", "tiny"), ("lora", "lora"))}  # fmt: skip
    (data / "sd1.toml").write_text(FAMILY.format(**digests), encoding="utf-8")
    small = Catalogue(data)
    monkeypatch.setattr(catalogue, "load", lambda: small)
    monkeypatch.setattr(holdings, "load", lambda: small)
    monkeypatch.setattr(hashes, "default_cache", lambda: tmp_path / "cache" / "hashes.sqlite3")
    for name in ("http_proxy", "HTTP_PROXY", "HF_TOKEN", "HUGGING_FACE_HUB_TOKEN", "ATELIER_COMFYUI"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hf"))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))

    class Handler(BaseHTTPRequestHandler):
        def log_message(self, *_: Any) -> None:
            pass

        def do_GET(self) -> None:
            hub.asked.append(self.path)
            data = hub.files.get(self.path)
            status = hub.statuses.get(self.path, 200 if data else 404)
            self.send_response(status)
            body = data if data and status == 200 else b""
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        monkeypatch.setenv("HF_ENDPOINT", f"http://127.0.0.1:{server.server_address[1]}")
        hub.models = tmp_path / "models"
        hub.models.mkdir()
        yield hub
        server.shutdown()
        thread.join()


@dataclass
class Ran:
    code: int
    out: str
    err: str

    @property
    def data(self) -> Any:
        return json.loads(self.out)


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Any:
    def call(*arguments: str | Path) -> Ran:
        code = main(["models", *map(str, arguments)])
        shown = capsys.readouterr()
        return Ran(code, shown.out, shown.err)

    return call


def test_list_has_every_variant(hub: Hub, run: Any) -> None:
    shown = run("list")
    assert shown.code == 0
    assert "sd1     tiny      text-to-image  3.00 kB  yes          CreativeML OpenRAIL-M" in shown.out
    assert "remote" in shown.out
    data = run("list", "--json").data
    assert [one["id"] for one in data[0]["variants"]] == ["tiny", "tiny-pro"]
    assert data[0]["loras"] == ["tiny-fast"]
    missing = run("list", "--family", "nope")
    assert (missing.code, missing.err) == (1, "error: no model family 'nope'; there are: sd1\n")


def test_list_and_show_know_the_whole_catalogue(run: Any) -> None:
    names = [one["id"] for family in run("list", "--json").data for one in family["variants"]]
    assert len(names) == len(catalogue.load().variants) > 40
    for name in names:
        assert run("show", name).out.startswith(f"{name}: ")
        assert run("show", name, "--json").data["variant"]["id"] == name
    for file in catalogue.load().files.values():
        assert file.path in run("show", file.id).out


def test_show_has_files_licence_and_doubts(hub: Hub, run: Any) -> None:
    shown = run("show", "tiny").out
    for part in (
        "models/checkpoints/tiny.safetensors  (checkpoint, 3.00 kB)",
        "https://huggingface.co/nobody/tiny/resolve/main/tiny.safetensors",
        "sha256 not known: nobody states it",
        "mirror https://huggingface.co/nobody/mirror/resolve/main/vae.safetensors",
        "licence     CreativeML OpenRAIL-M: https://huggingface.co/spaces/CompVis/stable-diffusion-license",
        "not verified: size: rounded",
        "not verified: resolution: not read",
        "LoRA tiny-fast: Fast, 1.00 kB",
    ):
        assert part in shown
    assert run("show", "tiny", "--json").data["variant"]["file_sets"][1]["files"][1]["gated"] is True
    wrong = run("show", "tini")
    assert (wrong.code, wrong.err) == (1, "error: no model variant 'tini'; did you mean tiny, tiny-pro?\n")


def test_get_puts_files_where_comfyui_looks(hub: Hub, run: Any) -> None:
    got = run("get", "tiny", "--models", hub.models)
    assert (got.code, hub.asked) == (0, ["/nobody/tiny/resolve/main/tiny.safetensors"])
    assert (hub.models / "checkpoints" / "tiny.safetensors").read_bytes() == hub.files[hub.asked[0]]
    assert "models/checkpoints/tiny.safetensors: 3.00 kB" in got.err
    assert "3.00 kB to download to" in got.err
    assert "licence     CreativeML OpenRAIL-M" in got.err
    again = run("get", "tiny", "--models", hub.models, "--json")
    assert again.data["fetched"] == []
    assert again.data["here"][0]["state"] == "here"
    assert "everything is here" in again.err or again.err == ""
    assert len(hub.asked) == 1


def test_get_into_a_comfyui_with_its_extra_paths(hub: Hub, run: Any, tmp_path: Path) -> None:
    comfyui, extra = tmp_path / "ComfyUI", tmp_path / "extra"
    (comfyui / "models").mkdir(parents=True)
    (extra / "nested").mkdir(parents=True)
    (extra / "nested" / "tiny.safetensors").write_bytes(hub.files["/nobody/tiny/resolve/main/tiny.safetensors"])
    (comfyui / "extra_model_paths.yaml").write_text(f"mine:\n  checkpoints: {extra.as_posix()}\n")
    assert run("get", "tiny", "--comfyui", comfyui).code == 0
    assert hub.asked == []
    assert run("get", "tiny-fast", "--comfyui", comfyui).code == 0
    assert (comfyui / "models" / "loras" / "lora.safetensors").is_file()


def test_a_limited_licence_must_be_accepted(hub: Hub, run: Any) -> None:
    arguments = ("get", "tiny", "--role", "vae", "--models", hub.models)
    refused = run(*arguments)
    assert refused.code == 2
    assert "commercial use: no" in refused.err
    assert refused.err.splitlines()[-1].startswith(
        "error: tiny: read FLUX.1 [dev] Non-Commercial License v1.1.1 (https://github.com/"
    )
    assert refused.err.endswith("then run it again with --accept-licence\n")
    assert hub.asked == []
    accepted = run(*arguments, "--accept-licence")
    assert accepted.code == 0
    assert "only its size and structure were checked" in accepted.out
    assert (hub.models / "vae" / "vae.safetensors").is_file()
    assert not (hub.models / "checkpoints").exists()


def test_sets_and_roles(hub: Hub, run: Any) -> None:
    dry = run("get", "tiny", "--set", "with", "--models", hub.models, "--dry-run", "--json")
    assert [Path(one["path"]).name for one in dry.data["wanted"]] == ["vae.safetensors", "tiny.safetensors"]
    assert hub.asked == []
    assert [Path(one["path"]).name for one in run("get", "tiny", "--role", "lora", "--models", hub.models, "--dry-run",
            "--json").data["wanted"]] == ["lora.safetensors"]  # fmt: skip
    for arguments, said in (
        (("--set", "nope"), "--set nope: no such way; tiny has: 'checkpoint', 'with its VAE'"),
        (("--role", "nope"), "--role nope: tiny has no such file; it has: checkpoint, lora, vae"),
    ):
        wrong = run("get", "tiny", *arguments, "--models", hub.models)
        assert (wrong.code, wrong.err) == (2, f"error: {said}\n")
    remote = run("get", "tiny-pro", "--models", hub.models)
    assert (remote.code, "the weights are not published" in remote.err) == (2, True)


def test_get_says_where_to(hub: Hub, run: Any, tmp_path: Path) -> None:
    nowhere = run("get", "tiny")
    assert (nowhere.code, "--models DIR" in nowhere.err) == (2, True)
    absent = run("get", "tiny", "--models", tmp_path / "absent")
    assert (absent.code, "no such folder" in absent.err) == (2, True)
    address = run("where", "tiny", "--comfyui", "http://127.0.0.1:8188")
    assert (address.code, "give the folder, not the address" in address.err) == (2, True)
    both = run("get", "tiny", "--models", hub.models, "--comfyui", hub.models)
    assert both.code == 2


def test_errors_of_servers_are_one_line(hub: Hub, run: Any) -> None:
    gone = "/nobody/tiny/resolve/main/vae.safetensors"
    hub.statuses[gone] = 404
    shown = run("get", "tiny-vae", "--models", hub.models, "--accept-licence")
    assert shown.code == 1
    assert shown.err.splitlines()[-1].endswith(
        "leads to no file (404); it may be had from https://huggingface.co/nobody/mirror/resolve/main/vae.safetensors"
    )
    hub.files["/nobody/tiny/resolve/main/tiny.safetensors"] = b"<html>"
    shown = run("get", "tiny", "--models", hub.models)
    assert (shown.code, "has another file: 6 bytes instead of 3,000" in shown.err) == (1, True)
    assert not list(hub.models.rglob("*.safetensors*"))


def test_no_room_is_told_before(hub: Hub, run: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    import shutil

    usage = shutil.disk_usage(hub.models)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=2999))
    shown = run("get", "tiny", "--models", hub.models)
    assert (shown.code, "free some space" in shown.err, hub.asked) == (1, True, [])


def test_where_tells_right_from_wrong(hub: Hub, run: Any) -> None:
    missing = run("where", "tiny", "--models", hub.models)
    assert missing.code == 0
    assert "missing  checkpoint  tiny.safetensors  3.00 kB" in missing.out
    assert "tiny: lacks tiny.safetensors; `atelier models get tiny`" in missing.out
    model = hub.models / "checkpoints" / "tiny.safetensors"
    model.parent.mkdir()
    right = hub.files["/nobody/tiny/resolve/main/tiny.safetensors"]
    cases = (
        (weights(2500), "2,500 bytes instead of 3,000", False),
        (b"x" * 3000, "not a safetensors file", False),
        (weights(3800, LORA)[:3000], "cut short", False),
        (right[:-1] + b"\1", "its sha256 is", True),
    )
    for content, said, only_by_hash in cases:
        model.write_bytes(content)
        shown = run("where", "tiny", "--models", hub.models)
        assert (shown.code, said in shown.out) == ((0, False) if only_by_hash else (1, True)), said
        shown = run("where", "tiny", "--models", hub.models, "--check")
        assert (shown.code, said in shown.out) == (1, True), said
        kept = run("get", "tiny", "--models", hub.models)
        assert (kept.code, "move it away or pass --replace" in kept.err) == (1, True)
        assert model.read_bytes() == content
    assert run("get", "tiny", "--models", hub.models, "--replace").code == 0
    assert model.read_bytes() == right
    shown = run("where", "tiny", "--models", hub.models, "--check", "--json").data
    assert shown["variants"][0]["ready"] == ["checkpoint"]
    states = {one["file"]: (one["state"], one["checked"]) for one in shown["files"]}
    assert states == {"tiny-model": ("here", True), "tiny-vae": ("missing", False), "tiny-lora": ("missing", False)}
    everything = run("where", "all", "--models", hub.models)
    assert "tiny: ready (checkpoint)" in everything.out
    assert "2 of 3 files are not here" in everything.out


def test_where_reads_the_header(hub: Hub, run: Any) -> None:
    """A LoRA under the VAE's name: the rounded size alone would not tell."""
    vae = hub.models / "vae" / "vae.safetensors"
    vae.parent.mkdir()
    vae.write_bytes(weights(4000, LORA))
    shown = run("where", "tiny-vae", "--models", hub.models)
    assert (shown.code, "it is a LoRA of" in shown.out) == (1, True)
    vae.write_bytes(weights(9000))
    assert "unsure" in run("where", "tiny-vae", "--models", hub.models).out


def test_detect(tmp_path: Path, run: Any) -> None:
    lora, other = tmp_path / "a.safetensors", tmp_path / "b.safetensors"
    lora.write_bytes(weights(4000, LORA))
    other.write_bytes(b"no")
    shown = run("detect", lora)
    assert (shown.code, "lora" in shown.out, "sd1" in shown.out) == (0, True, True)
    mixed = run("detect", lora, other, "--json")
    assert mixed.code == 1
    assert [one.get("kind") for one in mixed.data] == ["lora", None]
    assert "not a safetensors file" in mixed.data[1]["error"]
    assert "only 2 bytes long" in mixed.err


def test_no_token_reaches_a_mirror(hub: Hub, run: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    seen: list[dict[str, str]] = []
    genuine = transfer._network

    def spy(*, private: bool) -> Any:
        ask = genuine(private=private)
        return lambda url, headers: (seen.append(dict(headers)), ask(url, headers))[1]

    monkeypatch.setattr(transfer, "_network", spy)
    assert run("get", "tiny", "--models", hub.models).code == 0
    assert seen
    assert not any("Authorization" in headers for headers in seen)
