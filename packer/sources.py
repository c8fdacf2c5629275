"""Where a model file can be had: from the workflow's own words, from the catalogue, and only where asked from the hubs.

A source is worth something only if it gives the very bytes that were packed: one whose stated hash is another file's is
never used, and one without a hash is used only where nothing better is known.
"""

from __future__ import annotations

import json
import urllib.parse
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from ..catalogue import load
from .addresses import url_complaint
from .atelier import ModelLicence
from .errors import PackerError
from .manifest import Model, ModelSource
from .models import StatedModel

CIVITAI = "https://civitai.com"
HUGGING_FACE = "https://huggingface.co"
LOOKUP_SECONDS = 20
_MAX_ANSWER = 8 << 20

FetchJson = Callable[[str, Any], Any]
"""Gives the JSON that a URL answers, None for 404; the second argument is a JSON body to post, or None."""


def source_of_url(url: str) -> ModelSource:
    """A source as comfy-pack writes it, from the address of a file: Hugging Face and Civitai are told by exact host."""
    split = urllib.parse.urlsplit(url)
    parts = urllib.parse.unquote(split.path).strip("/").split("/")
    if split.hostname == "civitai.com":
        return ModelSource(kind="civitai", download_url=url, url=url)
    if split.hostname == "huggingface.co" and len(parts) >= 5 and parts[2] in ("resolve", "blob"):
        repo, revision, path = "/".join(parts[:2]), parts[3], "/".join(parts[4:])
        quoted = urllib.parse.quote(path)
        return ModelSource(
            kind="huggingface",
            download_url=f"{HUGGING_FACE}/{repo}/resolve/{revision}/{quoted}",
            url=f"{HUGGING_FACE}/{repo}/blob/{revision}/{quoted}",
            repo=repo,
            commit=revision,
            path=path,
        )
    return ModelSource(kind="url", download_url=url, url=url)


def stated_source(sha256: str | None, stated: Iterable[StatedModel]) -> tuple[ModelSource | None, bool]:
    """The source that the workflow's own entries for this model give, and whether their hash proves it."""
    fallback = None
    for entry in stated:
        if entry.url is None:
            continue
        if entry.sha256 is not None and sha256 is not None:
            if entry.sha256 == sha256:
                return source_of_url(entry.url), True
            continue
        fallback = fallback or source_of_url(entry.url)
    return fallback, False


def offline_source(sha256: str, stated: Iterable[StatedModel]) -> ModelSource | None:
    """Where the file of that sha256 can be had, as far as is known without a network."""
    source, proven = stated_source(sha256, stated)
    if proven:
        return source
    known = load().find_by_sha256(sha256)
    if known is not None and known.url is not None and url_complaint(known.url) is None:
        return source_of_url(known.url)
    return source


def model_licences(models: Iterable[Model]) -> tuple[ModelLicence, ...]:
    """The licences of the models that the catalogue knows by their sha256."""
    found = []
    for model in models:
        known = load().find_by_sha256(model.sha256)
        if known is None:
            continue
        licence = known.licence
        found.append(
            ModelLicence(
                filename=model.filename,
                licence=licence.id,
                name=licence.name,
                url=licence.url if url_complaint(licence.url) is None else None,
                commercial=licence.commercial,
                conditions=licence.conditions,
            )
        )
    return tuple(found)


def fetch_json(url: str, body: Any = None) -> Any:
    """The JSON answer of a hub, None for 404.

    Raises:
        PackerError: no connection, another status, or no JSON.
    """
    import urllib.error
    import urllib.request

    data = None if body is None else json.dumps(body).encode()
    headers = {"Accept": "application/json", "User-Agent": "comfy-atelier"}
    if data is not None:
        headers["Content-Type"] = "application/json"
    request = urllib.request.Request(url, data=data, headers=headers)  # noqa: S310 - both hubs' addresses are constants
    try:
        with urllib.request.urlopen(request, timeout=LOOKUP_SECONDS) as answer:  # noqa: S310 - as above
            return json.loads(answer.read(_MAX_ANSWER))
    except urllib.error.HTTPError as error:
        if error.code == 404:
            return None
        raise PackerError(
            f"{_host(url)} answered {error.code}", remedy="try again later, or pack without --online"
        ) from error
    except (OSError, ValueError) as error:
        raise PackerError(
            f"{_host(url)} cannot be asked: {error}", remedy="check the network, or pack without --online"
        ) from error


def online_source(sha256: str, hint: ModelSource | None, fetch: FetchJson = fetch_json) -> ModelSource | None:
    """Ask the hubs where the file of that sha256 can be had; None where neither has it.

    Civitai answers by hash. Hugging Face has no such question: there, the files of the repository in ``hint`` are
    compared by the sha256 that its API states for each.
    """
    if hint is not None and hint.repo and hint.kind == "huggingface":
        found = _in_repository(sha256, hint.repo, hint.commit or "main", fetch)
        if found is not None:
            return found
    answer = fetch(f"{CIVITAI}/api/v1/model-versions/by-hash/{sha256}", None)
    return _from_civitai(sha256, answer) if isinstance(answer, Mapping) else None


def _in_repository(sha256: str, repo: str, revision: str, fetch: FetchJson) -> ModelSource | None:
    answer = fetch(
        f"{HUGGING_FACE}/api/models/{repo}/tree/{urllib.parse.quote(revision, safe='')}?recursive=true", None
    )
    for entry in answer if isinstance(answer, list) else []:
        lfs = entry.get("lfs") if isinstance(entry, Mapping) else None
        path = entry.get("path") if isinstance(entry, Mapping) else None
        if isinstance(lfs, Mapping) and lfs.get("oid") == sha256 and isinstance(path, str):
            return source_of_url(f"{HUGGING_FACE}/{repo}/resolve/{revision}/{urllib.parse.quote(path)}")
    return None


def _from_civitai(sha256: str, answer: Mapping[str, Any]) -> ModelSource | None:
    files = answer.get("files")
    for file in files if isinstance(files, list) else []:
        hashes = file.get("hashes") if isinstance(file, Mapping) else None
        url = file.get("downloadUrl") if isinstance(file, Mapping) else None
        if (
            not isinstance(hashes, Mapping)
            or str(hashes.get("SHA256", "")).lower() != sha256
            or not isinstance(url, str)
        ):
            continue
        if url_complaint(url) is None:
            page = f"{CIVITAI}/models/{answer.get('modelId')}?modelVersionId={answer.get('id')}"
            model = answer.get("model")
            extra = {
                "repo_name": str(model.get("name", "")) if isinstance(model, Mapping) else "",
                "version_name": str(answer.get("name", "")),
            }
            return ModelSource(kind="civitai", download_url=url, url=page, extra=extra)
    return None


def _host(url: str) -> str:
    return urllib.parse.urlsplit(url).hostname or url
