"""Addresses that a bundle may name: https URLs of public hosts, git URLs, commits. Nothing else reaches a tool.

What comes from a bundle ends as an argument of git, of an installer or of the downloader. So an address is accepted by
what it is made of, not refused by what it looks like (GitPython's and Gradio's lists of bad ones failed:
CVE-2022-24439, GHSA-v396-v7q4-x2qj, CVE-2026-28416).
"""

from __future__ import annotations

import ipaddress
import re
import urllib.parse

from .names import component_complaint

_HOST = re.compile(r"(?=.{1,253}\Z)(?:[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?\.)+[a-z](?:[a-z0-9-]{0,61}[a-z0-9])?\Z")
_LOCAL_HOSTS = re.compile(r"(?:.*\.)?(?:localhost|localdomain|local|internal|intranet|home|lan|corp|private)\Z")
_URL_CHARACTERS = re.compile(r"[A-Za-z0-9._~:/?#\[\]@!$&'()*+,;=% -]*\Z")
_GIT_PATH = re.compile(r"(?:/[A-Za-z0-9._~+-]+){1,8}\Z")
_COMMIT = re.compile(r"[0-9a-f]{40}(?:[0-9a-f]{24})?\Z")
_SHA256 = re.compile(r"[0-9a-f]{64}\Z")

_MANAGER_NAMES = frozenset({"comfyui-manager", "comfyui_manager"})
_MANAGER_OWNERS = frozenset({"ltdrdata", "comfy-org"})


def is_commit(text: str) -> bool:
    """Whether ``text`` is a full git commit (sha1 or sha256, lower case), and not the all-zero one."""
    return _COMMIT.match(text) is not None and text.strip("0") != ""


def is_sha256(text: str) -> bool:
    """Whether ``text`` is a sha256 in lower-case hexadecimal."""
    return _SHA256.match(text) is not None


def url_complaint(url: str, *, schemes: tuple[str, ...] = ("https",)) -> str | None:
    """Why ``url`` may not be fetched; None where it may: https, a public host by name, no user, no odd characters.

    Spaces are allowed where browsers allow them (in the path): hubs have files with such names.
    """
    split = _split(url)
    if isinstance(split, str):
        return split
    if split.scheme not in schemes:
        return f"must be an {schemes[0]} address, not {split.scheme or 'a path'}"
    if split.username is not None or split.password is not None or "@" in split.netloc:
        return "must not name a user or password"
    return _host_complaint(split.hostname or "")


def _split(url: str) -> urllib.parse.SplitResult | str:
    if not url:
        return "is empty"
    if url.startswith("-"):
        return "looks like an option, not an address"
    # Characters outside the URL set (controls, quotes, backslashes, braces) mean different things to different parsers.
    # Letters of other scripts are allowed: hubs' file names have them unescaped. A host cannot (see `_HOST`).
    odd = next((c for c in url if _URL_CHARACTERS.match(c) is None and not (c > "\x7f" and c.isalnum())), None)
    if odd is not None:
        return f"has the character {odd!r}, which an address cannot have"
    try:
        split = urllib.parse.urlsplit(url)
        port = split.port
    except ValueError:
        return "is not an address"
    if " " in split.netloc or "%" in split.netloc or split.netloc.endswith(":") or port == 0:
        return "has a host that is none"
    if split.scheme and not url.startswith(f"{split.scheme}://"):
        return f"must be an https address, not {split.scheme}"
    return split


def _host_complaint(host: str) -> str | None:
    host = host.removesuffix(".")
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        if not _HOST.match(host):
            return "has a host that is none, or not a full name"
        return "names a host of a private network" if _LOCAL_HOSTS.match(host) else None
    return None if address.is_global and not address.is_multicast else "names an address of a private network"


def git_url_complaint(url: str) -> str | None:
    """Why ``url`` may not be cloned; None where it may: https, a public host, a plain path that ends in a name."""
    why = url_complaint(url)
    if why:
        return why
    split = urllib.parse.urlsplit(url)
    if split.query or split.fragment or "?" in url or "#" in url:
        return "must not have a query or a fragment"
    if not _GIT_PATH.match(split.path):
        return "must end in the repository's name" if split.path[-1:] in ("", "/") else "has an odd path"
    for part in split.path[1:].split("/"):
        if part in (".", "..") or part.startswith("-"):
            return f"has the component {part!r}"
    name = folder_of(url)
    if (
        not name
        or name.startswith((".", "-"))
        or component_complaint(name)
        or name.lower().endswith((".py", ".disabled"))
    ):
        return "must end in the repository's name"
    owner = split.path[1:].split("/")[0].lower()
    genuine = split.hostname == "github.com" and owner in _MANAGER_OWNERS
    if name.lower() in _MANAGER_NAMES and not genuine:
        return "has the name of ComfyUI-Manager, but is not it"
    return None


def folder_of(url: str) -> str:
    """The folder's name that a node pack from ``url`` gets below ``custom_nodes/``."""
    return urllib.parse.urlsplit(url).path.rsplit("/", 1)[-1].removesuffix(".git")


def https_of(remote: str) -> str | None:
    """A git remote as an https address (``git@host:owner/repo.git`` rewritten, user and password dropped), or None.

    For packing: what a developer's checkout names becomes what everybody can clone.
    """
    short = re.fullmatch(r"(?:[A-Za-z0-9._-]+@)?([A-Za-z0-9.-]+):(?!/)(.+)", remote)
    if short and "." in short[1]:
        remote = f"https://{short[1]}/{short[2]}"
    try:
        split = urllib.parse.urlsplit(remote)
    except ValueError:
        return None
    if split.scheme not in ("https", "http", "ssh", "git", "git+ssh"):
        return None
    url = f"https://{(split.hostname or '').lower()}{split.path.rstrip('/')}"
    return None if git_url_complaint(url) else url
