"""Both stores keep the same rules; the SQL one also its promises about disks."""

from __future__ import annotations

import asyncio
import contextlib
import os
import sqlite3
import subprocess
import sys
from dataclasses import replace

import pytest

from comfy_atelier.api.errors import IdempotencyConflict, StoreError, StoreFull
from comfy_atelier.api.jobs import (
    Job,
    JobOutput,
    JobProgress,
    Status,
    StoredFile,
    after_loss,
    finished,
    leased,
    new_id,
    requeued,
)
from comfy_atelier.api.store import Upload
from comfy_atelier.api.store_memory import MemoryStore
from comfy_atelier.api.store_sql import SQLStore

FILE = StoredFile(sha256="ab" * 32, size=3, media_type="image/png", filename="x.png")


def job(moment: int = 1, **more) -> Job:
    return Job(id=new_id(moment), created_at=moment, values={"n": moment}, **more)


@pytest.fixture(params=["memory", "sqlite", "postgres"])
async def store(request, tmp_path):
    if request.param == "memory":
        made = MemoryStore()
    elif request.param == "sqlite":
        made = SQLStore(path=tmp_path / "jobs.sqlite")
    else:
        url = os.environ.get("ATELIER_TEST_POSTGRES")
        if not url:
            pytest.skip("no PostgreSQL: set ATELIER_TEST_POSTGRES to an empty database's URL")
        import sqlalchemy as sa

        engine = sa.create_engine(url.replace("postgresql:", "postgresql+psycopg:"))
        with engine.begin() as connection:
            connection.exec_driver_sql("DROP TABLE IF EXISTS jobs, uploads")
        engine.dispose()
        made = SQLStore(url)
    await made.open()
    yield made
    await made.close()


async def test_a_job_comes_back_as_it_went(store):
    given = job(5, owner="me", files={"image": FILE}, idempotency_key="k", request_hash="h")
    inserted = await store.insert(given)
    assert not inserted.existing
    assert await store.get(given.id) == replace(given, position=inserted.job.position)
    assert await store.get("no such id") is None


async def test_claims_are_in_order_and_once(store):
    jobs = [(await store.insert(job(n))).job for n in range(1, 6)]
    claimed = await asyncio.gather(*(store.claim(owner="w", until=100, moment=10) for _ in range(7)))
    assert sorted(j.id for j in claimed if j is not None) == sorted(j.id for j in jobs)
    assert claimed[0] == leased(jobs[0], owner="w", until=100, moment=10)
    assert claimed.count(None) == 2


async def test_not_before_its_time(store):
    kept = (await store.insert(requeued(job(), moment=1_000_000, delay=1.0))).job
    assert await store.claim(owner="w", until=9, moment=1_500_000) is None
    claimed = await store.claim(owner="w", until=9, moment=2_000_000)
    assert claimed is not None
    assert claimed.id == kept.id


async def test_only_the_holder_of_the_lease_writes(store):
    await store.insert(job())
    first = await store.claim(owner="a", until=10, moment=1)
    back = after_loss(first, max_attempts=3, moment=20, error=None)
    assert await store.settle(back, lease_number=1)
    second = await store.claim(owner="b", until=30, moment=21)
    assert (second.lease_number, second.attempts) == (2, 2)
    late = finished(first, Status.SUCCEEDED, moment=22)
    assert not await store.settle(late, lease_number=1)
    output = JobOutput(name="image", index=0, file=FILE)
    done = finished(second, Status.SUCCEEDED, moment=23, outputs=(output,))
    assert await store.settle(done, lease_number=2)
    assert not await store.settle(done, lease_number=2)  # final is final
    assert (await store.get(first.id)).outputs == (output,)
    assert await store.claim(owner="c", until=99, moment=50) is None


async def test_leases_are_renewed_and_lapse(store):
    await store.insert(job())
    held = await store.claim(owner="a", until=10, moment=1)
    progress = JobProgress(value=1, maximum=4, node="3", title="KSampler")
    renewal = await store.renew({held.id: 1, "gone": 1}, until=50, progress={held.id: progress})
    assert renewal.held == {held.id}
    assert renewal.cancel_requested == frozenset()
    assert (await store.get(held.id)).progress == progress
    assert list(await store.lapsed(moment=49)) == []
    assert [j.id for j in await store.lapsed(moment=51)] == [held.id]
    assert [j.id for j in await store.lapsed(moment=49, dead_owners=["a"])] == [held.id]
    assert await store.lease_owners() == {"a"}
    await store.cancel(held.id, owner="", moment=12)
    assert (await store.renew({held.id: 1}, until=60, progress={})).cancel_requested == {held.id}


async def test_a_request_to_cancel_outlives_the_worker_s_write(store):
    await store.insert(job())
    held = await store.claim(owner="a", until=10, moment=1)
    await store.cancel(held.id, owner="", moment=2)
    assert await store.settle(requeued(held, moment=3), lease_number=1)
    assert (await store.get(held.id)).cancel_requested


async def test_idempotency(store):
    given = job(owner="me", idempotency_key="k", request_hash="h")
    await store.insert(given)
    again = await store.insert(replace(given, id=new_id(2)))
    assert again.existing
    assert again.job.id == given.id
    with pytest.raises(IdempotencyConflict):
        await store.insert(replace(given, id=new_id(3), request_hash="other"))
    other = await store.insert(replace(given, id=new_id(4), owner="you"))
    assert not other.existing


async def test_cancel_and_list_are_the_owner_s(store):
    mine = (await store.insert(job(1, owner="me"))).job
    yours = (await store.insert(job(2, owner="you"))).job
    assert await store.cancel(mine.id, owner="you", moment=3) is None
    assert (await store.cancel(mine.id, owner="me", moment=3)).status is Status.CANCELLED
    assert [j.id for j in await store.list(owner="you")] == [yours.id]
    assert await store.list(owner="you", before=yours.position) == []
    assert await store.list(owner="me", status=Status.QUEUED) == []
    assert await store.queue_position(yours) == 1
    counts = await store.counts()
    assert (counts[Status.CANCELLED], counts[Status.QUEUED]) == (1, 1)


async def test_uploads_and_retention(store):
    upload = Upload(id="upload-1", owner="me", kind="image", file=FILE, created_at=5)
    await store.add_upload(upload)
    assert await store.get_upload("upload-1", owner="me") == upload
    assert await store.get_upload("upload-1", owner="you") is None
    queued = (await store.insert(job(1, files={"image": replace(FILE, sha256="cd" * 32)}))).job
    await store.insert(finished(job(2), Status.FAILED, moment=2))
    assert await store.digests() == {"ab" * 32, "cd" * 32}
    assert await store.forget(before=4) == 1
    assert await store.forget(before=10) == 1
    assert await store.digests() == {"cd" * 32}
    assert (await store.get(queued.id)) is not None


async def test_everything_is_there_after_opening_again(tmp_path):
    path = tmp_path / "jobs.sqlite"
    for number in range(3):
        store = SQLStore(path=path)
        await store.open()
        await asyncio.gather(*(store.insert(job(n)) for n in range(1, 11)))
        assert len(await store.list(owner="", limit=100)) == 10 * (number + 1)
        await store.close()
    with sqlite3.connect(path) as connection:
        assert connection.execute("PRAGMA journal_mode").fetchone() == ("wal",)


async def test_a_path_that_cannot_be_is_one_clear_error(tmp_path):
    (tmp_path / "file").write_text("")
    store = SQLStore(path=tmp_path / "file" / "jobs.sqlite")
    with pytest.raises(StoreError, match="ATELIER_DATA_DIR"):
        await store.open()


@pytest.fixture
def small_disk(tmp_path):
    if sys.platform != "linux" or os.geteuid() != 0:
        pytest.skip("needs root on Linux to mount a small tmpfs")
    place = tmp_path / "disk"
    place.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(place)], capture_output=True)
    if mounted.returncode:
        pytest.skip("a tmpfs cannot be mounted here")
    yield place
    subprocess.run(["umount", "-l", str(place)], check=False)


async def test_a_full_disk_refuses_and_recovers(small_disk):
    store = SQLStore(path=small_disk / "jobs.sqlite")
    await store.open()
    filler = small_disk / "filler"
    kept = []

    async def fill() -> None:
        for n in range(1, 2000):
            kept.append((await store.insert(replace(job(n), values={"text": "y" * 5000}))).job.id)

    for n in range(1, 6):
        kept.append((await store.insert(job(n))).job.id)
    with filler.open("wb", buffering=0) as file, contextlib.suppress(OSError):
        while True:
            file.write(b"x" * 4096)
    with pytest.raises(StoreFull):
        await fill()
    assert len(await store.list(owner="", limit=5000)) == len(kept)  # no row without an answer, no answer without a row
    filler.unlink()
    assert not (await store.insert(job(9999))).existing
    await store.close()
    with sqlite3.connect(small_disk / "jobs.sqlite") as connection:
        assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
