"""Keeps the derived tables (views) in step with the log.

A view is applied in the transaction that appends, so a reader never waits for an index. Each view has a version and a
position in the `view` table; when the version of its code is another, its tables are made anew and brought up in
chunks, each a transaction of its own, while the node goes on: `behind` says how far it still has to go. A view that is
behind is left out of append transactions until a chunk has reached the end of the log.
"""

import logging
import sqlite3
from collections.abc import Callable, Sequence
from typing import Final, NamedTuple, Protocol

from feeds.database import Database
from feeds.errors import FeedsError
from feeds.formats.registry import format_of_feed
from feeds.log import Appended, Row

__all__ = ["Effect", "Indexer", "View"]

LOG: Final = logging.getLogger(__name__)
CHUNK: Final = 1000


class View(Protocol):
    """A derived table or a few of them. Views do not know each other.

    `schema` makes what `tables` names (indices go with their table). `apply` must give the same tables whatever the
    sizes of the batches it gets, and never raises because of what a message contains. What it returns is handed to the
    subscribers of its name after the commit; None is nothing to hand on.
    """

    @property
    def name(self) -> str: ...
    @property
    def version(self) -> int: ...
    @property
    def tables(self) -> Sequence[str]: ...
    @property
    def schema(self) -> Sequence[str]: ...
    def apply(self, connection: sqlite3.Connection, rows: Sequence[Row]) -> object: ...


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

    @classmethod
    async def open(cls, database: Database, views: Sequence[View]) -> "Indexer":
        """Make the tables of views that are new or whose version changed; what they held before is gone."""
        positions, end = await database.write(lambda connection: _prepare(connection, views))
        return cls(database, views, positions, end)

    def subscribe(self, view: str, callback: Callable[[object], None]) -> None:
        """Hand `callback` what the view's `apply` returned, in the event loop after each commit."""
        self._subscribers.setdefault(view, []).append(callback)

    @property
    def behind(self) -> dict[str, int]:
        """Views that do not show the whole log yet, and how many positions they lack."""
        return {name: self._end - at for name, at in self._positions.items() if at < self._end}

    def apply(self, connection: sqlite3.Connection, appended: Appended) -> list[Effect]:
        """Apply what was just appended to every view that is up to date; part of the writer's job, in its thread."""
        if not appended.rows:
            return []
        positions = dict(connection.execute("SELECT name, position FROM view"))
        current = [view for view in self._views if positions.get(view.name) == appended.before]
        effects = [Effect(view.name, view.apply(connection, appended.rows)) for view in current]
        connection.executemany(
            "UPDATE view SET position=? WHERE name=?", [(appended.position, view.name) for view in current]
        )
        return effects

    def committed(self, appended: Appended, effects: Sequence[Effect]) -> None:
        """Take over what a committed job did; in the event loop."""
        self._end = max(self._end, appended.position)
        for effect in effects:
            self._positions[effect.view] = max(self._positions[effect.view], appended.position)
        self._hand_on(effects)

    async def catch_up(self) -> None:
        """Bring every view to the end of the log, a chunk a transaction, letting others write in between."""
        while self.behind:
            await self._database.write(self._chunk, after_commit=self._progressed)

    def _chunk(self, connection: sqlite3.Connection) -> _Progress:
        positions = {
            view.name: connection.execute("SELECT position FROM view WHERE name=?", (view.name,)).fetchone()[0]
            for view in self._views
        }
        after = min(positions.values())
        rows, end = _read_rows(connection, after)
        effects = []
        for view in self._views:
            if positions[view.name] < end:
                new = [row for row in rows if row.position > positions[view.name]]
                effects.append(Effect(view.name, view.apply(connection, new)))
                positions[view.name] = end
                connection.execute("UPDATE view SET position=? WHERE name=?", (end, view.name))
        return _Progress(positions, effects)

    def _progressed(self, progress: _Progress) -> None:
        self._positions.update(progress.positions)
        self._hand_on(progress.effects)

    def _hand_on(self, effects: Sequence[Effect]) -> None:
        for effect in effects:
            if effect.change is not None:
                for callback in self._subscribers.get(effect.view, ()):
                    callback(effect.change)


def _prepare(connection: sqlite3.Connection, views: Sequence[View]) -> tuple[dict[str, int], int]:
    positions = {}
    for view in views:
        row = connection.execute("SELECT version, position FROM view WHERE name=?", (view.name,)).fetchone()
        if row is not None and row[0] == view.version:
            positions[view.name] = row[1]
            continue
        for table in view.tables:
            connection.execute(f"DROP TABLE IF EXISTS {table}")
        for statement in view.schema:
            connection.execute(statement)
        connection.execute("INSERT OR REPLACE INTO view VALUES(?,?,0)", (view.name, view.version))
        positions[view.name] = 0
    (end,) = connection.execute("SELECT max(position) FROM message").fetchone()
    return positions, end or 0


def _read_rows(connection: sqlite3.Connection, after: int) -> tuple[list[Row], int]:
    """Read the next messages back from their stored texts; with the position they reach to."""
    rows = []
    position = after
    for position, author, text in connection.execute(
        "SELECT m.position, f.ref, m.text FROM message m JOIN feed f ON f.id=m.author "
        "WHERE m.position>? ORDER BY m.position LIMIT ?",
        (after, CHUNK),
    ):
        try:
            rows.append(Row(position, format_of_feed(author).prepare(text)))
        except FeedsError as error:
            LOG.error("message at position %d cannot be read and is left out of the views: %s", position, error)
    return rows, position
