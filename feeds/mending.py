"""Mends what `feeds.fsck` found in other people's feeds: what is bad and all after it goes, and peers give it again.

Everything here is part of a writer's job on a store that no node has open. Views are not brought in step but marked,
so that all of them are made anew when they are opened next. Our own feed is never touched.
"""

import sqlite3
from collections.abc import Mapping

from feeds.errors import StoreError
from feeds.log_rows import key8, last_position
from feeds.migrations import MESSAGE_KEY
from feeds.tiered_index import SLICES, STEP

__all__ = ["drop_tails"]

_REACHES = (
    "UPDATE claimed_time_reach SET position=min(position, ?)",
    "UPDATE opening_key SET tried=min(tried, ?)",
    "UPDATE blob_search SET position=min(position, ?)",
)
"""Positions at the end of the log may be given a second time, so nobody may have come further than it reaches."""


def drop_tails(connection: sqlite3.Connection, tails: Mapping[str, int], own: str) -> int:
    """Drop each feed's messages from a sequence on, set its row right, and make the index of ids anew.

    Gives the last position left. own -- our feed. Raises StoreError, and then nothing is to be committed, where
    messages of ours stand under another feed's name.
    """
    signed_by_us = b'"author":"%b"' % own.encode()
    for feed, sequence in tails.items():
        (number,) = connection.execute("SELECT id FROM feed WHERE ref=?", (feed,)).fetchone()
        ours = "SELECT 1 FROM message WHERE author=? AND instr(substr(CAST(text AS BLOB), 1, 512), ?)"
        if feed == own or connection.execute(ours, (number, signed_by_us)).fetchone():
            raise StoreError(f"messages of our own feed stand under {feed}; restore a backup")
        gone = connection.execute(
            "SELECT position FROM message WHERE author=? AND (sequence>=? OR sequence<1)", (number, sequence)
        ).fetchall()
        for table in ("hidden_message", "opening", "claimed_time", "message"):
            connection.executemany(f"DELETE FROM {table} WHERE position=?", gone)  # noqa: S608 - constants
        connection.execute("DELETE FROM erased WHERE feed=?", (number,))
        connection.execute(
            "INSERT INTO erased SELECT author, min(sequence), max(sequence) FROM message "
            "WHERE author=? AND length(text)=0 GROUP BY author",
            (number,),
        )
        if gone:  # if this is as far as it gets, the views are made anew when they are next opened
            connection.execute("UPDATE view SET version=-1")
        _set_row(connection, number)
    end = last_position(connection)
    for statement in _REACHES:
        connection.execute(statement, (end,))
    _index(connection)
    return end


def _set_row(connection: sqlite3.Connection, number: int) -> None:
    """Let a feed's row say what its messages are."""
    sequence, messages, size = connection.execute(
        "SELECT coalesce(max(sequence), 0), coalesce(sum(length(text)>0), 0), coalesce(sum(length(text)), 0) "
        "FROM message WHERE author=?",
        (number,),
    ).fetchone()
    last = connection.execute("SELECT key FROM message WHERE author=? AND sequence=?", (number, sequence)).fetchone()
    connection.execute(
        "UPDATE feed SET sequence=?, key=?, messages=?, bytes=? WHERE id=?",
        (sequence, bytes(32) if last is None else last[0], messages, size, number),
    )


def _index(connection: sqlite3.Connection) -> None:
    for table in MESSAGE_KEY.tables:
        connection.execute(f"DELETE FROM {table}")  # noqa: S608 - a constant
    rows = connection.execute("SELECT key, position FROM message ORDER BY position")
    while batch := rows.fetchmany(10_000):
        MESSAGE_KEY.insert(connection, [(key8(key), position) for key, position in batch])
    MESSAGE_KEY.settle(connection, 0, STEP * SLICES)  # all of it
