"""Takes the bytes of messages off this disk for good, and leaves their feeds such that they can be verified.

An erased message keeps its row: author, sequence, id, times. So the message after it is still known to follow it, it is
never fetched again, and a second one in its place is never taken for it. Its text is gone, from the log, from what was
opened of it, and from every view that kept something of it: those are made anew, which `Indexer.behind` shows. What is
freed inside the file is overwritten. To peers a feed ends before its first erased message, unless they are past the
last one (`Hole`): nobody can verify what follows without it. Our own feed is never erased.

`begin_anew` drops all that is known of a feed, so that peers give it again from its first message on.
"""

import json
import logging
import sqlite3
from array import array
from collections.abc import Collection, Iterable, Iterator
from typing import Final, NamedTuple

from feeds import hiding
from feeds.content import links
from feeds.database import Database
from feeds.errors import FeedsError, StoreError
from feeds.formats.registry import format_of_feed
from feeds.indexer import Indexer
from feeds.log import Hole, Log
from feeds.log_rows import HELD, key8, last_position
from feeds.migrations import MESSAGE_KEY
from feeds.tips import TipRow, read_tip

__all__ = ["Erased", "Erasing"]

LOG: Final = logging.getLogger(__name__)

CHUNK: Final = 1000
"""Messages erased in one transaction."""
ATTEMPTS: Final = 3
_NO_KEY: Final = bytes(32)


class Erased(NamedTuple):
    """How much was erased; bytes of stored texts."""

    messages: int
    bytes: int


class _Done(NamedTuple):
    erased: Erased
    tips: list[TipRow]
    holes: dict[str, Hole | None]
    views: set[str]


class Erasing:
    """Erases messages of one store, on which a node may work meanwhile."""

    def __init__(self, database: Database, log: Log, indexer: Indexer, own: str) -> None:
        """own -- our feed, of which nothing is ever erased."""
        self._database: Final = database
        self._log: Final = log
        self._indexer: Final = indexer
        self._own: Final = own

    async def erase(self, positions: Iterable[int], *, now: int) -> Erased:
        """Erase messages by their positions; what is not there, ours, or erased already, is passed over.

        now -- ms since 1970. When a view kept something of them it is made anew, by whoever runs `Indexer.follow`.
        Raises StoreError; what was erased before stays so.
        """
        total = Erased(0, 0)
        views: set[str] = set()
        try:
            for some in _chunks(positions):
                done = await self._write_erase(some, now, views)
                total = Erased(total.messages + done.erased.messages, total.bytes + done.erased.bytes)
                views |= done.views
        finally:
            if views:
                await self._indexer.rebuild(views)
        return total

    async def erase_feed(self, feed: str, *, now: int) -> Erased:
        """Erase every message of a feed that is here."""
        return await self.erase(await self._positions(feed), now=now)

    async def begin_anew(self, feed: str, *, now: int) -> Erased:
        """Erase a feed and forget that anything of it was here, so that it comes again from its first message on.

        What was deleted or hidden of it is forgotten as well. ValueError for our own feed and for one that is forked,
        whose first branch must stay known. StoreError when the store fails, or where the feed does not stand still.
        """
        if feed == self._own or self._log.feed_state(feed) == "forked":
            raise ValueError("neither our own feed nor a forked one can begin anew")
        erased = Erased(0, 0)
        for _ in range(ATTEMPTS):
            more = await self.erase_feed(feed, now=now)
            erased = Erased(erased.messages + more.messages, erased.bytes + more.bytes)
            done = await self._database.write(
                lambda connection: _forget(connection, feed),
                durable=True,
                after_commit=lambda done: self._log.thinned(done.tips, done.holes),
            )
            if done.holes:
                return erased
        raise StoreError(f"messages of {feed} kept coming in; try again later")

    async def _positions(self, feed: str) -> "array[int]":
        find = "SELECT m.position FROM message m JOIN feed f ON f.id=m.author WHERE f.ref=?"
        return await self._database.read(
            lambda connection: array("q", (position for (position,) in connection.execute(find, (feed,))))
        )

    async def _write_erase(self, positions: Collection[int], now: int, known: Collection[str]) -> _Done:
        return await self._database.write(
            lambda connection: self._erase(connection, positions, now, known),
            durable=True,
            after_commit=lambda done: self._log.thinned(done.tips, done.holes),
        )

    def _erase(
        self, connection: sqlite3.Connection, positions: Collection[int], now: int, known: Collection[str]
    ) -> _Done:
        """Part of a writer's job. known -- views that are to be made anew in any case."""
        rows = connection.execute(
            "SELECT m.position, f.ref, m.sequence, m.text FROM message m JOIN feed f ON f.id=m.author "  # noqa: S608
            f"WHERE m.position IN (SELECT value FROM json_each(?)) AND {HELD} AND f.ref<>?",
            (json.dumps(list(positions)), self._own),
        ).fetchall()
        views = self._views_of(rows, known)
        connection.execute("PRAGMA secure_delete=ON")
        try:
            gone = [(position,) for position, *_ in rows]
            connection.executemany("UPDATE message SET text=x'' WHERE position=?", gone)
            connection.executemany("DELETE FROM opening WHERE position=?", gone)
        finally:
            connection.execute("PRAGMA secure_delete=OFF")
        connection.executemany("INSERT OR IGNORE INTO hidden_message VALUES(?,?)", [(*one, now) for one in gone])
        tips: list[TipRow] = []
        holes: dict[str, Hole | None] = {}
        for feed in dict.fromkeys(row[1] for row in rows):
            of_feed = [row for row in rows if row[1] == feed]
            tip = read_tip(connection, feed)
            assert tip is not None
            tip = tip._replace(
                messages=tip.messages - len(of_feed), bytes=tip.bytes - sum(len(text) for *_, text in of_feed)
            )
            connection.execute("UPDATE feed SET messages=?, bytes=? WHERE id=?", (tip.messages, tip.bytes, tip.number))
            holes[feed] = _widen(connection, tip.number, [sequence for _, _, sequence, _ in of_feed])
            tips.append(tip)
        return _Done(Erased(len(rows), sum(len(text) for *_, text in rows)), tips, holes, views)

    def _views_of(self, rows: Iterable[tuple[int, str, int, bytes]], known: Collection[str]) -> set[str]:
        """Views that keep something of these messages."""
        left = dict(zip(self._indexer.names, self._indexer.extractors, strict=True))
        for name in known:
            left.pop(name, None)
        found: set[str] = set()
        for position, feed, _, text in rows:
            if not left:
                break
            try:
                message = format_of_feed(feed).prepare(text)
            except FeedsError as error:
                LOG.warning("message at position %d cannot be read and was in no view: %s", position, error)
                continue
            within = links(message.content)
            for name in [name for name, extract in left.items() if extract(message, within) is not None]:
                del left[name]
                found.add(name)
        return found


def _widen(connection: sqlite3.Connection, feed: int, sequences: Collection[int]) -> Hole:
    connection.execute(
        "INSERT INTO erased VALUES(?,?,?) ON CONFLICT(feed) DO UPDATE "
        "SET first=min(first, excluded.first), last=max(last, excluded.last)",
        (feed, min(sequences), max(sequences)),
    )
    return Hole(*connection.execute("SELECT first, last FROM erased WHERE feed=?", (feed,)).fetchone())


def _forget(connection: sqlite3.Connection, feed: str) -> _Done:
    """Drop the rows of a feed whose texts are erased; part of a writer's job.

    A feed that was forked or added to meanwhile is left alone.
    """
    tip = read_tip(connection, feed)
    if tip is None:
        return _Done(Erased(0, 0), [], {feed: None}, set())
    if tip.state or tip.messages:
        return _Done(Erased(0, 0), [], {}, set())
    rows = connection.execute("SELECT position, key FROM message WHERE author=?", (tip.number,)).fetchall()
    end = last_position(connection)
    gone = [(position,) for position, _ in rows if position != end]
    MESSAGE_KEY.remove(connection, [(key8(key), position) for position, key in rows])
    connection.executemany("DELETE FROM message WHERE position=?", gone)
    connection.executemany("DELETE FROM hidden_message WHERE position=?", gone)
    connection.execute("DELETE FROM claimed_time WHERE author=?", (tip.number,))
    if len(gone) < len(rows):  # a position is never given twice: the last one keeps a row that stands for no message
        connection.execute("UPDATE message SET sequence=-position, key=? WHERE position=?", (_NO_KEY, end))
        MESSAGE_KEY.insert(connection, [(key8(_NO_KEY), end)])
    connection.execute("DELETE FROM erased WHERE feed=?", (tip.number,))
    hiding.show_feed(connection, feed)
    tip = tip._replace(sequence=0, key=_NO_KEY, bytes=0)
    connection.execute("UPDATE feed SET sequence=0, key=?, bytes=0 WHERE id=?", (tip.key, tip.number))
    return _Done(Erased(0, 0), [tip], {feed: None}, set())


def _chunks(positions: Iterable[int]) -> Iterator[list[int]]:
    some: list[int] = []
    for position in positions:
        some.append(position)
        if len(some) == CHUNK:
            yield some
            some = []
    if some:
        yield some
