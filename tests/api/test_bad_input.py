"""What callers should not send: every answer is a problem that names the parameter, and the service lives on."""

from __future__ import annotations

import asyncio
import json
import re

import httpx
import pytest


def assert_problem(answer: httpx.Response, status: int | None = None) -> dict:
    assert 400 <= answer.status_code < 500, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    problem = answer.json()
    assert problem["status"] == answer.status_code
    assert problem["type"].startswith("urn:comfy-atelier:problem:")
    assert "Traceback" not in answer.text
    if status is not None:
        assert answer.status_code == status, problem
    return problem


JSON = {"Content-Type": "application/json"}


@pytest.mark.parametrize(
    ("body", "status", "words"),
    [
        (b"", 200, ""),
        (b"{", 400, "not JSON"),
        (b"\xff\xfe{}", 400, "not JSON"),
        (b"[1]", 422, "one JSON object"),
        (b"null", 422, "one JSON object"),
        (b'{"colour": 1}', 422, "did you mean 'color'"),
        (b'{"color": "1"}', 422, "'color' must be a whole number"),
        (b'{"color": true}', 422, "'color' must be a whole number"),
        (b'{"color": 1.5}', 422, "'color' must be a whole number"),
        (b'{"color": 2.0}', 200, ""),
        (b'{"color": -1}', 422, "'color' must be at least 0, not -1"),
        (b'{"color": 99999999}', 422, "'color' must be at most 16777215"),
        (b'{"color": NaN}', 422, "'color' must be"),
        (b'{"color": 1e400}', 422, "'color' must be"),
        (b'{"color": ' + b"9" * 5000 + b"}", 400, "not JSON"),
        (b'{"color": {"__value__": 1}}', 422, "'color' must be a whole number"),
        (b'{"color": null}', 422, "'color' must be a whole number"),
        (b'{"color": "\\ud800"}', 400, "not JSON"),
        (b"[" * 100_000, 400, "not JSON"),
        (b'{"a":' * 900 + b"1" + b"}" * 900, 400, "not JSON"),
        (b'{"color": 1} x', 400, "not JSON"),
    ],
)
async def test_json_bodies(make_service, run_service, body, status, words):
    async with run_service(make_service()) as client:
        answer = await client.post("/generate", content=body, headers=JSON)
        if status == 200:
            assert answer.status_code == 200, answer.text
        else:
            assert words in assert_problem(answer, status)["detail"]
        assert (await client.post("/generate", json={})).status_code == 200


async def test_every_fault_is_told(make_service, run_service):
    async with run_service(make_service()) as client:
        problem = assert_problem(await client.post("/jobs", json={"color": -1, "width": 0, "x": 1}), 422)
    assert [fault["parameter"] for fault in problem["errors"]] == ["width", "color", "x"]
    assert problem["errors"][0]["pointer"] == "/width"


async def test_content_types(make_service, run_service):
    async with run_service(make_service()) as client:
        assert_problem(await client.post("/generate", content=b"{}", headers={"Content-Type": "text/plain"}), 415)
        assert_problem(await client.post("/generate", content=b"x=1"), 415)
        assert_problem(await client.get("/generate"), 405)
        assert_problem(await client.get("/nothing"), 404)


@pytest.mark.parametrize(
    ("content_type", "body"),
    [
        ("multipart/form-data", b"x"),
        ("multipart/form-data; boundary=", b"x"),
        ("multipart/form-data; boundary=b", b"no parts at all"),
        ("multipart/form-data; boundary=b", b"--b\r\nContent-Disposition: form-data\r\n\r\nx\r\n--b--\r\n"),
        ("multipart/form-data; boundary=b", b'--b\r\nContent-Disposition: form-data; name="color"\r\n\r\n1'),
    ],
)
async def test_broken_multipart(make_service, run_service, content_type, body):
    async with run_service(make_service()) as client:
        answer = await client.post("/generate", content=body, headers={"Content-Type": content_type})
        assert answer.status_code < 500
        if answer.status_code != 200:
            assert_problem(answer)


async def test_a_part_twice_and_too_many(make_service, run_service):
    async with run_service(make_service(max_parts=5)) as client:
        twice = [("color", (None, "1")), ("color", (None, "2"))]
        assert "twice" in assert_problem(await client.post("/generate", files=twice), 400)["detail"]
        many = [(f"p{n}", (None, "1")) for n in range(10)]
        assert_problem(await client.post("/generate", files=many), 400)


async def test_form_values_are_typed(make_service, run_service, engine):
    async with run_service(make_service()) as client:
        assert (await client.post("/generate", files={"color": (None, "7")})).status_code == 200
        problem = assert_problem(await client.post("/generate", files={"color": (None, "seven")}), 422)
        assert problem["errors"][0]["parameter"] == "color"
    assert engine.runs[0].nodes["1"].inputs["color"] == 7


async def test_too_large(make_service, run_service):
    async with run_service(make_service(max_body_bytes=2000)) as client:
        big = b'{"color": 1' + b" " * 3000 + b"}"
        assert_problem(await client.post("/generate", content=big, headers=JSON), 413)

        async def trickle():
            for _ in range(10):
                yield b" " * 300

        assert_problem(await client.post("/generate", content=trickle(), headers=JSON), 413)
        assert_problem(await client.post("/uploads", content=b"x" * 3000), 413)


async def test_a_slow_body_is_cut_off(make_service):
    service = make_service(body_seconds=0.01)
    async with service.app.router.lifespan_context(service.app):

        async def slow():
            yield b"{"
            await asyncio.Event().wait()

        transport = httpx.ASGITransport(app=service.app)
        async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as client:
            request = client.build_request("POST", "/generate", content=slow(), headers=JSON)
            assert_problem(await client.send(request), 408)


async def test_a_missing_file_is_422(make_service, run_service, photo_prompt):
    async with run_service(make_service(photo_prompt)) as client:
        for answer in (
            await client.post("/generate", json={}),
            await client.post("/generate", files={"title": (None, "x")}),
            await client.post("/generate", files={"photo": ("", b"")}),
        ):
            problem = assert_problem(answer, 422)
            assert problem["errors"][0]["parameter"] == "photo"
            assert "missing" in problem["detail"]


@pytest.mark.parametrize(
    ("value", "status", "words"),
    [
        ("https://example.invalid/x.png", 422, "does not fetch"),
        ("HTTP://127.0.0.1/", 422, "does not fetch"),
        ("upload-" + "0" * 32, 422, "not there"),
        ("data:image/svg+xml;base64,PHN2Zy8+", 415, "not a picture"),
        ("data:;base64,", 422, "empty"),
        ("data:image/png;base64,!!!!", 422, "base64"),
        ("data:image/png", 422, "comma"),
        ("====", 422, "must be an upload"),
        ("/etc/passwd", 422, "must be an upload"),
        ("part:photo", 422, "must be an upload"),
        ("", 422, "must be an upload"),
        (5, 422, "must be text"),
    ],
)
async def test_file_strings(make_service, run_service, photo_prompt, value, status, words):
    async with run_service(make_service(photo_prompt)) as client:
        problem = assert_problem(await client.post("/generate", json={"photo": value}), status)
        assert words in problem["detail"]
        assert "photo" in problem["detail"]


async def test_a_damaged_picture_leaves_nothing_behind(make_service, run_service, photo_prompt, draw):
    service = make_service(photo_prompt)
    async with run_service(service) as client:
        for data in (draw(8, 8, 1)[:50], b"%PDF-1.7", b"ffconcat version 1.0\nfile x.png", b""):
            assert_problem(await client.post("/generate", files={"photo": ("x.png", data, "image/png")}))
            assert_problem(await client.post("/uploads", files={"file": ("x.png", data, "image/png")}))
    assert not [path for path in service.artifacts.folder.rglob("*") if path.is_file()]
    assert service.store.jobs == {}


@pytest.mark.parametrize(
    "name",
    [
        "../../x.png",
        "/etc/cron.d/x",
        "\\\\h\\s\\x.png",
        "CON.png",
        "a.png:ads",
        ".",
        "-rf.png",
        "x.html",
        "$(touch x).png",
        "a\u202egnp.exe",
        "x" * 300 + ".png",
        "clipspace/x.png",
        "x.png [output]",
        "\ufeffx.png",
        "a b (1).png",
    ],
)
async def test_file_names_are_neutralised(make_service, run_service, photo_prompt, draw, name):
    service = make_service(photo_prompt)
    async with run_service(service) as client:
        answer = await client.post("/uploads", files={"file": (name, draw(2, 2, 0))})
        assert answer.status_code == 201, answer.text
        shown = answer.json()["filename"]
        assert re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9_.-]*\.png", shown)
        job = (await client.post("/generate", json={"photo": answer.json()["id"]})).json()
        assert job["status"] == "succeeded"
    for path in service.data_dir.rglob("*"):
        if path.is_file() and path.parent.parent == service.artifacts.folder:
            assert re.fullmatch(r"[0-9a-f]{64}\.(png|txt)", path.name)


@pytest.mark.parametrize(
    ("header", "status", "start", "end"),
    [
        ("bytes=0-", 206, 0, None),
        ("bytes=0-9", 206, 0, 10),
        ("bytes=-5", 206, -5, None),
        ("bytes=5-2", 200, 0, None),
        ("bytes=0-0,1-1,2-2", 200, 0, None),
        ("lines=0-1", 200, 0, None),
        ("bytes=99999999-", 416, 0, 0),
        ("bytes=-0", 416, 0, 0),
        ("bytes=" + "9" * 5000 + "-", 200, 0, None),
    ],
)
async def test_ranges(make_service, run_service, header, status, start, end):
    async with run_service(make_service()) as client:
        made = await client.post("/generate", json={})
        url = made.headers["content-location"]
        answer = await client.get(url, headers={"Range": header})
        assert answer.status_code == status
        if status != 416:
            assert answer.content == made.content[start:end]
            assert answer.headers["etag"] == made.headers["etag"]
        else:
            assert answer.headers["content-range"] == f"bytes */{len(made.content)}"
        head = await client.head(url)
        assert (head.status_code, head.content) == (200, b"")
        assert head.headers["content-length"] == str(len(made.content))
        assert (await client.get(url, headers={"If-None-Match": made.headers["etag"]})).status_code == 304


async def test_keys_see_their_own(make_service, run_service):
    async with run_service(make_service(api_keys="alpha,beta")) as client:
        alpha, beta = {"Authorization": "Bearer alpha"}, {"X-API-Key": "beta"}
        assert_problem(await client.post("/generate", json={}), 401)
        assert (await client.get("/health/live")).status_code == 200
        made = await client.post("/generate", json={}, headers=alpha)
        assert made.status_code == 200
        job, artifact = made.headers["x-job-id"], made.headers["content-location"]
        for path in (f"/jobs/{job}", f"/jobs/{job}/events", artifact):
            assert (await client.get(path, headers=alpha)).status_code == 200
            assert_problem(await client.get(path, headers=beta), 404)
            assert_problem(await client.get(path), 401)
        assert_problem(await client.post(f"/jobs/{job}/cancel", headers=beta), 404)
        assert (await client.get("/jobs", headers=beta)).json()["jobs"] == []


@pytest.mark.parametrize(
    "header",
    [
        "",
        "Bearer",
        "Bearer ",
        "bearer x",
        "Basic eDp4",
        "Bearer " + "a" * 9000,
        "Bearer é",
        "Bearer x, Bearer y",
        "Bearer alphax",
        "Bearer alph",
        "Bearer  alpha",
        "Bearer ALPHA",
    ],
)
async def test_wrong_keys(make_service, run_service, header):
    async with run_service(make_service(api_keys="alpha")) as client:
        answer = await client.get("/jobs", headers={"Authorization": header.encode()})
        assert_problem(answer, 401)
        assert answer.headers["www-authenticate"] == "Bearer"
        assert_problem(await client.get("/jobs?api_key=alpha"), 401)


async def test_pages_of_other_origins(make_service, run_service):
    async with run_service(make_service(allowed_origins="https://friend.example")) as client:
        for origin, status in (
            ("http://localhost", 200),
            ("https://friend.example", 200),
            ("https://evil.example", 403),
            ("null", 403),
            ("http://localhost.evil.example", 403),
        ):
            answer = await client.post("/generate", json={}, headers={"Origin": origin})
            assert answer.status_code == status, origin
        friendly = await client.post("/generate", json={}, headers={"Origin": "https://friend.example"})
        assert friendly.headers["access-control-allow-origin"] == "https://friend.example"


async def test_a_rebound_host_name(make_service):
    service = make_service()
    async with service.app.router.lifespan_context(service.app):
        for host, status in (("localhost:8000", 200), ("127.0.0.1", 200), ("[::1]:8000", 200), ("evil.example", 421)):
            sent = []

            async def send(message, sent=sent):
                sent.append(message)

            async def receive():
                return {"type": "http.request", "body": b"", "more_body": False}

            scope = {
                "type": "http",
                "method": "GET",
                "path": "/jobs",
                "raw_path": b"/jobs",
                "query_string": b"",
                "headers": [(b"host", host.encode())],
                "server": ("127.0.0.1", 8000),
                "http_version": "1.1",
                "scheme": "http",
                "root_path": "",
            }
            await service.app(scope, receive, send)
            assert sent[0]["status"] == status, host


async def test_hostile_prompts_as_bodies(make_service, run_service, shared):
    folder = shared / "hostile" / "workflows" / "api"
    async with run_service(make_service()) as client:
        for path in sorted(folder.glob("*.json")):
            if path.name.endswith(".expect.json"):
                continue
            body = path.read_bytes()
            for content in (body, b'{"prompt": ' + body + b"}"):
                answer = await client.post("/generate", content=content, headers=JSON)
                assert answer.status_code < 500, path.name
                if answer.status_code >= 400:
                    assert_problem(answer)
        assert (await client.post("/generate", json={})).status_code == 200


async def test_hostile_lists(make_service, run_service, photo_prompt, shared, draw):
    lists = shared / "hostile" / "lists"
    async with run_service(make_service(photo_prompt)) as client:
        for row in json.loads((lists / "base64_images.json").read_text()):
            answer = await client.post("/generate", json={"photo": row["value"]})
            if row["expect"] == "accept":
                assert answer.status_code == 200, row["why"]
            elif row["expect"] == "reject":
                assert_problem(answer)
            else:
                assert answer.status_code < 500
        for row in json.loads((lists / "upload_filenames.json").read_text()):
            name = row["value"].encode("utf-8", "surrogatepass")
            part = b'--b\r\nContent-Disposition: form-data; name="file"; filename="' + name + b'"\r\n\r\n'
            answer = await client.post(
                "/uploads",
                content=part + draw(2, 2, 0) + b"\r\n--b--\r\n",
                headers={"Content-Type": "multipart/form-data; boundary=b"},
            )
            assert answer.status_code < 500, row
            if row["expect"] == "accept":
                assert answer.status_code == 201, row


async def test_the_description_is_whole(make_service, run_service, photo_prompt):
    async with run_service(make_service(photo_prompt)) as client:
        schema = (await client.get("/openapi.json")).json()
        assert (await client.get("/docs")).status_code == 200
        assert (await client.get("/interface")).json()["parameters"][0]["name"] == "photo"
        assert (await client.get("/workflow.json")).status_code == 200
        page = await client.get("/")
        assert 'href="/docs"' in page.text
    content = schema["paths"]["/generate"]["post"]["requestBody"]["content"]
    assert set(content) == {"application/json", "multipart/form-data"}
    form = schema["components"]["schemas"]["InputsForm"]["properties"]
    assert form["photo"]["format"] == "binary"
    assert form["title"]["default"] == "hello"
    for path, operations in schema["paths"].items():
        for operation in operations.values():
            assert operation["responses"], path
            assert operation["operationId"].isidentifier()
    text = json.dumps(schema)
    for reference in re.findall(r'"#/components/schemas/(\w+)"', text):
        assert reference in schema["components"]["schemas"]
