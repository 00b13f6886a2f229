"""Whole nodes in one process, and peers of our own making to talk to them: everything over loopback sockets."""

import asyncio
import random
import time
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from feeds.blobs import BLOBS, Blobs
from feeds.early_posts import EARLY_POSTS, EarlyPosts
from feeds.formats.registry import format_of_feed
from feeds.keys import Keypair
from feeds.message import JsonObject
from replication.address_book import AddressBook
from replication.backoff import Backoff
from replication.blob_exchange import BlobExchange
from replication.blob_wants import Fetch
from replication.budget import Budgets
from replication.connections import Connections
from replication.inviting import Inviting
from replication.limits import DEFAULT_LIMITS, Limits
from replication.methods.services import MethodServices
from replication.methods.table import all_methods
from replication.migrations import REPLICATION
from replication.peer import Peer, PeerConfig, connect_local, connect_peer
from replication.policy import Strangers
from replication.replicator import Clocks, Replicator
from replication.room_membership import ROOMS
from replication.room_server import RoomServer
from replication.rooms import DIAL_SECONDS, Guests, Rooms
from replication.rpc.connection import RpcConnection
from replication.rpc.methods import Method, MethodTable
from replication.schedule import Rules
from replication.sign_in import SignIn
from tests.support import builders
from tests.support.stores import Store, open_store

QUICK = Backoff(minimum=0.05, maximum=0.2, steady=0.2)


@dataclass(slots=True)
class Node:
    """One node with everything but HTTP."""

    store: Store
    replicator: Replicator
    connections: Connections
    book: AddressBook
    table: MethodTable
    socket: Path
    sign_in: SignIn
    blobs: Blobs
    blob_exchange: BlobExchange
    inviting: Inviting
    rooms: Rooms
    early: EarlyPosts

    @property
    def id(self) -> str:
        return self.store.own.id

    @property
    def address(self) -> str:
        return self.connections.address

    def clock(self) -> dict[str, int]:
        return self.store.log.clock()

    async def publish(self, content: JsonObject) -> str:
        return (await self.store.ingest.publish(content)).id

    async def post(self, text: str = "hello") -> str:
        return await self.publish({"type": "post", "text": text})

    async def follow(self, *feeds: str) -> None:
        for feed in feeds:
            await self.publish({"type": "contact", "contact": feed, "following": True})

    async def block(self, feed: str) -> None:
        await self.publish({"type": "contact", "contact": feed, "blocking": True})

    async def take(self, texts: Sequence[bytes]) -> None:
        """Store messages as if somebody had delivered them."""
        report = await self.store.ingest.add(texts, source="test")
        assert not report.rejections, report.rejections

    async def want(self, feeds: Iterable[str]) -> None:
        await self.replicator.request_all(dict.fromkeys(feeds, True))


@asynccontextmanager
async def open_node(
    folder: Path,
    name: str,
    *,
    hops: int = 3,
    limits: Limits = DEFAULT_LIMITS,
    without: Iterable[tuple[str, ...]] = (),
    port: int = 0,
    fetch: Fetch = Fetch.ALL,
    strangers: Strangers = Strangers.ANYONE,
    rules: Rules | None = None,
    budgets: Budgets | None = None,
    clocks: Clocks | None = None,
    only_messages: bool = False,
    external: str = "",
    room: str = "",
    guests: Guests = Guests.ANYONE,
) -> AsyncIterator[Node]:
    """A running node that listens on loopback. `without` names methods that it does not serve, as older peers do.

    `room` is the name of the room that it is for others.
    """
    keypair = builders.keypair(name)
    clocks = clocks or Clocks(now=time.monotonic, wall=time.time, random=random.Random(name).random)
    path = folder / name
    path.mkdir(exist_ok=True)
    async with open_store(
        path, own=keypair, components=[REPLICATION, ROOMS, BLOBS, EARLY_POSTS], now=time.time
    ) as store:
        blobs = await Blobs.open(path / "blobs", store.database, now=clocks.wall)
        early = await EarlyPosts.open(store.database, store.log, format_of_feed(keypair.id), now=clocks.wall)
        replicator = await Replicator.open(
            keypair.id,
            database=store.database,
            log=store.log,
            ingest=store.ingest,
            live=store.live,
            graph=store.graph,
            feed_format=format_of_feed(keypair.id),
            clocks=clocks,
            max_hops=hops,
            limits=limits,
            budgets=budgets,
            early=None if only_messages else early,
            want_blobs=blobs.want_all,
        )
        book = AddressBook(store.database, clocks.wall)
        await book.load()
        blob_exchange = BlobExchange(
            blobs,
            database=store.database,
            log=store.log,
            live=store.live,
            policy=lambda: replicator.policy,
            now=clocks.now,
            limits=limits,
            fetch=fetch,
            spending=replicator.spending,
            on_spent=replicator.spent,
        )
        hub: list[Connections] = []
        inviting = await Inviting.open(
            keypair,
            store.database,
            ingest=store.ingest,
            graph=store.graph,
            hub=lambda: hub[0],
            external=external,
            wall=clocks.wall,
            routed=list,
        )
        rooms = Rooms(keypair.id, is_following=store.graph.is_following, guests=guests, limits=limits)
        services = MethodServices(
            me=keypair.id,
            version="0.0.test",
            database=store.database,
            log=store.log,
            indexer=store.indexer,
            ingest=store.ingest,
            live=store.live,
            graph=store.graph,
            blobs=blobs,
            blob_exchange=blob_exchange,
            mailbox=store.mailbox,
            replicator=replicator,
            sign_in=SignIn(keypair, now=clocks.now),
            hub=lambda: hub[0],
            wall_clock=clocks.wall,
            inviting=inviting,
            rooms=rooms,
            room_server=RoomServer(keypair.id, room, limits=limits) if room else None,
        )
        table, lacking = MethodTable(), set(without)
        for method in all_methods(services, table.manifest, limits=limits):
            if method.name not in lacking:
                table.add(method)
        connections = Connections(
            keypair,
            table,
            replicator=replicator,
            book=book,
            clocks=clocks,
            limits=limits,
            backoff=QUICK,
            strangers=strangers,
            rules=rules,
            blob_exchange=None if only_messages else blob_exchange,
        )
        connections.admit_also(inviting.invites.is_open)
        connections.give_rights(inviting.invites.rights_of)
        rooms.attach(connections)
        connections.add_dialler("tunnel", rooms.dial, patience=DIAL_SECONDS)
        hub.append(connections)
        node = Node(
            store,
            replicator,
            connections,
            book,
            table,
            path / "socket",
            services.sign_in,
            blobs,
            blob_exchange,
            inviting,
            rooms,
            early,
        )
        parts = [replicator.run(), blob_exchange.run(), *([] if only_messages else [rooms.run()])]
        running = [asyncio.create_task(part) for part in parts]
        try:
            await connections.start([("127.0.0.1", port)], socket_path=node.socket)
            yield node
        finally:
            await connections.stop()
            for task in running:
                task.cancel()
            await asyncio.gather(*running, return_exceptions=True)
            await replicator.close()
            await blobs.close()


@asynccontextmanager
async def stranger(node: Node, name: str = "stranger", methods: Iterable[Method] = ()) -> AsyncIterator[RpcConnection]:
    """A peer of the test's own that dialled the node, serving only `methods`."""
    config = PeerConfig(keypair=builders.keypair(name), table=MethodTable(methods))
    async with _running(await connect_peer(node.address, config)) as connection:
        yield connection


@asynccontextmanager
async def program(node: Node) -> AsyncIterator[RpcConnection]:
    """A program of the node's own user, on its unix socket."""
    config = PeerConfig(keypair=builders.keypair("program"), table=MethodTable())
    async with _running(await connect_local(node.socket, config)) as connection:
        yield connection


@asynccontextmanager
async def _running(peer: Peer) -> AsyncIterator[RpcConnection]:
    running = asyncio.create_task(peer.run())
    try:
        yield peer.connection
    finally:
        await peer.close()
        await running


async def until(condition: Callable[[], object], seconds: float = 20.0) -> None:
    """Wait until something is true; fails the test when it is not in time."""
    loop = asyncio.get_running_loop()
    deadline = loop.time() + seconds
    while not condition():
        assert loop.time() < deadline, "it did not come true in time"
        await asyncio.sleep(0.005)


def bulky(name: str, count: int) -> builders.Feed:
    """A feed of large messages: 7 kB each, to fill the buffers on a way quickly."""
    feed = builders.Feed(key(name))
    for number in range(count):
        feed.append({"type": "post", "text": f"{number} " + "x" * 7000})
    return feed


def key(name: str) -> Keypair:
    """The key pair of the node or stranger of that name."""
    return builders.keypair(name)
