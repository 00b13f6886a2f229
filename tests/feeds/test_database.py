"""The writer, read connections, migrations, and what happens when SQLite fails."""

import asyncio
import sqlite3
import threading
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest

from feeds.database import Component, Database, Migration
from feeds.errors import StoreError
from tests.support.stores import FailingConnection

COMPONENT = Component("test", [Migration(1, ("CREATE TABLE t(x INTEGER PRIMARY KEY, y)",))])


@pytest.fixture(autouse=True)
def disarmed() -> Iterator[None]:
    FailingConnection.arm(None)
    yield
    FailingConnection.arm(None)


@pytest.fixture
async def database(tmp_path: Path) -> AsyncIterator[Database]:
    opened = await Database.open(tmp_path / "a b?#%.db", [COMPONENT], factory=FailingConnection)
    yield opened
    await opened.close()


def insert(x: int, y: object = None) -> Any:
    def job(connection: sqlite3.Connection) -> int:
        connection.execute("INSERT INTO t VALUES(?,?)", (x, y))
        return x

    return job


def held(connection: sqlite3.Connection) -> list[int]:
    return [x for (x,) in connection.execute("SELECT x FROM t ORDER BY x")]


async def test_settings_of_the_file(database: Database) -> None:
    def settings(connection: sqlite3.Connection) -> list[object]:
        return [
            connection.execute(f"PRAGMA {name}").fetchone()[0]
            for name in ("page_size", "journal_mode", "foreign_keys", "temp_store")
        ]

    assert await database.write(settings) == [16384, "wal", 0, 2]
    assert (await database.read(settings))[:2] == [16384, "wal"]


async def test_a_write_is_seen_by_readers_once_it_returns(database: Database) -> None:
    assert await database.write(insert(1)) == 1
    assert await database.read(held) == [1]
    assert database.peek(held) == [1]


async def test_readers_cannot_write(database: Database) -> None:
    with pytest.raises(StoreError):
        await database.read(insert(1))
    with pytest.raises(StoreError):
        database.peek(insert(1))


async def test_the_file_is_written_anew_without_what_was_deleted(database: Database) -> None:
    for x in range(50):
        await database.write(insert(x, "y" * 20_000))
    await database.write(lambda connection: connection.execute("DELETE FROM t WHERE x>0"))
    writing = [asyncio.create_task(database.write(insert(x))) for x in range(100, 110)]
    freed = await database.vacuum()
    await asyncio.gather(*writing)
    assert freed > 500_000
    assert database.path.stat().st_size < 200_000
    assert await database.read(held) == database.peek(held) == [0, *range(100, 110)]
    assert await database.vacuum() >= 0
    await database.close()
    with pytest.raises(StoreError):
        await database.vacuum()


async def test_a_read_sees_one_snapshot(database: Database) -> None:
    await database.write(insert(1))
    inside, go_on = threading.Event(), threading.Event()

    def twice(connection: sqlite3.Connection) -> tuple[list[int], list[int]]:
        first = held(connection)
        inside.set()
        assert go_on.wait(10)
        return first, held(connection)

    reading = asyncio.create_task(database.read(twice))
    assert await asyncio.to_thread(inside.wait, 10)
    await database.write(insert(2))
    go_on.set()
    assert await reading == ([1], [1])
    assert await database.read(held) == [1, 2]


async def test_waiting_jobs_share_a_transaction_and_one_failure_spoils_nothing_else(database: Database) -> None:
    begun = FailingConnection.seen
    jobs = [database.write(insert(x)) for x in (1, 2, 2, 3)]
    results = await asyncio.gather(*jobs, return_exceptions=True)
    assert results[0] == 1
    assert results[1] == 2
    assert isinstance(results[2], StoreError)
    assert results[3] == 3
    assert await database.read(held) == [1, 2, 3]
    # settings, BEGIN, COMMIT once; savepoint, insert, release for each of four, and one rollback to a savepoint
    assert FailingConnection.seen - begun == 3 + 4 * 3 + 1


async def test_a_jobs_own_exception_reaches_its_caller_and_undoes_only_its_changes(database: Database) -> None:
    def half(connection: sqlite3.Connection) -> None:
        connection.execute("INSERT INTO t VALUES(7, NULL)")
        raise KeyError("mine")

    with pytest.raises(KeyError, match="mine"):
        await database.write(half)
    assert await database.read(held) == []


async def test_after_commit_runs_in_the_loop_before_the_caller_goes_on(database: Database) -> None:
    order: list[str] = []

    def job(_connection: sqlite3.Connection) -> int:
        order.append("job")
        return threading.get_ident()

    async def caller() -> None:
        await database.write(
            job,
            after_commit=lambda ident: order.append("same" if ident == threading.get_ident() else "loop"),
        )
        order.append("caller")

    await caller()
    assert order == ["job", "loop", "caller"]


async def test_after_commit_is_told_even_when_the_caller_was_cancelled(database: Database) -> None:
    inside, go_on = threading.Event(), threading.Event()
    told: list[int] = []

    def slow(connection: sqlite3.Connection) -> int:
        connection.execute("INSERT INTO t VALUES(1, NULL)")
        inside.set()
        assert go_on.wait(10)
        return 1

    task = asyncio.create_task(database.write(slow, after_commit=told.append))
    assert await asyncio.to_thread(inside.wait, 10)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    go_on.set()
    assert await database.write(insert(2)) == 2
    assert told == [1]
    assert await database.read(held) == [1, 2]


async def test_a_caller_cancelled_before_its_turn_leaves_no_trace(database: Database) -> None:
    tasks = [asyncio.create_task(database.write(insert(x))) for x in range(10)]
    await asyncio.sleep(0)
    for task in tasks[::2]:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    present = await database.read(held)
    assert present == [1, 3, 5, 7, 9]
    assert not await database.write(lambda connection: connection.total_changes < len(present))


async def test_durable_jobs_are_committed_with_full_synchronisation(database: Database) -> None:
    def level(connection: sqlite3.Connection) -> int:
        return int(connection.execute("PRAGMA synchronous").fetchone()[0])

    normal, full = 1, 2
    assert await database.write(level) == normal
    assert await database.write(level, durable=True) == full
    assert await database.write(level) == normal
    together = await asyncio.gather(*(database.write(level, durable=durable) for durable in (False, True)))
    assert together == [full, full]


async def test_a_full_queue_makes_writers_wait(database: Database) -> None:
    results = await asyncio.gather(*(database.write(insert(x)) for x in range(2500)))
    assert results == list(range(2500))
    assert len(await database.read(held)) == 2500


@pytest.mark.parametrize("call", range(1, 12))
async def test_a_failure_at_any_statement_is_reported_and_the_writer_goes_on(database: Database, call: int) -> None:
    FailingConnection.arm(call)
    results = await asyncio.gather(
        database.write(insert(1)), database.write(insert(2)), database.write(insert(3)), return_exceptions=True
    )
    FailingConnection.arm(None)
    stored = await database.read(held)
    assert stored == [x for x, result in zip((1, 2, 3), results, strict=True) if result == x]
    assert all(result == x or isinstance(result, StoreError) for x, result in zip((1, 2, 3), results, strict=True))
    if call <= 12:
        assert any(isinstance(result, StoreError) for result in results)
    assert await database.write(insert(9)) == 9


async def test_a_full_disk_fails_the_jobs_and_lifts_when_there_is_space(database: Database) -> None:
    pages = database.peek(lambda connection: connection.execute("PRAGMA page_count").fetchone()[0])
    await database.write(lambda connection: connection.execute(f"PRAGMA max_page_count={pages}").fetchone())
    with pytest.raises(StoreError, match="disk is full"):
        await database.write(insert(1, bytes(100_000)))
    assert await database.read(held) == []
    await database.write(lambda connection: connection.execute("PRAGMA max_page_count=1000000").fetchone())
    assert await database.write(insert(1, bytes(100_000))) == 1


async def test_a_database_made_read_only_says_so(database: Database) -> None:
    FailingConnection.arm(3, "SQLITE_READONLY_DBMOVED")
    with pytest.raises(StoreError, match="read-only"):
        await database.write(insert(1))


async def test_closing_finishes_what_was_accepted_and_refuses_the_rest(tmp_path: Path) -> None:
    database = await Database.open(tmp_path / "x.db", [COMPONENT])
    accepted = [asyncio.create_task(database.write(insert(x))) for x in range(1500)]
    await asyncio.sleep(0)
    await asyncio.gather(database.close(), database.close())
    results = await asyncio.gather(*accepted, return_exceptions=True)
    done = [result for result in results if isinstance(result, int)]
    assert len(done) >= 1000
    assert all(isinstance(result, int | StoreError) for result in results)
    for refused in (database.write(held), database.read(held)):
        with pytest.raises(StoreError, match="closed"):
            await refused
    with pytest.raises(StoreError, match="closed"):
        database.peek(held)
    assert not (tmp_path / "x.db-wal").exists()
    with sqlite3.connect(tmp_path / "x.db") as plain:
        assert held(plain) == sorted(done)
    plain.close()


async def test_migrations_run_once_each_in_order(tmp_path: Path) -> None:
    path = tmp_path / "x.db"
    first = Component("test", [Migration(1, ("CREATE TABLE t(x)", "INSERT INTO t VALUES(1)"))])
    second = Component("test", [*first.migrations, Migration(2, ("ALTER TABLE t ADD y", "UPDATE t SET y=x+1"))])
    for component in (first, first, second, second):
        await (await Database.open(path, [component])).close()
    database = await Database.open(path, [second, Component("other", [])])
    assert database.peek(lambda connection: connection.execute("SELECT x, y FROM t").fetchall()) == [(1, 2)]
    await database.close()


async def test_a_failing_migration_is_undone_whole_and_tried_again(tmp_path: Path) -> None:
    path = tmp_path / "x.db"
    broken = Component("test", [Migration(1, ("CREATE TABLE t(x)",)), Migration(2, ("CREATE TABLE u(x)", "NONSENSE"))])
    with pytest.raises(StoreError):
        await Database.open(path, [broken])
    mended = Component("test", [broken.migrations[0], Migration(2, ("CREATE TABLE u(x, y)",))])
    database = await Database.open(path, [mended])
    assert database.peek(lambda connection: connection.execute("SELECT x, y FROM u").fetchall()) == []
    await database.close()


async def test_tables_of_a_newer_program_are_refused_and_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "x.db"
    newer = Component("test", [Migration(1, ("CREATE TABLE t(x)",)), Migration(2, ("CREATE TABLE u(x)",))])
    await (await Database.open(path, [newer])).close()
    before = path.read_bytes()
    with pytest.raises(StoreError, match=r"version 2 and this program knows 1; start a newer version"):
        await Database.open(path, [Component("test", newer.migrations[:1])])
    assert path.read_bytes() == before


@pytest.mark.parametrize(
    "content", [b"not a database at all, but long enough to look at" * 50, b"SQLite format 3\0" + b"\xff" * 5000]
)
async def test_a_file_that_is_no_database_is_refused_and_left_alone(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "x.db"
    path.write_bytes(content)
    with pytest.raises(StoreError, match=r"x\.db"):
        await Database.open(path, [COMPONENT])
    assert path.read_bytes() == content
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["x.db"]


async def test_another_programs_database_is_refused_and_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "x.db"
    plain = sqlite3.connect(path)
    plain.execute("CREATE TABLE theirs(x)")
    plain.commit()
    plain.close()
    before = path.read_bytes()
    with pytest.raises(StoreError, match="another program"):
        await Database.open(path, [COMPONENT])
    assert path.read_bytes() == before


async def test_a_folder_that_is_not_there_is_said(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="cannot be opened"):
        await Database.open(tmp_path / "none" / "x.db", [COMPONENT])


async def test_a_damaged_page_is_an_error_for_people(tmp_path: Path) -> None:
    path = tmp_path / "x.db"
    database = await Database.open(path, [COMPONENT])
    for start in range(0, 200, 20):
        await database.write(
            lambda connection, start=start: connection.executemany(  # type: ignore[misc]
                "INSERT INTO t VALUES(?,?)", [(x, bytes(2000)) for x in range(start, start + 20)]
            )
        )
    await database.close()
    damaged = bytearray(path.read_bytes())
    for at in range(3 * 16384, len(damaged), 16384):
        damaged[at : at + 100] = b"\xff" * 100
    path.write_bytes(damaged)
    database = await Database.open(path, [COMPONENT])
    with pytest.raises(StoreError, match="damaged"):
        await database.read(lambda connection: connection.execute("SELECT sum(length(y)) FROM t").fetchall())
    await database.close()


async def test_two_objects_on_one_file_take_turns(tmp_path: Path) -> None:
    one = await Database.open(tmp_path / "x.db", [COMPONENT])
    two = await Database.open(tmp_path / "x.db", [COMPONENT])
    await asyncio.gather(*(database.write(insert(x)) for x, database in enumerate([one, two] * 50)))
    assert one.peek(held) == two.peek(held) == list(range(100))
    await one.close()
    await two.close()


async def test_an_idle_writer_answers_at_once(database: Database) -> None:
    loop = asyncio.get_running_loop()
    await database.write(insert(0))
    times = []
    for x in range(1, 101):
        begun = loop.time()
        await database.write(insert(x))
        times.append(loop.time() - begun)
    # No waiting for company: the fastest of a hundred is well under a millisecond even on a busy machine.
    assert min(times) < 0.001
