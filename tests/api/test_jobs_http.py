"""Jobs over HTTP: start, list, follow, cancel, the same key again, retries."""

from __future__ import annotations

import asyncio
import json
import re

import pytest

from comfy_atelier.engines import EngineUnavailable, NodeFailed, WorkerLost


async def until(condition, tries: int = 2000):
    for _ in range(tries):
        if await condition() if asyncio.iscoroutinefunction(condition) else condition():
            return
        await asyncio.sleep(0.001)
    raise AssertionError("it did not happen")


async def ended(client, job_id: str) -> dict:
    job: dict = {}

    async def final() -> bool:
        nonlocal job
        job = (await client.get(f"/jobs/{job_id}")).json()
        return job["status"] in {"succeeded", "failed", "cancelled"}

    await until(final)
    return job


class Gate:
    """Holds runs until it is opened."""

    def __init__(self, engine):
        self.open = asyncio.Event()
        self.waiting = 0
        engine.before = self.hold

    async def hold(self, prompt):
        self.waiting += 1
        await self.open.wait()


def events_of(text: str) -> list[tuple[str, str, dict]]:
    found = []
    for block in text.split("\n\n"):
        fields = dict(line.split(": ", 1) for line in block.splitlines() if ": " in line and not line.startswith(":"))
        if "data" in fields:
            found.append((fields["id"], fields["event"], json.loads(fields["data"])))
    return found


async def test_a_job_as_design_writes_it(make_service, run_service):
    async with run_service(make_service()) as client:
        answer = await client.post("/jobs", json={"color": 1, "count": 2})
        assert answer.status_code == 202
        assert answer.headers["location"] == f"/jobs/{answer.json()['id']}"
        job = await ended(client, answer.json()["id"])
    assert list(job) == [
        "id",
        "status",
        "created_at",
        "started_at",
        "finished_at",
        "attempts",
        "queue_position",
        "progress",
        "inputs",
        "outputs",
        "error",
        "links",
    ]
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z", job["created_at"])
    assert job["attempts"] == 1
    assert [sorted(output) for output in job["outputs"]] == [
        ["artifact", "index", "media_type", "name", "sha256", "size", "url"]
    ] * 2


async def test_prefer_respond_async(make_service, run_service, engine):
    async with run_service(make_service()) as client:
        answer = await client.post("/generate", json={}, headers={"Prefer": "respond-async"})
        assert answer.status_code == 202
        assert answer.headers["preference-applied"] == "respond-async"
        assert (await ended(client, answer.json()["id"]))["status"] == "succeeded"


async def test_prefer_wait_answers_202_for_a_durable_job(make_service, run_service, engine):
    gate = Gate(engine)
    service = make_service()
    async with run_service(service) as client:
        answer = await client.post("/generate", json={}, headers={"Prefer": "wait=0"})
        assert answer.status_code == 202
        assert answer.json()["id"] in service.store.jobs
        gate.open.set()
        assert (await ended(client, answer.json()["id"]))["status"] == "succeeded"


async def test_jobs_wait_their_turn(make_service, run_service, engine):
    gate = Gate(engine)
    async with run_service(make_service()) as client:
        ids = [(await client.post("/jobs", json={"color": n})).json()["id"] for n in range(4)]
        listed = (await client.get("/jobs")).json()
        assert [job["id"] for job in listed["jobs"]] == ids[::-1]
        assert [job["queue_position"] for job in listed["jobs"]] == [3, 2, 1, None]
        queued = (await client.get("/jobs?status=queued&limit=2")).json()
        assert [job["id"] for job in queued["jobs"]] == [ids[3], ids[2]]
        following = (await client.get(queued["next"])).json()
        assert [job["id"] for job in following["jobs"]] == [ids[1]]
        assert following["next"] is None
        gate.open.set()
        for job_id in ids:
            assert (await ended(client, job_id))["status"] == "succeeded"
    assert [prompt.nodes["1"].inputs["color"] for prompt in engine.runs] == [0, 1, 2, 3]


async def test_engine_concurrency_is_used(make_service, run_service, engine):
    engine.concurrency = 3
    gate = Gate(engine)
    async with run_service(make_service()) as client:
        ids = [(await client.post("/jobs", json={})).json()["id"] for _ in range(5)]
        await until(lambda: gate.waiting == 3)
        gate.open.set()
        for job_id in ids:
            await ended(client, job_id)


async def test_the_queue_is_bounded(make_service, run_service, engine):
    gate = Gate(engine)
    async with run_service(make_service(max_queue=1)) as client:
        for status in (202, 202, 429):
            answer = await client.post("/jobs", json={})
            assert answer.status_code == status, answer.text
        assert answer.json()["type"].endswith("queue-full")
        assert "retry-after" in answer.headers
        gate.open.set()


async def test_cancel_queued_and_running(make_service, run_service, engine):
    gate = Gate(engine)
    async with run_service(make_service()) as client:
        running, queued, last = [(await client.post("/jobs", json={})).json()["id"] for _ in range(3)]
        await until(lambda: gate.waiting == 1)
        answer = await client.post(f"/jobs/{queued}/cancel")
        assert (answer.status_code, answer.json()["status"]) == (200, "cancelled")
        answer = await client.post(f"/jobs/{running}/cancel")
        assert (answer.status_code, answer.json()["status"]) == (200, "cancelled")
        assert engine.cancelled == 1
        assert (await client.post(f"/jobs/{running}/cancel")).status_code == 200  # again is harmless
        gate.open.set()
        assert (await ended(client, last))["status"] == "succeeded"
        assert (await client.post(f"/jobs/{last}/cancel")).status_code == 409
    assert len(engine.runs) == 2


async def test_the_same_key_gives_the_same_job(make_service, run_service, engine):
    headers = {"Idempotency-Key": "abc"}
    async with run_service(make_service()) as client:
        answers = await asyncio.gather(*(client.post("/jobs", json={"color": 3}, headers=headers) for _ in range(50)))
        assert {answer.json()["id"] for answer in answers} == {answers[0].json()["id"]}
        await ended(client, answers[0].json()["id"])
        again = await client.post("/generate", json={"color": 3}, headers=headers)
        assert again.status_code == 200
        other = await client.post("/jobs", json={"color": 4}, headers=headers)
        assert other.status_code == 409
        assert other.json()["type"].endswith("idempotency-conflict")
        bad = await client.post("/jobs", json={}, headers={"Idempotency-Key": "x" * 300})
        assert bad.status_code == 400
    assert len(engine.runs) == 1


async def test_the_same_key_after_a_restart(make_service, run_service, engine, tmp_path):
    from comfy_atelier.api.store_sql import SQLStore

    ids = []
    for _ in range(2):
        service = make_service(store=SQLStore(path=tmp_path / "jobs.sqlite"))
        async with run_service(service) as client:
            answer = await client.post("/jobs", json={"color": 3}, headers={"Idempotency-Key": "k"})
            ids.append(answer.json()["id"])
            await ended(client, ids[-1])
    assert ids[0] == ids[1]
    assert len(engine.runs) == 1


async def test_a_lost_engine_is_started_again_and_the_job_with_it(make_service, run_service, engine, monkeypatch):
    monkeypatch.setattr("comfy_atelier.api.workers.BACK_OFF_SECONDS", 0.001)
    monkeypatch.setattr("comfy_atelier.api.jobs.RETRY_DELAY_SECONDS", 0.001)
    losses = iter([WorkerLost("gone"), EngineUnavailable("not there")])

    async def before(prompt):
        for loss in losses:
            engine.alive = False
            raise loss

    engine.before = before
    async with run_service(make_service()) as client:
        answer = await client.post("/generate", json={"color": 9})
        assert answer.status_code == 200
        job = (await client.get(f"/jobs/{answer.headers['x-job-id']}")).json()
        assert job["attempts"] == 3
    assert engine.starts == 3


async def test_attempts_are_bounded(make_service, run_service, engine, monkeypatch):
    monkeypatch.setattr("comfy_atelier.api.workers.BACK_OFF_SECONDS", 0.001)
    monkeypatch.setattr("comfy_atelier.api.jobs.RETRY_DELAY_SECONDS", 0.001)

    async def before(prompt):
        raise WorkerLost("the engine's process died")

    engine.before = before
    async with run_service(make_service(max_attempts=2)) as client:
        answer = await client.post("/generate", json={})
        assert answer.status_code == 503
        assert answer.json()["detail"] == "the engine's process died"
    assert len(engine.runs) == 2


async def test_a_failed_node_is_named(make_service, run_service, engine):
    async def before(prompt):
        raise NodeFailed("boom", node_id="1", class_type="EmptyImage", traceback="File /secret/path.py")

    engine.before = before
    async with run_service(make_service()) as client:
        answer = await client.post("/generate", json={})
        assert answer.status_code == 500
        assert answer.headers["content-type"] == "application/problem+json"
        problem = answer.json()
        assert (problem["node_id"], problem["class_type"], problem["detail"]) == ("1", "EmptyImage", "boom")
        job = (await client.get(f"/jobs/{problem['job']}")).json()
        assert job["error"]["type"] == "node-failed"
        assert "secret" not in answer.text + json.dumps(job)


async def test_ready_only_while_an_engine_is(make_service, run_service, engine):
    engine.start_error = EngineUnavailable("no ComfyUI at that address", remedy="start it")
    async with run_service(make_service()) as client:
        await until(lambda: engine.starts > 0)
        assert (await client.get("/health/live")).status_code == 200
        answer = await client.get("/health/ready")
        assert answer.status_code == 503
        assert "no ComfyUI" in answer.json()["workers"][0]["detail"]
        assert (await client.post("/jobs", json={})).status_code == 202  # it waits


async def test_events_from_first_to_last(make_service, run_service, engine):
    engine.steps, engine.previews = 5, 2
    gate = Gate(engine)
    async with run_service(make_service()) as client:
        job_id = (await client.post("/jobs", json={})).json()["id"]
        following = asyncio.create_task(client.get(f"/jobs/{job_id}/events"))
        await until(lambda: gate.waiting == 1)
        gate.open.set()
        answer = await following
        assert answer.headers["content-type"].startswith("text/event-stream")
        events = events_of(answer.text)
        again = events_of((await client.get(f"/jobs/{job_id}/events")).text)
        last = await client.get(f"/jobs/{job_id}/events", headers={"Last-Event-ID": events[-1][0]})
    assert [data["status"] for _, kind, data in events if kind == "status"] == ["queued", "running", "succeeded"]
    assert [data["value"] for _, kind, data in events if kind == "progress"] == [0, 1, 2, 3, 4, 5]
    assert [kind for _, kind, _ in events].count("preview") >= 1
    assert len({event_id for event_id, _, _ in events}) == len(events)
    assert [event for event in events if event[1] != "preview"] == again  # a preview is for watching only
    assert last.status_code == 204


async def test_events_resume_without_gap_or_repeat(make_service, run_service, engine):
    engine.steps = 30
    async with run_service(make_service()) as client:
        job_id = (await client.post("/jobs", json={})).json()["id"]
        whole = events_of((await client.get(f"/jobs/{job_id}/events")).text)
        for place in range(len(whole)):
            answer = await client.get(f"/jobs/{job_id}/events", headers={"Last-Event-ID": whole[place][0]})
            assert events_of(answer.text) == whole[place + 1 :]


async def test_events_go_on_after_a_restart(make_service, run_service, engine, tmp_path):
    from comfy_atelier.api.store_sql import SQLStore

    gate = Gate(engine)
    async with run_service(make_service(store=SQLStore(path=tmp_path / "jobs.sqlite"))) as client:
        job_id = (await client.post("/jobs", json={})).json()["id"]
        await until(lambda: gate.waiting == 1)
    first = [("0-1", "queued"), ("1-1", "running")]  # what a reader has seen
    gate.open.set()
    async with run_service(make_service(store=SQLStore(path=tmp_path / "jobs.sqlite"))) as client:
        answer = await client.get(f"/jobs/{job_id}/events", headers={"Last-Event-ID": first[-1][0]})
        events = events_of(answer.text)
        states = [(event_id, data["status"]) for event_id, kind, data in events if kind == "status"]
        assert states == [("1-requeued", "queued"), ("2-1", "running"), ("2-end", "succeeded")]
        assert (await client.get(f"/jobs/{job_id}")).json()["attempts"] == 1  # a stop of the service is no attempt


@pytest.mark.parametrize("header", ["-1", "abc", "1e9", "1-", "9" * 40 + "-1", "1-1\u00b2"])
async def test_strange_last_event_ids(make_service, run_service, header):
    async with run_service(make_service()) as client:
        job_id = (await client.post("/jobs", json={})).json()["id"]
        await ended(client, job_id)
        answer = await client.get(f"/jobs/{job_id}/events", headers={"Last-Event-ID": header.encode()})
        assert answer.status_code == 400


@pytest.mark.parametrize("job_id", ["x", "-1", "%2e%2e%2f", "' OR ''='", "a" * 5000, "nan"])
async def test_strange_job_ids(make_service, run_service, job_id):
    async with run_service(make_service()) as client:
        for method, path in (
            ("GET", f"/jobs/{job_id}"),
            ("GET", f"/jobs/{job_id}/events"),
            ("POST", f"/jobs/{job_id}/cancel"),
            ("GET", f"/artifacts/{job_id}"),
        ):
            answer = await client.request(method, path)
            assert answer.status_code == 404
            assert answer.headers["content-type"] == "application/problem+json"


async def test_a_full_store_takes_no_job(make_service, run_service, engine):
    from comfy_atelier.api.errors import StoreFull
    from comfy_atelier.api.store_memory import MemoryStore

    class Full(MemoryStore):
        full = True

        async def insert(self, job):
            if self.full:
                raise StoreFull("no space is left for the job store")
            return await super().insert(job)

    store = Full()
    async with run_service(make_service(store=store)) as client:
        for path in ("/jobs", "/generate"):
            answer = await client.post(path, json={})
            assert answer.status_code == 507
        assert store.jobs == {}
        store.full = False
        assert (await client.post("/generate", json={})).status_code == 200


async def test_a_caller_who_leaves_takes_the_job_along(make_service, run_service, engine):
    gate = Gate(engine)
    service = make_service()
    async with run_service(service):
        sent = []
        messages = asyncio.Queue()
        await messages.put({"type": "http.request", "body": b"{}", "more_body": False})
        scope = {
            "type": "http",
            "method": "POST",
            "path": "/generate",
            "raw_path": b"/generate",
            "query_string": b"",
            "headers": [(b"content-type", b"application/json"), (b"host", b"localhost")],
            "server": ("127.0.0.1", 80),
            "http_version": "1.1",
            "scheme": "http",
            "root_path": "",
        }

        async def send(message):
            sent.append(message)

        call = asyncio.create_task(service.app(scope, messages.get, send))
        await until(lambda: gate.waiting == 1)
        await messages.put({"type": "http.disconnect"})
        await call
        assert engine.cancelled == 1
