"""A peer: a secret stream and the muxrpc conversation on it, whoever dialled.

``connect_peer`` and ``listen_peers`` give a ``Peer`` whose ``run`` serves the node's methods until the
connection ends. A peer with the node's own key is its user and may call everything, and so may whoever can
open the unix socket, where nothing is encrypted and nobody proves anything.
"""

import logging
from collections.abc import Awaitable, Callable, Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from feeds.keys import Keypair
from replication import secret_stream
from replication.address import Address
from replication.admission import Admission
from replication.errors import HandshakeFailed
from replication.limits import DEFAULT_LIMITS, LOCAL_LIMITS, Limits
from replication.rpc.connection import RpcConnection
from replication.rpc.methods import MethodTable, Who
from replication.secret_handshake import MAIN_NETWORK
from replication.secret_stream import Authorize, SecretStream
from replication.transport import ByteStream, Dialler, StreamServer, listen_tcp, listen_unix, open_unix

log = logging.getLogger(__name__)

OnPeer = Callable[["Peer"], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class PeerConfig:
    """What a node brings to each of its connections. ``masters`` are ids with the rights of the node's user."""

    keypair: Keypair
    table: MethodTable
    network_key: bytes = MAIN_NETWORK
    limits: Limits = DEFAULT_LIMITS
    local_limits: Limits = LOCAL_LIMITS
    masters: Collection[str] = ()
    authorize: Authorize = lambda _public: True
    rights_of: Callable[[str], frozenset[Who]] = lambda _id: frozenset({Who.ANON})
    diallers: Mapping[str, Dialler] = field(default_factory=dict)
    """How to open streams of other transports than ``net``, by the transport's name."""


@dataclass(frozen=True, slots=True)
class Peer:
    """One connected peer. ``id`` is None for a program on the unix socket."""

    id: str | None
    local: bool
    is_client: bool
    connection: RpcConnection

    @property
    def peername(self) -> str:
        return self.connection.peername

    async def run(self) -> None:
        """Serve and receive until the connection ends."""
        await self.connection.run()

    async def close(self) -> None:
        """Say goodbye and close; ``run`` returns."""
        await self.connection.close()


async def connect_peer(
    to: str | Address | tuple[ByteStream, bytes], config: PeerConfig, *, timeout: float | None = None
) -> Peer:
    """Dial a peer. Raises ``InvalidAddress`` or ``DialFailed`` and its kinds; then call ``Peer.run``."""
    stream = await secret_stream.connect(
        to,
        config.keypair,
        network_key=config.network_key,
        timeout=timeout,
        limits=config.limits,
        diallers=config.diallers,
    )
    return _peer(stream, config, is_client=True)


async def accept_peer(stream: ByteStream, config: PeerConfig, admission: Admission | None = None) -> Peer:
    """Answer a caller on a connected stream. Raises ``HandshakeFailed``; the stream is closed then."""
    secret = await secret_stream.accept_admitted(
        stream,
        admission or Admission(config.limits),
        config.keypair,
        network_key=config.network_key,
        authorize=config.authorize,
        limits=config.limits,
    )
    return _peer(secret, config, is_client=False)


async def listen_peers(
    host: str | None,
    port: int,
    config: PeerConfig,
    on_peer: OnPeer,
    *,
    on_refused: Callable[[str, Exception], None] = lambda _peername, _error: None,
    admission: Admission | None = None,
) -> StreamServer:
    """Accept peers on a TCP port (0: a free one). ``on_peer`` must run the peer; the connection ends with it."""
    gate = admission or Admission(config.limits)

    async def handle(stream: ByteStream) -> None:
        await answer_stream(stream, config, on_peer, on_refused=on_refused, admission=gate)

    return await listen_tcp(host, port, handle, limits=config.limits)


async def answer_stream(
    stream: ByteStream,
    config: PeerConfig,
    on_peer: OnPeer,
    *,
    on_refused: Callable[[str, Exception], None],
    admission: Admission,
) -> None:
    """Answer a caller on a stream that came from anywhere, and serve it until the connection ends."""
    try:
        peer = await accept_peer(stream, config, admission)
    except HandshakeFailed as error:
        on_refused(stream.peername, error)
        return
    try:
        await on_peer(peer)
    finally:
        await peer.close()


async def listen_local(path: str | Path, config: PeerConfig, on_peer: OnPeer) -> StreamServer:
    """Accept programs of the node's user on a unix socket (``unix:PATH~noauth``)."""

    async def handle(stream: ByteStream) -> None:
        peer = _plain_peer(stream, config, is_client=False)
        try:
            await on_peer(peer)
        finally:
            await peer.close()

    return await listen_unix(path, handle, limits=config.local_limits)


async def connect_local(path: str | Path, config: PeerConfig) -> Peer:
    """Reach the node behind a unix socket. Raises ``DialFailed``."""
    return _plain_peer(await open_unix(path, limits=config.local_limits), config, is_client=True)


def _peer(stream: SecretStream, config: PeerConfig, *, is_client: bool) -> Peer:
    local = stream.remote_id == config.keypair.id or stream.remote_id in config.masters
    connection = RpcConnection(
        stream,
        config.table,
        remote_id=stream.remote_id,
        local=local,
        is_client=is_client,
        rights=config.rights_of(stream.remote_id),
        limits=config.local_limits if local else config.limits,
    )
    return Peer(stream.remote_id, local, is_client, connection)


def _plain_peer(stream: ByteStream, config: PeerConfig, *, is_client: bool) -> Peer:
    connection = RpcConnection(
        stream, config.table, remote_id=None, local=True, is_client=is_client, limits=config.local_limits
    )
    return Peer(None, True, is_client, connection)
