"""Questions to the log's tables, for whoever holds a connection: the log itself, views, other transactions.

Blocking functions of a plain connection; they give texts as they are stored.
"""

import json
import sqlite3
from binascii import b2a_base64
from collections.abc import Collection, Iterable, Iterator, Sequence
from typing import Any, Final, NamedTuple, TypeAlias

from feeds.errors import InvalidRef
from feeds.migrations import MESSAGE_KEY
from feeds.refs import FeedRef, MessageRef

__all__ = [
    "HELD",
    "VISIBLE",
    "Entry",
    "Extract",
    "Fork",
    "all_forks",
    "entries_at",
    "entries_with",
    "entry_in_feed",
    "entry_of",
    "key8",
    "last_position",
    "message_id",
    "next_held",
    "read_entries",
    "read_growth",
    "read_ranges",
    "read_texts",
    "text_at",
]


class Entry(NamedTuple):
    """One message as the log holds it."""

    position: int
    """Receive order on this node, from 1."""
    id: str
    author: str
    sequence: int
    received: int
    """When we got it: ms since 1970 by our clock."""
    text: bytes
    """The signed object in its compact spelling; empty if it was erased here."""

    def as_kvt(self) -> bytes:
        """`{"key","value","timestamp"}` as sbot gives it, made around the stored text without reading it."""
        return b'{"key":"%b","value":%b,"timestamp":%d}' % (self.id.encode("ascii"), self.text, self.received)


class Fork(NamedTuple):
    """Proof that a feed has two branches: two messages signed by its author that cannot both be in one feed.

    first is the one we hold (at the sequence of second, or just before it when second names another predecessor).
    """

    author: str
    sequence: int
    first: bytes
    second: bytes
    found_at: int
    source: str


Extract: TypeAlias = tuple[int, str, Any, int, int]
"""What a view keeps of a message: its position, its author, what is kept, the number by which the log knows the author,
and when we got the message (ms since 1970 by our clock).

A plain tuple: a few of them are made for every message, and the garbage collector follows those with a name for as long
as they live.
"""


def key8(key: bytes) -> int:
    """The first eight bytes of an id as the signed integer that is indexed."""
    return int.from_bytes(key[:8], "little", signed=True)


def message_id(key: bytes, author: str) -> str:
    """Canonical id of a message from its 32 bytes and its author's feed id."""
    if author[0] == "@":
        return f"%{b2a_base64(key, newline=False).decode('ascii')}.sha256"
    return str(MessageRef(key, FeedRef.parse(author).format))


_ENTRY: Final = (
    "SELECT m.position, m.key, f.ref, m.sequence, m.received, m.text FROM message m JOIN feed f ON f.id=m.author"
)
VISIBLE: Final = (
    "m.position NOT IN (SELECT position FROM hidden_message) AND m.author NOT IN (SELECT feed FROM hidden_feed)"
)
"""Leaves out of messages `m` what the user deleted here; the tables are looked up by their keys."""
HELD: Final = "length(m.text)>0"
"""Leaves out of messages `m` only those that were erased here."""
_ENTRIES_AT: Final = f"{_ENTRY} WHERE m.position IN (SELECT value FROM json_each(?)) AND {VISIBLE}"  # noqa: S608
_ENTRY_BY_KEY: Final = (
    f"{_ENTRY} JOIN {MESSAGE_KEY.either} k ON k.position=m.position WHERE k.key8=? AND m.key=? AND {VISIBLE}"
)


def _entries(rows: Iterable[tuple[int, bytes, str, int, int, bytes]]) -> Iterator[Entry]:
    for position, key, author, sequence, received, text in rows:
        yield Entry(position, message_id(key, author), author, sequence, received, text)


def next_held(connection: sqlite3.Connection, author: int, sequence: int) -> int | None:
    """The next sequence of a feed, given by its number, whose message was not erased here."""
    row = connection.execute(
        f"SELECT m.sequence FROM message m WHERE m.author=? AND m.sequence>? AND {HELD} ORDER BY m.sequence LIMIT 1",  # noqa: S608
        (author, sequence),
    ).fetchone()
    return None if row is None else int(row[0])


def entries_at(connection: sqlite3.Connection, positions: Sequence[int]) -> list[Entry]:
    """Messages at some positions, in their order; those that are not there, or deleted here, are left out."""
    rows = connection.execute(_ENTRIES_AT, (json.dumps(list(positions)),))
    found = {entry.position: entry for entry in _entries(rows)}
    return [found[position] for position in positions if position in found]


def entry_of(connection: sqlite3.Connection, message: str) -> Entry | None:
    """The message with this canonical id, None when it is not here, deleted here, or the text is no message id."""
    try:
        key = MessageRef.parse(message).data
    except InvalidRef:
        return None
    rows = connection.execute(_ENTRY_BY_KEY, (key8(key), key)).fetchall()
    return next((entry for entry in _entries(rows) if entry.id == message), None)


def entry_in_feed(connection: sqlite3.Connection, author: int, sequence: int) -> Entry | None:
    """The message at a place of a feed, which is given by its number."""
    rows = connection.execute(f"{_ENTRY} WHERE m.author=? AND m.sequence=?", (author, sequence))
    return next(_entries(rows), None)


def last_position(connection: sqlite3.Connection) -> int:
    (position,) = connection.execute("SELECT max(position) FROM message").fetchone()
    return position or 0


def text_at(connection: sqlite3.Connection, author: int, sequence: int) -> bytes | None:
    row = connection.execute("SELECT text FROM message WHERE author=? AND sequence=?", (author, sequence)).fetchone()
    return None if row is None else bytes(row[0])


def read_texts(connection: sqlite3.Connection, author: int, sequences: Collection[int]) -> dict[int, bytes]:
    low, high = min(sequences), max(sequences)
    if high - low < 2 * len(sequences):
        rows = connection.execute(
            "SELECT sequence, text FROM message WHERE author=? AND sequence BETWEEN ? AND ?", (author, low, high)
        )
        return dict(rows.fetchall())
    found = ((sequence, text_at(connection, author, sequence)) for sequence in sequences)
    return {sequence: text for sequence, text in found if text is not None}


def read_ranges(
    connection: sqlite3.Connection, wanted: Sequence[tuple[int | None, int, int]], max_bytes: int
) -> list[list[bytes]]:
    """As `Log.ranges`; a range ends before a message that was erased."""
    answers: list[list[bytes]] = []
    left = max_bytes
    for number, after, limit in wanted:
        texts: list[bytes] = []
        answers.append(texts)
        if left <= 0 or number is None:
            continue
        for (text,) in connection.execute(
            "SELECT text FROM message WHERE author=? AND sequence>? ORDER BY sequence LIMIT ?", (number, after, limit)
        ):
            if not text:
                break
            texts.append(text)
            left -= len(text)
            if left <= 0:
                break
    return answers


def read_entries(
    connection: sqlite3.Connection, position: int, limit: int, author: int | None, descending: bool, whole: bool
) -> list[Entry]:
    compare, order = ("<", "DESC") if descending else (">", "ASC")
    which = f"AND {HELD if whole else VISIBLE} "
    if author is None:
        rows = connection.execute(
            f"{_ENTRY} WHERE m.position{compare}? {which}ORDER BY m.position {order} LIMIT ?", (position, limit)
        )
    else:
        sequence = _sequence_at(connection, author, position if descending else position + 1)
        rows = connection.execute(
            f"{_ENTRY} WHERE m.author=? AND m.sequence{compare}? {which}ORDER BY m.sequence {order} LIMIT ?",
            (author, sequence if descending else sequence - 1, limit),
        )
    return list(_entries(rows))


def entries_with(connection: sqlite3.Connection, after: int, upto: int, marks: Sequence[bytes]) -> list[Entry]:
    """Messages after a position, up to another, whose stored text has one of some bytes in it."""
    marked = " OR ".join(["instr(m.text, ?)"] * len(marks))
    rows = connection.execute(
        f"{_ENTRY} WHERE m.position>? AND m.position<=? AND ({marked}) AND {VISIBLE} ORDER BY m.position",
        (after, upto, *marks),
    )
    return list(_entries(rows))


def _sequence_at(connection: sqlite3.Connection, author: int, position: int) -> int:
    """First sequence of a feed received at `position` or later: a feed's messages come in order, so bisect."""
    low, high = connection.execute(
        "SELECT min(sequence), max(sequence) + 1 FROM message WHERE author=? AND sequence>0", (author,)
    ).fetchone()
    if low is None:
        return 0
    while low < high:
        middle = (low + high) // 2
        row = connection.execute(
            "SELECT position FROM message WHERE author=? AND sequence=?", (author, middle)
        ).fetchone()
        if row is not None and row[0] >= position:
            high = middle
        else:
            low = middle + 1
    return int(low)


def read_growth(connection: sqlite3.Connection, position: int, limit: int) -> tuple[int, dict[str, int]]:
    last = connection.execute(
        "SELECT max(position) FROM (SELECT position FROM message WHERE position>? ORDER BY position LIMIT ?)",
        (position, limit),
    ).fetchone()[0]
    if last is None:
        return position, {}
    rows = connection.execute(
        "SELECT f.ref, max(m.sequence) FROM message m JOIN feed f ON f.id=m.author "
        "WHERE m.position>? AND m.position<=? AND m.sequence>0 GROUP BY m.author",
        (position, last),
    )
    return last, dict(rows.fetchall())


def fork_of(connection: sqlite3.Connection, number: int, feed: str) -> Fork | None:
    """The evidence for the fork of the feed with this number."""
    row = connection.execute(
        "SELECT sequence, first, second, found_at, source FROM fork WHERE author=?", (number,)
    ).fetchone()
    return None if row is None else Fork(feed, *row)


def all_forks(connection: sqlite3.Connection) -> list[Fork]:
    """The evidence for every forked feed, oldest first."""
    rows = connection.execute(
        "SELECT f.ref, k.sequence, k.first, k.second, k.found_at, k.source FROM fork k "
        "JOIN feed f ON f.id=k.author ORDER BY k.found_at, k.author"
    )
    return [Fork(*row) for row in rows]
