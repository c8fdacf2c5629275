"""`ComfyUIEngine`: run prompts on a ComfyUI server that somebody else started."""

from __future__ import annotations

import asyncio
import contextlib
import json
import shutil
import tempfile
import uuid
from collections.abc import AsyncGenerator, Iterable, Mapping
from pathlib import Path
from typing import Any

import aiohttp
from yarl import URL

from ...graph import InputRef, NodeSchemas, Prompt
from ..errors import EngineError, EngineUnavailable, InvalidPrompt, WorkerLost
from ..events import Event, Finished, Produced
from .connection import JSON, Connection, queued_ids
from .execution import Execution, Fetched
from .faults import invalid, node_errors, refused
from .outputs import RemoteFile
from .uploads import Uploads

_IN_MEMORY = 16 << 20  # bytes; a larger output goes to a file while it arrives
_AHEAD = 0.5  # seconds of work that may wait in the server's queue: more saves nothing and only hides who is next
_CANCEL = 5.0  # seconds that telling the server of a cancelled run may take
_HEALTHY = 2.0  # seconds
_SOCKET_CLASS = "SaveImageWebsocket"
_FRESH = "atelier_fresh"  # no node has an input of this name: ComfyUI ignores it, but its cache key changes


class ComfyUIEngine:
    """Runs prompts on a ComfyUI server.

    Args:
        url: the server's address, ``http://127.0.0.1:8188`` say; credentials in it are sent as basic authentication.
        metadata: whether saved pictures carry the prompt, as ComfyUI's own files do. Without it, pictures come over
            the socket where the server has SaveImageWebsocket (a checkout's own ``custom_nodes`` has it): faster,
            no file stays in the server's output folder, and a service does not give its graph away.
        depth: the most prompts to hand to the server at once, counting the one that runs; see `concurrency`.
        headers: sent with every request.

    Raises:
        EngineUnavailable: ``url`` is no http address.
    """

    name = "comfyui"

    def __init__(
        self, url: str, *, metadata: bool = False, depth: int = 16, headers: Mapping[str, str] | None = None
    ) -> None:
        self._url = read_url(url)
        self._metadata = metadata
        self._depth = max(1, depth)
        self._headers = dict(headers or {})
        self._connection: Connection | None = None
        self._connecting = asyncio.Lock()
        self._uploads = Uploads()
        self._schemas: NodeSchemas | None = None
        self._over_socket = False
        self._atomic_cancel: bool | None = None  # whether the server has /api/jobs/{id}/cancel; None: not asked yet
        self._typical: float | None = None  # seconds that a prompt took lately
        self._scratch: Path | None = None
        self._closed = False

    @property
    def url(self) -> str:
        """The server's address, without credentials."""
        return str(self._url.with_user(None)).rstrip("/")

    @property
    def concurrency(self) -> int:
        """As many prompts as the server runs in half a second, at least 1 and at most `depth`.

        Short ones queue up there, so that it never waits for us; of long ones it gets the next when it is done.
        """
        if self._typical is None:
            return 1
        return max(1, min(self._depth, int(_AHEAD / max(self._typical, 0.001))))

    async def start(self) -> None:
        """Connect, again if the connection was lost. Raises `EngineUnavailable`."""
        await self._open()

    async def close(self) -> None:
        """Disconnect; runs that are still open end with `WorkerLost`."""
        self._closed = True
        connection, self._connection = self._connection, None
        if connection is not None:
            await connection.close()
        if self._scratch is not None:
            shutil.rmtree(self._scratch, ignore_errors=True)

    async def healthy(self) -> bool:
        """Whether the server answers within two seconds."""
        try:
            async with asyncio.timeout(_HEALTHY):
                connection = await self._open()
                return await connection.get_json("prompt") is not None
        except (EngineError, aiohttp.ClientError, OSError, TimeoutError, ValueError):
            return False

    async def schemas(self) -> NodeSchemas:
        """The server's ``/object_info``, asked for once per connection. Raises `EngineUnavailable`."""
        connection = await self._open()
        if self._schemas is None:
            try:
                async with connection.session.get(connection.at("object_info")) as response:
                    body = await response.read()
                if response.status != 200:
                    raise EngineUnavailable(
                        f"{self.url}/object_info answers {response.status}", remedy="look at its log"
                    )
                self._schemas = await asyncio.to_thread(_read_schemas, body)
            except (aiohttp.ClientError, OSError, ValueError) as error:
                raise EngineUnavailable(f"{self.url}/object_info cannot be read ({error})") from error
        return self._schemas

    async def run(self, prompt: Prompt, *, files: Mapping[InputRef, Path]) -> AsyncGenerator[Event, None]:
        """Execute a bound prompt; closing the iterator cancels it on the server. See `Engine.run`."""
        connection = await self._open()
        body = await self._with_files(connection, prompt.to_json(), files)
        over_socket = _by_socket(prompt) if self._over_socket and not self._metadata else frozenset()
        again: frozenset[str] | None = None
        by_file: frozenset[str] = frozenset()
        given: set[tuple[str, str, int]] = set()
        for attempt in (1, 2):
            nodes = _prepared(body, over_socket=over_socket, fresh=again or ())
            execution = Execution(
                str(uuid.uuid4()), prompt, over_socket=over_socket, only=again, fetch=self._fetcher(connection)
            )
            async with contextlib.aclosing(self._execute(connection, execution, nodes, files)) as events:
                async for event in events:
                    if isinstance(event, Produced):
                        place = (event.node, event.output, event.index)
                        if place not in given:
                            yield event
                        given.add(place)
                        if isinstance(event.data, Path):
                            event.data.unlink(missing_ok=True)
                    else:
                        yield event
            self._learn(execution)
            if attempt == 2:
                # What came by file and not over the socket: this server's socket has no pictures for us.
                self._over_socket = self._over_socket and not any(node in by_file for node, _, _ in given)
            if not execution.missing or attempt == 2:
                break
            # Cached long ago and deleted since, or a socket picture that never came: those nodes once more, by file.
            again = frozenset(execution.missing)
            by_file, over_socket = over_socket & again, frozenset()
        yield Finished()

    async def _execute(
        self,
        connection: Connection,
        execution: Execution,
        nodes: dict[str, JSON],
        files: Mapping[InputRef, Path],
    ) -> AsyncGenerator[Event, None]:
        submission = connection.spawn(self._submit(connection, execution, nodes, files))
        finished = False
        try:
            await asyncio.shield(submission)
            async with contextlib.aclosing(execution.events()) as events:
                async for event in events:
                    yield event
            finished = True
        except asyncio.CancelledError:
            # A closing connection cancels what it was asked for; that is not this run's caller who cancels.
            task = asyncio.current_task()
            if connection.lost is None or (task is not None and task.cancelling()):
                raise
            raise WorkerLost(f"ComfyUI at {connection.shown} {connection.lost} while the job ran") from None
        finally:
            if not finished and not execution.ended:
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(_CANCEL):
                        await asyncio.shield(connection.spawn(self._cancel(connection, execution, submission)))
            connection.forget(execution)
            await execution.discard()

    async def _submit(
        self,
        connection: Connection,
        execution: Execution,
        nodes: dict[str, JSON],
        files: Mapping[InputRef, Path],
        *,
        again: bool = True,
    ) -> None:
        body = {"prompt": nodes, "client_id": connection.client_id, "prompt_id": execution.prompt_id}
        try:
            status, answer = await connection.submit(execution, body)
        except (aiohttp.ServerDisconnectedError, ConnectionResetError):
            # The server may close a kept-alive connection just when we take it up. The id is ours: if the server does
            # not know it, posting again runs nothing twice.
            try:
                if await self._knows(connection, execution.prompt_id):
                    execution.posted = True
                    return
                status, answer = await connection.submit(execution, body)
            except (aiohttp.ClientError, OSError, ValueError) as error:
                raise self._lost(connection, error) from error
        except (aiohttp.ClientError, OSError) as error:
            raise self._lost(connection, error) from error
        if status == 200 and isinstance(answer, dict):
            errors = node_errors(answer.get("node_errors"), execution.prompt)
            if not errors:
                return
            # Some outputs are fine and the server would run those alone: half a result is none.
            await self._withdraw(connection, execution.prompt_id)
            raise invalid(errors)
        refusal = refused(status, answer, execution.prompt, None)
        if isinstance(refusal, InvalidPrompt):
            if again and any(
                InputRef(fault.node_id or "", fault.input_name or "") in files for fault in refusal.errors
            ):
                # The server lacks a file that it had: somebody emptied its input folder. Send all of them once more.
                self._uploads.forget()
                nodes = await self._with_files(connection, nodes, files)
                await self._submit(connection, execution, nodes, files, again=False)
                return
            known: Iterable[str] | None = None
            with contextlib.suppress(EngineError):
                known = tuple(await self.schemas())
            refusal = refused(status, answer, execution.prompt, known)
        raise refusal

    async def _cancel(self, connection: Connection, execution: Execution, submission: asyncio.Task[None]) -> None:
        with contextlib.suppress(EngineError, aiohttp.ClientError, OSError, ValueError):
            await submission
            if not execution.ended:
                await self._withdraw(connection, execution.prompt_id)

    async def _withdraw(self, connection: Connection, prompt_id: str) -> None:
        """Take a prompt out of the queue or interrupt it, and no other, whatever the server's version."""
        with contextlib.suppress(aiohttp.ClientError, OSError, ValueError):
            if self._atomic_cancel is not False:
                status, answer = await connection.post_json({}, "api", "jobs", prompt_id, "cancel")
                self._atomic_cancel = status == 200 and isinstance(answer, dict) and "cancelled" in answer
                if self._atomic_cancel:
                    return
            await connection.post_json({"delete": [prompt_id]}, "queue")
            # Before 0.3.56 /interrupt heeds no prompt id and stops whatever runs: only ask for it when that is ours.
            if prompt_id in queued_ids(await connection.get_json("queue"), "queue_running"):
                await connection.post_json({"prompt_id": prompt_id}, "interrupt")

    async def _knows(self, connection: Connection, prompt_id: str) -> bool:
        queue = await connection.get_json("queue")
        if prompt_id in queued_ids(queue, "queue_running") | queued_ids(queue, "queue_pending"):
            return True
        history = await connection.get_json("history", prompt_id)
        return isinstance(history, dict) and prompt_id in history

    def _lost(self, connection: Connection, error: Exception) -> WorkerLost:
        reason = str(error) or type(error).__name__
        return WorkerLost(
            f"ComfyUI at {connection.shown} did not take the prompt ({reason})", remedy="look at its log; try again"
        )

    async def _open(self) -> Connection:
        if self._closed:
            raise EngineUnavailable(f"the engine for {self.url} is closed")
        connection = self._connection
        if connection is not None and connection.alive:
            return connection
        async with self._connecting:
            if self._connection is not None:
                if self._connection.alive:
                    return self._connection
                await self._connection.close()
                self._connection = None
            connection = Connection(self._url, headers=self._headers)
            await connection.open()
            # It may be another process than before, with other nodes and an empty input folder.
            self._schemas = None
            self._atomic_cancel = None
            self._uploads.forget()
            try:
                info = None if self._metadata else await connection.get_json("object_info", _SOCKET_CLASS)
            except (aiohttp.ClientError, OSError, TimeoutError, ValueError):
                info = None
            self._over_socket = isinstance(info, dict) and _SOCKET_CLASS in info
            self._connection = connection
            return connection

    async def _with_files(
        self, connection: Connection, prompt: Mapping[str, JSON], files: Mapping[InputRef, Path]
    ) -> dict[str, JSON]:
        nodes = dict(prompt)
        for ref, path in files.items():
            node = nodes.get(ref.node)
            if node is None:
                raise InvalidPrompt(f"a file was given for node {ref.node}, which the prompt does not have")
            node["inputs"] = {**node["inputs"], ref.input: await self._uploads.send(connection, path)}
        return nodes

    def _fetcher(self, connection: Connection) -> Any:
        def fetch(node: str, file: RemoteFile) -> Fetched:
            return connection.spawn(self._fetch(connection, node, file))

        return fetch

    async def _fetch(self, connection: Connection, node: str, file: RemoteFile) -> Produced | None:
        data: bytes | Path
        try:
            async with connection.session.get(connection.at("view").with_query(file.query)) as response:
                if response.status != 200:
                    return None
                size = response.content_length
                if size is not None and size <= _IN_MEMORY:
                    data = await response.read()
                else:
                    data = await self._spill(response)
                media_type = file.media_type
                if media_type == "application/octet-stream":
                    media_type = response.content_type
        except (aiohttp.ClientError, OSError) as error:
            reason = str(error) or type(error).__name__
            raise WorkerLost(
                f"ComfyUI at {connection.shown} broke off while it gave an output ({reason})", remedy="try again"
            ) from error
        return Produced(
            node=node,
            output=file.kind,
            index=file.index,
            media_type=media_type,
            data=data,
            filename=file.display_name or None,
            temporary=file.temporary,
        )

    async def _spill(self, response: aiohttp.ClientResponse) -> Path:
        if self._scratch is None:
            self._scratch = Path(tempfile.mkdtemp(prefix="atelier-outputs-"))
        path = self._scratch / uuid.uuid4().hex
        try:
            with path.open("wb") as file:
                async for block in response.content.iter_chunked(1 << 20):
                    await asyncio.to_thread(file.write, block)
        except BaseException:
            path.unlink(missing_ok=True)
            raise
        return path

    def _learn(self, execution: Execution) -> None:
        if execution.started is not None and execution.finished is not None:
            took = execution.finished - execution.started
            self._typical = took if self._typical is None else 0.7 * self._typical + 0.3 * took


def read_url(url: str) -> URL:
    """The address in ``url``; ``host:port`` alone means http. Raises `EngineUnavailable` for what is none."""
    try:
        address = URL(url if "://" in url else f"http://{url}")
        valid = address.scheme in {"http", "https"} and bool(address.host)
    except ValueError:
        valid = False
    if not valid:
        error = EngineUnavailable(f"{url!r} is no address of a ComfyUI", remedy="write it as http://127.0.0.1:8188")
        error.retryable = False
        raise error
    return address.with_query(None).with_fragment(None)


def _read_schemas(body: bytes) -> NodeSchemas:
    return NodeSchemas.from_object_info(json.loads(body))


def _by_socket(prompt: Prompt) -> frozenset[str]:
    """SaveImage nodes that SaveImageWebsocket can stand in for: nothing takes their picture further."""
    passed_on = {link.node for node in prompt.nodes.values() for _, link in node.links}
    return frozenset(
        node_id
        for node_id, node in prompt.nodes.items()
        if node.class_type == "SaveImage" and "images" in node.inputs and node_id not in passed_on
    )


def _prepared(body: Mapping[str, JSON], *, over_socket: Iterable[str], fresh: Iterable[str]) -> dict[str, JSON]:
    nodes = dict(body)
    for node_id in over_socket:
        nodes[node_id] = {
            **nodes[node_id],
            "class_type": _SOCKET_CLASS,
            "inputs": {"images": nodes[node_id]["inputs"]["images"]},
        }
    for node_id in fresh:
        nodes[node_id] = {**nodes[node_id], "inputs": {**nodes[node_id]["inputs"], _FRESH: uuid.uuid4().hex}}
    return nodes
