import pytest

from comfy_atelier.catalogue import load
from comfy_atelier.packer.manifest import Model
from comfy_atelier.packer.models import StatedModel
from comfy_atelier.packer.sources import model_licences, offline_source, online_source, source_of_url, stated_source

SHA = "ab" * 32


def test_sources_by_exact_host():
    source = source_of_url("https://huggingface.co/org/repo/resolve/main/sub/x%20y.safetensors?download=true")
    assert (source.kind, source.repo, source.commit, source.path) == (
        "huggingface", "org/repo", "main", "sub/x y.safetensors",
    )  # fmt: skip
    assert source.download_url == "https://huggingface.co/org/repo/resolve/main/sub/x%20y.safetensors"
    assert source_of_url("https://civitai.com/api/download/models/1").kind == "civitai"
    assert source_of_url("https://huggingface.co.evil.example/org/repo/resolve/main/x").kind == "url"
    assert source_of_url("https://evil.example/huggingface.co/a/b/resolve/main/x").kind == "url"
    assert source_of_url("https://huggingface.co/x").kind == "url"


def test_a_stated_source_with_another_hash_is_never_used():
    url = "https://example.org/x"
    assert stated_source(SHA, [StatedModel(name="x", url=url, sha256="cd" * 32)]) == (None, False)
    assert stated_source(SHA, [StatedModel(name="x", url=url, sha256=SHA)])[1] is True
    assert stated_source(SHA, [StatedModel(name="x", url=url)])[0].download_url == url
    assert stated_source(SHA, [StatedModel(name="x")]) == (None, False)


@pytest.fixture
def known():
    return next(file for file in load().files.values() if file.sha256 and file.url)


def test_the_catalogue_knows_by_hash(known):
    assert offline_source(known.sha256, []).download_url.split("?")[0].rsplit("/", 1)[-1] in known.url
    unproven = StatedModel(name="x", url="https://example.org/unproven")
    assert offline_source(known.sha256, [unproven]).download_url != unproven.url
    proven = StatedModel(name="x", url="https://example.org/proven", sha256=known.sha256)
    assert offline_source(known.sha256, [proven]).download_url == proven.url
    assert offline_source(SHA, [unproven]).download_url == unproven.url
    assert offline_source(SHA, []) is None


def test_licences_by_hash(known):
    models = [Model(filename="models/vae/a.pt", sha256=known.sha256), Model(filename="models/vae/b.pt", sha256=SHA)]
    (licence,) = model_licences(models)
    assert (licence.filename, licence.licence, licence.name) == (
        "models/vae/a.pt", known.licence.id, known.licence.name,
    )  # fmt: skip


def test_the_hubs_are_asked_and_not_believed():
    asked = []

    def fetch(url, body):
        asked.append(url)
        if "huggingface" in url:
            return [{"path": "other", "lfs": {"oid": "cd" * 32}}, {"path": "sub/x.safetensors", "lfs": {"oid": SHA}}, 5]
        return None

    hint = source_of_url("https://huggingface.co/org/repo/resolve/main/wrong.safetensors")
    assert online_source(SHA, hint, fetch).path == "sub/x.safetensors"
    assert asked == ["https://huggingface.co/api/models/org/repo/tree/main?recursive=true"]
    assert online_source("ef" * 32, hint, fetch) is None
    assert asked[-1].endswith("/by-hash/" + "ef" * 32)


def test_civitai_answers_by_hash():
    answer = {
        "id": 5, "modelId": 7, "name": "v1", "model": {"name": "Ink"},
        "files": [
            {"hashes": {"SHA256": "CD" * 32}, "downloadUrl": "https://civitai.com/api/download/models/1"},
            {"hashes": {"SHA256": SHA.upper()}, "downloadUrl": "https://civitai.com/api/download/models/5"},
        ],
    }  # fmt: skip
    source = online_source(SHA, None, lambda url, body: answer)
    assert (source.kind, source.download_url) == ("civitai", "https://civitai.com/api/download/models/5")
    assert source.extra == {"repo_name": "Ink", "version_name": "v1"}
    answer["files"][1]["downloadUrl"] = "file:///etc/passwd"
    assert online_source(SHA, None, lambda url, body: answer) is None
    assert online_source(SHA, None, lambda url, body: ["?"]) is None
