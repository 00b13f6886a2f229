"""Which encrypted messages a key of ours opened, and how far each key has been tried; nothing of what they say.

Trying a key costs a scalar multiplication, some 80 microseconds with the rest, more than all views of a message
together. So it is not done in the append transaction, which all others wait for, and not in the workers that validate,
which would need a copy of our secret in child processes. `private_index` notes where encrypted messages are; behind it
the mailbox, in this process, reads them after the commit and tries them in a reading thread. Each key has a mark of its
own, the position up to which it was tried, kept with what it opened: a crash costs nothing, and a key that is new, on a
store of any age, has only its mark at the beginning. Tables are no view's, so making views anew does not touch them.
"""

import json
import sqlite3
from collections.abc import Sequence
from typing import Final, NamedTuple

from feeds.database import Component, Migration
from feeds.log import Entry
from feeds.private.key_ring import KeyRing
from feeds.private.stored import boxed_content
from feeds.views.private_index import encrypted_after, read_entries

__all__ = ["OPENINGS", "Tried", "opened_after", "opened_at", "record", "try_next"]

OPENINGS: Final = Component(
    "openings",
    (
        Migration(
            1,
            (
                "CREATE TABLE opening_key(id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE, tried INTEGER NOT NULL)",
                "CREATE TABLE opening(position INTEGER PRIMARY KEY, key INTEGER NOT NULL)",
            ),
        ),
    ),
)
"""Tables of this module; the composition root opens the database with them."""


class Tried(NamedTuple):
    """What came of trying some keys on some messages."""

    keys: tuple[str, ...]
    """Ids of the keys."""
    opened: list[tuple[int, str]]
    """Position, and id of the key that opened it."""
    reached: int
    """The keys have now been tried up to here."""
    old: bool
    """One of the keys had been behind another: what it opened may lie before what was opened already."""


def try_next(connection: sqlite3.Connection, ring: KeyRing, limit: int) -> Tried | None:
    """Try keys on the next encrypted messages that they were not tried on; None when there are none. Writes nothing.

    Keys go together when they have come equally far, else the one that is furthest behind goes first.
    """
    marks: dict[str, int] = dict.fromkeys(ring.ids, 0)
    marks.update(
        (name, tried) for name, tried in connection.execute("SELECT name, tried FROM opening_key") if name in marks
    )
    for mark in sorted(set(marks.values())):
        entries = encrypted_after(connection, mark, limit)
        if not entries:
            continue
        keys = tuple(name for name, tried in marks.items() if tried == mark)
        # Keys that are ahead are waited for: from their mark on, all go together.
        ahead = min((tried for tried in marks.values() if tried > mark), default=None)
        if ahead is not None:
            entries = [entry for entry in entries if entry.position <= ahead]
        trial = ring.without(set(marks) - set(keys))
        opened = []
        for entry in entries:
            content = boxed_content(entry.text)
            found = None if content is None else trial.open(content)
            if found is not None:
                opened.append((entry.position, found.key_id))
        reached = entries[-1].position if entries else ahead
        assert reached is not None
        return Tried(keys, opened, reached, ahead is not None)
    return None


def record(connection: sqlite3.Connection, tried: Tried) -> None:
    """Keep what was opened and how far the keys have come; part of a writer's job."""
    for name in tried.keys:
        connection.execute(
            "INSERT INTO opening_key(name, tried) VALUES(?,?) ON CONFLICT(name) DO UPDATE SET tried=excluded.tried",
            (name, tried.reached),
        )
    numbers = dict(connection.execute("SELECT name, id FROM opening_key"))
    connection.executemany(
        "INSERT OR REPLACE INTO opening VALUES(?,?)", [(position, numbers[key]) for position, key in tried.opened]
    )


def opened_after(connection: sqlite3.Connection, position: int, limit: int) -> list[Entry]:
    """Messages after a position that some key opened, in receive order."""
    return read_entries(connection, "opening", "p.position>? ORDER BY p.position LIMIT ?", (position, limit))


def opened_at(connection: sqlite3.Connection, positions: Sequence[int]) -> dict[int, Entry]:
    """Opened messages by their positions; what is not here is left out."""
    where = "p.position IN (SELECT value FROM json_each(?))"
    entries = read_entries(connection, "opening", where, (json.dumps(positions),))
    return {entry.position: entry for entry in entries}
