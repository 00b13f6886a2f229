"""View: which messages have which type, in receive order. Private messages (content is a string) have none here."""

import json
import sqlite3
from collections.abc import Collection, Sequence
from typing import Final

from feeds.bulk_insert import BulkInsert
from feeds.content import FoundLink, content_type
from feeds.log_rows import Extract
from feeds.message import Message
from feeds.views.interning import intern, storable

__all__ = ["MessageTypes", "counts", "extract", "positions", "types"]


INSERT: Final = BulkInsert("INSERT INTO message_type", 2)


def extract(message: Message, _: Sequence[FoundLink]) -> str | None:
    """The type that is kept of a message."""
    kind = content_type(message.content)
    return None if kind is None else storable(kind)


class MessageTypes:
    """Puts types into the tables below."""

    name: Final = "message_types"
    version: Final = 1
    tables: Final = ("message_type", "message_type_name")
    schema: Final = (
        "CREATE TABLE message_type_name(id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE)",
        "CREATE TABLE message_type(type INTEGER NOT NULL, position INTEGER NOT NULL, PRIMARY KEY(type, position)) "
        "WITHOUT ROWID",
    )

    extract = staticmethod(extract)

    def apply(self, connection: sqlite3.Connection, rows: Sequence[Extract]) -> None:
        numbers = intern(connection, "message_type_name", (row[2] for row in rows))
        # One type after another: each row lands beside the last one.
        INSERT(connection, sorted((numbers[name], position) for position, _, name, _, _ in rows))


def positions(
    connection: sqlite3.Connection,
    type: str,
    *,
    after: int,
    limit: int,
    author: int | None,
    descending: bool,
    among: Collection[int] | None = None,
) -> list[int]:
    """Positions of the messages of a type, of one author (by number) or among some if given; the log's TypeIndex."""
    row = connection.execute("SELECT id FROM message_type_name WHERE name=?", (storable(type),)).fetchone()
    if row is None:
        return []
    number = row[0]
    compare, order = ("<", "DESC") if descending else (">", "ASC")
    if among is not None:
        found = connection.execute(
            "SELECT t.position FROM json_each(?) p CROSS JOIN message_type t ON t.type=? AND t.position=p.value "  # noqa: S608
            f"WHERE t.position{compare}? ORDER BY t.position {order} LIMIT ?",
            (json.dumps(list(among)), number, after, limit),
        )
    elif author is None:
        found = connection.execute(
            f"SELECT position FROM message_type WHERE type=? AND position{compare}? ORDER BY position {order} LIMIT ?",  # noqa: S608 - two constants
            (number, after, limit),
        )
    else:
        # A feed is received in order of sequence, so its index gives its positions in order too.
        found = connection.execute(
            "SELECT m.position "  # noqa: S608 - only constants are put in
            "FROM message m JOIN message_type t ON t.type=? AND t.position=m.position "
            f"WHERE m.author=? AND m.position{compare}? ORDER BY m.sequence {order} LIMIT ?",
            (number, author, after, limit),
        )
    return [position for (position,) in found]


def types(connection: sqlite3.Connection) -> list[str]:
    """Every type seen, in order of first appearance."""
    return [name for (name,) in connection.execute("SELECT name FROM message_type_name ORDER BY id")]


def counts(connection: sqlite3.Connection) -> dict[str, int]:
    """Every type seen and how many messages have it, the most frequent first."""
    rows = connection.execute(
        "SELECT n.name, t.messages FROM (SELECT type, count(*) AS messages FROM message_type GROUP BY type) t "
        "JOIN message_type_name n ON n.id=t.type ORDER BY t.messages DESC, n.name"
    )
    return dict(rows.fetchall())
