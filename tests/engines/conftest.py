"""A ComfyUI server for tests: speaks the same HTTP and WebSocket, runs prompts by a script instead of by nodes."""

from __future__ import annotations

import asyncio
import json
import struct
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

PNG = b"\x89PNG\r\n\x1a\n"


class FakeRun:
    """One prompt while the fake server runs it: what a script speaks through."""

    def __init__(self, server: FakeComfyUI, prompt_id: str, nodes: dict[str, Any], client_id: str | None) -> None:
        self.server = server
        self.prompt_id = prompt_id
        self.nodes = nodes
        self.client_id = client_id
        self.interrupted = asyncio.Event()
        self.outputs: dict[str, Any] = {}
        self.status: dict[str, Any] = {"status_str": "success", "completed": True, "messages": []}

    async def send(self, type_: str, **data: Any) -> None:
        """A message about this prompt to the client that posted it."""
        await self.server.send(type_, {**data, "prompt_id": self.prompt_id}, self.client_id)

    async def begin(self, cached: list[str] | None = None) -> None:
        await self.send("execution_start", timestamp=1)
        await self.send("execution_cached", nodes=cached or [], timestamp=1)

    async def executing(self, node: str) -> None:
        await self.send("executing", node=node, display_node=node)

    async def executed(self, node: str, output: Any, **more: Any) -> None:
        if isinstance(output, dict):
            self.outputs[node] = output
        await self.send("executed", **{"node": node, "display_node": node, "output": output, **more})

    async def success(self) -> None:
        await self.send("execution_success", timestamp=1)

    async def picture(self, data: bytes, *, labelled: str | None = None, png: bool = True) -> None:
        """A picture over the socket: labelled with its node as newer clients get it, or bare."""
        if labelled is None:
            frame = struct.pack(">II", 1, 2 if png else 1) + data
        else:
            media = "image/png" if png else "image/jpeg"
            text = json.dumps(
                {"node_id": labelled, "display_node_id": labelled, "prompt_id": self.prompt_id, "image_type": media}
            ).encode()
            frame = struct.pack(">II", 4, len(text)) + text + data
        await self.server.send_bytes(frame, self.client_id)

    def save(self, filename: str, data: bytes, *, subfolder: str = "", type_: str = "output") -> dict[str, str]:
        """Put a file where /view finds it; its entry in a node's ui."""
        self.server.files[type_, subfolder, filename] = data
        return {"filename": filename, "subfolder": subfolder, "type": type_}


Script = Callable[[FakeRun], Awaitable[None]]


async def run_nodes(run: FakeRun) -> None:
    """What a ComfyUI does: every node in turn, SaveImage saves, SaveImageWebsocket sends, PreviewAny shows."""
    await run.begin()
    for node_id, node in run.nodes.items():
        await run.executing(node_id)
        if node["class_type"] == "SaveImage":
            number = len(run.server.files)
            await run.executed(node_id, {"images": [run.save(f"out_{number:05}_.png", PNG + node_id.encode())]})
        elif node["class_type"] == "SaveImageWebsocket":
            await run.picture(PNG + node_id.encode(), labelled=node_id if run.server.labels else None)
        elif node["class_type"] == "PreviewAny":
            await run.executed(node_id, {"text": [str(node["inputs"].get("source"))]})
    await run.success()


class FakeComfyUI:
    """The server. Set what it can (`classes`, `jobs_api`, `own_ids`, …), read what it was asked (`posted`, `asked`)."""

    def __init__(self) -> None:
        self.classes: dict[str, Any] = {
            name: {"input": {"required": {}}, "output": [], "output_node": output, "name": name}
            for name, output in {"EmptyImage": False, "LoadImage": False, "SaveImage": True, "PreviewAny": True}.items()
        }
        self.script: Script = run_nodes
        self.labels = True
        self.jobs_api = True
        self.own_ids = False  # before 0.3.50 the server chose the prompt's id
        self.answer: tuple[int, Any] | None = None  # to POST /prompt, instead of taking it
        self.node_errors: dict[str, Any] = {}
        self.accept = asyncio.Event()  # POST /prompt answers when it is set
        self.accept.set()
        self.posted: list[dict[str, Any]] = []
        self.asked: list[str] = []
        self.uploads: list[tuple[str, bytes]] = []
        self.files: dict[tuple[str, str, str], bytes] = {}
        self.history: dict[str, Any] = {}
        self.pending: list[FakeRun] = []
        self.running: FakeRun | None = None
        self.sockets: dict[str, web.WebSocketResponse] = {}
        self.features: list[Any] = []
        self._wake = asyncio.Event()
        self._worker: asyncio.Task[None] | None = None
        self._server: TestServer | None = None
        self._port: int | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._port}"

    async def start(self) -> None:
        """Listen; a second start takes the same port, as a restarted server does."""
        app = web.Application(client_max_size=1 << 30)
        app.add_routes(
            [
                web.get("/ws", self._ws),
                web.post("/prompt", self._post_prompt),
                web.get("/prompt", self._get_prompt),
                web.get("/queue", self._get_queue),
                web.post("/queue", self._post_queue),
                web.post("/interrupt", self._interrupt),
                web.get("/history/{id}", self._history),
                web.get("/view", self._view),
                web.post("/upload/image", self._upload),
                web.get("/object_info", self._object_info),
                web.get("/object_info/{name}", self._object_info),
                web.post("/api/jobs/{id}/cancel", self._cancel),
            ]
        )
        self._server = TestServer(app, port=self._port)
        await self._server.start_server()
        self._port = self._server.port
        self._worker = asyncio.create_task(self._work())

    async def stop(self) -> None:
        if self._worker is not None:
            self._worker.cancel()
            await asyncio.gather(self._worker, return_exceptions=True)
        for socket in list(self.sockets.values()):
            await socket.close()
        self.sockets.clear()
        if self._server is not None:
            await self._server.close()
            self._server = None
        self.pending.clear()
        self.running = None

    async def send(self, type_: str, data: dict[str, Any], client_id: str | None) -> None:
        """To one client, or (None) to all."""
        for name, socket in list(self.sockets.items()):
            if client_id is None or name == client_id:
                await socket.send_json({"type": type_, "data": data})

    async def send_bytes(self, frame: bytes, client_id: str | None) -> None:
        for name, socket in list(self.sockets.items()):
            if client_id is None or name == client_id:
                await socket.send_bytes(frame)

    async def status(self) -> None:
        remaining = len(self.pending) + (self.running is not None)
        await self.send("status", {"status": {"exec_info": {"queue_remaining": remaining}}}, None)

    async def _work(self) -> None:
        while True:
            while not self.pending:
                self._wake.clear()
                await self._wake.wait()
            run = self.running = self.pending.pop(0)
            await self.status()
            await self.script(run)
            self.history[run.prompt_id] = {"outputs": run.outputs, "status": run.status}
            self.running = None
            await self.status()
            await run.send("executing", node=None)

    async def _ws(self, request: web.Request) -> web.WebSocketResponse:
        self.asked.append("GET /ws")
        socket = web.WebSocketResponse()
        await socket.prepare(request)
        client_id = request.query["clientId"]
        self.sockets[client_id] = socket
        await self.send("status", {"status": {"exec_info": {"queue_remaining": 0}}, "sid": client_id}, client_id)
        async for message in socket:
            self.features.append(json.loads(message.data))
        if self.sockets.get(client_id) is socket:
            del self.sockets[client_id]
        return socket

    async def _post_prompt(self, request: web.Request) -> web.Response:
        self.asked.append("POST /prompt")
        body = await request.json()
        self.posted.append(body)
        await self.accept.wait()
        if self.answer is not None:
            return web.json_response(self.answer[1], status=self.answer[0])
        prompt_id = uuid.uuid4().hex if self.own_ids else body["prompt_id"]
        self.pending.append(FakeRun(self, prompt_id, body["prompt"], body.get("client_id")))
        self._wake.set()
        await self.status()
        return web.json_response({"prompt_id": prompt_id, "number": 1, "node_errors": self.node_errors})

    async def _get_prompt(self, request: web.Request) -> web.Response:
        return web.json_response({"exec_info": {"queue_remaining": len(self.pending)}})

    async def _get_queue(self, request: web.Request) -> web.Response:
        self.asked.append("GET /queue")
        running = [[0, self.running.prompt_id, {}, {}, []]] if self.running else []
        return web.json_response(
            {"queue_running": running, "queue_pending": [[0, run.prompt_id, {}, {}, []] for run in self.pending]}
        )

    async def _post_queue(self, request: web.Request) -> web.Response:
        body = await request.json()
        self.asked.append(f"delete {len(body['delete'])}")
        self.pending = [run for run in self.pending if run.prompt_id not in body["delete"]]
        return web.Response()

    async def _interrupt(self, request: web.Request) -> web.Response:
        body = await request.json()
        self.asked.append("interrupt")
        if self.running is not None and body.get("prompt_id") == self.running.prompt_id:
            self.running.interrupted.set()
        return web.Response()

    async def _cancel(self, request: web.Request) -> web.Response:
        if not self.jobs_api:
            return web.Response(status=405)
        self.asked.append("cancel")
        prompt_id = request.match_info["id"]
        if self.running is not None and prompt_id == self.running.prompt_id:
            self.running.interrupted.set()
            return web.json_response({"cancelled": True})
        before = len(self.pending)
        self.pending = [run for run in self.pending if run.prompt_id != prompt_id]
        return web.json_response({"cancelled": len(self.pending) < before})

    async def _history(self, request: web.Request) -> web.Response:
        self.asked.append("GET /history")
        prompt_id = request.match_info["id"]
        return web.json_response({prompt_id: self.history[prompt_id]} if prompt_id in self.history else {})

    async def _view(self, request: web.Request) -> web.Response:
        self.asked.append(f"{request.method} /view")
        key = (request.query.get("type", "output"), request.query.get("subfolder", ""), request.query["filename"])
        if key not in self.files:
            return web.Response(status=404)
        return web.Response(body=self.files[key], content_type="application/octet-stream")

    async def _upload(self, request: web.Request) -> web.Response:
        self.asked.append("POST /upload/image")
        form = await request.post()
        field = form["image"]
        assert isinstance(field, web.FileField)
        data = field.file.read()
        field.file.close()
        self.uploads.append((field.filename, data))
        self.files["input", "", field.filename] = data
        return web.json_response({"name": field.filename, "subfolder": "", "type": "input"})

    async def _object_info(self, request: web.Request) -> web.Response:
        name = request.match_info.get("name")
        self.asked.append("GET /object_info" if name is None else f"GET /object_info/{name}")
        if name is not None:
            return web.json_response({name: self.classes[name]} if name in self.classes else {})
        return web.json_response(self.classes)


@pytest.fixture
async def fake_comfyui() -> AsyncIterator[FakeComfyUI]:
    """A fake ComfyUI that listens on the loopback interface."""
    server = FakeComfyUI()
    await server.start()
    yield server
    await server.stop()
