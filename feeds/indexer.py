"""Keeps the derived tables (views) in step with the log.

A view is applied in the transaction that appends, so a reader never waits for an index. Each view has a version and a
position in the `view` table; when the version of its code is another, its tables are made anew and brought up in
chunks, each a transaction of its own, while the node goes on: `behind` says how far it still has to go. A view that is
behind is left out of append transactions until a chunk has reached the end of the log. A view that may lag is left out
of those that append much at once, and brought up once less comes in. `rebuild` makes views anew on demand:
what is kept of one in memory stays as it is until the view is whole again.
"""

import asyncio
import logging
import sqlite3
from collections.abc import Callable, Collection, Sequence
from typing import Final, NamedTuple, Protocol, TypeAlias

from feeds.content import FoundLink, links
from feeds.database import Database
from feeds.errors import FeedsError
from feeds.formats.registry import format_of_feed
from feeds.log import Appended, Extract
from feeds.message import Message

__all__ = ["MUCH", "Effect", "Extractor", "Indexer", "View", "make_aside"]

LOG: Final = logging.getLogger(__name__)
CHUNK: Final = 1000
MUCH: Final = 500
"""Messages in one append, or in one second, from which on views that may lag do."""


Extractor: TypeAlias = Callable[[Message, Sequence[FoundLink]], object]
"""What a view keeps of a message and the links in its content; as `View` explains it."""


class View(Protocol):
    """A derived table or a few of them. Views do not know each other.

    `schema` makes what `tables` names (indices go with their table). `extract` says what of a message the view keeps;
    it is a function of a module, may run in another thread or process, and gives only None (nothing), numbers, strings,
    bytes, lists and tuples. It gets the links of the content too, looked for once for all views. `apply` gets what is
    not None, in order of position, never nothing; it must give the same tables whatever the sizes of the batches it
    gets. Neither raises because of what a message contains. What `apply` returns is handed to the subscribers of the
    view's name after the commit; None is nothing to hand on. A view with a true `may_lag` costs so much that it is left
    behind while much comes in; its `extract` is not even called then.
    """

    @property
    def name(self) -> str: ...
    @property
    def version(self) -> int: ...
    @property
    def tables(self) -> Sequence[str]: ...
    @property
    def schema(self) -> Sequence[str]: ...
    @property
    def extract(self) -> Extractor: ...
    def apply(self, connection: sqlite3.Connection, rows: Sequence[Extract]) -> object: ...


class Effect(NamedTuple):
    """What a view did in a transaction, for memory that follows it."""

    view: str
    change: object


class _Progress(NamedTuple):
    positions: dict[str, int]
    effects: list[Effect]


class Indexer:
    """The views of one database. Made by `open`; `catch_up` brings new or changed views to the end of the log."""

    def __init__(self, database: Database, views: Sequence[View], positions: dict[str, int], end: int) -> None:
        self._database: Final = database
        self._views: Final = views
        self._positions: Final = positions
        self._end = end
        self._subscribers: Final[dict[str, list[Callable[[object], None]]]] = {}
        self._lagging: Final = frozenset(view.name for view in views if getattr(view, "may_lag", False))
        self._left_behind: Final = asyncio.Event()
        self._rebuilding: Final[set[str]] = set()
        self._when_rebuilt: Final[dict[str, list[Callable[[], None]]]] = {}

    @classmethod
    async def open(cls, database: Database, views: Sequence[View]) -> "Indexer":
        """Make the tables of views that are new or whose version changed; what they held before is gone."""
        positions, end = await database.write(lambda connection: _prepare(connection, views))
        return cls(database, views, positions, end)

    @property
    def extractors(self) -> list[Extractor]:
        """What each view keeps of a message, in the order in which `apply` expects it."""
        return [view.extract for view in self._views]

    @property
    def lagging(self) -> frozenset[int]:
        """Which of those (by index) are of views that may lag: appends of more than MUCH need no extracts for them."""
        return frozenset(number for number, view in enumerate(self._views) if view.name in self._lagging)

    def subscribe(self, view: str, callback: Callable[[object], None]) -> None:
        """Hand `callback` what the view's `apply` returned, in the event loop after each commit."""
        self._subscribers.setdefault(view, []).append(callback)

    def when_rebuilt(self, view: str, callback: Callable[[], None]) -> None:
        """Call back, in the event loop, whenever a `rebuild` of the view is complete; see there."""
        self._when_rebuilt.setdefault(view, []).append(callback)

    @property
    def names(self) -> list[str]:
        """All views."""
        return [view.name for view in self._views]

    @property
    def position(self) -> int:
        """Where the log ends."""
        return self._end

    async def rebuild(self, names: Collection[str] = ()) -> list[str]:
        """Empty views (all, if none is named), so that `follow` or `catch_up` makes them anew; which ones those are.

        Until then their effects are handed to nobody: they would play the past through once more. KeyError for a name
        that is no view's.
        """
        by_name = {view.name: view for view in self._views}
        views = [by_name[name] for name in dict.fromkeys(names or by_name)]
        await self._database.write(
            lambda connection: _make(connection, views),
            after_commit=lambda _: self._emptied({view.name for view in views}),
        )
        return [view.name for view in views]

    def _emptied(self, names: set[str]) -> None:
        self._positions.update(dict.fromkeys(names, 0))
        self._rebuilding.update(names)
        self._left_behind.set()
        if not self._end:
            self._progressed(_Progress({}, []))

    @property
    def behind(self) -> dict[str, int]:
        """Views that do not show the whole log yet, and how many positions they lack."""
        return {name: self._end - at for name, at in self._positions.items() if at < self._end}

    def apply(self, connection: sqlite3.Connection, appended: Appended) -> list[Effect]:
        """Apply what was just appended to every view that is up to date; part of the writer's job, in its thread."""
        if not appended.runs:
            return []
        positions = dict(connection.execute("SELECT name, position FROM view"))
        effects = []
        left_out = self._lagging if appended.position - appended.before > MUCH else ()
        known = {tip.ref: tip.number for tip in appended.tips}
        runs = [(first, run.author, known[run.author], run.extracts) for first, run in appended.runs]
        received = appended.received
        for column, view in enumerate(self._views):
            if (
                positions.get(view.name) == appended.before
                and view.name not in left_out
                and all(extracts[column] for _, _, _, extracts in runs)
            ):
                rows = [
                    (position, author, value, number, received)
                    for first, author, number, extracts in runs
                    for position, value in enumerate(extracts[column], first)
                    if value is not None
                ]
                effects.append(_apply(connection, view, rows, appended.position))
        return effects

    def committed(self, appended: Appended, effects: Sequence[Effect]) -> None:
        """Take over what a committed job did; in the event loop."""
        self._end = max(self._end, appended.position)
        for effect in effects:
            self._positions[effect.view] = max(self._positions[effect.view], appended.position)
        if len(effects) < len(self._views):
            self._left_behind.set()
        self._hand_on(effects)

    async def follow(self, *, pause: float = 1.0, arriving: Callable[[], int] = lambda: 0) -> None:
        """Catch up after each append that left a view behind, once little has come in for a pause (seconds).

        arriving -- messages on their way in. While they are many, catching up would only hold them up: it stops after
        a chunk and begins anew later, unless somebody asked for a rebuild.
        Goes on until it is cancelled; StoreError ends it.
        """
        while True:
            await self._left_behind.wait()
            end = self._end
            if not self._rebuilding:
                await asyncio.sleep(pause)
            if self._rebuilding or self._end - end <= MUCH:
                self._left_behind.clear()
                while self.behind:
                    if arriving() > MUCH and not self._rebuilding:
                        self._left_behind.set()
                        break
                    await self._catch_up_some()

    async def catch_up(self) -> None:
        """Bring every view to the end of the log, a chunk a transaction, letting others write in between."""
        while self.behind:
            await self._catch_up_some()

    async def _catch_up_some(self) -> None:
        await self._database.write(self._chunk, after_commit=self._progressed)

    def _chunk(self, connection: sqlite3.Connection) -> _Progress:
        positions: dict[str, int] = dict(connection.execute("SELECT name, position FROM view"))
        after = min(positions[view.name] for view in self._views)
        found, end = _read(connection, after)
        effects = []
        for view in self._views:
            if positions[view.name] < end:
                rows = [
                    (position, message.author, value, number, received)
                    for position, number, received, message, within in found
                    if position > positions[view.name] and (value := view.extract(message, within)) is not None
                ]
                effects.append(_apply(connection, view, rows, end))
                positions[view.name] = end
        return _Progress({view.name: positions[view.name] for view in self._views}, effects)

    def _progressed(self, progress: _Progress) -> None:
        self._positions.update(progress.positions)
        self._hand_on([effect for effect in progress.effects if effect.view not in self._rebuilding])
        for name in self._rebuilding.difference(self.behind):
            self._rebuilding.discard(name)
            for callback in self._when_rebuilt.get(name, ()):
                callback()

    def _hand_on(self, effects: Sequence[Effect]) -> None:
        for effect in effects:
            if effect.change is not None:
                for callback in self._subscribers.get(effect.view, ()):
                    callback(effect.change)


def _apply(connection: sqlite3.Connection, view: View, rows: Sequence[Extract], end: int) -> Effect:
    change = view.apply(connection, rows) if rows else None
    connection.execute("UPDATE view SET position=? WHERE name=?", (end, view.name))
    return Effect(view.name, change)


def _make(connection: sqlite3.Connection, views: Sequence[View]) -> None:
    """Make the tables of views, empty."""
    for view in views:
        for table in view.tables:
            connection.execute(f"DROP TABLE IF EXISTS {table}")
        for statement in view.schema:
            connection.execute(statement)
        connection.execute("INSERT OR REPLACE INTO view VALUES(?,?,0)", (view.name, view.version))


def make_aside(connection: sqlite3.Connection, views: Sequence[View], progress: Callable[[int, int], None]) -> None:
    """Make views whole in an empty database to which that of the log is attached: what a rebuild would give.

    Names without a schema mean the tables made here, and the log's where there is none: so nothing is dropped here.
    progress -- gets the position reached and the last one.
    """
    connection.execute("CREATE TABLE main.view(name TEXT PRIMARY KEY, version INTEGER, position INTEGER)")
    for view in views:
        for statement in view.schema:
            connection.execute(statement)
        connection.execute("INSERT INTO main.view VALUES(?,?,0)", (view.name, view.version))
    (last,) = connection.execute("SELECT max(position) FROM message").fetchone()
    found, end = _read(connection, 0)
    after = -1
    while end > after:
        for view in views:
            extracts = ((row, view.extract(row.message, row.links)) for row in found)
            rows = [
                (row.position, row.message.author, value, row.number, row.received)
                for row, value in extracts
                if value is not None
            ]
            _apply(connection, view, rows, end)
        progress(end, last or 0)
        after = end
        found, end = _read(connection, after)


def _prepare(connection: sqlite3.Connection, views: Sequence[View]) -> tuple[dict[str, int], int]:
    positions = {}
    for view in views:
        row = connection.execute("SELECT version, position FROM view WHERE name=?", (view.name,)).fetchone()
        if row is not None and row[0] == view.version:
            positions[view.name] = row[1]
            continue
        _make(connection, [view])
        positions[view.name] = 0
    (end,) = connection.execute("SELECT max(position) FROM message").fetchone()
    return positions, end or 0


class _ReadBack(NamedTuple):
    position: int
    number: int
    received: int
    message: Message
    links: list[FoundLink]


def _read(connection: sqlite3.Connection, after: int) -> tuple[list[_ReadBack], int]:
    """Read the next messages back from their stored texts; with the position they reach to."""
    found = []
    position = after
    for position, author, number, received, text in connection.execute(
        "SELECT m.position, f.ref, m.author, m.received, m.text FROM message m JOIN feed f ON f.id=m.author "
        "WHERE m.position>? ORDER BY m.position LIMIT ?",
        (after, CHUNK),
    ):
        if not text:
            continue  # erased here
        try:
            message = format_of_feed(author).prepare(text)
            found.append(_ReadBack(position, number, received, message, links(message.content)))
        except FeedsError as error:
            LOG.error("message at position %d cannot be read and is left out of the views: %s", position, error)
    return found, position
