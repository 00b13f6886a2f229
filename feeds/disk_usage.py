"""What takes how much room: feeds, types of messages, tables, blobs, and pages that nothing uses.

Blocking functions of a plain connection that only reads. Bytes of feeds and types count stored texts; bytes of tables
are what their pages take on the disk, where SQLite was built to tell (`dbstat`), with their indices.
"""

import sqlite3
from contextlib import suppress
from typing import NamedTuple

__all__ = ["Share", "Usage", "measure"]


class Share(NamedTuple):
    """What one feed, type or table takes."""

    name: str
    messages: int | None
    """None for a table."""
    bytes: int


class Usage(NamedTuple):
    """The whole store; lists begin with the largest."""

    database_bytes: int
    free_bytes: int
    """Of the database's: pages that nothing uses, which `vacuum` gives back."""
    messages: int
    message_bytes: int
    feeds: list[Share]
    types: list[Share]
    """Public messages by the type of their content; encrypted ones have none."""
    tables: list[Share] | None
    """None where SQLite cannot tell."""
    blobs: int
    blob_bytes: int
    foreign_blob_bytes: int
    """Of them those that the quota counts."""


def measure(connection: sqlite3.Connection, *, feeds: int) -> Usage:
    """Measure a store; feeds -- how many of the largest feeds to list. Reads every message once."""
    page, pages, free = (
        int(connection.execute(f"PRAGMA {name}").fetchone()[0])
        for name in ("page_size", "page_count", "freelist_count")
    )
    messages, size = connection.execute(
        "SELECT coalesce(sum(messages), 0), coalesce(sum(bytes), 0) FROM feed"
    ).fetchone()
    largest = connection.execute(
        "SELECT ref, messages, bytes FROM feed WHERE messages>0 ORDER BY bytes DESC, id LIMIT ?", (feeds,)
    )
    types = connection.execute(
        "SELECT n.name, count(*), sum(length(m.text)) FROM message_type t "
        "CROSS JOIN message m ON m.position=t.position JOIN message_type_name n ON n.id=t.type "
        "GROUP BY t.type ORDER BY 3 DESC, 1"
    )
    blobs, blob_bytes, foreign = connection.execute("SELECT blobs, bytes, foreign_bytes FROM blob_total").fetchone()
    return Usage(
        page * pages,
        page * free,
        messages,
        size,
        [Share(*row) for row in largest],
        [Share(*row) for row in types],
        _tables(connection),
        blobs,
        blob_bytes,
        foreign,
    )


def _tables(connection: sqlite3.Connection) -> list[Share] | None:
    with suppress(sqlite3.OperationalError):
        rows = connection.execute(
            "SELECT coalesce(s.tbl_name, d.name), sum(d.pgsize) FROM dbstat d "
            "LEFT JOIN sqlite_schema s ON s.name=d.name WHERE d.aggregate=TRUE GROUP BY 1 ORDER BY 2 DESC, 1"
        )
        return [Share(name, None, size) for name, size in rows]
    return None
