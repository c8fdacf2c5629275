"""Servers on this machine that answer as Black Forest Labs' API and as OpenAI-compatible servers do, failures included.

What a service does next is told by its ``plan``: a list of answers, taken one by one; where it is empty, all is well.
Every request is kept, so that tests can see what was sent. It also runs by itself, for a real ComfyUI: ``python
remote_services.py PORT``.
"""

from __future__ import annotations

import base64
import io
import json
import sys
from dataclasses import dataclass, field
from typing import Any

from aiohttp import web
from PIL import Image

KEY = "bfl-test-key-0123456789"


def png(width: int = 32, height: int = 24, color: tuple[int, int, int] = (200, 30, 60), form: str = "PNG") -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (width, height), color).save(buffer, form)
    return buffer.getvalue()


@dataclass
class Service:
    """One fake server: requests seen, answers planned, what a finished request looks like."""

    requests: list[dict[str, Any]] = field(default_factory=list)
    plan: list[Any] = field(default_factory=list)
    polls: list[dict[str, Any]] = field(default_factory=list)
    picture: bytes = field(default_factory=png)
    sample: str = "/results/sample.png"
    cost: float | None = 4.0
    polling: str | None = None
    chat: str = "A rewritten prompt."
    finish: str = "stop"
    form: str = "b64"
    origin: str = ""

    def app(self) -> web.Application:
        app = web.Application(client_max_size=64 * 1024 * 1024)
        app.router.add_post("/v1/images/generations", self.images)
        app.router.add_post("/v1/images/edits", self.images)
        app.router.add_post("/v1/chat/completions", self.chats)
        app.router.add_get("/v1/get_result", self.result)
        app.router.add_get("/results/{name}", self.download)
        app.router.add_post("/v1/{endpoint}", self.submit)
        app.router.add_get("/seen", self.seen)
        app.router.add_post("/change", self.change)
        return app

    async def seen(self, request: web.Request) -> web.Response:
        return web.json_response(self.requests)

    async def change(self, request: web.Request) -> web.Response:
        """Set fields from JSON, for tests in another process."""
        for name, value in (await request.json()).items():
            setattr(self, name, value)
        return web.json_response({})

    async def note(self, request: web.Request) -> dict[str, Any]:
        entry: dict[str, Any] = {
            "path": request.path,
            "query": request.query_string,
            "headers": dict(request.headers),
        }
        if request.content_type.startswith("multipart/"):
            entry["fields"], entry["files"] = {}, []
            async for part in await request.multipart():
                if part.filename:
                    entry["files"].append([part.name, part.filename, len(await part.read())])
                else:
                    entry["fields"][part.name] = await part.text()
        elif request.can_read_body:
            entry["json"] = await request.json()
        self.requests.append(entry)
        return entry

    async def planned(self) -> web.StreamResponse | None:
        """The next planned answer: (status, JSON or text[, headers]), a callable, or None for "all is well"."""
        if not self.plan:
            return None
        step = self.plan.pop(0)
        if step is None:
            return None
        if callable(step):
            return await step()
        status, body, *headers = step
        text = body if isinstance(body, str) else json.dumps(body)
        return web.Response(status=status, text=text, headers=headers[0] if headers else {})

    async def submit(self, request: web.Request) -> web.StreamResponse:
        await self.note(request)
        planned = await self.planned()
        if planned is not None:
            return planned
        if request.headers.get("x-key") != KEY:
            return web.json_response({"detail": f"Not authenticated: {request.headers.get('x-key')}"}, status=403)
        answer = {"id": "task-1", "polling_url": self.polling or f"{self.origin}/v1/get_result?id=task-1"}
        return web.json_response(answer if self.cost is None else {**answer, "cost": self.cost})

    async def result(self, request: web.Request) -> web.StreamResponse:
        await self.note(request)
        planned = await self.planned()
        if planned is not None:
            return planned
        if self.polls:
            return web.json_response({"id": "task-1", **self.polls.pop(0)})
        sample = self.sample if "://" in self.sample else f"{self.origin}{self.sample}"
        return web.json_response({"id": "task-1", "status": "Ready", "result": {"sample": sample, "seed": 7}})

    async def download(self, request: web.Request) -> web.StreamResponse:
        await self.note(request)
        planned = await self.planned()
        return planned if planned is not None else web.Response(body=self.picture, content_type="image/png")

    async def images(self, request: web.Request) -> web.StreamResponse:
        entry = await self.note(request)
        planned = await self.planned()
        if planned is not None:
            return planned
        count = int((entry.get("json") or entry.get("fields"))["n"])
        if self.form == "url":
            data = [{"url": self.sample if "://" in self.sample else f"{self.origin}{self.sample}"}] * count
        else:
            data = [{"b64_json": base64.b64encode(self.picture).decode(), "revised_prompt": "as drawn"}] * count
        return web.json_response({"created": 1, "data": data, "usage": {"total_tokens": 321}})

    async def chats(self, request: web.Request) -> web.StreamResponse:
        await self.note(request)
        planned = await self.planned()
        if planned is not None:
            return planned
        message = {"role": "assistant", "content": self.chat}
        choices = [{"index": 0, "message": message, "finish_reason": self.finish}]
        return web.json_response({"choices": choices, "usage": {"total_tokens": 99}})


if __name__ == "__main__":
    port = int(sys.argv[1])
    web.run_app(Service(origin=f"http://127.0.0.1:{port}").app(), host="127.0.0.1", port=port, print=None)
