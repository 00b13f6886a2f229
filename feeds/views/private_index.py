"""View: which encrypted messages we could open and with which key, and which we could not; nothing of what they say.

`extract` keeps the encrypted content, which is public, and needs no key: it runs in threads and child processes, and
secrets must not be copied into those. Opening is done by `apply`, in the writer's thread of this process, where the key
already is. That costs a scalar multiplication (some 50 microseconds, without the interpreter's lock) for one message in
a dozen, far less than its signature took, and has no state in between: a private message is found by the reader that
the commit wakes, and the tables come out the same however messages were batched. The plaintext is dropped at once.

A key that joins the ring later is tried on what no key opened before: `untried`, `try_again`, `record_again`.
"""

import json
import sqlite3
from collections.abc import Iterable, Sequence
from typing import Final, NamedTuple

from feeds.log import Entry, Extract, message_id
from feeds.message import Message
from feeds.private.key_ring import KeyRing
from feeds.private.stored import boxed_content

__all__ = [
    "PrivateIndex",
    "Tried",
    "complete",
    "entries_at",
    "extract",
    "opened_after",
    "record_again",
    "try_again",
    "untried",
]


def extract(message: Message) -> str | None:
    """The encrypted content of a message."""
    return message.content if isinstance(message.content, str) else None


class PrivateIndex:
    """Puts positions into the tables below."""

    name: Final = "private_index"
    version: Final = 1
    tables: Final = ("private_opened", "private_unopened", "private_key")
    schema: Final = (
        "CREATE TABLE private_key(id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE, complete INTEGER NOT NULL)",
        "CREATE TABLE private_opened(position INTEGER PRIMARY KEY, key INTEGER NOT NULL)",
        "CREATE TABLE private_unopened(position INTEGER PRIMARY KEY)",
    )

    extract = staticmethod(extract)

    def __init__(self, ring: KeyRing) -> None:
        self._ring: Final = ring

    def apply(self, connection: sqlite3.Connection, rows: Sequence[Extract]) -> None:
        numbers = _numbers(connection, self._ring.ids)
        opened, unopened = [], []
        for position, _, content in rows:
            found = self._ring.open(content)
            if found is None:
                unopened.append((position,))
            else:
                opened.append((position, numbers[found.key_id]))
        connection.executemany("INSERT INTO private_opened VALUES(?,?)", opened)
        connection.executemany("INSERT INTO private_unopened VALUES(?)", unopened)


def _numbers(connection: sqlite3.Connection, names: Iterable[str]) -> dict[str, int]:
    """Number of each key. A key that is here from the first message on has been tried on all: it is complete."""
    numbers: dict[str, int] = dict(connection.execute("SELECT name, id FROM private_key"))
    missing = [name for name in names if name not in numbers]
    if missing:
        from_start = not _holds_any(connection)
        connection.executemany(
            "INSERT INTO private_key(name, complete) VALUES(?,?)", [(name, from_start) for name in missing]
        )
        numbers = dict(connection.execute("SELECT name, id FROM private_key"))
    return numbers


def _holds_any(connection: sqlite3.Connection) -> bool:
    (found,) = connection.execute(
        "SELECT EXISTS(SELECT 1 FROM private_opened) OR EXISTS(SELECT 1 FROM private_unopened)"
    ).fetchone()
    return bool(found)


# --- reading ----------------------------------------------------------------------------------------------------------

_ENTRY: Final = (
    "SELECT m.position, m.key, f.ref, m.sequence, m.received, m.text FROM {} p "
    "JOIN message m ON m.position=p.position JOIN feed f ON f.id=m.author "
)
_AFTER: Final = "WHERE p.position>? ORDER BY p.position LIMIT ?"
_OPENED: Final = _ENTRY.format("private_opened") + _AFTER
_UNOPENED: Final = _ENTRY.format("private_unopened") + _AFTER
_AT: Final = "WHERE p.position IN (SELECT value FROM json_each(?))"
_OPENED_AT: Final = _ENTRY.format("private_opened") + _AT


def opened_after(connection: sqlite3.Connection, position: int, limit: int) -> list[Entry]:
    """Messages after a position, in receive order, that some key opened when they came."""
    return _entries(connection.execute(_OPENED, (position, limit)))


def entries_at(connection: sqlite3.Connection, positions: Sequence[int]) -> dict[int, Entry]:
    """Opened messages by their positions; what is not here is left out."""
    entries = _entries(connection.execute(_OPENED_AT, (json.dumps(positions),)))
    return {entry.position: entry for entry in entries}


def _entries(rows: Iterable[tuple[int, bytes, str, int, int, bytes]]) -> list[Entry]:
    return [
        Entry(position, message_id(key, author), author, sequence, received, text)
        for position, key, author, sequence, received, text in rows
    ]


# --- new keys ---------------------------------------------------------------------------------------------------------


class Tried(NamedTuple):
    """What came of trying a ring on some unopened messages: position and key id of those it opens."""

    opened: list[tuple[int, str]]
    reached: int | None
    """Position of the last one tried; None when none was left."""


def untried(connection: sqlite3.Connection, ring: KeyRing) -> tuple[str, ...]:
    """Ids of keys that were not yet tried on every message here."""
    if not _holds_any(connection):
        return ()
    done = {name for (name,) in connection.execute("SELECT name FROM private_key WHERE complete")}
    return tuple(name for name in ring.ids if name not in done)


def try_again(connection: sqlite3.Connection, ring: KeyRing, after: int, limit: int) -> Tried:
    """Try a ring on the unopened messages after a position; writes nothing."""
    entries = _entries(connection.execute(_UNOPENED, (after, limit)))
    opened = []
    for entry in entries:
        content = boxed_content(entry.text)
        found = None if content is None else ring.open(content)
        if found is not None:
            opened.append((entry.position, found.key_id))
    return Tried(opened, entries[-1].position if entries else None)


def record_again(connection: sqlite3.Connection, ring: KeyRing, opened: Iterable[tuple[int, str]]) -> None:
    """Note what was opened after all; part of a writer's job."""
    numbers = _numbers(connection, ring.ids)
    for position, key in opened:
        connection.execute("DELETE FROM private_unopened WHERE position=?", (position,))
        connection.execute("INSERT OR REPLACE INTO private_opened VALUES(?,?)", (position, numbers[key]))


def complete(connection: sqlite3.Connection, ring: KeyRing) -> None:
    """Note that all keys of a ring have now been tried on everything; part of a writer's job."""
    numbers = _numbers(connection, ring.ids)
    connection.executemany("UPDATE private_key SET complete=1 WHERE id=?", [(numbers[name],) for name in ring.ids])
