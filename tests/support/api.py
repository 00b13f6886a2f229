"""The HTTP application over a real store in a temporary folder, with peers and replication played by fakes."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, cast

import httpx
from fastapi import FastAPI

from api.app import create_app
from api.idempotency import IDEMPOTENCY
from api.server import HttpServer, bind
from api.services import HttpSettings, Services
from api.tokens import TOKENS
from api.webhook_schedule import Patience
from api.webhook_store import WEBHOOKS
from api.webhooks import Webhooks
from feeds.blobs import BLOBS, BlobLimits, Blobs, BlobTotals
from feeds.early_posts import EARLY_POSTS
from feeds.errors import FeedsError, SequenceMismatch
from feeds.keys import Keypair
from feeds.message import JsonValue
from feeds.retention import Retention
from replication.address import Address
from replication.address_book import Remembered
from replication.errors import DialFailed, InvalidAddress, ReplicationError, RoomFailed
from replication.inviting import Inviting
from replication.local_calls import LocalCalls
from replication.migrations import REPLICATION
from replication.offline import Bundles
from replication.peer import Peer
from replication.peer_info import Direction, KnownPeer, PeerEvent, PeerInfo, PeerState, Traffic
from replication.preview import Means, preview
from replication.room_membership import ROOMS, RoomMembership
from replication.rooms import Hub, Rooms
from replication.rpc.methods import MethodTable
from replication.sign_in import SignIn
from replication.web_json import WebJson
from tests.support.stores import Store, Ticking, open_store

TOKEN = "a-token-that-is-only-for-tests"
BLOB_SIZE = 1_000_000
"""The largest blob that is taken here."""


@dataclass
class FakePeers:
    """Connections that exist only on paper."""

    known: list[PeerInfo] = field(default_factory=list)
    dialled: list[str] = field(default_factory=list)
    failure: FeedsError | ReplicationError | None = None
    answer: PeerInfo | None = None
    subscribers: list[Callable[[PeerEvent], None]] = field(default_factory=list)
    answers: dict[str, Callable[[str, Sequence[JsonValue]], object]] = field(default_factory=dict)
    """What methods of a peer answer."""
    addresses: list[KnownPeer] = field(default_factory=list)

    def peers(self) -> list[PeerInfo]:
        return list(self.known)

    def traffic(self) -> Traffic:
        return Traffic(3, 4, 1, 2, {"calls_per_second": 5})

    def known_peers(self) -> list[KnownPeer]:
        return list(self.addresses)

    async def dial(self, address: str) -> PeerInfo:
        self.dialled.append(address)
        if self.failure is not None:
            raise self.failure
        if self.answer is None:
            raise InvalidAddress(f"{address!r} is not a multiserver address")
        self.known.append(self.answer)
        return self.answer

    async def disconnect(self, peer: str) -> bool:
        before = len(self.known)
        self.known = [info for info in self.known if info.id != peer]
        return len(self.known) < before

    async def call(self, peer: str, method: str, args: Sequence[JsonValue]) -> object:
        if isinstance(self.failure, ReplicationError):
            raise self.failure
        return self.answers[method](peer, args)

    def subscribe(self, callback: Callable[[PeerEvent], None]) -> Callable[[], None]:
        self.subscribers.append(callback)
        return lambda: self.subscribers.remove(callback)

    def tell(self, kind: str, info: PeerInfo) -> None:
        for callback in list(self.subscribers):
            callback(PeerEvent(kind, info))


class FakeDoctor:
    """One who finds one thing wrong, and mends another."""

    async def examine(self) -> list[dict[str, Any]]:
        peers = {"state": "failed", "detail": "None is connected.", "advice": "sbot join", "fixable": False}
        rights = {"state": "ok", "detail": "It is private.", "advice": None, "fixable": True}
        return [{"check": "directory", **rights, "fixed": None}, {"check": "peers", **peers, "fixed": None}]

    async def mend(self) -> list[dict[str, Any]]:
        directory, peers = await self.examine()
        return [{**directory, "fixed": "chmod"}, peers]


@dataclass
class FakeHub:
    """A node that listens on loopback, and reaches nobody."""

    public: bytes

    def addresses(self) -> list[str]:
        return [str(Address.net("127.0.0.1", 8008, self.public))]

    async def visit(self, address: Address) -> Peer:
        raise DialFailed("connect", f"nobody answers at {address.host}")

    async def remember(self, address: str, source: str = "manual", *, auto: bool = True, kind: str = "") -> Remembered:
        return Remembered(address, "", source, auto, 1, kind=kind)


@dataclass
class FakeReplication:
    """A replicator that wants what it is asked for and gets nothing."""

    requests: dict[str, bool] = field(default_factory=dict)
    missing: int = 0

    def status(self) -> Mapping[str, Any]:
        feeds = {"wanted": 1, "held": 0, "behind": 0, "forked": 0, "requested": sum(self.requests.values())}
        messages = {"wanted": self.missing, "held": 0, "missing": self.missing, "per_second": 0.0, "seconds_left": None}
        return {"feeds": feeds, "messages": messages, "state": "offline", "hops": 3, "budget": None, "peers": []}

    def feed_status(self, feed: str) -> Mapping[str, Any]:
        return {
            "feed": feed,
            "sequence": 0,
            "wanted": self.requests.get(feed, False),
            "reason": "nobody within reach follows it",
            "requested": self.requests.get(feed),
            "hops": None,
            "state": "not wanted",
            "waits_for": None,
            "lag": 0,
            "source": None,
            "peers": [],
        }

    def preview(self, hops: int, blobs: BlobTotals) -> Mapping[str, Any]:
        return preview(hops, 3, {}, 0, Means(0, 0, 0, blobs.blobs, blobs.blobs, blobs.bytes))

    async def request(self, feed: str, wanted: bool) -> None:
        self.requests[feed] = wanted

    async def unrequest(self, feed: str) -> None:
        self.requests.pop(feed, None)


class FakeExplainer:
    """Knows of nothing."""

    async def why(self, id: str) -> Mapping[str, Any]:
        kind = {"@": "feed", "&": "blob"}.get(id[0], "message")
        return {
            "id": id,
            "kind": kind,
            "held": False,
            "wanted": False,
            "reason": "nobody within reach follows it",
            "path": [],
            "hops": None,
            "offered_by": [],
            "holders": 0,
            "error": None,
            "limit": None,
            "would_change": ["To have it replicated, follow it, or request it."],
        }


@dataclass
class FakeOwnFeed:
    """What is known of our own feed's lock, on paper."""

    store: Store
    sequences: list[int] = field(default_factory=list)
    """Sequences it was unlocked with."""

    def status(self) -> dict[str, Any]:
        ingest, log = self.store.ingest, self.store.log
        sequence = log.sequence(self.store.own.id)
        lock = self.store.publisher.lock
        found = {"state": str(ingest.own_state), "sequence": sequence, "reported_by": 0, "reason": None, "unlock": None}
        if lock is None:
            return found
        reason = {"code": str(lock.reason), "text": lock.text, "since": 1, "peer": None, "sequence": None}
        unlock = {
            "missing": ["a peer"],
            "peers_needed": 2,
            "agreeing": [],
            "complete": [],
            "ahead": [],
            "quiet_seconds": 60.0,
            "way_out": "wait",
        }
        return found | {"reason": reason, "unlock": unlock}

    def reported(self, sequence: int) -> int:
        return 3 if sequence == 1 else 0

    async def history(self, limit: int = 100) -> list[dict[str, Any]]:
        reason = {"reason": "no-mark", "sequence": 1, "peer": None, "claim": None, "detail": "by hand"}
        return [{"at": 1, "kind": "forced"} | reason for _ in self.sequences]

    async def unlock(self, sequence: int) -> None:
        held = self.store.log.sequence(self.store.own.id)
        if sequence != held:
            raise SequenceMismatch(sequence, held)
        self.sequences.append(sequence)
        self.store.publisher.open()


@dataclass
class Api:
    """One node's HTTP side; `client` sends the token."""

    app: FastAPI
    services: Services
    store: Store
    peers: FakePeers
    replication: FakeReplication
    methods: MethodTable
    """What `POST /v1/rpc` finds; empty at first."""
    clock: Ticking
    client: httpx.AsyncClient

    @property
    def me(self) -> str:
        return self.services.me

    async def publish(self, *texts: str) -> list[str]:
        """Publish posts; their ids."""
        return [(await self.store.ingest.publish({"type": "post", "text": text})).id for text in texts]

    async def receive(self, *texts: bytes) -> None:
        """Take in messages of others."""
        report = await self.store.ingest.add(texts, source="test")
        assert not report.rejections, report.rejections

    def stranger(self, **headers: str) -> httpx.AsyncClient:
        """A client without the token."""
        return httpx.AsyncClient(
            transport=httpx.ASGITransport(self.app), base_url="http://127.0.0.1:8989", headers=headers
        )


class FakeRoomHub:
    """A hub of a node that has no network."""

    def rpc_of(self, peer: str) -> None:
        return None

    def remembered(self) -> list[Remembered]:
        return []

    async def reach(self, peer: str) -> PeerInfo:
        raise InvalidAddress(f"no address of {peer} is known")

    async def dial(self, address: str) -> PeerInfo:
        raise DialFailed("connect", "nobody answers")

    async def disconnect(self, peer: str) -> bool:
        return False

    async def forget(self, address: str) -> bool:
        return False

    async def remember(self, address: str, source: str = "manual", *, auto: bool = True, kind: str = "") -> Remembered:
        return Remembered(address, "", source, auto, 1, kind=kind)

    async def set_kind(self, address: str, kind: str) -> None:
        """Nothing is remembered."""


def _rooms(store: Store, clock: Callable[[], float]) -> RoomMembership:
    """Rooms of a node that reaches nobody; the web is not asked either."""
    hub = FakeRoomHub()
    rooms = Rooms(store.own.id, is_following=store.graph.is_following)
    rooms.attach(cast(Hub, hub))
    return RoomMembership(store.own, store.database, rooms, NoWeb(version="1.2.3"), hub=lambda: hub, wall=clock)


class NoWeb(WebJson):
    """No network."""

    async def _ask(self, method: str, url: str, body: bytes | None) -> dict[str, Any]:
        raise RoomFailed("there is no network")


@asynccontextmanager
async def open_api(
    folder: Path, settings: HttpSettings | None = None, *, own: Keypair | None = None
) -> AsyncIterator[Api]:
    """A node's HTTP side over the store in a folder; own -- its identity."""
    clock = Ticking()
    async with open_store(
        folder, own=own, components=[REPLICATION, ROOMS, IDEMPOTENCY, TOKENS, WEBHOOKS, BLOBS, EARLY_POSTS], now=clock
    ) as store:
        peers, replication, methods = FakePeers(), FakeReplication(), MethodTable()
        blobs = await Blobs.open(folder / "blobs", store.database, now=clock, limits=BlobLimits(max_size=BLOB_SIZE))
        webhooks = await Webhooks.open(
            store.database,
            store.log,
            store.live,
            version="1.2.3",
            now=clock,
            random=lambda: 0.0,
            patience=Patience(first=0.01, longest=0.02, failures=4),
            timeout=0.5,
        )
        hub = FakeHub(store.own.public)
        inviting = await Inviting.open(
            store.own,
            store.database,
            ingest=store.ingest,
            graph=store.graph,
            hub=lambda: hub,
            external="",
            wall=clock,
            routed=list,
        )
        services = Services(
            me=store.own.id,
            version="1.2.3",
            token=TOKEN,
            database=store.database,
            log=store.log,
            live=store.live,
            ingest=store.ingest,
            indexer=store.indexer,
            graph=store.graph,
            blobs=blobs,
            bundles=Bundles(
                database=store.database,
                log=store.log,
                ingest=store.ingest,
                blobs=blobs,
                graph=store.graph,
                keypair=store.own,
                now=clock,
            ),
            mailbox=store.mailbox,
            peers=peers,
            replication=replication,
            explainer=FakeExplainer(),
            publishing=FakeOwnFeed(store),
            erasing=store.erasing,
            retention=Retention(
                store.database,
                store.indexer,
                store.erasing,
                store.mailbox,
                own=store.own.id,
                distances=lambda: dict(store.graph.hops(store.own.id, 3)),
            ),
            rpc=LocalCalls(methods),
            sign_in=SignIn(store.own, now=clock),
            inviting=inviting,
            rooms=_rooms(store, clock),
            doctor=FakeDoctor(),
            webhooks=webhooks,
            now=clock,
            started=clock.at,
            settings=settings or HttpSettings(),
        )
        app = create_app(services)
        transport = httpx.ASGITransport(app)
        headers = {"Authorization": f"Bearer {TOKEN}"}
        async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1:8989", headers=headers) as client:
            yield Api(app, services, store, peers, replication, methods, clock, client)
        await blobs.close()


@asynccontextmanager
async def serve(
    api: Api, *, head_timeout: float = 5.0, stall_timeout: float = 5.0, parser: type[asyncio.Protocol] | None = None
) -> AsyncIterator[HttpServer]:
    """The application on a real server on a free loopback port."""
    server = HttpServer(
        api.app,
        bind("127.0.0.1", 0),
        stopping=api.services.stopping,
        head_timeout=head_timeout,
        stall_timeout=stall_timeout,
        parser=parser,
    )
    await server.start()
    try:
        yield server
    finally:
        await server.stop()


@asynccontextmanager
async def connect(server: HttpServer) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    """A plain TCP connection to a server, for clients that misbehave."""
    reader, writer = await asyncio.open_connection(*server.address)
    try:
        yield reader, writer
    finally:
        writer.close()
        with contextlib.suppress(OSError):
            await writer.wait_closed()


def peer_info(feed: str, **changes: Any) -> PeerInfo:
    """A connected peer."""
    info = PeerInfo(
        id=feed,
        address="net:192.168.1.7:8008~shs:" + feed[1:-8],
        direction=Direction.OUTGOING,
        state=PeerState.CONNECTED,
        since=1_600_000_000_000,
    )
    return replace(info, **changes)
