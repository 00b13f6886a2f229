"""What the user of this node does not want to see: feeds that are muted, messages and feeds that are deleted here.

None of it is published, and nobody else's copy is touched. A muted feed is left out of timelines and finds. A deleted
message or feed is left out of everything that reads the log for people (`log_rows.VISIBLE`); the stored bytes stay,
because nobody can verify the messages after a hole and peers are given feeds whole. `feeds.erasing`, which removes
bytes for good, writes to the same tables: a row here says what is not to be shown.

Functions of a connection; those that change something run in the writer's transaction.
"""

import sqlite3
from typing import Final, NamedTuple

from feeds.errors import InvalidRef
from feeds.log_rows import key8
from feeds.migrations import MESSAGE_KEY
from feeds.refs import MessageRef

__all__ = [
    "Mute",
    "deleted_feeds",
    "hide_feed",
    "hide_message",
    "is_feed_deleted",
    "is_message_deleted",
    "mute",
    "muted",
    "muted_feeds",
    "place_in_feed",
    "show_feed",
    "unmute",
]


class Mute(NamedTuple):
    """A muted feed."""

    feed: str
    at: int
    """Since when: ms since 1970."""


def mute(connection: sqlite3.Connection, feed: str, now: int) -> None:
    """Mute a feed (canonical id), whether anything of it is here or not. now -- ms since 1970."""
    connection.execute("INSERT OR IGNORE INTO muted_feed VALUES(?,?)", (feed, now))


def unmute(connection: sqlite3.Connection, feed: str) -> None:
    """Mute a feed no longer."""
    connection.execute("DELETE FROM muted_feed WHERE ref=?", (feed,))


def muted(connection: sqlite3.Connection) -> list[Mute]:
    """Muted feeds, the first one muted first."""
    return [Mute(*row) for row in connection.execute("SELECT ref, at FROM muted_feed ORDER BY at, ref")]


def muted_feeds(connection: sqlite3.Connection) -> list[str]:
    """Their ids alone."""
    return [feed for (feed,) in connection.execute("SELECT ref FROM muted_feed")]


_PLACE: Final = (
    f"SELECT m.position, m.author FROM message m JOIN {MESSAGE_KEY.either} k ON k.position=m.position "  # noqa: S608
    "WHERE k.key8=? AND m.key=?"
)


def _place(connection: sqlite3.Connection, message: str) -> tuple[int, int] | None:
    """Position and author's number of a message (canonical id), deleted or not."""
    try:
        key = MessageRef.parse(message).data
    except InvalidRef:
        return None
    row: tuple[int, int] | None = connection.execute(_PLACE, (key8(key), key)).fetchone()
    return row


def place_in_feed(connection: sqlite3.Connection, message: str) -> tuple[int, str] | None:
    """Position and author of a message (canonical id), deleted or not; None when it is not here."""
    place = _place(connection, message)
    if place is None:
        return None
    (feed,) = connection.execute("SELECT ref FROM feed WHERE id=?", place[1:]).fetchone()
    return place[0], feed


def hide_message(connection: sqlite3.Connection, message: str, now: int) -> bool:
    """Delete a message here; False when it is not here. Doing it again changes nothing."""
    place = _place(connection, message)
    if place is None:
        return False
    connection.execute("INSERT OR IGNORE INTO hidden_message VALUES(?,?)", (place[0], now))
    return True


def is_message_deleted(connection: sqlite3.Connection, message: str) -> bool:
    """Whether a message was deleted here, alone or with its feed."""
    place = _place(connection, message)
    if place is None:
        return False
    position, author = place
    row = connection.execute(
        "SELECT 1 FROM hidden_message WHERE position=? UNION ALL SELECT 1 FROM hidden_feed WHERE feed=?",
        (position, author),
    ).fetchone()
    return row is not None


def place_of_deleted(connection: sqlite3.Connection, message: str) -> tuple[str, int] | None:
    """Author and sequence of a message that was deleted here, alone or with its feed; None for any other."""
    place = _place(connection, message)
    if place is None or not is_message_deleted(connection, message):
        return None
    row: tuple[str, int] | None = connection.execute(
        "SELECT f.ref, m.sequence FROM message m JOIN feed f ON f.id=m.author WHERE m.position=?", place[:1]
    ).fetchone()
    return row


def hide_feed(connection: sqlite3.Connection, feed: str, now: int) -> bool:
    """Delete a feed here; False when nothing of it is here."""
    row = connection.execute("SELECT id FROM feed WHERE ref=?", (feed,)).fetchone()
    if row is None:
        return False
    connection.execute("INSERT OR IGNORE INTO hidden_feed VALUES(?,?)", (row[0], now))
    return True


def show_feed(connection: sqlite3.Connection, feed: str) -> bool:
    """Undo `hide_feed`; False when it was not deleted."""
    done = connection.execute("DELETE FROM hidden_feed WHERE feed=(SELECT id FROM feed WHERE ref=?)", (feed,))
    return done.rowcount > 0


def is_feed_deleted(connection: sqlite3.Connection, feed: str) -> bool:
    """Whether a feed was deleted here."""
    row = connection.execute("SELECT 1 FROM hidden_feed h JOIN feed f ON f.id=h.feed WHERE f.ref=?", (feed,)).fetchone()
    return row is not None


def deleted_feeds(connection: sqlite3.Connection) -> list[str]:
    """Feeds that were deleted here."""
    rows = connection.execute("SELECT f.ref FROM hidden_feed h JOIN feed f ON f.id=h.feed ORDER BY h.feed")
    return [feed for (feed,) in rows]
