"""View: messages by channel and hashtag in order of time, and who subscribes to which channel.

The newest channel message of an author about a channel counts. Names are normalised (protocol.md section 2).
"""

import json
import sqlite3
from collections.abc import Iterable, Sequence
from typing import Final, NamedTuple

from feeds.bulk_insert import BulkInsert
from feeds.content import FoundLink
from feeds.conversation import clamped_time, normalise_channel, read_channels, read_subscription
from feeds.log_rows import Extract
from feeds.message import Message
from feeds.views.interning import intern, storable
from feeds.views.placing import END, Spot

__all__ = ["Channel", "Channels", "extract", "list_channels", "positions", "spots_in", "subscriptions"]


INSERT: Final = BulkInsert("INSERT OR IGNORE INTO channel_message", 3)


class Channel(NamedTuple):
    """A channel; latest is the time of its newest message, in milliseconds since 1970."""

    name: str
    messages: int
    subscribers: int
    latest: int | None


def extract(message: Message, _: Sequence[FoundLink]) -> tuple[int, list[str], int | None] | None:
    """Claimed time and channels of a message; of a subscription its one channel, and 1 or 0 as it begins or ends."""
    subscription = read_subscription(message.content)
    if subscription is not None:
        return 0, [storable(subscription.channel)], int(subscription.subscribed)
    names = read_channels(message.content)
    return (clamped_time(message.timestamp), [storable(name) for name in names], None) if names else None


class Channels:
    """Puts channels into the tables below."""

    name: Final = "channels"
    version: Final = 1
    tables: Final = ("channel_name", "channel_message", "channel_subscription")
    schema: Final = (
        "CREATE TABLE channel_name(id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE)",
        "CREATE TABLE channel_message(channel INTEGER NOT NULL, time INTEGER NOT NULL, position INTEGER NOT NULL, "
        "PRIMARY KEY(channel, time, position)) WITHOUT ROWID",
        "CREATE TABLE channel_subscription(channel INTEGER NOT NULL, author INTEGER NOT NULL, "
        "subscribed INTEGER NOT NULL, PRIMARY KEY(channel, author)) WITHOUT ROWID",
        "CREATE INDEX channel_subscription_by_author ON channel_subscription(author, channel)",
    )
    extract = staticmethod(extract)

    def apply(self, connection: sqlite3.Connection, rows: Sequence[Extract]) -> None:
        numbers = intern(connection, "channel_name", (name for row in rows for name in row[2][1]))
        messages, subscribed = [], []
        for position, _, (claimed, names, subscription), author, received in rows:
            if subscription is None:
                messages += [(numbers[name], min(claimed, received), position) for name in names]
            else:
                subscribed.append((numbers[names[0]], author, subscription))
        INSERT(connection, sorted(messages))
        connection.executemany("INSERT OR REPLACE INTO channel_subscription VALUES(?,?,?)", subscribed)


def _number(connection: sqlite3.Connection, channel: str) -> int | None:
    name = normalise_channel(channel)
    if name is None:
        return None
    row = connection.execute("SELECT id FROM channel_name WHERE name=?", (storable(name),)).fetchone()
    return None if row is None else int(row[0])


def list_channels(connection: sqlite3.Connection) -> list[Channel]:
    """Every channel with a message or a subscriber, those with most messages first."""
    rows = connection.execute(
        "SELECT n.name, coalesce(m.messages, 0), coalesce(s.subscribers, 0), m.latest FROM channel_name n "
        "LEFT JOIN (SELECT channel, count(*) AS messages, max(time) AS latest FROM channel_message GROUP BY channel) m "
        "ON m.channel=n.id "
        "LEFT JOIN (SELECT channel, sum(subscribed) AS subscribers FROM channel_subscription GROUP BY channel) s "
        "ON s.channel=n.id WHERE m.messages>0 OR s.subscribers>0"
    )
    return sorted((Channel(*row) for row in rows), key=lambda channel: (-channel.messages, channel.name))


def subscriptions(connection: sqlite3.Connection, feed: str) -> set[str]:
    """Channels that a feed subscribes to."""
    rows = connection.execute(
        "SELECT n.name FROM feed f JOIN channel_subscription s ON s.author=f.id "
        "JOIN channel_name n ON n.id=s.channel WHERE f.ref=? AND s.subscribed",
        (feed,),
    )
    return {name for (name,) in rows}


def spots_in(
    connection: sqlite3.Connection,
    channel: str,
    start: Spot | None,
    limit: int,
    *,
    without: Iterable[str] = (),
    descending: bool = True,
) -> list[Spot]:
    """Places of the messages of a channel after a place (descending: before it), without those of some feeds."""
    number = _number(connection, channel)
    if number is None:
        return []
    compare, order = ("<", "DESC") if descending else (">", "ASC")
    rows = connection.execute(
        "SELECT c.time, c.position FROM channel_message c CROSS JOIN message m ON m.position=c.position "  # noqa: S608
        f"WHERE c.channel=? AND (c.time, c.position){compare}(?,?) "
        "AND m.author NOT IN (SELECT f.id FROM json_each(?) j JOIN feed f ON f.ref=j.value) "
        f"ORDER BY c.time {order}, c.position {order} LIMIT ?",
        (number, *(start or (END if descending else Spot(-1, 0))), json.dumps(list(without)), limit),
    )
    return [Spot(*row) for row in rows]


def positions(connection: sqlite3.Connection, channel: str, *, after: int, limit: int, descending: bool) -> list[int]:
    """Positions of the messages of a channel after a position (descending: before it), in receive order."""
    number = _number(connection, channel)
    if number is None:
        return []
    compare, order = ("<", "DESC") if descending else (">", "ASC")
    rows = connection.execute(
        f"SELECT position FROM channel_message WHERE channel=? AND position{compare}? "  # noqa: S608
        f"ORDER BY position {order} LIMIT ?",
        (number, after, limit),
    )
    return [position for (position,) in rows]
