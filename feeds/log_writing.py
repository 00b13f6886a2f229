"""Writing to the log: what a job of the database's writer does with messages that were judged good.

Everything here runs inside the writer's transaction and touches no memory; `Log.committed` takes over after the commit.
"""

import sqlite3
import sys
from array import array
from collections.abc import Iterable, Iterator, Sequence
from itertools import count, repeat
from typing import Final, NamedTuple

from feeds.bulk_insert import BulkInsert
from feeds.log_rows import last_position, message_id, text_at
from feeds.message import EMPTY, Tip
from feeds.migrations import MESSAGE_KEY
from feeds.tips import STATES, FeedState, TipRow, new_feed, read_tip

__all__ = ["Appended", "ForkFound", "Own", "Recorded", "Run", "append", "read_own", "record_forks"]

_INSERT_MESSAGES: Final = BulkInsert("INSERT INTO message", 7)
_INT64: Final = 1 << 63


class Run(NamedTuple):
    """Checked messages of one feed that follow each other, in columns, and the tip they were checked against."""

    author: str
    base: Tip
    keys: Sequence[bytes]
    timestamps: Sequence[int | float]
    texts: Sequence[bytes]
    extracts: Sequence[Sequence[object]]
    """What each view keeps of each message: one list for each view, None for nothing."""


class Appended(NamedTuple):
    """What one `append` did: runs written, new tip rows, and the runs left out because their feed had moved on."""

    before: int
    """Last position before it."""
    position: int
    """Last position after it."""
    runs: list[tuple[int, Run]]
    """What was written, with the position of its first message."""
    tips: list[TipRow]
    stale: list[int]
    """Indexes of the runs that were not written; the true tip of their feed is among `tips`."""
    received: int


class ForkFound(NamedTuple):
    """A checked message that contradicts the text `first`, which we hold at `first_sequence` of the same feed."""

    author: str
    first_sequence: int
    first: bytes
    sequence: int
    second: bytes
    source: str


class Recorded(NamedTuple):
    """What one `record_forks` did: new tip rows, and which evidence does not fit the store."""

    tips: list[TipRow]
    stale: list[int]
    """Indexes of the forks left out."""


class Own(NamedTuple):
    """What the writer must know before it signs: a feed's tip, the claimed time of its last message, its state."""

    tip: Tip
    timestamp: int | float | None
    state: FeedState


def append(connection: sqlite3.Connection, runs: Iterable[Run], received: int) -> Appended:
    """Write runs of messages; part of a writer's job, in its thread. received -- ms since 1970.

    A run is left out, and named in `stale`, unless its base is still the feed's tip and the feed is open.
    """
    before = position = last_position(connection)
    rows: list[tuple[object, ...]] = []
    written: list[tuple[int, Run]] = []
    grown: dict[str, TipRow] = {}
    tips: list[TipRow] = []
    stale: list[int] = []
    for index, run in enumerate(runs):
        tip = grown.get(run.author) or read_tip(connection, run.author) or new_feed(connection, run.author)
        if tip.state or not _stands_at(tip, run.base):
            stale.append(index)
            tips.append(tip)
            continue
        written.append((position + 1, run))
        rows += _rows(tip, position + 1, run, received)
        added = len(run.keys)
        position += added
        tip = tip._replace(
            sequence=tip.sequence + added,
            key=run.keys[-1],
            messages=tip.messages + added,
            bytes=tip.bytes + sum(map(len, run.texts)),
        )
        grown[run.author] = tip
    _INSERT_MESSAGES(connection, rows)
    keys = [key for _, run in written for key in run.keys]
    MESSAGE_KEY.insert(connection, zip(_keys8(keys), count(before + 1), strict=False))
    MESSAGE_KEY.settle(connection, before, position)
    connection.executemany(
        "UPDATE feed SET sequence=?, key=?, messages=?, bytes=? WHERE id=?",
        [(tip.sequence, tip.key, tip.messages, tip.bytes, tip.number) for tip in grown.values()],
    )
    return Appended(before, position, written, [*tips, *grown.values()], stale, received)


def record_forks(connection: sqlite3.Connection, forks: Iterable[ForkFound], found_at: int) -> Recorded:
    """Mark feeds as forked and keep the first evidence for each; part of a writer's job. found_at -- ms since 1970.

    Evidence against a message that the store does not hold is left out, its feed named in `stale`.
    """
    tips: list[TipRow] = []
    stale: list[int] = []
    for index, (author, at, first, sequence, second, source) in enumerate(forks):
        tip = read_tip(connection, author)
        if tip is None or text_at(connection, tip.number, at) != first:
            stale.append(index)
            continue
        if not tip.state:
            connection.execute(
                "INSERT INTO fork VALUES(?,?,?,?,?,?)", (tip.number, sequence, first, second, found_at, source)
            )
            connection.execute("UPDATE feed SET state=1 WHERE id=?", (tip.number,))
        tips.append(tip._replace(state=1))
    return Recorded(tips, stale)


def read_own(connection: sqlite3.Connection, feed: str) -> Own:
    """Where a feed stands inside this transaction; part of a writer's job."""
    row = read_tip(connection, feed)
    if row is None or not row.sequence:
        return Own(EMPTY, None, "open" if row is None else STATES[row.state])
    (timestamp,) = connection.execute(
        "SELECT timestamp FROM message WHERE author=? AND sequence=?", (row.number, row.sequence)
    ).fetchone()
    return Own(Tip(row.sequence, message_id(row.key, feed)), timestamp, STATES[row.state])


def _stands_at(row: TipRow, tip: Tip) -> bool:
    if row.sequence != tip.sequence:
        return False
    return not row.sequence or message_id(row.key, row.ref) == tip.id


def _rows(tip: TipRow, position: int, run: Run, received: int) -> Iterator[tuple[object, ...]]:
    """Rows of table message."""
    return zip(
        count(position),
        repeat(tip.number),
        count(tip.sequence + 1),
        run.keys,
        repeat(received),
        _numbers(run.timestamps),
        run.texts,
        strict=False,  # the endless ones end with the others
    )


def _numbers(timestamps: Sequence[int | float]) -> Sequence[int | float]:
    """Claimed times as SQLite can hold them."""
    if min(timestamps) >= -_INT64 and max(timestamps) < _INT64:
        return timestamps
    return [float(timestamp) for timestamp in timestamps]


def _keys8(keys: Sequence[bytes]) -> "array[int]":
    """`key8` of many ids."""
    words = array("q", b"".join(keys))
    if sys.byteorder == "big":
        words.byteswap()
    return words[::4]
