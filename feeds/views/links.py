"""View: which messages point to a feed, message or blob, and by which path inside their content.

Only strings that are an id as a whole count (a query behind it is ignored), not ids inside a text. The index holds the
first eight bytes of the destination; whoever shares those by accident or on purpose is told apart when reading.
"""

import re
import sqlite3
from binascii import a2b_base64
from collections.abc import Sequence
from typing import Final, NamedTuple

from feeds.errors import InvalidRef
from feeds.log import Row, key8, message_id
from feeds.message import JsonValue
from feeds.refs import BlobRef, FeedRef, MessageRef
from feeds.views.interning import intern, storable

__all__ = ["Link", "Links", "extract", "links_to"]

MAX_DEPTH: Final = 16
MAX_PATH: Final = 128
_SIGIL_ID: Final = re.compile(r"[@%&][A-Za-z0-9+/]{42}[AEIMQUYcgkosw048]=\.[a-z0-9-]{1,16}")


class Link(NamedTuple):
    """A message that points to `dest`; rel is the path of keys to it, joined with dots, list indices left out."""

    position: int
    id: str
    source: str
    dest: str
    rel: str


class Links:
    """Applies messages to the tables below."""

    name: Final = "links"
    version: Final = 1
    tables: Final = ("link", "link_rel")
    schema: Final = (
        "CREATE TABLE link_rel(id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE)",
        "CREATE TABLE link(dest8 INTEGER NOT NULL, position INTEGER NOT NULL, rel INTEGER NOT NULL, "
        "PRIMARY KEY(dest8, position, rel)) WITHOUT ROWID",
    )

    def apply(self, connection: sqlite3.Connection, rows: Sequence[Row]) -> None:
        found = [
            (_dest8(dest), position, rel)
            for position, message in rows
            if type(message.content) is dict
            for rel, dest in extract(message.content)
        ]
        numbers = intern(connection, "link_rel", (rel for _, _, rel in found))
        connection.executemany(
            "INSERT OR IGNORE INTO link VALUES(?,?,?)",
            sorted((dest, position, numbers[rel]) for dest, position, rel in found),
        )


def extract(content: JsonValue) -> list[tuple[str, str]]:
    """(rel, dest) of every id in a content, dest canonical; nothing below 16 levels. Never raises."""
    found: list[tuple[str, str]] = []
    level: list[tuple[str, JsonValue]] = [("", content)]
    for _ in range(MAX_DEPTH):
        below: list[tuple[str, JsonValue]] = []
        for path, value in level:
            if type(value) is dict:
                items = [(f"{path}.{key}" if path else key, item) for key, item in value.items()]
            elif type(value) is list:
                items = [(path, item) for item in value]
            else:
                continue
            for inner, item in items:
                if type(item) is str:
                    if len(item) > 50 and item[0] in "@%&s" and (dest := _destination(item)):
                        found.append((storable(inner[:MAX_PATH]), dest))
                elif type(item) is dict or type(item) is list:
                    below.append((inner, item))
        if not below:
            break
        level = below
    return found


def _destination(text: str) -> str | None:
    text = text.partition("?")[0]
    if _SIGIL_ID.fullmatch(text):
        return text
    if text.startswith("ssb:"):
        for kind in (FeedRef, MessageRef, BlobRef):
            try:
                return str(kind.parse(text))
            except InvalidRef:
                continue
    return None


def _dest8(dest: str) -> int:
    if dest[0] != "s":
        return key8(a2b_base64(dest[1:13]))
    for kind in (FeedRef, MessageRef, BlobRef):
        try:
            return key8(kind.parse(dest).data)
        except InvalidRef:
            continue
    raise InvalidRef(f"{dest[:120]!r} is no id")


def links_to(
    connection: sqlite3.Connection,
    dest: str,
    *,
    rel: str | None = None,
    after: int = 0,
    limit: int = 100,
    descending: bool = False,
) -> list[Link]:
    """Messages that point to `dest`, in receive order after a position (descending: before it, 0 from the end).

    rel -- a whole path ("vote.link") or its first key ("vote"). Raises InvalidRef when dest is no id.
    """
    canonical = _destination(dest)
    if canonical is None:
        raise InvalidRef(f"{dest[:120]!r} is no id")
    if descending and after <= 0:
        after = (1 << 63) - 1
    compare, order = ("<", "DESC") if descending else (">", "ASC")
    found: list[Link] = []
    rows = connection.execute(
        "SELECT l.position, m.key, f.ref, m.text, r.name "  # noqa: S608 - only constants are put in
        "FROM link l JOIN message m ON m.position=l.position "
        "JOIN feed f ON f.id=m.author JOIN link_rel r ON r.id=l.rel "
        f"WHERE l.dest8=? AND l.position{compare}? ORDER BY l.position {order}, l.rel",
        (_dest8(canonical), after),
    )
    for position, key, source, text, path in rows:
        if rel is not None and path != rel and not path.startswith(f"{rel}."):
            continue
        if canonical[0] != "s" and canonical.encode("ascii") not in text:
            continue  # another id that begins alike
        found.append(Link(position, message_id(key, source), source, canonical, path))
        if len(found) >= limit:
            break
    return found
