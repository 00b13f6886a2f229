"""Posts held out of order: the newest ones of feeds whose history is still on its way.

A first sync of years of messages takes a while, and what people look for is at its end. So the end of a feed is asked
for beforehand and kept here, for people to read until the log gets there. A message here has its author's signature and
nothing before it, so it is no part of the feed: it is in no view, is served to nobody, and decides nothing about what
may follow. It is dropped as soon as the log reaches its sequence, whatever the log has there; that a feed is forked is
found out by the door for writing alone. Kept are posts, and what a feed says of itself, which gives it a name before
its history has done so.
"""

import asyncio
import json
import sqlite3
from collections.abc import Callable, Collection, Iterable, Sequence
from itertools import pairwise
from typing import Final, NamedTuple

from feeds.conversation import clamped_time, read_place
from feeds.database import Component, Database, Migration
from feeds.errors import InvalidMessage
from feeds.formats.base import FeedFormat
from feeds.log import Log, message_id
from feeds.message import Message, Tip
from feeds.names import read_about
from feeds.tips import STATES, read_tip
from feeds.validation import check_alone

__all__ = ["EARLY_POSTS", "EarlyPost", "EarlyPosts", "own_words", "page"]

MESSAGES_A_FEED: Final = 20
MESSAGES: Final = 5000
BYTES: Final = 8 * 1024 * 1024
"""Of texts in all; beyond this, and beyond `MESSAGES`, feeds give way whose posts were fetched longest ago."""
KEPT_MS: Final = 7 * 86_400_000
"""A history that has not come by then is not on its way."""

_ABOUT, _POST, _REPLY = 0, 1, 2

EARLY_POSTS: Final = Component(
    "early posts",
    (
        Migration(
            1,
            (
                # key is the 32 bytes of the id; kind 0 about itself, 1 post, 2 reply; time the earlier of claimed and
                # received, both in ms since 1970; text as signed, in the compact spelling
                "CREATE TABLE early_post(number INTEGER PRIMARY KEY, feed TEXT NOT NULL, sequence INTEGER NOT NULL, "
                "key BLOB NOT NULL, kind INTEGER NOT NULL, time INTEGER NOT NULL, received INTEGER NOT NULL, "
                "size INTEGER NOT NULL, text BLOB NOT NULL)",
                "CREATE UNIQUE INDEX early_post_by_feed ON early_post(feed, sequence)",
                "CREATE INDEX early_post_by_time ON early_post(time, number)",
                # all that bounds are reckoned with, so that no text is read for it
                "CREATE INDEX early_post_sizes ON early_post(feed, sequence, received, size)",
            ),
        ),
    ),
)


class EarlyPost(NamedTuple):
    """A post as it is held here; `time` and `number` are its place in the order of time."""

    time: int
    number: int
    id: str
    author: str
    sequence: int
    received: int
    """When we got it: ms since 1970 by our clock."""
    text: bytes
    """The signed object in its compact spelling."""


class _Span(NamedTuple):
    """What is held of one feed."""

    lowest: int
    highest: int
    received: int


class EarlyPosts:
    """The store of all feeds. Made by `open`."""

    def __init__(
        self,
        database: Database,
        log: Log,
        feed_format: FeedFormat,
        *,
        hmac_key: bytes | None,
        now: Callable[[], float],
    ) -> None:
        self._database: Final = database
        self._log: Final = log
        self._format: Final = feed_format
        self._hmac_key: Final = hmac_key
        self._now: Final = now
        self._spans: dict[str, _Span] = {}
        self._seen: Final[dict[str, int]] = {}

    @classmethod
    async def open(
        cls,
        database: Database,
        log: Log,
        feed_format: FeedFormat,
        *,
        hmac_key: bytes | None = None,
        now: Callable[[], float],
    ) -> "EarlyPosts":
        """Load what is held. now -- seconds since 1970. Raises StoreError."""
        posts = cls(database, log, feed_format, hmac_key=hmac_key, now=now)
        posts._spans = await database.read(_spans)
        return posts

    def seen(self, feed: str) -> int:
        """The last sequence of the feed that was looked at out of order; 0 for none."""
        span = self._spans.get(feed)
        return max(self._seen.get(feed, 0), 0 if span is None else span.highest)

    async def hold(self, feed: str, texts: Sequence[bytes], *, first: int) -> list[Message]:
        """Take over the end of a feed, from sequence `first` on, as a peer delivers it; returns what of it is held.

        What is before `first` was not asked for and is left. Nothing is held of a feed that is forked, or whose
        messages here contradict each other or the log. Raises InvalidMessage if anything among the texts is not a
        message of the feed with its author's signature: the peer is to blame. Raises StoreError.
        """
        checked = await asyncio.to_thread(self._checked, feed, texts)
        messages = [message for message in checked if message.sequence >= first]
        if messages:
            self._seen[feed] = max(messages[-1].sequence, self._seen.get(feed, 0))
        received = int(self._now() * 1000)
        told = [(kind, message) for message in messages if (kind := _kind(message)) is not None]
        if not told or not _is_chain(self._format, messages):
            return []
        held, self._spans = await self._database.write(
            lambda connection: (_insert(connection, feed, told, received), _spans(connection))
        )
        return held

    def _checked(self, feed: str, texts: Iterable[bytes]) -> list[Message]:
        """The messages in some texts, each judged alone, by sequence."""
        messages = []
        for text in texts:
            message = check_alone(self._format, text, self._hmac_key)
            if message.author != feed:
                raise InvalidMessage("it is of another feed than was asked for", "author")
            messages.append(message)
        return sorted(messages, key=lambda message: message.sequence)

    async def tidy(self, wanted: Callable[[str], bool]) -> None:
        """Drop what the log has reached, what is too old, and feeds that are forked or not wanted any more.

        To be called about once a second; quick while nothing is held. Raises StoreError.
        """
        before = int(self._now() * 1000) - KEPT_MS
        gone, reached = [], []
        for feed, span in self._spans.items():
            if not wanted(feed) or self._log.feed_state(feed) == "forked" or span.received < before:
                gone.append(feed)
            elif self._log.sequence(feed) >= span.lowest:
                reached.append(feed)
        for feed in [feed for feed in self._seen if not wanted(feed)]:
            del self._seen[feed]
        if not gone and not reached:
            return

        def job(connection: sqlite3.Connection) -> dict[str, _Span]:
            connection.execute("PRAGMA secure_delete=ON")  # a feed may be unwanted because its user erased it
            try:
                _forget(connection, gone)
                for feed in reached:
                    _drop_reached(connection, feed)
            finally:
                connection.execute("PRAGMA secure_delete=OFF")
            return _spans(connection)

        self._spans = await self._database.write(job)


def _kind(message: Message) -> int | None:
    """What a message is here; None for what is not kept."""
    place = read_place(message.content)
    if place is not None:
        return _REPLY if place.root or place.fork else _POST
    about = read_about(message.content)
    return _ABOUT if about is not None and about.subject == message.author else None


def _is_chain(form: FeedFormat, messages: Sequence[Message]) -> bool:
    """Whether those of some messages that stand side by side, in order, can be of one branch."""
    for message, following in pairwise(messages):
        if following.sequence == message.sequence and following.id != message.id:
            return False
        if following.sequence == message.sequence + 1 and form.check_chain(
            following, Tip(message.sequence, message.id)
        ):
            return False
    return True


def _insert(
    connection: sqlite3.Connection, feed: str, told: Sequence[tuple[int, Message]], received: int
) -> list[Message]:
    """The writing half of `hold`."""
    tip = read_tip(connection, feed)
    if tip is not None and STATES[tip.state] == "forked":
        return []
    reached = 0 if tip is None else tip.sequence
    before: dict[int, bytes] = dict(
        connection.execute("SELECT sequence, key FROM early_post WHERE feed=?", (feed,)).fetchall()
    )
    fresh = {message.sequence: (kind, message) for kind, message in told if message.sequence > reached}
    contradicted = any(before.get(sequence, message.key) != message.key for sequence, (_, message) in fresh.items())
    following = fresh.get(reached + 1)
    if tip is not None and reached and following is not None:
        contradicted |= following[1].previous != message_id(tip.key, feed)
    if contradicted:
        _forget(connection, [feed])
        return []
    newest = sorted(before.keys() | fresh.keys())[-MESSAGES_A_FEED:]
    if not newest:
        return []
    connection.execute("DELETE FROM early_post WHERE feed=? AND sequence<?", (feed, newest[0]))
    held = [fresh[sequence] for sequence in newest if sequence in fresh]
    connection.executemany(
        "INSERT INTO early_post(feed, sequence, key, kind, time, received, size, text) VALUES(?,?,?,?,?,?,?,?) "
        "ON CONFLICT(feed, sequence) DO UPDATE SET received=excluded.received",
        [
            (
                feed,
                message.sequence,
                message.key,
                kind,
                min(clamped_time(message.timestamp), received),
                received,
                len(message.text),
                message.text,
            )
            for kind, message in held
        ],
    )
    _make_room(connection, feed)
    return [message for _, message in held]


def _make_room(connection: sqlite3.Connection, fetched: str) -> None:
    """Keep to the bounds."""
    while True:
        messages, size = connection.execute("SELECT count(*), coalesce(sum(size), 0) FROM early_post").fetchone()
        if messages <= MESSAGES and size <= BYTES:
            return
        row = connection.execute(
            "SELECT feed FROM early_post WHERE feed!=? GROUP BY feed ORDER BY max(received), feed LIMIT 1", (fetched,)
        ).fetchone()
        _forget(connection, [fetched if row is None else row[0]])


def _forget(connection: sqlite3.Connection, feeds: Iterable[str]) -> None:
    connection.executemany("DELETE FROM early_post WHERE feed=?", [(feed,) for feed in feeds])


def _drop_reached(connection: sqlite3.Connection, feed: str) -> None:
    """Drop what the log has by now, and the rest as well if the log has another branch."""
    others = connection.execute(
        "SELECT 1 FROM early_post e JOIN feed f ON f.ref=e.feed "
        "JOIN message m ON m.author=f.id AND m.sequence=e.sequence WHERE e.feed=? AND e.key!=m.key LIMIT 1",
        (feed,),
    ).fetchone()
    if others is not None:
        _forget(connection, [feed])
        return
    connection.execute(
        "DELETE FROM early_post WHERE feed=?1 AND sequence<=(SELECT sequence FROM feed WHERE ref=?1)", (feed,)
    )


def _spans(connection: sqlite3.Connection) -> dict[str, _Span]:
    rows = connection.execute(
        "SELECT feed, min(sequence), max(sequence), max(received) FROM early_post GROUP BY feed"
    ).fetchall()
    return {feed: _Span(*span) for feed, *span in rows}


# ---- reading

_HELD: Final = (
    "early_post e LEFT JOIN feed f ON f.ref=e.feed WHERE e.sequence>coalesce(f.sequence, 0) "
    "AND coalesce(f.state, 0)=0 AND (f.id IS NULL OR f.id NOT IN (SELECT feed FROM hidden_feed))"
)
"""What the log has not reached, of feeds that are neither forked nor deleted here, at this very moment."""


def page(
    connection: sqlite3.Connection,
    start: tuple[int, int] | None,
    limit: int,
    *,
    only: Collection[str] | None = None,
    without: Collection[str] = (),
    replies: bool = True,
    descending: bool = True,
) -> tuple[list[EarlyPost], tuple[int, int] | None]:
    """Posts by time, after the place `start`, and the place from which to go on; None at the end."""
    compare, order = ("<", "DESC") if descending else (">", "ASC")
    conditions: list[tuple[str, list[str | int]]] = [
        (f"e.kind BETWEEN {_POST} AND ?", [_REPLY if replies else _POST]),
        ("e.feed NOT IN (SELECT value FROM json_each(?))", [json.dumps(list(without))]),
    ]
    if only is not None:
        conditions.append(("e.feed IN (SELECT value FROM json_each(?))", [json.dumps(list(only))]))
    if start is not None:
        conditions.append((f"(e.time, e.number){compare}(?, ?)", [*start]))
    rows = connection.execute(
        "SELECT e.time, e.number, e.key, e.feed, e.sequence, e.received, e.text "  # noqa: S608 - constants
        f"FROM {_HELD} AND {' AND '.join(condition for condition, _ in conditions)} "
        f"ORDER BY e.time {order}, e.number {order} LIMIT ?",
        [*(value for _, values in conditions for value in values), limit + 1],
    ).fetchall()
    posts = [
        EarlyPost(time, number, message_id(key, feed), feed, sequence, received, text)
        for time, number, key, feed, sequence, received, text in rows[:limit]
    ]
    return posts, (posts[-1].time, posts[-1].number) if len(rows) > limit else None


def own_words(connection: sqlite3.Connection, feeds: Collection[str], form: FeedFormat) -> dict[str, dict[str, str]]:
    """The name and image that some feeds give themselves in what is held here; those that say nothing are left out."""
    rows = connection.execute(
        f"SELECT e.feed, e.text FROM {_HELD} AND e.kind={_ABOUT} "  # noqa: S608 - constants
        "AND e.feed IN (SELECT value FROM json_each(?)) ORDER BY e.feed, e.sequence",
        (json.dumps(list(feeds)),),
    )
    said: dict[str, dict[str, str]] = {}
    for feed, text in rows:
        about = read_about(form.prepare(text).content)
        fields = {} if about is None else about.fields
        said[feed] = said.get(feed, {}) | {
            name: value for name in ("name", "image") if isinstance(value := fields.get(name), str)
        }
    return {feed: words for feed, words in said.items() if words}
