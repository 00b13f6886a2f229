"""A whole store (database, log, views, door) in a temporary folder, wired as the node wires it."""

import sqlite3
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from feeds.database import Component, Database
from feeds.erasing import Erasing
from feeds.formats.registry import format_of_feed
from feeds.indexer import Indexer, View
from feeds.ingest import Ingest
from feeds.keys import Keypair
from feeds.live import Live
from feeds.log import Log
from feeds.mailbox import Mailbox
from feeds.migrations import FEEDS
from feeds.openings import OPENINGS
from feeds.private.key_ring import KeyRing
from feeds.publisher import Publisher
from feeds.views.blob_references import BlobReferences
from feeds.views.channels import Channels
from feeds.views.links import Links
from feeds.views.message_types import MessageTypes, positions
from feeds.views.private_index import PrivateIndex
from feeds.views.profiles import Profiles
from feeds.views.search import Search
from feeds.views.social_graph import Contacts, SocialGraph
from feeds.views.threads import Threads
from feeds.views.timeline import Timeline
from feeds.views.votes import Votes
from tests.support import builders

VIEWS: tuple[View, ...] = (
    Contacts(),
    MessageTypes(),
    Links(),
    PrivateIndex(),
    Timeline(),
    Threads(),
    Votes(),
    Channels(),
    Profiles(),
    BlobReferences(),
    Search(),
)


class FailingConnection(sqlite3.Connection):
    """A write connection that raises at statement number `fail_at`, counted from the last `arm`; then works again."""

    fail_at: ClassVar[int | None] = None
    error: ClassVar[str] = "SQLITE_IOERR"
    seen: ClassVar[int] = 0

    @classmethod
    def arm(cls, fail_at: int | None, error: str = "SQLITE_IOERR") -> None:
        cls.fail_at, cls.error, cls.seen = fail_at, error, 0

    def _count(self) -> None:
        type(self).seen += 1
        if type(self).seen == type(self).fail_at:
            error = sqlite3.OperationalError("made to fail")
            error.sqlite_errorname = type(self).error
            raise error

    def execute(self, *args: Any) -> sqlite3.Cursor:
        self._count()
        return super().execute(*args)

    def executemany(self, *args: Any) -> sqlite3.Cursor:
        self._count()
        return super().executemany(*args)


class Ticking:
    """A clock that moves only when it is read: one second a reading."""

    def __init__(self, start: float = 1_600_000_000.0) -> None:
        self.at = start

    def __call__(self) -> float:
        self.at += 1.0
        return self.at


@dataclass(slots=True)
class Store:
    """What a node has of `feeds`; own is the key that `ingest.publish` signs with."""

    database: Database
    log: Log
    indexer: Indexer
    graph: SocialGraph
    live: Live
    publisher: Publisher
    ingest: Ingest
    mailbox: Mailbox
    erasing: Erasing
    own: Keypair

    def dump(self, tables: Sequence[str]) -> dict[str, list[tuple[object, ...]]]:
        """Every row of some tables, in order of their key."""
        return {
            table: self.database.peek(lambda connection, t=table: sorted(connection.execute(f"SELECT * FROM {t}")))  # type: ignore[misc]
            for table in tables
        }


@asynccontextmanager
async def open_store(
    folder: Path,
    *,
    own: Keypair | None = None,
    hmac_key: bytes | None = None,
    components: Sequence[Component] = (),
    views: Sequence[View] = VIEWS,
    factory: type[sqlite3.Connection] = sqlite3.Connection,
    workers: int | None = None,
    processes: bool | None = None,
    now: Callable[[], float] | None = None,
    catch_up: bool = True,
) -> AsyncIterator[Store]:
    """Open or create the store in a folder; closed in order at the end."""
    own = own or builders.keypair("own")
    database = await Database.open(folder / "sbot.db", [FEEDS, OPENINGS, *components], factory=factory)
    try:
        log = await Log.open(database, type_index=positions)
        indexer = await Indexer.open(database, views)
        graph = await SocialGraph.open(database, indexer)
        if catch_up:
            await indexer.catch_up()
        mailbox = Mailbox(database, KeyRing([own]))
        live = Live(log.position)
        publisher = Publisher(own, format_of_feed(own.id), hmac_key=hmac_key)
        ingest = Ingest(
            database,
            log=log,
            indexer=indexer,
            live=live,
            publisher=publisher,
            hmac_key=hmac_key,
            workers=workers,
            processes=processes,
            now=now or Ticking(),
        )
        try:
            erasing = Erasing(database, log, indexer, own.id)
            yield Store(database, log, indexer, graph, live, publisher, ingest, mailbox, erasing, own)
        finally:
            await ingest.close()
    finally:
        await database.close()
