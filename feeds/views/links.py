"""View: which messages point to a feed, message or blob, and by which path inside their content.

What counts as a link is said in `feeds.content`. The index holds the first eight bytes of the destination; another id
that shares those, by accident or on purpose, is told apart when reading.
"""

import sqlite3
import struct
from binascii import a2b_base64
from collections.abc import Sequence
from contextlib import suppress
from typing import Final, NamedTuple

from feeds.content import FoundLink, target_of
from feeds.errors import InvalidRef
from feeds.log_rows import Extract, key8, message_id
from feeds.message import Message
from feeds.refs import BlobRef, FeedRef, MessageRef
from feeds.tiered_index import TieredIndex
from feeds.views.interning import intern, storable

__all__ = ["Backlink", "Link", "Links", "backlinks", "extract", "links_to"]

MAX_REL: Final = 128
_first8: Final = struct.Struct("<q").unpack_from
LINK: Final = TieredIndex("link", ("dest8", "position", "rel"))


class Link(NamedTuple):
    """A message that points to `dest`; rel is the path of keys to it, joined with dots, list indices left out."""

    position: int
    id: str
    source: str
    dest: str
    rel: str


class Backlink(NamedTuple):
    """One link, by the position of the message that has it; `number` tells its rel from others of the same message."""

    position: int
    number: int
    rel: str


def extract(_: Message, found: Sequence[FoundLink]) -> list[tuple[int, str]] | None:
    """First eight bytes of the destination, and rel, of each link of a message."""
    return [
        (
            _first8(a2b_base64(dest[1:13]))[0] if dest[0] != "s" else _dest8(dest),
            rel if len(rel) <= MAX_REL and rel.isascii() else storable(rel[:MAX_REL]),
        )
        for dest, rel, _ in found
    ] or None


class Links:
    """Puts links into the tables below."""

    name: Final = "links"
    version: Final = 1
    tables: Final = (*LINK.tables, "link_rel")
    schema: Final = (*LINK.schema, "CREATE TABLE link_rel(id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE)")
    extract = staticmethod(extract)

    def apply(self, connection: sqlite3.Connection, rows: Sequence[Extract]) -> None:
        numbers = intern(connection, "link_rel", (rel for row in rows for _, rel in row[2]))
        LINK.insert(
            connection, [(dest8, position, numbers[rel]) for position, _, found, _, _ in rows for dest8, rel in found]
        )
        # A step that falls on a message without links is left out and made up for the next time round.
        LINK.settle(connection, rows[0][0] - 1, rows[-1][0])


def _dest8(dest: str) -> int:
    """First eight bytes of a canonical id."""
    if dest[0] != "s":
        return int(_first8(a2b_base64(dest[1:13]))[0])
    for kind in (FeedRef, MessageRef, BlobRef):
        with suppress(InvalidRef):
            return key8(kind.parse(dest).data)
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
    canonical = target_of(dest)
    if canonical is None:
        raise InvalidRef(f"{dest[:120]!r} is no id")
    if descending and after <= 0:
        after = (1 << 63) - 1
    compare, order = ("<", "DESC") if descending else (">", "ASC")
    found: list[Link] = []
    rows = connection.execute(
        "SELECT l.position, m.key, f.ref, m.text, r.name "  # noqa: S608 - only constants are put in
        f"FROM {LINK.either} l JOIN message m ON m.position=l.position "
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


def backlinks(
    connection: sqlite3.Connection,
    dest: str,
    *,
    rel: str | None = None,
    after: tuple[int, int] | None = None,
    limit: int = -1,
    descending: bool = False,
) -> list[Backlink]:
    """Links to a canonical id in receive order after (descending: before) a (position, number); -1 is no limit.

    rel -- as for `links_to`. The index alone is read: whoever reads the texts tells apart ids that begin alike.
    """
    compare, order = ("<", "DESC") if descending else (">", "ASC")
    start = after or (((1 << 63) - 1, 0) if descending else (-1, 0))
    rows = connection.execute(
        "SELECT l.position, l.rel, r.name "  # noqa: S608 - only constants are put in
        f"FROM {LINK.either} l JOIN link_rel r ON r.id=l.rel WHERE l.dest8=?1 AND (l.position, l.rel){compare}(?2,?3) "
        "AND (?4 IS NULL OR r.name=?4 OR substr(r.name, 1, length(?4) + 1)=?4 || '.') "
        f"ORDER BY l.position {order}, l.rel {order} LIMIT ?5",
        (_dest8(dest), *start, rel, limit),
    )
    return [Backlink(*row) for row in rows]
