"""Image and chat endpoints that speak OpenAI's API: vLLM-Omni (HunyuanImage-3.0 over several GPUs), and any other.

Sources: vLLM-Omni ``docs/serving/image_generation_api.md`` and ``image_edit_api.md``; OpenAI's API reference for
``/v1/images`` and ``/v1/chat/completions``.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from .errors import NodeInputError, RemoteError
from .remote_access import Access, Service, shown_url
from .remote_http import Answer, Client, Hosts
from .remote_pictures import as_data_url, encoded, from_base64

MAX_ANSWER_BYTES = 256 * 1024 * 1024
"""Of an answer that carries pictures as base64."""

STATUSES: Mapping[int, str] = {
    401: "does not accept the key",
    402: "wants payment: no credits are left",
    403: "does not let this key do that",
    404: "has no such address or model",
    413: "finds the request too large",
    429: "is busy, or its limit is reached",
}
_THOUGHT = re.compile(r"<think>.*?</think>", re.DOTALL | re.IGNORECASE)
_FENCE = re.compile(r"^```[a-zA-Z]*\n(.*?)\n?```$", re.DOTALL)


@dataclass(frozen=True, kw_only=True, slots=True)
class Pictures:
    """An answer's pictures as files, and what it says of its own: the prompt it drew, the tokens it counted."""

    files: tuple[bytes, ...]
    revised_prompt: str
    usage: str

    @property
    def report(self) -> str:
        """In words; servers of this kind tell tokens, if anything, and no money."""
        return self.usage or "cost not told"


def connection(service: Service, access: Access, server: str) -> tuple[str, dict[str, str], Hosts]:
    """Base address, headers and allowed hosts; NodeInputError says how to configure a server where there is none.

    The base address is with or without ``/v1`` at its end.
    """
    if not access.urls:
        raise NodeInputError(f"no server is configured for this; {service.remedy('url')}")
    url = access.url(server)
    base = url if url.endswith("/v1") else f"{url}/v1"
    head = {"accept": "application/json"}
    # The key belongs to the first server; another one of the user's list must not learn it.
    if access.key and url == access.urls[0]:
        head["Authorization"] = f"Bearer {access.key.reveal()}"
    return base, head, Hosts(origins=(url,))


def image_fields(
    *,
    prompt: str,
    model: str,
    size: tuple[int, int] | None,
    count: int,
    seed: int,
    steps: int,
    guidance: float,
    negative: str,
) -> dict[str, Any]:
    """What both image endpoints take; 0 steps and guidance and an empty text leave a value to the server."""
    if not prompt.strip():
        raise NodeInputError("the prompt is empty: say what the picture should show")
    fields: dict[str, Any] = {"prompt": prompt, "n": count, "response_format": "b64_json", "seed": seed & 0x7FFFFFFF}
    optional = {
        "model": model,
        "size": f"{size[0]}x{size[1]}" if size else "",
        "num_inference_steps": steps,
        "guidance_scale": guidance,
        "negative_prompt": negative,
    }
    return fields | {name: value for name, value in optional.items() if value}


async def images(
    client: Client, base: str, head: Mapping[str, str], fields: Mapping[str, Any], pictures: list[Any]
) -> Pictures:
    """Pictures of a prompt; with pictures given, edits of them.

    Raises:
        RemoteError: refused, or an answer without pictures.
        remote_http.Cancelled: the user cancelled.
    """
    files = [encoded(picture) for picture in pictures]

    def body() -> dict[str, Any]:
        if not files:
            return {"json": dict(fields)}
        import aiohttp

        form = aiohttp.FormData()
        for name, value in fields.items():
            form.add_field(name, str(value))
        for place, data in enumerate(files):
            form.add_field("image", data, filename=f"picture{place}.png", content_type="image/png")
        return {"data": form}

    where = f"{base}/images/{'edits' if files else 'generations'}"
    answer = await client.ask("POST", where, headers=head, body=body, limit=MAX_ANSWER_BYTES, safe_to_repeat=False)
    value = _checked(client, answer, where)
    entries = value.get("data")
    found = [await _file(client, entry, where) for entry in entries] if isinstance(entries, list) else []
    if not found:
        raise RemoteError(f"{shown_url(where)} answered without a picture; look at the server's log")
    first = entries[0] if isinstance(entries, list) else {}
    revised = first.get("revised_prompt") if isinstance(first, dict) else None
    return Pictures(files=tuple(found), revised_prompt=revised if isinstance(revised, str) else "", usage=_usage(value))


async def _file(client: Client, entry: Any, where: str) -> bytes:
    text = entry.get("b64_json") if isinstance(entry, dict) else None
    if isinstance(text, str) and text:
        return from_base64(text, shown_url(where))
    url = entry.get("url") if isinstance(entry, dict) else None
    if isinstance(url, str) and url:
        return await client.download(url)
    raise RemoteError(f"{shown_url(where)} answered without a picture; look at the server's log")


def chat_body(
    *, model: str, system: str, prompt: str, picture: Any | None, temperature: float, seed: int, limit: int
) -> dict[str, Any]:
    """A chat of one question. The same seed and temperature 0 ask for the same answer, as far as the server can."""
    content: Any = prompt
    if picture is not None:
        content = [
            {"type": "text", "text": prompt},
            {"type": "image_url", "image_url": {"url": as_data_url(picture)}},
        ]
    return {
        "model": model,
        "messages": [{"role": "system", "content": system}, {"role": "user", "content": content}],
        "temperature": temperature,
        "seed": seed & 0x7FFFFFFF,
        "max_tokens": limit,
        "stream": False,
    }


async def chat(client: Client, base: str, head: Mapping[str, str], body: Mapping[str, Any]) -> tuple[str, str]:
    """The answer's text, without thoughts and fences, and its tokens in words.

    Raises:
        RemoteError: refused, cut short, or no text.
        remote_http.Cancelled: the user cancelled.
    """
    where = f"{base}/chat/completions"
    answer = await client.ask("POST", where, headers=head, body=lambda: {"json": dict(body)}, safe_to_repeat=False)
    value = _checked(client, answer, where)
    choices = value.get("choices")
    choice = choices[0] if isinstance(choices, list) and choices and isinstance(choices[0], dict) else {}
    message = choice.get("message")
    text = message.get("content") if isinstance(message, dict) else None
    if choice.get("finish_reason") == "length":
        raise RemoteError(f"{shown_url(where)} was cut short at {body['max_tokens']} tokens; raise max_tokens")
    clean = plain(text) if isinstance(text, str) else ""
    if not clean:
        raise RemoteError(f"{shown_url(where)} answered nothing; try another model")
    return clean, _usage(value)


def plain(text: str) -> str:
    """An answer as a prompt: without a model's thoughts, code fences and quotes around the whole."""
    text = _THOUGHT.sub("", text).strip()
    fenced = _FENCE.match(text)
    text = fenced[1].strip() if fenced else text
    for first, last in (('"', '"'), ("“", "”")):
        if len(text) > 1 and text[0] == first and text[-1] == last and first not in text[1:-1]:
            text = text[1:-1].strip()
    return text


def _checked(client: Client, answer: Answer, where: str) -> dict[str, Any]:
    value = answer.json()
    if answer.status == 200 and isinstance(value, dict):
        return value
    if answer.status == 200:
        raise RemoteError(f"{shown_url(where)} answered no JSON; is it an OpenAI-compatible server?")
    known = STATUSES.get(answer.status) or ("refused the request" if answer.status < 500 else "has an error of its own")
    said = client.said(answer)
    raise RemoteError(f"{shown_url(where)} {known} [HTTP {answer.status}]{f': {said}' if said else ''}")


def _usage(value: Mapping[str, Any]) -> str:
    usage = value.get("usage")
    total = usage.get("total_tokens") if isinstance(usage, dict) else None
    return f"{total} tokens" if isinstance(total, int) and not isinstance(total, bool) else ""
