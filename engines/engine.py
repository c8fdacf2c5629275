"""The protocol that every engine keeps."""

from __future__ import annotations

from collections.abc import AsyncIterator, Collection, Mapping
from pathlib import Path
from typing import Protocol, runtime_checkable

from ..graph import InputRef, NodeSchemas, Prompt
from .events import Event


@runtime_checkable
class Checking(Protocol):
    """An engine that can tell before the first job what a prompt would lack."""

    async def check(self, prompt: Prompt, *, given: Collection[InputRef] = ()) -> None:
        """Raise `InvalidPrompt` where a run of `prompt` cannot succeed here; its text and `errors` list everything.

        Args:
            prompt: markers may be in it.
            given: inputs whose values callers hand in later.
        """


@runtime_checkable
class Engine(Protocol):
    """Executes prompts on one device; a worker drives it.

    `name` is "comfyui" or "embedded".
    """

    name: str

    @property
    def concurrency(self) -> int:
        """How many `run` iterators may be open at once, at least 1; it may change, so ask before each.

        The device still works on one prompt at a time: more than 1 lets the engine's own queue hold the next prompt
        while the outputs of the last one are on their way. A caller with several engines fills an idle one first.
        """
        ...

    async def start(self) -> None:
        """Get ready: connect or start the process. Raises `EngineUnavailable`. Calling it again is harmless."""

    async def schemas(self) -> NodeSchemas:
        """The node schemas this engine knows."""

    async def healthy(self) -> bool:
        """Whether the engine answers now; never raises and takes at most two seconds."""

    def run(self, prompt: Prompt, *, files: Mapping[InputRef, Path]) -> AsyncIterator[Event]:
        """Execute a bound prompt and tell what happens; closing the iterator cancels the run.

        Args:
            prompt: without markers (see `graph.bind`).
            files: local files by the input that names them; the engine hands it over and rewrites only that input.

        Raises:
            EngineError: see its children.
        """
        ...

    async def close(self) -> None:
        """Let go of connections and processes."""
