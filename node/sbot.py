"""The composition root: opens the parts of a node in order, wires them, and closes them in the opposite order.

    async with Sbot.open(config) as sbot:
        print(sbot.address)

Nothing here or below is shared between two nodes, so a process can hold several, each with its own data directory.
"""

import asyncio
import logging
import os
import random
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, replace
from typing import Any, cast

import orjson

from api.server import HttpServer
from api.webhooks import Webhooks
from feeds.blobs import BlobLimits
from feeds.keys import Keypair
from feeds.retention_rules import parse_rules
from node import keyfile
from node.config import Config
from node.directory import DataDirectory
from node.doctor import Doctor
from node.errors import NodeError, PortTaken
from node.lock import DirectoryLock
from node.retaining import Retaining
from node.store import Store, open_store
from node.version import VERSION
from node.web import http_port, http_server
from replication.address import Address, parse_address
from replication.address_book import AddressBook
from replication.blob_exchange import BlobExchange
from replication.blob_wants import Fetch
from replication.budget import Budgets
from replication.connections import Connections
from replication.discovery import Discovery
from replication.errors import AddressInUse, LocalError
from replication.explaining import Explainer
from replication.inviting import Inviting
from replication.lan_hearing import TTL as NEIGHBOUR_SECONDS
from replication.methods.services import MethodServices
from replication.methods.table import method_table
from replication.outgoing import diallers
from replication.policy import Strangers
from replication.pub_follower import PubFollower
from replication.replicator import Clocks, Replicator
from replication.room_membership import RoomMembership
from replication.room_server import RoomServer
from replication.rooms import DIAL_SECONDS, Guests, Rooms
from replication.rpc.connection import RpcConnection
from replication.rpc.methods import Caller, MethodTable
from replication.schedule import Quotas, Rules
from replication.sign_in import SignIn
from replication.web_json import WebJson

log = logging.getLogger("node.sbot")

LOOPBACK = {"0.0.0.0": "127.0.0.1", "::": "127.0.0.1"}  # noqa: S104 - compared with, not bound to
"""What to call a node that listens on every address, from this machine."""


@dataclass(frozen=True, slots=True)
class Sbot:
    """A running node."""

    config: Config
    directory: DataDirectory
    keypair: Keypair
    store: Store
    replicator: Replicator
    blob_exchange: BlobExchange
    connections: Connections
    http: HttpServer
    _replication: "asyncio.Task[None]"

    @classmethod
    @asynccontextmanager
    async def open(
        cls, config: Config, *, clocks: Clocks | None = None, keypair: Keypair | None = None
    ) -> AsyncIterator["Sbot"]:
        """Open a node; on leaving, close it in order. Raises NodeError and its kinds, or StoreError.

        keypair -- what the key file holds, where it was read already, as one that asks for a passphrase.
        """
        times = clocks or Clocks(now=time.monotonic, wall=time.time, random=random.random)
        directory = DataDirectory(config.path)
        directory.make()
        async with AsyncExitStack() as stack:
            stack.callback(DirectoryLock.acquire(directory.lock).release)
            keypair = keypair or keyfile.load_or_create(directory.secret)
            token = directory.http_token()
            directory.write_settings(config.config)
            listener = stack.enter_context(http_port(config))
            store = await stack.enter_async_context(
                open_store(
                    directory.database,
                    keypair,
                    hmac_key=config.hmac_key,
                    now=times.wall,
                    monotonic=times.now,
                    own_pubs=config.own_pubs,
                    blob_limits=BlobLimits(max_size=config.blob_max_bytes, quota=config.blob_quota_mib * 1024 * 1024),
                )
            )
            replicator = await _open_replicator(store, config, keypair, times)
            stack.push_async_callback(replicator.close)
            store.publishing.remember(await replicator.remembered(keypair.id))
            replication = await stack.enter_async_context(_running(replicator, "replication"))
            blob_exchange = _blob_exchange(store, replicator, config, times)
            await stack.enter_async_context(_running(blob_exchange, "blobs"))
            sign_in = SignIn(keypair, now=times.now)
            rooms = Rooms(
                keypair.id,
                is_following=store.graph.is_following,
                guests=Guests(config.room_guests),
                limits=config.limits,
            )
            discovery: list[Discovery] = []  # its methods need it, and it needs the port on which we listen
            table, connections, inviting = await _open_connections(
                store, replicator, blob_exchange, config, keypair, times, sign_in, rooms, discovery
            )
            directory.write_manifest(manifest := _manifest(table))
            webhooks = await Webhooks.open(
                store.database, store.log, store.live, version=VERSION, now=times.wall, random=times.random
            )
            http = http_server(
                listener,
                config,
                token=token,
                me=keypair.id,
                store=store,
                replicator=replicator,
                connections=connections,
                explainer=_explainer(store, replicator, blob_exchange, connections),
                sign_in=sign_in,
                inviting=inviting,
                rooms=RoomMembership(
                    keypair,
                    store.database,
                    rooms,
                    WebJson(version=VERSION, private=config.private_web),
                    hub=lambda: connections,
                    wall=times.wall,
                ),
                doctor=Doctor(
                    directory,
                    me=keypair.id,
                    store=store,
                    connections=connections,
                    inviting=inviting,
                    settings=config.config,
                    manifest=manifest,
                    wall=times.wall,
                ),
                webhooks=webhooks,
                table=table,
                clocks=times,
            )
            stack.push_async_callback(_stop_serving, connections, http)
            await stack.enter_async_context(_running(rooms, "rooms"))
            await _listen(connections, config, directory)
            await stack.enter_async_context(_running(_pub_follower(store, replicator, connections), "pub messages"))
            if config.lan:
                discovery.append(_discovery(connections, config, keypair, times))
                await stack.enter_async_context(_running(discovery[0], "discovery"))
            await stack.enter_async_context(webhooks.running())
            if rules := parse_rules(config.retention):
                retaining = Retaining(store.retention, rules, now=times.wall)
                await stack.enter_async_context(_running(retaining, "retention"))
            await http.start()
            sbot = cls(config, directory, keypair, store, replicator, blob_exchange, connections, http, replication)
            stack.callback(directory.clear_ready)
            directory.write_ready(orjson.dumps(sbot.ready()) + b"\n")
            yield sbot

    @property
    def id(self) -> str:
        """Our feed."""
        return self.keypair.id

    @property
    def address(self) -> str:
        """Where peers on this machine can dial; from others the host is this machine's name or address."""
        bound = parse_address(self.connections.address)
        return str(Address.net(LOOPBACK.get(bound.host, bound.host), bound.port, bound.public))

    def ready(self) -> dict[str, Any]:
        """What the ready line says (interfaces.md, "Command line")."""
        return {"event": "ready", "id": self.id, "address": self.address, "http": self.http.url, "pid": os.getpid()}

    async def failure(self) -> None:
        """Wait until a part that must always run has ended by itself. Raises NodeError then."""
        await asyncio.wait([self._replication])
        raise NodeError("The node stopped by an error of its own; its log says more with --log-level debug.")


async def _open_replicator(store: Store, config: Config, keypair: Keypair, clocks: Clocks) -> Replicator:
    return await Replicator.open(
        keypair.id,
        database=store.database,
        log=store.log,
        ingest=store.ingest,
        live=store.live,
        graph=store.graph,
        feed_format=store.own_format,
        clocks=clocks,
        max_hops=config.hops,
        own=store.publishing,
        budgets=_budgets(config),
        limits=config.limits,
        early=store.early,
        want_blobs=store.blobs.want_all,
    )


def _blob_exchange(store: Store, replicator: Replicator, config: Config, clocks: Clocks) -> BlobExchange:
    return BlobExchange(
        store.blobs,
        database=store.database,
        log=store.log,
        live=store.live,
        policy=lambda: replicator.policy,
        now=clocks.now,
        fetch=Fetch(config.blob_fetch),
        spending=replicator.spending,
        on_spent=replicator.spent,
        limits=config.limits,
    )


def _budgets(config: Config) -> Budgets:
    mib = 1024 * 1024
    return Budgets(
        total=config.budget_mib * mib or None,
        peer=config.budget_peer_mib * mib or None,
        hops={hop: size * mib for hop, size in config.budget_hops.items()},
    )


def _explainer(
    store: Store, replicator: Replicator, blob_exchange: BlobExchange, connections: Connections
) -> Explainer:
    return Explainer(
        database=store.database,
        log=store.log,
        graph=store.graph,
        replicator=replicator,
        blob_exchange=blob_exchange,
        hub=connections,
    )


def _pub_follower(store: Store, replicator: Replicator, connections: Connections) -> PubFollower:
    async def hint(address: str, author: str) -> None:
        await connections.hint(address, "pub", kind="pub", origin=author)

    return PubFollower(
        store.database,
        store.log,
        store.live,
        is_wanted=lambda author: author in replicator.policy.wanted,
        hint=hint,
    )


def _discovery(connections: Connections, config: Config, keypair: Keypair, clocks: Clocks) -> Discovery:
    bound = parse_address(connections.address)

    def stage(address: str) -> bool:
        return connections.stage(address, kind="lan", source="lan", ttl=NEIGHBOUR_SECONDS)

    discovery = Discovery(
        keypair,
        config.network_key,
        listening=(bound.host, bound.port),
        stage=stage,
        random=clocks.random,
        limits=config.limits,
    )
    connections.count_also(discovery.breaches)
    return discovery


@asynccontextmanager
async def _running(
    part: Replicator | BlobExchange | PubFollower | Rooms | Discovery | Retaining, name: str
) -> AsyncIterator["asyncio.Task[None]"]:
    """Run a part of the node until the end."""

    async def run() -> None:
        try:
            await part.run()
        except Exception:
            log.exception("%s ended by an error", name)

    task = asyncio.create_task(run(), name=name)
    try:
        yield task
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def _open_connections(
    store: Store,
    replicator: Replicator,
    blob_exchange: BlobExchange,
    config: Config,
    keypair: Keypair,
    clocks: Clocks,
    sign_in: SignIn,
    rooms: Rooms,
    discovery: list[Discovery],
) -> tuple[MethodTable, Connections, Inviting]:
    book = AddressBook(store.database, clocks.wall)
    await book.load()
    hub: list[Connections] = []  # the methods need the hub, which needs the methods
    inviting = await Inviting.open(
        keypair,
        store.database,
        ingest=store.ingest,
        graph=store.graph,
        hub=lambda: hub[0],
        external=config.external,
        wall=clocks.wall,
    )
    table = method_table(
        MethodServices(
            me=keypair.id,
            version=VERSION,
            database=store.database,
            log=store.log,
            indexer=store.indexer,
            ingest=store.ingest,
            live=store.live,
            graph=store.graph,
            blobs=store.blobs,
            blob_exchange=blob_exchange,
            mailbox=store.mailbox,
            replicator=replicator,
            sign_in=sign_in,
            hub=lambda: hub[0],
            wall_clock=clocks.wall,
            publishing=store.publishing,
            inviting=inviting,
            rooms=rooms,
            discovery=lambda: next(iter(discovery), None),
            room_server=RoomServer(keypair.id, config.room, limits=config.limits) if config.room else None,
        ),
        limits=config.limits,
    )
    connections = Connections(
        keypair,
        table,
        replicator=replicator,
        book=book,
        clocks=clocks,
        network_key=config.network_key,
        limits=config.limits,
        blob_exchange=blob_exchange,
        strangers=Strangers(config.strangers),
        rules=Rules(
            quotas=replace(Quotas(), **config.dial_quotas),
            autoconnect=config.autoconnect,
            strangers=config.strangers == Strangers.ANYONE,
        ),
    )
    connections.admit_also(inviting.invites.is_open)
    connections.give_rights(inviting.invites.rights_of)
    rooms.attach(connections)
    connections.count_also(rooms.breaches)
    connections.add_dialler("tunnel", rooms.dial, patience=DIAL_SECONDS)
    proxied = config.socks is not None and config.socks_for == "all"
    for transport, dialler in diallers(config.socks, proxy_for_all=proxied, limits=config.limits).items():
        slow = proxied or transport == "onion"
        connections.add_dialler(transport, dialler, patience=config.limits.socks_timeout if slow else None)
    hub.append(connections)
    return table, connections, inviting


def _manifest(table: MethodTable) -> bytes:
    """What the node's own user may call, for programs that read manifest.json as old sbots wrote it."""
    user = Caller(id=None, local=True, connection=cast(RpcConnection, None))  # asked only what it may, never spoken to
    return orjson.dumps(table.manifest(user), option=orjson.OPT_INDENT_2) + b"\n"


async def _listen(connections: Connections, config: Config, directory: DataDirectory) -> None:
    try:
        await connections.start(
            [(config.host, config.port)],
            socket_path=directory.socket,
            websockets=() if config.ws_port is None else [(config.host, config.ws_port)],
        )
    except AddressInUse as error:
        if str(directory.socket) in str(error):
            raise NodeError(f"{error}; stop that process, or choose another directory with --path.") from None
        reason = "address already in use"
        if config.ws_port and f"port {config.ws_port} " in str(error):
            raise PortTaken(host=config.host, port=config.ws_port, flag="--ws-port", reason=reason) from None
        raise PortTaken(host=config.host, port=config.port, flag="--port", reason=reason) from None
    except LocalError as error:
        raise NodeError(f"{error}; choose another address with --host.") from None


async def _stop_serving(connections: Connections, http: HttpServer) -> None:
    """Peers and web clients at once: each takes its time to say goodbye, and there are five seconds for all."""
    await asyncio.gather(connections.stop(), http.stop())
