"""An index in two tables answers as one table would, and moves its entries on."""

import random
import sqlite3
from collections.abc import Iterator

import pytest

from feeds import tiered_index
from feeds.tiered_index import SLICES, TieredIndex

INDEX = TieredIndex("example", ("hash", "position"))


@pytest.fixture
def connection() -> Iterator[sqlite3.Connection]:
    opened = sqlite3.connect(":memory:", isolation_level=None)
    for statement in INDEX.schema:
        opened.execute(statement)
    yield opened
    opened.close()


def rows(connection: sqlite3.Connection, table: str) -> list[tuple[int, int]]:
    return sorted(connection.execute(f"SELECT hash, position FROM {table}"))


@pytest.mark.parametrize("batch", [1, 7, 100, 5000])
def test_every_entry_is_found_whatever_the_batches(
    connection: sqlite3.Connection, monkeypatch: pytest.MonkeyPatch, batch: int
) -> None:
    monkeypatch.setattr(tiered_index, "STEP", 50)
    rng = random.Random(batch)
    entries = [(rng.randrange(-(2**63), 2**63), position) for position in range(1, 4001)]
    for at in range(0, len(entries), batch):
        some = entries[at : at + batch]
        INDEX.insert(connection, some)
        INDEX.settle(connection, at, at + len(some))
    assert rows(connection, INDEX.either) == sorted(entries)
    recent, settled = (rows(connection, table) for table in reversed(INDEX.tables))
    assert not set(recent) & set(settled)
    assert len(recent) <= 50 * SLICES + batch
    assert len(settled) >= len(entries) - 50 * SLICES - batch
    for hash_, position in rng.sample(entries, 50):
        found = connection.execute(f"SELECT position FROM {INDEX.either} WHERE hash=?", (hash_,)).fetchall()
        assert found == [(position,)]


def test_the_ends_of_the_range_move_too(connection: sqlite3.Connection) -> None:
    entries = [(-(2**63), 1), (-1, 2), (0, 3), (2**63 - 1, 4)]
    INDEX.insert(connection, entries)
    INDEX.settle(connection, 0, tiered_index.STEP * SLICES)
    assert rows(connection, "example") == sorted(entries)
    assert rows(connection, "example_recent") == []


def test_a_great_leap_settles_everything_once(connection: sqlite3.Connection) -> None:
    INDEX.insert(connection, [(5, 1)])
    INDEX.settle(connection, 0, tiered_index.STEP * 1_000_000)
    assert rows(connection, "example") == [(5, 1)]


def test_an_entry_given_twice_is_one(connection: sqlite3.Connection) -> None:
    INDEX.insert(connection, [(5, 1), (5, 1), (5, 2)])
    INDEX.insert(connection, [(5, 1)])
    assert rows(connection, INDEX.either) == [(5, 1), (5, 2)]


def test_a_key_is_looked_up_in_both_tables_and_neither_is_read_through(connection: sqlite3.Connection) -> None:
    plan = connection.execute(f"EXPLAIN QUERY PLAN SELECT position FROM {INDEX.either} WHERE hash=?", (1,)).fetchall()
    steps = [step[3] for step in plan]
    assert [step for step in steps if "example" in step] == [
        "SEARCH example_recent USING PRIMARY KEY (hash=?)",
        "SEARCH example USING PRIMARY KEY (hash=?)",
    ]
