"""View: who follows and who blocks whom; in tables for the next start, in memory for everyone who asks.

The newest contact message of a source about a destination counts, wholly (protocol.md section 11). Rules and distances
are in `contact_graph`; here they meet the log.
"""

import sqlite3
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Final, Protocol, cast

from feeds.contact_graph import ContactGraph, Edge
from feeds.content import FoundLink, read_contact
from feeds.log_rows import Extract
from feeds.message import Message
from feeds.views.interning import intern

if TYPE_CHECKING:  # whoever judges messages needs `extract` alone, in processes that are to start quickly
    from feeds.database import Database

__all__ = ["Change", "Contacts", "SocialGraph", "extract"]

Change = list[tuple[str, str, Edge]]
"""Edges that a transaction set: source, destination, edge."""
HOPS_KEPT: Final = 16


def extract(message: Message, _: Sequence[FoundLink]) -> tuple[str, int] | None:
    """Destination and edge of a contact message."""
    contact = read_contact(message.content)
    return None if contact is None else (contact.feed, int(contact.relation))


class Contacts:
    """Puts edges into the tables below; what `apply` returns goes to `SocialGraph.changed`."""

    name: Final = "social_graph"
    version: Final = 1
    tables: Final = ("contact", "contact_feed")
    schema: Final = (
        "CREATE TABLE contact_feed(id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE)",
        "CREATE TABLE contact(source INTEGER NOT NULL, destination INTEGER NOT NULL, edge INTEGER NOT NULL, "
        "position INTEGER NOT NULL, PRIMARY KEY(source, destination)) WITHOUT ROWID",
    )

    extract = staticmethod(extract)

    def apply(self, connection: sqlite3.Connection, rows: Sequence[Extract]) -> Change:
        newest: dict[tuple[str, str], tuple[int, int]] = {}
        for position, source, (destination, edge), _, _ in rows:
            newest[source, destination] = edge, position
        numbers = intern(connection, "contact_feed", (feed for pair in newest for feed in pair))
        connection.executemany(
            "INSERT OR REPLACE INTO contact VALUES(?,?,?,?)",
            [(numbers[a], numbers[b], edge, position) for (a, b), (edge, position) in newest.items()],
        )
        return [(source, destination, Edge(edge)) for (source, destination), (edge, _) in newest.items()]


class ChangeSource(Protocol):
    """Who tells what a view's `apply` returned once that is committed: the indexer."""

    def subscribe(self, view: str, callback: Callable[[object], None]) -> None: ...

    def when_rebuilt(self, view: str, callback: Callable[[], None]) -> None: ...


class SocialGraph:
    """The graph in memory, changed right after each commit that changed an edge. Made by `open`."""

    def __init__(self) -> None:
        self._graph: Final = ContactGraph()
        self._subscribers: Final[list[Callable[[], None]]] = []
        self._hops: Final[dict[tuple[str, int], dict[str, int]]] = {}
        self._revision = 0

    @classmethod
    async def open(cls, database: "Database", indexer: "ChangeSource") -> "SocialGraph":
        """Load the edges that the view's tables hold, and follow the indexer from here on."""
        graph = cls()
        # In this turn of the event loop: no commit is announced in between.
        graph.changed(database.peek(_edges))
        indexer.subscribe(Contacts.name, lambda change: graph.changed(cast(Change, change)))
        indexer.when_rebuilt(Contacts.name, lambda: graph.replace(database.peek(_edges)))
        return graph

    @property
    def revision(self) -> int:
        """Grows with every commit that changed an edge."""
        return self._revision

    def subscribe(self, callback: Callable[[], None]) -> Callable[[], None]:
        """Call back after each change of `revision`, in the event loop; the answer ends the subscription."""
        self._subscribers.append(callback)
        return lambda: self._subscribers.remove(callback)

    def changed(self, change: Change) -> None:
        """Take over the edges that a committed transaction set."""
        if sum(self._graph.set(*edge) for edge in change):
            self._announce()

    def _announce(self) -> None:
        self._revision += 1
        self._hops.clear()
        for callback in tuple(self._subscribers):
            callback()

    def replace(self, change: Change) -> None:
        """Take over all edges there are, in place of those known."""
        if set(change) == set(self._graph.items()):
            return
        self._graph.clear()
        for edge in change:
            self._graph.set(*edge)
        self._announce()

    def hops(self, me: str, maximum: int) -> dict[str, int]:
        """Distances from a feed as `ContactGraph.hops` explains them; shared by all callers, so not to be changed."""
        distances = self._hops.get((me, maximum))
        if distances is None:
            if len(self._hops) >= HOPS_KEPT:
                self._hops.clear()
            distances = self._hops[me, maximum] = self._graph.hops(me, maximum)
        return distances

    def is_following(self, source: str, destination: str) -> bool:
        return self._graph.edge(source, destination) is Edge.FOLLOW

    def is_blocking(self, source: str, destination: str) -> bool:
        return self._graph.edge(source, destination) is Edge.BLOCK

    def follows(self, feed: str) -> list[str]:
        """Whom this feed follows."""
        return self._graph.destinations(feed, Edge.FOLLOW)

    def blocks(self, feed: str) -> list[str]:
        """Whom this feed blocks."""
        return self._graph.destinations(feed, Edge.BLOCK)

    def followers(self, feed: str) -> list[str]:
        """Who follows this feed."""
        return self._graph.sources(feed, Edge.FOLLOW)

    def blockers(self, feed: str) -> list[str]:
        """Who blocks this feed."""
        return self._graph.sources(feed, Edge.BLOCK)

    def edges(self) -> dict[str, dict[str, int]]:
        """The whole graph: source, destination, 1 follow, -1 block, -2 explicitly neither."""
        graph: dict[str, dict[str, int]] = {}
        for source, destination, edge in self._graph.items():
            graph.setdefault(source, {})[destination] = int(edge)
        return graph


def _edges(connection: sqlite3.Connection) -> Change:
    rows = connection.execute(
        "SELECT s.name, d.name, c.edge FROM contact c JOIN contact_feed s ON s.id=c.source "
        "JOIN contact_feed d ON d.id=c.destination ORDER BY c.source, c.destination"
    )
    return [(source, destination, Edge(edge)) for source, destination, edge in rows]
