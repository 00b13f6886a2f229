"""The SQLite file: one writer task that alone owns the write connection, and read connections beside it.

Everything waiting for the writer goes into one IMMEDIATE transaction and each job into a savepoint of its own, so that
a failing job takes nothing else with it. A whole batch is one function run in aiosqlite's thread: no coroutine ever
holds a transaction open, so a cancelled caller cannot leave one behind. Futures are resolved after COMMIT.

The settings were measured: large pages, a write-ahead log, synchronous NORMAL for what peers send us and FULL for what
we publish. There is no mmap, because mapped pages count as ours on a small machine.
"""

import asyncio
import sqlite3
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, NamedTuple, Protocol, TypeVar
from urllib.parse import quote

import aiosqlite

from feeds.components import Component, Migration
from feeds.errors import FeedsError, StoreError

__all__ = ["APPLICATION_ID", "Component", "Database", "Guard", "Migration", "store_error"]

T = TypeVar("T")

APPLICATION_ID: Final = 0x70797362  # "pysb" in the file's header: tells our files from other SQLite files
PAGE_SIZE: Final = 16384
WRITER_CACHE_KIB: Final = 48 * 1024
READER_CACHE_KIB: Final = 4 * 1024
AUTOCHECKPOINT_PAGES: Final = 2000
BUSY_TIMEOUT_SECONDS: Final = 10.0
QUEUE_LIMIT: Final = 1000

_REASONS: Final = (
    ("SQLITE_FULL", "the disk is full; free some space and try again"),
    ("SQLITE_READONLY", "the database or its folder is read-only; check its permissions"),
    ("SQLITE_CANTOPEN", "the database cannot be opened; check that its folder exists and may be written to"),
    ("SQLITE_PERM", "the database may not be opened; check its permissions"),
    ("SQLITE_NOTADB", "the file is not a database; move it away or restore it from a backup"),
    ("SQLITE_CORRUPT", "the database is damaged; restore it from a backup or start with an empty one"),
    ("SQLITE_BUSY", "another program is holding the database; stop it and try again"),
    ("SQLITE_LOCKED", "another program is holding the database; stop it and try again"),
    ("SQLITE_IOERR", "the disk failed to read or write; check it and the free space"),
    ("SQLITE_NOMEM", "out of memory"),
    ("SQLITE_TOOBIG", "a value is too large for the database"),
)


def store_error(error: sqlite3.Error) -> StoreError:
    """Tell a person what SQLite's error means and what to do; the original stays as the cause."""
    name = getattr(error, "sqlite_errorname", None) or ""
    text = str(error)
    for prefix, reason in _REASONS:
        if name.startswith(prefix):
            return StoreError(f"{reason} (SQLite: {text})")
    return StoreError(f"the database refused (SQLite: {text})")


class Guard(Protocol):
    """What must happen around the commit of a transaction that holds a job of its kind; runs in the writer's thread."""

    def before_commit(self, connection: sqlite3.Connection) -> None:
        """After all jobs. What it raises undoes the whole transaction."""

    def after_commit(self) -> None:
        """Before anybody is told. It must not raise."""


@dataclass(slots=True, eq=False)
class _Job:
    run: Callable[[sqlite3.Connection], Any]
    durable: bool
    guard: Guard | None
    after_commit: Callable[[Any], None] | None
    future: "asyncio.Future[Any]"


@dataclass(slots=True, eq=False)
class _Reader:
    connection: aiosqlite.Connection
    waiting: int = field(default=0)


class Database:
    """One SQLite file. Made by `open`, ended by `close`; belongs to one event loop."""

    def __init__(
        self, path: Path, writer: aiosqlite.Connection, readers: list[_Reader], peeker: sqlite3.Connection
    ) -> None:
        self.path: Final = path
        self._writer: Final = writer
        self._readers: Final = readers
        self._peeker: Final = peeker
        self._queue: Final[deque[_Job]] = deque()
        self._room: Final = asyncio.Semaphore(QUEUE_LIMIT)
        self._wake: Final = asyncio.Event()
        self._closing = False
        self._closed: asyncio.Future[None] | None = None
        self._task: Final = asyncio.create_task(self._serve(), name="database writer")

    @classmethod
    async def open(
        cls,
        path: Path | str,
        components: Sequence[Component],
        *,
        read_connections: int = 2,
        factory: type[sqlite3.Connection] = sqlite3.Connection,
    ) -> "Database":
        """Open or create the file and bring every component's tables up to date.

        factory -- the class of the write connection; tests use it to make the store fail on purpose.
        Raises StoreError when the file is no database of ours, damaged, read-only or made by a newer version; the file
        is then left as it was.
        """
        path = Path(path)
        opened: list[aiosqlite.Connection] = []
        try:
            writer = await _connect(path, cached_statements=256, factory=factory)
            opened.append(writer)
            await _in_thread(writer, lambda connection: _prepare(connection, components))
            readers = []
            for _ in range(read_connections):
                reader = await _connect(_read_only_uri(path), uri=True)
                opened.append(reader)
                await _in_thread(reader, _prepare_reader)
                readers.append(_Reader(reader))
            peeker = sqlite3.connect(_read_only_uri(path), uri=True, timeout=BUSY_TIMEOUT_SECONDS, isolation_level=None)
            _prepare_reader(peeker)
        except BaseException as error:
            for connection in reversed(opened):
                await connection.close()
            if isinstance(error, sqlite3.Error):
                raise StoreError(f"{path}: {store_error(error)}") from error
            if isinstance(error, StoreError):
                raise StoreError(f"{path}: {error}") from error
            raise
        return cls(path, writer, readers, peeker)

    async def write(
        self,
        job: Callable[[sqlite3.Connection], T],
        *,
        durable: bool = False,
        guard: Guard | None = None,
        after_commit: Callable[[T], None] | None = None,
    ) -> T:
        """Run `job` inside the writer's next transaction and return its result once that is committed.

        The job runs in the database's thread; it must not commit or roll back. When it raises, only its own changes are
        undone. durable -- the commit survives a power loss. guard -- called around the commit, once for all jobs that
        name the same one. after_commit -- called in the event loop with the result
        right after the commit and before any waiting caller goes on, also when the caller was cancelled meanwhile.
        A caller cancelled before its job starts takes it out of the queue. Waits while the queue is full.
        Raises what the job raises; StoreError when the store fails.
        """
        await self._room.acquire()
        if self._closing:
            self._room.release()
            raise StoreError("the database is closed")
        future: asyncio.Future[T] = asyncio.get_running_loop().create_future()
        self._queue.append(_Job(job, durable, guard, after_commit, future))
        self._wake.set()
        return await future

    async def read(self, job: Callable[[sqlite3.Connection], T]) -> T:
        """Run `job` on a read connection in its thread: one hop, one consistent snapshot."""
        if self._closing:
            raise StoreError("the database is closed")
        reader = min(self._readers, key=lambda candidate: candidate.waiting)
        reader.waiting += 1
        try:
            return await _in_thread(reader.connection, lambda connection: _snapshot(connection, job))
        except sqlite3.Error as error:
            raise store_error(error) from error
        finally:
            reader.waiting -= 1

    def peek(self, job: Callable[[sqlite3.Connection], T]) -> T:
        """Run a short indexed query right here in the event loop's thread: microseconds, no hop."""
        if self._closing:
            raise StoreError("the database is closed")
        try:
            return job(self._peeker)
        except sqlite3.Error as error:
            raise store_error(error) from error

    async def vacuum(self) -> int:
        """Write the file anew without what was deleted, and how many bytes smaller it is. Writers wait meanwhile.

        Takes as much free space as the file has, twice. Raises StoreError.
        """
        if self._closing:
            raise StoreError("the database is closed")
        files = [self.path, self.path.with_name(f"{self.path.name}-wal")]
        try:
            return await _in_thread(self._writer, lambda connection: _vacuum(connection, files))
        except sqlite3.Error as error:
            raise store_error(error) from error

    async def checkpoint(self) -> bool:
        """Fold the write-ahead log into the file; False while somebody who reads keeps it. Raises StoreError."""
        if self._closing:
            raise StoreError("the database is closed")
        try:
            return await _in_thread(self._writer, _checkpoint)
        except sqlite3.Error as error:
            raise store_error(error) from error

    async def close(self) -> None:
        """Finish every job that was accepted, fold the write-ahead log into the file and close. May be called twice."""
        if self._closed is not None:
            return await asyncio.shield(self._closed)
        self._closing = True
        self._wake.set()
        self._closed = asyncio.ensure_future(self._close())
        return await asyncio.shield(self._closed)

    async def _close(self) -> None:
        await asyncio.wait([self._task])
        self._peeker.close()
        for reader in self._readers:
            await reader.connection.close()
        try:
            await _in_thread(self._writer, _checkpoint)
        finally:
            await self._writer.close()

    async def _serve(self) -> None:
        """The writer: take everything waiting, run it as one transaction, tell the callers, again."""
        while self._queue or not self._closing:
            if not self._queue:
                self._wake.clear()
                await self._wake.wait()
                continue
            waiting = list(self._queue)
            self._queue.clear()
            for _ in waiting:
                self._room.release()
            jobs = [job for job in waiting if not job.future.cancelled()]
            if jobs:
                await self._run(jobs)

    async def _run(self, jobs: list[_Job]) -> None:
        outcomes: Sequence[object]
        try:
            outcomes = await _in_thread(self._writer, lambda connection: _transaction(connection, jobs))
        except sqlite3.Error as error:
            outcomes = [_Failure(store_error(error), error) for _ in jobs]
        except StoreError as error:
            outcomes = [_Failure(StoreError(str(error)), error.__cause__) for _ in jobs]
        except Exception as error:  # a job hid the loss of the transaction behind an error of its own
            outcomes = [_Failure(StoreError(f"the transaction was lost: {error!r}"), error) for _ in jobs]
        for job, outcome in zip(jobs, outcomes, strict=True):
            _settle(job, outcome)


class _Failure(NamedTuple):
    """What became of a job that raised."""

    error: Exception
    cause: BaseException | None


def _settle(job: _Job, outcome: object) -> None:
    """Tell a job's caller what became of it, memory first."""
    failure = outcome if isinstance(outcome, _Failure) else None
    if failure is None and job.after_commit is not None:
        try:
            job.after_commit(outcome)
        except Exception as error:
            failure = _Failure(error, None)
    if job.future.done():  # the caller was cancelled; what was committed stays committed
        return
    if failure is None:
        job.future.set_result(outcome)
    else:
        failure.error.__cause__ = failure.cause
        job.future.set_exception(failure.error)


def _transaction(connection: sqlite3.Connection, jobs: Sequence[_Job]) -> list[object]:
    """Run the jobs in one transaction; a job's own failure becomes its outcome, a failing transaction raises."""
    if connection.in_transaction:  # a rollback failed before
        connection.execute("ROLLBACK")
    durable = any(job.durable for job in jobs)
    connection.execute("PRAGMA synchronous=FULL" if durable else "PRAGMA synchronous=NORMAL")
    connection.execute("BEGIN IMMEDIATE")
    try:
        outcomes = [_attempt(connection, job) for job in jobs]
        guards = _guards(jobs, outcomes)
        for guard in guards:
            guard.before_commit(connection)
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise
    for guard in guards:
        guard.after_commit()
    return outcomes


def _guards(jobs: Sequence[_Job], outcomes: Sequence[object]) -> list[Guard]:
    """Those of the jobs that succeeded, each once."""
    found = [job.guard for job, outcome in zip(jobs, outcomes, strict=True) if not isinstance(outcome, _Failure)]
    return [guard for guard in dict.fromkeys(found) if guard is not None]


def _attempt(connection: sqlite3.Connection, job: _Job) -> object:
    connection.execute("SAVEPOINT job")
    try:
        outcome: object = job.run(connection)
    except Exception as error:
        if not connection.in_transaction:  # SQLite gave the whole transaction up (disk full, I/O error)
            raise
        connection.execute("ROLLBACK TO job")
        outcome = _Failure(store_error(error), error) if isinstance(error, sqlite3.Error) else _Failure(error, None)
    connection.execute("RELEASE job")
    return outcome


def _snapshot(connection: sqlite3.Connection, job: Callable[[sqlite3.Connection], T]) -> T:
    connection.execute("BEGIN")
    try:
        return job(connection)
    finally:
        connection.execute("ROLLBACK")


async def _in_thread(connection: aiosqlite.Connection, job: Callable[[sqlite3.Connection], T]) -> T:
    """Run a function of the plain connection in aiosqlite's thread: the one place that reaches behind its public face.

    aiosqlite offers only single statements, each with a hop of its own; a transaction made of those could be
    interleaved with another or left open by a cancelled task.
    """
    result: T = await connection._execute(lambda: job(connection._conn))  # type: ignore[no-untyped-call]
    return result


async def _connect(where: Path | str, **options: Any) -> aiosqlite.Connection:
    connection = aiosqlite.connect(where, timeout=BUSY_TIMEOUT_SECONDS, isolation_level=None, **options)
    try:
        return await connection
    except BaseException:
        # aiosqlite ends its thread by itself, but the thread must not find the event loop gone when it says so.
        thread: Any = getattr(connection, "_thread", connection)
        await asyncio.to_thread(thread.join)
        raise


def _read_only_uri(path: Path) -> str:
    return f"file:{quote(str(path.absolute()))}?mode=ro"


def _prepare(connection: sqlite3.Connection, components: Sequence[Component]) -> None:
    """Settings of the write connection, the file's header, and the migrations."""
    _refuse_foreign(connection)
    connection.execute(f"PRAGMA page_size={PAGE_SIZE}")
    _check_newer(connection, components)
    connection.execute("PRAGMA journal_mode=WAL")
    connection.execute(f"PRAGMA cache_size=-{WRITER_CACHE_KIB}")
    connection.execute(f"PRAGMA wal_autocheckpoint={AUTOCHECKPOINT_PAGES}")
    connection.execute("PRAGMA journal_size_limit=67108864")
    connection.execute("PRAGMA temp_store=MEMORY")
    connection.execute("PRAGMA foreign_keys=OFF")
    _migrate(connection, components)


def _prepare_reader(connection: sqlite3.Connection) -> None:
    connection.execute(f"PRAGMA cache_size=-{READER_CACHE_KIB}")
    connection.execute("PRAGMA temp_store=MEMORY")
    connection.execute("PRAGMA query_only=ON")


def _refuse_foreign(connection: sqlite3.Connection) -> None:
    """Touch nothing that another program made."""
    (application,) = connection.execute("PRAGMA application_id").fetchone()
    (tables,) = connection.execute("SELECT count(*) FROM sqlite_schema").fetchone()
    if tables and application != APPLICATION_ID:
        raise StoreError("this database belongs to another program; choose another folder")


def _known(connection: sqlite3.Connection) -> dict[str, int]:
    """Highest migration recorded for each component."""
    if not connection.execute("SELECT 1 FROM sqlite_schema WHERE name='migration'").fetchone():
        return {}
    return dict(connection.execute("SELECT component, max(number) FROM migration GROUP BY component"))


def _check_newer(connection: sqlite3.Connection, components: Sequence[Component]) -> None:
    known = _known(connection)
    for name, migrations in components:
        if known.get(name, 0) > len(migrations):
            raise StoreError(
                f"the tables of {name} are at version {known[name]} and this program knows {len(migrations)}; "
                "start a newer version of it, or restore a backup made by this one"
            )


def _migrate(connection: sqlite3.Connection, components: Sequence[Component]) -> None:
    """Apply what is missing, each migration in a transaction together with its record."""
    connection.execute("BEGIN IMMEDIATE")
    try:
        connection.execute(f"PRAGMA application_id={APPLICATION_ID}")
        connection.execute(
            "CREATE TABLE IF NOT EXISTS migration(component TEXT NOT NULL, number INTEGER NOT NULL, "
            "PRIMARY KEY(component, number)) WITHOUT ROWID"
        )
        connection.execute("COMMIT")
        for name, migrations in components:
            for expected, migration in enumerate(migrations, 1):
                if migration.number != expected:
                    raise FeedsError(f"the migrations of {name} are not numbered from 1 without holes")
                connection.execute("BEGIN IMMEDIATE")
                if migration.number > _known(connection).get(name, 0):
                    for statement in migration.statements:
                        connection.execute(statement)
                    connection.execute("INSERT INTO migration VALUES(?,?)", (name, migration.number))
                connection.execute("COMMIT")
    finally:
        if connection.in_transaction:
            connection.execute("ROLLBACK")


def _checkpoint(connection: sqlite3.Connection) -> bool:
    (busy, _, _) = connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
    return not busy


def _vacuum(connection: sqlite3.Connection, files: Sequence[Path]) -> int:
    def size() -> int:
        return sum(file.stat().st_size for file in files if file.exists())

    before = size()
    connection.execute("PRAGMA temp_store=FILE")  # the copy may be larger than the memory
    try:
        connection.execute("VACUUM")
    finally:
        connection.execute("PRAGMA temp_store=MEMORY")
    _checkpoint(connection)
    return max(0, before - size())
