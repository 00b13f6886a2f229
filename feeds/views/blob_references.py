"""View: which messages name which blobs, by blob and by author.

The index holds hashes of ids and positions; what exactly a message names, where and with which key is read from its
stored text (`feeds.blob_links`). Contents that are encrypted have nothing here.
"""

import sqlite3
from collections.abc import Sequence
from typing import Final, NamedTuple

from feeds.blob_links import BlobLink, blob_ids, blob_links
from feeds.bulk_insert import BulkInsert
from feeds.canonical_json import parse
from feeds.content import FoundLink
from feeds.log_rows import VISIBLE, Entry, Extract, entries_at
from feeds.message import Message
from feeds.tiered_index import TieredIndex
from feeds.views.placing import id_hash

__all__ = [
    "REFERENCE",
    "BlobReferences",
    "Reference",
    "extract",
    "is_named_by",
    "named_by",
    "named_in",
    "references_to",
]

REFERENCE: Final = TieredIndex("blob_reference", ("blob", "position", "author"))
LAST: Final = 1 << 62
_INSERT: Final = BulkInsert("INSERT INTO blob_naming", 2)


class Reference(NamedTuple):
    """A message that names a blob."""

    entry: Entry
    link: BlobLink


def extract(message: Message, found: Sequence[FoundLink]) -> list[int] | None:
    """Hashes of the blobs that a message names."""
    return [id_hash(blob) for blob in blob_ids(message.content, found)] or None


class BlobReferences:
    """Puts names of blobs into the tables below."""

    name: Final = "blob_references"
    version: Final = 1
    tables: Final = (*REFERENCE.tables, "blob_naming")
    schema: Final = (
        *REFERENCE.schema,
        "CREATE TABLE blob_naming(author INTEGER NOT NULL, position INTEGER NOT NULL, PRIMARY KEY(author, position)) "
        "WITHOUT ROWID",
    )
    extract = staticmethod(extract)

    def apply(self, connection: sqlite3.Connection, rows: Sequence[Extract]) -> None:
        REFERENCE.insert(
            connection,
            [(blob, position, author) for position, _, blobs, author, _ in rows for blob in blobs],
        )
        # As in the links view: a step that falls on a message without a blob is made up for the next time round.
        REFERENCE.settle(connection, rows[0][0] - 1, rows[-1][0])
        _INSERT(connection, sorted((row[3], row[0]) for row in rows))


def references_to(
    connection: sqlite3.Connection,
    blob: str,
    *,
    start: int | None = None,
    limit: int = 100,
    author: str | None = None,
    descending: bool = True,
) -> list[Reference]:
    """Messages that name a blob (canonical id), newest received first (not descending: last), or those of one author.

    start -- a position to go on from, which is left out.
    """
    compare, order = ("<", "DESC") if descending else (">", "ASC")
    rows = connection.execute(
        f"SELECT position FROM {REFERENCE.either} WHERE blob=?1 AND position{compare}?2 "  # noqa: S608 - only constants
        f"AND (?3 IS NULL OR author=(SELECT id FROM feed WHERE ref=?3)) ORDER BY position {order}",
        (id_hash(blob), (LAST if descending else 0) if start is None else start, author),
    )
    found: list[Reference] = []
    for (position,) in rows:
        if len(found) >= limit:
            break
        for entry in entries_at(connection, [position]):
            # Another blob with the same hash, should there ever be one, is not named here.
            found += [Reference(entry, link) for link in _links_of(entry) if link.id == blob]
    return found


def is_named_by(connection: sqlite3.Connection, author: str, blob: str) -> bool:
    """Whether a public message of a feed names a blob."""
    return bool(references_to(connection, blob, limit=1, author=author))


def named_by(connection: sqlite3.Connection, author: str, *, before: int = LAST, limit: int = 100) -> list[Reference]:
    """The blobs that the newest messages of a feed name, newest first, before a position.

    limit -- messages; all that one names belongs to one page.
    """
    rows = connection.execute(
        "SELECT m.position FROM feed f JOIN blob_naming n ON n.author=f.id "  # noqa: S608 - only constants are put in
        "JOIN message m ON m.position=n.position "
        f"WHERE f.ref=? AND n.position<? AND {VISIBLE} ORDER BY n.position DESC LIMIT ?",
        (author, before, limit),
    ).fetchall()
    entries = {entry.position: entry for entry in entries_at(connection, [position for (position,) in rows])}
    return [
        Reference(entry, link)
        for (position,) in rows
        if (entry := entries.get(position)) is not None
        for link in _links_of(entry)
    ]


def named_in(connection: sqlite3.Connection, position: int) -> list[BlobLink]:
    """The blobs that the message at a position names."""
    return [link for entry in entries_at(connection, [position]) for link in _links_of(entry)]


def _links_of(entry: Entry) -> list[BlobLink]:
    value = parse(entry.text)
    content = value.get("content") if isinstance(value, dict) else None
    return blob_links(content) if isinstance(content, dict) else []
