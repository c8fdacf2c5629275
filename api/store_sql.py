"""Jobs in a database: SQLite (WAL, synchronous=FULL) by default, PostgreSQL by URL; SQLAlchemy Core.

All writes go through one thread, which takes whatever waits and commits it as one transaction: sixteen requests at once
cost one flush of the disk, not sixteen.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import json
import queue
import threading
from collections.abc import Callable, Collection, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

import sqlalchemy as sa

from .errors import IdempotencyConflict, StoreError, StoreFull
from .jobs import Job, JobProgress, Status, StoredFile, leased
from .store import Inserted, Renewal, Upload
from .tables import FINAL, INSERT, NEXT, SETTLE, UPDATE, dump, job_of, job_row, jobs, metadata, state_row, uploads

T = TypeVar("T")

BATCH_LIMIT = 256  # writes in one transaction at most
BUSY_SECONDS = 10  # how long a write waits for another process's transaction (SQLite)

Write = Callable[[sa.Connection], Any]


def store_error(error: Exception) -> StoreError:
    """What a database's error means to us: `StoreFull` where space ran out, else `StoreError`."""
    cause = getattr(error, "orig", None) or error
    text = str(cause).strip().splitlines()[0] if str(cause).strip() else type(cause).__name__
    full = (
        "disk is full" in text
        or getattr(cause, "sqlstate", None) == "53100"  # PostgreSQL: disk_full
        or getattr(cause, "errno", None) in {errno.ENOSPC, getattr(errno, "EDQUOT", errno.ENOSPC)}
    )
    if full:
        return StoreFull("no space is left for the job store", remedy="free some space where ATELIER_DATA_DIR lies")
    return StoreError(f"the job store failed: {text}")


class SQLStore:
    """`JobStore` in a SQL database.

    Args:
        url: an SQLAlchemy URL, or None for the file `path`.
        path: the SQLite file; its folder is made.
    """

    def __init__(self, url: str | None = None, *, path: Path | None = None) -> None:
        if url is None and path is None:
            raise ValueError("either a URL or a path")
        self._path = path
        self._url = sa.make_url(url) if url is not None else sa.URL.create("sqlite", database=str(path))
        if self._url.drivername == "postgresql":
            self._url = self._url.set(drivername="postgresql+psycopg")
        self._engine: sa.Engine | None = None
        self._writes: queue.SimpleQueue[tuple[Write, asyncio.Future[Any]] | None] = queue.SimpleQueue()
        self._thread: threading.Thread | None = None
        self._readers: ThreadPoolExecutor | None = None
        self._loop: asyncio.AbstractEventLoop | None = None

    async def open(self) -> None:
        """Connect, create the tables, start the writer."""
        self._loop = asyncio.get_running_loop()
        try:
            self._engine = await asyncio.to_thread(self._connect)
        except (sa.exc.SQLAlchemyError, OSError, ImportError) as error:
            raise StoreError(
                f"the job store {self._url.render_as_string()} cannot be opened: {store_error(error).message}",
                remedy="check ATELIER_DATA_DIR and ATELIER_DATABASE_URL",
            ) from error
        self._readers = ThreadPoolExecutor(2, thread_name_prefix="atelier-read")
        self._thread = threading.Thread(target=self._write_loop, name="atelier-write", daemon=True)
        self._thread.start()

    async def close(self) -> None:
        """Write what was handed in, then disconnect."""
        if self._thread is not None:
            self._writes.put(None)
            await asyncio.to_thread(self._thread.join)
            self._thread = None
        if self._readers is not None:
            self._readers.shutdown(wait=True)
            self._readers = None
        if self._engine is not None:
            await asyncio.to_thread(self._engine.dispose)
            self._engine = None

    def _connect(self) -> sa.Engine:
        if self._path is not None:
            self._path.parent.mkdir(parents=True, exist_ok=True)
        engine = sa.create_engine(self._url)
        if engine.dialect.name == "sqlite":
            sa.event.listen(engine, "connect", _prepare_sqlite)
            sa.event.listen(engine, "begin", _begin_sqlite)
        with engine.execution_options(atelier_write=True).begin() as connection:
            metadata.create_all(connection)
        return engine

    # --- the writer -------------------------------------------------------------------------------------------------

    def _write_loop(self) -> None:
        assert self._engine is not None
        ended = False
        connection: sa.Connection | None = None
        while not ended:
            batch = [self._writes.get()]
            while len(batch) < BATCH_LIMIT:
                try:
                    batch.append(self._writes.get_nowait())
                except queue.Empty:
                    break
            ended = None in batch
            asked = [item for item in batch if item is not None]
            if not asked:
                continue
            try:
                if connection is None:
                    connection = self._engine.connect().execution_options(atelier_write=True)
                results = self._commit(connection, [write for write, _ in asked])
            except (
                Exception
            ) as error:  # a broken connection: everyone in the batch hears of it, the next batch reconnects
                results = [_Failure(store_error(error)) for _ in asked]
                with contextlib.suppress(Exception):
                    if connection is not None:
                        connection.close()
                connection = None
            self._deliver([(future, result) for (_, future), result in zip(asked, results, strict=True)])
        if connection is not None:
            connection.close()

    def _commit(self, connection: sa.Connection, writes: Sequence[Write]) -> list[Any]:
        """Run the writes in one transaction; where that fails, each in its own, so that one fault harms no
        neighbour."""
        try:
            with connection.begin():
                return [write(connection) for write in writes]
        except sa.exc.IntegrityError:
            pass
        except (sa.exc.SQLAlchemyError, OSError) as error:
            if len(writes) == 1:
                return [_Failure(store_error(error))]
        results: list[Any] = []
        for write in writes:
            try:
                results.append(self._commit_one(connection, write))
            except (sa.exc.SQLAlchemyError, OSError) as error:
                results.append(_Failure(store_error(error)))
        return results

    @staticmethod
    def _commit_one(connection: sa.Connection, write: Write) -> Any:
        try:
            with connection.begin():
                return write(connection)
        except (
            sa.exc.IntegrityError
        ):  # another service inserted the same idempotency key just now: this time it is found
            with connection.begin():
                return write(connection)

    def _deliver(self, results: list[tuple[asyncio.Future[Any], Any]]) -> None:
        def settle() -> None:
            for future, result in results:
                if future.done():
                    continue
                if isinstance(result, _Failure):
                    future.set_exception(result.error)
                else:
                    future.set_result(result)

        assert self._loop is not None
        with contextlib.suppress(RuntimeError):  # the loop is closed: nobody waits any more
            self._loop.call_soon_threadsafe(settle)

    async def _write(self, write: Callable[[sa.Connection], T | _Failure]) -> T:
        if self._thread is None:
            raise StoreError("the job store is closed")
        future: asyncio.Future[T] = asyncio.get_running_loop().create_future()
        self._writes.put((write, future))
        return await future

    async def _read(self, read: Callable[[sa.Connection], T]) -> T:
        engine, readers = self._engine, self._readers
        if engine is None or readers is None:
            raise StoreError("the job store is closed")

        def work() -> T:
            try:
                with engine.connect() as connection:
                    return read(connection)
            except (sa.exc.SQLAlchemyError, OSError) as error:
                raise store_error(error) from error

        return await asyncio.get_running_loop().run_in_executor(readers, work)

    # --- jobs -------------------------------------------------------------------------------------------------------

    async def insert(self, job: Job) -> Inserted:
        """See `JobStore.insert`."""
        row = job_row(job)

        def write(connection: sa.Connection) -> Inserted | _Failure:
            if job.idempotency_key is not None:
                found = connection.execute(
                    sa.select(jobs).where(jobs.c.owner == job.owner, jobs.c.idempotency_key == job.idempotency_key)
                ).mappings()
                for before in found:
                    if before["request_hash"] != job.request_hash:
                        return _Failure(key_conflict())
                    return Inserted(job=job_of(before), existing=True)
            result = connection.execute(INSERT, row)
            key = result.inserted_primary_key
            assert key is not None
            return Inserted(job=replace(job, position=key[0]), existing=False)

        return await self._write(write)

    async def claim(self, *, owner: str, until: int, moment: int) -> Job | None:
        """See `JobStore.claim`."""

        def write(connection: sa.Connection) -> Job | None:
            row = connection.execute(NEXT, {"moment": moment}).mappings().first()
            if row is None:
                return None
            job = leased(job_of(row), owner=owner, until=until, moment=moment)
            connection.execute(UPDATE, {"b_position": job.position, **state_row(job)})
            return job

        return await self._write(write)

    async def settle(self, job: Job, *, lease_number: int) -> bool:
        """See `JobStore.settle`."""
        row = {"b_id": job.id, "b_lease_number": lease_number, **state_row(job)}
        del row["cancel_requested"]  # a caller may have asked meanwhile

        def write(connection: sa.Connection) -> bool:
            return connection.execute(SETTLE, row).rowcount == 1

        return await self._write(write)

    async def renew(self, leases: Mapping[str, int], *, until: int, progress: Mapping[str, JobProgress]) -> Renewal:
        """See `JobStore.renew`."""

        def write(connection: sa.Connection) -> Renewal:
            held, cancel = set(), set()
            for job_id, number in leases.items():
                values: dict[str, Any] = {"lease_until": until}
                if job_id in progress:
                    values["progress"] = dump(progress[job_id].to_json())
                row = connection.execute(
                    sa.update(jobs)
                    .where(jobs.c.id == job_id, jobs.c.status == "running", jobs.c.lease_number == number)
                    .values(**values)
                    .returning(jobs.c.cancel_requested)
                ).first()
                if row is not None:
                    held.add(job_id)
                    if row[0]:
                        cancel.add(job_id)
            return Renewal(held=frozenset(held), cancel_requested=frozenset(cancel))

        return await self._write(write)

    async def cancel(self, job_id: str, *, owner: str | None, moment: int) -> Job | None:
        """See `JobStore.cancel`."""
        which = [jobs.c.id == job_id] if owner is None else [jobs.c.id == job_id, jobs.c.owner == owner]

        def write(connection: sa.Connection) -> Job | None:
            connection.execute(
                sa.update(jobs)
                .where(*which, jobs.c.status == "queued")
                .values(status="cancelled", finished_at=moment, cancel_requested=True)
            )
            connection.execute(sa.update(jobs).where(*which, jobs.c.status == "running").values(cancel_requested=True))
            row = connection.execute(sa.select(jobs).where(*which)).mappings().first()
            return job_of(row) if row is not None else None

        return await self._write(write)

    async def lapsed(self, *, moment: int, dead_owners: Collection[str] = ()) -> Sequence[Job]:
        """See `JobStore.lapsed`."""
        ended = sa.or_(jobs.c.lease_until < moment, jobs.c.lease_owner.in_(list(dead_owners)))
        return await self._read(
            lambda connection: [
                job_of(row)
                for row in connection.execute(
                    sa.select(jobs).where(jobs.c.status == "running", ended).order_by(jobs.c.position)
                ).mappings()
            ]
        )

    async def lease_owners(self) -> frozenset[str]:
        """See `JobStore.lease_owners`."""
        return await self._read(
            lambda connection: frozenset(
                connection.execute(sa.select(jobs.c.lease_owner).where(jobs.c.status == "running").distinct()).scalars()
            )
        )

    async def get(self, job_id: str) -> Job | None:
        """See `JobStore.get`."""

        def read(connection: sa.Connection) -> Job | None:
            row = connection.execute(sa.select(jobs).where(jobs.c.id == job_id)).mappings().first()
            return job_of(row) if row is not None else None

        return await self._read(read)

    async def list(
        self, *, owner: str, status: Status | None = None, before: int | None = None, limit: int = 50
    ) -> Sequence[Job]:
        """See `JobStore.list`."""
        query = sa.select(jobs).where(jobs.c.owner == owner).order_by(jobs.c.position.desc()).limit(limit)
        if status is not None:
            query = query.where(jobs.c.status == status.value)
        if before is not None:
            query = query.where(jobs.c.position < before)
        return await self._read(lambda connection: [job_of(row) for row in connection.execute(query).mappings()])

    async def queue_position(self, job: Job) -> int:
        """See `JobStore.queue_position`."""
        query = sa.select(sa.func.count()).where(jobs.c.status == "queued", jobs.c.position < job.position)
        return await self._read(lambda connection: int(connection.execute(query).scalar_one()) + 1)

    async def counts(self) -> Mapping[Status, int]:
        """See `JobStore.counts`."""
        query = sa.select(jobs.c.status, sa.func.count()).group_by(jobs.c.status)
        return await self._read(
            lambda connection: {Status(status): count for status, count in connection.execute(query)}
        )

    # --- uploads and retention --------------------------------------------------------------------------------------

    async def add_upload(self, upload: Upload) -> None:
        """See `JobStore.add_upload`."""
        row = {
            "id": upload.id,
            "owner": upload.owner,
            "kind": upload.kind,
            "file": dump(upload.file.to_json()),
            "created_at": upload.created_at,
        }
        await self._write(lambda connection: connection.execute(sa.insert(uploads), row).rowcount)

    async def get_upload(self, upload_id: str, *, owner: str) -> Upload | None:
        """See `JobStore.get_upload`."""
        query = sa.select(uploads).where(uploads.c.id == upload_id, uploads.c.owner == owner)

        def read(connection: sa.Connection) -> Upload | None:
            row = connection.execute(query).mappings().first()
            if row is None:
                return None
            return Upload(
                id=row["id"],
                owner=row["owner"],
                kind=row["kind"],
                file=StoredFile.from_json(json.loads(row["file"])),
                created_at=row["created_at"],
            )

        return await self._read(read)

    async def forget(self, *, before: int) -> int:
        """See `JobStore.forget`."""

        def write(connection: sa.Connection) -> int:
            gone = connection.execute(
                sa.delete(jobs).where(jobs.c.status.in_(FINAL), jobs.c.finished_at < before)
            ).rowcount
            return gone + connection.execute(sa.delete(uploads).where(uploads.c.created_at < before)).rowcount

        return await self._write(write)

    async def digests(self) -> frozenset[str]:
        """See `JobStore.digests`."""

        def read(connection: sa.Connection) -> frozenset[str]:
            found: set[str] = set()
            for inputs, outputs in connection.execute(sa.select(jobs.c.inputs, jobs.c.outputs)):
                found.update(file["sha256"] for file in json.loads(inputs)["files"].values())
                found.update(output["file"]["sha256"] for output in json.loads(outputs))
            for file in connection.execute(sa.select(uploads.c.file)).scalars():
                found.add(json.loads(file)["sha256"])
            return frozenset(found)

        return await self._read(read)


class _Failure:
    """A write's own refusal: its caller gets the error, the rest of the transaction stands."""

    def __init__(self, error: Exception) -> None:
        self.error = error


def key_conflict() -> IdempotencyConflict:
    """The error for an idempotency key that comes with other inputs."""
    return IdempotencyConflict(
        "this Idempotency-Key was used before with other inputs", remedy="send a new key with new inputs"
    )


def _prepare_sqlite(connection: Any, _record: Any) -> None:
    connection.isolation_level = None  # we say BEGIN ourselves (see _begin_sqlite)
    cursor = connection.cursor()
    cursor.execute(f"PRAGMA busy_timeout={BUSY_SECONDS * 1000}")
    cursor.execute("PRAGMA journal_mode=WAL")
    cursor.execute("PRAGMA synchronous=FULL")  # a commit is on the disk before anyone hears of it
    cursor.close()


def _begin_sqlite(connection: sa.Connection) -> None:
    # IMMEDIATE takes the write lock at once; a transaction that began as a reader could fail at its first write instead
    write = connection.get_execution_options().get("atelier_write", False)
    connection.exec_driver_sql("BEGIN IMMEDIATE" if write else "BEGIN")
