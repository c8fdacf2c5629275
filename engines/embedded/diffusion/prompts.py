"""From a prompt to its conditioning."""

from __future__ import annotations

from typing import Any

import torch

from ..context import Context
from ..problems import NodeProblem
from . import memory
from .embeddings import embeddings
from .encoders import Clip
from .loading import check_whole
from .values import Condition


def needed(clip: Clip | None) -> Clip:
    """The CLIP. Raises `NodeProblem` where a checkpoint had none."""
    if clip is None:
        raise NodeProblem("the checkpoint holds no text encoder", remedy="load one with CLIPLoader and wire that")
    return clip


def encoded(clip: Clip | None, text: str, context: Context, **added: Any) -> tuple[Condition, ...]:
    """The conditioning of a prompt, with these options added. Textual inversions are found in ``models/embeddings``."""
    clip = needed(clip)
    return encoded_tokens(clip, tokenized(clip, text, context), **added)


def tokenized(clip: Clip, text: str, context: Context, **options: Any) -> Any:
    """The tokens of a prompt: `Clip.tokenize` with what it needs of the run (textual inversions, vocabularies)."""
    return clip.tokenize(text, embeddings=embeddings(context), run=context.run, **options)


def encoded_tokens(clip: Clip, tokens: Any, **added: Any) -> tuple[Condition, ...]:
    """The conditioning of tokens, with these options added.

    Raises:
        NodeProblem: the text encoder's file is damaged.
        NotEnoughMemory: it does not fit.
    """
    store = memory.store()

    def attempt() -> tuple[Condition, ...]:
        with store.using(clip.component):
            return clip.encode(tokens, **added)

    conditioning = store.attempt(attempt)
    if not all(bool(torch.isfinite(condition.text).all()) for condition in conditioning):
        check_whole(clip.component)
    return conditioning
