"""View: the words of public contents, for full-text search; what is encrypted has no words here.

The index holds words and positions alone. Excerpts, and whether words stand in the order searched for, come from the
stored messages. Words are cut by `feeds.search_words`; of the tokenizer below only its treatment of ASCII is used.
"""

import json
import sqlite3
from collections.abc import Iterable, Sequence
from typing import Final, NamedTuple

from feeds.bulk_insert import BulkInsert
from feeds.content import FoundLink
from feeds.log_rows import Extract
from feeds.message import Message
from feeds.search_words import Query, searchable

__all__ = ["Hits", "Search", "extract", "hits", "positions"]

_INSERT: Final = BulkInsert("INSERT INTO search(rowid, words)", 2)


class Hits(NamedTuple):
    """Positions of messages that have the words; more may be beyond `mark`, None when there are none."""

    positions: list[int]
    mark: int | None


def extract(message: Message, _: Sequence[FoundLink]) -> str | None:
    """The words of a message's public content."""
    return searchable(message.content)


class Search:
    """Puts words into the index below."""

    name: Final = "search"
    version: Final = 1
    may_lag: Final = True
    tables: Final = ("search",)
    schema: Final = (
        "CREATE VIRTUAL TABLE search USING fts5(words, content='', columnsize=0, detail=none, tokenize='ascii')",
    )
    extract = staticmethod(extract)

    def apply(self, connection: sqlite3.Connection, rows: Sequence[Extract]) -> None:
        _INSERT(connection, [(row[0], row[2]) for row in rows])


def positions(connection: sqlite3.Connection, query: Query, *, after: int, limit: int, descending: bool) -> list[int]:
    """Messages with the words of a query after a position (descending: before it), in receive order."""
    compare, order = ("<", "DESC") if descending else (">", "ASC")
    rows = connection.execute(
        f"SELECT rowid FROM search WHERE search MATCH ? AND rowid{compare}? ORDER BY rowid {order} LIMIT ?",  # noqa: S608
        (query.expression, after, limit),
    )
    return [position for (position,) in rows]


def hits(
    connection: sqlite3.Connection,
    query: Query,
    *,
    after: int,
    limit: int,
    author: str | None = None,
    without: Iterable[str] = (),
    descending: bool = True,
) -> Hits:
    """Of the next `limit` messages with the words, those of an author, and none of some authors."""
    found = positions(connection, query, after=after, limit=limit, descending=descending)
    rows = connection.execute(
        "SELECT m.position FROM message m JOIN feed f ON f.id=m.author "
        "WHERE m.position IN (SELECT value FROM json_each(?1)) AND (?2 IS NULL OR f.ref=?2) "
        "AND f.ref NOT IN (SELECT value FROM json_each(?3))",
        (json.dumps(found), author, json.dumps(list(without))),
    )
    wanted = {position for (position,) in rows}
    return Hits([position for position in found if position in wanted], found[-1] if len(found) == limit else None)
