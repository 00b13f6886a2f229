"""The tables of blobs: what is held and since when, what is wanted, what is to be announced (protocol.md section 10).

A blob is `own` when it was added here or when a message of ours names it, `foreign` when it is neither own nor pinned.
Only foreign blobs count against the quota. Everything here is a function of a SQLite connection; times are ms since
1970, and keys the 32 bytes of an id.
"""

import sqlite3
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Final, NamedTuple

from feeds.database import Component, Migration
from feeds.refs import BlobRef

__all__ = ["BLOBS", "BlobInfo", "BlobTotals", "Kept", "Want"]

_EVICTED_AT_ONCE: Final = 50
_FOREIGN: Final = "own=0 AND pinned=0"

BLOBS: Final = Component(
    "blobs",
    (
        Migration(
            1,
            (
                # number is the order of arrival here; used is when it was last read, roughly
                "CREATE TABLE blob(number INTEGER PRIMARY KEY AUTOINCREMENT, key BLOB NOT NULL UNIQUE, "
                "size INTEGER NOT NULL, added INTEGER NOT NULL, used INTEGER NOT NULL, own INTEGER NOT NULL, "
                "pinned INTEGER NOT NULL)",
                f"CREATE INDEX blob_by_use ON blob(used) WHERE {_FOREIGN}",
                # what this node would like to have; asked: by its user, and not only because somebody looked for it
                "CREATE TABLE blob_want(number INTEGER PRIMARY KEY AUTOINCREMENT, key BLOB NOT NULL UNIQUE, "
                "since INTEGER NOT NULL, asked INTEGER NOT NULL)",
                # blobs to be announced until enough peers have them
                "CREATE TABLE blob_push(key BLOB PRIMARY KEY, since INTEGER NOT NULL) WITHOUT ROWID",
                # one row, kept true by the triggers below
                "CREATE TABLE blob_total(id INTEGER PRIMARY KEY CHECK(id=1), blobs INTEGER NOT NULL, "
                "bytes INTEGER NOT NULL, foreign_bytes INTEGER NOT NULL)",
                "INSERT INTO blob_total VALUES(1,0,0,0)",
                "CREATE TRIGGER blob_added AFTER INSERT ON blob BEGIN UPDATE blob_total SET blobs=blobs+1, "
                "bytes=bytes+new.size, foreign_bytes=foreign_bytes+new.size*(new.own=0 AND new.pinned=0); END",
                "CREATE TRIGGER blob_removed AFTER DELETE ON blob BEGIN UPDATE blob_total SET blobs=blobs-1, "
                "bytes=bytes-old.size, foreign_bytes=foreign_bytes-old.size*(old.own=0 AND old.pinned=0); END",
                "CREATE TRIGGER blob_kept AFTER UPDATE OF own, pinned ON blob BEGIN UPDATE blob_total SET "
                "foreign_bytes=foreign_bytes-old.size*(old.own=0 AND old.pinned=0)"
                "+new.size*(new.own=0 AND new.pinned=0); END",
            ),
        ),
        Migration(
            2,
            (
                # the smaller the sooner it is fetched; what was wanted before this migration was looked for or asked
                "ALTER TABLE blob_want ADD COLUMN rank INTEGER NOT NULL DEFAULT 90",
                "UPDATE blob_want SET rank=0 WHERE asked=1",
                # how far the log was searched for blobs that messages name
                "CREATE TABLE blob_search(id INTEGER PRIMARY KEY CHECK(id=1), position INTEGER NOT NULL)",
                "INSERT INTO blob_search VALUES(1,0)",
            ),
        ),
    ),
)
"""Tables of this module; the composition root opens the database with them."""


class BlobInfo(NamedTuple):
    """A blob that is held. number is the order of arrival; added and used are ms since 1970."""

    number: int
    id: str
    size: int
    added: int
    used: int
    own: bool
    pinned: bool


class Want(NamedTuple):
    """A blob that is not held and should be. asked -- by the user, not only looked for; since -- ms since 1970.

    rank -- the smaller the sooner it is fetched.
    """

    number: int
    id: str
    since: int
    asked: bool
    rank: int = 0


class BlobTotals(NamedTuple):
    """How many blobs are held and wanted, and bytes of all, and of those which count against the quota."""

    blobs: int
    bytes: int
    foreign_bytes: int
    wants: int


class Kept(NamedTuple):
    """What adding a blob did: its entry, whether it is new, and the keys of those that had to go for it."""

    info: BlobInfo
    is_new: bool
    evicted: list[bytes]


_COLUMNS: Final = "number, key, size, added, used, own, pinned"


def find(connection: sqlite3.Connection, key: bytes) -> BlobInfo | None:
    """One blob."""
    row = connection.execute(f"SELECT {_COLUMNS} FROM blob WHERE key=?", (key,)).fetchone()  # noqa: S608 - constants
    return None if row is None else _info(row)


def page(
    connection: sqlite3.Connection,
    after: int,
    limit: int,
    *,
    own: bool | None = None,
    pinned: bool | None = None,
    descending: bool = False,
) -> list[BlobInfo]:
    """Blobs by number, those after one (descending: before it, 0 from the end)."""
    compare, order = ("<", "DESC") if descending else (">", "ASC")
    wanted = [(name, value) for name, value in (("own", own), ("pinned", pinned)) if value is not None]
    rows = connection.execute(
        f"SELECT {_COLUMNS} FROM blob WHERE number{compare}? "  # noqa: S608 - only constants are put in
        + "".join(f"AND {name}=? " for name, _ in wanted)
        + f"ORDER BY number {order} LIMIT ?",
        (_start(after, descending), *(value for _, value in wanted), limit),
    )
    return [_info(row) for row in rows]


def keys(connection: sqlite3.Connection) -> list[bytes]:
    """All that is held."""
    return [key for (key,) in connection.execute("SELECT key FROM blob")]


def last_number(connection: sqlite3.Connection) -> int:
    """The highest number there is."""
    return int(connection.execute("SELECT coalesce(max(number), 0) FROM blob").fetchone()[0])


def totals(connection: sqlite3.Connection) -> BlobTotals:
    """Counts and bytes."""
    blobs, size, foreign = connection.execute("SELECT blobs, bytes, foreign_bytes FROM blob_total").fetchone()
    (wants,) = connection.execute("SELECT count(*) FROM blob_want").fetchone()
    return BlobTotals(blobs, size, foreign, wants)


def keep(
    connection: sqlite3.Connection,
    key: bytes,
    size: int,
    *,
    own: bool,
    now: int,
    quota: int,
    touched: Mapping[bytes, int],
    is_ours: Callable[[sqlite3.Connection, str], bool],
) -> Kept:
    """Enter a blob whose file is in place, and make room for it.

    touched -- when foreign blobs were last read; is_ours -- whether a message of our own names a blob.
    """
    before = find(connection, key)
    connection.execute(
        "INSERT INTO blob(key, size, added, used, own, pinned) VALUES(?,?,?,?,?,0) "
        "ON CONFLICT(key) DO UPDATE SET own=max(own, excluded.own), used=excluded.used",
        (key, size, now, now, own),
    )
    connection.execute("DELETE FROM blob_want WHERE key=?", (key,))
    touch(connection, touched)
    info = find(connection, key)
    assert info is not None
    return Kept(info, before is None, evict(connection, quota, is_ours))


def touch(connection: sqlite3.Connection, touched: Mapping[bytes, int]) -> None:
    """Note when blobs were last read."""
    connection.executemany("UPDATE blob SET used=max(used, ?) WHERE key=?", [(at, key) for key, at in touched.items()])


def evict(
    connection: sqlite3.Connection, quota: int, is_ours: Callable[[sqlite3.Connection, str], bool]
) -> list[bytes]:
    """Forget the foreign blobs that were not read for the longest time, until the rest fits; the keys of those gone."""
    gone: list[bytes] = []
    while (over := totals(connection).foreign_bytes - quota) > 0:
        rows = connection.execute(
            f"SELECT key, size FROM blob WHERE {_FOREIGN} ORDER BY used, number LIMIT ?",  # noqa: S608 - constants
            (_EVICTED_AT_ONCE,),
        ).fetchall()
        for key, size in rows:
            if over <= 0:
                break
            over -= size
            if is_ours(connection, str(BlobRef(key))):
                connection.execute("UPDATE blob SET own=1 WHERE key=?", (key,))
            else:
                connection.execute("DELETE FROM blob WHERE key=?", (key,))
                gone.append(key)
    return gone


def forget(connection: sqlite3.Connection, key: bytes) -> bool:
    """Take a blob, and that it is to be announced, out of the tables; whether it was there."""
    connection.execute("DELETE FROM blob_push WHERE key=?", (key,))
    return connection.execute("DELETE FROM blob WHERE key=?", (key,)).rowcount > 0


def pin(connection: sqlite3.Connection, key: bytes, pinned: bool) -> bool:
    """Pin or unpin; whether the blob is held."""
    return connection.execute("UPDATE blob SET pinned=? WHERE key=?", (pinned, key)).rowcount > 0


def push(connection: sqlite3.Connection, key: bytes, now: int) -> None:
    """Note that a blob is to be announced."""
    connection.execute("INSERT OR IGNORE INTO blob_push VALUES(?,?)", (key, now))


def pushes(connection: sqlite3.Connection) -> list[str]:
    """Blobs to be announced, oldest first."""
    return [str(BlobRef(key)) for (key,) in connection.execute("SELECT key FROM blob_push ORDER BY since, key")]


def want(
    connection: sqlite3.Connection, key: bytes, *, asked: bool, now: int, limit: int, rank: int = 0
) -> list[bytes]:
    """Note a want, unless the blob is held; the keys of those that go for it if there are too many.

    Those nobody asked for go first, of them the last to be fetched, of them the oldest.
    """
    return want_all(connection, [(key, rank)], asked=asked, now=now, limit=limit)


def want_all(
    connection: sqlite3.Connection, wanted: Iterable[tuple[bytes, int]], *, asked: bool, now: int, limit: int
) -> list[bytes]:
    """`want` for many (key, rank) at once."""
    newest = connection.execute("SELECT coalesce(max(number), 0) FROM blob_want").fetchone()[0]
    for key, rank in wanted:
        if find(connection, key) is None:
            connection.execute(
                "INSERT INTO blob_want(key, since, asked, rank) VALUES(?,?,?,?) ON CONFLICT(key) DO UPDATE SET "
                "asked=max(asked, excluded.asked), rank=min(rank, excluded.rank)",
                (key, now, asked, rank),
            )
    (over,) = connection.execute("SELECT count(*)-? FROM blob_want", (limit,)).fetchone()
    if over <= 0:
        return []
    gone = connection.execute(
        "SELECT number, key FROM blob_want ORDER BY asked, number>?, rank DESC, number LIMIT ?", (newest, over)
    ).fetchall()
    connection.executemany("DELETE FROM blob_want WHERE number=?", [(number,) for number, _ in gone])
    return [key for _, key in gone]


def searched(connection: sqlite3.Connection) -> int:
    """How far the log was searched for blobs that messages name: a position."""
    (position,) = connection.execute("SELECT position FROM blob_search").fetchone()
    return int(position)


def set_searched(connection: sqlite3.Connection, position: int) -> None:
    """The log was searched up to a position."""
    connection.execute("UPDATE blob_search SET position=?", (position,))


def sizes(connection: sqlite3.Connection, keys: Sequence[bytes]) -> dict[bytes, int]:
    """Sizes of those blobs that are held; at most 500 keys."""
    marks = ",".join("?" * len(keys))
    return dict(connection.execute(f"SELECT key, size FROM blob WHERE key IN ({marks})", keys))  # noqa: S608 - marks


def pushed(connection: sqlite3.Connection, key: bytes) -> None:
    """Note that a blob need be announced no more."""
    connection.execute("DELETE FROM blob_push WHERE key=?", (key,))


def unwant(connection: sqlite3.Connection, key: bytes) -> bool:
    """Forget a want; whether there was one."""
    return connection.execute("DELETE FROM blob_want WHERE key=?", (key,)).rowcount > 0


def find_want(connection: sqlite3.Connection, key: bytes) -> Want | None:
    """One want."""
    row = connection.execute("SELECT number, key, since, asked, rank FROM blob_want WHERE key=?", (key,)).fetchone()
    return None if row is None else _want(row)


def wants(connection: sqlite3.Connection, after: int, limit: int, *, descending: bool = False) -> list[Want]:
    """Wants by number, those after one (descending: before it, 0 from the end)."""
    compare, order = ("<", "DESC") if descending else (">", "ASC")
    rows = connection.execute(
        f"SELECT number, key, since, asked, rank FROM blob_want WHERE number{compare}? "  # noqa: S608 - constants
        f"ORDER BY number {order} LIMIT ?",
        (_start(after, descending), limit),
    )
    return [_want(row) for row in rows]


def _start(after: int, descending: bool) -> int:
    return (1 << 63) - 1 if descending and after <= 0 else after


def _info(row: tuple[int, bytes, int, int, int, int, int]) -> BlobInfo:
    number, key, size, added, used, own, pinned = row
    return BlobInfo(number, str(BlobRef(key)), size, added, used, bool(own), bool(pinned))


def _want(row: tuple[int, bytes, int, int, int]) -> Want:
    number, key, since, asked, rank = row
    return Want(number, str(BlobRef(key)), since, bool(asked), rank)
