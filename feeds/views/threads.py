"""View: the replies of every thread, in order of time.

A post with `root` is a reply in the root's thread; one that names a `fork` too belongs to two threads, the one it
leaves and the one it begins (protocol.md section 11). Threads are found by a hash of their first message's id, which
need not be here.
"""

import sqlite3
from collections.abc import Collection, Iterable, Sequence
from typing import Final, NamedTuple

from feeds.content import FoundLink
from feeds.conversation import clamped_time, read_place
from feeds.log_rows import Extract
from feeds.message import Message
from feeds.tiered_index import TieredIndex
from feeds.views.placing import Spot, id_hash

__all__ = [
    "REPLY",
    "Member",
    "Summary",
    "Threads",
    "count_replies",
    "extract",
    "has_later_reply",
    "members",
    "positions",
    "summary",
]

REPLY: Final = TieredIndex("reply", ("thread", "time", "position", "author", "fork"))


class Member(NamedTuple):
    """A message that names a thread: as its root (fork 0) or as its fork (fork 1)."""

    time: int
    position: int
    author: int
    fork: int


class Summary(NamedTuple):
    """Replies of a thread; authors by number, in the order of their first replies."""

    replies: int
    authors: list[int]
    latest: Spot | None


def extract(message: Message, _: Sequence[FoundLink]) -> list[tuple[int, int, int]] | None:
    """Thread, claimed time, and 1 if it is named as a fork, for each thread that a post replies in."""
    place = read_place(message.content)
    if place is None:
        return None
    root = place.root or place.fork
    if root is None:
        return None
    claimed = clamped_time(message.timestamp)
    replies = [(id_hash(root), claimed, 0)]
    if place.fork is not None and place.fork != root:
        replies.append((id_hash(place.fork), claimed, 1))
    return replies


class Threads:
    """Puts replies into the tables below."""

    name: Final = "threads"
    version: Final = 1
    tables: Final = REPLY.tables
    schema: Final = REPLY.schema
    extract = staticmethod(extract)

    def apply(self, connection: sqlite3.Connection, rows: Sequence[Extract]) -> None:
        REPLY.insert(
            connection,
            [
                (thread, min(claimed, received), position, author, fork)
                for position, _, named, author, received in rows
                for thread, claimed, fork in named
            ],
        )
        # As in the links view: a step that falls on a message without a reply is made up for the next time round.
        REPLY.settle(connection, rows[0][0] - 1, rows[-1][0])


def members(connection: sqlite3.Connection, root: str, *, limit: int) -> list[Member]:
    """Messages that name a thread, by its first message's id, oldest first. Whoever reads their texts sees for sure."""
    rows = connection.execute(
        f"SELECT time, position, author, fork FROM {REPLY.either} WHERE thread=? ORDER BY time, position LIMIT ?",  # noqa: S608
        (id_hash(root), limit),
    )
    return [Member(*row) for row in rows]


def summary(
    connection: sqlite3.Connection, thread: int, *, last_position: int = 1 << 62, without: Collection[int] = ()
) -> Summary:
    """How much was replied in a thread (by hash) in messages up to a position, without those of some authors."""
    return _summed(
        connection.execute(
            f"SELECT time, position, author, 0 FROM {REPLY.either} WHERE thread=? AND position<=? AND fork=0 "  # noqa: S608
            "ORDER BY time, position",
            (thread, last_position),
        ),
        without,
    )


def _summed(rows: Iterable[tuple[int, int, int, int]], without: Collection[int]) -> Summary:
    replies, latest = 0, None
    authors: dict[int, None] = {}
    for time, position, author, _ in rows:
        if author not in without:
            replies += 1
            latest = Spot(time, position)
            authors[author] = None
    return Summary(replies, list(authors), latest)


def positions(connection: sqlite3.Connection, root: str, *, after: int, limit: int, descending: bool) -> list[int]:
    """Positions of the replies to a root after a position (descending: before it), in receive order."""
    compare, order = ("<", "DESC") if descending else (">", "ASC")
    rows = connection.execute(
        f"SELECT position FROM {REPLY.either} WHERE thread=? AND fork=0 AND position{compare}? "  # noqa: S608
        f"ORDER BY position {order} LIMIT ?",
        (id_hash(root), after, limit),
    )
    return [position for (position,) in rows]


def count_replies(connection: sqlite3.Connection, root: str) -> int:
    """Messages that name a thread, as root or as fork."""
    (count,) = connection.execute(f"SELECT count(*) FROM {REPLY.either} WHERE thread=?", (id_hash(root),)).fetchone()  # noqa: S608
    return int(count)


def has_later_reply(
    connection: sqlite3.Connection, thread: int, spot: Spot, *, last_position: int, without: Collection[int]
) -> bool:
    """Whether a thread has a reply after a place, of those received up to a position, by others than some authors."""
    rows = connection.execute(
        f"SELECT author FROM {REPLY.either} WHERE thread=? AND (time, position)>(?,?) AND position<=? AND fork=0",  # noqa: S608
        (thread, *spot, last_position),
    )
    return any(author not in without for (author,) in rows)
