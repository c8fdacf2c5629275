"""Signatures: the cache's keys. A node's signature covers its class, its values, and its ancestors' signatures.

Two nodes of one signature give one result, in one run or in two: ids and titles play no part (as in ComfyUI's
``CacheKeySetInputSignature``).
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any

from ...graph.prompt import Link, PromptNode
from .registry import NEVER_CACHED


def sign(
    nodes: Mapping[str, PromptNode],
    fingerprints: Mapping[str, Any],
    extra: Mapping[str, str],
) -> dict[str, str | None]:
    """The signature of each of `nodes`, in which ancestors come first; None for what may not be cached.

    Args:
        fingerprints: what nodes with outside state said of it (`NodeClass.fingerprint`).
        extra: further text by node that its result depends on (the prompt, for nodes that write it into their files).
    """
    signatures: dict[str, str | None] = {}
    for name, node in nodes.items():
        signatures[name] = _sign(node, signatures, fingerprints.get(name), extra.get(name, ""))
    return signatures


def _sign(node: PromptNode, known: Mapping[str, str | None], fingerprint: Any, extra: str) -> str | None:
    if fingerprint is NEVER_CACHED:
        return None
    parts: list[Any] = [node.class_type, fingerprint, extra]
    for name in sorted(node.inputs):
        value = node.inputs[name]
        if isinstance(value, Link):
            ancestor = known.get(value.node)
            if ancestor is None:
                return None
            parts.append([name, "link", ancestor, value.slot])
        elif isinstance(value, float) and value != value:
            return None  # NaN equals nothing, so neither does what is made of it
        else:
            parts.append([name, "value", type(value).__name__, value])
    text = json.dumps(parts, sort_keys=True, separators=(",", ":"), default=repr)
    return hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=20).hexdigest()
