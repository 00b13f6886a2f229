"""What the routes may use: one frozen record, filled by the composition root and faked in tests."""

import asyncio
import sqlite3
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from typing import Any, Final, Protocol

from starlette.requests import Request

from api.webhooks import Webhooks
from feeds import hiding
from feeds.blobs import Blobs, BlobTotals
from feeds.database import Database
from feeds.erasing import Erasing
from feeds.indexer import Indexer
from feeds.ingest import Ingest
from feeds.live import Live
from feeds.log import Log
from feeds.mailbox import Mailbox
from feeds.message import JsonValue
from feeds.retention import Retention
from feeds.retention_rules import Rule
from feeds.views.social_graph import SocialGraph
from replication.inviting import Inviting
from replication.offline import Bundles
from replication.peer_info import KnownPeer, PeerEvent, PeerInfo, Traffic
from replication.room_membership import RoomMembership
from replication.rpc.calls import Kind, Name
from replication.rpc.connection import RpcConnection
from replication.sign_in import SignIn

__all__ = [
    "MESSAGE_UNITS",
    "Examines",
    "Explains",
    "HttpSettings",
    "OwnFeed",
    "Peers",
    "Replication",
    "Rpc",
    "Services",
    "feed_state",
    "hidden_feeds",
    "services_of",
    "sync_progress",
]


MESSAGE_UNITS: Final = 8192
"""UTF-16 units that a classic message may have, formatted and signed: told to clients, enforced by the format."""


class Peers(Protocol):
    """The part of `replication.connections.Connections` that routes need."""

    def peers(self) -> list[PeerInfo]: ...

    def known_peers(self) -> list[KnownPeer]: ...

    def traffic(self) -> Traffic: ...

    async def dial(self, address: str) -> PeerInfo: ...

    async def disconnect(self, peer: str) -> bool: ...

    async def call(self, peer: str, method: str, args: Sequence[JsonValue]) -> object: ...

    def subscribe(self, callback: Callable[[PeerEvent], None]) -> Callable[[], None]: ...


class Replication(Protocol):
    """The part of `replication.replicator.Replicator` that routes need; both answers are plain JSON values."""

    def status(self) -> Mapping[str, Any]: ...

    def feed_status(self, feed: str) -> Mapping[str, Any]: ...

    def preview(self, hops: int, blobs: BlobTotals) -> Mapping[str, Any]: ...

    async def request(self, feed: str, wanted: bool) -> None: ...

    async def unrequest(self, feed: str) -> None: ...


class Explains(Protocol):
    """The part of `replication.explaining.Explainer` that routes need; the answer is plain JSON values."""

    async def why(self, id: str) -> Mapping[str, Any]: ...


class Examines(Protocol):
    """The doctor: every check with what came out, as plain JSON values; `mend` mends first what is safe to mend."""

    async def examine(self) -> list[dict[str, Any]]: ...

    async def mend(self) -> list[dict[str, Any]]: ...


class OwnFeed(Protocol):
    """The part of `feeds.publishing.Publishing` that routes need; answers are plain JSON values."""

    def status(self) -> dict[str, Any]: ...

    def reported(self, sequence: int) -> int: ...

    async def history(self, limit: int = 100) -> list[dict[str, Any]]: ...

    async def unlock(self, sequence: int) -> None: ...


class Rpc(Protocol):
    """The part of `replication.local_calls.LocalCalls` that routes need."""

    def kind(self, name: Name) -> Kind: ...

    def connected(self) -> AbstractAsyncContextManager[RpcConnection]: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class HttpSettings:
    """Names, limits and waits of the HTTP side. Sizes are bytes, times are seconds."""

    hosts: Sequence[str] = ()
    """Host names allowed besides the loopback ones, without a port."""
    origins: Sequence[str] = ()
    """Origins (`https://name:port`) whose pages may write, besides the node's own."""
    body_limit: int = 1024 * 1024
    body_timeout: float = 30.0
    ping_interval: float = 15.0
    """Time between comments on a quiet event stream."""
    streams: int = 64
    """Event streams open at once."""
    upload_timeout: float = 180.0
    """Time for a whole blob to arrive; each piece of it has `body_timeout`."""
    downloads: int = 64
    """Blobs being read at once by clients that take them piece by piece."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Services:
    """Everything the routes act on. Two nodes in one process have one each."""

    me: str
    """Our own feed id."""
    version: str
    token: str
    """What `Authorization: Bearer` must carry."""
    database: Database
    log: Log
    live: Live
    ingest: Ingest
    indexer: Indexer
    graph: SocialGraph
    blobs: Blobs
    bundles: Bundles
    mailbox: Mailbox
    peers: Peers
    replication: Replication
    explainer: Explains
    publishing: OwnFeed
    erasing: Erasing
    retention: Retention
    rpc: Rpc
    sign_in: SignIn
    inviting: Inviting
    rooms: RoomMembership
    doctor: Examines
    webhooks: Webhooks
    now: Callable[[], float]
    """Seconds since the epoch."""
    started: float
    """When the node started, in the same seconds."""
    retention_rules: tuple[Rule, ...] = ()
    """What the settings say need not be kept."""
    settings: HttpSettings = field(default_factory=HttpSettings)
    stopping: asyncio.Event = field(default_factory=asyncio.Event)
    """Set it before the HTTP server is stopped: open event streams end at once."""


def services_of(request: Request) -> Services:
    """The services of the node that this request came to."""
    services: Services = request.app.state.services
    return services


def feed_state(services: Services, feed: str) -> str:
    """ "open", "forked", or for our own feed "locked"."""
    return str(services.ingest.own_state) if feed == services.me else services.log.feed_state(feed)


def hidden_feeds(services: Services, *, muted: bool = True) -> list[str]:
    """Feeds that its user does not want to see in lists: blocked, deleted here, and muted if `muted` says so."""

    def kept(connection: sqlite3.Connection) -> list[str]:
        return hiding.deleted_feeds(connection) + (hiding.muted_feeds(connection) if muted else [])

    return list(dict.fromkeys(services.graph.blocks(services.me) + services.database.peek(kept)))


def sync_progress(services: Services) -> dict[str, Any]:
    """How far replication has come, as a whole: the status without its line for each peer."""
    return {name: value for name, value in services.replication.status().items() if name != "peers"}
