"""FLUX.1 [pro] behind Black Forest Labs' own API: what each endpoint takes, and the way from a request to a picture.

Source: docs.bfl.ai (endpoints, polling, errors, regions) as of 2026: a request answers ``id``, ``polling_url`` and
``cost`` in credits of 0.01 US dollars; the polling address is asked until the status is ``Ready``; the picture's
address then holds for ten minutes.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from .errors import NodeInputError, RemoteError
from .remote_access import BFL, Access
from .remote_http import Client, Hosts
from .remote_pictures import as_base64

WHO = "Black Forest Labs"
REGIONS: Mapping[str, str] = {
    "global": "https://api.bfl.ai",
    "Europe": "https://api.eu.bfl.ai",
    "United States": "https://api.us.bfl.ai",
}
"""Where a request may be worked on. Only the global one moves between clusters."""

RESULT_HOSTS = (".bfl.ai", ".bfl.ml", "bfldeliverysc.blob.core.windows.net", "bfldeliveryprod.blob.core.windows.net")
"""Hosts of polling addresses and of finished pictures; a name with a dot in front stands for all below it."""

GENERATE = ("flux-pro-1.1-ultra", "flux-pro-1.1")
EDIT = ("flux-kontext-pro", "flux-kontext-max")
FILL = "flux-pro-1.0-fill"
CONTROL: Mapping[str, str] = {"canny": "flux-pro-1.0-canny", "depth": "flux-pro-1.0-depth"}
CREDIT_IN_DOLLARS = 0.01
FIRST_PAUSE_SECONDS, LONGEST_PAUSE_SECONDS = 0.5, 3.0
TASK_NOT_FOUND_TRIES = 5
"""A task is not known everywhere at once after it was taken."""

WAITING = frozenset({"Pending", "Queued", "Processing", "Reasoning", "Generating"})
MODERATED: Mapping[str, str] = {
    "Request Moderated": "refused the request: its prompt or picture was moderated",
    "Content Moderated": "withheld the picture: it was moderated",
}
STATUSES: Mapping[int, str] = {
    401: "does not know the key; {key}",
    402: "wants payment: the account has no credits left; add some",
    403: "does not let this key use this endpoint; {key}",
    404: "has no such endpoint any more; choose another model",
    413: "finds the picture too large; scale it down",
    429: "is busy or your account's limit is reached; try again later",
}


@dataclass(frozen=True, kw_only=True, slots=True)
class Result:
    """A finished request. ``cost`` is in credits, None where the service did not say."""

    picture: bytes
    id: str
    seed: int | None
    cost: float | None

    @property
    def report(self) -> str:
        """Cost, seed and id in words."""
        cost = cost_in_words(self.cost)
        seed = "" if self.seed is None else f", seed {self.seed}"
        return f"{cost}{seed}, request {self.id}"


def cost_in_words(credits: float | None) -> str:
    """``4 credits (0.04 USD)``."""
    if credits is None:
        return "cost not told"
    return f"{credits:g} credits ({credits * CREDIT_IN_DOLLARS:.4g} USD)"


def base_url(access: Access, region: str) -> str:
    """The API's address: the configured one (a gateway), else the region's."""
    return access.urls[0] if access.urls else REGIONS[region]


def hosts(access: Access) -> Hosts:
    """Where requests of this service may go."""
    return Hosts(origins=access.urls, names=RESULT_HOSTS)


def headers(access: Access) -> dict[str, str]:
    """The headers of a request; NodeInputError says how to give a key where there is none."""
    if not access.key:
        raise NodeInputError(f"{WHO} wants a key (from its dashboard); {BFL.remedy('key')}")
    return {"x-key": access.key.reveal(), "accept": "application/json"}


def size_for(ratio: float, side: int = 1024) -> tuple[int, int]:
    """Width and height that flux-pro-1.1 takes for an aspect ratio: multiples of 32 in 256..1440, near 1 megapixel."""
    area = side * side
    width, height = (area * ratio) ** 0.5, (area / ratio) ** 0.5
    shrink = min(1.0, 1440 / max(width, height))
    return tuple(min(1440, max(256, round(value * shrink / 32) * 32)) for value in (width, height))


def common(prompt: str, seed: int, upsampling: bool, tolerance: int) -> dict[str, Any]:
    """What all endpoints take. Seeds of ComfyUI are longer than the API's: their lower 31 bits count."""
    if not prompt.strip():
        raise NodeInputError("the prompt is empty: say what the picture should show")
    return {
        "prompt": prompt,
        "seed": seed & 0x7FFFFFFF,
        "prompt_upsampling": upsampling,
        "safety_tolerance": tolerance,
        "output_format": "png",
    }


def generate_body(
    model: str, shared: Mapping[str, Any], ratio: tuple[str, float], raw: bool, picture: Any | None, strength: float
) -> dict[str, Any]:
    """The request of flux-pro-1.1 or flux-pro-1.1-ultra. ``ratio``: in the API's words (``16:9``) and as a number."""
    body = dict(shared)
    if picture is not None:
        body["image_prompt"] = as_base64(picture)
    if model == "flux-pro-1.1":
        body["width"], body["height"] = size_for(ratio[1])
        return body
    body |= {"aspect_ratio": ratio[0], "raw": raw}
    if picture is not None:
        body["image_prompt_strength"] = strength
    return body


def edit_body(shared: Mapping[str, Any], ratio: str | None, pictures: list[Any]) -> dict[str, Any]:
    """The request of a Kontext model: up to four pictures, the first is the one to edit."""
    body = dict(shared)
    body["safety_tolerance"] = min(int(body["safety_tolerance"]), 2) if pictures else body["safety_tolerance"]
    for place, picture in enumerate(pictures, start=1):
        body["input_image" if place == 1 else f"input_image_{place}"] = as_base64(picture)
    if ratio is not None:
        body["aspect_ratio"] = ratio
    return body


def fill_body(shared: Mapping[str, Any], picture: Any, mask: Any, steps: int, guidance: float) -> dict[str, Any]:
    """The request of the fill model; the mask (white: draw anew) is as large as the picture."""
    if picture.shape[:2] != mask.shape[:2]:
        raise NodeInputError(
            f"the mask is {mask.shape[1]}x{mask.shape[0]} and the picture {picture.shape[1]}x{picture.shape[0]}; "
            "make them equal"
        )
    return {**shared, "image": as_base64(picture), "mask": as_base64(mask), "steps": steps, "guidance": guidance}


def control_body(
    shared: Mapping[str, Any],
    picture: Any,
    is_map: bool,
    steps: int,
    guidance: float,
    thresholds: tuple[int, int] | None,
) -> dict[str, Any]:
    """The request of the canny or depth model: a picture to take the map from, or the map itself."""
    body = {**shared, "steps": steps, "guidance": guidance}
    body["preprocessed_image" if is_map else "control_image"] = as_base64(picture)
    if thresholds is not None and not is_map:
        body["canny_low_threshold"], body["canny_high_threshold"] = thresholds
    return body


async def run(
    client: Client,
    access: Access,
    region: str,
    endpoint: str,
    body: Mapping[str, Any],
    told: Callable[[str, float | None], None] = lambda text, share: None,
) -> Result:
    """Send a request, wait for its picture, fetch it.

    Args:
        told: called with what happens, in words, and the share done in 0..1 where the service says it.

    Raises:
        RemoteError: refused, moderated, failed, or an answer that cannot be right.
        remote_http.Cancelled: the user cancelled.
    """
    head = headers(access)
    answer = await client.ask(
        "POST",
        f"{base_url(access, region)}/v1/{endpoint}",
        headers=head,
        body=lambda: {"json": dict(body)},
        safe_to_repeat=False,
    )
    if answer.status != 200:
        raise RemoteError(_refusal(client, answer.status, client.said(answer)))
    started = answer.json()
    task = _text(started, "id")
    polling = _text(started, "polling_url")
    if not task or not polling:
        raise RemoteError(f"{WHO} answered without an id or a polling address; try again later")
    cost = _number(started, "cost")
    told(f"waiting: {cost_in_words(cost)}", None)
    finished = await _poll(client, polling, head, told)
    result = finished.get("result")
    sample = _text(result, "sample")
    if not sample:
        raise RemoteError(f"{WHO} is done but names no picture (request {_safe(client, task)})")
    cost = cost if cost is not None else _number(finished, "cost")
    seed = _number(result, "seed")
    picture = await client.download(sample)
    return Result(picture=picture, id=_safe(client, task), seed=None if seed is None else int(seed), cost=cost)


async def _poll(
    client: Client, url: str, head: Mapping[str, str], told: Callable[[str, float | None], None]
) -> Mapping[str, Any]:
    pause = FIRST_PAUSE_SECONDS
    unknown = 0
    while True:
        await client.pause(pause)
        pause = min(pause * 1.3, LONGEST_PAUSE_SECONDS)
        answer = await client.ask("GET", url, headers=head)
        value = answer.json()
        status = _text(value, "status")
        if status == "Ready":
            return dict(value)
        if answer.status not in (200, 404) or (answer.status == 404 and not status):
            raise RemoteError(_refusal(client, answer.status, client.said(answer)))
        if status in WAITING:
            told(status.lower(), _number(value, "progress"))
        elif status == "Task not found" and unknown < TASK_NOT_FOUND_TRIES:
            unknown += 1
        elif status in MODERATED:
            reasons = _reasons(client, value)
            raise RemoteError(f"{WHO} {MODERATED[status]}{reasons}; change the prompt, the picture or safety_tolerance")
        else:
            what = _safe(client, status or "an answer without a status")
            said = client.said(answer)
            raise RemoteError(
                f"{WHO} gave no picture: {what}{f' ({said})' if said and said != what else ''}; run it again"
            )


def _refusal(client: Client, status: int, said: str) -> str:
    known = STATUSES.get(status)
    if known is None:
        known = "refused the request; correct it" if status < 500 else "has an error of its own; try again later"
    detail = f" ({said})" if said else ""
    return f"{WHO} {known.format(key=BFL.remedy('key'))} [HTTP {status}]{detail}"


def _reasons(client: Client, value: Any) -> str:
    details = value.get("details") if isinstance(value, dict) else None
    reasons = details.get("Moderation Reasons") if isinstance(details, dict) else None
    words = ", ".join(str(reason) for reason in reasons[:5]) if isinstance(reasons, list) else ""
    return f" ({_safe(client, words)})" if words else ""


def _safe(client: Client, text: str) -> str:
    return client.scrub(text)[:200]


def _text(value: Any, name: str) -> str:
    found = value.get(name) if isinstance(value, dict) else None
    return found if isinstance(found, str) else ""


def _number(value: Any, name: str) -> float | None:
    found = value.get(name) if isinstance(value, dict) else None
    if isinstance(found, bool) or not isinstance(found, int | float) or found != found:
        return None
    return float(found)
