"""What the RPC methods may use: one frozen record, filled by the composition root and faked in tests."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from feeds.blobs import Blobs
from feeds.database import Database
from feeds.indexer import Indexer
from feeds.ingest import Ingest
from feeds.live import Live
from feeds.log import Log
from feeds.mailbox import Mailbox
from feeds.publishing import Publishing
from feeds.views.social_graph import SocialGraph
from replication.address import Address
from replication.address_book import Remembered
from replication.blob_exchange import BlobExchange
from replication.discovery import Discovery
from replication.inviting import Inviting
from replication.peer import Peer
from replication.peer_info import KnownPeer, PeerEvent, PeerInfo, Traffic
from replication.replicator import Replicator
from replication.room_server import RoomServer
from replication.rooms import Rooms
from replication.sign_in import SignIn


class Hub(Protocol):
    """The part of `replication.connections.Connections` that methods need; it sits a floor above them."""

    def peers(self) -> list[PeerInfo]: ...

    def known_peers(self) -> list[KnownPeer]: ...

    def remembered(self) -> list[Remembered]: ...

    def addresses(self) -> list[str]: ...

    def traffic(self) -> Traffic: ...

    def stage(self, address: str, *, kind: str, source: str) -> bool: ...

    def unstage(self, address: str) -> bool: ...

    def autoconnect(self, on: bool) -> None: ...

    async def reconnect(self) -> None: ...

    async def visit(self, address: Address) -> Peer: ...

    async def dial(self, address: str) -> PeerInfo: ...

    async def disconnect(self, peer: str) -> bool: ...

    async def remember(self, address: str, source: str = "manual") -> Remembered: ...

    async def forget(self, address: str) -> bool: ...

    def subscribe(self, callback: Callable[[PeerEvent], None]) -> Callable[[], None]: ...


@dataclass(frozen=True, slots=True)
class MethodServices:
    """Everything the methods act on. `hub` is a function because the hub is built after the methods."""

    me: str
    version: str
    database: Database
    log: Log
    indexer: Indexer
    ingest: Ingest
    live: Live
    graph: SocialGraph
    blobs: Blobs
    blob_exchange: BlobExchange
    mailbox: Mailbox
    replicator: Replicator
    sign_in: SignIn
    hub: Callable[[], Hub]
    wall_clock: Callable[[], float]
    publishing: Publishing | None = None
    """Who watches over our own feed; None in a node that always may publish."""
    rooms: Rooms | None = None
    """The rooms we are in; None in a node that uses none."""
    room_server: RoomServer | None = None
    """The room that this node is for others, if it is one."""
    discovery: Callable[[], Discovery | None] = lambda: None
    """Discovery on the local network, which is built later; None where it is off."""
    inviting: Inviting | None = None
    """None in a node that has nothing to do with invites."""
