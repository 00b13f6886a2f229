"""View: posts in order of time, with their author and thread: what timelines and the list of threads are read from.

Ordered by the earlier of the claimed and the received time (`placing`). A post's place never changes, so a page that
begins after a place is the same whatever has come in meanwhile.
"""

import json
import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from typing import Final, NamedTuple

from feeds.bulk_insert import BulkInsert
from feeds.content import FoundLink
from feeds.conversation import clamped_time, read_place
from feeds.log_rows import Extract
from feeds.message import Message
from feeds.views.placing import END, Spot, id_hash

__all__ = ["SCAN_LIMIT", "Page", "Row", "Timeline", "extract", "page", "rows_before", "sort_by_time"]

INSERT: Final = BulkInsert("INSERT INTO timeline", 5)
SCAN_LIMIT: Final = 100_000
"""Posts looked at for one page: some tens of milliseconds."""


class Row(NamedTuple):
    """A post; `thread` is the hash of the id of its thread's first message."""

    time: int
    position: int
    author: int
    thread: int
    reply: int


class Page(NamedTuple):
    """Places in order, and the one from which the next page goes on; None at the end."""

    spots: list[Spot]
    following: Spot | None


def extract(message: Message, _: Sequence[FoundLink]) -> tuple[int, int, int] | None:
    """Claimed time, thread, and whether it is a reply (1) of a post."""
    place = read_place(message.content)
    if place is None:
        return None
    root = place.root or place.fork
    return clamped_time(message.timestamp), id_hash(root or message.id), int(root is not None)


class Timeline:
    """Puts posts into the table below."""

    name: Final = "timeline"
    version: Final = 1
    tables: Final = ("timeline",)
    schema: Final = (
        "CREATE TABLE timeline(time INTEGER NOT NULL, position INTEGER NOT NULL, author INTEGER NOT NULL, "
        "thread INTEGER NOT NULL, reply INTEGER NOT NULL, PRIMARY KEY(time, position)) WITHOUT ROWID",
    )
    extract = staticmethod(extract)

    def apply(self, connection: sqlite3.Connection, rows: Sequence[Extract]) -> None:
        posts = [
            (min(claimed, received), position, author, thread, reply)
            for position, _, (claimed, thread, reply), author, received in rows
        ]
        INSERT(connection, sorted(posts))


def page(
    connection: sqlite3.Connection,
    start: Spot | None,
    limit: int,
    *,
    only: Iterable[str] | None = None,
    without: Iterable[str] = (),
    replies: bool = True,
    descending: bool = True,
) -> Page:
    """Places of at most `limit` posts after `start` (descending: before it), None for the beginning.

    only, without -- feeds. A page may hold fewer and still go on: at most SCAN_LIMIT posts are looked at.
    """
    compare, order = ("<", "DESC") if descending else (">", "ASC")
    start = start or (END if descending else Spot(-1, 0))
    scanned = (
        f"SELECT time, position, author, reply FROM timeline WHERE (time, position){compare}(?,?) "  # noqa: S608 - only constants are put in
        f"ORDER BY time {order}, position {order} LIMIT {SCAN_LIMIT}"
    )
    conditions, values = ["reply<=?"], [int(replies)]
    texts = []
    if only is not None:
        conditions.append("author IN (SELECT f.id FROM json_each(?) j JOIN feed f ON f.ref=j.value)")
        texts.append(json.dumps(list(only)))
    if without := list(without):
        conditions.append("author NOT IN (SELECT f.id FROM json_each(?) j JOIN feed f ON f.ref=j.value)")
        texts.append(json.dumps(without))
    found = [
        Spot(*row)
        for row in connection.execute(
            f"SELECT time, position FROM ({scanned}) WHERE {' AND '.join(conditions)} LIMIT ?",  # noqa: S608
            (*start, *values, *texts, limit + 1),
        )
    ]
    if len(found) > limit:
        return Page(found[:limit], found[limit - 1])
    last = connection.execute(
        f"SELECT time, position FROM ({scanned}) LIMIT 1 OFFSET {SCAN_LIMIT - 1}",  # noqa: S608
        start,
    ).fetchone()
    return Page(found, None if last is None else Spot(*last))


def rows_before(connection: sqlite3.Connection, start: Spot, last_position: int) -> Iterator[Row]:
    """Posts before a place, newest first, of those received up to a position; read as they are asked for."""
    rows = connection.execute(
        "SELECT time, position, author, thread, reply FROM timeline WHERE (time, position)<(?,?) "
        "ORDER BY time DESC, position DESC",
        start,
    )
    return (Row(*row) for row in rows if row[1] <= last_position)


def sort_by_time(
    connection: sqlite3.Connection,
    positions: Sequence[int],
    start: Spot | None,
    limit: int,
    *,
    without: Iterable[str] = (),
    descending: bool = True,
) -> Page:
    """A page of the messages at some positions, whatever their type, in the same order."""
    compare, order = ("<", "DESC") if descending else (">", "ASC")
    start = start or (END if descending else Spot(-1, 0))
    found = [
        Spot(*row)
        for row in connection.execute(
            "SELECT time, position FROM ("  # noqa: S608 - only constants are put in
            "SELECT max(0, CAST(min(m.timestamp, m.received) AS INTEGER)) AS time, m.position AS position, m.author "
            "FROM json_each(?) p CROSS JOIN message m ON m.position=p.value) "
            f"WHERE (time, position){compare}(?,?) "
            "AND author NOT IN (SELECT f.id FROM json_each(?) j JOIN feed f ON f.ref=j.value) "
            f"ORDER BY time {order}, position {order} LIMIT ?",
            (json.dumps(list(positions)), *start, json.dumps(list(without)), limit + 1),
        )
    ]
    return Page(found[:limit], found[limit - 1] if len(found) > limit else None)
