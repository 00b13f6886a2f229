"""The order of claimed times: as plain sorting gives it, read by ranges of an index that keeps up by itself."""

import json
import sqlite3
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from feeds import claimed_times
from feeds.claimed_times import FIRST, LAST, Claim
from feeds.database import Database
from feeds.log import Entry, Log
from feeds.migrations import FEEDS
from tests.support.builders import Feed, keypair
from tests.support.stores import open_store

TIMES = st.one_of(
    st.integers(-5, 5),
    st.sampled_from([2**53, -(2**53), 10**20, -(10**20), 2.5, -0.5, 1e300, 0, 1_500_000_000_000]),
)


def filled(times: list[Any]) -> sqlite3.Connection:
    """Rows of the log with these claimed times, of two authors in turn."""
    connection = sqlite3.connect(":memory:")
    for migration in FEEDS.migrations:
        for statement in migration.statements:
            connection.execute(statement)
    add(connection, times)
    return connection


def add(connection: sqlite3.Connection, times: list[Any]) -> None:
    (before,) = connection.execute("SELECT count(*) FROM message").fetchone()
    for position, time in enumerate(times, before + 1):
        time = time if abs(time) < 2**63 else float(time)
        connection.execute("INSERT INTO message VALUES(?,?,?,x'',1,?,x'')", (position, position % 2, position, time))


def catch_up(connection: sqlite3.Connection) -> None:
    while claimed_times.lacking(connection):
        claimed_times.extend(connection)


@settings(max_examples=60, deadline=None)
@given(st.lists(TIMES, max_size=20), st.lists(TIMES, max_size=20), TIMES, TIMES, st.integers(1, 7), st.booleans())
def test_it_is_what_sorting_gives(
    times: list[Any], more: list[Any], low: Any, high: Any, limit: int, descending: bool
) -> None:
    connection = filled(times)
    low, high = (value if abs(value) < 2**63 else float(value) for value in (low, high))
    claimed_times.extend(connection)
    add(connection, more)
    catch_up(connection)
    whole = sorted(Claim(float(time), position) for position, time in enumerate([*times, *more], 1))
    end = len(whole) - 1
    start, far = (Claim(high, LAST.position), low) if descending else (Claim(low, 0), high)
    found: list[Claim] = []
    while page := claimed_times.in_order(connection, start, far, end, limit, descending=descending):
        found += page
        start = page[-1]
    expected = [claim for claim in whole if low <= claim.time <= high and claim.position <= end]
    assert [Claim(float(time), position) for time, position in found] == (expected[::-1] if descending else expected)
    inside = sorted((claim.position for claim in whole if low <= claim.time <= high), reverse=descending)
    after = LAST.position if descending else 0
    assert claimed_times.within(connection, low, high, after=after, limit=100, descending=descending) == inside
    if inside:
        rest = claimed_times.within(
            connection, low, high, after=inside[0], limit=limit, author=1, descending=descending
        )
        assert rest == [position for position in inside[1:] if position % 2][:limit]


class Explaining:
    """A connection that notes how SQLite carries statements out."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection
        self.plan: list[str] = []

    def execute(self, statement: str, values: tuple[Any, ...] = ()) -> sqlite3.Cursor:
        self.plan += [row[3] for row in self._connection.execute(f"EXPLAIN QUERY PLAN {statement}", values)]
        return self._connection.execute(statement, values)


@pytest.mark.parametrize("descending", [False, True])
def test_every_question_reads_one_range_of_the_index(descending: bool) -> None:
    connection: Any = Explaining(filled([]))
    start, far = (LAST, 5) if descending else (FIRST, 5)
    claimed_times.in_order(connection, start, far, 9, 9, descending=descending)
    near, other = ("<", ">") if descending else (">", "<")
    (plan,) = connection.plan
    assert plan.startswith("SEARCH claimed_time USING PRIMARY KEY")
    assert f"(time,position){near}(?,?)" in plan
    assert f"time{other}?" in plan
    connection.plan.clear()
    claimed_times.within(connection, 1, 5, after=0, limit=9, descending=descending)
    assert connection.plan[0] == "SEARCH claimed_time USING PRIMARY KEY (time>? AND time<?)"


async def test_a_store_made_before_the_index_gets_it(tmp_path: Path) -> None:
    older = FEEDS._replace(migrations=FEEDS.migrations[:1])
    database = await Database.open(tmp_path / "sbot.db", [older])
    await database.write(lambda connection: add(connection, [5, 3, 4]))
    await database.close()
    database = await Database.open(tmp_path / "sbot.db", [FEEDS])
    log = await Log.open(database)
    await database.write(lambda connection: connection.execute("INSERT INTO feed VALUES(1,'@x',2,x'',1,1,0)"))
    await database.write(lambda connection: connection.execute("INSERT INTO feed VALUES(0,'@y',2,x'',1,1,0)"))
    found, following = await log.in_claimed_order(FIRST, LAST.time, 10, end=3)
    assert ([entry.position for entry in found], following) == ([2, 3, 1], None)
    _, place = await log.in_claimed_order(FIRST, LAST.time, 2, end=3)
    assert place is not None
    assert tuple(place) == (4, 3)
    await database.close()


async def test_within_a_time_by_author_and_type(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(claimed_times, "CHUNK", 7)
    one, other = Feed(keypair("one")), Feed(keypair("other"))
    async with open_store(tmp_path) as store:
        for number in range(40):
            feed = one if number % 3 else other
            feed.append({"type": "post" if number % 2 else "vote"}, timestamp=1000 - 10 * (number % 17))
        await store.ingest.add([*one.texts, *other.texts], source="test")
        everything = await store.log.entries_after(0, 100)
        for author in (None, one.id, keypair("nobody").id):
            for kind in (None, "post", "about"):
                for descending in (False, True):
                    expected = [entry for entry in everything if fits(entry, author, kind)]
                    found: list[Entry] = []
                    after: int | None = LAST.position if descending else 0
                    while after is not None:
                        page, after = await store.log.claimed_within(
                            850, 930, after=after, limit=3, author=author, type=kind, descending=descending
                        )
                        assert len(page) <= 3
                        found += page
                    assert found == (expected[::-1] if descending else expected), (author, kind, descending)


def fits(entry: Entry, author: str | None, kind: str | None) -> bool:
    value = json.loads(entry.text)
    return (
        850 <= value["timestamp"] <= 930 and author in (None, entry.author) and kind in (None, value["content"]["type"])
    )
