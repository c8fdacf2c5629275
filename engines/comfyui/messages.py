"""What ComfyUI says on its WebSocket, read into typed values.

Source: ComfyUI 0.3.64 and 0.33.0, ``protocol.py``, ``server.py`` (``send_json``, ``send_image…``).
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

# protocol.py, BinaryEventTypes
_PREVIEW = 1
_PREVIEW_WITH_METADATA = 4
_PREVIEW_MEDIA = {1: "image/jpeg", 2: "image/png"}

# `progress_state` tells of every node so far whenever one begins or ends: megabytes in a prompt of a hundred nodes.
# Only those are read that tell of steps: a node at work whose maximum is not the 1 that stands for no steps at all.
_STATE = '{"type": "progress_state"'
_STEPS = re.compile(r'"max": (?!1(?:\.0)?,)[\d.e+]+, "state": "running"')

# The first message that a client sends: previews then carry prompt and node, which need not be guessed from the order.
FEATURES = json.dumps({"type": "feature_flags", "data": {"supports_preview_metadata": True}})


@dataclass(frozen=True, kw_only=True, slots=True)
class Message:
    """A JSON message: its type and data, and the prompt it is about where it says so."""

    type: str
    data: Mapping[str, Any]
    prompt_id: str | None


@dataclass(frozen=True, kw_only=True, slots=True)
class Picture:
    """An encoded picture from the socket. Older servers do not say whose it is."""

    data: bytes
    media_type: str
    prompt_id: str | None = None
    node: str | None = None


def read_text(text: str) -> Message | None:
    """The message in a text frame; None for what is none (an extension's own, broken JSON) or tells nothing."""
    if text.startswith(_STATE) and _STEPS.search(text) is None:
        return None
    try:
        value = json.loads(text)
    except ValueError:
        return None
    if not isinstance(value, dict) or not isinstance(value.get("type"), str):
        return None
    data = value.get("data")
    if not isinstance(data, dict):
        data = {}
    prompt_id = data.get("prompt_id")
    return Message(type=value["type"], data=data, prompt_id=prompt_id if isinstance(prompt_id, str) else None)


def read_binary(frame: bytes) -> Picture | None:
    """The picture in a binary frame; None for other binary messages and broken ones."""
    if len(frame) < 8:
        return None
    kind = int.from_bytes(frame[:4], "big")
    word = int.from_bytes(frame[4:8], "big")
    if kind == _PREVIEW:
        return Picture(data=frame[8:], media_type=_PREVIEW_MEDIA.get(word, "image/jpeg"))
    if kind != _PREVIEW_WITH_METADATA or word > len(frame) - 8:
        return None
    try:
        metadata = json.loads(frame[8 : 8 + word])
    except ValueError:
        return None
    if not isinstance(metadata, dict):
        return None
    prompt_id, node = metadata.get("prompt_id"), metadata.get("display_node_id", metadata.get("node_id"))
    media_type = metadata.get("image_type")
    return Picture(
        data=frame[8 + word :],
        media_type=media_type if isinstance(media_type, str) else "image/jpeg",
        prompt_id=prompt_id if isinstance(prompt_id, str) else None,
        node=node if isinstance(node, str) else None,
    )
