"""The feeds half of a node, opened in order and closed in the opposite one."""

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Callable, Collection, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from sqlite3 import Connection

from api.idempotency import IDEMPOTENCY
from api.tokens import TOKENS
from api.webhook_store import WEBHOOKS
from feeds.blobs import BLOBS, BlobLimits, Blobs
from feeds.database import Database
from feeds.early_posts import EARLY_POSTS, EarlyPosts
from feeds.erasing import Erasing
from feeds.errors import StoreError
from feeds.formats.base import FeedFormat
from feeds.formats.registry import format_of_feed
from feeds.indexer import Indexer, View
from feeds.ingest import Ingest
from feeds.install import PUBLISHING
from feeds.keys import Keypair
from feeds.live import Live
from feeds.log import Log
from feeds.mailbox import Mailbox
from feeds.migrations import FEEDS
from feeds.openings import OPENINGS
from feeds.private.key_ring import KeyRing
from feeds.publisher import Publisher
from feeds.publishing import Publishing
from feeds.publishing_mark import MarkKeeper
from feeds.retention import Retention
from feeds.views import message_types
from feeds.views.blob_references import BlobReferences, is_named_by
from feeds.views.channels import Channels
from feeds.views.links import Links
from feeds.views.message_types import MessageTypes
from feeds.views.private_index import PrivateIndex
from feeds.views.profiles import Profiles
from feeds.views.search import Search
from feeds.views.social_graph import Contacts, SocialGraph
from feeds.views.threads import Threads
from feeds.views.timeline import Timeline
from feeds.views.votes import Votes
from replication.migrations import REPLICATION
from replication.offline import Bundles
from replication.room_membership import ROOMS

log = logging.getLogger("node.store")

COMPONENTS = (FEEDS, PUBLISHING, OPENINGS, BLOBS, EARLY_POSTS, REPLICATION, ROOMS, IDEMPOTENCY, TOKENS, WEBHOOKS)
RETRY_VIEWS = 60.0
FARTHEST = 32
"""Follows; what is further away counts as out of reach."""


@dataclass(frozen=True, slots=True)
class Store:
    """What of `feeds` the rest of the node uses."""

    database: Database
    log: Log
    live: Live
    ingest: Ingest
    indexer: Indexer
    graph: SocialGraph
    blobs: Blobs
    bundles: Bundles
    mailbox: Mailbox
    publishing: Publishing
    erasing: Erasing
    retention: Retention
    own_format: FeedFormat
    early: EarlyPosts


@asynccontextmanager
async def open_store(
    path: Path,
    keypair: Keypair,
    *,
    hmac_key: bytes | None,
    now: Callable[[], float],
    monotonic: Callable[[], float] = time.monotonic,
    own_pubs: Collection[str] = (),
    blob_limits: BlobLimits | None = None,
) -> AsyncIterator[Store]:
    """Open the database, the blobs beside it, and everything that reads and writes them. Raises StoreError.

    now -- seconds since 1970; monotonic -- seconds of a clock that never goes back; own_pubs -- peers whose word
    alone is enough to unlock our feed.
    """
    database = await Database.open(path, COMPONENTS)
    try:
        receive_log = await Log.open(database, type_index=message_types.positions)
        indexer = await Indexer.open(database, views())
        graph = await SocialGraph.open(database, indexer)
        mailbox = Mailbox(database, KeyRing([keypair]))
        blobs = await Blobs.open(
            path.with_name("blobs"), database, now=now, limits=blob_limits, is_ours=_named_by(keypair.id)
        )
        live = Live(receive_log.position)
        own_format = format_of_feed(keypair.id)
        mark = MarkKeeper(path.parent, keypair.id)
        early = await EarlyPosts.open(database, receive_log, own_format, hmac_key=hmac_key, now=now)
        publisher = Publisher(keypair, own_format, hmac_key=hmac_key, mark=mark)
        publishing = await Publishing.open(
            path.parent, database, receive_log, publisher, mark, now=monotonic, wall=now, own_pubs=own_pubs
        )
        ingest = Ingest(
            database, log=receive_log, indexer=indexer, live=live, publisher=publisher, hmac_key=hmac_key, now=now
        )
        bundles = Bundles(
            database=database,
            log=receive_log,
            ingest=ingest,
            blobs=blobs,
            graph=graph,
            keypair=keypair,
            now=now,
        )
        erasing = Erasing(database, receive_log, indexer, keypair.id)
        retention = Retention(
            database, indexer, erasing, mailbox, own=keypair.id, distances=_distances(database, graph, keypair.id)
        )
        watching = asyncio.create_task(publishing.run(), name="own feed")
        catching_up = asyncio.create_task(_catch_up(indexer, ingest, mailbox, live), name="views catch up")
        try:
            yield Store(
                database=database,
                log=receive_log,
                live=live,
                ingest=ingest,
                indexer=indexer,
                graph=graph,
                blobs=blobs,
                bundles=bundles,
                mailbox=mailbox,
                publishing=publishing,
                erasing=erasing,
                retention=retention,
                own_format=own_format,
                early=early,
            )
        finally:
            catching_up.cancel()
            watching.cancel()
            await asyncio.gather(catching_up, watching, return_exceptions=True)
            await blobs.close()
            await ingest.close()
    finally:
        await database.close()


@asynccontextmanager
async def open_indexer(path: Path) -> AsyncIterator[Indexer]:
    """The views alone, for care of a store that no node has open. Raises StoreError."""
    database = await Database.open(path, COMPONENTS)
    try:
        yield await Indexer.open(database, views())
    finally:
        await database.close()


def views() -> list[View]:
    """Every view of a node, new."""
    return [
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
    ]


def _named_by(author: str) -> Callable[[Connection, str], bool]:
    """Whether a message of this author names a blob, which is then as good as its own."""
    return lambda connection, blob: is_named_by(connection, author, blob)


def _distances(database: Database, graph: SocialGraph, me: str) -> Callable[[], Mapping[str, float]]:
    """How far feeds are away; those that were asked for by hand count as followed."""
    asked = "SELECT feed FROM feed_request WHERE replicate=1"

    def distances() -> Mapping[str, float]:
        found: dict[str, float] = {feed: hops for feed, hops in graph.hops(me, FARTHEST).items() if hops >= 0}
        for (feed,) in database.peek(lambda connection: connection.execute(asked).fetchall()):
            found[feed] = min(1, found.get(feed, 1))
        return found

    return distances


async def _catch_up(indexer: Indexer, ingest: Ingest, mailbox: Mailbox, live: Live) -> None:
    """Bring new or changed views to the end of the log while the node already works, then open what is for us."""
    await _catch_up_views(indexer)
    await asyncio.gather(_open_private(mailbox, live), _follow_views(indexer, ingest))


async def _open_private(mailbox: Mailbox, live: Live) -> None:
    try:
        await mailbox.follow(live)
    except StoreError as error:
        log.error("private messages are opened only when somebody asks for them: %s", error)


async def _follow_views(indexer: Indexer, ingest: Ingest) -> None:
    """Keep up the views that are left behind while much comes in."""
    while True:
        try:
            await indexer.follow(arriving=lambda: ingest.arriving)
        except StoreError as error:
            log.error("the views could not be brought up to date: %s", error)
            await asyncio.sleep(RETRY_VIEWS)


async def _catch_up_views(indexer: Indexer) -> None:
    if behind := indexer.behind:
        log.info("making views anew: %s", ", ".join(sorted(behind)))
        try:
            await indexer.catch_up()
        except StoreError as error:
            log.error("the views could not be brought up to date: %s", error)
        else:
            log.info("all views are up to date")
