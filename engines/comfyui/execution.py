"""One prompt on its way through ComfyUI: the server's messages go in, engine events come out in order.

No I/O here: what has to be fetched is asked of `fetch`, which starts at once and is awaited by who reads the events.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Mapping
from typing import Any

from ...graph import Prompt
from ..errors import Cancelled, EngineError, NodeFailed
from ..events import Cached, Event, Preview, Produced, Progress, Started
from .faults import failed
from .messages import Message, Picture
from .outputs import TEXT_MEDIA_TYPE, RemoteFile, Text, read_outputs

Fetched = asyncio.Task[Produced | None]  # None: the file is gone
Fetch = Callable[[str, RemoteFile], Fetched]

_UNREAD = 256  # events; past it, progress and previews that nobody has read yet are not worth keeping


class Execution:
    """The state of one posted prompt.

    Attributes:
        prompt_id: the server's name for it.
        posted: whether the server has taken it.
        ended: whether it will say no more; `error` is why, None for success.
        started: when it began to run, on the event loop's clock; None before.
        missing: nodes whose outputs the server named or owed but could not give, although nothing failed: saved in an
            earlier run and deleted since, or a picture that never came over the socket.
    """

    def __init__(
        self,
        prompt_id: str,
        prompt: Prompt,
        *,
        over_socket: frozenset[str] = frozenset(),
        only: frozenset[str] | None = None,
        fetch: Fetch,
    ) -> None:
        self.prompt_id = prompt_id
        self.prompt = prompt
        self.posted = False
        self.ended = False
        self.error: EngineError | None = None
        self.started: float | None = None
        self.finished: float | None = None
        self.missing: set[str] = set()
        self.history_ready = asyncio.Event()
        self._over_socket = over_socket
        self._only = only
        self._fetch = fetch
        self._items: asyncio.Queue[Event | tuple[str, Fetched] | None] = asyncio.Queue()
        self._tasks: set[Fetched] = set()
        self._node: str | None = None  # executing now
        self._cached: set[str] = set()
        self._executed: set[str] = set()
        self._counts: dict[tuple[str, str], int] = {}
        self._progress: dict[str, tuple[float, float]] = {}
        self._blocked: NodeFailed | None = None

    async def events(self) -> AsyncGenerator[Event, None]:
        """What happens, until the end; raises the error that ended it. `Finished` is left to the caller."""
        while (item := await self._items.get()) is not None:
            if not isinstance(item, tuple):
                yield item
                continue
            node, task = item
            produced = await task
            self._tasks.discard(task)
            if produced is not None:
                yield produced
            elif node in self._cached:
                self.missing.add(node)
            else:
                raise NodeFailed(
                    "ComfyUI says that it saved a file, but does not give it",
                    node_id=node,
                    class_type=self.prompt.nodes[node].class_type if node in self.prompt.nodes else None,
                    remedy="look at its output folder and its log",
                )
        if self.error is not None:
            raise self.error

    def feed(self, message: Message) -> None:
        """Take a message about this prompt."""
        handler = _HANDLERS.get(message.type)
        if handler is not None and (not self.ended or message.type == "executing"):
            handler(self, message.data)

    def show(self, picture: Picture) -> None:
        """Take a picture from the socket: an output of a node that sends its outputs so, else a preview."""
        node = picture.node or self._node
        if self.ended:
            return
        if node in self._over_socket and picture.media_type == "image/png":
            index = self._next_index(node, "images")
            self._put(
                Produced(node=node, output="images", index=index, media_type="image/png", data=picture.data), node
            )
        elif self._items.qsize() < _UNREAD:
            self._items.put_nowait(Preview(node=node, data=picture.data, media_type=picture.media_type))

    def end(self, error: EngineError | None = None) -> None:
        """Nothing more will come; harmless when it has ended already."""
        if self.ended:
            return
        self.ended = True
        self.error = error or self._blocked
        if self.error is None:
            self.missing |= {node for node in self._over_socket if (node, "images") not in self._counts}
        self._items.put_nowait(None)

    def recall(self, entry: Mapping[str, Any]) -> None:
        """End it from its entry in ``/history``: outputs that no message told, and how it went."""
        outputs = entry.get("outputs")
        for node, ui in outputs.items() if isinstance(outputs, dict) else ():
            if node not in self._executed and isinstance(ui, dict):
                self._executed.add(node)
                self._produce(node, ui)
        status = entry.get("status")
        messages = status.get("messages") if isinstance(status, dict) else None
        for pair in messages if isinstance(messages, list) else ():
            if isinstance(pair, list) and len(pair) == 2 and pair[0] in _ENDS and isinstance(pair[1], dict):
                self.feed(Message(type=pair[0], data=pair[1], prompt_id=self.prompt_id))
        self.end()

    @property
    def untold(self) -> bool:
        """Whether `executed` did not tell of cached nodes at the prompt's ends: only ``/history`` has their outputs."""
        quiet = self._cached - self._executed - self._over_socket
        return bool(quiet - {link.node for node in self.prompt.nodes.values() for _, link in node.links})

    async def discard(self) -> None:
        """Stop what is still being fetched."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._tasks.clear()

    def _put(self, produced: Produced, node: str) -> None:
        if self._only is None or node in self._only:
            self._items.put_nowait(produced)

    def _place(self, data: Mapping[str, Any]) -> str | None:
        """The prompt's own node that a message is about: a node may stand for others that it made while it ran."""
        for key in ("node", "node_id", "display_node", "display_node_id", "real_node_id", "parent_node_id"):
            node = data.get(key)
            if isinstance(node, str) and node in self.prompt.nodes:
                return node
        return None

    def _next_index(self, node: str, kind: str) -> int:
        index = self._counts.get((node, kind), 0)
        self._counts[node, kind] = index + 1
        return index

    def _produce(self, node: str, ui: Mapping[str, Any]) -> None:
        if self._only is not None and node not in self._only:
            return
        for item in read_outputs(ui):
            if isinstance(item, Text):
                index = self._next_index(node, "text")
                data = item.text.encode("utf-8", "replace")
                self._put(Produced(node=node, output="text", index=index, media_type=TEXT_MEDIA_TYPE, data=data), node)
                continue
            index = self._next_index(node, item.kind)
            file = RemoteFile(
                kind=item.kind,
                index=index,
                filename=item.filename,
                subfolder=item.subfolder,
                folder_type=item.folder_type,
                media_type=item.media_type,
            )
            task = self._fetch(node, file)
            self._tasks.add(task)
            self._items.put_nowait((node, task))

    def _on_start(self, data: Mapping[str, Any]) -> None:
        self.started = asyncio.get_running_loop().time()

    def _on_cached(self, data: Mapping[str, Any]) -> None:
        nodes = data.get("nodes")
        named = {node for node in nodes if isinstance(node, str)} if isinstance(nodes, list) else set()
        told = tuple(node for node in self.prompt.nodes if node in named)
        self._cached = set(told)
        if told and self._only is None:
            self._items.put_nowait(Cached(nodes=told))

    def _on_executing(self, data: Mapping[str, Any]) -> None:
        if data.get("node") is None:  # after the very end, when the history has it
            self.history_ready.set()
            return
        node = self._place(data)
        if node is not None and not self.ended:
            self._node = node
            if self._only is None:
                self._items.put_nowait(Started(node=node))

    def _on_progress(self, data: Mapping[str, Any]) -> None:
        node = self._place(data) or self._node
        value, maximum = data.get("value"), data.get("max")
        if node is None or node in self._over_socket or self._only is not None:
            return
        if not isinstance(value, int | float) or not isinstance(maximum, int | float):
            return
        if self._progress.get(node) != (value, maximum) and self._items.qsize() < _UNREAD:
            self._progress[node] = (value, maximum)
            self._items.put_nowait(Progress(node=node, value=value, maximum=maximum))

    def _on_progress_state(self, data: Mapping[str, Any]) -> None:
        nodes = data.get("nodes")
        for state in nodes.values() if isinstance(nodes, dict) else ():
            # 0 of 1 and 1 of 1 only say that a node began and ended, which `executing` tells.
            if isinstance(state, dict) and state.get("state") == "running" and state.get("max") != 1:
                self._on_progress(state)

    def _on_executed(self, data: Mapping[str, Any]) -> None:
        name, ui = data.get("node"), data.get("output")
        node = self._place(data)
        # A cached node may be told twice: when its turn comes and again at the end (0.33.0).
        if node is None or not isinstance(name, str) or name in self._executed:
            return
        self._executed.add(name)
        if isinstance(ui, dict):
            self._produce(node, ui)

    def _on_success(self, data: Mapping[str, Any]) -> None:
        self.finished = asyncio.get_running_loop().time()
        if not self.untold:
            self.end()

    def _on_error(self, data: Mapping[str, Any]) -> None:
        error = failed(data, self._place(data))
        if data.get("exception_type") == "ExecutionBlocked":
            # The node's own refusal to go on: the rest of the prompt still runs, so the end is not yet.
            self._blocked = self._blocked or error
        else:
            self.end(error)

    def _on_interrupted(self, data: Mapping[str, Any]) -> None:
        self.end(Cancelled("ComfyUI was told to interrupt it", node_id=self._place(data)))


_HANDLERS: dict[str, Callable[[Execution, Mapping[str, Any]], None]] = {
    "execution_start": Execution._on_start,
    "execution_cached": Execution._on_cached,
    "executing": Execution._on_executing,
    "progress": Execution._on_progress,
    "progress_state": Execution._on_progress_state,
    "executed": Execution._on_executed,
    "execution_success": Execution._on_success,
    "execution_error": Execution._on_error,
    "execution_interrupted": Execution._on_interrupted,
}
_ENDS = frozenset({"execution_error", "execution_interrupted"})
