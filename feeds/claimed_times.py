"""Messages by the times that their authors claim: an index that is brought up when somebody asks for that order.

Feeds come whole and in any order, so their claimed times fall all over such an index: kept up in the append
transaction, each batch would rewrite much of it once there are some hundred thousand messages, for an order that few
ask for. So each question first adds what came since the last one, sorted; with nothing new it only reads. Blocking
functions of a plain connection.
"""

import sqlite3
from typing import Final, NamedTuple

__all__ = ["FIRST", "LAST", "SCHEMA", "Claim", "extend", "in_order", "lacking", "within"]

CHUNK: Final = 20_000
"""Messages added in one transaction: some 20 ms."""

SCHEMA: Final = (
    # time as in table message; author beside it so that one feed's need no look at the messages
    "CREATE TABLE claimed_time(time NUMERIC NOT NULL, position INTEGER NOT NULL, author INTEGER NOT NULL, "
    "PRIMARY KEY(time, position)) WITHOUT ROWID",
    # up to which position messages are in it: one row
    "CREATE TABLE claimed_time_reach(position INTEGER NOT NULL)",
    "INSERT INTO claimed_time_reach VALUES(0)",
)


class Claim(NamedTuple):
    """A place in the order of claimed times; position decides between equal ones."""

    time: float
    position: int


FIRST: Final = Claim(float("-inf"), 0)
LAST: Final = Claim(float("inf"), 1 << 62)


def lacking(connection: sqlite3.Connection) -> int:
    """Positions that the log is ahead."""
    (lack,) = connection.execute(
        "SELECT ifnull((SELECT max(position) FROM message), 0) - (SELECT position FROM claimed_time_reach)"
    ).fetchone()
    return int(lack)


def extend(connection: sqlite3.Connection) -> None:
    """Add the next messages; part of a writer's job."""
    (reach,) = connection.execute("SELECT position FROM claimed_time_reach").fetchone()
    end = min(reach + CHUNK, reach + max(0, lacking(connection)))
    connection.execute(
        "INSERT OR IGNORE INTO claimed_time SELECT timestamp, position, author FROM message "
        "WHERE position>? AND position<=? ORDER BY timestamp, position",
        (reach, end),
    )
    connection.execute("UPDATE claimed_time_reach SET position=?", (end,))


def in_order(
    connection: sqlite3.Connection, start: Claim, far: float, end: int, limit: int, *, descending: bool
) -> list[Claim]:
    """Places after `start` (descending: before it) as far as the time `far`, of messages up to position `end`."""
    compare, reach, order = ("<", ">=", "DESC") if descending else (">", "<=", "ASC")
    rows = connection.execute(
        f"SELECT time, position FROM claimed_time WHERE (time, position){compare}(?,?) AND time{reach}? "  # noqa: S608
        f"AND position<=? ORDER BY time {order}, position {order} LIMIT ?",
        (*start, far, end, limit),
    )
    return [Claim(*row) for row in rows]


def within(
    connection: sqlite3.Connection,
    low: float,
    high: float,
    *,
    after: int,
    limit: int,
    author: int | None = None,
    descending: bool = False,
) -> list[int]:
    """Positions of messages claimed from `low` to `high`, in receive order after a position (descending: before it).

    Reads as much of the index as lies between the two times.
    """
    compare, order = ("<", "DESC") if descending else (">", "ASC")
    rows = connection.execute(
        f"SELECT position FROM claimed_time WHERE time>=?1 AND time<=?2 AND position{compare}?3 "  # noqa: S608
        f"AND (?4 IS NULL OR author=?4) ORDER BY position {order} LIMIT ?5",
        (low, high, after, author, limit),
    )
    return [position for (position,) in rows]
