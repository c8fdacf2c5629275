import pytest

from comfy_atelier.packer.addresses import (
    folder_of,
    git_url_complaint,
    https_of,
    is_commit,
    is_sha256,
    url_complaint,
)

COMMIT = "0123456789abcdef0123456789abcdef01234567"


@pytest.mark.parametrize(
    "url",
    [
        "https://huggingface.co/a/b/resolve/main/x.safetensors?download=true",
        "https://huggingface.co/a/b/resolve/main/x (1).safetensors",
        "https://models.example.org/x%20y.safetensors",
        "https://models.example.org/模型.safetensors",
        "https://models.example.org:8443/x",
        "https://8.8.8.8/x",
        "https://[2606:4700::1111]/x",
    ],
)
def test_public_https_addresses_are_allowed(url):
    assert url_complaint(url) is None


@pytest.mark.parametrize(
    "url",
    [
        "",
        "x.safetensors",
        "/etc/passwd",
        "-K/etc/passwd",
        "--upload-pack=x",
        "http://example.org/x",
        "file:///etc/passwd",
        "ftp://example.org/x",
        "data:;base64,AAAA",
        "javascript:alert(1)",
        "ext::sh -c id",
        "https:example.org/x",
        "https:///x",
        "https://",
        "https://user@example.org/x",
        "https://user:secret@example.org/x",
        "https://huggingface.co@evil.example/x",
        "https://huggingface.co:443@evil.example/x",
        "https://example.org\\@evil.example/x",
        "https://example.org/x\r\nX-Evil: 1",
        "https://example.org/x\tz",
        "https://example.org/\x00",
        "https://exa mple.org/x",
        "https://example.org /x",
        "https://${HF_TOKEN}.example.org/x",
        "https://example.org/${HF_TOKEN}",
        "https://example.org/`id`",
        'https://example.org/"x',
        "https://example.org:0/x",
        "https://example.org:99999/x",
        "https://example.org:/x",
        "https://localhost/x",
        "https://intranet/x",
        "https://printer.local/x",
        "https://a.localhost/x",
        "https://metadata.google.internal/x",
        "https://127.0.0.1/x",
        "https://127.1/x",
        "https://2130706433/x",
        "https://0x7f000001/x",
        "https://0x7f.0.0.1/x",
        "https://0177.0.0.1/x",
        "https://10.0.0.8/x",
        "https://169.254.169.254/latest/meta-data",
        "https://192.168.1.1/x",
        "https://0.0.0.0/x",
        "https://224.0.0.1/x",
        "https://[::1]/x",
        "https://[::ffff:127.0.0.1]/x",
        "https://[fe80::1]/x",
        "https://[fe80::1%25eth0]/x",
        "https://[::1/x",
        "https://хост.example/x",
        "https://ｌocalhost/x",
        "https://-a.example.org/x",
        "https://a..example.org/x",
    ],
)
def test_everything_else_is_refused(url):
    assert url_complaint(url)
    assert git_url_complaint(url)


@pytest.mark.parametrize(
    ("url", "folder"),
    [
        ("https://github.com/example/ComfyUI-Thing", "ComfyUI-Thing"),
        ("https://github.com/example/ComfyUI-Thing.git", "ComfyUI-Thing"),
        ("https://gitlab.com/group/sub/thing_1.2", "thing_1.2"),
        ("https://github.com/ltdrdata/ComfyUI-Manager", "ComfyUI-Manager"),
        ("https://github.com/Comfy-Org/ComfyUI-Manager.git", "ComfyUI-Manager"),
    ],
)
def test_git_addresses_end_in_a_folders_name(url, folder):
    assert git_url_complaint(url) is None
    assert folder_of(url) == folder


@pytest.mark.parametrize(
    "url",
    [
        "https://example.org",
        "https://example.org/",
        "https://example.org/x/",
        "https://example.org/x//",
        "https://example.org/.git",
        "https://example.org/x/.git",
        "https://example.org/..",
        "https://example.org/x/..",
        "https://example.org/.",
        "https://example.org/...git",
        "https://example.org/a/../b",
        "https://example.org/a/%2e%2e/b",
        "https://example.org/-x",
        "https://example.org/.hidden",
        "https://example.org/nul",
        "https://example.org/con.git",
        "https://example.org/x.",
        "https://example.org/x.py",
        "https://example.org/x.disabled",
        "https://example.org/x;id",
        "https://example.org/x y",
        "https://example.org/x?y",
        "https://example.org/x#y",
        "https://example.org/x#",
        "https://example.org/x@{u}",
        "https://example.org/ComfyUI-Manager",
        "https://example.org/comfyui-manager.git",
        "https://github.com/evil/ComfyUI-Manager",
        "https://github.com.evil.example/ltdrdata/ComfyUI-Manager",
        "git@github.com:example/x.git",
        "ssh://git@github.com/example/x",
        "git://github.com/example/x",
        "fd::17/foo",
        "../../..",
        "-utouch /tmp/x",
        "https://example.org/日本",
    ],
)
def test_git_addresses_that_could_be_something_else(url):
    assert git_url_complaint(url)


@pytest.mark.parametrize(
    ("remote", "url"),
    [
        ("https://github.com/a/b.git", "https://github.com/a/b.git"),
        ("https://token:x@github.com/a/b", "https://github.com/a/b"),
        ("git@github.com:a/b.git", "https://github.com/a/b.git"),
        ("ssh://git@github.com:22/a/b", "https://github.com/a/b"),
        ("https://github.com/a/b/", "https://github.com/a/b"),
        ("http://github.com/a/b", "https://github.com/a/b"),
        ("/home/me/b", None),
        ("file:///home/me/b", None),
        ("C:/packs/b", None),
        ("me@server:b", None),
        ("ext::sh -c id", None),
        ("https://[::1", None),
    ],
)
def test_a_checkouts_remote_becomes_an_address_for_everybody(remote, url):
    assert https_of(remote) == url


def test_commits_and_hashes():
    assert is_commit(COMMIT)
    assert is_commit("ab" * 32)
    for wrong in ("", "main", COMMIT[:7], COMMIT + "\n", COMMIT.upper().replace("0", "A"), "0" * 40, "--x", "+refs/*"):
        assert not is_commit(wrong)
    assert is_sha256("ab" * 32)
    assert not is_sha256("ab" * 32 + "\n")
    assert not is_sha256("zz" * 32)
